"""association and concordance: correlations against scipy, their edges, Kendall's jackknife against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from torchvice.errors import ViceError
from torchvice.metrics.association import (
    log_loss_pearson,
    partial_spearman,
    pearson,
    pearson_is_reliable,
    skewness_and_kurtosis,
    spearman,
    within_spearman,
)
from torchvice.metrics.concordance import _by_row, kendall, kendall_interval

LEVELS = st.integers(-4, 4).map(float)
ROWS = st.lists(st.tuples(LEVELS, LEVELS, st.integers(0, 6)), min_size=3, max_size=40)
SCIPY = {pearson: scipy.stats.pearsonr, spearman: scipy.stats.spearmanr, kendall: scipy.stats.kendalltau}


@pytest.mark.parametrize("measure", list(SCIPY))
@settings(deadline=None)
@given(rows=ROWS)
def test_correlations_are_those_of_scipy(measure: object, rows: list[tuple[float, float, int]]) -> None:
    a, b, _ = (np.array(column) for column in zip(*rows, strict=True))
    found = measure(a, b)  # type: ignore[operator]
    if np.ptp(a) and np.ptp(b):
        assert found.value == pytest.approx(SCIPY[measure](a, b).statistic, abs=1e-12)  # type: ignore[index]
        assert (found.n, found.undefined, found.reason) == (len(a), 0, "")
    else:
        assert math.isnan(found.value)
        assert "everywhere" in found.reason


def test_a_reason_names_what_is_correlated() -> None:
    assert [kendall([1.0, 2.0, last], [4.0] * 3).column for last in (3.0, np.inf)] == ["b", "a"]
    # Losses below the floor differ, but not their logarithms: what is the same everywhere is not the loss.
    found = log_loss_pearson([1e-9, 1e-8, 1e-7], [0.1, 0.2, 0.3])
    assert (found.reason, found.column) == ("-ln(loss) is 13.8155 everywhere", "-ln(loss)")


@pytest.mark.parametrize("measure", list(SCIPY))
def test_edges_have_a_reason_and_a_count(measure: object) -> None:
    def reason(a: list[float], b: list[float]) -> str:
        found = measure(a, b)  # type: ignore[operator]
        assert math.isnan(found.value)
        return found.reason

    assert reason([], []) == "0 rows, and a correlation needs three"
    assert reason([1.0, 2.0], [1.0, 2.0]) == "2 rows, and a correlation needs three"
    assert reason([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]) == "b is 4 everywhere"
    assert reason([1.0, np.inf, 3.0], [4.0, 5.0, 4.0]) == "a is infinite in 1 row"
    found = measure([1.0, 2.0, np.nan, 3.0], [1.0, 3.0, 0.0, 4.0])  # type: ignore[operator]
    assert (found.n, found.undefined) == (3, 1)
    assert found.value > 0.9
    with pytest.raises(ViceError, match="must have one length"):
        measure([1.0], [1.0, 2.0])  # type: ignore[operator]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_the_pairs_of_each_row_are_those_of_a_loop(rows: list[tuple[int, int]]) -> None:
    a, b = np.array(rows, dtype=float).T
    of_a, of_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    expected = (of_a * of_b).sum(axis=1), (of_a != 0).sum(axis=1), (of_b != 0).sum(axis=1)
    for found, own in zip(_by_row(a, b), expected, strict=True):
        np.testing.assert_array_equal(found, own)


def test_kendall_by_hand() -> None:
    # (1, 1) (2, 1) (3, 2) (3, 3): pairs 12 tied in b, 13 + 14 + 23 + 24 +, 34 tied in a: 4 / sqrt(5 * 5).
    assert kendall([1.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.0, 3.0]).value == pytest.approx(0.8)


def tau_b(a: np.ndarray, b: np.ndarray) -> float:
    return float(scipy.stats.kendalltau(a, b).statistic) if len(a) > 1 else math.nan


@settings(deadline=None)
@given(ROWS)
def test_kendall_without_each_image_is_the_plain_loop(rows: list[tuple[float, float, int]]) -> None:
    a, b, image = (np.array(column) for column in zip(*rows, strict=True))
    found = kendall_interval(a, b, image, level=0.9)
    without = np.array([tau_b(a[image != i], b[image != i]) for i in np.unique(image)])
    tau = tau_b(a, b)
    if len(without) < 3 or np.isnan(without).any() or np.isnan(tau):
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    elif abs(tau) > 1 - 1e-12:
        assert (found.low, found.high) == pytest.approx((tau, tau))
    else:
        n = len(without)
        error = math.sqrt((n - 1) * without.var()) / (1 - tau**2)
        reach = scipy.stats.norm.ppf(0.95) * error
        expected = [math.tanh(math.atanh(tau) + sign * reach) for sign in (-1, 1)]
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_one_image_with_everything_has_no_interval() -> None:
    assert math.isnan(kendall_interval(np.arange(9.0), np.arange(9.0)[::-1], np.zeros(9, int)).low)
    with pytest.raises(ViceError, match="between 0 and 1"):
        kendall_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], level=95)


@pytest.mark.parametrize("images", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_kendall_intervals_cover_what_they_promise(images: int) -> None:
    # Pairs of one image share half of both columns; tau of normals correlated by 0.5 is 2/pi asin(0.5) = 1/3.
    covered, rounds = 0, 400
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        image = np.sort(np.r_[np.arange(images), rng.integers(0, images, images // 2)])
        shared, own = rng.normal(size=(3, images)), rng.normal(size=(3, len(image)))
        ease, noise_a, noise_b = (shared[:, image] + own) / math.sqrt(2)
        found = kendall_interval(ease + noise_a, ease + noise_b, image)
        covered += found.low <= 1 / 3 <= found.high
    assert covered / rounds == pytest.approx(0.95, abs=0.03)


def test_log_loss_by_hand_and_its_floor() -> None:
    loss, quality = np.array([0.0, 1e-9, 0.1, 2.0]), np.array([0.9, 0.8, 0.6, 0.1])
    by_hand = scipy.stats.pearsonr(-np.log([1e-6, 1e-6, 0.1, 2.0]), quality).statistic
    assert log_loss_pearson(loss, quality).value == pytest.approx(by_hand, abs=1e-12)
    assert log_loss_pearson(loss, quality, floor=0.2).value != pytest.approx(by_hand, abs=1e-3)
    # The unit of the loss is no matter, as long as no loss is at the floor.
    high, rest = np.array([0.1, 2.0, 3.0]), [0.6, 0.1, 0.3]
    assert log_loss_pearson(high, rest).value == pytest.approx(log_loss_pearson(7 * high, rest).value)
    assert math.isnan(log_loss_pearson([0.0, 0.0, 1e-8], [0.1, 0.2, 0.3]).value)
    with pytest.raises(ViceError, match="must not be negative, but holds -1"):
        log_loss_pearson([-1.0, 1.0, 2.0], [0.1, 0.2, 0.3])
    with pytest.raises(ViceError, match="`floor` must be positive"):
        log_loss_pearson([1.0], [0.1], floor=0)


def test_further_columns_may_be_constant_and_may_hold_nan() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, np.nan]
    assert within_spearman(a, b, [3, 3, 3, 3]).value == 1.0
    assert within_spearman(a, b, [0, 1, 2, 3]).reason == "nothing is left to correlate"
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(3, 50))
    columns[2, 7] = np.nan
    found = partial_spearman(*columns, np.ones(50))
    assert (found.n, found.undefined) == (49, 1)
    assert abs(found.value) < 0.5


def test_moments_are_those_of_scipy() -> None:
    x = np.random.default_rng(3).lognormal(0, 1, 500)
    expected = scipy.stats.skew(x), scipy.stats.kurtosis(x)
    assert skewness_and_kurtosis(x) == pytest.approx(expected)
    assert skewness_and_kurtosis(np.r_[x * 1e200, np.nan]) == pytest.approx(expected)
    assert all(math.isnan(moment) for moment in skewness_and_kurtosis([3.0, 3.0]))
    assert all(math.isnan(moment) for moment in skewness_and_kurtosis([]))


def test_skewed_losses_are_flagged() -> None:
    rng = np.random.default_rng(4)
    assert pearson_is_reliable(rng.normal(size=1449))
    assert pearson_is_reliable(rng.random(1449))
    assert not pearson_is_reliable(rng.lognormal(0, 1.6, 1449))
    assert not pearson_is_reliable(-rng.lognormal(0, 1.6, 1449))
    assert not pearson_is_reliable(rng.standard_t(3, 1449))
    assert not pearson_is_reliable([1.0, 1.0])
