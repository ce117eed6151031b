"""The images of a split without labels or masks, each under several views: what self-supervision is fed."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from PIL import Image
from torch.utils.data import Dataset

from torchvice.data.images import read_image
from torchvice.data.layout import Record, list_lines
from torchvice.data.open import open_layout
from torchvice.errors import ViceError

__all__ = ["UnlabelledImages"]

Views = Callable[[Image.Image], list[torch.Tensor]]


class UnlabelledImages(Dataset[list[torch.Tensor]]):
    """The images of a list. Item i is `views(image i)`; class labels, annotations and masks are never opened.

    Args:
        root: see `VocDataset`.
        split: see `VocDataset`.
        views: from a PIL image, RGB, to tensors (3, S, S), the same number and sizes for every image; may be set later.

    Attributes:
        records: one Record an image, in the order of the list; none has a mask.
        root, split: see `VocDataset`.

    Raises:
        ViceError: no such folder or list, a missing image; a damaged one, when it is read.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str | os.PathLike[str] = "train", views: Views | None = None
    ) -> None:
        layout = open_layout(root)
        lines = list_lines(layout.list_file(split))
        found = layout.located(lines)
        if found.missing:
            raise ViceError(
                f"The image of `{found.missing[0].image_id}` must be {layout.expected_image(found.missing[0])}, but "
                f"there is none ({len(found.missing)} of the {len(lines)} images of {split} are missing).",
                f"See them all: vice data check {layout.root} --split {split}",
            )
        self.root, self.split, self.views = layout.root, layout.split_name(split), views
        self.records = [Record(record.image_id, record.image, None) for record in found.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"The index must be 0 to {len(self) - 1}, but is {index}.")
        if self.views is None:
            raise ViceError("The images need views to be shown, but have none.", "Give UnlabelledImages(views=...).")
        return self.views(Image.fromarray(read_image(self.records[index].image)))
