"""comparison: corrections and tests against statsmodels and scipy, matched weights against the plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from torchvice.errors import ViceError
from torchvice.metrics.comparison import holm, matched_weights, paired_p, seed_difference
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import Mean, Spearman


@settings(deadline=None, max_examples=20)  # theirs takes 50 ms
@given(st.lists(st.integers(0, 40).map(lambda value: value / 40), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-15)


def test_tests_that_could_not_be_made_do_not_count() -> None:
    np.testing.assert_array_equal(holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])
    assert holm([]).tolist() == []
    with pytest.raises(ViceError, match=r"in \[0, 1\], but holds 1.5"):
        holm([0.5, 1.5])


def test_paired_p_by_hand() -> None:
    # 3 of 99 at or below 0: 2 (1 + 3) / 100.
    replicates = np.r_[[-1.0, -2.0, 0.0], np.ones(96)]
    assert paired_p(replicates) == paired_p(-replicates) == 0.08
    assert paired_p(np.ones(1999)) == 0.001
    assert paired_p(np.zeros(99)) == 1.0
    assert math.isnan(paired_p([]))
    assert paired_p(np.r_[np.ones(95), np.full(5, np.nan)]) == pytest.approx(2 / 96)
    assert math.isnan(paired_p(np.r_[np.ones(94), np.full(6, np.nan)]))


def test_paired_p_holds_its_level_and_pairing_finds_more() -> None:
    # Two models of equal mean that share the difficulty of the images: 5 % false claims. One better by 0.1: found when
    # paired, lost when the two are drawn apart.
    false = found = unpaired = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ease, noise = rng.normal(size=100), rng.normal(size=(2, 100))
        a, b = ease + 0.2 * noise
        draws, other = Resampling(100, 399, seed), Resampling(100, 399, seed + 10_000)
        first, second = draws.replicates_of(Mean(a)), draws.replicates_of(Mean(b))
        false += paired_p(first - second) <= 0.05
        found += paired_p(first + 0.1 - second) <= 0.05
        unpaired += paired_p(first + 0.1 - other.replicates_of(Mean(b))) <= 0.05
    assert false / 200 == pytest.approx(0.05, abs=0.045)
    assert found > 150
    assert unpaired < 50


SEEDS = st.lists(st.integers(-20, 20).map(lambda value: value / 20), min_size=3, max_size=8)


@settings(deadline=None)
@given(SEEDS, SEEDS, st.sampled_from([0.8, 0.95]))
def test_without_image_variance_it_is_welchs_test_of_scipy(a: list[float], b: list[float], level: float) -> None:
    found = seed_difference(a, b, level=level)
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b))
    if np.ptp(a) or np.ptp(b):
        theirs = scipy.stats.ttest_ind(a, b, equal_var=False)
        limits = theirs.confidence_interval(level)
        assert (found.p, found.degrees) == pytest.approx((theirs.pvalue, theirs.df))
        assert (found.interval.low, found.interval.high) == pytest.approx((limits.low, limits.high))
    else:
        assert math.isnan(found.p)
        assert (found.error, found.interval.low) == (0, found.difference)


def test_image_variance_by_hand() -> None:
    # s^2 = 1 on both sides, k = 4: 1/4 + 1/4 + 0.3 + 0.2 = 1; degrees 1 / (2 (1/4)^2 / 3) = 24.
    seeds = np.array([-1.5, -0.5, 0.5, 1.5]) / math.sqrt(5 / 3)
    found = seed_difference(seeds + 2, seeds, 0.3, 0.2)
    assert (found.difference, found.error, found.degrees) == pytest.approx((2, 1, 24))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(2, 24))
    assert found.interval.high - 2 == pytest.approx(scipy.stats.t.ppf(0.975, 24))
    # Seeds that do not vary leave the images alone, and their variance is known: the normal distribution.
    still = seed_difference(np.ones(3), np.zeros(3), 0.25)
    assert (still.degrees, still.p) == (math.inf, pytest.approx(2 * scipy.stats.norm.sf(2)))


def test_no_claim_below_three_seeds() -> None:
    with pytest.raises(ViceError, match="at least 3 seeds of each, but there are 2 and 5"):
        seed_difference([0.1, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5])
    with pytest.raises(ViceError, match="Variances must be 0 or more"):
        seed_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], -0.1)
    with pytest.raises(ViceError, match="`b` must be finite"):
        seed_difference([0.1, 0.2, 0.3], [0.1, 0.2, math.nan])


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_matched_weights_give_both_models_one_distribution(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, rng.integers(1, 60)).round(1), rng.normal(1, 2, rng.integers(1, 60)).round(1)
    found = matched_weights(a, b, bins)
    edges = [-math.inf, *np.quantile(np.r_[a, b], np.arange(1, bins) / bins), math.inf]
    left = 0.0
    for low, high in itertools.pairwise(edges):
        own, other = (a > low) & (a <= high), (b > low) & (b <= high)
        common = min(own.mean(), other.mean())
        assert found.a[own].sum() / len(a) == pytest.approx(common)
        assert found.b[other].sum() / len(b) == pytest.approx(common)
        left += common
    assert found.unmatched == pytest.approx(1 - left, abs=1e-12)
    assert 0 <= found.a.min() <= found.a.max() <= 1


def test_models_that_differ_in_accuracy_alone_are_alike_where_both_have_pairs() -> None:
    # Consistency that grows with certainty, the same law for both models; the second one is surer.
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 1, 20_000), rng.normal(1.5, 1, 20_000)
    qualities = [np.maximum(z, 0) + 0.3 * rng.normal(size=20_000) for z in (a, b)]
    matched = matched_weights(a, b, bins=40)
    plain = [Spearman(z, q).value for z, q in zip((a, b), qualities, strict=True)]
    weights = matched.a[None], matched.b[None]
    fair = [Spearman(z, q)(w)[0] for z, q, w in zip((a, b), qualities, weights, strict=True)]
    assert plain[1] - plain[0] > 0.15
    assert abs(fair[1] - fair[0]) < 0.03
    # The overlap of two normals 1.5 apart is 2 Phi(-0.75).
    assert 1 - matched.unmatched == pytest.approx(2 * scipy.stats.norm.cdf(-0.75), abs=0.02)


def test_models_that_never_meet_have_no_weight() -> None:
    found = matched_weights([1.0, 2.0], [3.0, 4.0], bins=2)
    assert found.a.tolist() == found.b.tolist() == [0.0, 0.0]
    assert found.unmatched == 1.0
    assert matched_weights([1.0, 1.0], [1.0]).unmatched == 0.0
    with pytest.raises(ViceError, match="needs pairs of both models, but there are 0 and 1"):
        matched_weights([], [1.0])
    with pytest.raises(ViceError, match="`bins` must be 1 or more"):
        matched_weights([1.0], [1.0], bins=0)
