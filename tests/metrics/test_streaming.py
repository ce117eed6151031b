"""One-pass statistics against two passes in exact arithmetic, and against the diagram that sees all rows at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchvice.errors import ViceError
from torchvice.metrics import reliability, vice
from torchvice.metrics.streaming import BinnedCalibration, CoMoments


def exact_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Two passes over the very numbers that float64 holds, without rounding before the last quotient."""
    a, b = ([Fraction(float(value)) for value in column] for column in (first, second))
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    moments = [sum((x - m) * (y - k) for x, y in zip(p, q, strict=True)) for p, q, m, k in
               ((a, b, mean_a, mean_b), (a, a, mean_a, mean_a), (b, b, mean_b, mean_b))]  # fmt: skip
    square = moments[0] ** 2 / (moments[1] * moments[2])  # its root is rounded once
    return math.copysign(math.sqrt(float(square)), moments[0])


def one_pass(first: np.ndarray, second: np.ndarray, cuts: list[int]) -> CoMoments:
    moments = CoMoments()
    for a, b in zip(np.split(first, cuts), np.split(second, cuts), strict=True):
        moments.add(a, b)
    return moments


def pair(rng: np.random.Generator, n: int, mean: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=n)
    return mean + spread * x, 0.5 * x + rng.normal(size=n)


@pytest.mark.parametrize(
    ("mean", "spread"),
    [(0.0, 1.0), (1e9, 1e-3), (-1e12, 1.0), (1e-9, 1e-12), (0.0, 1e100), (0.0, 1e-100), (3e15, 40.0)],
)
@pytest.mark.parametrize("cuts", [[], [1], [2, 3, 700, 701], list(range(1, 1000))])
def test_ill_scaled_columns_agree_with_exact_arithmetic(mean: float, spread: float, cuts: list[int]) -> None:
    a, b = pair(np.random.default_rng(1), 1000, mean, spread)
    assert one_pass(a, b, cuts).correlation() == pytest.approx(exact_correlation(a, b), abs=1e-13)


def test_a_mean_in_float64_would_not_do() -> None:
    """What the origin is for: Chan's formula on plain float64 means misses 1e-10 on the same columns."""
    a, b = pair(np.random.default_rng(1), 1000, 1e9, 1e-3)
    mean, moment, co, other, mean_b = 0.0, 0.0, 0.0, 0.0, 0.0
    for n, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True), start=1):
        delta, delta_b = x - mean, y - mean_b
        mean, mean_b = mean + delta / n, mean_b + delta_b / n
        moment, other, co = moment + delta * (x - mean), other + delta_b * (y - mean_b), co + delta * (y - mean_b)
    assert abs(co / math.sqrt(moment * other) - exact_correlation(a, b)) > 1e-10


def test_drift_and_far_origins() -> None:
    """Batches whose means lie far apart, the first row an outlier."""
    rng = np.random.default_rng(2)
    a = np.concatenate([[1e15], *(level + rng.normal(size=200) for level in (0.0, 1e3, -1e6, 1e9))])
    b = np.concatenate([[5.0], rng.normal(size=800)])
    assert one_pass(a, b, [1, 201, 401, 601]).correlation() == pytest.approx(exact_correlation(a, b), abs=1e-13)
    assert one_pass(a, b, []).correlation() == pytest.approx(exact_correlation(a, b), abs=1e-13)
    assert one_pass(a[1:], b[1:], [200, 400, 600]).correlation() == pytest.approx(
        exact_correlation(a[1:], b[1:]), abs=1e-13
    )


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_any_tree_of_merges_is_one_pass(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = pair(rng, 60, 1e9, 1e-3)
    parts = [one_pass(x, y, []) for x, y in zip(np.split(a, sorted(cuts)), np.split(b, sorted(cuts)), strict=True)]
    rng.shuffle(parts)
    while len(parts) > 1:
        first = parts.pop(int(rng.integers(len(parts))))
        parts[int(rng.integers(len(parts)))].merge(first)
    assert parts[0].n == 60
    assert parts[0].correlation() == pytest.approx(exact_correlation(a, b), abs=1e-13)
    assert parts[0].mean == pytest.approx([a.mean(), b.mean()])
    assert parts[0].moment == pytest.approx([a.var() * 60, b.var() * 60], rel=1e-6)


def test_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-1, 1, 0): products 1 + 0 + 0, squares 2 and 2.
    moments = one_pass(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 1.0]), [2])
    assert (moments.n, moments.mean.tolist(), moments.moment.tolist(), moments.comoment) == (3, [2, 1], [2, 2], 1)
    assert moments.correlation() == pytest.approx(0.5)
    loss, ji = np.array([0.3, 0.1, 0.9, 0.5]), np.array([0.6, 0.9, 0.2, 0.1])
    assert -one_pass(loss, ji, [3]).correlation() == pytest.approx(vice(loss, ji).value, abs=1e-15)


def test_merging_leaves_the_other_alone_and_the_array_is_the_whole_state() -> None:
    a, b = one_pass(np.arange(5.0), np.arange(5.0) ** 2, []), one_pass(np.arange(3.0), np.ones(3), [])
    before = b.to_array()
    a.merge(b)
    a.add([9.0], [1.0])
    np.testing.assert_array_equal(b.to_array(), before)
    np.testing.assert_array_equal(CoMoments.from_array(a.to_array()).to_array(), a.to_array())
    with pytest.raises(ViceError, match="nine"):
        CoMoments.from_array([1.0])


def test_undefined_rows_are_counted_and_infinity_is_refused_whole() -> None:
    moments = one_pass(np.array([1.0, np.nan, 2.0, 3.0]), np.array([0.0, 1.0, np.nan, 1.0]), [])
    assert (moments.n, moments.undefined) == (2, 2)
    with pytest.raises(ViceError, match="hold infinity"):
        moments.add([1.0, np.inf], [1.0, 1.0])
    assert (moments.n, moments.undefined) == (2, 2)
    with pytest.raises(ViceError, match="at least three rows, but 2"):
        moments.correlation()
    moments.add([], [])
    moments.add([4.0], [0.5])
    assert moments.correlation() == pytest.approx(np.corrcoef([1, 3, 4], [0, 1, 0.5])[0, 1])
    assert np.isnan(CoMoments().mean).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.1])
def test_a_constant_column_is_told_however_it_is_cut(value: float) -> None:
    with pytest.raises(ViceError, match="`second` must vary"):
        one_pass(np.arange(7.0), np.full(7, value), [2, 3]).correlation()


def test_lengths_must_agree() -> None:
    for add in (CoMoments().add, BinnedCalibration().add):
        with pytest.raises(ViceError, match="one length"):
            add([1.0, 2.0], [1.0])


# ---- calibration


def same(found: BinnedCalibration, confidence: np.ndarray, accuracy: np.ndarray, close: Callable[..., None]) -> None:
    one, whole = found.reliability(), reliability(confidence, accuracy, len(found.count), found.protocol)
    for name, value in vars(whole).items():
        close(getattr(one, name), value, err_msg=name)


@pytest.mark.parametrize("protocol", ["paper", "strict"])
@pytest.mark.parametrize("cuts", [[], [1, 1, 40], list(range(1, 300, 7))])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_streamed_diagram_is_the_diagram_to_the_last_bit(protocol: str, cuts: list[int], undefined: bool) -> None:
    rng = np.random.default_rng(3)
    sure, right = rng.random(300), rng.choice([0, 0.5, 1 / 3, 1], 300)
    sure[:6] = [0.0, 1.0, 0.05, 0.45, np.float32(0.45), 0.5]  # edges, and outside
    if undefined:
        right[40], sure[50] = np.nan, np.nan
    binned = BinnedCalibration(20, protocol)  # type: ignore[arg-type]
    for a, b in zip(np.split(sure, cuts), np.split(right, cuts), strict=True):
        binned.add(a, b)
    same(binned, sure, right, np.testing.assert_array_equal)


def test_merged_diagrams_agree_to_rounding() -> None:
    rng = np.random.default_rng(4)
    sure, right = rng.random(500), rng.random(500)
    parts = [BinnedCalibration(), BinnedCalibration(), BinnedCalibration()]
    for part, rows in zip(parts, ([], range(100), range(100, 500)), strict=True):
        part.add(sure[list(rows)], right[list(rows)])
    for part in parts[1:]:
        parts[0].merge(part)
    same(parts[0], sure, right, lambda a, b, err_msg: np.testing.assert_allclose(a, b, rtol=1e-13, err_msg=err_msg))
    assert np.isnan(BinnedCalibration().reliability().ece)
    with pytest.raises(ViceError, match="same bins and protocol"):
        parts[0].merge(BinnedCalibration(10))
    with pytest.raises(ViceError, match="same bins and protocol"):
        parts[0].merge(BinnedCalibration(20, "strict"))
