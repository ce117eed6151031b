"""Exact Spearman correlation of any number of rows: in memory while they fit, sorted in files of a folder beyond."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, as_vice_error, same_length
from torchvice.metrics.ranks import midranks

__all__ = ["RankCorrelation"]

BYTES = 16  # of a row on disk: two float64
LIMIT = 3_000_000_000  # rows: the square of the number must be an int64
CHUNK = 1 << 20  # rows that are written or read at a time


class RankCorrelation:
    """Spearman correlation of two columns, added batch by batch: exact, ties on the middle rank.

    Up to `in_memory` rows stay in memory. More rows go to files: sorted into ranges of the first column, ranked range
    by range, sorted into ranges of the second column and ranked again. This takes up to 100 bytes of memory for each of
    `in_memory` rows, 16 bytes of disk for every row, and time that is linear in the rows. All sums are sums of integers
    and exact: the value has the same bits in any order of the rows, in memory and on disk.

    Args:
        rows: the most rows that will be added, so that a disk that is too small is refused early. None: unknown.
        temporary: folder for the files. None: that of the system (`TMPDIR`). `close`, or the end of a `with` block,
            removes the files.
        in_memory: most rows in memory.

    Attributes:
        n: number of rows without NaN.
        undefined: number of rows with a NaN, which are only counted.

    References:
        scipy.stats.spearmanr gives the same number.

    Example:
        >>> with RankCorrelation() as ranks:
        ...     ranks.add([0.1, 0.4], [0.8, 0.5])
        ...     ranks.add([0.9], [0.1])
        ...     ranks.correlation()
        -1.0
    """

    def __init__(
        self, rows: int | None = None, temporary: str | os.PathLike[str] | None = None, in_memory: int = 1 << 22
    ) -> None:
        if in_memory < 1:
            raise ViceError(f"`in_memory` must be at least 1 row, but is {in_memory}.")
        self.n = 0
        self.undefined = 0
        self._rows, self._in_memory, self._temporary = rows or 0, in_memory, temporary
        self._kept: list[np.ndarray] = []  # (b, 2) rows that are not in files
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._by: list[_Ranges] = []  # the rows in ranges of the first column, and of the second
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self._value: float | None = None

    def __enter__(self) -> RankCorrelation:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files."""
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, first: ArrayLike, second: ArrayLike) -> None:
        """Add a batch of rows.

        Args:
            first, second: (N,) columns. A row with a NaN is counted in `undefined`.

        Raises:
            ViceError: lengths differ, an infinite number, no room on the disk, or rows after `correlation`.
        """
        a, b = as_array("first", first, 1), as_array("second", second, 1)
        same_length(first=a, second=b)
        if self._value is not None:
            raise ViceError("All rows must be added before `correlation`, but these come after it.")
        batch = np.stack([a, b], axis=1)
        if np.isinf(batch).any():
            raise ViceError("`first` and `second` must be finite, but hold infinity.")
        batch = batch[~np.isnan(batch).any(axis=1)]
        self.undefined += len(a) - len(batch)
        if self.n + len(batch) > LIMIT:
            raise ViceError(f"A rank correlation takes at most {LIMIT:,} rows, but has {self.n + len(batch):,}.")
        if len(batch):
            self.n += len(batch)
            self._low, self._high = np.minimum(self._low, batch.min(axis=0)), np.maximum(self._high, batch.max(axis=0))
            self._kept.append(batch)
            if sum(map(len, self._kept)) > (CHUNK if self._by else self._in_memory):
                self._spill()

    def correlation(self) -> float:
        """Compute the correlation, in [-1, 1]. No rows can be added afterwards.

        Raises:
            ViceError: fewer than three rows, a column that does not vary, or no room on the disk.
        """
        if self._value is None:
            if self.n < 3:
                raise ViceError(f"A correlation needs at least three rows, but {self.n} are defined.")
            for name, low, high in zip(("first", "second"), self._low, self._high, strict=True):
                if low == high:
                    raise ViceError(f"`{name}` must vary over the rows, but is {low:g} everywhere.")
            product, *squares = self._sums_on_disk() if self._by else self._sums_in_memory()
            self._value = min(1.0, max(-1.0, product / math.sqrt(squares[0] * squares[1])))
        return self._value

    def _spill(self) -> None:
        """Move the rows in memory to the files, which the first call makes."""
        kept = np.concatenate([np.zeros((0, 2)), *self._kept])
        self._kept.clear()
        with self._disk():
            if not self._by:
                self._folder = tempfile.TemporaryDirectory(prefix="torchvice-ranks-", dir=self._temporary)
                free = shutil.disk_usage(self._folder.name).free
                if free < BYTES * max(self._rows, self.n):
                    raise self._no_room(f"{free / 1e9:.3g} GB are free")
                self._by = [_Ranges(Path(self._folder.name, str(side)), kept[:, side]) for side in (0, 1)]
            self._by[0].write(kept)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turn errors of writing the files into a ViceError."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (self._no_room("the disk is full") if full else as_vice_error(error) or error) from None

    def _no_room(self, state: str) -> ViceError:
        folder = tempfile.gettempdir() if self._temporary is None else self._temporary
        rows = max(self._rows, self.n)
        return ViceError(
            f"The ranks of {rows:,} rows need {BYTES * rows / 1e9:.3g} GB in {folder}, but {state}.",
            "Give a folder on a larger disk: temporary=FOLDER, or the environment variable TMPDIR.",
        )

    def _sums_in_memory(self) -> tuple[int, int, int]:
        """The sum of the products of both ranks, and the sums of their squares; ranks are centred and doubled."""
        kept = np.concatenate(self._kept)
        self._kept.clear()
        first, second = (_doubled(midranks(kept[:, side]), 0, self.n) for side in (0, 1))
        return _exact_dot(first, second), _exact_dot(first, first), _exact_dot(second, second)

    def _sums_on_disk(self) -> tuple[int, int, int]:
        """As `_sums_in_memory`. The first column's ranks take the place of its values in the files."""
        self._spill()
        product = first_square = second_square = 0
        with self._disk():
            for rank, second in self._ranked(self._by[0]):
                first_square += _exact_dot(rank, rank)
                self._by[1].write(np.stack([second, rank], axis=1))
            for rank, first in self._ranked(self._by[1]):
                second_square += _exact_dot(rank, rank)
                product += _exact_dot(rank, first)
        return product, first_square, second_square

    def _ranked(self, ranges: _Ranges) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the ranks of the column that orders the ranges, and the other column, piece by piece."""
        below = 0
        for path, rows, tied in ranges.leaves(self._in_memory):
            if tied:
                for piece in _taken(path):
                    yield np.full(len(piece), 2.0 * below + rows - self.n), piece[:, 1]
            else:
                piece = np.concatenate(list(_taken(path)))
                yield _doubled(midranks(piece[:, 0]), below, self.n), piece[:, 1]
            below += rows


class _Ranges:
    """Rows in files, one for each range of the first column and one for each value that parts two ranges.

    Rows that share one value, however many, end up in one file or in a range that its other values can split further.

    Args:
        folder: of the files.
        sample: values of which the limits of the ranges are taken, at equal counts.
        limits: how many at most.
    """

    def __init__(self, folder: Path, sample: np.ndarray, limits: int = 255) -> None:
        folder.mkdir()
        self.folder = folder
        ordered = np.sort(sample[:: max(1, len(sample) // CHUNK)])
        self.splitters = np.unique(ordered[np.linspace(0, len(ordered) - 1, min(255, limits)).round().astype(int)])
        self.counts = np.zeros(2 * len(self.splitters) + 1, np.int64)

    def write(self, rows: np.ndarray) -> None:
        """Append (P, 2) rows to the files."""
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            place = np.searchsorted(self.splitters, chunk[:, 0])
            equal = self.splitters[np.minimum(place, len(self.splitters) - 1)] == chunk[:, 0]
            index = (2 * place + equal).astype(np.uint16)
            chunk, counts = chunk[np.argsort(index, kind="stable")], np.bincount(index, minlength=len(self.counts))
            ends = np.cumsum(counts)
            for number in np.flatnonzero(counts):
                with open(self.folder / str(number), "ab") as file:
                    file.write(chunk[ends[number] - counts[number] : ends[number]].data)
            self.counts += counts

    def leaves(self, most: int) -> Iterator[tuple[Path, int, bool]]:
        """Yield path, rows, and whether all rows have one value, in order; only files of one value exceed `most`."""
        for number in np.flatnonzero(self.counts):
            path, rows, tied = self.folder / str(number), int(self.counts[number]), bool(number % 2)
            if tied or rows <= most:
                yield path, rows, tied
                continue
            sample = np.memmap(path, np.float64, "r", shape=(rows, 2))[:: max(1, rows // CHUNK), 0]
            inner = _Ranges(path.with_name(f"{number}-"), np.array(sample), 1 + 2 * rows // most)
            del sample
            for piece in _taken(path):
                inner.write(piece)
            yield from inner.leaves(most)


def _taken(path: Path) -> Iterator[np.ndarray]:
    """Yield the rows of a file from its end, (P, 2), and free their place on the disk; at the end remove the file."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - BYTES * CHUNK)
            file.seek(start)
            rows = np.fromfile(file, np.float64, (size - start) // 8).reshape(-1, 2)
            file.truncate(start)
            size = start
            yield rows
    path.unlink()


def _doubled(ranks: np.ndarray, below: int, n: int) -> np.ndarray:
    """Twice the distance of ranks from their mean, whole numbers: `below` rows come before the first of n."""
    return 2 * ranks + (2 * below - (n + 1))


def _exact_dot(first: np.ndarray, second: np.ndarray) -> int:
    """The exact sum of the products of two columns of whole numbers."""
    total = 0
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        products = first[part].astype(np.int64) * second[part].astype(np.int64)
        total += (int((products >> 32).sum()) << 32) + int((products & 0xFFFFFFFF).sum())
    return total
