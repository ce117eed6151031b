"""smoothing: smooth ECE against the sum over reflected kernels and against its authors' package."""

from __future__ import annotations

import math

import numpy as np
import pytest
import relplot

from torchvice.errors import ViceError
from torchvice.metrics import smooth_ece


def warped(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sure = rng.random(n)
    return sure, (rng.random(n) < np.where(sure < 0.5, sure**2, np.sqrt(sure))).astype(float)


def plain(sure: np.ndarray, right: np.ndarray, bandwidth: float) -> float:
    """Midpoint rule over the residuals under a Gaussian and its mirror images at 0 and 1, 2 and -1, ..."""
    t = (np.arange(4000) + 0.5)[:, None] / 4000
    total = np.zeros(4000)
    for shift in range(-8, 9, 2):
        for place in (sure + shift, shift - sure):
            bell = np.exp(-(((t - place) / bandwidth) ** 2) / 2) / bandwidth / math.sqrt(2 * math.pi)
            total += (bell * (sure - right)).mean(axis=1)
    return float(np.abs(total).mean())


@pytest.mark.parametrize("bandwidth", [0.01, 0.05, 0.3, 1.0])
def test_a_fixed_bandwidth_is_the_plain_sum(bandwidth: float) -> None:
    sure, right = warped(200)
    assert smooth_ece(sure, right, bandwidth) == pytest.approx(plain(sure, right, bandwidth), abs=2e-5)


def test_the_bandwidth_is_its_own_error() -> None:
    sure, right = warped(500)
    found = smooth_ece(sure, right)
    assert found == pytest.approx(plain(sure, right, found), abs=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_near_to_the_authors_package(seed: int) -> None:
    sure, right = warped(2000, seed)
    # Theirs stops the search at a thousandth and adds a little to the density.
    assert smooth_ece(sure, right) == pytest.approx(relplot.smECE(sure, right), abs=2e-3)


def test_by_hand() -> None:
    # One confidence: the residuals cannot be told apart at any bandwidth, and it is the size of their mean.
    assert smooth_ece([0.3, 0.3], [1.0, 1.0]) == pytest.approx(0.7)
    assert smooth_ece([0.3] * 10, [1.0] * 3 + [0.0] * 7) == pytest.approx(0, abs=1e-6)
    assert smooth_ece([0.0, 1.0], [1.0, 0.0], 0.01) == pytest.approx(1)
    assert smooth_ece([0.0, 1.0], [0.0, 1.0]) == pytest.approx(0, abs=1e-6)
    # Opposite residuals at both ends are told apart as long as the bandwidth is small against 1.
    assert smooth_ece([0.0, 1.0], [1.0, 0.0], 1.0) < 0.02


def test_it_falls_with_the_bandwidth_and_hangs_on_no_order() -> None:
    sure, right = warped(300)
    errors = [smooth_ece(sure, right, s) for s in (0.003, 0.01, 0.03, 0.1, 0.3)]
    assert errors == sorted(errors, reverse=True)
    rows = np.random.default_rng(1).permutation(300)
    assert smooth_ece(sure[rows], right[rows]) == pytest.approx(smooth_ece(sure, right), abs=1e-12)
    assert smooth_ece(np.tile(sure, 3), np.tile(right, 3)) == pytest.approx(smooth_ece(sure, right), abs=1e-12)
    # Mirrored confidences and outcomes have mirrored residuals.
    assert smooth_ece(1 - sure, 1 - right) == pytest.approx(smooth_ece(sure, right), abs=1e-9)


def test_a_calibrated_model_comes_near_to_0() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(200_000)
    assert smooth_ece(sure, rng.random(200_000) < sure) < 0.01


def test_edges() -> None:
    assert math.isnan(smooth_ece([], []))
    assert smooth_ece([0.25], [1.0]) == pytest.approx(0.75)
    with pytest.raises(ViceError, match=r"`confidence` must lie in \[0, 1\]"):
        smooth_ece([1.5], [1.0])
    with pytest.raises(ViceError, match=r"`accuracy` must lie in \[0, 1\]"):
        smooth_ece([0.5], [float("nan")])
    with pytest.raises(ViceError, match="`bandwidth` must be above 0"):
        smooth_ece([0.5], [1.0], 0.0)
    with pytest.raises(ViceError, match="one length"):
        smooth_ece([0.5], [1.0, 0.0])
