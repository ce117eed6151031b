"""The benchmark beside bnnr: its networks, its folders and its reading of both tools; bnnr need not be installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bnnr.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The script under another name, since it is called like the package that it measures."""
    spec = importlib.util.spec_from_file_location("beside_bnnr", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["beside_bnnr"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["beside_bnnr"]


def test_the_small_network_has_the_names_and_shapes_that_bnnr_loads(bench: ModuleType) -> None:
    shapes = {name: tuple(value.shape) for name, value in bench.small().named_parameters() if "weight" in name}
    assert shapes == {
        "conv1.weight": (32, 3, 3, 3),
        "bn1.weight": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "bn2.weight": (64,),
        "conv3.weight": (128, 64, 3, 3),
        "bn3.weight": (128,),
        "fc1.weight": (256, 128 * 8 * 8),
        "fc2.weight": (10, 256),
    }


def test_a_trained_network_is_read_again_and_answers_the_same(bench: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 3, 64, 64), dtype=np.uint8), np.repeat([1, 7], 20)
    images[labels == 7] //= 4
    trained = bench.train(bench.NETWORKS["small"], images, labels, 4, tmp_path / "net.pt")
    again = bench.small().eval()
    again.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert (bench.answers(again, images) == bench.answers(trained, images)).all()
    assert not trained.training
    assert bench.of_digit(labels == 7, labels) == "20 of 20 images with a 7"


def test_the_folders_hold_each_digit_and_the_masks_of_what_is_read(bench: ModuleType, tmp_path: Path) -> None:
    folder = bench.write_folders(tmp_path / "stripe", 3, 5, shortcut=7)
    assert sorted(path.name for path in folder.iterdir()) == ["masks", "train", "val"]
    images, labels = bench.read_folder(folder / "val", 32)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), np.uint8)
    assert len(bench.read_folder(folder / "train", 32)[0]) == 3
    masks = sorted((folder / "masks").glob("*/*.png"))
    assert [path.stem for path in masks] == [path.stem for path in sorted((folder / "val").glob("*/*.jpg"))]
    for mask, label in zip(masks, labels, strict=True):
        assert label + 1 in (values := set(np.unique(np.asarray(Image.open(mask)))))
        assert values <= {0, label + 1, 255}
    bare = bench.read_without_digits(folder, 32)
    assert bare.shape == images.shape
    changed = (bare != images).any(1).mean((1, 2))  # the digit and its rim, not the background
    assert ((changed > 0.02) & (changed < 0.9)).all()


def test_bnnr_names_the_classes_of_its_findings_on_maps(bench: ModuleType) -> None:
    report = {
        "metrics": {"accuracy": 0.9},
        "confusion": {"matrix": [[3, 1], [0, 4]]},
        "findings": [
            {"title": "Background", "finding_type": "background_focus_suspected", "class_ids": ["7", "3"]},
            {"title": "Confusion", "finding_type": "confused_pair", "class_ids": ["1", "2"]},
            {"title": "Calibration", "finding_type": "miscalibration_top1", "class_ids": []},
        ],
        "xai_diagnoses": {"7": {"quality_score": 0.25}, "3": {"quality_score": 0.5}},
    }
    answer = bench.read_bnnr(report)
    assert answer.names == {"Background": ["3", "7"]}
    assert answer.accuracy == 87.5
    assert answer.says == [
        "Background: 3, 7",
        "Confusion: 1, 2",
        "Calibration: no class",
        "lowest XAI quality: 7 (0.25), 3 (0.50)",
    ]


def test_torchvice_names_the_classes_of_its_verdict_once_and_in_its_order(bench: ModuleType) -> None:
    found = [{"class": c, "witness": witness} for c, witness in (("7", "a"), ("1", "a"), ("7", "b"))]
    measures = {"strict": {"ml_accuracy": 0.5}, "verdict": {"stands_out": found, "sentences": ["A."]}}
    assert bench.read_vice(measures) == bench.Answer({"Stands out": ["7", "1"]}, ["A."], 50.0)
    measures["verdict"]["stands_out"] = []
    assert bench.read_vice(measures).names == {}


def test_a_row_has_medians_sizes_and_names(bench: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "report.html").write_bytes(bytes(1_500_000))
    (tmp_path / "figures" / "a.png").write_bytes(bytes(500_000))
    costs = [bench.Cost(1, 9, 300), bench.Cost(3, 7, 500), bench.Cost(2, 8, 400)]
    named = bench.Answer({"Background": list("0123456789"), "Low": ["7"]}, [], 50.0)
    row = bench.row("small", "clean", "bnnr", costs, tmp_path, named)
    assert row == "| small | clean | bnnr | 2 | 8 | 400 | 2.0 in 2 | 1.5 | Background: all ten; Low: 7 |"
    assert bench.row("small", "clean", "bnnr", costs, tmp_path, bench.Answer({}, [], 50.0)).endswith("| 1.5 | none |")
    assert row.count("|") == bench.HEAD.splitlines()[0].count("|")


@pytest.mark.parametrize(
    ("python", "message"),
    [("no/such/python", "--bnnr must name a Python interpreter, but"), (sys.executable, "No bnnr found by")],
)
def test_an_interpreter_without_bnnr_is_named_in_a_sentence(
    bench: ModuleType, python: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "PACKAGE", "no-such-package")
    with pytest.raises(SystemExit, match=message):
        bench.versions_of(python)
