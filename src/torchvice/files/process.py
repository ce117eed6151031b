"""Processes: whether one lives, this one's name in files and memory, ending with the parent, and pools of them."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, TypeVar

from torchvice.errors import ViceError

__all__ = [
    "WITH_PARENT",
    "end_with_parent",
    "give_back_memory",
    "in_processes",
    "keep_freed_memory",
    "lives",
    "machine",
    "started",
]

# Set in the environment of a `vice` that ends with its parent, which holds its standard input open.
WITH_PARENT = "TORCHVICE_WITH_PARENT"
PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
OF_MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
ENDED = ("Z", "X")  # the states of a process that only waits to be counted as ended
_Job = TypeVar("_Job")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def lives(pid: Any, start: int | None = None) -> bool:
    """Whether a process of this machine runs; false for what is no process id.

    On Linux one that was killed and that its parent has not waited for does not run. It keeps its id, in a container
    whose first process waits for nobody for as long as that runs.

    Args:
        pid: of the process.
        start: its `started`: one that started at another time has been given the id of one that ended. None: not known.
    """
    try:
        pid = int(pid)
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError, TypeError, ValueError):
        return False
    except PermissionError:
        pass
    state, began = _state_and_start(pid)
    return state not in ENDED and (start is None or began is None or began == start)


def started(pid: int) -> int | None:
    """When a process of this machine started, in the clock ticks of the kernel; None where that is not known."""
    return _state_and_start(pid)[1]


def _state_and_start(pid: int) -> tuple[str, int | None]:
    """The letter of the kernel for the state of a process, and when it started; "" and None outside Linux."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            told = file.read().rpartition(b")")[2].split()  # the name before may hold anything
        return told[0].decode(), int(told[19])
    except (OSError, ValueError, IndexError):
        return "", None


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
    that took half of the CPU time of an EfficientNet-B0 (benchmarks/freed_memory.py). Without effect where the
    environment sets how glibc does this (`OF_MALLOC`), and where there is no glibc.
    """
    mallopt = None if any(os.environ.get(name) for name in OF_MALLOC) else _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Give the memory that was freed in this process back to the system; without effect where there is no glibc.

    Networks of many shapes leave gaps of many sizes in memory that is kept: without this, a process that had assessed
    103 networks held 5.2 GB, of which 0.9 GB were in use.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has no such function."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):  # such as musl
        return None
    return found


def _read_to_the_end() -> None:
    while os.read(0, 4096):  # sys.stdin would hold a lock that the interpreter needs at exit
        pass


def in_processes(
    function: Callable[[_Job, _Task], _Result], job: _Job, tasks: Sequence[_Task], processes: int, way_out: str
) -> Iterator[_Result]:
    """The results of a function of a job and each task, in the order of the tasks, from several processes.

    Args:
        function: of a module, so that other processes find it.
        job: what all tasks have in common.
        tasks: what differs.
        processes: how many; with 1, or one task, this process computes them.
        way_out: how a user asks for one process, for the error.

    Raises:
        ViceError: a process died.
    """
    processes = min(processes, len(tasks))
    if processes <= 1:
        yield from map(function, repeat(job), tasks)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    try:
        with ProcessPoolExecutor(processes, initializer=end_with_parent) as pool:
            yield from pool.map(function, repeat(job), tasks)
    except BrokenProcessPool:
        raise ViceError(
            f"A worker process of {processes} died: out of memory, or the script has no `if __name__ == '__main__':`.",
            way_out,
        ) from None
