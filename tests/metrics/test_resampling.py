"""resampling: the draws and the intervals, against plain loops and scipy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from torchvice.errors import ViceError
from torchvice.metrics import resampling
from torchvice.metrics.resampling import Interval, Resampling, interval, reflected_interval
from torchvice.metrics.weighted import HeldOutSpearman, Mean, Pearson, Spearman
from torchvice.metrics.weighted_scores import MeanAveragePrecision

RNG = np.random.default_rng(20)


def test_every_replicate_draws_n_images_and_each_as_often_as_chance_says() -> None:
    counts = Resampling(40, seed=1).counts(0, 5000)
    assert counts.shape == (5000, 40)
    assert (counts.sum(axis=1) == 40).all()
    # Of the 200,000 counts, Poisson-like: the share of zeros is (1 - 1/40)^40 = 0.3632.
    assert (counts == 0).mean() == pytest.approx((39 / 40) ** 40, abs=0.005)
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.06
    assert abs(np.corrcoef(counts[:-1, 0], counts[1:, 0])[0, 1]) < 0.05


def test_draws_depend_on_seed_and_number_of_images_only() -> None:
    whole = Resampling(30, replicates=10).counts(0, 200)
    other = Resampling(30, replicates=9999)
    np.testing.assert_array_equal(other.counts(60, 130), whole[60:130])
    np.testing.assert_array_equal(np.concatenate([other.counts(i, i + 7) for i in range(0, 196, 7)]), whole[:196])
    assert not np.array_equal(Resampling(30, seed=1).counts(0, 200), whole)


def test_replicates_are_the_plain_loop_over_images() -> None:
    cluster = np.sort(RNG.integers(0, 25, 60))
    a, b = RNG.normal(size=60), RNG.normal(size=60)
    sampling = Resampling(25, replicates=120)
    found = sampling.replicates_of(Spearman(a, b), cluster)
    for replicate in range(0, 120, 17):
        drawn = sampling.counts(replicate, replicate + 1)[0]
        rows = [row for image in range(25) for _ in range(drawn[image]) for row in np.flatnonzero(cluster == image)]
        assert found[replicate] == pytest.approx(scipy.stats.spearmanr(a[rows], b[rows]).statistic, abs=1e-12)


@pytest.mark.parametrize("block", [1, 700, 2**30])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = RNG.normal(size=90), RNG.normal(size=90)
    cluster = np.arange(90) // 3
    expected = {s: Resampling(30, 333, seed=4).replicates_of(s(a, b), cluster) for s in (Pearson, Spearman)}
    monkeypatch.setattr(resampling, "MEMORY", block)
    for statistic, values in expected.items():
        again = Resampling(30, 333, seed=4).replicates_of(statistic(a, b), cluster)
        np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("kept", [0, 40_000, 2**27])
@pytest.mark.parametrize("exact", [0, 2**24])
def test_statistics_that_share_ranks_have_the_values_of_single_ones(
    kept: int, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "KEPT", kept)
    monkeypatch.setattr(resampling, "EXACT", exact)
    cluster, rng = np.sort(RNG.integers(0, 25, 60)), np.random.default_rng(1)
    a, ranked = rng.normal(size=60), rng.integers(0, 9, 60)
    statistics = [Spearman(a, column) for column in (a**3, rng.normal(size=60), ranked, -a, ranked**2)]
    statistics.append(HeldOutSpearman(a, rng.random((60, 3)), cluster % 5, cluster))
    statistics += [Spearman(ranked, column) for column in (a, rng.normal(size=60), ranked)]
    sampling = Resampling(25, replicates=120)
    for statistic in statistics * 2:
        expected = Resampling(25, replicates=120).replicates_of(lambda weights, s=statistic: s(weights), cluster)
        np.testing.assert_array_equal(sampling.replicates_of(statistic, cluster), expected)
    # Other rows of the same column are no reason to share.
    other = np.sort(rng.integers(0, 25, 60))
    expected = Resampling(25, replicates=120).replicates_of(Spearman(a, ranked), other)
    np.testing.assert_array_equal(sampling.replicates_of(Spearman(a, ranked), other), expected)
    assert sum(part.nbytes for parts in sampling._held.values() for part in parts) <= kept


def test_memory_is_bounded_for_many_images() -> None:
    sampling = Resampling(50_000, replicates=20)
    seen = []

    def spy(weights: np.ndarray) -> np.ndarray:
        seen.append(weights.shape)
        return np.zeros(len(weights))

    sampling.replicates_of(spy, np.arange(100_000) // 2)
    assert sum(b for b, _ in seen) == 20
    assert max(b * rows * 8 * 8 for b, rows in seen) <= 2**26


def test_differences_are_paired() -> None:
    # Two models that differ by a constant on every image: every replicate of the difference is that constant.
    values, sampling = RNG.normal(size=50), Resampling(50, 300)
    difference = sampling.replicates_of(Mean(values + 0.25)) - sampling.replicates_of(Mean(values))
    np.testing.assert_allclose(difference, 0.25, atol=1e-12)


def test_percentile_by_hand() -> None:
    # 0 .. 100: the 2.5 % quantile lies at 2.5, the 97.5 % at 97.5.
    found = interval(50.0, np.arange(101.0))
    assert (found.low, found.high) == pytest.approx((2.5, 97.5))
    assert (found.level, found.method, found.undefined) == (0.95, "percentile", 0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_limits_are_those_of_scipy(level: float) -> None:
    x = RNG.exponential(size=60)
    theirs = scipy.stats.bootstrap((x,), np.mean, n_resamples=999, method="percentile", confidence_level=level, rng=3)
    ours = interval(x.mean(), theirs.bootstrap_distribution, level)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_undefined_replicates_are_counted_and_too_many_leave_no_interval() -> None:
    replicates = np.arange(100.0)
    replicates[:5] = np.nan
    few = interval(50.0, replicates)
    assert few.undefined == 5
    assert few.low > 5
    replicates[5] = np.nan
    many = interval(50.0, replicates)
    assert (math.isnan(many.low), math.isnan(many.high), many.undefined) == (True, True, 6)
    assert json.dumps(many.to_json()) == (
        '{"low": null, "high": null, "level": 0.95, "method": "percentile", "undefined": 6}'
    )


def test_edges_of_the_interval() -> None:
    same = interval(1.0, np.ones(50))
    assert (same.low, same.high) == (1.0, 1.0)
    assert math.isnan(interval(math.nan, np.ones(50)).low)
    assert math.isnan(interval(1.0, []).low)
    assert Interval(0.1, 0.2, 0.95, "jackknife").to_json()["low"] == 0.1


def test_mistakes_are_named() -> None:
    with pytest.raises(ViceError, match="between 0 and 1, but is 95"):
        interval(0.0, [0.0], level=95)
    with pytest.raises(ViceError, match="from 0 to 2, but runs from 0 to 3"):
        Resampling(3).replicates_of(Mean([1.0, 2.0]), [0, 3])
    with pytest.raises(ViceError, match="`images` and `replicates` must be at least 1, but are 0 and 2000"):
        Resampling(0)


def test_replicates_of_map_are_linear_where_each_is_too_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    targets = rng.random((1500, 12)) < 0.1
    statistic = MeanAveragePrecision(rng.normal(size=targets.shape) + 2 * targets, targets.astype(int))
    sampling = Resampling(1500, 400)
    exact = sampling.replicates_of(statistic)
    assert not sampling.linear(statistic)
    monkeypatch.setattr(MeanAveragePrecision, "most_work", 1500 * 12 * 400 - 1)
    assert sampling.linear(statistic)
    assert not sampling.linear(Mean(rng.random(1500)))
    linear = sampling.replicates_of(statistic)
    assert linear.std() == pytest.approx(exact.std(), rel=0.05)
    assert np.corrcoef(linear, exact)[0, 1] > 0.95
    assert linear.mean() == pytest.approx(statistic.value, abs=0.1 * linear.std())
    # Of rows in another order, each with its image.
    order = rng.permutation(1500)
    moved = MeanAveragePrecision(statistic._scores[order], statistic._truth[order])
    np.testing.assert_allclose(sampling.replicates_of(moved, order), linear, atol=1e-12)
    monkeypatch.setattr(resampling, "BLOCK", 1500 * 7)
    np.testing.assert_allclose(Resampling(1500, 400).replicates_of(statistic), linear, atol=1e-12)


def test_too_few_values_are_the_reason_for_no_interval() -> None:
    drawn = np.array([0.5] * 94 + [np.nan] * 6)
    found = interval(0.5, drawn)
    assert (math.isnan(found.low), found.reason) == (True, "6 of 100 replicates have no value.")
    assert interval(0.5, np.r_[drawn, [0.5] * 20]).reason == ""
    assert interval(np.nan, drawn).reason == ""  # the value itself is undefined
    assert reflected_interval(0.5, drawn).reason == found.reason


def test_replicates_can_be_asked_for_as_exact_or_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    values, draws = RNG.normal(size=60), Resampling(60, 200)
    one = Spearman(values, values + RNG.normal(size=60))
    exact = draws.replicates_of(one)
    monkeypatch.setattr(Spearman, "most_work", 0)
    np.testing.assert_array_equal(draws.replicates_of(one, linear=False), exact)
    linear = draws.replicates_of(one)
    assert not np.array_equal(linear, exact)
    monkeypatch.undo()
    np.testing.assert_array_equal(draws.replicates_of(one, linear=True), linear)
    mean = lambda weights: weights @ values / weights.sum(1)  # noqa: E731
    np.testing.assert_array_equal(draws.replicates_of(mean, linear=True), draws.replicates_of(mean))  # no derivatives
