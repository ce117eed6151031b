"""weighted: every statistic of weighted rows is the statistic of the rows repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import reference
from tables import scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures.pairs import true_pairs
from torchvice.metrics import mean_average_precision, multilabel_ece, pair_vice, weighted
from torchvice.metrics.boxes import held_out_box_accuracy
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.ranks import ChosenRanks, WeightedRanks, midranks
from torchvice.metrics.thresholds import HeldOut
from torchvice.metrics.weighted import (
    HeldOutSpearman,
    Mean,
    Pearson,
    Ratio,
    Spearman,
    WithinSpearman,
)
from torchvice.metrics.weighted_scores import MeanAveragePrecision, MultilabelEce

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


@pytest.mark.parametrize("decimals", [1, 6])
def test_ranks_of_chosen_thresholds_are_those_of_sorted_floats(decimals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(decimals)
    rows = 400
    logit, iou, fold = rng.normal(size=rows), rng.random((rows, 30)).round(decimals), rng.integers(0, 5, rows)
    weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=60)
    weights[3] = 0
    weights[4, 1:] = 0
    statistic, found = HeldOutSpearman(logit, iou, fold), {}
    assert len(np.unique(statistic._rule.chosen(weights), axis=0)) > 30
    for shared in (0, 10**9):  # each choice sorted once; every weighting by its keys
        monkeypatch.setattr(weighted, "SHARED", shared)
        found[shared] = statistic(weights)
    np.testing.assert_array_equal(found[0], found[10**9])
    assert np.isnan(found[0][3:5]).all()
    fractions = rng.random((3, rows))
    np.testing.assert_allclose(
        statistic(fractions), [float(statistic(row[None])[0]) for row in fractions], rtol=0, atol=1e-12
    )


def test_keys_of_many_values_are_wide_enough() -> None:
    rng = np.random.default_rng(8)
    values, fold = rng.random((3000, 500)), np.zeros(3000, np.int64)  # 1.5 million values and 3,000 places: 33 bits
    chosen, once = np.array([[17], [499]]), np.ones((2, 3000))
    other = WeightedRanks(rng.normal(size=3000))(once)[0]
    sums, spread = ChosenRanks(values, fold).products(chosen, once, other)
    for row, column in enumerate(chosen[:, 0]):
        expected = WeightedRanks(values[:, column]).products(once[:1], other[row : row + 1])
        assert (sums[row], spread[row]) == (expected[0][0], expected[1][0])


def test_thresholds_are_those_of_strict() -> None:
    rng = np.random.default_rng(5)
    iou, fold = rng.random((200, 60)), rng.integers(0, 5, 200)
    chosen = HeldOut(iou, fold).chosen()
    assert chosen.tolist() == [int(iou[fold != f].mean(axis=0).argmax()) for f in range(5)]
    # Columns that are equal: the first of them, whatever the rounding of the sums.
    assert HeldOut(np.repeat(iou[:, :1], 60, axis=1), fold).chosen().tolist() == [0] * 5


def test_the_point_estimate_and_the_replicates_share_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    logit, iou, fold, samples = rng.normal(size=80), rng.random((80, 12)), rng.integers(0, 5, 80), table_of(scenes(12))

    def numbers() -> tuple[float, float, float, list[float]]:
        ones = np.ones((1, len(logit)))
        point, replicate = pair_vice(logit, HeldOut(iou, fold).quality).value, HeldOutSpearman(logit, iou, fold)(ones)
        return point, float(replicate[0]), held_out_box_accuracy(iou, fold).mean, true_pairs(samples).quality.tolist()

    before = numbers()
    assert before[0] == pytest.approx(before[1], abs=1e-12)
    quality = true_pairs(samples)
    assert HeldOutSpearman(quality.logit, quality.iou, quality.fold).value == pytest.approx(
        pair_vice(quality.logit, quality.quality).value, abs=1e-12
    )

    def first(rule: HeldOut, weights: np.ndarray | None = None) -> np.ndarray:
        return np.zeros((len(rule.folds),) if weights is None else (len(weights), len(rule.folds)), np.int64)

    monkeypatch.setattr(HeldOut, "chosen", first)
    after = numbers()
    assert after[:2] == pytest.approx([pair_vice(logit, iou[:, 0]).value] * 2, abs=1e-12)
    assert after[2] == pytest.approx(np.mean([(iou[:, 0] >= delta).mean() for delta in (0.3, 0.5, 0.7)]))
    assert after[3] == quality.iou[:, 0].tolist()
    assert all(new != old for new, old in zip(after, before, strict=True))


def test_a_fold_without_others_chooses_on_its_own_rows() -> None:
    # Fold 0 alone has weight in the second row, so that all rows choose there: 0.2 + 0.2 against 0.1 + 0.4.
    rule = HeldOut([[0.2, 0.1], [0.2, 0.4], [0.9, 0.1]], [0, 0, 1])
    assert rule.chosen().tolist() == [0, 1]
    assert rule.chosen(np.array([[1, 1, 1], [1, 1, 0]])).tolist() == [[0, 1], [1, 1]]
    assert HeldOut([[0.2, 0.1], [0.2, 0.4]], [3, 3]).index.tolist() == [1, 1]
    assert HeldOut(np.zeros((0, 2)), []).quality.tolist() == []
    with pytest.raises(ViceError, match="at least one threshold"):
        HeldOut(np.zeros((2, 0)), [0, 1])
    with pytest.raises(ViceError, match="All rows of an image must be in one fold"):
        HeldOut([[0.2], [0.4]], [0, 1], ["a", "a"]).chosen()


def test_rows_of_an_image_are_summed_once() -> None:
    rng = np.random.default_rng(8)
    image = rng.integers(0, 30, 80)
    iou, fold, logit = rng.random((80, 4)), image % 5, rng.normal(size=80)
    weights = rng.integers(0, 3, (50, 30)).astype(float)[:, image]
    expected = HeldOut(iou, fold).chosen(weights)
    np.testing.assert_array_equal(HeldOut(iou, fold, [f"image{i}" for i in image]).chosen(weights), expected)
    by_image = HeldOutSpearman(logit, iou, fold, image)(weights)
    np.testing.assert_allclose(by_image, HeldOutSpearman(logit, iou, fold)(weights), atol=1e-14)


@pytest.mark.parametrize("values", [30, 7, 1])
def test_products_are_those_of_the_ranks(values: int) -> None:
    rng = np.random.default_rng(values)
    ranks = WeightedRanks(rng.permutation(30) % values)
    weights = rng.integers(0, 3, (20, 30)).astype(float)
    weights[0, 1:] = 0  # a single row
    other = weights * WeightedRanks(rng.normal(size=30))(weights)[0]
    centred, spread = ranks(weights)
    sums, again = ranks.products(weights, other)
    np.testing.assert_array_equal(sums, (centred * other).sum(axis=1))
    np.testing.assert_array_equal(again, spread[:, 0])


def test_average_precision_of_weights_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 12, (40, 5)) / 12, (rng.random((40, 5)) < 0.3).astype(int)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=30)
    found = MeanAveragePrecision(scores, targets)(weights)
    for value, weight in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(40), weight)
        expected = np.mean(
            [average_precision_score(targets[rows, c], scores[rows, c]) for c in range(5) if targets[rows, c].any()]
        )
        assert abs(value - expected) < 1e-12
        assert abs(value - mean_average_precision(scores[rows], targets[rows], "strict")) < 1e-12


def test_average_precision_of_a_resampling_without_any_label_is_undefined() -> None:
    found = MeanAveragePrecision([[0.5], [0.2]], [[1], [0]])(np.array([[0, 2], [1, 1]]))
    assert np.isnan(found[0])
    assert found[1] == 1
    assert np.isnan(MeanAveragePrecision([[0.5]], [[0]])(np.array([[1]]))).all()


def test_ece_ml_of_weights_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    probabilities = np.round(rng.random((60, 4)), 1)  # on the bins' edges, 0 and 1 among them
    targets = (rng.random((60, 4)) < 0.4).astype(int)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=30)
    statistic = MultilabelEce(probabilities, targets, bins=10)
    for value, weight in zip(statistic(weights), weights, strict=True):
        rows = np.repeat(np.arange(60), weight)
        assert abs(value - multilabel_ece(probabilities[rows], targets[rows], 10, "strict")) < 1e-12
    assert abs(statistic.value - multilabel_ece(probabilities, targets, 10, "strict")) < 1e-12


def test_ece_ml_without_images_is_undefined() -> None:
    assert np.isnan(MultilabelEce([[0.5]], [[0]])(np.array([[0]]))).all()
    assert np.isnan(MultilabelEce(np.zeros((0, 2)), np.zeros((0, 2)))(np.zeros((1, 0)))).all()


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


def test_the_derivative_of_map_by_every_weight() -> None:
    rng = np.random.default_rng(4)
    scores, targets = rng.normal(size=(120, 6)).round(1), rng.random((120, 6)) < 0.1  # with ties
    targets[:, 5] = False
    statistic = MeanAveragePrecision(scores, targets.astype(int))
    value, change = statistic.linear()
    assert value == pytest.approx(statistic.value, abs=1e-14)
    assert change.sum() == pytest.approx(0, abs=1e-14)
    steps = 1e-6 * np.eye(120)
    slope = (statistic(1 + steps) - statistic(1 - steps)) / 2e-6
    np.testing.assert_allclose(change, slope, atol=1e-9)


@pytest.mark.parametrize("most", [3, 255])
@pytest.mark.parametrize("decimals", [1, 9])
def test_weights_as_bytes_give_the_same_bits(decimals: int, most: int) -> None:
    # Sums of 400 weights of 255 are beyond 16 bits; products of three weights of a tie are beyond a byte.
    rng = np.random.default_rng(decimals)
    a, iou, fold = rng.normal(size=400).round(decimals), rng.random((400, 7)).round(decimals), rng.integers(0, 3, 400)
    weights = rng.integers(0, most + 1, (30, 400)).astype(np.uint8)
    shown = rng.random((400, 5)) < 0.2
    made = [Spearman(a, iou[:, 0]), HeldOutSpearman(a, iou, fold), MeanAveragePrecision(iou[:, :5], shown)]
    made += [WithinSpearman(a, iou[:, 1], fold), Mean(a), Pearson(a, iou[:, 2])]
    for statistic in made:
        assert np.array_equal(statistic(weights), statistic(weights.astype(float)))
    monotone = HeldOutSpearman(a, np.repeat(iou[:, :1], 2, axis=1), fold)  # few choices: the other way of sorting
    assert np.array_equal(monotone(weights), Spearman(a, iou[:, 0])(weights.astype(float)))


@pytest.mark.parametrize("most", [3, 255])
def test_bytes_give_the_bits_of_floats(most: int) -> None:
    """Also where weights times ranks need more than 31 bits: 34,000 rows of weight 255."""
    rng = np.random.default_rng(most)
    rows = 34_000 if most == 255 else 400
    a, b, area = rng.normal(size=rows), rng.integers(0, 9, rows), rng.random(rows)
    iou, fold = rng.integers(0, 50, (rows, 3)) / 50, np.arange(rows) % 2
    weights = rng.integers(most - 3, most + 1, (5, rows)).astype(np.uint8)
    statistics = [Spearman(a, b), Spearman(b, a), HeldOutSpearman(a, iou, fold), PartialSpearman(a, b, area, b % 3)]
    for statistic in statistics:
        assert statistic(weights).tolist() == statistic(weights.astype(float)).tolist()
    assert Spearman(a, b)(weights[:0]).tolist() == []
