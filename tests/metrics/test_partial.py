"""partial: Spearman given area and number of labels, against a plain regression, and on planted effects of size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.interpolate
import scipy.stats

from torchvice.errors import ViceError
from torchvice.metrics.partial import PartialSpearman, cubic_splines, merged_counts
from torchvice.metrics.permutation import freedman_lane_p
from torchvice.metrics.resampling import Resampling, interval
from torchvice.metrics.weighted import Spearman

EFFECTS = {
    "rising": lambda u: u,
    "peak": lambda u: 1 - 2 * np.abs(u - 0.5),
    "arch": lambda u: 1 - 4 * (u - 0.5) ** 2,
    "late peak": lambda u: np.exp(-(((u - 0.7) / 0.2) ** 2)),
}


def planted(effect: str, rows: int, seed: int, shared: float = 0.0) -> tuple[np.ndarray, ...]:
    """Logit, IoU, area and label count: both columns depend on the size and on `shared`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, rows)
    area = rng.lognormal(9, 1.5, rows)
    size = EFFECTS[effect](scipy.stats.rankdata(area) / rows)
    both = shared * rng.normal(size=rows)
    a, b = (size - 0.2 * labels + both + 0.3 * rng.normal(size=rows) for _ in range(2))
    return np.exp(a), b, area, labels


def by_regression(a: np.ndarray, b: np.ndarray, area: np.ndarray, labels: np.ndarray) -> float:
    """Ranks on scipy's own B-splines and indicators of every level, by lstsq; correlation of the residuals."""
    position = np.clip((scipy.stats.rankdata(area) - 0.5) / len(a), 0, 1)
    knots = np.arange(-3, 8) / 4
    splines = [scipy.interpolate.BSpline.basis_element(knots[i : i + 5], extrapolate=False) for i in range(7)]
    design = np.stack([np.nan_to_num(s(position)) for s in splines] + [labels == k for k in set(labels)], axis=1)
    residuals = []
    for column in (a, b):
        ranks = scipy.stats.rankdata(column)
        residuals.append(ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0])
    return float(np.corrcoef(*residuals)[0, 1])


def test_the_splines_are_those_of_scipy() -> None:
    position = np.linspace(0, 1, 101)
    knots = np.arange(-3, 8) / 4
    ours = cubic_splines(position)
    assert ours.sum(axis=1) == pytest.approx(np.ones(101), abs=1e-14)
    theirs = scipy.interpolate.BSpline.design_matrix(np.clip(position, 0, 1 - 1e-12), knots, 3).toarray()
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("effect", list(EFFECTS))
@pytest.mark.parametrize("tied", [False, True])
def test_value_is_that_of_a_plain_regression_of_ranks(effect: str, tied: bool) -> None:
    a, b, area, labels = planted(effect, 150, 3, shared=0.2)
    if tied:
        b, area = np.maximum(b, np.median(b)), np.round(np.log(area))
    assert PartialSpearman(a, b, area, labels).value == pytest.approx(by_regression(a, b, area, labels), abs=1e-9)


def test_replicates_are_ranked_anew() -> None:
    a, b, area, labels = planted("peak", 80, 4, shared=0.2)
    labels[:2] = 9  # a level that many replicates do not show
    weights = Resampling(80).counts(0, 25)
    found = PartialSpearman(a, b, area, labels)(weights)
    assert (weights[:, :2].sum(axis=1) == 0).any()
    for value, row in zip(found, weights, strict=True):
        assert value == pytest.approx(by_regression(*(np.repeat(x, row) for x in (a, b, area, labels))), abs=1e-9)


@pytest.mark.parametrize("effect", list(EFFECTS))
def test_a_planted_effect_of_size_is_removed(effect: str) -> None:
    columns = planted(effect, 6000, 5)
    plain, partial = Spearman(*columns[:2]).value, PartialSpearman(*columns).value
    assert plain > 0.4
    assert abs(partial) < 0.04


def test_a_straight_line_through_the_ranks_would_not_remove_a_peak() -> None:
    # What the spline is for: the usual alternative, ranks residualised on rank(area) alone, leaves it all in.
    a, b, area, _ = planted("arch", 6000, 5)
    ranks = [scipy.stats.rankdata(column) for column in (a, b, area)]
    line = np.stack([ranks[2], np.ones(6000)], axis=1)
    residuals = [r - line @ np.linalg.lstsq(line, r, rcond=None)[0] for r in ranks[:2]]
    assert np.corrcoef(*residuals)[0, 1] > 0.35


def test_what_is_no_matter_of_size_stays() -> None:
    # Residuals share the variance 0.3^2 of 2 * 0.3^2: half of it.
    a, b, area, labels = planted("peak", 6000, 6, shared=0.3)
    assert PartialSpearman(a, b, area, labels).value == pytest.approx(6 / math.pi * math.asin(0.25), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["rising", "arch"])
def test_intervals_cover_zero_where_size_is_all_there_is(effect: str) -> None:
    covered = 0
    for seed in range(400):
        statistic = PartialSpearman(*planted(effect, 700, seed))
        found = interval(statistic.value, Resampling(700, 400, seed).replicates_of(statistic))
        covered += found.low <= 0 <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_edges() -> None:
    assert math.isnan(PartialSpearman([], [], [], []).value)
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(2, 40))
    # Everything that `a` says is the number of labels: nothing is left of it.
    labels = rng.integers(1, 4, 40)
    assert math.isnan(PartialSpearman(labels, b, a, labels).value)
    assert math.isnan(PartialSpearman(np.ones(40), b, a, labels).value)
    # Too few rows for the design: residuals of nothing.
    assert math.isnan(PartialSpearman(a[:4], b[:4], [1, 2, 3, 4], [1, 1, 1, 1]).value)
    # One area and one number of labels: plain Spearman.
    assert PartialSpearman(a, b, np.ones(40), np.ones(40)).value == pytest.approx(Spearman(a, b).value, abs=1e-9)
    with pytest.raises(ViceError, match="`labels` is a factor, but has 60 different values"):
        PartialSpearman(np.arange(60), np.arange(60), np.arange(60), np.arange(60))
    with pytest.raises(ViceError, match="`area` must be finite"):
        PartialSpearman(a, b, np.full(40, np.nan), labels)


def test_the_highest_label_counts_are_one_group_beyond_fifty() -> None:
    few, many = np.arange(1, 51), np.array([*range(1, 52), 80, 3])
    assert merged_counts(few) is few
    expected = np.minimum(many, 50)  # 52 different counts: 50, 51 and 80 are one
    np.testing.assert_array_equal(merged_counts(many), expected)
    rng = np.random.default_rng(0)
    a, b, area = rng.normal(size=(3, 600))
    labels = rng.integers(1, 91, 600)
    merged = merged_counts(labels)
    assert len(np.unique(merged)) == 50
    assert PartialSpearman(a, b, area, merged).value == pytest.approx(by_regression(a, b, area, merged))
    assert 0 < freedman_lane_p(a, b, area, merged, permutations=99) <= 1
