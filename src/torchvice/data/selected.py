"""SelectedClasses: a dataset of which only some classes are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torchvice.data.dataset import FolderDataset
from torchvice.errors import ViceError, did_you_mean
from torchvice.metrics.overlap import void_of

__all__ = ["SelectedClasses", "select_classes"]


def select_classes(dataset: FolderDataset, names: Sequence[str]) -> FolderDataset:
    """The dataset with these classes alone, or itself if they are all of its classes.

    Args:
        dataset: the whole.
        names: of its classes, in its order.

    Raises:
        ViceError: no name, or an unknown one.
    """
    if not names:
        raise ViceError("At least one class must be asked for, but none is.")
    for name in names:
        if name not in dataset.classes:
            raise ViceError(f"`{name}` is no class of the data.", did_you_mean(name, dataset.classes))
    return dataset if tuple(names) == tuple(dataset.classes) else SelectedClasses(dataset, names)


class SelectedClasses:
    """A dataset with some of the classes of another one; all images stay.

    Objects of the other classes are background: a map of a class does not belong on them.

    Attributes:
        whole: the other dataset; what is not of classes is its own.
        classes: (C,) the selected names.
        all_classes: those of `whole`; a table's manifest keeps them.
        targets: (N, C) uint8.
    """

    def __init__(self, whole: FolderDataset, names: Sequence[str]) -> None:
        self.whole, self.all_classes = whole, tuple(whole.classes)
        self.classes = tuple(names)
        self._kept = [self.all_classes.index(name) for name in names]
        self.targets = np.ascontiguousarray(np.asarray(whole.targets)[:, self._kept])

    def __getattr__(self, name: str) -> Any:
        if name == "whole":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.whole, name)

    def __len__(self) -> int:
        return len(self.whole)

    def mask(self, index: int) -> np.ndarray | None:
        """Read the mask of an image, (H, W): 0 background and the other classes, c + 1 class c, and void."""
        mask = self.whole.mask(index)
        if mask is None:
            return None
        before, void = void_of(len(self.all_classes)), void_of(len(self.classes))
        label_of = np.zeros(before + 1, np.promote_types(mask.dtype, np.min_scalar_type(void)))
        label_of[before] = void
        label_of[[c + 1 for c in self._kept]] = np.arange(1, len(self._kept) + 1)
        return label_of[mask]

    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the boxes of the selected classes in an image; None where the boxes are not known."""
        found = self.whole.boxes(index)
        if found is None:
            return None
        place = {c: row for row, c in enumerate(self._kept)}
        rows = [row for row, c in enumerate(found[0].tolist()) if c in place]
        return np.array([place[c] for c in found[0][rows].tolist()], dtype=np.int64), found[1][rows]
