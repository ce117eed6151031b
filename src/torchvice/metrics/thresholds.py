"""Thresholds: which ones are legal, and how many of them lie below a score, exactly."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array

__all__ = ["PAPER_THRESHOLDS", "SAMPLE_THRESHOLD", "Cuts", "as_cuts", "as_thresholds", "count_below"]

PAPER_THRESHOLDS = np.arange(60) / 100
PAPER_THRESHOLDS.setflags(write=False)
# The published per-image JI is taken at this threshold, whatever the curve finds.
SAMPLE_THRESHOLD = 0.1


def as_thresholds(thresholds: Any) -> np.ndarray:
    """`thresholds` as (T,) float64, checked to rise.

    Raises:
        ViceError: empty, not finite, or not rising.
    """
    array = as_array("thresholds", thresholds, 1, np.float64)
    if not len(array) or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise ViceError(f"`thresholds` must be one or more numbers that rise, but is {array.tolist()}.")
    return array


def as_cuts(thresholds: Any) -> Cuts:
    """`thresholds`, checked, in the form in which scores are compared with them.

    Raises:
        ViceError: as in `as_thresholds`.
    """
    return _cuts(as_array("thresholds", thresholds, 1, np.float64).tobytes())


@dataclass(frozen=True)
class Cuts:
    """Thresholds as they are compared: float32, and where possible as a grid.

    Attributes:
        table: (T,) float32.
        grid: (first, scale) if the table is exactly (first + t) / scale in float32, `first` a whole number.
    """

    table: np.ndarray
    grid: tuple[np.float32, np.float32] | None


@functools.lru_cache(maxsize=16)
def _cuts(thresholds: bytes) -> Cuts:
    """The checked thresholds; kept, since an image asks for the same ones as the image before."""
    table = as_thresholds(np.frombuffer(thresholds)).astype(np.float32)
    last = len(table) - 1
    if not last or table[-1] <= table[0]:
        return Cuts(table, None)
    scale = np.float32(round(last / (float(table[-1]) - float(table[0])), 2))
    first = np.rint(table[0] * scale)
    # Up to here float32 knows a hundredth of a step, which is more than the nearest threshold takes.
    if not (scale > 0 and abs(first) + last <= 65536):
        return Cuts(table, None)
    exact = np.array_equal((first + np.arange(len(table), dtype=np.float32)) / scale, table)
    return Cuts(table, (first, scale) if exact else None)


def count_below(score: np.ndarray, cuts: Cuts, count: np.ndarray) -> None:
    """Write how many thresholds lie strictly below each score: `score > table[t]` exactly where t < count.

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
