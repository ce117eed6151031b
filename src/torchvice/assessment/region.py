"""Where the objects of an image lie: in its mask, or in the boxes of their class."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.data.filling import VoidOf
from torchvice.data.images import refuse_narrow_void
from torchvice.errors import ViceError, errors_quoted, to_numpy
from torchvice.metrics.boxes import box_planes
from torchvice.metrics.overlap import VOID, void_of

__all__ = ["Region", "image_of", "region_of"]

LABELS = "Class c has the label c + 1, the background 0, and pixels that do not count {}."


@dataclass(frozen=True)
class Region:
    """What the maps of an image are counted against.

    Attributes:
        size: (H, W).
        mask: (H, W) labels; None: every class is the union of its boxes.
        classes, boxes: (B,) and (B, 4), see `torchvice.metrics.boxes`; None where the boxes are not known.
        void: the label of pixels of the mask that do not count.
    """

    size: tuple[int, int]
    mask: np.ndarray | None
    classes: np.ndarray | None = None
    boxes: np.ndarray | None = None
    void: int = VOID

    def holds(self, c: int) -> bool:
        """Whether class c has a pixel."""
        if self.mask is not None:
            return bool((self.mask == c + 1).any())
        return self.classes is not None and c in self.classes

    def object_of(self, c: int, void: VoidOf = "nearest") -> np.ndarray:
        """(H, W) bool: the pixels of class c and void beside them, or the union of its boxes.

        Args:
            c: the class, 0..C-1.
            void: which of the void that touches the class goes with it: "nearest", what is nearer to this class than
                to any other (the rims of objects that touch are one); or "touching", all of it.
        """
        if self.mask is None:
            assert self.classes is not None
            return box_planes([0] * int((self.classes == c).sum()), self.boxes_of(c), self.size, 1)[0] > 0
        own, uncounted = self.mask == c + 1, self.mask == self.void
        if not uncounted.any():
            return own
        from scipy.ndimage import label

        parts = label(own | uncounted, structure=np.ones((3, 3)))[0]
        touching: np.ndarray = np.isin(parts, np.unique(parts[own]))
        return touching if void == "touching" or self._nearest is None else touching & (self._nearest == c + 1)

    @functools.cached_property
    def _nearest(self) -> np.ndarray | None:
        """(H, W) the label of the nearest pixel of an object; None where there is one class, or none."""
        assert self.mask is not None
        objects = (self.mask != 0) & (self.mask != self.void)
        labels = self.mask[objects]
        if not labels.size or (labels == labels[0]).all():
            return None
        from scipy.ndimage import distance_transform_edt

        rows, columns = distance_transform_edt(~objects, return_distances=False, return_indices=True)
        return np.asarray(self.mask[rows, columns])

    def boxes_of(self, c: int) -> np.ndarray | None:
        """(B, 4) the boxes of class c; None where boxes are not known."""
        return None if self.boxes is None else self.boxes[self.classes == c]

    def against(self, classes: Sequence[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
        """The mask that maps of these classes are counted against, in the form that `competing_overlap` takes.

        Boxes may overlap, and become planes: one for each class that has a map or a box, since a dataset may have a
        thousand.

        Returns:
            The classes as the mask has them; the mask; and the label that each of the mask's labels stands for.
        """
        if self.mask is not None:
            return list(classes), self.mask, np.arange(max(int(self.mask.max(initial=0)), *classes, 0) + 2)
        assert self.classes is not None
        present = sorted({*classes, *self.classes.tolist()})
        place = {c: row for row, c in enumerate(present)}
        planes = box_planes([place[c] for c in self.classes.tolist()], self.boxes, self.size, len(present))
        return [place[c] for c in classes], planes, np.array([0, *(c + 1 for c in present)])


def image_of(dataset: Any, index: int) -> np.ndarray:
    """Image `index` of a dataset, (H, W, 3) uint8, after the checks that hold for a user's own dataset.

    Raises:
        ViceError: an error in the user's code, or something else than such an image.
    """
    what = f"the image of `{dataset.records[index].image_id}`"
    with errors_quoted(f"The dataset must give {what}", f"Try dataset.image({index})."):
        image: Any = dataset.image(index)
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", type(image).__name__)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ViceError(
            f"The dataset must give {what} as an array (H, W, 3) of uint8, but gives {dtype}"
            f"{'' if shape is None else f' of shape {tuple(shape)}'}.",
            "Of a PIL image: np.asarray(image.convert('RGB')).",
        )
    return np.ascontiguousarray(image)  # torch takes no turned view, such as [..., ::-1] of OpenCV's colours


def region_of(dataset: Any, index: int, size: tuple[int, int] | None = None) -> Region | None:
    """The region of an image; None where it has no mask, or no boxes where these are what the dataset goes by.

    `size` (H, W) of the image, where it is known.

    Raises:
        ViceError: a mask that is not (H, W) like its image, or holds something else than labels.
    """
    known = dataset.boxes(index) if hasattr(dataset, "boxes") else None
    classes, boxes = (None, None) if known is None else known
    if getattr(dataset, "regions", "masks") == "boxes":
        if boxes is None:
            return None
        shape = image_of(dataset, index).shape if size is None else size
        return Region((shape[0], shape[1]), None, classes, boxes)
    image_id = dataset.records[index].image_id
    with errors_quoted(f"The dataset must give the mask of `{image_id}` or None", f"Try dataset.mask({index})."):
        given = dataset.mask(index)
    if given is None:
        return None
    count = len(dataset.classes)
    mask = _labels(given, f"The mask of `{image_id}`", count, size)
    return Region((mask.shape[0], mask.shape[1]), mask, classes, boxes, void_of(count))


def _labels(given: Any, what: str, count: int, size: tuple[int, int] | None) -> np.ndarray:
    """Return a mask as integers, after the checks that hold for any dataset, also a user's own."""
    mask = np.asarray(to_numpy(given))
    if mask.ndim != 2 or (size is not None and mask.shape != size):
        shape = "(H, W)" if size is None else f"{size} like its image"
        way_out = (
            "Give one label for each pixel." if mask.ndim != 2 else "Resize it with its image, by nearest neighbour."
        )
        raise ViceError(f"{what} must be {shape}, but has shape {mask.shape}.", way_out)
    void = void_of(count)
    refuse_narrow_void(mask, count, what)
    if mask.dtype.kind == "f":
        wrong = ~np.isfinite(mask) | (mask != np.rint(mask))
    elif mask.dtype.kind in "iub":
        wrong = np.zeros(0, bool)
    else:
        raise ViceError(f"{what} must hold integers, but holds {mask.dtype}.", LABELS.format(void))
    if not wrong.any():
        wrong = ((mask < 0) | (mask > count)) & (mask != void)
    if wrong.any():
        raise ViceError(f"{what} must hold 0 to {count} and {void}, but holds {mask[wrong][0]}.", LABELS.format(void))
    return mask.astype(np.int64) if mask.dtype.kind == "f" else mask
