"""Columns that stay on disk until they are asked for: a table of a million images is measured column by column."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from torchvice.metrics.parallel import threads
from torchvice.samples.columns import FEATURES, Images, Maps, Regions, narrowed

__all__ = ["StoredColumns", "stored"]

_Part = TypeVar("_Part", Images, Regions, Maps)
# From the place of a file, the names of columns and the first and last of its groups of rows: these columns.
Reader = Callable[[int, list[str], int, int], dict[str, np.ndarray]]

KEYS = ("image_id", "view", "explanation", "label", "status", "mask_pixels", "height", "width", "has_mask")
WIDE: tuple[tuple[str, ...], ...] = (("predicted", "intersection"), ("inside", "outside"), ("box_iou",))
WIDE += (("peak_features",), ("targets",), ("logits",), ("map",))


class StoredColumns:
    """The columns of a part of the table in files, each of several groups of rows.

    Args:
        kind: Images, Regions or Maps.
        groups: of each file, the numbers of rows of its groups.
        read: see `Reader`.
    """

    def __init__(self, kind: type, groups: Sequence[Sequence[int]], read: Reader) -> None:
        self.kind, self.read = kind, read
        self.names = [column.name for column in fields(kind)]
        self.edges = [np.cumsum([0, *rows]) for rows in groups]
        self.starts = np.cumsum([0, *(int(edges[-1]) for edges in self.edges)])

    def columns(self, name: str, rows: np.ndarray | None) -> dict[str, np.ndarray]:
        """A column of some rows, or of all; with it those that are mostly wanted together with it.

        Args:
            name: of the column.
            rows: (R,) places among all rows, in any order; None: all.

        Returns:
            {name: (R,) or (R, n)}.
        """
        names = self._with(name, alone=rows is None)
        order = None if rows is None or (np.diff(rows) > 0).all() else np.argsort(rows, kind="stable")
        rising = np.arange(self.starts[-1]) if rows is None else rows if order is None else rows[order]
        edges = np.searchsorted(rising, self.starts)
        tasks = [
            (place, rising[first:last] - self.starts[place])
            for place, (first, last) in enumerate(itertools.pairwise(edges.tolist()))
            if last > first
        ] or [(0, np.zeros(0, np.int64))]
        with ThreadPoolExecutor(threads()) as pool:
            parts = list(pool.map(lambda task: self._of_file(task[0], task[1], names), tasks))
        found = {}
        for one in names:
            column = np.concatenate([part.pop(one) for part in parts])
            if order is not None:
                given, column = column, np.empty_like(column)
                column[order] = given
            found[one] = column
        return found

    def _with(self, name: str, alone: bool) -> list[str]:
        for bundle in (KEYS, *WIDE):
            if name in bundle:
                return [one for one in bundle if one in self.names]
        rest = {*self.names}.difference(KEYS, *WIDE)
        return [name] if alone else [one for one in self.names if one in rest]

    def _of_file(self, place: int, rows: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        edges = self.edges[place]
        ends = (int(rows[0]), int(rows[-1])) if len(rows) else (0, 0)
        first, last = int(np.searchsorted(edges, ends[0], side="right")) - 1, int(np.searchsorted(edges, ends[1] + 1))
        last = min(last, len(edges) - 1)
        columns = self.read(place, names, first, last)
        count, rows = int(edges[last] - edges[first]), rows - edges[first]
        whole = len(rows) == count
        given = {name: narrowed(name, columns[name]) if name in columns else _absent(name, count) for name in names}
        return given if whole else {name: column[rows] for name, column in given.items()}


def _absent(name: str, rows: int) -> np.ndarray:
    """A column that tables of earlier versions lack."""
    if name.endswith("digest"):
        return np.full(rows, "", dtype=object)
    return np.full((rows, FEATURES), np.nan, np.float32) if name == "peak_features" else np.full(rows, np.nan)


class _Stored:
    """A part whose columns are read at first use; `where` selects rows, and keeps what was read of them.

    To others it looks like the plain part: `vars` and `dataclasses.replace` read all columns.
    """

    _source: StoredColumns
    _rows: np.ndarray | None
    _known: dict[str, np.ndarray]

    def __init__(self, source: StoredColumns, rows: np.ndarray | None = None, **known: np.ndarray) -> None:
        for name, value in (("_source", source), ("_rows", rows), ("_known", known)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(self._source.starts[-1]) if self._rows is None else len(self._rows)

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_") or name not in self._source.names:
            raise AttributeError(f"{self._source.kind.__name__!r} has no attribute {name!r}")
        if name not in self._known:
            self._known.update(self._source.columns(name, self._rows))
        return self._known[name]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._source.kind

    @property
    def __dict__(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        return {name: getattr(self, name) for name in self._source.names}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its columns, which another process may not find on its disk."""
        return self._source.kind, tuple(self.__dict__.values())

    def where(self, rows: np.ndarray) -> Any:
        """Select rows by a boolean mask or an index array."""
        rows = np.arange(len(self))[rows]
        known = {name: column[rows] for name, column in self._known.items()}
        return type(self)(self._source, rows if self._rows is None else self._rows[rows], **known)

    def release(self, *names: str) -> None:
        """Let go of columns, which are read again when they are asked for."""
        for name in names:
            self._known.pop(name, None)

    def emptied(self, *names: str) -> Any:
        """The same rows with columns of width 0 in place of these wide ones."""
        nothing = dict.fromkeys(names, np.zeros((len(self), 0), np.int32))
        return type(self)(self._source, self._rows, **{**self._known, **nothing})


class _StoredImages(_Stored, Images):
    pass


class _StoredRegions(_Stored, Regions):
    pass


class _StoredMaps(_Stored, Maps):
    pass


def stored(source: StoredColumns) -> Any:
    """The part of these columns, an `Images`, `Regions` or `Maps` that reads each at its first use."""
    return {Images: _StoredImages, Regions: _StoredRegions, Maps: _StoredMaps}[source.kind](source)
