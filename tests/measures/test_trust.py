"""How far VICE may be trusted: intervals, sensitivities, controls, strata, quadrants and classes of a table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from simulated import CURVE, HEADLINE, THRESHOLDS, VIEW, simulated
from torchvice.errors import ViceError
from torchvice.measures import QUALITIES, measure, quality_of, true_pairs
from torchvice.samples import Samples

CONTROLS = {
    "strict:random": {"role": "control", "dependence": 0.0},
    "strict:center": {"role": "control", "dependence": 1.0},
    "strict:gradcam": {"role": "method", "dependence": 0.9},
    "strict:mirror": {"role": "retest", "dependence": 1.0},
}
TABLE = simulated(200, others=CONTROLS)
FOUND = measure(TABLE, replicates=400)
PAIRS = true_pairs(TABLE)


def test_the_headline_is_spearman_and_its_interval_holds_it() -> None:
    assert FOUND.strict["vice"] == pytest.approx(stats.spearmanr(PAIRS.logit, PAIRS.quality).statistic)
    limits = FOUND.intervals["strict.vice"]
    assert limits["low"] < FOUND.strict["vice"] < limits["high"]
    assert (limits["level"], limits["method"]) == (0.95, "percentile")
    assert FOUND.tests["strict.vice"]["p"] < 0.01


def test_intervals_resample_images_and_not_pairs() -> None:
    # The plain loop: draw images, take all their pairs.
    rng = np.random.default_rng(5)
    names = np.unique(PAIRS.image_id.astype(str))
    rows_of = {name: np.flatnonzero(PAIRS.image_id == name) for name in names}
    values = []
    for _ in range(400):
        rows = np.concatenate([rows_of[name] for name in rng.choice(names, len(names))])
        values.append(stats.spearmanr(PAIRS.logit[rows], PAIRS.quality[rows]).statistic)
    low, high = np.quantile(values, [0.025, 0.975])
    limits = FOUND.intervals["strict.vice"]
    assert limits["low"] == pytest.approx(low, abs=0.03)
    assert limits["high"] == pytest.approx(high, abs=0.03)


def test_the_same_seed_gives_the_same_limits_and_another_one_others() -> None:
    again, other = (measure(TABLE, replicates=100, seed=seed).intervals["strict.vice"] for seed in (0, 1))
    assert again == measure(TABLE, replicates=100).intervals["strict.vice"] != other


def test_without_replicates_there_are_numbers_and_no_intervals() -> None:
    bare = measure(TABLE, replicates=0)
    assert bare.strict == FOUND.strict
    assert bare.sensitivities == FOUND.sensitivities
    assert bare.tests == {}
    assert all(path.startswith("calibration.ece_l2") for path in bare.intervals)  # that one is no bootstrap
    assert bare.controls["random"].difference_low is None
    with pytest.raises(ViceError, match="needs 100 replicates or more, but `replicates` is -1"):
        measure(TABLE, replicates=-1)


def test_sensitivities_against_scipy() -> None:
    images = TABLE.of_view(VIEW)
    by_image = [PAIRS.quality[PAIRS.image_id == name].mean() for name in images.image_id]
    loss = np.logaddexp(0, np.where(images.targets == 1, -images.logits, images.logits).astype(float)).mean(1)
    likely = -np.logaddexp(0, -PAIRS.logit.astype(float))
    said = FOUND.sensitivities
    assert said["image_spearman"] == pytest.approx(stats.spearmanr(-loss, by_image).statistic)
    assert said["image_log_pearson"] == pytest.approx(stats.pearsonr(-np.log(loss), by_image).statistic)
    assert said["pair_pearson"] == pytest.approx(stats.pearsonr(likely, PAIRS.quality).statistic)
    assert said["pair_log_pearson"] == pytest.approx(stats.pearsonr(-np.log(-likely), PAIRS.quality).statistic)
    assert said["kendall"] == pytest.approx(stats.kendalltau(PAIRS.logit, PAIRS.quality).statistic)
    fixed = PAIRS.iou[:, THRESHOLDS.index(0.1)]
    assert said["threshold_fixed"] == pytest.approx(stats.spearmanr(PAIRS.logit, fixed).statistic)
    assert said["vice_soft_iou"] == pytest.approx(stats.spearmanr(PAIRS.logit, quality_of(PAIRS, "soft_iou")).statistic)
    assert FOUND.undefined["sensitivities.vice_precision"] == "The quality of the maps is 1 everywhere."
    for name, value in said.items():
        if np.isnan(value):
            continue
        limits = FOUND.intervals[f"sensitivities.{name}"]
        assert limits["low"] <= value <= limits["high"], name


def test_qualities_by_hand() -> None:
    regions = PAIRS.regions
    assert regions is not None
    assert set(PAIRS.chosen) == {0.3}  # where the curve is at its best
    # What is predicted lies within the object: precision 1, and recall is the IoU.
    assert (quality_of(PAIRS, "precision") == 1).all()
    assert quality_of(PAIRS, "recall") == pytest.approx(PAIRS.quality)
    inside, pixels = regions.energy_inside, regions.mask_pixels
    assert quality_of(PAIRS, "soft_iou") == pytest.approx(inside / (5 + pixels))
    assert quality_of(PAIRS, "energy") == pytest.approx(inside / (inside + 5))
    assert quality_of(PAIRS, "otsu") == pytest.approx(PAIRS.quality)
    with pytest.raises(ViceError, match="must hold `box_iou`"):
        quality_of(PAIRS, "box_iou")
    with pytest.raises(ViceError, match="Did you mean `pointing`"):
        quality_of(PAIRS, "pointings")


def test_boxes_and_faithfulness_where_the_table_has_them() -> None:
    from torchvice.metrics import held_out_box_accuracy, max_box_accuracy, normalised_faithfulness

    rng = np.random.default_rng(4)
    rows = len(TABLE.regions)
    columns = {
        name: rng.random(rows)
        for name in ("insertion", "deletion", "road", "insertion_random", "deletion_random", "road_random")
    }
    columns |= {"p_full": np.full(rows, 0.9), "p_canvas": rng.random(rows) * 0.5, "p_blank": np.full(rows, 0.1)}
    columns["p_blank"][:7] = 0.88  # nothing to share out
    columns["box_iou"] = rng.random((rows, len(THRESHOLDS))).astype(np.float32)
    table = Samples(TABLE.manifest, TABLE.images, replace(TABLE.regions, **columns), TABLE.maps)
    pairs, found = true_pairs(table), measure(table, replicates=0)
    regions = pairs.regions
    assert regions is not None
    insertion = normalised_faithfulness(regions.insertion, regions.insertion_random, regions.p_full, regions.p_canvas)
    deletion = normalised_faithfulness(regions.deletion, regions.deletion_random, regions.p_full, regions.p_blank)
    assert quality_of(pairs, "insertion") == pytest.approx(insertion)
    assert quality_of(pairs, "deletion") == pytest.approx(-deletion, nan_ok=True)  # less is better
    known = ~np.isnan(deletion)
    assert found.sensitivities["vice_deletion"] == pytest.approx(
        stats.spearmanr(pairs.logit[known], -deletion[known]).statistic
    )
    assert f"Undefined for {(~known).sum()} of" in found.notes["localisation.deletion"]
    assert found.localisation["max_box_accuracy"] == pytest.approx(max_box_accuracy(regions.box_iou).mean)
    assert found.localisation["box_accuracy"] == pytest.approx(held_out_box_accuracy(regions.box_iou, pairs.fold).mean)
    assert found.localisation["box_accuracy"] <= found.localisation["max_box_accuracy"]
    quadrants = measure(table, quality="deletion", replicates=0).quadrants
    assert quadrants["by"] == "ji"  # deletion knows no object
    assert quadrants == found.quadrants
    energy = quality_of(pairs, "energy")
    quadrants = measure(table, quality="energy", replicates=0).quadrants
    assert (quadrants["by"], quadrants["cutoffs"]) == ("energy", {"probability": 0.5, "iou": 0.5})
    assert quadrants["undefined"] == np.isnan(energy).sum()
    assert quadrants["counts"]["right_elsewhere"] == ((pairs.logit > 0) & (energy < 0.5)).sum()
    assert quadrants["counts"]["wrong_there"] == ((pairs.logit <= 0) & (energy >= 0.5)).sum()
    assert measure(table, quality="recall", replicates=0).quadrants["cutoffs"]["iou"] == 0.5


def test_another_quality_is_the_subject_of_everything_beside_the_protocols() -> None:
    found = measure(TABLE, quality="soft_iou", replicates=100)
    assert found.strict == FOUND.strict
    assert found.quality["name"] == "soft_iou"
    assert found.quality["vice"] == pytest.approx(FOUND.sensitivities["vice_soft_iou"])
    assert found.quality["mean"] == pytest.approx(quality_of(PAIRS, "soft_iou").mean())
    assert "vice_soft_iou" not in found.sensitivities
    assert found.classes[0].quality != FOUND.classes[0].quality
    assert set(QUALITIES) >= {"ji", "soft_iou", "pointing", "energy"}


def test_a_control_without_dependence_is_beaten_and_one_as_good_is_not() -> None:
    random, center = FOUND.controls["random"], FOUND.controls["center"]
    assert abs(random.vice) < 0.15
    assert random.difference == pytest.approx(FOUND.strict["vice"] - random.vice)
    assert random.difference_low > 0
    assert random.beaten is True
    assert center.difference_low <= 0 <= center.difference_high
    assert center.beaten is False
    assert "not clearly higher than the control `center` (95 % interval" in FOUND.notes["controls"]
    assert "random" not in FOUND.notes["controls"]


def test_the_difference_from_a_control_is_paired() -> None:
    # A control that is the headline itself differs by exactly 0, in every resampling.
    twin = simulated(80, others={"strict:twin": {"role": "control"}})
    regions = twin.regions
    same = regions.where(regions.explanation == HEADLINE)
    both = type(regions).join([same, replace(same, explanation=np.full(len(same), "strict:twin", object))])
    row = measure(Samples(twin.manifest, twin.images, both, twin.maps), replicates=100).controls["twin"]
    assert (row.difference, row.difference_low, row.difference_high, row.beaten) == (0, 0, 0, False)


def test_other_methods_and_retests_say_how_well_they_agree() -> None:
    assert set(FOUND.methods) == {"gradcam"}
    assert set(FOUND.retests) == {"mirror"}
    other = true_pairs(TABLE, "strict:gradcam")
    assert FOUND.methods["gradcam"].agreement == pytest.approx(stats.spearmanr(PAIRS.quality, other.quality).statistic)
    assert FOUND.methods["gradcam"].vice == pytest.approx(stats.spearmanr(other.logit, other.quality).statistic)


def test_a_control_that_is_clearly_above_is_said_to_be() -> None:
    # The control keeps the headline's maps; the headline's own are shuffled over the pairs.
    twin = simulated(150, others={"strict:twin": {"role": "control"}})
    regions = twin.regions
    own = regions.where(regions.explanation == HEADLINE)
    kept = replace(own, explanation=np.full(len(own), "strict:twin", object))
    order = np.random.default_rng(0).permutation(len(own))
    columns = {name: getattr(own, name)[order] for name in ("intersection", "predicted", "mask_pixels")}
    both = type(regions).join([replace(own, **columns), kept])
    found = measure(Samples(twin.manifest, twin.images, both, twin.maps), replicates=200)
    assert found.controls["twin"].difference_high < 0
    assert "VICE is clearly lower than the control `twin` (95 % interval -" in found.notes["controls"]


def test_a_control_that_is_the_same_everywhere_has_no_vice() -> None:
    table = simulated(40, others={"strict:flat": {"role": "control"}})
    regions = table.regions
    flat = regions.explanation == "strict:flat"
    shared = np.where(flat[:, None], 0, regions.intersection)
    found = measure(
        Samples(table.manifest, table.images, replace(regions, intersection=shared), table.maps), replicates=100
    )
    assert found.controls["flat"].vice is None
    assert found.controls["flat"].beaten is None
    assert found.controls["flat"].quality == 0
    assert "Whether VICE is higher than the control `flat` is undefined." in found.notes["controls"]
    json.dumps(found.to_json(), allow_nan=False)


def test_strata_are_the_rows_that_they_name() -> None:
    by = {(row.by, row.stratum.split(" (")[0]): row for row in FOUND.strata}
    right = PAIRS.logit > 0
    assert by["correctness", "predicted"].pairs == right.sum()
    assert by["correctness", "predicted"].vice == pytest.approx(
        stats.spearmanr(PAIRS.logit[right], PAIRS.quality[right]).statistic
    )
    sizes = [by["area", size].pairs for size in ("small", "medium", "large")]
    assert sum(sizes) == len(PAIRS)
    assert max(sizes) - min(sizes) <= 5  # equal areas stay together
    assert by["labels", "1 label"].pairs == (PAIRS.labels == 1).sum()
    assert "restriction of range" in FOUND.notes["strata.correctness"]


def test_classes_have_ap_quality_and_vice() -> None:
    images = TABLE.of_view(VIEW)
    for c, row in enumerate(FOUND.classes):
        own = PAIRS.class_index == c
        assert row.name == f"class{c}"
        assert row.average_precision == pytest.approx(
            average_precision_score(images.targets[:, c], images.logits[:, c])
        )
        assert row.quality == pytest.approx(PAIRS.quality[own].mean())
        assert row.vice == pytest.approx(stats.spearmanr(PAIRS.logit[own], PAIRS.quality[own]).statistic)
        assert row.vice_low < row.vice < row.vice_high


def test_the_threshold_curve_and_the_folds() -> None:
    curve = FOUND.threshold_curve
    assert curve["pair_iou"] == pytest.approx(PAIRS.iou.mean(axis=0).tolist())
    assert curve["vice"][1] == pytest.approx(FOUND.strict["vice"])
    assert {row.threshold for row in FOUND.folds} == {THRESHOLDS[int(CURVE.argmax())]}
    assert sum(row.pairs for row in FOUND.folds) == len(PAIRS)


def test_normalisations_come_from_the_histograms() -> None:
    # Every map is 1 on what is covered and 0 elsewhere: dividing by its maximum or moving its minimum changes nothing.
    assert FOUND.sensitivities["normalisation_max"] == pytest.approx(FOUND.strict["vice"], abs=0.01)
    assert FOUND.sensitivities["normalisation_minmax"] == FOUND.sensitivities["normalisation_max"]


def test_localisation_without_a_threshold_and_the_means_of_the_qualities() -> None:
    assert 0 < FOUND.localisation["pxap"] <= 1
    assert FOUND.localisation["soft_iou"] == pytest.approx(quality_of(PAIRS, "soft_iou").mean())
    limits = FOUND.intervals["localisation.soft_iou"]
    assert limits["low"] < FOUND.localisation["soft_iou"] < limits["high"]


def test_everything_is_json_without_nan() -> None:
    content = json.loads(json.dumps(FOUND.to_json(), allow_nan=False))
    assert content["schema"] == 2
    assert content["intervals"]["strict.vice"]["low"] == FOUND.intervals["strict.vice"]["low"]
    assert sum(content["quadrants"]["counts"].values()) == len(PAIRS)


def test_independent_maps_have_no_vice_and_the_test_says_so() -> None:
    found = measure(simulated(200, seed=3, dependence=0.0), replicates=200)
    limits = found.intervals["strict.vice"]
    assert limits["low"] < 0 < limits["high"]
    assert found.tests["strict.vice"]["p"] > 0.01


def test_few_images_are_no_error() -> None:
    for images in (1, 2, 3, 5):
        found = measure(simulated(images, classes=2), replicates=100)
        json.dumps(found.to_json(), allow_nan=False)
        assert found.images == images


def test_the_measures_name_the_strongest_of_every_quadrant() -> None:
    strongest = FOUND.quadrants["strongest"]["right_elsewhere"]
    assert [row["strength"] for row in strongest] == sorted((row["strength"] for row in strongest), reverse=True)
    for row in strongest:
        pair = (PAIRS.image_id == row["image_id"]) & (PAIRS.class_index == int(row["class"].removeprefix("class")))
        assert row["quality"] == PAIRS.quality[pair][0] < 0.3
        assert row["probability"] > 0.5


def altered(**columns: np.ndarray) -> Samples:
    table = simulated(30, seed=8)
    images = replace(table.images, **columns)
    masked = images.image_id[images.has_mask].astype(str)
    regions = table.regions.where(np.isin(table.regions.image_id.astype(str), masked))
    return Samples(table.manifest, images, regions, table.maps)


TARGETS = simulated(30, seed=8).images.targets
DEGENERATE = {
    "one class": simulated(30, classes=1),
    "no positive label": altered(targets=np.zeros_like(TARGETS)),
    "a class that never occurs": altered(targets=TARGETS * np.array([0, 1, 1, 1], np.uint8)),
    "no mask": altered(has_mask=np.zeros(30, bool)),
    "equal logits": altered(logits=np.zeros((30, 4), np.float32)),
    "saturated logits": altered(logits=np.full((30, 4), 200, np.float32)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tables_have_a_reason_for_every_null(name: str) -> None:
    found = measure(DEGENERATE[name], replicates=100)
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    for section in ("paper", "strict", "localisation", "sensitivities", "quality"):
        for key, value in content[section].items():
            assert value is not None or f"{section}.{key}" in content["undefined"], f"{name}: {section}.{key}"


@pytest.mark.parametrize(("role", "section"), [("method", "methods"), ("control", "controls")])
def test_an_explanation_of_empty_maps_has_a_reason_for_its_null(role: str, section: str) -> None:
    table = simulated(60, others={"strict:empty": {"role": role}, "strict:random": {"role": "control"}})
    regions = table.regions
    empty = (regions.explanation == "strict:empty")[:, None]
    lost = {name: np.where(empty, 0, getattr(regions, name)) for name in ("intersection", "predicted")}
    found = measure(Samples(table.manifest, table.images, replace(regions, **lost), table.maps), replicates=100)
    rows = found.to_json()[section]
    assert rows["empty"]["vice"] is None
    assert "The quality of the maps must vary over the true pairs" in found.undefined[f"{section}.empty.vice"]
    assert f"{section}.random.vice" not in found.undefined


def test_the_value_at_a_path() -> None:
    assert FOUND.value("strict.vice") == FOUND.strict["vice"]
    with pytest.raises(ViceError, match=r"Did you mean `strict\.vice`"):
        FOUND.value("strict.vise")


def test_scaling_is_fitted_on_another_split() -> None:
    other = simulated(150, seed=9)
    names = np.array([f"val{i}" for i in range(150)], dtype=object)
    moved = replace(other.images, image_id=names)
    val = Samples(other.manifest, moved, other.regions.where(np.zeros(len(other.regions), bool)), other.maps)
    found = measure(TABLE, replicates=0, calibrate_on=val)
    assert found.scaling["temperature"]["nll"] <= found.calibration["nll"] * 1.05
    assert found.scaling["fitted_on"]["images"] == 150
    with pytest.raises(ViceError, match="share 200 images"):
        measure(TABLE, replicates=0, calibrate_on=TABLE)


def test_a_planted_shortcut_is_found() -> None:
    # Class 0 is given away by something beside the object: the model is sure of it, and its maps lie elsewhere.
    plain = simulated(200, seed=5)
    rows = (plain.regions.label == 1)[:, None]
    moved = replace(plain.regions, intersection=np.where(rows, 0, plain.regions.intersection))
    sure = plain.images.logits.copy()
    sure[:, 0] = np.where(plain.images.targets[:, 0] == 1, np.abs(sure[:, 0]) + 3, sure[:, 0])
    images = replace(plain.images, logits=sure)
    shortcut = Samples(plain.manifest, images, moved, plain.maps)
    before, after = measure(plain, replicates=0), measure(shortcut, replicates=0)
    assert after.classes[0].average_precision >= before.classes[0].average_precision
    assert after.classes[0].quality == 0
    assert after.strict["vice"] < before.strict["vice"] - 0.2
    assert after.sensitivities["within_class"] > after.strict["vice"] + 0.2  # the others are as consistent as before
    elsewhere = [m.quadrants["counts"]["right_elsewhere"] for m in (before, after)]
    assert elsewhere[1] >= elsewhere[0] + (PAIRS.class_index == 0).sum() // 2
    from torchvice.measures import compare

    said = compare({"plain": plain, "shortcut": shortcut}, replicates=200).sentences[0]
    assert "plain is more consistent than shortcut" in said


def test_a_test_at_its_floor_says_so() -> None:
    from torchvice.report.page.numbers import tables_of

    found = measure(simulated(200, seed=0, dependence=1.5), replicates=100)
    assert found.tests["strict.vice"]["p"] == 1 / 2000
    assert found.tests["strict.vice"]["at_floor"] is True
    (table,) = [table for table in tables_of(found) if table.term == "test"]
    assert table.rows[0][1][0] == "<= 0.0005"


def test_the_mce_comes_with_the_count_of_its_bin() -> None:
    from torchvice.metrics.calibration_errors import event_reliability

    strict = TABLE.of_protocol("strict")
    diagram = event_reliability(strict.probabilities, strict.images.targets)
    gaps = [
        abs(a - b) if n else -1 for a, b, n in zip(diagram.confidence, diagram.accuracy, diagram.count, strict=True)
    ]
    place = gaps.index(max(gaps))
    assert FOUND.calibration["mce"] == pytest.approx(gaps[place])
    assert FOUND.notes["calibration.mce"] == f"The bin with the largest gap holds {diagram.count[place]} of 200 images."
