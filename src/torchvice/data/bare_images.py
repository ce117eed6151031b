"""A folder of images that nothing labels: for maps of predicted classes, or of classes that the user names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchvice.data.bare_folder import BareFolder
from torchvice.data.layout import Record
from torchvice.data.voc import VocDataset

__all__ = ["BareImages"]


class BareImages(VocDataset):
    """The images of a folder, without labels and masks; those of its sub-folders if it holds none itself.

    Args:
        root: the folder.
        classes: C names in the order of the network's outputs; None: none are known yet, see `with_classes`.

    Raises:
        ViceError: no such folder, no image in it, or two images of one name.
    """

    unlabelled = True
    numbered = False  # whether numbers stand for names that nobody gave

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        layout = _Unlabelled(root, [root])
        layout.settle(layout.found, None)
        layout.classes = tuple(classes or ())
        super().__init__(layout, layout.name)

    def with_classes(self, names: Sequence[str], count: int) -> BareImages:
        """The same images with the names of the C classes; without names they are numbered: 0 to `count` - 1."""
        named = copy.copy(self)
        named.classes, named.numbered = tuple(names) or tuple(map(str, range(count))), not names
        named.targets = np.zeros((len(self), len(named.classes)), np.uint8)
        return named


class _Unlabelled(BareFolder):
    """The layout of images without labels."""

    def targets(self, source: str, records: Sequence[Record], masks: str) -> tuple[np.ndarray, str]:
        """Return no label for any image."""
        return np.zeros((len(records), len(self.classes)), np.uint8), "none"
