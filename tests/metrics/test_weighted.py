"""weighted: every statistic of weighted rows is the statistic of the rows repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from torchvice.errors import ViceError
from torchvice.metrics.ranks import WeightedRanks, midranks
from torchvice.metrics.weighted import HeldOutSpearman, Mean, Pearson, Ratio, Spearman, WithinSpearman

LEVELS = st.integers(-3, 3).map(float)
TABLES = st.lists(st.tuples(LEVELS, LEVELS, st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=20)


def table(rows: list[tuple[float, float, int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(column) for column in zip(*rows, strict=True))


@given(TABLES)
def test_weighted_ranks_are_the_ranks_of_repeated_rows(rows: list[tuple[float, float, int, int]]) -> None:
    values, _, group, weights = table(rows)
    ranks, spread = WeightedRanks(values, group)(weights[None].astype(float))
    for index, one in enumerate(np.unique(group)):
        own = group == one
        repeated = np.repeat(values[own], weights[own])
        expected = 2 * scipy.stats.rankdata(repeated) - (len(repeated) + 1)
        np.testing.assert_array_equal(np.repeat(ranks[0, own], weights[own]), expected)
        assert spread[0, index] == pytest.approx(3 * (expected**2).sum(), abs=1e-9)


@given(st.lists(LEVELS, max_size=20))
def test_midranks_are_those_of_scipy(values: list[float]) -> None:
    np.testing.assert_array_equal(midranks(np.array(values)), scipy.stats.rankdata(values))


@settings(deadline=None)
@given(TABLES)
def test_correlations_are_those_of_repeated_rows(rows: list[tuple[float, float, int, int]]) -> None:
    a, b, _, weights = table(rows)
    x, y = np.repeat(a, weights), np.repeat(b, weights)
    pearson, spearman = Pearson(a, b)(weights[None])[0], Spearman(a, b)(weights[None])[0]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(pearson)
        assert math.isnan(spearman)
    else:
        assert pearson == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
        assert spearman == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
        assert spearman == pytest.approx(reference.spearman(x.tolist(), y.tolist()), abs=1e-12)


def within_by_hand(a: np.ndarray, b: np.ndarray, group: np.ndarray) -> float:
    """Ranks within each group, centred and divided by the group's size, then one correlation."""
    columns: list[list[float]] = [[], []]
    for one in np.unique(group):
        for column, values in zip(columns, (a, b), strict=True):
            ranks = scipy.stats.rankdata(values[group == one])
            column += [(rank - (len(ranks) + 1) / 2) / len(ranks) for rank in ranks]
    return reference.pearson(*columns)


@settings(deadline=None)
@given(TABLES)
def test_within_groups_is_the_plain_loop(rows: list[tuple[float, float, int, int]]) -> None:
    a, b, group, weights = table(rows)
    found = WithinSpearman(a, b, group)(weights[None])[0]
    x, y, groups = (np.repeat(column, weights) for column in (a, b, group))
    spread = [any(np.ptp(v[groups == g]) > 0 for g in np.unique(groups)) for v in (x, y)]
    if all(spread):
        assert found == pytest.approx(within_by_hand(x, y, groups), abs=1e-12)
    else:
        assert math.isnan(found)


def test_one_group_is_spearman_and_the_order_of_rows_is_none() -> None:
    rng = np.random.default_rng(0)
    a, b, group, weights = rng.normal(size=50), rng.normal(size=50), rng.integers(0, 4, 50), rng.random((3, 50))
    order = rng.permutation(50)
    np.testing.assert_allclose(WithinSpearman(a, b, np.full(50, 7))(weights), Spearman(a, b)(weights), atol=1e-13)
    np.testing.assert_allclose(
        WithinSpearman(a[order], b[order], group[order])(weights[:, order]), WithinSpearman(a, b, group)(weights)
    )
    # Rising maps of a column, another one in every class, change nothing.
    raised = np.exp(a) * (group + 1) + 100 * group
    np.testing.assert_allclose(WithinSpearman(raised, b, group)(weights), WithinSpearman(a, b, group)(weights))


def test_difficulty_that_varies_by_class_only_is_no_consistency_within() -> None:
    # Logit and IoU share the mean of their class and nothing else.
    rng = np.random.default_rng(1)
    group = rng.integers(0, 20, 4000)
    ease = rng.normal(size=20)[group] * 0.77
    a, b = ease + rng.normal(size=4000), ease + rng.normal(size=4000)
    assert Spearman(a, b).value == pytest.approx(0.37, abs=0.12)
    assert WithinSpearman(a, b, group).value == pytest.approx(0, abs=0.04)


def test_pearson_keeps_its_digits() -> None:
    # The outlier decides the scale; where it is not drawn, the rest must still correlate as if it had never been.
    a, b = np.array([1e9, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 3.0, 2.0, 5.0])
    found = Pearson(a, b)(np.array([[0, 1, 1, 1, 1], [0, 3, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]))
    assert found[0] == pytest.approx(scipy.stats.pearsonr(a[1:], b[1:]).statistic, abs=1e-7)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-12)
    assert math.isnan(found[3])
    far = Pearson(1e8 + a[1:], b[1:]).value
    assert far == pytest.approx(scipy.stats.pearsonr(a[1:], b[1:]).statistic, abs=1e-7)
    assert Pearson(a * 1e-300, b * 1e290).value == pytest.approx(found[2], abs=1e-12)


def test_means_and_ratios() -> None:
    weights = np.array([[2, 0, 1], [0, 0, 0]], np.uint8)
    assert Mean([1.0, 5.0, 4.0])(weights)[0] == 2.0
    assert Ratio([1.0, 5.0, 4.0], [2.0, 9.0, 2.0])(weights)[0] == 1.0
    assert np.isnan(Mean([1.0, 5.0, 4.0])(weights)[1])
    assert math.isnan(Ratio([1.0], [0.0]).value)


def held_out_by_hand(logit: list[float], iou: list[list[float]], fold: list[int]) -> float:
    quality = []
    for row, own in enumerate(fold):
        others = [iou[i] for i in range(len(fold)) if fold[i] != own] or iou
        means = [sum(column) / len(others) for column in zip(*others, strict=True)]
        best = next(t for t, value in enumerate(means) if value >= max(means) - 1e-13)
        quality.append(iou[row][best])
    return reference.spearman(logit, quality)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(3, 15), st.integers(1, 4))
def test_held_out_thresholds_are_chosen_anew_in_every_replicate(seed: int, rows: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    logit, iou, fold = rng.normal(size=rows), rng.integers(0, 5, (rows, 4)) / 4, rng.integers(0, folds, rows)
    weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=6)
    found = HeldOutSpearman(logit, iou, fold)(weights)
    for value, row in zip(found, weights, strict=True):
        x, y, f = (np.repeat(column, row, axis=0).tolist() for column in (logit, iou, fold))
        try:
            expected = held_out_by_hand(x, y, f)
        except ZeroDivisionError:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(expected, abs=1e-12)


def test_thresholds_are_those_of_strict() -> None:
    rng = np.random.default_rng(5)
    iou, fold = rng.random((200, 60)), rng.integers(0, 5, 200)
    chosen = HeldOutSpearman(rng.normal(size=200), iou, fold).chosen()
    assert chosen.tolist() == [int(iou[fold != f].mean(axis=0).argmax()) for f in range(5)]
    # Columns that are equal: the first of them, whatever the rounding of the sums.
    assert HeldOutSpearman(np.arange(200.0), np.repeat(iou[:, :1], 60, axis=1), fold).chosen().tolist() == [0] * 5


@pytest.mark.parametrize("statistic", [Pearson, Spearman])
def test_edges(statistic: type) -> None:
    assert math.isnan(statistic([], []).value)
    assert math.isnan(statistic([1.0], [2.0]).value)
    assert math.isnan(statistic([1.0, 1.0], [2.0, 3.0]).value)
    assert statistic([1.0, 2.0], [2.0, 3.0]).value == 1.0
    with pytest.raises(ViceError, match="`b` must be finite, but 2 values are not"):
        statistic([1.0, 2.0, 3.0], [np.nan, np.inf, 0.0])
    with pytest.raises(ViceError, match="must have one length"):
        statistic([1.0, 2.0], [1.0])
    with pytest.raises(ViceError, match=r"`weights` must be \(b, 2\), but has shape \(1, 3\)"):
        statistic([1.0, 2.0], [1.0, 3.0])(np.ones((1, 3)))
