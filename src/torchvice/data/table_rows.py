"""Rows of a Hugging Face dataset with the names of their class labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchvice.errors import to_numpy

__all__ = ["TableRows"]


class TableRows:
    """The rows of a table of Hugging Face, whose features name the classes.

    Args:
        table: has `features` and gives a dictionary for an index.
        keys: names of columns that may hold labels.

    Attributes:
        classes: names of the classes; only where a feature names them.
    """

    def __init__(self, table: Any, keys: Sequence[str]) -> None:
        self.table = table
        # ClassLabel has `names`; a list of them has it in `feature`.
        labels = {name: _label_names(feature) for name, feature in (table.features or {}).items()}
        self._names = {name: names for name, names in labels.items() if names and name in keys}
        if self._names:
            self.classes = next(iter(self._names.values()))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._named(self.table[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._named, self.table)

    def _named(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A row with the names of its labels; lists, and arrays of the formats of numpy and torch."""
        row = dict(given)
        for name, names in self._names.items():
            value = to_numpy(row.get(name))
            if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
                row[name] = [names[int(place)] for place in value]
        return row


def _label_names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)
    inner = feature[0] if isinstance(feature, list) and feature else inner
    return getattr(inner, "names", None)
