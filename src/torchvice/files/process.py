"""Processes: whether one lives, the name of this one in files, its memory, and ending together with the parent."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import signal
import sys
import threading
from typing import Any

__all__ = ["WITH_PARENT", "end_with_parent", "keep_freed_memory", "lives", "machine"]

# Set in the environment of a `vice` that ends with its parent, which holds its standard input open.
WITH_PARENT = "TORCHVICE_WITH_PARENT"
PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
OF_MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


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


def keep_freed_memory() -> None:
    """Keep memory that was freed in this process, rather than give it back and be given the same again, cleared.

    A network on a CPU frees the result of each layer. glibc gives back every large one, and the system clears the next:
    that took half of the time of an EfficientNet-B0. Without effect where the environment sets how glibc does this
    (`OF_MALLOC`), and where there is no glibc.
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in OF_MALLOC):
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # such as musl
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _read_to_the_end() -> None:
    while os.read(0, 4096):  # sys.stdin would hold a lock that the interpreter needs at exit
        pass
