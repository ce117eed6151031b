"""The layout of VOC 2012: lists of images, their class labels and their masks."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence

import numpy as np

from torchvice.data.annotations import class_indices, object_boxes, read_annotation
from torchvice.data.images import VOID, check_mask, check_same_size, read_image, read_mask, stored_size
from torchvice.data.labels import LABEL_SOURCES, targets_from
from torchvice.data.layout import LAYOUT, VOC_CLASSES, Layout, Record, list_lines, read_list
from torchvice.errors import ViceError, did_you_mean

__all__ = [
    "VOC_CLASSES",
    "VOID",
    "Record",
    "VocDataset",
    "check_mask",
    "read_image",
    "read_list",
    "read_mask",
]


class VocDataset:
    """A split in the layout of VOC 2012: images, class labels, and masks where there are any.

    Args:
        root: the folder that holds VOC2012 and the flat lists; the VOC2012 folder; a VOCdevkit; or a `Layout`.
        split: a name (`val`, `train_aug`), looked up beside and in the VOC folder and in
            ImageSets/Segmentation; or the path of a list.
        classes: C names in the order of the labels; else those of dataset.yaml, else the lines of classes.txt, else
            VOC's twenty.
        labels: where the class labels come from: `cls_labels` (cls_labels.npy), `annotations` (XML), `masks`;
            `auto` takes the first of these that covers every image of the split.
        masks: the folder of the masks; else what the list's own paths say, SegmentationClassAug, and
            SegmentationClass, in this order for each image.
        regions: where an object lies: `masks`, or `boxes`, the union of its boxes in Annotations; `auto` takes the
            masks where the split has any, so that a table never mixes the two.
        exclusive: whether an image can have one label only, so that classes are alternatives. It is said, never
            guessed: a multi-label split may happen to hold one label an image.

    Attributes:
        root: as given, a Path.
        split: the list's name without suffix.
        classes: (C,) names.
        records: one Record an image, in the order of the list.
        targets: (N, C) uint8, 1 where the image holds the class.
        label_source: where the targets come from, in words.
        mask_source: where the masks come from, in words.
        masks_missing: how many images have no mask.
        regions: `masks` or `boxes`.
        regions_missing: how many images have none of these.
        exclusive: as given.

    Files must exist when the dataset is built; what is in them is checked when they are read.

    Raises:
        ViceError: no such folder or list, an empty list or a name twice, a missing image, an unlabelled one,
            an unknown class, labels of another length, or regions from boxes without any annotation; with `exclusive`,
            an image of no label or of several.

    References:
        The PASCAL Visual Object Classes Challenge 2012, development kit; for the augmented masks: Semantic
        Contours from Inverse Detectors (2011).
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Layout,
        split: str | os.PathLike[str] = "val",
        *,
        classes: Sequence[str] | None = None,
        labels: str = "auto",
        masks: str | None = None,
        regions: str = "auto",
        exclusive: bool = False,
    ) -> None:
        if labels != "auto" and labels not in LABEL_SOURCES:
            known = ("auto", *LABEL_SOURCES)
            raise ViceError(
                f"`labels` must be one of {', '.join(known)}, but is {labels!r}.", did_you_mean(labels, known)
            )
        self._layout = root if isinstance(root, Layout) else Layout(root, classes)
        self.root, self.classes = self._layout.root, self._layout.classes
        self._list = self._layout.list_file(split)
        self.split = self._layout.split_name(split)
        self.records, self.mask_source = self._located(masks)
        self.masks_missing = sum(record.mask is None for record in self.records)
        if len(self.classes) >= VOID and self.masks_missing < len(self.records):
            raise ViceError(
                f"Masks can tell at most 254 classes apart (255 is void), but there are {len(self.classes)}.",
                "Measure these classes without masks: move the mask folders away.",
            )
        annotation_of = self._layout.annotation_of()
        self._annotations = {record.image_id: annotation_of(record.image_id) for record in self.records}
        self.regions, self.regions_missing = self._regions(regions)
        self.targets, self.label_source = targets_from(
            labels,
            self.records,
            self.classes,
            npy=self._layout.label_file,
            annotations=self._layout.annotations,
            masks=self.mask_source,
            read_mask=self._layout.read_mask,
        )
        self.exclusive = exclusive
        if exclusive:
            self._check_exclusive()

    def _check_exclusive(self) -> None:
        labels = self.targets.sum(1)
        others = np.flatnonzero(labels != 1)
        if len(others):
            first = int(others[0])
            raise ViceError(
                f"Exclusive targets are one label an image, but {len(others)} of the {len(self)} images of "
                f"{self.split} have none or several, such as `{self.records[first].image_id}` with "
                f"{int(labels[first])}.",
                "Leave data.exclusive false: these classes are no alternatives.",
            )

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, 3) uint8, RGB, as stored: see `read_image`.

        Raises:
            ViceError: no such index, or a file that is damaged.
        """
        return read_image(self._record(index).image)

    def mask(self, index: int) -> np.ndarray | None:
        """The mask of image `index`, (H, W) uint8: 0 background, c + 1 class c, 255 void; None without one.

        Raises:
            ViceError: no such index, a damaged file, another size than the image, a value beyond the classes.
        """
        record = self._record(index)
        if record.mask is None:
            return None
        mask = self._layout.read_mask(record.mask)
        check_same_size(mask, stored_size(record.image), record.mask)
        check_mask(mask, len(self.classes), record.mask)
        return mask.astype(np.uint8, copy=False)

    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The boxes of the objects in image `index`, from its XML file in Annotations; None without file or boxes.

        Objects marked `difficult` have theirs too, as they count for the class labels.

        Returns:
            classes (B,) int64, 0..C-1, and boxes (B, 4) float64 in pixels: left, top, right and bottom, from 0, right
            and bottom exclusive.

        Raises:
            ViceError: no such index, a damaged file, an unknown class, or a box that is empty or outside the image.
        """
        record = self._record(index)
        file = self._annotations[record.image_id]
        if file is None:
            return None
        objects = read_annotation(file)
        boxes = object_boxes(objects, stored_size(record.image), file)
        if boxes is None:
            return None
        known = {name: c for c, name in enumerate(self.classes)}
        return np.array(class_indices(objects, known, file), dtype=np.int64), boxes

    def _regions(self, regions: str) -> tuple[str, int]:
        """Where objects lie, and how many images do not have that."""
        if regions not in ("auto", "masks", "boxes"):
            known = ("auto", "masks", "boxes")
            raise ViceError(
                f"`regions` must be one of {', '.join(known)}, but is {regions!r}.", did_you_mean(regions, known)
            )
        lacking = sum(file is None for file in self._annotations.values())
        boxed = lacking < len(self.records)
        if regions == "boxes" and not boxed:
            raise ViceError(
                f"Regions from boxes need XML files in {self._layout.annotations}, but no image of {self.split} has "
                "one."
            )
        if regions == "boxes" or (regions == "auto" and boxed and self.masks_missing == len(self.records)):
            return "boxes", lacking
        return "masks", self.masks_missing

    def _record(self, index: int) -> Record:
        index = operator.index(index)
        if not 0 <= index < len(self.records):
            raise ViceError(f"The index must be 0 to {len(self.records) - 1} in {self.split}, but is {index}.")
        return self.records[index]

    def _located(self, masks: str | None) -> tuple[list[Record], str]:
        """The files of every line, and where the masks were found."""
        lines = list_lines(self._list)
        found = self._layout.located(lines, masks)
        if found.missing:
            some = ", ".join(f"`{line.image_id}`" for line in found.missing[:3])
            raise ViceError(
                f"The image of `{found.missing[0].image_id}` must be {self._layout.expected_image(found.missing[0])}, "
                f"but there is none ({len(found.missing)} of the {len(lines)} images of {self._list} are missing: "
                f"{some}{', ...' if len(found.missing) > 3 else ''}).",
                f"See them all: vice data check {self.root} --split {self.split}"
                if self._layout.images.is_dir()
                else LAYOUT,
            )
        return found.records, found.mask_source
