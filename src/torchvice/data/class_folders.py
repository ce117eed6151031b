"""A folder with one sub-folder of images for each class, with or without masks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from torchvice.data.bare_folder import BareFolder, checked_folder, class_folders, masks_below, named_classes
from torchvice.data.description import check_objects_only
from torchvice.data.finder import composed
from torchvice.data.images import VOID, present_values
from torchvice.data.layout import Record
from torchvice.data.mask_values import MaskValues, found_values, refuse_forms, refuse_mixed
from torchvice.data.named_values import NamedValues
from torchvice.data.pairing import named, paired
from torchvice.errors import ViceError, did_you_mean
from torchvice.metrics.overlap import void_of

__all__ = ["ClassFolders"]


class ClassFolders(BareFolder):
    """A folder with one sub-folder of images for each class: every image has the one label of its folder.

    Args:
        root: the folder of the sub-folders.
        masks: a folder with sub-folders of the same names that hold the masks; None: no masks.
        classes: the names of the sub-folders in the order of the labels; None: that of classes.txt, else sorted.
        values: what the values of the masks mean.

    Raises:
        ViceError: see `BareFolder`; classes that are not the sub-folders; masks that do not fit their images, hold
            labels of several classes, or are of another form, see `torchvice.data.mask_values.refuse_forms`.
    """

    exclusive = True

    def __init__(
        self,
        root: Path,
        masks: Path | None = None,
        classes: Sequence[str] | None = None,
        values: NamedValues | None = None,
    ) -> None:
        super().__init__(root, [root] if masks is None else [root, masks])
        folders = class_folders(root)
        if twice := next((name for name, after in itertools.pairwise(folders) if name == after), None):
            raise ViceError(
                f"Sub-folders must have different names, but {root} has two called `{twice}`, in two forms of Unicode.",
                "Move the images of one to the other.",
            )
        check_objects_only(
            folders,
            f"The folder {root} must have sub-folders of",
            "Move it elsewhere. If the network has a class for images without an object, rename the folder.",
        )
        self.classes = _in_order(named_classes(classes, self.homes), folders, root)
        label_of = {name: c + 1 for c, name in enumerate(self.classes)}
        self.found = {name: files for name, files in self.found.items() if "/" in name}
        pairs = None
        if masks is not None:
            self.chosen["masks"] = str(checked_folder(masks, "The masks"))
            pairs = paired(self.found, masks_below(masks, None), str(masks))
        self.settle(self.found, pairs)
        self.label_of = {name: label_of[name.partition("/")[0]] for name in self.files}
        self._mask_label = {path: self.label_of[name] for name, path in self.pairs.masks.items()}
        self.values = self._mask_values(values)
        if values is not None:
            self.chosen["mask_values"] = values.text

    def _mask_values(self, given: NamedValues | None) -> MaskValues:
        """What the values of the masks mean: one object each, or labels."""
        if given is not None:
            return MaskValues(self.classes, note=given.note("the class of the folder"), named=given)
        paths, where = list(self._mask_label), self.chosen.get("masks", "")
        drawn = found_values(paths)
        refuse_mixed(drawn, None, where)
        found = set().union(*drawn) - {0}
        void = void_of(len(self.classes))
        objects = found - {VOID, void} or found
        if len(objects) == 1:
            value = objects.pop()
            voids = sorted(found - {value})
            if voids and value > max(1, len(self.classes)):
                raise ViceError(
                    f"The masks of {where} must draw the object with one value, but hold {value} and {voids[0]}.",
                    "Say which is the object: --mask-values "
                    f"object={voids[0]},void={value} (mask_values='object={voids[0]},void={value}'), or the other way.",
                )
            return MaskValues(self.classes, value, self._said(value, voids, dict(zip(paths, drawn, strict=True))))
        refuse_forms(drawn, {*range(len(self.classes) + 1), void}, where)
        return MaskValues(self.classes)

    def _said(self, value: int, voids: Sequence[int], drawn: Mapping[Path, Set[int]]) -> str:
        """What the one value of masks means, and which classes have empty masks alone."""
        void = f"{voids[0]} is void, " if voids else ""
        told = f"In masks, {value} is the class of the folder, {void}and 0 is background."
        if value in (1, VOID):
            told += " If the sub-folders are no classes, name that of the masks: --classes NAME (classes=['NAME'])."
        full = {self._mask_label[path] for path, found in drawn.items() if found - {0}}
        empty = [self.classes[label - 1] for label in sorted({*self._mask_label.values()} - full)]
        return told + (f" All masks of {named(empty)} are empty." if empty else "")

    def read_mask(self, path: Path) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers; a single value but 0 (and void) is the class of the folder.

        Raises:
            ViceError: see `MaskValues.read`; or labels, but not that of the folder.
        """
        own = self._mask_label[path]
        mask = self.values.read(path, own)
        drawn = present_values(mask)
        drawn = drawn[(drawn != 0) & (drawn != void_of(len(self.classes)))]
        if len(drawn) and own not in drawn:
            raise ViceError(
                f"The mask {path} must hold {own}, the label of its folder `{self.classes[own - 1]}`, "
                f"but holds {int(drawn[0])}.",
                "Labels follow the order of the folders (--classes gives another one), or draw every object as 255.",
            )
        return mask

    def notes(self, split: str | os.PathLike[str]) -> tuple[str, ...]:
        """Sentences on what the folders and the masks mean."""
        labelled = f"Every sub-folder is a class: each image has one label of {len(self.classes)}."
        notes = (labelled, *self.format_notes(), *self.pairs.notes)
        if not self.pairs.masks:
            return (*notes, "There are no masks: only classification and calibration are measured.")
        return (*notes, *([self.values.note] if self.values.note else []))

    def targets(self, source: str, records: Sequence[Record], masks: str) -> tuple[np.ndarray, str]:
        """Return the label of every image's folder.

        Raises:
            ViceError: another source is asked for.
        """
        if source != "auto":
            raise ViceError(f"The labels of {self.root} are its sub-folders, but `labels` is {source!r}.")
        targets = np.zeros((len(records), len(self.classes)), dtype=np.uint8)
        targets[range(len(records)), [self.label_of[record.image_id] - 1 for record in records]] = 1
        return targets, "sub-folders"


def _in_order(classes: Sequence[str] | None, folders: Sequence[str], root: Path) -> tuple[str, ...]:
    """Return the names of the sub-folders, in the order of `classes` if they are given."""
    if classes is None:
        return tuple(folders)
    classes = tuple(map(composed, classes))
    for name in classes:
        if name not in folders:
            raise ViceError(f"The classes must be the sub-folders of {root}, but it has no `{name}`.",
                            did_you_mean(name, folders))  # fmt: skip
    if lacking := sorted(set(folders) - set(classes)):
        raise ViceError(
            f"The classes must be all {len(folders)} sub-folders of {root}, but lack {named(lacking)}.",
            "Give all of them, or move the images of the others elsewhere.",
        )
    return classes
