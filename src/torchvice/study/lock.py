"""Locks: one process at a time in a folder, also after a kill, also over several machines."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError

__all__ = ["locked"]

BEAT = 15.0  # seconds between two signs of life
STALE = 90.0  # seconds without one after which a holder on another machine is taken for dead


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock file inside the block.

    The kernel holds the lock and drops it with the process, so that a kill leaves nothing behind. Where a file system
    does not pass it on to other machines, the file names its holder, and its age tells whether the holder lives.

    Args:
        path: the lock file; made with its folder, and left there.
        what: what is locked, as the message names it.
        wait: for the holder to end; else it is refused.

    Raises:
        ViceError: another process holds it, and `wait` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        while not _taken(file):
            if not wait:
                raise _held(path, what)
            time.sleep(0.2)
        stop = threading.Event()
        _sign(file)
        beating = threading.Thread(target=_beat, args=(path, stop), daemon=True)
        beating.start()
        try:
            yield
        finally:
            stop.set()
            beating.join()
            file.truncate(0)


def _taken(file: Any) -> bool:
    """Take the lock if it is free."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    holder = _holder(Path(file.name))
    elsewhere = holder.get("host", platform.node()) != platform.node()
    if elsewhere and time.time() - os.fstat(file.fileno()).st_mtime < STALE:
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    return True


def _sign(file: Any) -> None:
    file.truncate(0)
    file.write(json.dumps({"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
    file.flush()


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
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
    who = (
        f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}" if holder else "another one"
    )
    return ViceError(f"{what} is at work already: {who}.", "Wait for it, or end it: a second start goes on from there.")
