"""A dataset's folder while it is being built: complete in the end, or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from torchvice.errors import ViceError

__all__ = ["building"]

PART = ".vice-data.part"


@contextlib.contextmanager
def building(root: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder whose entries `names` are moved to `root`, in this order, if the block ends without an error.

    The last entry marks the dataset as complete. The next build removes what a killed one left; an error leaves
    nothing.

    Raises:
        ViceError: `root` holds one of the names, another process builds it, or the disk is full.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _opened(root / ".vice-data.lock") as lock:
        _lock(lock, root)
        try:
            with _parts(root, names) as part:
                yield part
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ViceError(
                f"The disk is full; nothing of the dataset was kept in {root}.", "Free some space."
            ) from None
        finally:
            (root / ".vice-data.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _parts(root: Path, names: Sequence[str]) -> Iterator[Path]:
    part = root / PART
    taken = [name for name in names if (root / name).exists()]
    if taken and not part.is_dir():
        raise ViceError(
            f"{root} already holds {', '.join(taken)}.",
            "Give another folder, or remove them.",
        )
    part.mkdir(exist_ok=True)
    _clear(part)
    try:
        yield part
        for name in names:
            _remove(root / name)
            os.replace(part / name, root / name)
        taken = []
    finally:
        _clear(part)
        # Next to what a killed build had moved, the empty folder marks that it may be replaced.
        if not taken:
            part.rmdir()


def _opened(lock: Path) -> IO[str]:
    try:
        return lock.open("w")
    except OSError as error:
        error.filename = str(lock.parent)  # the user does not know the lock
        raise


def _lock(file: IO[str], root: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ViceError(f"Another process is building the dataset in {root}.", "Wait until it has finished.") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        _remove(entry)
