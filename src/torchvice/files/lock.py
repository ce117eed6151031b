"""Locks: one process at a time in a folder, also after a kill, also over several machines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from torchvice.errors import ViceError
from torchvice.files.process import lives, started

__all__ = ["is_locked", "locked"]

BEAT = 15.0  # seconds between two signs of life
STALE = 90.0  # seconds without one after which a holder on another machine counts as dead
# What flock raises where a file system has no locks.
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EREMOTEIO}
_open: set[IO[str]] = set()  # the lock files of this process


def _close_in_child() -> None:
    """Close the locks in a forked child, such as a worker that reads images: it would hold them after a kill."""
    while _open:
        _open.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], what: str, wait: bool = False, keep: bool = True) -> Iterator[None]:
    """Hold a lock file inside the block.

    The kernel holds the lock and drops it with the process, so that a kill leaves nothing locked. Where the file system
    has no locks, or does not share them with other machines, the file names its holder, and its age, compared with that
    of a file just written next to it, tells whether the holder lives.

    Args:
        path: the lock file; made with its folder.
        what: what is locked, as the message names it.
        wait: wait until the lock is free, instead of raising.
        keep: leave the lock file there, empty; else it is removed at the end.

    Raises:
        ViceError: another process holds it, and `wait` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while (held := _try(path)) is None:
        if not wait:
            raise _held(path, what)
        time.sleep(0.2)
    file, taken = held
    stop = threading.Event()
    signed = [path] if taken == "kernel" else [path, _claim(path)]
    beating = threading.Thread(target=_beat, args=(signed, stop), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        if not file.closed:  # as it is in a forked child: the lock is its parent's
            _release(file, path, taken, keep)


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether a process holds the lock file; false where the file does not exist."""
    if not Path(path).is_file():
        return False
    try:
        with locked(path, "It"):
            return False
    except ViceError:
        return True


def _try(path: Path) -> tuple[IO[str], str] | None:
    """Open the lock file and take the lock, see `_take`; None if another process holds it."""
    while True:
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - `locked` closes it
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                error.filename = str(path.parent)  # the user does not know the lock
            raise
        _open.add(file)
        taken = None
        try:
            taken = _take(file, path)
            if taken == "claim" or (taken and _is_there(file, path)):
                return file, taken
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path.parent)
            with contextlib.suppress(OSError):  # what could not be written is tried again
                _close(file)
            raise
        _close(file)
        if not taken:
            return None  # else its last holder removed the file between opening and taking it


def _release(file: IO[str], path: Path, taken: str, keep: bool) -> None:
    """Give the lock back; the work is done, so that a file that cannot be emptied or removed is left as it is."""
    with contextlib.suppress(OSError):
        file.truncate(0)
    if not keep:
        with contextlib.suppress(OSError):  # Windows refuses to remove open files
            path.unlink()
    if taken == "claim":
        with contextlib.suppress(OSError):  # the next process sees that its holder is dead
            _claim(path).unlink(missing_ok=True)
    _close(file)


def _is_there(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _close(file: IO[str]) -> None:
    _open.discard(file)
    file.close()


def _take(file: IO[str], path: Path) -> str | None:
    """Take the lock if it is free, and write down who holds it; returns what holds it, "kernel" or "claim"."""
    held = _flock(file)
    if held is False:
        return None
    holder = _holder(path)
    if held and holder.get("host", platform.node()) != platform.node() and not _is_stale(path):
        _unlock(file)  # the kernel's lock is of this machine alone
        return None
    if held is None and not _exclusive(_claim(path)):
        return None
    file.truncate(0)
    file.write(_signature())
    file.flush()
    return "kernel" if held else "claim"


def _flock(file: IO[str]) -> bool | None:
    """Whether the kernel gives the lock; None where it has none to give."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def _unlock(file: IO[str]) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)


def _claim(path: Path) -> Path:
    """The file whose exclusive creation is the lock where the kernel has none."""
    return path.with_name(f"{path.name}.held")


def _exclusive(claim: Path) -> bool:
    """Create the file unless it exists; one whose holder is dead is moved away first, by one process alone."""
    holder = _holder(claim)
    here = holder.get("host") == platform.node()
    if claim.exists() and (not lives(holder.get("pid"), holder.get("start")) if here else _is_stale(claim)):
        aside = claim.with_name(f"{claim.name}.{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(claim, aside)
            aside.unlink()
    try:
        with open(claim, "x", encoding="utf-8") as file:
            file.write(_signature())
    except FileExistsError:
        return False
    return True


def _is_stale(path: Path) -> bool:
    """Whether a file is older than STALE by the clock of its own file system, which may differ from ours."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime >= STALE
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _signature() -> str:
    holder = {"host": platform.node(), "pid": os.getpid(), "start": started(os.getpid())}
    return json.dumps(holder | {"since": time.strftime("%Y-%m-%d %H:%M:%S")})


def _beat(paths: list[Path], stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        for path in paths:
            with contextlib.suppress(OSError):
                os.utime(path)


def _holder(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _held(path: Path, what: str) -> ViceError:
    holder = _holder(path)
    process = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
    return ViceError(
        f"{what} is already running: {process if holder else 'another process'}.",
        "Wait until it ends, or end it, and run the same command again: it resumes there.",
    )
