"""measure: every number of both protocols, held against plain loops over the pixels that the table came from."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import reference
from tables import THRESHOLDS, Scene, counts, scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures import Measures, measure
from torchvice.metrics import sigmoid
from torchvice.samples import Samples

SCENES = scenes(12)
FOUND = measure(table_of(SCENES))
MASKED = sorted((scene for scene in SCENES if scene.mask is not None), key=lambda scene: scene.image_id)
TARGETS = [scene.targets for scene in SCENES]
SECTIONS = ("paper", "strict", "classification", "localisation")


def probabilities(protocol: str) -> list[list[float]]:
    """In the precision of the protocol: float32 as published, float64 under strict."""
    return [sigmoid(np.array(s.logits[protocol], np.float32)).astype(float).tolist() for s in SCENES]


def losses() -> list[float]:
    return reference.sample_loss([s.logits["paper"] for s in MASKED], [s.targets for s in MASKED])


def published_ji() -> list[float]:
    at = THRESHOLDS.index(0.1)
    return [
        reference.paper_ji([(pixels, said[at], shared[at]) for pixels, said, shared in counts(s, "paper").values()])
        for s in MASKED
    ]


def pairs() -> tuple[list[str], list[float], list[list[float]]]:
    """Image, logit and IoU at each threshold of every true label with a pixel in the mask."""
    names, logits, iou = [], [], []
    for scene in MASKED:
        found = counts(scene, "strict")
        for c in scene.true():
            pixels, said, shared = found[c + 1]
            if pixels:
                names.append(scene.image_id)
                logits.append(scene.logits["strict"][c])
                iou.append([i / (p + pixels - i) for p, i in zip(said, shared, strict=True)])
    return names, logits, iou


def curve(protocol: str) -> list[float]:
    """Mean IoU at each threshold, from the counts of all images together."""
    total = {label: [0, [0] * 4, [0] * 4] for label in range(4)}
    for scene in MASKED:
        for label, (pixels, said, shared) in counts(scene, protocol).items():
            total[label][0] += pixels
            for t in range(4):
                total[label][1][t] += said[t]
                total[label][2][t] += shared[t]
    if protocol == "strict":
        total = {label: row for label, row in total.items() if row[0]}
    means = []
    for t in range(4):
        rows = total.values()
        means.append(reference.mean([i[t] / (p[t] + m - i[t]) if p[t] + m else 0.0 for m, p, i in rows]))
    return means


def test_scenes_hold_the_cases_that_matter() -> None:
    assert any(not counts(s, "strict")[c + 1][0] for s in MASKED for c in s.true())  # a label without a pixel
    assert any(0.0 in row for row in pairs()[2])  # a missed object
    assert any(255 in row for s in MASKED for row in s.mask or ())
    assert len({reference.fold_of(s.image_id) for s in MASKED}) > 1


def test_paper_consistency() -> None:
    loss, ji = losses(), published_ji()
    assert FOUND.paper["vice"] == pytest.approx(-reference.pearson(loss, ji), abs=1e-9)
    assert FOUND.paper["ji"] == pytest.approx(reference.mean(ji), abs=1e-9)
    assert FOUND.paper["kl"] == pytest.approx(reference.relative_entropy(loss, ji), abs=1e-9)
    assert FOUND.paper["js"] == pytest.approx(reference.published_js(loss, ji), abs=1e-9)


def test_strict_consistency() -> None:
    names, logits, iou = pairs()
    chosen = reference.held_out(names, iou)
    quality = [row[t] for row, t in zip(iou, chosen, strict=True)]
    assert FOUND.strict["vice"] == pytest.approx(reference.spearman(logits, quality), abs=1e-9)
    assert FOUND.strict["ji"] == pytest.approx(reference.mean(quality), abs=1e-12)


@pytest.mark.parametrize(("protocol", "outcome"), [("paper", reference.jaccard), ("strict", reference.precision)])
def test_calibration_and_decisions(protocol: str, outcome: Any) -> None:
    found, rows = getattr(FOUND, protocol), probabilities(protocol)
    sure = [reference.confidence(row) for row in rows]
    right = [outcome(row, y) for row, y in zip(rows, TARGETS, strict=True)]
    assert found["ece_ml"] == pytest.approx(reference.ece(sure, right, 20, protocol == "strict"), abs=1e-6)
    accuracy = [reference.jaccard(row, y) for row, y in zip(rows, TARGETS, strict=True)]
    f1 = [reference.dice(row, y) for row, y in zip(rows, TARGETS, strict=True)]
    assert found["ml_accuracy"] == pytest.approx(reference.mean(accuracy), abs=1e-12)
    assert found["f1"] == pytest.approx(reference.mean(f1), abs=1e-12)


def test_classification() -> None:
    rows = probabilities("paper")
    said = [[p >= 0.5 for p in row] for row in rows]
    expected = reference.precision_recall(said, TARGETS)
    expected["or"] = expected.pop("or_")
    columns = list(zip(*rows, strict=True)), list(zip(*TARGETS, strict=True))
    expected["mean_average_precision"] = reference.mean(
        [reference.average_precision(p, y) for p, y in zip(*columns, strict=True)]
    )
    assert FOUND.classification == pytest.approx(expected, abs=1e-9)
    strict = list(zip(*probabilities("strict"), strict=True))
    mean = reference.mean([reference.average_precision(p, y) for p, y in zip(strict, columns[1], strict=True)])
    assert FOUND.strict["mean_average_precision"] == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize(("protocol", "prefix"), [("paper", ""), ("strict", "strict_")])
def test_localisation(protocol: str, prefix: str) -> None:
    means = curve(protocol)
    assert FOUND.localisation[f"{prefix}best_mean_iou"] == pytest.approx(max(means), abs=1e-9)
    assert FOUND.localisation[f"{prefix}best_threshold"] == THRESHOLDS[means.index(max(means))]
    assert FOUND.diagrams.curves[protocol].mean_iou == pytest.approx(means, abs=1e-9)


def test_diagrams_hold_what_the_figures_draw() -> None:
    assert FOUND.diagrams.loss == pytest.approx(losses(), abs=1e-9)
    assert FOUND.diagrams.ji == pytest.approx(published_ji(), abs=1e-9)
    for protocol in ("paper", "strict"):
        assert FOUND.diagrams.reliability[protocol].ece == getattr(FOUND, protocol)["ece_ml"]
        assert FOUND.diagrams.reliability[protocol].n == 12
    pair_loss, pair_ji = FOUND.diagrams.pair_loss, FOUND.diagrams.pair_ji
    assert pair_loss is not None
    assert pair_ji is not None
    assert pair_ji.mean() == pytest.approx(FOUND.strict["ji"], abs=1e-12)
    assert pair_loss == pytest.approx([math.log1p(math.exp(-logit)) for logit in pairs()[1]], abs=1e-6)


def test_what_is_left_out_is_counted() -> None:
    absent = sum(counts(s, "strict")[c + 1][0] == 0 for s in MASKED for c in s.true())
    empty = [s for s in SCENES if not any(s.targets) and max(s.logits["strict"]) <= 0]
    false = sum(z > 0 and not y for s in SCENES for z, y in zip(s.logits["strict"], s.targets, strict=True))
    apart = "strict: predicted labels that are not true (counted apart: no pair, their IoU is 0 by definition)"
    expected = {
        apart: false,
        "images without a mask (left out of VICE, JI and mIoU)": 2,
        "strict: true labels without a pixel in the mask (left out)": absent,
        "strict: images with neither label nor prediction (left out of ML-accuracy and F1)": len(empty),
    }
    assert FOUND.excluded == {reason: count for reason, count in expected.items() if count}
    whole = {
        apart: sum(z > 0 for s in SCENES for z in s.logits["strict"]),
        "images without a mask (left out of VICE, JI and mIoU)": 12,
        "strict: true labels without a pixel in the mask (left out)": sum(len(s.true()) for s in MASKED),
        "strict: images with neither label nor prediction (left out of ML-accuracy and F1)": 12,
    }
    assert FOUND.out_of == {reason: whole[reason] for reason in FOUND.excluded}
    assert FOUND.shares()["images without a mask (left out of VICE, JI and mIoU)"] == "2 of 12"
    kept, left_out = FOUND.shares(left_out=False), FOUND.shares(left_out=True)
    assert [*left_out] == [reason for reason in FOUND.excluded if "left out" in reason]
    assert kept | left_out == FOUND.shares()
    assert not kept.keys() & left_out.keys()
    assert FOUND.images == 12


def altered(scene: Scene, **changes: Any) -> Scene:
    return replace(scene, **changes)


def test_maps_that_say_nothing_are_counted_and_kept() -> None:
    silent = {protocol: dict.fromkeys(SCENES[0].true(), ((0.0,) * 4,) * 3) for protocol in ("paper", "strict")}
    found = measure(table_of([altered(SCENES[0], maps=silent), *SCENES[1:]]))
    label = len(SCENES[0].true())
    assert found.excluded["paper: maps that are zero (kept, see docs)"] == label
    assert found.excluded["strict: maps that are zero (kept, see docs)"] == label
    assert found.strict["ji"] < FOUND.strict["ji"]  # its objects are missed
    made = sum(len(s.true()) for s in MASKED)
    assert found.shares()["strict: maps that are zero (kept, see docs)"] == f"{label} of {made}"
    assert "maps" not in found.notes


def test_a_warning_where_most_maps_are_zero() -> None:
    def silent(scene: Scene) -> Scene:
        return altered(
            scene, maps={"paper": scene.maps["paper"], "strict": dict.fromkeys(scene.true(), ((0.0,) * 4,) * 3)}
        )

    found = measure(table_of([silent(scene) for scene in SCENES]))
    made = sum(len(s.true()) for s in MASKED)
    assert found.notes["maps"].startswith(
        f"More than half of the maps are zero everywhere: {made} of {made} under strict."
    )
    assert found.to_json()["out_of"]["strict: maps that are zero (kept, see docs)"] == made


@pytest.mark.parametrize(
    ("status", "words"), [("constant", "have one value everywhere"), ("nan", "hold a value that is not finite")]
)
def test_a_warning_where_most_maps_say_nothing(status: str, words: str) -> None:
    samples = table_of(SCENES)
    regions = samples.regions
    told = np.where(regions.status == "none", "none", status)
    found = measure(Samples(samples.manifest, samples.images, replace(regions, status=told), samples.maps))
    assert found.notes["maps"].startswith(f"More than half of the maps {words}: ")
    assert " under paper and " in found.notes["maps"]


def test_the_order_of_the_table_says_nothing() -> None:
    again = measure(table_of(SCENES[::-1]))
    for section in SECTIONS:
        assert getattr(again, section) == pytest.approx(getattr(FOUND, section), abs=1e-12, nan_ok=True)
    assert again.excluded == FOUND.excluded


def test_a_temperature_leaves_strict_vice_and_changes_the_published_one() -> None:
    cooled = [altered(s, logits={name: tuple(z / 4 for z in row) for name, row in s.logits.items()}) for s in SCENES]
    found = measure(table_of(cooled))
    assert found.strict["vice"] == FOUND.strict["vice"]
    assert found.strict["mean_average_precision"] == FOUND.strict["mean_average_precision"]
    assert abs(found.paper["vice"] - FOUND.paper["vice"]) > 1e-3
    assert abs(found.strict["ece_ml"] - FOUND.strict["ece_ml"]) > 1e-3


MASKED_TWO = [s for s in scenes(8, seed=3, classes=2, unmasked=0) if sum(s.targets) == 2][:2]


def missed(scene: Scene) -> Scene:
    """One of two objects is found as well as before; the map of the other lies where nothing is."""
    return altered(scene, maps={name: {**maps, 1: ((0.0,) * 4,) * 3} for name, maps in scene.maps.items()})


def test_a_complete_miss_raises_the_published_ji_and_lowers_the_strict_one() -> None:
    # Two objects of two pixels; the first is found whole, of the second one pixel and another one beside it: IoU 1/3.
    mask = ((1, 1, 2, 2), (0, 0, 0, 0), (0, 0, 0, 0))
    first = ((0.9, 0.9, 0.0, 0.0), (0.0,) * 4, (0.0,) * 4)
    second = ((0.0, 0.0, 0.9, 0.0), (0.0, 0.0, 0.9, 0.0), (0.0,) * 4)
    scene = Scene("a", (1, 1), mask, dict.fromkeys(("paper", "strict"), (1.0, 1.0)), {})
    scene = altered(scene, maps={name: {0: first, 1: second} for name in ("paper", "strict")})
    seen, unseen = (measure(table_of([s, *MASKED_TWO])) for s in (scene, missed(scene)))
    # Published: background 7/9, first 1, second 1/3 -> their mean 0.704; after the miss (8/10 + 1) / 2 = 0.9.
    place = int(np.flatnonzero(np.sort([s.image_id for s in (scene, *MASKED_TWO)]) == "a")[0])
    assert seen.diagrams.ji is not None
    assert unseen.diagrams.ji is not None
    assert seen.diagrams.ji[place] == pytest.approx((7 / 9 + 1 + 1 / 3) / 3)
    assert unseen.diagrams.ji[place] == pytest.approx((8 / 10 + 1) / 2)
    assert unseen.paper["ji"] > seen.paper["ji"]
    assert unseen.strict["ji"] < seen.strict["ji"]


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_a_table_of_one_protocol(protocol: str) -> None:
    found = measure(table_of(SCENES, (protocol,)))
    other = {"paper": "strict", "strict": "paper"}[protocol]
    assert getattr(found, protocol) == getattr(FOUND, protocol)
    assert all(math.isnan(value) for value in getattr(found, other).values())
    reason = f"The table was not assessed under `{other}`."
    assert {found.undefined[f"{other}.{name}"] for name in getattr(found, other)} == {reason}
    assert list(found.diagrams.curves) == [protocol]
    assert all(math.isfinite(value) for value in found.classification.values())


def undefined(found: Measures, section: str, *names: str) -> set[str]:
    """The reasons of what is not there; every other name of the section has a number."""
    values, expected = getattr(found, section), set(names)
    if section == "strict":
        expected |= {"vice_joint"}  # of a dozen pairs
        assert "need 150 pairs in addition to one for each class" in found.undefined["strict.vice_joint"]
        expected |= {"vice_lowest", "vice_highest", "threshold_first", "threshold_last"} if "vice" in names else set()
    assert {name for name, value in values.items() if math.isnan(value)} == expected
    return {found.undefined[f"{section}.{name}"] for name in names}


def test_no_mask_at_all() -> None:
    found = measure(table_of([altered(s, mask=None) for s in SCENES]))
    assert found.excluded["images without a mask (left out of VICE, JI and mIoU)"] == 12
    assert undefined(found, "paper", "vice", "ji", "kl", "js") == {
        "No image has a mask.",
        "A correlation needs at least three images, but 0 of 0 are defined.",
    }
    assert undefined(found, "strict", "vice", "ji") == {
        "No image has a true label with a mask.",
        "A correlation needs at least three true pairs, but 0 of 0 are defined.",
    }
    assert found.strict["ece_ml"] == FOUND.strict["ece_ml"]
    assert found.classification == FOUND.classification
    assert math.isnan(found.localisation["strict_best_mean_iou"])
    strict(found)


def test_one_image() -> None:
    found = measure(table_of([altered(SCENES[0], targets=(1, 0, 0), maps=one_map(SCENES[0]))]))
    assert undefined(found, "paper", "vice") == {"A correlation needs at least three images, but 1 of 1 are defined."}
    assert math.isnan(found.strict["vice"])
    assert undefined(found, "classification") == set()
    strict(found)


def one_map(scene: Scene) -> dict[str, Any]:
    return {name: {0: next(iter(maps.values()))} for name, maps in scene.maps.items()}


def test_a_constant_loss() -> None:
    flat = [altered(s, logits={"paper": (0.0,) * 3, "strict": (0.0,) * 3}) for s in SCENES]
    found = measure(table_of(flat))
    assert undefined(found, "paper", "vice") == {"The loss must vary over the images, but is 0.693147 everywhere."}
    assert undefined(found, "strict", "vice") == {"The certainty must vary over the true pairs, but is 0 everywhere."}


def test_an_image_that_is_missed_altogether_leaves_the_published_vice_undefined() -> None:
    # Its object fills the image and its map lies nowhere: every IoU is 0, and a mean of nothing is left.
    lost = Scene("lost", (1, 0, 0), ((1,) * 4,) * 3, dict.fromkeys(("paper", "strict"), (2.0, -1.0, -1.0)), {})
    lost = altered(lost, maps={name: {0: ((0.0,) * 4,) * 3} for name in ("paper", "strict")})
    found = measure(table_of([*SCENES, lost]))
    (reason,) = undefined(found, "paper", "vice", "ji", "kl", "js")
    assert reason.startswith("The JI of 1 of 11 images is undefined")
    assert reason.endswith(f"Over the other 10 images VICE is {FOUND.paper['vice']:.6f}.")
    assert undefined(found, "strict") == set()


def test_an_image_with_neither_label_nor_prediction() -> None:
    empty = Scene("none", (0, 0, 0), None, dict.fromkeys(("paper", "strict"), (-3.0, -2.0, -1.0)), {})
    found = measure(table_of([*SCENES, empty]))
    assert undefined(found, "paper", "ece_ml", "ml_accuracy") == {
        "An image with neither label nor prediction has no accuracy (0/0)."
    }
    assert found.strict["ml_accuracy"] == pytest.approx(FOUND.strict["ml_accuracy"])
    assert found.paper["f1"] == pytest.approx(FOUND.paper["f1"] * 12 / 13)  # counts 0


def test_a_class_without_images() -> None:
    grown = [
        altered(s, targets=(*s.targets, 0), logits={name: (*row, -9.0) for name, row in s.logits.items()})
        for s in SCENES
    ]
    found = measure(table_of(grown))
    assert found.classification["mean_average_precision"] == pytest.approx(
        FOUND.classification["mean_average_precision"] * 3 / 4
    )
    assert found.strict["mean_average_precision"] == pytest.approx(FOUND.strict["mean_average_precision"])
    assert found.localisation["best_mean_iou"] == pytest.approx(FOUND.localisation["best_mean_iou"] * 4 / 5)
    assert found.localisation["strict_best_mean_iou"] == pytest.approx(FOUND.localisation["strict_best_mean_iou"])
    assert found.strict["vice"] == FOUND.strict["vice"]


def test_a_table_without_images_is_refused() -> None:
    with pytest.raises(ViceError, match="needs images, but the table has none"):
        measure(table_of([]))


def test_a_table_without_the_published_threshold_is_refused() -> None:
    table = table_of(SCENES)
    with pytest.raises(ViceError, match=r"must hold counts at threshold 0\.1, but has \[0\.0, 0\.2"):
        measure(replace(table, manifest={**table.manifest, "thresholds": [0.0, 0.2, 0.3, 0.5]}))


def strict(found: Measures) -> dict[str, Any]:
    """The JSON of measures, which has no NaN, and a reason for every null."""
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    parts = (*SECTIONS, "sensitivities", "calibration")
    null = {f"{part}.{name}" for part in parts for name, value in content[part].items() if value is None}
    assert null == {path for path in content["undefined"] if not path.startswith(("intervals.", "tests."))}
    assert all(content["undefined"].values())
    return content  # type: ignore[no-any-return]


def test_json_has_the_documented_fields_at_full_precision() -> None:
    content = strict(FOUND)
    assert {"schema", "images", "excluded", *SECTIONS, "undefined", "intervals"} <= content.keys()
    assert content["schema"] == 2
    assert {"vice", "ece_ml", "ml_accuracy", "ji", "kl", "js"} <= content["paper"].keys()
    assert {"vice", "ece_ml", "ml_accuracy", "ji"} <= content["strict"].keys()
    names = {"mean_average_precision", "cp", "cr", "cf1", "op", "or", "of1"}
    assert content["classification"].keys() == names
    assert {"best_threshold", "best_mean_iou"} <= content["localisation"].keys()
    for section in SECTIONS:
        values = getattr(FOUND, section)
        assert content[section] == {name: None if math.isnan(value) else value for name, value in values.items()}
    assert content["source"]["table"]["model"] == {"type": "Toy"}


def test_measuring_imports_nothing_heavy(tmp_path: Any) -> None:
    table_of(SCENES).save(tmp_path / "table")
    program = (
        "import sys, torchvice\n"
        f"found = torchvice.measure(torchvice.Samples.load({str(tmp_path / 'table')!r}))\n"
        "assert found.paper['vice'] == found.paper['vice']\n"
        "heavy = {'torch', 'torchvision', 'torchmetrics', 'lightning', 'timm', 'sklearn', 'matplotlib', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_class_of_every_image_has_a_trivial_average_precision():
    """Of images that all show the class, no ranking is wrong: 1 for any logits."""
    made = scenes(8, classes=1)
    found = measure(table_of(made))
    assert found.strict["mean_average_precision"] == 1.0
    note = found.notes["strict.mean_average_precision"]
    assert re.fullmatch(r"Every image shows `\w+`: mAP is 1 whatever the model answers\. .*", note)
    assert "classification.mean_average_precision" in measure(table_of(made, ("paper",))).notes
    assert not [path for path in FOUND.notes if "average_precision" in path]
