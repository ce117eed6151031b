"""A dataset in the layout of VOC 2012: lists of images, their class labels and their masks."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence

import numpy as np

from torchvice.data.annotations import class_indices, object_boxes, read_annotation
from torchvice.data.images import VOID, Least, check_mask, check_same_size, read_image, read_mask, stored_size
from torchvice.data.labels import LABEL_SOURCES
from torchvice.data.layout import LAYOUT, Layout, Record, place_of
from torchvice.data.lists import VOC_CLASSES, read_list
from torchvice.errors import ViceError, did_you_mean
from torchvice.metrics.overlap import void_of

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
        split: the name of a list (`val`, `train_aug`) next to or in the VOC folder or in ImageSets/Segmentation; or
            the path of a list.
        classes: C names in the order of the labels; None: those of dataset.yaml, else the lines of classes.txt, else
            VOC's twenty.
        labels: the source of the class labels: `cls_labels` (cls_labels.npy), `annotations` (XML), `masks`; `auto`
            takes the first of these that covers every image of the split.
        masks: the folder of the masks; None: for each image the path in the list, SegmentationClassAug, and
            SegmentationClass, in this order.
        regions: the region of an object: `masks`, or `boxes`, the union of its boxes in Annotations; `auto` takes the
            masks if the split has any, so that a table never mixes the two.
        exclusive: whether every image has exactly one label. It is never guessed: a multi-label split may happen to
            have one label per image.

    Attributes:
        root: as given, a Path.
        split: the name of the list without suffix.
        list_given: `split` as given, which may be the path of a list elsewhere.
        classes: (C,) names.
        records: one Record per image, in the order of the list.
        targets: (N, C) uint8, 1 where the image shows the class.
        label_source: a text that says where the targets come from.
        mask_source: a text that says where the masks come from.
        masks_missing: the number of images without a mask.
        notes: sentences on what was chosen among several files.
        regions: `masks` or `boxes`.
        regions_missing: the number of images without these.
        exclusive: as given.
        chosen: those of `masks`, `labels` and `regions` that are not the default; a table's manifest keeps them.

    All files must exist when the dataset is created; their content is checked when they are read. Masks are read up to
    the first that holds a class.

    Raises:
        ViceError: the folder or list is missing, the list is empty or names an image twice, an image is missing or has
            no labels, a class is unknown, labels have another length, or `regions` is "boxes" and no image has an
            annotation; no mask holds a class; with `exclusive`, an image without a label or with several.

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
        self.split, self.list_given = self._layout.split_name(split), str(split)
        self.records, self.mask_source, self.notes = self._located(split, masks)
        self.masks_missing = sum(record.mask is None for record in self.records)
        self._layout.check_class_count(len(self.records) - self.masks_missing)
        annotation_of = self._layout.annotation_of()
        self._annotations = {record.image_id: annotation_of(record.image_id) for record in self.records}
        self.regions, self.regions_missing = self._regions(regions)
        self.targets, self.label_source = self._layout.targets(labels, self.records, self.mask_source)
        self.notes += self._layout.label_notes(self.label_source) if labels == "auto" else ()
        self.exclusive = exclusive or self._layout.exclusive
        options = {"masks": masks, "labels": labels, "regions": regions}
        given = {name: value for name, value in options.items() if value not in (None, "auto")}
        self.chosen = given | self._layout.chosen
        if self.exclusive:
            self._check_exclusive()
        own = type(self).mask is VocDataset.mask  # a subclass may give its masks another meaning
        has_masks = self.regions == "masks" and self.masks_missing < len(self)
        if own and has_masks and not any(map(self._is_drawn, range(len(self)))):
            raise self._layout.no_class(self.split)
        if own and has_masks:
            self.notes += self._layout.check_forms(self.records)

    def _is_drawn(self, index: int) -> bool:
        """Whether a mask holds a class, or cannot be read, which is said when it is."""
        try:
            mask = self.mask(index)
        except ViceError:
            return True
        return mask is not None and bool(((mask > 0) & (mask != void_of(len(self.classes)))).any())

    def _check_exclusive(self) -> None:
        labels = self.targets.sum(1)
        wrong = np.flatnonzero(labels != 1)
        if len(wrong):
            first = int(wrong[0])
            raise ViceError(
                f"Exclusive targets are one label an image, but {len(wrong)} of the {len(self)} images of "
                f"{self.split} have none or several, such as `{self.records[first].image_id}` with "
                f"{int(labels[first])}.",
                "Set data.exclusive to false (exclusive=False): these classes do not exclude each other.",
            )

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """Read image `index` as (H, W, 3) uint8, RGB, see `read_image`.

        Raises:
            ViceError: an index out of range, or a damaged file.
        """
        return read_image(self._record(index).image)

    def reduced_image(self, index: int, least: Least) -> np.ndarray:
        """Read image `index`, smaller where its file allows it, see `read_image`.

        Raises:
            ViceError: as `image`.
        """
        return read_image(self._record(index).image, least)

    def mask(self, index: int) -> np.ndarray | None:
        """Read the mask of image `index`, (H, W): 0 background, c + 1 class c, and void; None without a mask.

        Up to 254 classes it is uint8 and void is 255; with more it is int32 and void is 65535.

        Raises:
            ViceError: an index out of range, a damaged file, another size than the image, or an unknown label.
        """
        record = self._record(index)
        if record.mask is None:
            return None
        mask = self._layout.read_mask(record.mask)
        check_same_size(mask, stored_size(record.image), record.mask)
        check_mask(mask, len(self.classes), record.mask)
        return mask.astype(np.uint8 if len(self.classes) < VOID else np.int32, copy=False)

    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the boxes of the objects in image `index` from its annotation; None without annotation or boxes.

        Objects marked `difficult` are included, as in the class labels.

        Returns:
            classes (B,) int64, 0..C-1, and boxes (B, 4) float64 in pixels: left, top, right and bottom, from 0, right
            and bottom exclusive.

        Raises:
            ViceError: an index out of range, a damaged file, an unknown class, or a box that is empty or too large.
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
        """The kind of regions, and the number of images without them."""
        if regions not in ("auto", "masks", "boxes"):
            known = ("auto", "masks", "boxes")
            raise ViceError(
                f"`regions` must be one of {', '.join(known)}, but is {regions!r}.", did_you_mean(regions, known)
            )
        lacking = sum(file is None for file in self._annotations.values())
        boxed = lacking < len(self.records)
        if regions == "boxes" and not boxed:
            raise ViceError(
                f"`regions` is 'boxes', but no image of {self.split} has one: no XML files in "
                f"{self._layout.annotations}."
            )
        if regions == "boxes" or (regions == "auto" and boxed and self.masks_missing == len(self.records)):
            return "boxes", lacking
        return "masks", self.masks_missing

    def _record(self, index: int) -> Record:
        index = operator.index(index)
        if not 0 <= index < len(self.records):
            raise ViceError(f"The index must be 0 to {len(self.records) - 1} in {self.split}, but is {index}.")
        return self.records[index]

    def _located(self, split: str | os.PathLike[str], masks: str | None) -> tuple[list[Record], str, tuple[str, ...]]:
        """The files of every line, a text that says where the masks are, and notes."""
        lines = self._layout.lines(split)
        located = self._layout.located(lines, masks)
        if located.missing:
            first = located.missing[0]
            some = ", ".join(f"`{line.image_id}`" for line in located.missing[:3])
            raise ViceError(
                f"The image of `{first.image_id}` must be {self._layout.expected_image(first)}, but does not exist "
                f"({len(located.missing)} of the {len(lines)} images of {self._list} are missing: "
                f"{some}{', ...' if len(located.missing) > 3 else ''}).",
                f"List them all: vice data check {place_of(self.root, str(split), self._layout.chosen)}"
                if self._layout.images.is_dir()
                else LAYOUT,
            )
        if located.masks_missing:
            raise ViceError(
                next(iter(located.masks_missing.values())),
                "Correct the list, or give only the image in each line: the mask of its name is then read from "
                f"{' or '.join(self._layout.masks)}.",
            )
        return located.records, located.mask_source, (*self._layout.notes(split), *located.notes)
