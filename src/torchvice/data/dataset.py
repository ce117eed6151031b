"""What a dataset must offer: for an assessment, and, as a split on disk, for every command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from torchvice.data.layout import Record
from torchvice.errors import ViceError, brief

__all__ = ["Dataset", "FolderDataset", "check_opened"]

OPENED = ("classes", "targets", "records")


class Dataset(Protocol):
    """What `torchvice.assess` needs of a dataset. Any object with these attributes and methods will do.

    `classes` (C,) names; `targets` (N, C) of 0 and 1; `records` N objects, each with a unique `image_id`; `image(i)`
    (H, W, 3) uint8; `mask(i)` (H, W) labels with void = `void_of(C)`, or None.

    Optional: `exclusive`, true where every image has exactly one label; `boxes(i)`, the classes (B,) and boxes (B, 4)
    of the objects, or None, see `torchvice.metrics.boxes`; `regions`, "boxes" where the union of an object's boxes
    takes the place of its mask.
    """

    targets: np.ndarray

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def records(self) -> Sequence[Any]: ...

    def image(self, index: int) -> np.ndarray: ...

    def mask(self, index: int) -> np.ndarray | None: ...


class FolderDataset(Dataset, Protocol):
    """A split on disk, as `open_dataset` returns it; see `torchvice.data.VocDataset` for the attributes."""

    root: Path
    split: str
    label_source: str
    mask_source: str
    masks_missing: int
    notes: tuple[str, ...]
    regions: str
    regions_missing: int
    exclusive: bool
    chosen: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def records(self) -> Sequence[Record]: ...

    def __len__(self) -> int: ...

    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None: ...


def check_opened(dataset: object) -> None:
    """Check that something is a `Dataset`, and no folder or list of items that is still to be opened.

    Raises:
        ViceError: it lacks `classes`, `targets` or `records`.
    """
    lacking = [name for name in OPENED if not hasattr(dataset, name)]
    if lacking:
        given = brief(str(dataset)) if isinstance(dataset, (str, Path)) else f"of type {type(dataset).__name__}"
        raise ViceError(
            f"`dataset` must be a dataset with {', '.join(OPENED)}, but is {given} and has no {lacking[0]}.",
            "Open it: torchvice.data.open_dataset(FOLDER, SPLIT), or torchvice.data.from_items(ITEMS, classes=[...]).",
        )
