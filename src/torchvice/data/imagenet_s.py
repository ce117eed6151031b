"""ImageNet-S: ImageNet's folders of WordNet ids, with masks whose red and green give the class as R + 256 G."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from torchvice.data.class_folders import ClassFolders
from torchvice.data.images import DAMAGE, FORMATS, VOID, read_colours
from torchvice.data.mask_values import MaskValues
from torchvice.data.named_values import NamedValues
from torchvice.errors import ViceError
from torchvice.metrics.overlap import void_of

__all__ = ["WORDNET_ID", "ImageNetS", "is_imagenet_s"]

WORDNET_ID = re.compile(r"n\d{8}")
IGNORED = 1000  # the id of pixels that do not count
READ = 5  # masks of a folder that tell its id


def is_imagenet_s(folders: Sequence[str], masks: Path) -> bool:
    """Whether folders have WordNet ids, and the first mask in them is RGB without blue."""
    if not folders or not all(WORDNET_ID.fullmatch(name) for name in folders):
        return False
    first = next((file for name in folders for file in sorted((masks / name).glob("*.png"))), None)
    if first is None:
        return False
    try:
        with Image.open(first, formats=FORMATS) as picture:
            return picture.mode == "RGB" and not np.asarray(picture)[..., 2].any()
    except DAMAGE:
        return False


class ImageNetS(ClassFolders):
    """Folders of ImageNet-S with their masks, such as `validation` and `validation-segmentation`.

    The id of a class is its place among the sorted WordNet ids, from 1. Where only some of the folders are given, it is
    the id that most of a folder's masks hold. 0 is background, as are ids of other classes, and 1000 is void.

    Args:
        root, masks, classes: see `ClassFolders`.

    Raises:
        ViceError: see `ClassFolders`; or masks that do not tell the ids of the folders.

    References:
        Large-scale Unsupervised Semantic Segmentation (2022); its repository LUSSeg/ImageNet-S for the form of masks.
    """

    def _mask_values(self, given: NamedValues | None) -> MaskValues:
        """Masks hold labels; which id is which is learned here."""
        masks: dict[str, list[Path]] = {name: [] for name in sorted(self.classes)}
        for name, path in self.pairs.masks.items():
            masks[name.partition("/")[0]].append(path)
        ids = {name: place for place, name in enumerate(masks, 1)}
        if any(paths and ids[name] not in _ids_in(paths[0]) for name, paths in masks.items()):
            ids = _learned(masks, self.chosen["masks"])
        self._labels = np.zeros(1 << 16, np.int32)
        for name, place in ids.items():
            self._labels[place] = self.classes.index(name) + 1
        self._labels[IGNORED] = void_of(len(self.classes))
        note = "Masks are those of ImageNet-S: R + 256 G is the class, 0 is background, 1000 is void."
        return MaskValues(self.classes, note=note)

    def read_mask(self, path: Path) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers.

        Raises:
            ViceError: a damaged file, blue in it, or ids, but not that of its folder.
        """
        own, ids = self._mask_label[path], _ids_of(path)
        mask = self._labels[ids]
        if own not in mask and (other := np.setdiff1d(ids, (0, IGNORED))).size:
            raise ViceError(
                f"The mask {path} must hold the class of its folder `{self.classes[own - 1]}`, but holds only other "
                f"ids, such as {int(other[0])}.",
                "Move the image and its mask elsewhere.",
            )
        return mask.astype(np.uint8) if len(self.classes) < VOID else mask


def _learned(masks: dict[str, list[Path]], where: str) -> dict[str, int]:
    """The id of each folder that has masks: the one that most of its masks hold.

    Raises:
        ViceError: ids that are not in the order of the folders' names.
    """
    found: dict[str, int] = {}
    for name, paths in masks.items():
        counts = Counter(place for path in paths[:READ] for place in sorted(_ids_in(path)))
        if counts:
            found[name] = counts.most_common(1)[0][0]
    for (before, low), (after, high) in itertools.pairwise(found.items()):
        if low >= high:
            raise ViceError(
                f"The ids in the masks of {where} must ascend with the names of the folders, as in ImageNet-S, but are "
                f"{low} in {before} and {high} in {after}.",
                "Give images and masks of one of ImageNet-S-50, -300 and -919, not of several.",
            )
    return found


def _ids_in(path: Path) -> set[int]:
    """The ids of classes in a mask; none in a mask that cannot be read, which is said when it is used."""
    try:
        return set(np.unique(_ids_of(path)).tolist()) - {0, IGNORED}
    except ViceError:
        return set()


def _ids_of(path: Path) -> np.ndarray:
    """The ids in a mask, (H, W) integers."""
    colours = read_colours(path).astype(np.int32)
    if colours[..., 2].any():
        raise ViceError(
            f"The mask {path} must have no blue, like those of ImageNet-S, but has some.",
            "Give the masks as ImageNet-S has them; others by dataset.yaml.",
        )
    return np.asarray(colours[..., 0] + 256 * colours[..., 1])
