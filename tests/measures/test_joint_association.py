"""Joint VICE, the range of VICE over good thresholds, controls at the headline's thresholds, and disagreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from simulated import THRESHOLDS, simulated
from torchvice.measures import Measures, measure, true_pairs
from torchvice.measures.association import disagreement, good_thresholds, joint_statistic
from torchvice.metrics.joint import JointSpearman
from torchvice.samples import Samples


def with_curve(table: Samples, curve: tuple[float, ...], noise: float = 0.0) -> Samples:
    """The table with, at each threshold, a share of the middle one's pixels; what is shared is predicted."""
    regions = table.regions
    middle = regions.intersection[:, 1].astype(float)
    moved = middle * np.exp(noise * np.random.default_rng(0).normal(size=len(middle)))
    columns = [np.minimum(factor * (middle if at else moved), regions.mask_pixels) for at, factor in enumerate(curve)]
    shared = np.round(np.stack(columns, axis=1)).astype(np.int64)
    return Samples(table.manifest, table.images, replace(regions, intersection=shared, predicted=shared), table.maps)


def test_the_joint_is_that_of_shares_of_the_image() -> None:
    table = simulated(300, classes=5)
    pairs = true_pairs(table)
    regions = pairs.regions
    assert regions is not None
    extent = regions.predicted[:, 1] / 10_000  # images of 100 x 100, all cut at the middle threshold
    by_hand = JointSpearman(pairs.logit, pairs.quality, pairs.class_index, pairs.area, pairs.labels, extent)
    assert joint_statistic(pairs).value == pytest.approx(by_hand.value, abs=1e-12)
    found = measure(table, replicates=200)
    assert found.strict["vice_joint"] == pytest.approx(by_hand.value, abs=1e-12)
    limits = found.intervals["strict.vice_joint"]
    assert limits["method"] == "reflected"
    assert limits["low"] < found.strict["vice_joint"] < limits["high"]
    assert 0 < found.tests["strict.vice_joint"]["p"] <= 1


def test_few_pairs_have_no_joint_and_say_so() -> None:
    found = measure(simulated(60, classes=3), replicates=0)
    pairs = len(true_pairs(simulated(60, classes=3)))
    assert np.isnan(found.strict["vice_joint"])
    assert (
        f"need 150 pairs in addition to one for each class, but there are {pairs - 3}"
        in found.undefined["strict.vice_joint"]
    )


def test_good_thresholds_by_hand() -> None:
    # Means 0.40, 0.98, 1.00, 0.969: within 3 % of 1 are the second and the third.
    assert good_thresholds(np.array([[0.40, 0.98, 1.00, 0.969]] * 2)).tolist() == [False, True, True, False]
    assert good_thresholds(np.zeros((2, 3))).tolist() == [False, False, False]


def test_the_range_over_thresholds() -> None:
    table = with_curve(simulated(200), (0.985, 1.0, 0.5), noise=0.1)
    pairs = true_pairs(table)
    each = [stats.spearmanr(pairs.logit, pairs.iou[:, at]).statistic for at in (0, 1)]
    found = measure(table, replicates=0).strict
    assert (found["vice_lowest"], found["vice_highest"]) == pytest.approx((min(each), max(each)))
    assert (found["threshold_first"], found["threshold_last"]) == (THRESHOLDS[0], THRESHOLDS[1])
    one = measure(simulated(200), replicates=0).strict
    assert one["vice_lowest"] == one["vice_highest"] == one["vice"]


@pytest.mark.parametrize(
    ("curve", "note"),
    [
        ((0.5, 0.8, 1.0), "In 5 of 5 folds the chosen threshold is the highest of the table, 0.50"),
        ((1.0, 0.8, 0.5), "In 5 of 5 folds the chosen threshold is the lowest of the table, 0.10"),
        ((0.5, 1.0, 0.99), ""),
        ((0.5, 1.0, 0.5), ""),
        ((1.0, 1.0, 1.0), ""),
    ],
)
def test_a_threshold_at_the_end_of_the_table_is_noted(curve: tuple[float, ...], note: str) -> None:
    found = measure(with_curve(simulated(120), curve), replicates=0)
    assert found.notes.get("thresholds", "").startswith(note)
    assert bool(note) == ("thresholds" in found.notes)


def test_the_range_reaches_beyond_the_table_where_its_end_is_good() -> None:
    # The maps are 1 on what the middle threshold shares, so that the histograms have its IoU up to 0.99.
    table = with_curve(simulated(120), (0.5, 0.8, 0.9))
    found = measure(table, replicates=0)
    assert (found.strict["threshold_first"], found.strict["threshold_last"]) == (0.51, 0.99)
    before = measure(simulated(120), replicates=0).strict["vice"]
    assert found.strict["vice_lowest"] == found.strict["vice_highest"] == pytest.approx(before)
    assert found.notes["thresholds"].endswith("highest at 0.51: VICE there is another number.")
    inside = measure(with_curve(simulated(120), (0.5, 1.0, 0.9)), replicates=0).strict
    assert inside["threshold_last"] == 0.3


def test_a_control_is_also_cut_at_the_thresholds_of_the_headline() -> None:
    # At its own threshold the control knows nothing; at the headline's it is as good as the headline.
    table = simulated(200, others={"strict:late": {"role": "control", "dependence": 1.0}})
    regions = table.regions
    late = regions.explanation == "strict:late"
    shared = regions.intersection.copy()
    shared[late, 2] = np.random.default_rng(0).permutation(regions.mask_pixels[late])
    shared[late, 2] = np.minimum(shared[late, 2], regions.mask_pixels[late])
    found = measure(Samples(table.manifest, table.images, replace(regions, intersection=shared), table.maps))
    row, pairs = found.controls["late"], true_pairs(table, "strict:late")
    assert row.vice_at_headline == pytest.approx(stats.spearmanr(pairs.logit, pairs.iou[:, 1]).statistic)
    assert row.vice is not None
    assert row.vice < row.vice_at_headline - 0.2
    assert row.difference_low is not None
    assert row.difference_low > 0 > row.difference_at_headline_low
    assert row.difference_at_headline == pytest.approx(found.strict["vice"] - row.vice_at_headline)
    assert row.beaten is False
    assert "not clearly higher than the control `late` (95 % interval" in found.notes["controls"]
    assert "at the headline's threshold" in found.notes["controls"]


def test_a_quality_without_a_threshold_has_one_difference() -> None:
    table = simulated(120, others={"strict:random": {"role": "control", "dependence": 0.0}})
    row = measure(table, quality="energy", replicates=100).controls["random"]
    assert (row.difference_at_headline, row.difference_at_headline_low) == (row.difference, row.difference_low)


def limits(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high}


def test_disagreement_by_hand() -> None:
    found = measure(simulated(80), replicates=100)
    paths = {f"sensitivities.vice_{name}" for name in ("soft_iou", "energy", "pointing")}
    rest = {path: interval for path, interval in found.intervals.items() if path not in paths | {"strict.vice"}}

    def given(**more: dict[str, float]) -> Measures:
        named = {"vice": "strict.vice", **{path.partition("vice_")[2]: path for path in paths}}
        return replace(found, intervals=rest | {named[name]: interval for name, interval in more.items()})

    assert disagreement(given(vice=limits(0.1, 0.2), energy=limits(0.3, 0.4), pointing=limits(0.1, 0.9))) == []
    rows = disagreement(given(vice=limits(0.1, 0.2), energy=limits(-0.2, -0.1), soft_iou=limits(-0.1, 0.1)))
    assert [(row.quality, row.established, row.headline) for row in rows] == [("soft_iou", 0, 1), ("energy", -1, 1)]
    assert rows[1].vice == found.sensitivities["vice_energy"]
    assert rows[1].to_json()["low"] == -0.2
    assert disagreement(given(energy=limits(-0.2, -0.1))) == []  # the headline has no interval
