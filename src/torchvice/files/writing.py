"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchvice.errors import not_utf8_error

__all__ = ["atomic", "atomic_folder", "write_json", "write_text"]


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which is renamed to `path` if the block ends without an error.

    An OSError of the temporary file, such as that of a read-only folder, names `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: numpy and matplotlib choose the format by it.
    part = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.part{target.suffix}")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == str(part):
            error.filename = str(target)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder next to `path`, which is renamed to `path` if the block ends without an error, else removed.

    `path` must not exist or be an empty folder.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.absolute().with_name(f".{target.absolute().name}.{uuid.uuid4().hex[:8]}.part")
    part.mkdir()
    try:
        yield part
        if target.is_dir():
            target.rmdir()  # outside POSIX a rename does not replace an empty folder
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
