"""partial: the joint correlation within class given size, labels and extent, against lstsq, and on planted causes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from torchvice.errors import ViceError
from torchvice.metrics.joint import JointSpearman, joint_design
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import WithinSpearman

Columns = tuple[np.ndarray, ...]


def planted(rows: int, seed: int, shared: float = 0.0, classes: int = 5) -> Columns:
    """Two columns that class, size, number of labels, extent and `shared` move; then class, size, labels, extent."""
    rng = np.random.default_rng(seed)
    group = rng.integers(classes, size=rows)
    area, extent = rng.lognormal(0, 1, rows), rng.lognormal(0, 1, rows)
    labels = rng.integers(1, 4, rows)
    cause = group + np.log(area) - 0.4 * np.log(area) ** 2 + np.log(extent) - labels + shared * rng.normal(size=rows)
    a, b = (cause + rng.normal(size=rows) for _ in range(2))
    return a, b, group, area, labels, extent


def ranks_within(column: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Ranks within each class, centred and divided by its number of rows: a loop."""
    ranks = np.empty(len(column))
    for c in np.unique(group):
        own = scipy.stats.rankdata(column[group == c])
        ranks[group == c] = (own - own.mean()) / len(own)
    return ranks


def by_regression(a: np.ndarray, b: np.ndarray, group: np.ndarray, design: np.ndarray) -> float:
    """Ranks within class on the design and an indicator of every class, by lstsq; correlation of the residuals."""
    whole = np.concatenate([design, group[:, None] == np.unique(group)], axis=1).astype(float)
    residuals = []
    for column in (a, b):
        ranks = ranks_within(column, group)
        residuals.append(ranks - whole @ np.linalg.lstsq(whole, ranks, rcond=None)[0])
    return float(np.corrcoef(*residuals)[0, 1])


def sorted_by_class(columns: Columns) -> Columns:
    return tuple(column[np.argsort(columns[2], kind="stable")] for column in columns)


@pytest.mark.parametrize("tied", [False, True])
def test_value_is_that_of_a_regression_of_ranks(tied: bool) -> None:
    a, b, group, area, labels, extent = sorted_by_class(planted(400, 1, shared=1.0))
    if tied:
        a, area = np.minimum(a, np.median(a)), np.round(area)
    joint = JointSpearman(a, b, group, area, labels, extent)
    design = joint_design(a, b, group, area, labels, extent)
    assert joint.value == pytest.approx(by_regression(a, b, group, design), abs=1e-8)
    assert joint.terms == design.shape[1]
    np.testing.assert_allclose(design.T @ design, np.eye(joint.terms), atol=1e-10)
    np.testing.assert_allclose(
        [design[group == c].mean(axis=0) for c in range(5)], np.zeros((5, joint.terms)), atol=1e-10
    )


def test_weights_of_images_are_those_of_all_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, rng = planted(700, 3), np.random.default_rng(0)
    image = 5 * rng.integers(90, size=700) - 7
    row_of = np.unique(image, return_inverse=True)[1]
    weights = rng.integers(0, 3, (6, row_of.max() + 1))
    expected = JointSpearman(*columns)(weights[:, row_of])
    joint = JointSpearman(*columns, image=image)
    assert joint.rows == row_of.max() + 1
    np.testing.assert_allclose(joint(weights), expected, atol=1e-12)
    assert joint.value == pytest.approx(JointSpearman(*columns).value, abs=1e-12)
    monkeypatch.setattr("torchvice.metrics.joint.BLOCK", 2**14)  # several blocks, not kept
    monkeypatch.setattr("torchvice.metrics.joint.KEPT", 0)
    np.testing.assert_allclose(JointSpearman(*columns, image=image)(weights), expected, atol=1e-12)
    with pytest.raises(ViceError, match="must have one length"):
        JointSpearman(*columns, image=image[1:])


def test_the_design_spans_polynomials_of_size_and_extent() -> None:
    a, b, group, area, labels, extent = sorted_by_class(planted(1000, 2))
    design = joint_design(a, b, group, area, labels, extent)
    size, wide, count = (scipy.stats.rankdata(column) / 1000 for column in (area, extent, labels))
    functions = [size, size**3, size * wide, size**2 * wide**3, wide, count, ranks_within(area, group) ** 2]
    for function in functions:
        centred = function - np.array([function[group == c].mean() for c in range(5)])[group]
        np.testing.assert_allclose(design @ (design.T @ centred), centred, atol=1e-7)


def test_replicates_rank_and_fit_again() -> None:
    a, b, group, area, labels, extent = sorted_by_class(planted(250, 4, shared=1.0))
    group[:2] = -1  # a class that many replicates do not show
    design = joint_design(a, b, np.unique(group, return_inverse=True)[1], area, labels, extent)
    weights = Resampling(250).counts(0, 25)
    found = JointSpearman(a, b, group, area, labels, extent)(weights)
    assert (weights[:, :2].sum(axis=1) == 0).any()
    for value, row in zip(found, weights, strict=True):
        drawn = [np.repeat(column, row, axis=0) for column in (a, b, group, design)]
        assert value == pytest.approx(by_regression(*drawn), abs=1e-7)


def test_order_unit_and_rising_maps_do_not_matter() -> None:
    a, b, group, area, labels, extent = planted(300, 5, shared=1.0)
    value = JointSpearman(a, b, group, area, labels, extent).value
    order = np.random.default_rng(0).permutation(300)
    shuffled = [column[order] for column in (a, b, group, area, labels, extent)]
    assert JointSpearman(*shuffled).value == pytest.approx(value, abs=1e-9)
    assert JointSpearman(np.exp(a), b, group - 7, np.log(area), labels, 9 * extent).value == pytest.approx(value)


def test_blocks_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = planted(300, 6, shared=1.0)
    value = JointSpearman(*columns).value
    monkeypatch.setattr("torchvice.metrics.joint.KEPT", 40_000)
    assert JointSpearman(*columns).value == pytest.approx(value, abs=1e-12)


def test_planted_causes_are_removed_and_a_link_stays() -> None:
    columns = planted(6000, 7)
    assert WithinSpearman(*columns[:3]).value > 0.6
    assert abs(JointSpearman(*columns).value) < 0.04
    linked = JointSpearman(*planted(6000, 7, shared=1.0)).value
    assert linked == pytest.approx(6 / math.pi * math.asin(0.25), abs=0.05)


def test_p_values_are_small_with_a_link_and_uniform_without() -> None:
    linked = planted(300, 8, shared=1.5)
    assert JointSpearman(*linked).p_value(np.arange(300)) == 1 / 2000
    p = []
    for seed in range(100):
        a, _, group, area, labels, extent = planted(250, seed)
        p.append(JointSpearman(a, planted(250, seed + 500)[1], group, area, labels, extent).p_value(range(250), 199))
    assert np.mean(np.array(p) < 0.05) <= 0.12
    assert 0.35 < np.mean(p) < 0.65


def test_the_p_value_sums_over_images() -> None:
    # Every row twice, in one image: as sure as once. As twice the images: surer.
    columns = [np.tile(column, 2) for column in planted(300, 9, shared=0.3)]
    joint = JointSpearman(*columns)
    once, twice = joint.p_value(np.tile(np.arange(300), 2), 9999), joint.p_value(np.arange(600), 9999)
    assert twice < 0.7 * once
    assert joint.p_value(np.arange(600), 99, seed=1) == joint.p_value(np.arange(600), 99, seed=1)


def test_edges() -> None:
    columns = a, b, group, area, labels, extent = planted(160, 10)
    assert math.isnan(JointSpearman(*(column[:0] for column in columns)).value)
    few = JointSpearman(*(column[:154] for column in columns))
    assert math.isnan(few.value)  # 149 and one for each of 5 classes
    assert math.isnan(few.p_value(np.arange(154)))
    assert JointSpearman(*columns).terms == 25  # (160 - 5) // 6
    once = np.ones(160)
    assert JointSpearman(a, b, once, once, once, once).value == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert math.isnan(JointSpearman(once, b, group, area, labels, extent).value)
    with pytest.raises(ViceError, match="`extent` must be finite"):
        JointSpearman(a, b, group, area, labels, np.full(160, np.inf))
