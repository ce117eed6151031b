"""The one door for data: every command opens a dataset here, so that a further layout needs one line."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torchvice.data.dataset import FolderDataset
from torchvice.data.layout import Layout
from torchvice.data.voc import VocDataset

__all__ = ["open_dataset", "open_layout"]


def open_dataset(
    root: str | os.PathLike[str],
    split: str | os.PathLike[str] = "val",
    *,
    classes: Sequence[str] | None = None,
    labels: str = "auto",
    masks: str | None = None,
    regions: str = "auto",
    exclusive: bool = False,
) -> FolderDataset:
    """Open a split of a dataset: its images, class labels, and masks or boxes.

    Args:
        root: the folder of the dataset, see docs/your-data.md.
        split, classes, labels, masks, regions, exclusive: see `VocDataset`.

    Raises:
        ViceError: see `VocDataset`.
    """
    layout = open_layout(root, classes)
    return VocDataset(layout, split, labels=labels, masks=masks, regions=regions, exclusive=exclusive)


def open_layout(root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Layout:
    """Find the lists, images, masks and annotations of a dataset.

    A further layout is a subclass of `Layout`, chosen here by what the folder holds.

    Args:
        root: the folder of the dataset.
        classes: C names in the order of the labels; None: as the folder says.

    Raises:
        ViceError: see `Layout`.
    """
    return Layout(root, classes)
