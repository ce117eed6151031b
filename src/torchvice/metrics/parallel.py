"""Large arrays: how many threads compute them, and functions of rows that take them block by block."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from torchvice.errors import ViceError

__all__ = ["by_rows", "row_blocks", "threads"]

MOST = 8
BLOCK = 2**21  # numbers of a block
_P = ParamSpec("_P")


def threads() -> int:
    """As many as there are processors for this process, or OMP_NUM_THREADS if that is fewer; at most 8.

    numpy, hashlib and pyarrow release Python's lock while they go through large arrays.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(chosen) if chosen.isdecimal() else free, free, MOST))


def row_blocks(rows: int, width: int) -> list[slice]:
    """Slices of the rows of an array of this width, of 2^21 numbers at most; one, without rows, where there is none."""
    step = max(1, BLOCK // max(1, width))
    return [slice(first, first + step) for first in range(0, max(1, rows), step)]


def by_rows(function: Callable[_P, np.ndarray]) -> Callable[_P, np.ndarray]:
    """Compute a function of the rows of arrays in blocks of rows: the same values, in less memory.

    Args:
        function: of one or more (N, C) arrays and of settings; it returns N rows.
    """

    def is_table(one: Any) -> bool:
        return isinstance(one, np.ndarray) and one.ndim == 2

    @functools.wraps(function)
    def in_blocks(*given: Any, **settings: Any) -> np.ndarray:
        shapes = {one.shape for one in given if is_table(one)}
        if len(shapes) == 1 and is_table(given[0]) and given[0].size > BLOCK:
            try:
                parts = ([one[rows] if is_table(one) else one for one in given] for rows in row_blocks(*given[0].shape))
                return np.concatenate([function(*part, **settings) for part in parts])
            except ViceError:
                pass  # its message names a row of all, or counts all
        return function(*given, **settings)

    return in_blocks
