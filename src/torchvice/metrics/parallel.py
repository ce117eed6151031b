"""Large arrays: how many threads compute them, and functions of rows that take them block by block."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = [
    "by_rows",
    "in_row_blocks",
    "in_threads",
    "matrix_products",
    "processors",
    "results_of",
    "row_blocks",
    "threads",
]

MOST = 8
BLOCK = 2**21  # numbers of a block
_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """As many as there are processors for this process, or OMP_NUM_THREADS if that is fewer; at most 8.

    numpy, hashlib and pyarrow release Python's lock while they go through large arrays.
    """
    chosen, free = os.environ.get("OMP_NUM_THREADS", ""), processors()
    return max(1, min(int(chosen) if chosen.isdecimal() else free, free, MOST))


def row_blocks(rows: int, width: int) -> list[slice]:
    """Slices of the rows of an array of this width, of 2^21 numbers at most; one without rows if there are no rows."""
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
                return _filled(given, lambda part: function(*part, **settings))
            except ViceError:
                pass  # its message names a row of all, or counts all
        return function(*given, **settings)

    def _filled(given: Sequence[Any], compute: Callable[[list[Any]], np.ndarray]) -> np.ndarray:
        def of_block(rows: slice) -> np.ndarray:
            return compute([one[rows] if is_table(one) else one for one in given])

        return in_row_blocks(of_block, *given[0].shape)

    return in_blocks


def in_row_blocks(compute: Callable[[slice], np.ndarray], rows: int, width: int) -> np.ndarray:
    """What a function returns for each of `row_blocks`, one array: several blocks are computed at a time."""
    first, *others = row_blocks(rows, width)
    head = compute(first)
    if not others:
        return head
    result = np.empty((rows, *head.shape[1:]), head.dtype)
    result[first] = head

    def fill(block: slice) -> None:
        result[block] = compute(block)

    in_threads(fill, others)
    return result


def in_threads(function: Callable[[_T], None], tasks: Iterable[_T]) -> None:
    """Call a function for each task, several at a time."""
    results_of(function, tasks)


def results_of(function: Callable[[_T], _R], tasks: Iterable[_T]) -> list[_R]:
    """Call a function for each task, several at a time; return what it returned, in the order of the tasks."""
    given = list(tasks)
    count = min(threads(), len(given))
    if count <= 1:
        return [function(task) for task in given]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, given))


@functools.cache
def matrix_products() -> ThreadpoolController:
    """The library of matrix products, whose threads wait for each other: small products take 30 times as long when
    other programs are running. One thread does not wait."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
