"""Two things at once, one in a copy of the process: where arrays are too small for threads."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

from torchvice.metrics.parallel import matrix_products, threads

__all__ = ["at_once"]

PATIENCE = 30.0  # seconds that a copy is waited for, in addition to three times as long as it took until then
PART = 2**20  # bytes that are read at once
_T = TypeVar("_T")


def at_once(here: Callable[[], None], there: Callable[[], _T]) -> _T:
    """Do one thing in this process and another in a copy of it; return what the latter returns.

    Threads share Python's lock, and on small arrays mostly wait for it; a copy has its own, and shares the memory until
    one of both writes to it. Without a copy one is done after the other, with the same result: on other systems than
    Linux, with one processor or OMP_NUM_THREADS=1, and beside other threads or a loaded torch, whose locks might never
    be opened in the copy. If the copy dies or takes too long, its work is done here. Products of matrices have one
    thread in each process.

    Args:
        here: done in this process.
        there: returns what can be pickled, changes nothing that the caller needs, and prints nothing.

    Example:
        >>> found = []
        >>> at_once(lambda: found.append(1), lambda: 2), found
        (2, [1])
    """
    if sys.platform != "linux" or threads() < 2 or threading.active_count() > 1 or "torch" in sys.modules:
        here()
        return there()
    with matrix_products().limit(limits=1):
        copy, pipe = _copied(there)
        begun, content = time.monotonic(), b""
        try:
            here()
            content = _read(pipe, PATIENCE + 3 * (time.monotonic() - begun))
        finally:
            os.close(pipe)
            os.kill(copy, signal.SIGKILL)  # it has ended, or is not waited for any more
            os.waitpid(copy, 0)
        try:
            result: _T = pickle.loads(content)
            return result
        except (EOFError, pickle.UnpicklingError):
            pass
        return there()


def _copied(work: Callable[[], object]) -> tuple[int, int]:
    """Begin work in a copy of this process; return its id and the pipe that the pickled result comes through."""
    read, write = os.pipe()
    with warnings.catch_warnings():  # Python 3.12 warns of any thread, such as those of pyarrow, which survive a copy
        warnings.simplefilter("ignore", DeprecationWarning)
        copy = os.fork()
    if copy:
        os.close(write)
        return copy, read
    try:
        result = pickle.dumps(work(), protocol=pickle.HIGHEST_PROTOCOL)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(result)
    finally:
        os._exit(0)  # at once, also with an error: the original does the work again, and raises it


def _read(pipe: int, wait: float) -> bytes:
    """What comes through the pipe until it is closed; not all, if nothing comes for as long as `wait` in seconds."""
    parts: list[bytes] = []
    while select.select([pipe], [], [], wait)[0] and (part := os.read(pipe, PART)):
        parts.append(part)
    return b"".join(parts)
