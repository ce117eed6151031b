"""Lock files: one process at a time in a folder, on one or several machines; a kill releases the lock."""

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

BEAT = 15.0  # seconds between two heartbeats
STALE = 90.0  # seconds without a heartbeat after which a holder on another machine counts as dead


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock file inside the block.

    The kernel releases the lock with the process, also after a kill. On file systems that do not share locks between
    machines, the file names its holder, and its modification time is the holder's heartbeat.

    Args:
        path: the lock file; created with its folder, and not removed.
        what: word for what is locked in messages, such as "The study runs/x".
        wait: wait for the holder to end instead of raising.

    Raises:
        ViceError: another process holds the lock, and `wait` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        while not _acquire(file):
            if not wait:
                raise _held_error(path, what)
            time.sleep(0.2)
        stop = threading.Event()
        holder = {"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        heartbeat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            stop.set()
            heartbeat.join()
            file.truncate(0)


def _acquire(file: Any) -> bool:
    """Take the lock if it is free; returns whether it was."""
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


def _held_error(path: Path, what: str) -> ViceError:
    holder = _holder(path)
    who = (
        f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        if holder
        else "another process"
    )
    return ViceError(f"{what} is already running: {who}.", "Wait for it, or stop it and start again: it resumes.")
