"""What a command wrote about a dataset next to it, read again and checked against the dataset's own lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torchvice.errors import ViceError

__all__ = ["read_written"]

Written = TypeVar("Written")


def read_written(file: Path, kind: type[Written], lengths: Callable[[Written], Mapping[str, int]]) -> Written:
    """Read the description of a dataset that is complete; the file may have been edited since.

    Args:
        file: JSON with the fields of `kind`, in the dataset's folder.
        kind: a dataclass.
        lengths: gives the number of lines of each list in the folder, by its name.

    Raises:
        ViceError: the file has other fields, or a list has another number of lines.
    """
    from pydantic import TypeAdapter, ValidationError

    way_out = "Give another folder, or remove this dataset and write it again."
    try:
        written = TypeAdapter(kind).validate_json(file.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ViceError(f"{file} must describe the dataset, but {where} is wrong: {first['msg']}.", way_out) from None
    for name, length in lengths(written).items():
        path = file.parent / name
        lines = len(path.read_text("utf-8", "replace").splitlines()) if path.is_file() else 0
        if lines != length:
            raise ViceError(f"{path} must have {length} lines, as {file.name} counts, but has {lines}.", way_out)
    return written
