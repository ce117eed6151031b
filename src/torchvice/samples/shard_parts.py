"""Parts of a shard: its bytes, the names in it, and the rows of an explanation."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples.columns import OPTIONAL

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Stamp", "check_names", "groups_of", "mapped", "measured_of", "read_bytes", "slug", "stamp_of"]

Stamp = tuple[int, int, int]  # of a file: its inode, bytes, and when it was written


def groups_of(columns: Mapping[str, Any], rows: int) -> Iterator[np.ndarray]:
    """The rows of each explanation, which is read without the others; at least one group, for the schema."""
    explanation = columns.get("explanation", np.zeros(rows, dtype=object))
    for name in dict.fromkeys(explanation.tolist()) or (None,):
        yield np.flatnonzero(explanation == name)


def check_names(there: Sequence[str], names: Sequence[str], *, others: bool = False) -> None:
    """Check that a shard has the columns `names`, and no others unless it may."""
    differ = set(names) - set(there) - set(OPTIONAL)
    differ |= set() if others else set(there) - set(names)
    if differ:
        raise ValueError(f"its columns differ in {', '.join(sorted(differ))}")


def stamp_of(found: os.stat_result) -> Stamp:
    """What tells a file from one that took its place."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def mapped(path: Path, stamp: Stamp) -> pa.Buffer:
    """The bytes of a file, of which only those are read that are needed.

    Raises:
        OSError: it is another file than that of the stamp.
    """
    import pyarrow as pa

    with open(path, "rb") as file:
        if stamp_of(os.fstat(file.fileno())) != stamp:
            raise OSError("it was changed while the table was being read")
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_bytes(path: Path) -> pa.Buffer:
    """The bytes of a file in memory of pyarrow's own.

    A reader's threads may let go of their memory after the reader has returned. With Python's memory they then need the
    interpreter, and if that is ending, the process is aborted (apache/arrow#34314).
    """
    import pyarrow as pa

    with open(path, "rb") as file:
        content = pa.allocate_buffer(os.fstat(file.fileno()).st_size)
        if file.readinto(memoryview(content)) < content.size:
            raise OSError(f"it ended before its {content.size} bytes")
    return content


def measured_of(text: bytes) -> dict[str, list[str]]:
    """What was measured, by explanation, from the metadata of a file."""
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(what, list) for what in found.values()):
        raise ValueError("its metadata must say what was measured of each explanation, but does not")
    return found


def slug(explanation: str) -> str:
    """The id of an explanation as part of a file name."""
    return re.sub(r"[^\w.-]", "-", explanation)
