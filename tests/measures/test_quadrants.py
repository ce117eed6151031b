"""Quadrants: values by hand, cut-offs that stay, and an order by strength."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import QUADRANTS, QUALITIES, Pairs, measure, quadrants_of, true_pairs
from torchvice.measures.quadrants import quadrants_by
from torchvice.samples import Samples


def pairs_of(probability: list[float], quality: list[float]) -> Pairs:
    p, q = np.array(probability), np.array(quality)
    names = np.array([f"image{i}" for i in range(len(p))], dtype=object)
    with np.errstate(divide="ignore"):
        logit = np.log(p) - np.log1p(-p)
    return Pairs(names, np.zeros(len(p), int), logit, q[:, None], np.full(len(p), 0.2), q, 0)


def test_each_pair_by_hand() -> None:
    found = quadrants_of(pairs_of([0.9, 0.9, 0.1, 0.1], [0.8, 0.1, 0.8, 0.1]))
    assert found.name.tolist() == ["both_good", "right_elsewhere", "wrong_there", "both_bad"]
    # Margins: p 0.9 -> 0.8, p 0.1 -> 0.8; IoU 0.8 -> 0.5 / 0.7, IoU 0.1 -> 0.2 / 0.3.
    assert found.strength == pytest.approx([0.5 / 0.7, 0.2 / 0.3, 0.5 / 0.7, 0.2 / 0.3])
    assert found.to_json() == {
        "by": "ji",
        "cutoffs": {"probability": 0.5, "iou": 0.3},
        "counts": {"right_elsewhere": 1, "wrong_there": 1, "both_good": 1, "both_bad": 1},
        "undefined": 0,
    }


def test_a_probability_of_one_half_is_no_prediction_and_an_iou_at_the_cutoff_is_there() -> None:
    found = quadrants_of(pairs_of([0.5, 0.6], [0.3, 0.3]))
    assert found.name.tolist() == ["wrong_there", "both_good"]
    assert found.strength == pytest.approx([0, 0])


def test_the_cutoffs_do_not_move_with_the_data() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.01, 0.99, 200), rng.uniform(0, 1, 200)
    whole = quadrants_of(pairs_of(p.tolist(), q.tolist()))
    half = quadrants_of(pairs_of(p[:100].tolist(), q[:100].tolist()))
    assert (whole.name[:100] == half.name).all()
    assert whole.strength[:100] == pytest.approx(half.strength)


def test_the_strongest_come_first_and_every_pair_is_in_one_quadrant() -> None:
    rng = np.random.default_rng(1)
    found = quadrants_of(pairs_of(rng.uniform(0.01, 0.99, 50).tolist(), rng.uniform(0, 1, 50).tolist()))
    rows = [found.strongest(quadrant) for quadrant in QUADRANTS]
    assert sorted(np.concatenate(rows).tolist()) == list(range(50))
    assert all((np.diff(found.strength[r]) <= 0).all() for r in rows)
    assert ((found.strength >= 0) & (found.strength <= 1)).all()


def test_no_pair_is_no_error_and_a_wrong_cutoff_is() -> None:
    assert quadrants_of(pairs_of([], [])).to_json()["counts"]["both_bad"] == 0
    with pytest.raises(ViceError, match="`iou` must be above 0"):
        quadrants_of(pairs_of([0.5], [0.5]), iou=0)
    with pytest.raises(ViceError, match="A quadrant must be one of"):
        quadrants_of(pairs_of([0.5], [0.5])).strongest("sideways")


def test_an_undefined_quality_puts_a_pair_in_no_quadrant_and_is_counted() -> None:
    found = quadrants_of(pairs_of([0.9, 0.1, 0.9], [np.nan, np.nan, 0.8]))
    assert found.name.tolist() == ["", "", "both_good"]
    assert found.strength.tolist() == pytest.approx([0, 0, 0.5 / 0.7])
    assert found.to_json()["undefined"] == 2
    assert sum(found.to_json()["counts"].values()) == 1


def test_a_quality_that_knows_no_object_leaves_the_quadrants_to_the_iou() -> None:
    pairs, other = pairs_of([0.9, 0.1], [0.8, 0.1]), np.array([-0.5, 0.9])
    assert quadrants_by(pairs, "recall", other).name.tolist() == ["right_elsewhere", "wrong_there"]
    assert quadrants_by(pairs, "recall", other).by == "recall"
    assert quadrants_by(pairs, "deletion", other).name.tolist() == ["both_good", "both_bad"]
    assert quadrants_by(pairs, "deletion", other).by == "ji"


def test_every_quality_has_a_cutoff_and_quadrants_go_by_it() -> None:
    assert QUALITIES["ji"].cutoff == QUALITIES["box_iou"].cutoff == 0.3
    assert QUALITIES["pointing"].cutoff == QUALITIES["recall"].cutoff == 0.5
    quality = np.array([0.4, 0.4])
    pairs = pairs_of([0.9, 0.1], [0.0, 0.0])
    assert quadrants_by(pairs, "recall", quality).name.tolist() == ["right_elsewhere", "both_bad"]
    assert quadrants_by(pairs, "soft_iou", quality).name.tolist() == ["both_good", "wrong_there"]


def test_of_exclusive_classes_the_likeliest_is_right_below_one_half_too() -> None:
    """Four classes: the true one is the likeliest with p of about .4, and in the second image is not."""
    table = simulated(60, dependence=1.0)
    targets = np.zeros((60, 4), np.uint8)
    targets[:, 0] = 1
    logits = np.log(np.array([[0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1]], np.float32))[np.arange(60) % 2]
    images = replace(table.images, targets=targets, logits=logits.astype(np.float32))
    regions = table.regions.where(table.regions.label == 1)
    exclusive = Samples({**table.manifest, "targets": "exclusive"}, images, regions, table.maps)
    pairs = true_pairs(exclusive)
    even = np.array([int(name[5:]) % 2 == 0 for name in pairs.image_id])
    assert pairs.probability[even].max() < 0.5
    assert (pairs.predicted == even).all()
    found = quadrants_of(pairs)
    assert set(found.name[even]) <= {"both_good", "right_elsewhere"}
    assert set(found.name[~even]) <= {"both_bad", "wrong_there"}
    assert found.to_json()["cutoffs"] == {"probability": None, "iou": 0.3}
    assert found.strength.max() < 0.1 + 1e-6  # the lead over the next class
    rows = {row.stratum: row.pairs for row in measure(exclusive, replicates=0).strata if row.by == "correctness"}
    assert rows == {"predicted": int(even.sum()), "not predicted": int((~even).sum())}
    assert (pairs.where(even).predicted).all()


def test_of_equally_likely_classes_the_first_is_predicted() -> None:
    table = simulated(40)
    targets = np.zeros((40, 4), np.uint8)
    targets[:, 1] = 1
    logits = np.tile(np.array([[0.0, 1.0, 1.0, 0.0]], np.float32), (40, 1))
    images = replace(table.images, targets=targets, logits=logits)
    exclusive = Samples({**table.manifest, "targets": "exclusive"}, images, table.regions, table.maps)
    assert true_pairs(exclusive).predicted.all()


def test_of_exclusive_classes_without_a_pair_there_is_no_cutoff_of_the_probability_either() -> None:
    table = simulated(40)
    targets = np.zeros((40, 4), np.uint8)
    targets[:, 1] = 1
    images, regions = replace(table.images, targets=targets), table.regions.where(table.regions.label == 1)
    pairs = true_pairs(Samples({**table.manifest, "targets": "exclusive"}, images, regions, table.maps))
    assert len(pairs) == 0
    assert quadrants_of(pairs).to_json()["cutoffs"] == {"probability": None, "iou": 0.3}
    assert len(pairs.where(np.zeros(0, bool)).predicted) == 0
    assert quadrants_of(true_pairs(table).where(np.zeros(0, np.int64))).probability == 0.5
