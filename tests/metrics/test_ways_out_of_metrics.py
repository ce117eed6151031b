"""Each way out that a measure names, done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from torchvice.interop import bilinear
from torchvice.metrics import (
    best_box_iou,
    brier_score,
    cross_entropy,
    iou_curve,
    multilabel_accuracy,
    multilabel_ece,
    null_band,
    sample_loss,
    share_interval,
    sigmoid,
    softmax,
    top_one_accuracy,
)
from torchvice.metrics.association import log_loss_pearson
from torchvice.metrics.comparison import seed_difference
from torchvice.metrics.concordance import kendall_interval
from torchvice.metrics.overlap import competing_overlap
from torchvice.metrics.partial import PartialSpearman, merged_counts
from torchvice.metrics.resampling import Resampling, interval
from torchvice.metrics.standing_out import classes_that_stand_out
from torchvice.metrics.weighted import Mean
from ways_out import tried

LOGITS = np.random.default_rng(0).normal(0, 2, (6, 3))
ONE_LABEL = np.eye(3)[[0, 1, 2, 0, 1, 2]]
SEVERAL = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 1]])
MAPS, MASK = [[[[0.9, 0.2]]]], [np.array([[4, 0]])]


@pytest.mark.parametrize(
    "with_level",
    [
        lambda level: interval(0.5, np.linspace(0, 1, 101), level=level),
        lambda level: share_interval([1, 1, 1, 0], [0, 1, 2, 3], level),
        lambda level: kendall_interval([1.0, 2, 3, 4, 5, 6], [1.0, 3, 2, 4, 6, 5], level=level),
        lambda level: seed_difference([0.40, 0.42, 0.41], [0.30, 0.33, 0.30], level=level),
    ],
)
def test_a_level_in_per_cent_becomes_a_share(with_level: Callable[[float], Any]) -> None:
    found = tried(lambda: with_level(95), "95 % is 0.95.", lambda: with_level(0.95))
    found = getattr(found, "interval", found)
    assert found.low < found.high


def test_a_floor_of_the_loss_above_zero_gives_the_logarithm() -> None:
    loss, quality = [0.0, 0.1, 1.0], [0.9, 0.6, 0.3]
    says = "The logarithm of 0 is undefined."
    found = tried(
        lambda: log_loss_pearson(loss, quality, floor=0),
        says,
        lambda: log_loss_pearson(loss, quality, floor=0.01),
    )
    assert found.value == pytest.approx(1.0)


def test_probabilities_of_exclusive_classes_are_a_softmax() -> None:
    says = "torchvice.metrics.softmax(logits)"
    right = tried(
        lambda: null_band(sigmoid(LOGITS), exclusive=True, simulations=20),
        says,
        lambda: null_band(softmax(LOGITS), exclusive=True, simulations=20),
    )
    assert 0 < right.median < 1


def test_logits_become_probabilities() -> None:
    says = "torchvice.metrics.sigmoid(logits)"
    found = tried(lambda: multilabel_ece(LOGITS, SEVERAL), says, lambda: multilabel_ece(sigmoid(LOGITS), SEVERAL))
    assert 0 < found < 1


@pytest.mark.parametrize(
    "measured",
    [
        lambda p: null_band(p, exclusive=True, simulations=20).median,
        lambda p: brier_score(p, ONE_LABEL, exclusive=True),
    ],
)
def test_logits_of_exclusive_classes_become_probabilities(measured: Callable[[Any], float]) -> None:
    assert tried(lambda: measured(LOGITS), "softmax(logits)", lambda: measured(softmax(LOGITS))) > 0


def test_a_box_of_one_pixel_ends_behind_it() -> None:
    says = "a box of one pixel is (x, y, x + 1, y + 1)"
    plane, x, y = [[0.9, 0.0], [0.0, 0.0]], 0, 0
    found = tried(
        lambda: best_box_iou(plane, [[x, y, x, y]], [0.1]),
        says,
        lambda: best_box_iou(plane, [[x, y, x + 1, y + 1]], [0.1]),
    )
    assert found.tolist() == [1.0]


def test_two_seeds_are_too_few_for_a_claim() -> None:
    first, second = [0.40, 0.42], [0.30, 0.33]
    says = "Train more seeds"
    found = tried(
        lambda: seed_difference(first, second),
        says,
        lambda: seed_difference([*first, 0.41], [*second, 0.30]),
    )
    assert found.difference == pytest.approx(0.1)


def test_more_classes_take_the_highest_label() -> None:
    says = "Increase the number of classes if there are more."
    found = tried(
        lambda: iou_curve(MAPS, [[3]], MASK, 3, [0.1, 0.5]),
        says,
        lambda: iou_curve(MAPS, [[3]], MASK, 4, [0.1, 0.5]),
    )
    assert found.best_threshold == 0.5


def test_a_value_below_zero_can_be_void() -> None:
    says = "pass void=-1"
    mask = np.array([[4, -1]])
    found = tried(
        lambda: competing_overlap(MAPS[0], [3], mask, [0.1]),
        says,
        lambda: competing_overlap(MAPS[0], [3], mask, [0.1], void=-1),
    )
    assert found.intersection[list(found.labels).index(4)].tolist() == [1]


def test_the_map_is_resized_to_the_image() -> None:
    mask, small = np.array([[4, 4], [0, 0]]), np.array([[[0.9, 0.9]]])
    found = tried(
        lambda: competing_overlap(small, [3], mask, [0.1]),
        "Resize the maps to the image, not the mask to the maps.",
        lambda: competing_overlap(bilinear(small, mask.shape), [3], mask, [0.1]),
    )
    assert found.mask_pixels[list(found.labels).index(4)] == 2


def test_targets_hold_zero_and_one() -> None:
    mask = np.array([[0, 2, 3]])
    found = tried(
        lambda: sample_loss([[0.0, 0.0, 0.0]], mask),
        "Targets state which classes an image shows.",
        lambda: sample_loss([[0.0, 0.0, 0.0]], mask > 0),
    )
    assert found == pytest.approx([np.log(2)])


def test_the_background_is_dropped_from_targets() -> None:
    targets = np.column_stack([np.ones(6), SEVERAL])
    found = tried(
        lambda: sample_loss(LOGITS, targets),
        "drop it with targets[:, 1:]",
        lambda: sample_loss(LOGITS, targets[:, 1:]),
    )
    assert found == pytest.approx(sample_loss(LOGITS, SEVERAL))


def test_several_labels_take_one_sigmoid_per_class() -> None:
    p = sigmoid(LOGITS)
    found = tried(
        lambda: brier_score(p, SEVERAL, exclusive=True),
        "use exclusive=False",
        lambda: brier_score(p, SEVERAL, exclusive=False),
    )
    assert 0 < found < 1


@pytest.mark.parametrize(
    ("measured", "says", "other"),
    [
        (cross_entropy, "sample_loss", sample_loss),
        (top_one_accuracy, "multilabel_accuracy", lambda z, y: multilabel_accuracy(z > 0, y)),
    ],
)
def test_several_labels_have_a_measure_in_place_of_one_for_exclusive_classes(
    measured: Callable[..., Any], says: str, other: Callable[..., Any]
) -> None:
    assert np.mean(tried(lambda: measured(LOGITS, SEVERAL), says, lambda: other(LOGITS, SEVERAL))) > 0


def test_a_known_protocol_is_suggested() -> None:
    found = tried(
        lambda: multilabel_accuracy(SEVERAL, SEVERAL, "Strict"),  # type: ignore[arg-type]
        "Did you mean `strict`?",
        lambda: multilabel_accuracy(SEVERAL, SEVERAL, "strict"),
    )
    assert found == 1


def test_numbers_of_labels_are_merged() -> None:
    rng = np.random.default_rng(0)
    a, b, area = rng.random((3, 200))
    labels = np.arange(200) % 60
    says = "Merge large numbers of labels into one group: torchvice.metrics.partial.merged_counts(labels)."
    found = tried(
        lambda: PartialSpearman(a, b, area, labels),
        says,
        lambda: PartialSpearman(a, b, area, merged_counts(labels)),
    )
    assert found.rows == 200


def test_images_are_numbered_before_they_are_drawn() -> None:
    image_id = np.array([2007, 2008, 2008, 2009])
    statistic, resampling = Mean([1.0, 2.0, 3.0, 4.0]), Resampling(3, 50)
    found = tried(
        lambda: resampling.replicates_of(statistic, image_id),
        "np.unique(image_id, return_inverse=True) numbers the images.",
        lambda: resampling.replicates_of(statistic, np.unique(image_id, return_inverse=True)[1]),
    )
    assert len(found) == 50


def test_an_image_occurs_once_in_a_class() -> None:
    events, classes, sizes = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]), np.full(4, 0.2)
    images = np.array([7, 7, 7, 8])
    _, kept = np.unique(images * 2 + classes, return_index=True)
    found = tried(
        lambda: classes_that_stand_out(events, classes, sizes, 2, images=images),
        "Keep one pair of each.",
        lambda: classes_that_stand_out(events[kept], classes[kept], sizes[kept], 2, images=images[kept]),
    )
    assert found.events.sum() == 2


def test_rows_that_are_not_finite_are_left_out() -> None:
    a = np.array([0.40, np.nan, 0.42, 0.41])
    found = tried(
        lambda: seed_difference(a, [0.30, 0.33, 0.30]),
        "Leave such rows out, and report how many.",
        lambda: seed_difference(a[np.isfinite(a)], [0.30, 0.33, 0.30]),
    )
    assert found.difference == pytest.approx(0.1)
