"""The bench of planted shortcuts: its plan, its statistics by hand, and its quick form."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "shortcuts"


@pytest.fixture(scope="module")
def summary() -> Any:
    return loaded("summary")


def loaded(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def row(digit: int | None, high: dict[int, float], stands_out: list[Any] | None = None, **precision: float) -> Any:
    """A run in which every class has the score 0.1, but for those of `high`."""
    names = loaded("summary").DIGITS
    classes = {name: {"looking elsewhere": high.get(c, 0.1), "- class VICE": None} for c, name in enumerate(names)}
    planted = {"planted": 0.95, "without_shortcut": 0.95, "without_object": 0.2, **precision}
    return {
        "digit": digit,
        "kind": None if digit is None else "text",
        "strength": 0.0 if digit is None else 0.5,
        "classes": classes,
        "precision": {"mean": 0.9, **(planted if digit is not None else {})},
        "stands_out": stands_out,
        "p": None if stands_out is None else {entry["class"]: entry["p"] for entry in stands_out},
        "seconds": {"train": 8.0, "truth": 2.0},
    }


def named(*digits: str) -> list[Any]:
    return [{"class": digit, "witness": "localisation", "p": 0.001} for digit in digits]


def test_all_kinds_strengths_and_seeds_are_planned_once() -> None:
    bench = loaded("bench")
    cases = bench.cases(quick=False)
    assert len(cases) == len({case.name for case in cases}) == 18 + 6 * 4 * 3
    assert {case.digit for case in cases} == {None, 7, 2, 4}
    assert len(bench.cases(quick=True)) == 4
    repairs = bench.cases(quick=False, repair=True)
    assert len(repairs) == len({case.name for case in repairs}) == 2 * 3 * 4


def test_the_truth_is_what_an_intervention_costs_or_leaves(summary: Any) -> None:
    assert not summary.relies_on_shortcut(row(7, {}))
    assert not summary.relies_on_shortcut(row(None, {}))
    assert summary.relies_on_shortcut(row(7, {}, without_shortcut=0.90))  # 0.05 lost
    assert not summary.relies_on_shortcut(row(7, {}, without_shortcut=0.91))
    assert summary.relies_on_shortcut(row(7, {}, without_object=0.51))
    assert not summary.relies_on_shortcut(row(7, {}, without_object=0.5))


def test_auc_counts_ties_as_half(summary: Any) -> None:
    # Pairs (3, 2), (3, 1), (1, 2), (1, 1): won, won, lost, tied.
    assert summary.auc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == 2.5 / 4
    assert summary.auc(np.array([-np.inf]), np.array([-np.inf, 0.0])) == 0.25
    assert np.isnan(summary.auc(np.array([]), np.array([1.0])))


def test_the_threshold_lets_one_clean_table_in_twenty_through(summary: Any) -> None:
    clean = [row(None, {3: 0.2 + n / 100}) for n in range(20)]  # highest scores 0.20 to 0.39
    assert summary.threshold_of(clean, "looking elsewhere") == pytest.approx(0.38)
    assert summary.threshold_of(clean[:18], "looking elsewhere") == pytest.approx(0.37)  # one of 18 is too many
    assert summary.threshold_of([row(None, {}, [])], summary.VERDICT) == 0


def test_first_means_above_every_other_class(summary: Any) -> None:
    assert summary.is_first(row(7, {7: 0.5, 2: 0.4}), "looking elsewhere")
    assert not summary.is_first(row(7, {7: 0.4, 2: 0.4}), "looking elsewhere")
    assert not summary.is_first(row(7, {}), "- class VICE")  # not measured
    two = row(7, {}, named("two", "seven"))
    assert summary.is_named(two)
    assert not summary.is_named_first(two)
    assert summary.is_named_first(row(7, {}, named("seven")))
    assert not summary.is_named(row(7, {}, []))


def test_the_verdict_scores_a_class_by_its_smallest_p(summary: Any) -> None:
    run = {**row(7, {}, named("two", "seven")), "p": {"seven": 1e-4, "two": 0.0, "one": 1.0}}
    scores = summary.scores_of(run, summary.VERDICT)
    assert scores[7] == pytest.approx(4)
    assert scores[2] == pytest.approx(300)
    assert scores.sum() == pytest.approx(304)


def test_the_tables_by_hand(summary: Any) -> None:
    rows = [
        row(None, {1: 0.3}, []),
        row(None, {1: 0.2}, named("one")),
        row(7, {7: 0.9}, named("seven"), without_shortcut=0.5),
        row(7, {7: 0.25, 3: 0.8}, named("three", "seven"), without_shortcut=0.6),
        row(7, {}, [], without_shortcut=0.94),  # learnt the digit: a negative
    ]
    text = summary.summary(rows, 90)
    assert "5 of 90 runs are finished: 2 clean, 3 planted; in 2 the shortcut changes the truth." in text
    assert "10 s a run" in text
    assert "The verdict names a class in 1 of 2 clean runs, the planted class in 2 of 2 runs" in text
    assert "(first in 1 of 2), and another class in 1 of 3 planted runs" in text
    # Two positives (0.9, 0.25) against 9 + 9 + 10 + 10 + 10 negatives, of which 0.3 and 0.8 are above 0.25.
    expected = (48 + 46) / 96
    assert f"| looking elsewhere | {expected:.3f} | 1 of 2 | 1 of 2 |" in text
    assert "- class VICE" not in text  # measured in no run
    assert "| text | 0.5 | 0.950 | 0.680 | 0.200 | 2 of 3 | 2 of 3 | 1 of 3 | 1 of 3 |" in text
    without = summary.summary([{**each, "stands_out": None} for each in rows], 90)
    assert "measures.json holds no verdict" in without
    assert "| – | – | 1 of 3 |" in without


def test_the_table_of_repairs_has_means_over_trainings(summary: Any) -> None:
    before = [{**row(7, {7: high}, named("seven"), without_object=0.9), "repair": "none"} for high in (0.8, 0.6)]
    after = [{**row(7, {7: 0.1}, [], without_object=0.2), "repair": "swap"}]
    text = summary.repair_summary(before + after, 24)
    assert "3 of 24 runs are finished" in text
    assert "| text | none | 0.950 | 0.950 | 0.900 | 0.900 | 0.700 | 2 of 2 | 2 of 2 |" in text
    assert "| text | swap | 0.950 | 0.950 | 0.200 | 0.900 | 0.100 | 0 of 1 | 0 of 1 |" in text


def test_an_interrupted_training_is_not_assessed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvice.training.run.train", interrupted)
    with pytest.raises(SystemExit) as stop:
        loaded("bench").vice("train", "demo")
    assert stop.value.code == 130


@pytest.mark.slow
def test_the_quick_form_runs_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "bench.py"), "--quick", "--out", str(tmp_path), "--jobs", "1"]
    first = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert first.returncode == 0, first.stderr
    assert "4 of 4 runs are finished: 2 clean, 2 planted" in first.stdout
    results = sorted(tmp_path.glob("runs/*/result.json"))
    assert len(results) == 4
    stripe = json.loads((tmp_path / "runs/stripe-0.95-0/result.json").read_text())
    assert stripe["precision"]["planted"] > stripe["precision"]["without_shortcut"] + 0.05
    assert not list((tmp_path / "data").iterdir())
    results[0].unlink()
    again = subprocess.run(command, capture_output=True, text=True)
    assert "1 of 1" in again.stdout
    assert again.stdout.split("\n\n")[1:] == first.stdout.split("\n\n")[1:]


@pytest.mark.slow
def test_the_quick_form_of_the_repairs_prints_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "bench.py"), "--quick", "--repair", "--out", str(tmp_path), "--jobs", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    assert "4 of 4 runs are finished" in ended.stdout
    assert all(f"| stripe | {repair} |" in ended.stdout for repair in ("none", "swap", "erase", "both"))
