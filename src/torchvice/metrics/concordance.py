"""Kendall's tau-b in O(n log n), with a jackknife interval over images."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.association import Association, complete_rows, why_undefined
from torchvice.metrics.resampling import Interval

__all__ = ["kendall", "kendall_interval", "kendall_with_interval"]

FEWEST_IMAGES = 3  # below which there is no interval


def kendall(a: ArrayLike, b: ArrayLike) -> Association:
    """Kendall's tau-b: concordant minus discordant pairs of rows, corrected for ties in both columns.

    tau-b = (concordant - discordant) / sqrt((pairs - tied in a) (pairs - tied in b)), in O(n log n).

    Args:
        a: (P,) first column; rows with NaN are left out and counted.
        b: (P,) second column.

    Returns:
        Association; undefined with fewer than three rows, an infinite value, or a constant column.

    Raises:
        ViceError: lengths differ.

    References:
        Kendall: The treatment of ties in ranking problems, Biometrika 1945. scipy.stats.kendalltau.

    Example:
        >>> round(kendall([1.0, 2.0, 3.0], [0.1, 0.3, 0.2]).value, 3)
        0.333
    """
    (first, second), undefined = complete_rows(a=a, b=b)
    reason, column = why_undefined({"a": first, "b": second})
    if reason:
        return Association(float("nan"), len(first), undefined, reason, column)
    return Association(float(_tau(*(part.sum() / 2 for part in _by_row(first, second)))), len(first), undefined)


def kendall_interval(a: ArrayLike, b: ArrayLike, cluster: ArrayLike | None = None, level: float = 0.95) -> Interval:
    """Confidence interval of Kendall's tau-b from the jackknife over images.

    The jackknife leaves out one image with all its rows. Its standard error applies to artanh(tau), which keeps the
    limits within [-1, 1]. If tau is 1 or -1, both limits are tau.

    Args:
        a: (P,) first column; rows with NaN are left out.
        b: (P,) second column.
        cluster: (P,) integers, the image of each row; None: every row is an image.
        level: in (0, 1).

    Returns:
        Interval, method "jackknife"; NaN if tau-b is undefined, also without some image, or with fewer than three
        images.

    Raises:
        ViceError: lengths differ, or a level outside (0, 1).

    References:
        Efron, Stein: The jackknife estimate of variance, Annals of Statistics 1981.

    Example:
        >>> interval = kendall_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 2.0, 4.0, 6.0, 5.0])
        >>> round(interval.low, 2), round(interval.high, 2)
        (0.04, 0.95)
    """
    return kendall_with_interval(a, b, cluster, level)[1]


def kendall_with_interval(
    a: ArrayLike, b: ArrayLike, cluster: ArrayLike | None = None, level: float = 0.95
) -> tuple[Association, Interval]:
    """What `kendall` and `kendall_interval` return, with the pairs of rows counted once for both.

    Rows whose `cluster` is NaN are left out of both.

    Example:
        >>> found, interval = kendall_with_interval([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
        >>> found.value, interval.low
        (1.0, 1.0)
    """
    if not 0 < level < 1:
        raise ViceError(f"`level` must be between 0 and 1, but is {level:g}.", "95 % is 0.95.")
    images = np.arange(len(as_array("a", a, 1))) if cluster is None else cluster
    (first, second, image), undefined = complete_rows(a=a, b=b, cluster=as_array("cluster", images, 1, np.int64))
    reason, column = why_undefined({"a": first, "b": second})
    unknown = Interval(np.nan, np.nan, level, "jackknife")
    if reason:
        return Association(float("nan"), len(first), undefined, reason, column), unknown
    rows = _by_row(first, second)
    found = Association(float(_tau(*(part.sum() / 2 for part in rows))), len(first), undefined)
    number = np.unique(image, return_inverse=True)[1]
    n = int(number.max()) + 1
    if n < FEWEST_IMAGES:
        return found, unknown
    left = [
        part.sum() / 2 - np.bincount(number, part) + own
        for part, own in zip(rows, _inside(first, second, number), strict=True)
    ]
    return found, _jackknife_interval(found.value, _tau(*left), level)


def _jackknife_interval(tau: float, without: np.ndarray, level: float) -> Interval:
    """The interval from tau `without` each image in turn: (N,)."""
    if missing := int(np.isnan(without).sum()):
        reason = f"Without {'one' if missing == 1 else f'any of {missing}'} of {len(without)} images tau is undefined."
        return Interval(np.nan, np.nan, level, "jackknife", missing, reason)
    if abs(tau) == 1:
        return Interval(tau, tau, level, "jackknife")
    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()) / (1 - tau**2)
    reach = -NormalDist().inv_cdf((1 - level) / 2) * error
    low, high = np.tanh(np.arctanh(tau) + np.array([-reach, reach]))
    return Interval(float(low), float(high), level, "jackknife")


Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _tau(balance: np.ndarray, untied_a: np.ndarray, untied_b: np.ndarray) -> np.ndarray:
    """tau-b from concordant minus discordant pairs and the untied pairs of each column; NaN without untied pairs."""
    together = np.asarray(untied_a * untied_b, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(together > 0, np.clip(balance / np.sqrt(together), -1, 1), np.nan)


def _by_row(a: np.ndarray, b: np.ndarray) -> Parts:
    """Count the pairs of each row with all others: concordant minus discordant, not tied in a, not tied in b.

    The sums over the rows count every pair twice.
    """
    (a, at_a), (b, at_b) = _dense(a), _dense(b)
    n = len(a)
    below, below_a, below_b = _below(a, b), _smaller(a), _smaller(b)
    # Around a row the others lie below, at or above it in a and in b. One of the nine kinds is counted above; ties in
    # one column and in both give the others.
    place, at_both = _dense(a * n + b)
    at_a_below_b = _smaller(place) - below_a
    below_a_at_b = _smaller(_dense(b * n + a)[0]) - below_b
    discordant = (below_a - below_a_at_b - below) + (below_b - at_a_below_b - below)
    untied = n - at_a - at_b + at_both
    return (untied - 2 * discordant).astype(float), (n - at_a).astype(float), (n - at_b).astype(float)


def _dense(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dense ranks from 0, and for every row the number of rows with the same value, itself included."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return place, count[place]


def _smaller(place: np.ndarray) -> np.ndarray:
    """For every row, the number of rows with a smaller dense rank."""
    count = np.bincount(place)
    return (np.cumsum(count) - count)[place]


def _below(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For every row, count the rows that are smaller in both columns (integers from 0).

    Rows are sorted by a; among equal a the larger b comes first, so every earlier row with a smaller b has a smaller a.
    Then b is compared bit by bit from the highest: of two rows with equal higher bits, the one without the bit is
    smaller. Rows with equal higher bits stand together, in the order of a: each bit parts them in two.
    """
    rows = np.lexsort((-b, a))
    values, smaller, place = b[rows], np.zeros(len(a), np.int64), np.arange(len(a))
    starts = np.zeros(1, np.int64)
    for bit in range(int(b.max()).bit_length() - 1, -1, -1):
        sizes = np.diff(starts, append=len(rows))
        low = 1 - (values >> bit & 1)
        lows = np.add.reduceat(low, starts)
        before = np.cumsum(low) - low
        before -= np.repeat(before[starts], sizes)  # how many earlier rows of the same group lack the bit
        smaller[rows] += np.where(low == 0, before, 0)
        first = np.repeat(starts, sizes)
        to = np.where(low == 1, first + before, place - before + np.repeat(lows, sizes))
        moved, moved_values = np.empty_like(rows), np.empty_like(values)
        moved[to], moved_values[to] = rows, values
        rows, values = moved, moved_values
        starts = np.flatnonzero(np.diff(values >> bit, prepend=-1))
    return smaller


def _inside(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> Parts:
    """The counts of `_by_row` over the pairs of rows within each image, each pair once."""
    order = np.argsort(image, kind="stable")
    a, b, image = a[order], b[order], image[order]
    parts = tuple(np.zeros(int(image[-1]) + 1) for _ in range(3))
    signs: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
        lambda x, y: np.sign(x) * np.sign(y),
        lambda x, y: x != 0,
        lambda x, y: y != 0,
    )
    for distance in range(1, int(np.bincount(image).max())):
        same = image[distance:] == image[:-distance]
        x, y = (a[distance:] - a[:-distance])[same], (b[distance:] - b[:-distance])[same]
        for part, sign in zip(parts, signs, strict=True):
            part += np.bincount(image[distance:][same], sign(x, y), minlength=len(part))
    return parts  # type: ignore[return-value]
