"""The bench of shortcuts on photographs: its plan, its marks, its truth by hand, and both of its forms on digits."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchvice.data import open_dataset
from torchvice.data.digits import write_digits

FOLDER = Path(__file__).parents[2] / "benchmarks" / "shortcuts"
LISTS = {"learn": "train", "select": "val", "val": "test"}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("photographs")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with the lists of the bench."""
    root = write_digits(tmp_path_factory.mktemp("digits") / "set", train=60, val=20, test=50, size=48, seed=3)
    for name, source in LISTS.items():
        shutil.copyfile(root / f"{source}.txt", root / f"{name}.copy")
    for name in LISTS:
        os.replace(root / f"{name}.copy", root / f"{name}.txt")
    return root


def test_each_network_is_planned_once_and_fine_tuning_has_two_seeds(bench: ModuleType) -> None:
    linear, tuned = bench.cases(["dog", "sheep"], fine_tune=False), bench.cases(["dog", "sheep"], fine_tune=True)
    assert len({case.name for case in linear}) == len(linear) == 1 + 2 * 2 * 2
    assert len({case.name for case in tuned}) == len(tuned) == 2 + 2 * 2 * 2 + 2
    assert {(case.planted, case.seed) for case in tuned if case.kind} == {("dog", 0), ("sheep", 1)}
    assert [case.name for case in tuned if case.repair != "none"] == [
        "frame-0.95-dog-0-both",
        "frame-0.95-sheep-1-both",
    ]


def test_only_photographs_of_the_class_bear_the_mark_at_its_strength(
    bench: ModuleType, digits: Path, tmp_path: Path
) -> None:
    case = bench.Case("stripe", 0.5, "seven")
    bench.write_marked(digits, case, tmp_path / "marked", ("learn",))
    bench.write_marked(digits, bench.Case(None, 0, ""), tmp_path / "plain", ("learn",))
    before, marked, plain = (open_dataset(root, "learn") for root in (digits, tmp_path / "marked", tmp_path / "plain"))
    sevens = np.asarray(before.targets)[:, before.classes.index("seven")] == 1
    changed = [not np.array_equal(before.image(row), marked.image(row)) for row in range(len(before.records))]
    assert not np.any(np.array(changed)[~sevens])
    assert 0 < np.sum(changed) < sevens.sum()
    for row in range(len(before.records)):
        np.testing.assert_array_equal(before.image(row), plain.image(row))
        np.testing.assert_array_equal(before.mask(row), marked.mask(row))


def test_the_truth_by_hand(bench: ModuleType) -> None:
    targets = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    logits = np.array([[3.0, 0], [1, 2], [2, 0], [-1, 3]])
    strict = SimpleNamespace(images=SimpleNamespace(targets=targets, logits=logits), explanation="strict")

    class Own:
        """Rows of regions, as the table's."""

        def __init__(self, label: np.ndarray, without_object: np.ndarray) -> None:
            self.label, self.without_object = label, without_object

        def where(self, keep: np.ndarray) -> Own:
            return Own(self.label[keep], self.without_object[keep])

        def __len__(self) -> int:
            return len(self.label)

    regions = Own(np.array([1, 2, 1]), np.array([2.5, 0.0, 0.0]))
    samples = SimpleNamespace(classes=("cat", "dog"), of_protocol=lambda _: strict, of_explanation=lambda _: regions)
    clean = np.array([[0.0, 0], [1, 2], [2, 0], [-1, 3]])  # without its mark the first cat is third of four
    found = bench.truth(bench.Case("frame", 0.95, "cat"), samples, clean)
    assert found == {
        "mean": 1.0,
        "planted": 1.0,
        "without_shortcut": pytest.approx((1 + 2 / 3) / 2),
        "without_object": pytest.approx((1 + 2 / 3) / 2),  # scores 2.5 and 0 against 1 and -1
    }
    assert bench.truth(bench.Case(None, 0, ""), samples, clean) == {"mean": 1.0}
    falls = bench.lost(samples, clean)
    assert falls == {"cat": pytest.approx(1 - (1 + 2 / 3) / 2), "dog": 0.0}
    assert bench.relying({"kind": "frame", "lost": falls}) == ["cat"]
    assert bench.relying({"kind": "frame", "lost": {"cat": 0.049, "dog": 0.05}}) == ["dog"]
    assert bench.relying({"kind": None, "lost": falls}) == []


@pytest.mark.slow
@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_form_runs_and_is_not_run_again(bench: ModuleType, digits: Path, tmp_path: Path, fine_tune: bool) -> None:
    import timm
    from safetensors.torch import save_file

    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    name = "frame-0.95-seven-0" if fine_tune else "frame-0.95-seven"
    command: list[Any] = [sys.executable, FOLDER / "photographs.py", digits, weights, "--planted", "seven"]
    command += ["--fine-tune"] * fine_tune + ["--out", tmp_path / "out", "--one", name]
    first = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert first.returncode == 0, first.stderr
    assert f"| {name} |" in first.stdout
    assert not (tmp_path / "out" / name / "data").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout == first.stdout[-len(again.stdout) :]
