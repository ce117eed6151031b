"""Processes: whether one lives, the name of this one in files, and ending together with the parent."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import signal
import sys
import threading
from typing import Any

__all__ = ["WITH_PARENT", "end_with_parent", "lives", "machine"]

# Set in the environment of a `vice` that ends with its parent, which holds its standard input open.
WITH_PARENT = "TORCHVICE_WITH_PARENT"
PR_SET_PDEATHSIG = 1


def lives(pid: Any) -> bool:
    """Whether a process of this machine runs; false for what is no process id."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError, TypeError, ValueError):
        return False
    except PermissionError:
        pass
    return True


@functools.cache
def machine() -> str:
    """Eight hexadecimal digits that name the space of process ids: this machine, or this container on it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def end_with_parent() -> None:
    """End this process as soon as its parent ends, however that is killed.

    The parent is that of `multiprocessing`, or holds this process's standard input open: nothing else may read it.
    """
    import multiprocessing

    if sys.platform == "linux":  # at once, also while a library computes
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    wait = _read_to_the_end if parent is None else parent.join

    def watch() -> None:  # also if the parent ended before
        wait()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _read_to_the_end() -> None:
    while os.read(0, 4096):  # sys.stdin would hold a lock that the interpreter needs at exit
        pass
