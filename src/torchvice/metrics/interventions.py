"""What a classifier still finds on changed images: with the object gone, with the background gone, with noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, brief, same_length
from torchvice.metrics.ranks import running_sums
from torchvice.metrics.weighted import WeightedStatistic, finite_column

__all__ = [
    "ForegroundSensitivity",
    "Median",
    "median_fall",
    "relative_foreground_sensitivity",
    "share_lost",
    "share_still_found",
]


def share_still_found(before: ArrayLike, after: ArrayLike) -> float:
    """Share of the labels found on the whole image that are still found on the changed one.

    Args:
        before: (P,) margin of each label on the whole image; it is found where this is above 0.
        after: (P,) margin on the changed image; NaN where it was not measured, and left out.

    Returns:
        In [0, 1]; NaN where no label was found and measured.

    Raises:
        ViceError: columns of different lengths.

    Example:
        >>> share_still_found([2.0, 1.0, 3.0, -1.0], [0.5, -2.0, float("nan"), 1.0])
        0.5
    """
    first, second = _margins(before, after)
    rows = (first > 0) & ~np.isnan(second)
    return float((second[rows] > 0).mean()) if rows.any() else math.nan


def share_lost(before: ArrayLike, after: ArrayLike) -> float:
    """Share of the labels found on the whole image that are not found on the changed one: 1 - `share_still_found`.

    Example:
        >>> share_lost([2.0, 1.0, 3.0, -1.0], [0.5, -2.0, -0.1, 1.0]).__round__(3)
        0.667
    """
    return 1 - share_still_found(before, after)


def median_fall(before: ArrayLike, after: ArrayLike) -> float:
    """Median of before - after over the labels found on the whole image, in the unit of the margins; see
    `share_still_found`.

    Example:
        >>> median_fall([2.0, 1.0, 3.0, -1.0], [0.5, -2.0, 1.0, 1.0])
        2.0
    """
    first, second = _margins(before, after)
    rows = (first > 0) & ~np.isnan(second)
    return float(np.median(first[rows] - second[rows])) if rows.any() else math.nan


def _margins(before: ArrayLike, after: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = as_array("before", before, 1, float), as_array("after", after, 1, float)
    same_length(before=first, after=second)
    return first, second


def relative_foreground_sensitivity(foreground_changed: float, background_changed: float) -> float:
    """Relative foreground sensitivity, (a_bg - a_fg) / (2 min(a, 1 - a)), a = (a_fg + a_bg) / 2.

    Noise on the part that a model uses costs it accuracy: above 0 the foreground matters more, below 0 the background.
    The denominator is the largest difference that the mean accuracy a allows, so that the result is in [-1, 1].

    Args:
        foreground_changed: a_fg, the accuracy in [0, 1] on images whose foreground (the object) has noise or is gone.
        background_changed: a_bg, the accuracy on images whose background has noise or is gone.

    Returns:
        NaN where a is 0 or 1: nothing can differ.

    Raises:
        ViceError: an accuracy outside [0, 1].

    References:
        Moayeri, Pope, Balaji, Feizi: A comprehensive study of image classification model sensitivity to foregrounds,
        backgrounds, and visual attributes. CVPR 2022. Moayeri, Singla, Feizi: Hard ImageNet. NeurIPS 2022.

    Example:
        >>> relative_foreground_sensitivity(0.25, 0.75), relative_foreground_sensitivity(0.5, 0.5)
        (0.5, 0.0)
    """
    for name, value in (("foreground_changed", foreground_changed), ("background_changed", background_changed)):
        if not 0 <= as_array(name, value, 0) <= 1:
            raise ViceError(f"`{name}` must be in [0, 1], but is {brief(value)}.")
    return float(_sensitivity(np.array(foreground_changed), np.array(background_changed)))


def _sensitivity(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The formula, clipped to [-1, 1] against rounding."""
    mean = (foreground + background) / 2
    most = 2 * np.minimum(mean, 1 - mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(most > 0, np.clip((background - foreground) / most, -1, 1), np.nan)


class ForegroundSensitivity(WeightedStatistic):
    """`relative_foreground_sensitivity` of weighted rows.

    Args:
        foreground_changed: (P,) whether each label is found on the image whose object is changed.
        background_changed: (P,) whether it is found on the image whose background is changed.

    Example:
        >>> rfs = ForegroundSensitivity([0, 0, 0, 1], [1, 1, 0, 1])
        >>> rfs(np.array([[1, 1, 1, 1], [0, 0, 1, 1]])).tolist()
        [0.5, 0.0]
    """

    def __init__(self, foreground_changed: ArrayLike, background_changed: ArrayLike) -> None:
        parts = (
            finite_column("foreground_changed", foreground_changed),
            finite_column("background_changed", background_changed),
        )
        self.rows = same_length(foreground_changed=parts[0], background_changed=parts[1])
        self._parts = np.stack([*parts, np.ones(self.rows)])

    def _values(self, weights: np.ndarray) -> np.ndarray:
        foreground, background, total = (weights @ self._parts.T).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return _sensitivity(foreground / total, background / total)

    def linear(self) -> tuple[float, np.ndarray] | None:
        (foreground, background), total = self._parts[:2], self.rows
        mean_of = foreground.mean(), background.mean()
        value = float(_sensitivity(*mean_of))
        if np.isnan(value):
            return None
        # (b - f) / (f + b), or, where the mean is above one half, the same of 1 - b and 1 - f.
        low, high = mean_of if sum(mean_of) <= 1 else (1 - mean_of[1], 1 - mean_of[0])
        of_low, of_high = -2 * high / (low + high) ** 2, 2 * low / (low + high) ** 2
        of_foreground, of_background = (of_low, of_high) if sum(mean_of) <= 1 else (-of_high, -of_low)
        change = of_foreground * (foreground - mean_of[0]) + of_background * (background - mean_of[1])
        return value, change / total


class Median(WeightedStatistic):
    """The median of rows repeated by whole weights.

    Example:
        >>> Median([1.0, 5.0, 2.0])(np.array([[1, 1, 1], [1, 3, 0], [1, 1, 0]])).tolist()
        [2.0, 5.0, 3.0]
    """

    def __init__(self, values: ArrayLike) -> None:
        column = finite_column("values", values)
        self.rows = len(column)
        self._order = np.argsort(column, kind="stable")
        self._sorted = column[self._order]

    def _values(self, weights: np.ndarray) -> np.ndarray:
        below = running_sums(np.take(weights, self._order, axis=1))
        half = below[:, -1:] / 2
        # The two middle rows; the same one where their number is odd.
        low, high = (below >= half).argmax(axis=1), (below > half).argmax(axis=1)
        return np.where(half[:, 0] > 0, (self._sorted[low] + self._sorted[high]) / 2, np.nan)

    def linear(self) -> tuple[float, np.ndarray] | None:
        """The level 1/2 of the median among all rows, and its change: the fall of the share at or below the median.

        References:
            Bahadur: A note on quantiles in large samples, Annals of Mathematical Statistics 1966.
        """
        below = np.empty(self.rows)
        below[self._order] = self._sorted <= np.median(self._sorted)
        return 0.5, (below.mean() - below) / self.rows

    def of_linear(self, values: np.ndarray) -> np.ndarray:
        """The value of all rows at each level."""
        return np.quantile(self._sorted, np.clip(values, 0, 1), method="averaged_inverted_cdf")
