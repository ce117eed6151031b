"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError, not_utf8_error
from torchvice.files.process import lives, machine, started

__all__ = ["atomic", "atomic_folder", "check_writable", "write_json", "write_text"]

# The name of a temporary file or folder: what it becomes, the machine and the process that write it, when that started
# (not in those of earlier versions), and a number.
_PART = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)(?:-(\d+))?-[0-9a-f]{8}\.part(\.[^.]*)?", re.DOTALL)
FULL = {errno.ENOSPC, errno.EDQUOT}
WRITING = FULL | {errno.EIO, errno.EFBIG, errno.ESTALE}  # what a write raises, without the name of its file
# What torch's writer of files raises in place of an OSError: RuntimeErrors with these words.
TORCH = re.compile(r"unexpected pos|PytorchStreamWriter failed|iostream error|open file failed with strerror: (.*)")
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # of a file system that has no fsync
OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd", "/proc")  # a replaced file would not be the one that is open
ROOM = 1 << 16  # bytes: a disk with fewer is full
_cleared: set[Path] = set()


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which is renamed to `path` if the block ends without an error.

    The temporary file exists already, empty. An error of a read-only folder or a full disk names `path`. A link stays
    one, and the file that it points to is replaced. What is no file, such as /dev/null or a pipe, is written to.

    Args:
        path: the file; its folder is created if missing.
        sync: wait until the disk has the content before the rename. A power failure then leaves `path` whole or as it
            was, and disks that report errors late, such as NFS and quotas, report them here. False: for thousands of
            small files that the same command writes again.
    """
    target = Path(path)
    if _is_special(target):
        with _written_into(target) as part:
            yield part
        return
    if target.is_symlink():
        target = target.resolve()
    part = _part(target.parent, target.stem, target.suffix)
    try:
        with _naming(part, target):
            part.touch()  # what other libraries raise for a folder that refuses it is no OSError
            yield part
            if sync:
                _sync(part)
            os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):  # a read-only file system refuses even to remove what does not exist
            part.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket, or leads to an open file, as /dev/stdout does."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    file = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return not file or any(path.absolute().is_relative_to(place) for place in OPEN_FILES)


@contextlib.contextmanager
def _written_into(target: Path) -> Iterator[Path]:
    """Yield a temporary path, whose content goes into a device or a pipe if the block ends without an error."""
    with tempfile.TemporaryDirectory(prefix="torchvice-") as folder:
        part = Path(folder) / target.name
        with _naming(part, target):
            part.touch()
            yield part
            with part.open("rb") as content, target.open("ab") as place:
                shutil.copyfileobj(content, place)


def _sync(part: Path) -> None:
    """Wait until the disk has the content of a file."""
    file = os.open(part, os.O_RDWR)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(file)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder next to `path`, which is renamed to `path` if the block ends without an error, else removed.

    `path` must not exist or be an empty folder. An error of a read-only folder or a full disk names `path`.
    """
    target = Path(path).absolute()
    part = _part(target.parent, target.name)
    try:
        with _naming(part, Path(path)):
            part.mkdir()
            yield part
            if target.is_dir():
                target.rmdir()  # outside POSIX a rename does not replace an empty folder
            os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _naming(part: Path, target: Path) -> Iterator[None]:
    """Let errors of writing inside the block name `target`, not `part`, its temporary form, nor no file at all.

    A full disk is an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in WRITING:
            error.filename = str(target)
        elif isinstance(error.filename, str | os.PathLike) and Path(error.filename).is_relative_to(part):
            error.filename = str(target / Path(error.filename).relative_to(part))
        raise
    except Exception as error:
        if isinstance(error, ViceError):
            raise
        if shutil.disk_usage(part.parent).free <= ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        failed = TORCH.search(str(error)) if isinstance(error, RuntimeError) else None
        if failed is None:
            raise
        full = "No space left" in (failed[1] or "")
        reason = failed[1] or "it could not be written completely"
        raise OSError(errno.ENOSPC if full else errno.EIO, reason, str(target)) from error


def _part(folder: Path, name: str, suffix: str = "") -> Path:
    """A new temporary path in a folder, which is made; the first one there clears what killed processes left.

    The suffix stays last: numpy and matplotlib choose the format by it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.absolute() not in _cleared:
        _cleared.add(folder.absolute())
        _clear(folder)
    start = started(os.getpid())
    writer = f"{os.getpid()}" if start is None else f"{os.getpid()}-{start}"
    return folder / f".{name[:40]}.{machine()}-{writer}-{uuid.uuid4().hex[:8]}.part{suffix}"


def _clear(folder: Path) -> None:
    """Remove the temporary files and folders of processes of this machine that are dead."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            writer = _PART.fullmatch(entry.name)
            if writer is None or writer[1] != machine() or lives(writer[2], int(writer[3]) if writer[3] else None):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def check_writable(
    path: str | os.PathLike[str] | None, option: str, name: str = "", *, folder: bool = False, way_out: str = ""
) -> None:
    """Check before the work that a file, or a folder of files, can be written to a path.

    Args:
        path: what the user gave; None: nothing.
        option: of the command, that gave it.
        name: of a file, for the way out of a folder where a file is needed.
        folder: whether a folder is needed; it may not exist.
        way_out: what is added to the way out of the wrong kind of path.

    Raises:
        ViceError: a folder where a file is needed, the reverse, or a path below a file.
        OSError: a folder that must not be written to, as writing there raises it.
    """
    if path is None:
        return
    path = Path(path)
    if not folder and _is_special(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    if not folder and path.is_dir():
        raise ViceError(f"{option} must be a file, but {path} is a folder.", f"Give {option} {path / name}{way_out}.")
    if folder and path.exists() and not path.is_dir():
        raise ViceError(f"{option} must be a folder, but {path} is a file.", f"Give another path{way_out}.")
    for place in (path.absolute(), *path.absolute().parents):
        if place.is_dir():
            if not os.access(place, os.W_OK):
                reason = errno.EROFS if _is_read_only(place) else errno.EACCES
                raise OSError(reason, os.strerror(reason), str(path))
            return
        if place.exists() and place != path.absolute():
            raise ViceError(f"{option} must lie in a folder, but {place} is a file.", "Give another path.")


def _is_read_only(place: Path) -> bool:
    """Whether a file system must not be written to at all."""
    return hasattr(os, "statvfs") and bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8, completely or not at all.

    Raises:
        ViceError: `text` cannot be encoded, for example because it holds a file name that is not UTF-8.
    """
    with atomic(path) as part:
        try:
            part.write_text(text, encoding="utf-8")
        except UnicodeEncodeError as error:
            raise not_utf8_error(error) from None
    return Path(path)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write strict JSON (no NaN, no infinity), completely or not at all."""
    return write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
