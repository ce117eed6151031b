"""Debiased squared calibration error: binned, minus the noise of the bins, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.calibration_errors import bins_of

__all__ = ["DebiasedError", "debiased_error"]

ROUNDING = 1e-24  # variances of gaps up to this are rounding errors
EVENTS_PER_BIN = 10  # below it, a bin's mean gap is not close to normal


@dataclass(frozen=True)
class DebiasedError:
    """The squared (L2) calibration error `squared`, below 0 if it is smaller than the noise, and its interval.

    `low` and `high` are at least 0; NaN if the gaps do not vary. `n` events in `bins` bins were used; `left_out` events
    were alone in their bin.
    """

    squared: float
    low: float
    high: float
    level: float
    n: int
    bins: int
    left_out: int

    @property
    def root(self) -> float:
        """The L2 error in units of a probability, 0 if `squared` is negative. Its limits are sqrt(low), sqrt(high)."""
        return math.sqrt(max(self.squared, 0.0)) if self.squared == self.squared else math.nan


def debiased_error(confidence: ArrayLike, accuracy: ArrayLike, bins: int = 20, level: float = 0.95) -> DebiasedError:
    """Debiased squared calibration error over bins of equal mass, with a normal interval.

    It is the sum over bins of n(b)/N [m(b)^2 - s2(b)/n(b)], where m(b) and s2(b) are the mean and the unbiased variance
    of accuracy - confidence in bin b. It is unbiased for the squared error of the binned model, also for fractional
    outcomes. The interval holds every error e that a normal test does not reject. The variance of the sum is
    sum (n(b)/N)^2 [4 mu(b)^2 s2/n + 2 (s2/n)^2], with the estimated mu(b)^2 scaled to the error e.

    Args:
        confidence: (N,) in [0, 1], of independent events: images, not cells.
        accuracy: (N,) in [0, 1].
        bins: maximum number of bins, also limited to one per ten events.
        level: confidence level, in (0, 1).

    Returns:
        DebiasedError; `squared` in [-1, 1], 0 is perfect; NaN with fewer than two events. Gaps that cancel within a bin
        are not detected.

    Raises:
        ViceError: lengths differ, NaN, fewer than one bin, or a level outside (0, 1).

    References:
        Kumar et al., Verified uncertainty calibration, NeurIPS 2019, for debiasing (with a(1 - a)).

    Example:
        >>> debiased_error([0.5, 0.5], [1.0, 1.0]).squared, debiased_error([0.5, 0.5], [1.0, 0.0]).squared
        (0.25, -0.25)
    """
    confidences, outcomes = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
    total = same_length(confidence=confidences, accuracy=outcomes)
    if np.isnan(confidences).any() or np.isnan(outcomes).any():
        raise ViceError("`confidence` and `accuracy` must be numbers, but hold NaN.")
    if not 0 < level < 1:
        raise ViceError(f"`level` must be in (0, 1), but is {level:g}.")
    index = bins_of(confidences, min(bins, max(1, total // EVENTS_PER_BIN)), equal_mass=True)[1]
    count = np.bincount(index, minlength=1)
    several = count > 1
    n = int(count[several].sum())
    if not n:
        return DebiasedError(math.nan, math.nan, math.nan, level, 0, 0, total)
    gap = outcomes - confidences
    mean = np.bincount(index, gap, minlength=len(count)) / np.maximum(count, 1)
    spread = np.bincount(index, np.square(gap - mean[index]), minlength=len(count))
    spread[spread < ROUNDING * count] = 0
    count, mean, spread = count[several], mean[several], spread[several]
    noise, share = spread / (count - 1) / count, count / n
    squares = mean**2 - noise
    squared = float((share * squares).sum())
    low, high = _interval(squared, squares, noise, share, level)
    return DebiasedError(squared, low, high, level, n, len(count), total - n)


def _interval(
    squared: float, squares: np.ndarray, noise: np.ndarray, share: np.ndarray, level: float
) -> tuple[float, float]:
    """The errors, at least 0, that a normal test at 1 - level does not reject; NaN if the gaps do not vary."""
    without_error = float(2 * share**2 @ noise**2)
    if not without_error:
        return math.nan, math.nan
    # The variance grows with the error. Taken at the estimate, it would be too small for low estimates, and the upper
    # limit too low. The test takes the variance at the tested error instead.
    positive = share * np.maximum(squares, 0)
    weights = positive if positive.any() else share
    growth = 4 * float(weights @ (share * noise)) / float(weights.sum())
    z = -NormalDist().inv_cdf((1 - level) / 2)
    middle = squared + z**2 * growth / 2
    reach = math.sqrt(max(0.0, middle**2 - squared**2 + z**2 * without_error))
    return max(0.0, middle - reach), max(0.0, middle + reach)
