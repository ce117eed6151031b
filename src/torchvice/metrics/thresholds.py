"""Thresholds: how scores are compared with them, how pixels are counted at each, and how one is held out."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length

PAPER_THRESHOLDS = np.arange(60) / 100
PAPER_THRESHOLDS.setflags(write=False)
# The published per-image JI uses this threshold, whatever the best one of the curve is.
SAMPLE_THRESHOLD = 0.1
ROUNDING = 1e-12  # relative: thresholds whose mean lies no farther below the best are as good as the best


def as_thresholds(thresholds: Any) -> np.ndarray:
    """Convert `thresholds` to (T,) float64, and check that they rise.

    Raises:
        ViceError: they are empty, not finite, or not rising.
    """
    array = as_array("thresholds", thresholds, 1, np.float64)
    if not len(array) or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise ViceError(
            f"`thresholds` must be one or more numbers that rise, but is {array.tolist()}.",
            "For example 0.3, or [0.1, 0.2, 0.3].",
        )
    return array


def as_cuts(thresholds: Any) -> Cuts:
    """Check `thresholds`, and prepare them for comparisons with scores.

    Raises:
        ViceError: see `as_thresholds`.
    """
    return _cuts(as_array("thresholds", thresholds, 1, np.float64).tobytes())


@dataclass(frozen=True)
class Cuts:
    """Thresholds in float32, and as a grid where possible.

    Attributes:
        table: (T,) float32.
        grid: (first, scale) if the table is exactly (first + t) / scale in float32, `first` a whole number.
    """

    table: np.ndarray
    grid: tuple[np.float32, np.float32] | None


@functools.lru_cache(maxsize=16)
def _cuts(thresholds: bytes) -> Cuts:
    """Check and prepare thresholds; cached, since all images use the same ones."""
    table = as_thresholds(np.frombuffer(thresholds)).astype(np.float32)
    last = len(table) - 1
    if not last or table[-1] <= table[0]:
        return Cuts(table, None)
    scale = np.float32(round(last / (float(table[-1]) - float(table[0])), 2))
    first = np.rint(table[0] * scale)
    # Up to here float32 resolves a hundredth of a step, which is enough to find the nearest threshold.
    if not (scale > 0 and abs(first) + last <= 65536):
        return Cuts(table, None)
    exact = np.array_equal((first + np.arange(len(table), dtype=np.float32)) / scale, table)
    return Cuts(table, (first, scale) if exact else None)


def count_below(score: np.ndarray, cuts: Cuts, count: np.ndarray) -> None:
    """Write the number of thresholds strictly below each score to `count`: `score > table[t]` exactly where t < count.

    On a grid, arithmetic finds the nearest threshold and a comparison decides between its two sides: as exact as
    the binary search, in a tenth of its time.
    """
    if cuts.grid is None:
        count[:] = np.searchsorted(cuts.table, score) if len(cuts.table) > 1 else score > cuts.table[0]
        return
    first, scale = cuts.grid
    with np.errstate(over="ignore"):
        near = score * scale
    np.rint(near, out=near)
    np.clip(near, first, first + np.float32(len(cuts.table) - 1), out=near)
    count[:] = near - first if first else near
    near /= scale
    count += score > near


def blocks(pixels: int) -> list[slice]:
    """Return slices that cover `pixels`, as equal as possible; one fits into the processor's cache.

    That is twice as fast as a whole image at once. Half the size costs more in calls than it gains.

    Example:
        >>> blocks(150_000)
        [slice(0, 75000, None), slice(75000, 150000, None)]
    """
    size = math.ceil(pixels / max(1, math.ceil(pixels / (1 << 17))))
    return [slice(start, min(start + size, pixels)) for start in range(0, pixels, max(1, size))]


def smallest(values: int) -> type[np.integer[Any]]:
    """Return the integer type of an index 0..values - 1; passes over pixels are faster with a small type."""
    return np.uint16 if values < 1 << 16 else np.int32 if values < 1 << 31 else np.int64


def cumulative(index: np.ndarray, values: int) -> np.ndarray:
    """Count how many entries of `index` lie below each of 0..values: a cumulative histogram, (values + 1,) int64.

    Args:
        index: (n,) integers 0..values - 1, of the type that `smallest` returns; its order is not kept.
        values: the number of possible integers.

    Example:
        >>> cumulative(np.array([2, 0, 2], np.uint16), 4)
        array([0, 1, 1, 3, 3])
    """
    if index.dtype == np.uint16 and _sorting_is_fast():
        index.sort()
        return np.searchsorted(index, np.arange(values + 1, dtype=np.uint16))
    below = np.zeros(values + 1, np.int64)
    for part in blocks(len(index)):
        below[1:] += np.bincount(index[part], minlength=values)
    return below.cumsum(out=below)


@functools.cache
def _sorting_is_fast() -> bool:
    """Whether numpy sorts 16-bit integers faster than it counts them: measured once, in a millisecond.

    With AVX-512 sorting takes a third of the time, without it many times as long, and numpy does not tell which it
    uses.
    """
    sample = (np.arange(8192) * 40503 % 4096).astype(np.uint16)

    def fastest(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    return fastest(lambda: np.sort(sample)) < fastest(lambda: np.bincount(sample))


class HeldOut:
    """The held-out threshold: the rows of a fold are measured at the threshold that the other folds' rows choose.

    A fold's threshold is the first of those with the highest mean over the rows of the other folds; a mean within
    1e-12 (relative) of the highest counts as equal to it. Where no other fold has a row, or a weight, all rows choose.

    Args:
        values: (P, T) the quality of every row at every threshold, higher is better.
        fold: (P,) whole numbers; rows of one image share a fold.
        image: (P,) the image of each row. If given, all rows of an image must have the same weight, and their values
            are summed once.

    Attributes:
        values: (P, T) float64.
        folds: (F,) the different folds, rising.
        fold: (P,) the place of every row's fold among them.

    Raises:
        ViceError: lengths that differ, no threshold, or an image in two folds.

    Example:
        >>> held_out = HeldOut([[0.1, 0.1], [0.2, 0.3], [0.4, 0.6]], [0, 0, 1])
        >>> held_out.index.tolist(), held_out.quality.tolist()
        ([1, 1, 1], [0.1, 0.3, 0.6])
    """

    def __init__(self, values: ArrayLike, fold: ArrayLike, image: ArrayLike | None = None) -> None:
        self.values = as_array("values", values, 2, np.float64)
        folds = as_array("fold", fold, 1, np.int64)
        same_length(values=self.values, fold=folds)
        if not self.values.shape[1]:
            raise ViceError("The values must be (P, T) with at least one threshold, but have none.")
        self.folds, self.fold = np.unique(folds, return_inverse=True)
        self._image = np.arange(len(folds)) if image is None else as_array("image", image, 1, None)
        same_length(values=self.values, image=self._image)

    @functools.cached_property
    def _members(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each fold: a row of each of its images (n,), the sums of the images' values (n, T), their rows (n,)."""
        _, first, image, count = np.unique(self._image, return_index=True, return_inverse=True, return_counts=True)
        if (self.fold != self.fold[first][image]).any():
            raise ViceError("All rows of an image must be in one fold, but are in several.")
        order = np.argsort(image, kind="stable")
        members = []
        for fold in range(len(self.folds)):  # one after the other, since the values of all rows take much memory
            images = np.flatnonzero(self.fold[first] == fold)
            own = order[(self.fold == fold)[order]]
            sums = np.add.reduceat(self.values[own], np.cumsum(count[images]) - count[images], axis=0)
            members.append((first[images], sums, count[images].astype(float)))
        return members

    def chosen(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Choose a threshold for each fold, as places among the T: (F,), or (b, F) for weights (b, P) of the rows."""
        if weights is None:
            return self.chosen(np.ones((1, len(self.values))))[0]
        sizes = np.zeros((len(weights), len(self.folds), 1))
        sums = np.zeros((len(weights), len(self.folds), self.values.shape[1]))
        for fold, (rows, columns, count) in enumerate(self._members):
            drawn = np.take(weights, rows, axis=1).astype(np.float64, copy=False)
            sums[:, fold], sizes[:, fold] = drawn @ columns, drawn @ count[:, None]
        best = np.zeros(sums.shape[:2], np.int64)
        for fold in range(len(self.folds)):
            others = np.arange(len(self.folds)) != fold
            total = np.where(sizes[:, others].sum(axis=1) > 0, sums[:, others].sum(axis=1), sums.sum(axis=1))
            best[:, fold] = (total >= total.max(axis=1, keepdims=True) * (1 - ROUNDING)).argmax(axis=1)
        return best

    def at(self, chosen: np.ndarray) -> np.ndarray:
        """(P,) the value of every row at the threshold of its fold; `chosen` (F,) as above."""
        return self.values[np.arange(len(self.values)), chosen[self.fold]]

    @functools.cached_property
    def index(self) -> np.ndarray:
        """(P,) the place of every row's threshold among the T, where every row counts once."""
        return self.chosen()[self.fold]

    @property
    def quality(self) -> np.ndarray:
        """(P,) the value of every row at its held-out threshold, where every row counts once."""
        return self.at(self.chosen())
