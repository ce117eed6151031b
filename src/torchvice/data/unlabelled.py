"""The images of a split without labels or masks, each in several views: the input of self-supervision."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from PIL import Image
from torch.utils.data import Dataset

from torchvice.data.images import read_image
from torchvice.data.layout import Record, place_of
from torchvice.data.open import open_layout, split_folder
from torchvice.errors import ViceError

__all__ = ["UnlabelledImages"]

Views = Callable[[Image.Image], list[torch.Tensor]]


class UnlabelledImages(Dataset[list[torch.Tensor]]):
    """The images of a list. Item i is `views(image i)`; class labels, annotations and masks are never opened.

    Args:
        root: see `VocDataset`.
        split: see `VocDataset`.
        views: maps a PIL image, RGB, to tensors (3, S, S), as many and of the same sizes for every image; may be set
            later.

    Attributes:
        records: one Record per image, in the order of the list, without masks.
        root, split: see `VocDataset`.

    Raises:
        ViceError: the folder, the list or an image is missing; or an image is damaged, when it is read.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str | os.PathLike[str] = "train", views: Views | None = None
    ) -> None:
        layout = open_layout(split_folder(root, split))
        lines = layout.lines(split)
        located = layout.located(lines)
        if located.missing:
            first = located.missing[0]
            raise ViceError(
                f"The image of `{first.image_id}` must be {layout.expected_image(first)}, but does not exist "
                f"({len(located.missing)} of the {len(lines)} images of {split} are missing).",
                f"List them all: vice data check {place_of(layout.root, str(split), layout.chosen)}",
            )
        self.root, self.split, self.views = layout.root, layout.split_name(split), views
        self.records = [Record(record.image_id, record.image, None) for record in located.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"The index must be 0 to {len(self) - 1}, but is {index}.")
        if self.views is None:
            raise ViceError("`views` is not set.", "Set it: UnlabelledImages(views=...).")
        return self.views(Image.fromarray(read_image(self.records[index].image)))
