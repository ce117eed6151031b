"""Check that a file exists, read JSON, and hash a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError

__all__ = ["existing_file", "read_json", "sha256"]


def existing_file(path: str | os.PathLike[str], what: str, way_out: str = "") -> Path:
    """`path`, if a file is there.

    Raises:
        ViceError: no such file; `what` names it in the sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise ViceError(f"{what} must be a file, but there is none at {path}.", way_out)
    return path


def read_json(path: str | os.PathLike[str], what: str = "The JSON file") -> dict[str, Any]:
    """The object in a JSON file.

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
    """The hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
