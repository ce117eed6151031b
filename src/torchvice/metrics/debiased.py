"""Debiased squared calibration error: binned, with the noise of the bins taken off, and an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.calibration_errors import bins_of

__all__ = ["DebiasedError", "debiased_error"]

ROUNDING = 1e-24  # a variance of gaps that rounding makes
EVENTS_PER_BIN = 10  # fewer, and the normal law of a bin's mean gap is a poor guess


@dataclass(frozen=True)
class DebiasedError:
    """The squared (L2) calibration error: `squared` (below 0 where there is less of it than noise), its interval.

    `low` and `high` are cut at 0, NaN where the gaps do not vary; `n` events that entered, in `bins` bins; `left_out`
    those that are alone in a bin.
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
        """The L2 error in units of a probability, 0 where `squared` is below 0; its interval ends in the roots."""
        return math.sqrt(max(self.squared, 0.0)) if self.squared == self.squared else math.nan


def debiased_error(confidence: ArrayLike, accuracy: ArrayLike, bins: int = 20, level: float = 0.95) -> DebiasedError:
    """Debiased squared calibration error over bins of equal mass, with a normal interval.

    With d = accuracy - confidence, m(b) and s2(b) the mean and the variance (n(b) - 1) of d in bin b, it is the sum
    over bins of n(b)/N [m(b)^2 - s2(b)/n(b)]: without bias for the squared error of the binned model, for outcomes
    that are fractions as well, where a(1 - a) would be too much.

    The interval holds the errors e that a test does not refuse. The bins' mean gaps are taken as independent and
    normal, so that the sum has the variance sum (n(b)/N)^2 [4 mu(b)^2 s2/n + 2 (s2/n)^2]; the true mu(b)^2 are taken
    as those found, scaled to the error e.

    Args:
        confidence: (N,) in [0, 1], of events that are independent of each other: images, not cells.
        accuracy: (N,) in [0, 1].
        bins: at most so many, and at most one for ten events.
        level: of the interval, in (0, 1).

    Returns:
        DebiasedError; `squared` in [-1, 1], 0 is perfect; NaN with fewer than two events. Miscalibration inside a bin
        that cancels is not seen.

    Raises:
        ViceError: lengths differ, NaN, fewer than one bin, or a level outside (0, 1).

    References:
        Kumar et al., Verified uncertainty calibration, NeurIPS 2019, for debiasing (with a(1 - a)).

    Example:
        >>> debiased_error([0.5, 0.5], [1.0, 1.0]).squared, debiased_error([0.5, 0.5], [1.0, 0.0]).squared
        (0.25, -0.25)
    """
    sure, right = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
    total = same_length(confidence=sure, accuracy=right)
    if np.isnan(sure).any() or np.isnan(right).any():
        raise ViceError("`confidence` and `accuracy` must be numbers, but hold NaN.")
    if not 0 < level < 1:
        raise ViceError(f"`level` must be in (0, 1), but is {level:g}.")
    index = bins_of(sure, min(bins, max(1, total // EVENTS_PER_BIN)), equal_mass=True)[1]
    count = np.bincount(index, minlength=1)
    several = count > 1
    n = int(count[several].sum())
    if not n:
        return DebiasedError(math.nan, math.nan, math.nan, level, 0, 0, total)
    gap = right - sure
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
    """The errors that a normal test at 1 - level does not refuse, cut at 0; NaN where the gaps do not vary."""
    without_error = float(2 * share**2 @ noise**2)
    if not without_error:
        return math.nan, math.nan
    from scipy.special import ndtri

    # Where the variance itself grows with the error, the estimate's own would be least where the estimate is lowest,
    # and the upper end too low: the test takes the variance at the error that it asks about.
    found = share * np.maximum(squares, 0)
    weights = found if found.any() else share
    growth = 4 * float(weights @ (share * noise)) / float(weights.sum())
    z = float(ndtri((1 + level) / 2))
    middle = squared + z**2 * growth / 2
    reach = math.sqrt(max(0.0, middle**2 - squared**2 + z**2 * without_error))
    return max(0.0, middle - reach), max(0.0, middle + reach)
