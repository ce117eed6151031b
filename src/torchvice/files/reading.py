"""Check that a file exists, read JSON, and hash a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError, near_path

__all__ = ["check_folder_free", "existing_file", "read_json", "sha256"]

RESTORE = "Restore the file from a copy, or write it again."
_LOGS = (".log", ".out", ".err", ".txt")


def existing_file(path: str | os.PathLike[str], what: str, way_out: str = "") -> Path:
    """Return `path` if it is a file.

    Raises:
        ViceError: it is not; `what` names it in the message.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        if path.is_symlink():
            target = path.parent / os.readlink(path)
            raise ViceError(f"{what} must be a file, but {path} is a link to {target}, which {problem}.", way_out)
        raise ViceError(
            f"{what} must be a file, but {path} {problem}.", way_out or near_path(path, folder=False) or _place(path)
        )
    return path


def _place(path: Path) -> str:
    """The way out where no file of a similar name is near."""
    if path.is_dir():
        return "Give the path of a file."
    return "Check the path." if path.is_absolute() else f"Check the path; it starts from {Path.cwd()}."


def check_folder_free(folder: str | os.PathLike[str], own: Sequence[str], what: str) -> None:
    """Check that a folder for output is new or empty, or holds earlier output.

    Hidden files, and logs that a shell or a scheduler keeps next to the output, do not count.

    Args:
        folder: may not exist.
        own: patterns of names, one of which is in every folder with such output.
        what: the output, as the message names it.

    Raises:
        ViceError: the folder holds other things alone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    names = [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    others = [name for name in names if not name.endswith(_LOGS)]
    if others and not any(fnmatch(name, pattern) for name in names for pattern in own):
        raise ViceError(
            f"{what} must be written to a new or empty folder, or one with earlier output, but {folder} holds "
            f"other things: {', '.join(others[:3])}{' ...' if len(others) > 3 else ''}.",
            "Give a new or empty folder.",
        )


def read_json(path: str | os.PathLike[str], what: str = "The JSON file", way_out: str = "") -> dict[str, Any]:
    """Read a JSON file that holds an object; `way_out` is that of a file that does not.

    Raises:
        ViceError: no such file, not JSON, or not an object.
    """
    path = existing_file(path, what)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise ViceError(f"{what} {path} must be JSON, but is not: {error}.", way_out or RESTORE) from None
    if not isinstance(content, dict):
        raise ViceError(
            f"{what} {path} must hold a JSON object, but holds a {type(content).__name__}.", way_out or RESTORE
        )
    return content


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
