"""legacy: the original's table of samples, measured and written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import reference
from tables import THRESHOLDS, counts, scenes, table_of
from torchvice.errors import ViceError
from torchvice.interop import LegacyTable, read_table, write_table
from torchvice.measures import measure, measure_table
from torchvice.measures.legacy import legacy_table

SCENES = scenes(12)
CHAIN = read_table(reference.FILES / "E2E_miou_loss_table.csv")


def test_the_chain_of_the_original() -> None:
    published = json.loads((reference.FILES / "E2E_test_resnet.json").read_text())
    found = measure_table(CHAIN)
    assert found.images == 48
    assert found.paper["vice"] == pytest.approx(published["pearson_raw"], abs=1e-9)
    assert found.paper["vice"] == pytest.approx(-0.12862923792078565, abs=1e-9)
    assert round(found.paper["vice"], 3) == published["vice"]
    assert found.paper["ece_ml"] == pytest.approx(published["ece"]["ml_ece"], abs=1e-5)
    assert found.paper["ml_accuracy"] == pytest.approx(published["ece"]["overall"], abs=1e-5)


def test_what_a_csv_does_not_carry_is_null_with_the_reason() -> None:
    found = measure_table(CHAIN)
    more = "The CSV carries neither probabilities nor masks: assess the model with vice assess."
    absent = {path for path, reason in found.undefined.items() if reason == more}
    assert absent == set(found.undefined)
    assert {"strict.vice", "strict.ece_ml", "classification.mean_average_precision"} <= absent
    assert "classification.cp" not in absent
    json.dumps(found.to_json(), allow_nan=False)


def test_decisions_of_a_table_are_the_plain_loops() -> None:
    found = measure_table(CHAIN)
    assert CHAIN.label is not None
    assert CHAIN.prediction is not None
    sets = [(set(y.tolist()), set(s.tolist())) for y, s in zip(CHAIN.label, CHAIN.prediction, strict=True)]
    assert found.paper["ml_accuracy"] == pytest.approx(reference.mean([len(y & s) / len(y | s) for y, s in sets]))
    f1 = [2 * len(y & s) / (len(y) + len(s)) for y, s in sets]
    assert found.paper["f1"] == found.strict["f1"] == pytest.approx(reference.mean(f1))
    flags = [[[c in part for c in range(20)] for part in pair] for pair in sets]
    expected = reference.precision_recall([said for _, said in flags], [true for true, _ in flags])
    for name, value in expected.items():
        assert found.classification[name.rstrip("_")] == pytest.approx(value), name


@pytest.mark.parametrize(
    ("gone", "undefined", "reason"),
    [
        ("miou", ["vice", "ji", "kl", "js"], "The CSV has no column `miou`."),
        ("loss", ["vice", "ji", "kl", "js"], "The CSV has no column `loss`."),
        ("label", ["ece_ml", "ml_accuracy", "f1"], "The CSV has no columns `label` and `prediction`."),
        ("prediction", ["ece_ml", "ml_accuracy", "f1"], "The CSV has no columns `label` and `prediction`."),
        ("confidence", ["ece_ml"], "The CSV has no column `confidence`."),
    ],
)
def test_a_missing_column_takes_only_what_needs_it(gone: str, undefined: list[str], reason: str) -> None:
    found, whole = measure_table(replace(CHAIN, **{gone: None})), measure_table(CHAIN)
    assert {name for name, value in found.paper.items() if math.isnan(value)} == set(undefined)
    assert {found.undefined[f"paper.{name}"] for name in undefined} == {reason}
    for name in found.paper.keys() - set(undefined):
        assert found.paper[name] == whole.paper[name]


def test_table_of_an_assessment_by_plain_loops() -> None:
    table = legacy_table(table_of(SCENES))
    assert table.name_image.tolist() == sorted(scene.image_id for scene in SCENES)
    assert table.miou is not None
    assert table.miou_exist is not None
    by_name = {scene.image_id: scene for scene in SCENES}
    for row, name in enumerate(table.name_image.tolist()):
        scene = by_name[name]
        logits = scene.logits["paper"]
        assert table.loss[row] == pytest.approx(reference.sample_loss([logits], [scene.targets])[0])  # type: ignore[index]
        p = [1 / (1 + math.exp(-z)) for z in logits]
        assert table.confidence[row] == pytest.approx(reference.confidence(p), abs=1e-6)  # type: ignore[index]
        assert table.label[row].tolist() == scene.true()  # type: ignore[index]
        assert table.prediction[row].tolist() == [c for c, z in enumerate(logits) if z > 0]  # type: ignore[index]
        iou = []
        if scene.mask is not None:
            at = THRESHOLDS.index(0.1)
            triples = counts(scene, "paper").values()
            iou = [i[at] / (m + p[at] - i[at] + 1e-10) for m, p, i in triples if i[at]]
        assert table.miou_exist[row] == pytest.approx(iou)
        assert table.miou[row] == pytest.approx(reference.mean(iou) if iou else math.nan, nan_ok=True)


def test_the_table_written_and_read_gives_the_same_numbers(tmp_path: Path) -> None:
    samples = table_of(scenes(12, unmasked=0))
    direct = measure(samples)
    table = read_table(write_table(tmp_path / "table.csv", legacy_table(samples)))
    found = measure_table(table, num_classes=3)
    for name, value in direct.paper.items():
        # The confidence is the mean of the float32 probabilities; nothing else is rounded.
        assert found.paper[name] == pytest.approx(value, abs=1e-6 if name == "ece_ml" else 1e-12), name
    for name in ("cp", "cr", "cf1", "op", "or", "of1"):
        assert found.classification[name] == pytest.approx(direct.classification[name])
    assert np.array_equal(found.diagrams.loss, direct.diagrams.loss)  # type: ignore[arg-type]


def test_images_without_a_mask_leave_the_published_numbers_undefined(tmp_path: Path) -> None:
    table = legacy_table(table_of(SCENES))
    assert int(np.isnan(table.miou).sum()) == 2  # type: ignore[arg-type]
    found = measure_table(read_table(write_table(tmp_path / "table.csv", table)), num_classes=3)
    assert math.isnan(found.paper["vice"])
    direct = measure(table_of(SCENES)).paper["vice"]
    assert found.undefined["paper.vice"] == (
        "The JI of 2 of 12 images is undefined, which leaves the published number undefined. "
        f"Over the other 10 images VICE is {direct:.6f}."
    )


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ViceError, match="needs images, but the table has no row"):
        measure_table(LegacyTable(np.array([], dtype=object)))
    with pytest.raises(ViceError, match=r"`label` of .* must be 0 to 2, but one is 1") as error:
        measure_table(CHAIN, num_classes=3)
    assert error.value.way_out == "Say how many classes there are: --classes N."
    negative = LegacyTable(np.array(["a"], dtype=object), label=[np.array([-1])], prediction=[np.array([0])])
    with pytest.raises(ViceError, match=r"`label` of a must be 0 to 2, but one is -1") as error:
        measure_table(negative, num_classes=3)
    assert error.value.way_out == "Number the classes from 0."
    with pytest.raises(ViceError, match="not assessed under `paper`, only under `strict`"):
        legacy_table(table_of(SCENES, ("strict",)))


def test_averages_over_classes_are_undefined_where_nobody_says_how_many_there_are() -> None:
    """Ten classes and a perfect prediction: divided by VOC's 20, CP would be one half."""
    labels = [np.array([c]) for c in range(10)]
    table = LegacyTable(np.array([f"i{c}" for c in range(10)]), label=labels, prediction=labels)
    found = measure_table(table)
    assert math.isnan(found.classification["cp"])
    assert "--classes" in found.undefined["classification.cp"]
    assert found.classification["op"] == found.paper["ml_accuracy"] == 1
    assert measure_table(table, num_classes=10).classification["cp"] == 1
    assert measure_table(CHAIN).classification["cp"] == measure_table(CHAIN, num_classes=20).classification["cp"]


def test_a_table_without_any_number_is_refused() -> None:
    table = LegacyTable(np.array(["a", "b"]), loss=np.array([0.1, 0.2]))
    with pytest.raises(ViceError, match="but lacks `miou`, `label`, `prediction`"):
        measure_table(table)
