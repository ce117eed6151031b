"""Training images that break shortcuts: objects on another background (`swap_background`), or gone (`erase_object`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from torchvice.config.sections import RegularisationSettings
from torchvice.data.dataset import Dataset
from torchvice.data.filling import dilated, filled
from torchvice.data.images import VOID, void_of
from torchvice.data.transforms import LabelledImages
from torchvice.data.warping import warp

__all__ = ["MARGIN", "RepairedImages", "erase_class", "paste_objects", "remove_objects"]

MARGIN = 5  # pixels by which a removed object is dilated: the width of VOC's void rims
TRIES = 10  # draws of a background before the image keeps its own


class RepairedImages(LabelledImages):
    """Images for torch's loaders, some with a label's object erased, some with another image's background.

    Item i is `(transform(image), targets)`, as in LabelledImages. With the probability `erase_object`, the object of
    one label, drawn at random, is removed, and its label with it. Then, with the probability `swap_background`, the
    objects that are left are pasted on the background of another image, drawn at random. An image without a mask, or
    with a label that has no pixel in its mask, keeps its pixels and labels, and is no background for others: the object
    may be anywhere in it. Randomness comes from torch's global generator, which each worker of a loader has seeded.

    Args:
        dataset: images, targets and masks; two images or more.
        transform: (H, W, 3) uint8 to (3, S, S) float32, applied to the changed image.
        settings: reads swap_background and erase_object.
    """

    def __init__(
        self, dataset: Dataset, transform: Callable[[np.ndarray], torch.Tensor], settings: RegularisationSettings
    ) -> None:
        super().__init__(dataset, transform)
        self.swap, self.erase = settings.swap_background, settings.erase_object

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        erases, swaps = (float(torch.rand(())) < probability for probability in (self.erase, self.swap))
        if not 0 <= index < len(self) or not (erases or swaps):
            return super().__getitem__(index)
        image, mask, targets = self.dataset.image(index), self.dataset.mask(index), self.targets[index]
        if mask is not None and targets.any() and _shows_all(mask, targets):
            if erases:
                image, mask, targets = self._with_one_erased(image, mask, targets)
            if swaps and targets.any() and (background := self._background(index)) is not None:
                image = paste_objects(image, mask, background)
        return self.transform(image), targets

    def _with_one_erased(
        self, image: np.ndarray, mask: np.ndarray, targets: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
        """Erase the object of a random label."""
        labels = targets.nonzero().flatten().tolist()
        c = labels[int(torch.randint(len(labels), ()))]
        erased = erase_class(image, mask, c + 1, void_of(len(targets)))
        if erased is None:
            return image, mask, targets
        rest = targets.clone()
        rest[c] = 0
        return *erased, rest

    def _background(self, index: int) -> np.ndarray | None:
        """Draw another image whose mask shows all its labels, and remove its objects; None if no draw has one."""
        for _ in range(TRIES):
            other = int(torch.randint(len(self) - 1, ()))
            other += other >= index
            mask = self.dataset.mask(other)
            if mask is not None and _shows_all(mask, self.targets[other]):
                background = remove_objects(self.dataset.image(other), mask)
                if background is not None:
                    return background
        return None


def erase_class(
    image: np.ndarray, mask: np.ndarray, label: int, void: int = VOID
) -> tuple[np.ndarray, np.ndarray] | None:
    """Remove all pixels of a class, dilated by MARGIN pixels, and fill the hole from the background.

    The pixels of other classes stay. Void goes too, but for the rims of other classes (MARGIN pixels), since it may
    hide further objects of the class. The filling is smooth, see `torchvice.data.filling`.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) labels.
        label: the label of the class in the mask, c + 1.
        void: that of pixels that do not count.

    Returns:
        The image and its mask after the removal, or None if no pixel would be left to fill from.
    """
    others = (mask != 0) & (mask != void) & (mask != label)
    hole = _dilated(mask == label) & ~others | (mask == void) & ~_dilated(others)
    filled = _filled(image, hole, (mask == 0) & ~hole)
    return None if filled is None else (filled, np.where(hole, 0, mask).astype(mask.dtype))


def remove_objects(image: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Remove all objects and void, dilated by MARGIN pixels, and fill the holes from the background.

    Returns:
        (H, W, 3) uint8, or None if the image has no background.
    """
    hole = _dilated(mask != 0)
    return _filled(image, hole, ~hole) if not hole.all() else None


def paste_objects(image: np.ndarray, mask: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Paste the objects of an image and their void rims on a background, which is resized to the image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W), 0 = background.
        background: (H', W', 3) uint8.
    """
    return np.where((mask != 0)[..., None], image, warp(background, image.shape[:2]))


def _shows_all(mask: np.ndarray, targets: torch.Tensor) -> bool:
    """Whether every label has pixels in the mask; a label without any may be anywhere in the image."""
    return all((mask == c + 1).any() for c in targets.nonzero().flatten().tolist())


def _dilated(region: np.ndarray) -> np.ndarray:
    """Dilate a region (H, W) by MARGIN pixels."""
    enlarged: np.ndarray = dilated(torch.from_numpy(region)[None, None], MARGIN)[0, 0].numpy()
    return enlarged


def _filled(image: np.ndarray, hole: np.ndarray, source: np.ndarray) -> np.ndarray | None:
    """Fill the hole smoothly from the pixels of `source`, or from all outside the hole if there are none."""
    known = source if source.any() else ~hole
    if not known.any():
        return None
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None]
    smooth = filled(pixels, torch.from_numpy(~known)[None, None])[0]
    colours = smooth.round().permute(1, 2, 0).numpy().astype(np.uint8)
    return np.where(hole[..., None], colours, image)
