"""Check that a file exists, read JSON, and hash a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError, near_path

__all__ = ["existing_file", "read_json", "sha256"]


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
        raise ViceError(f"{what} must be a file, but {path} {problem}.", way_out or near_path(path))
    return path


def read_json(path: str | os.PathLike[str], what: str = "The JSON file") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ViceError: no such file, not JSON, or not an object.
    """
    path = existing_file(path, what)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise ViceError(f"{what} {path} must be JSON, but is not: {error}.") from None
    if not isinstance(content, dict):
        raise ViceError(f"{what} {path} must hold a JSON object, but holds a {type(content).__name__}.")
    return content


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
