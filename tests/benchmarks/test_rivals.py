"""How the answers of the rivals are read, from small answers written by hand; the rivals need not be installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "shortcuts"


@pytest.fixture(scope="module")
def rivals() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("rivals")
    finally:
        sys.path.remove(str(FOLDER))


def test_bnnr_names_the_classes_of_its_findings_on_saliency(rivals: Any) -> None:
    report = {
        "findings": [
            {"finding_type": "background_focus_suspected", "class_ids": ["7", "3"]},
            {"finding_type": "confused_pair", "class_ids": ["1", "2"]},
        ],
        "xai_diagnoses": {
            "7": {"quality_score": 0.25, "quality_breakdown": {"edge": 0.0}},
            "3": {"quality_score": 0.5, "quality_breakdown": {"edge": 0.25}},
        },
    }
    answer = rivals.read_bnnr(report)
    assert answer["names"] == ["three", "seven"]
    assert answer["scores"]["1 - XAI quality"]["seven"] == 0.75
    assert answer["scores"]["1 - edge score"] == dict.fromkeys(rivals.DIGITS) | {"seven": 1, "three": 0.75}
    nothing = rivals.read_bnnr({"findings": report["findings"][1:], "xai_diagnoses": {}})
    assert nothing == {"names": [], "reports": False, "scores": {}}


def test_shortkit_names_the_classes_of_pure_clusters(rivals: Any) -> None:
    clusters = [(7, 1.0), (3, 0.79), (1, 0.2)]
    pairs = [SimpleNamespace(groups=(a, b), effect_size=size) for a, b, size in (("0", "7", 9.0), ("0", "1", 2.0))]
    results = {
        "hbac": {
            "success": True,
            "risk_value": "high",
            "report": {"cluster_purities": [{"dominant_label": c, "purity": share} for c, share in clusters]},
        },
        "geometric": {"success": True, "risk_indicators": ["a risk"], "bias_pairs": pairs},
        "equalized_odds": {"success": False, "error": "needs groups"},
    }
    answer = rivals.read_shortkit(results)
    assert answer["names"] == ["seven"]
    assert answer["reports"]
    assert answer["scores"]["HBAC, purity"] == dict.fromkeys(rivals.DIGITS) | {"seven": 1.0}
    assert answer["scores"]["geometric, mean effect"]["zero"] == 5.5
    assert answer["skipped"] == {"equalized_odds": "needs groups"}


def test_torchvice_names_the_classes_of_its_verdict_once(rivals: Any) -> None:
    found = [{"class": "seven", "witness": witness} for witness in ("localisation", "score_without_object")]
    verdict = {"stands_out": found, "power": {"p_by_class": {"seven": 0.01, "one": None}}}
    table = {name: {"found without the object": 0.5, "looking elsewhere": None} for name in rivals.DIGITS}
    answer = rivals.read_torchvice({"verdict": verdict}, table)
    assert answer["names"] == ["seven"]
    assert answer["scores"]["verdict, - log10 p"]["seven"] == pytest.approx(2)
    assert answer["scores"]["verdict, - log10 p"]["one"] == 0


def test_the_tables_count_learnt_shortcuts_and_the_other_runs(rivals: Any) -> None:
    learnt = {"planted": 0.95, "without_shortcut": 0.5, "without_object": 0.9}
    rows = [
        {"name": "text-0.95-0", "digit": 7, "precision": learnt},
        {"name": "text-0.25-0", "digit": 7, "precision": learnt | {"without_shortcut": 0.95, "without_object": 0.1}},
        {"name": "clean-0", "digit": None, "precision": {}},
    ]
    first = {"purity": {"seven": 1.0, "one": 0.9, "two": None}}
    answers = {
        "a": {
            "text-0.95-0": {"names": ["one", "seven"], "reports": True, "scores": first, "seconds": 4.0},
            "clean-0": {"names": [], "reports": True, "scores": {}, "seconds": 6.0},
        },
        "b": {row["name"]: {"names": [], "reports": False, "scores": {}, "seconds": 1.0} for row in rows},
    }
    named = rivals.answers_table(rows, answers).splitlines()
    assert named[2:] == [
        "| text-0.95-0 | 7 | 1, 7 | none |",
        "| text-0.25-0 | 7 (not learnt) | not run | none |",
        "| clean-0 | none | none* | none |",
    ]
    assert rivals.tools_table(rows, answers).splitlines()[2:] == [
        "| a | 1 of 1 | 0 of 1 | purity: 1 of 1 | 1 of 1 | 5 |",
        "| b | 0 of 1 | 0 of 1 | no score of classes | 0 of 2 | 1 |",
    ]


@pytest.mark.parametrize(
    ("scores", "first"),
    [({"seven": 0.5, "one": 0.4}, True), ({"seven": 0.5, "one": 0.5}, False), ({"seven": None}, False), ({}, False)],
)
def test_first_is_strictly_the_highest(rivals: Any, scores: dict[str, float | None], first: bool) -> None:
    assert rivals.is_first("seven", scores) is first


def test_a_rival_that_is_missing_is_left_out_and_named(
    rivals: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(rivals.TOOLS, "bnnr", ("no_such_module", True))
    monkeypatch.setitem(rivals.PACKAGES, "no_such_module", "bnnr")
    assert rivals.installed(["torchvice", "bnnr"]) == ["torchvice"]
    assert capsys.readouterr().out == "bnnr is not installed and is left out; `pip install bnnr` adds it.\n"
