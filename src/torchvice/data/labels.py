"""The class labels of images: read from cls_labels.npy, from Annotations, or from the masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.data.annotations import class_indices, read_annotation
from torchvice.data.finder import Finder, composed
from torchvice.data.images import check_mask
from torchvice.errors import ViceError
from torchvice.files import read_npy_dict

if TYPE_CHECKING:
    from torchvice.data.layout import Record

__all__ = ["LABEL_SOURCES", "no_labels", "targets_from"]

LABEL_SOURCES = ("cls_labels", "annotations", "masks")


@dataclass(frozen=True)
class _Source:
    """A source of labels: its name, which images it covers, and the class indices of a covered image."""

    name: str
    covers: Callable[[Record], bool]
    labels_of: Callable[[Record], Any]


def targets_from(
    source: str,
    records: Sequence[Record],
    classes: Sequence[str],
    *,
    npy: Path | None,
    annotations: Path,
    masks: str,
    read_mask: Callable[[Path], np.ndarray],
) -> tuple[np.ndarray, str]:
    """Read the targets of a split from `source`, or for `auto` from the first source that covers every image.

    Args:
        source: `auto`, `cls_labels`, `annotations` or `masks`.
        records: N images.
        classes: C names.
        npy: the file {image id: (C,) zeros and ones}, or None.
        annotations: the folder of the XML files; it may be missing.
        masks: a text that says where the masks come from.
        read_mask: reads the labels of a mask.

    Returns:
        (N, C) uint8, and a text that names the source, and those that cover only some of the images.

    Raises:
        ViceError: an image without labels, an unknown class, or labels of another length or not of 0 and 1.
    """
    makers = {
        "cls_labels": lambda: _from_npy(npy, classes),
        "annotations": lambda: _from_annotations(annotations, classes),
        "masks": lambda: _from_masks(masks, classes, read_mask),
    }
    partial: list[str] = []  # sources that cover some of the images
    absent: list[str] = []
    for name in LABEL_SOURCES if source == "auto" else (source,):
        candidate = makers[name]()
        lacking = [record.image_id for record in records if not candidate.covers(record)]
        if not lacking:
            targets = np.zeros((len(records), len(classes)), dtype=np.uint8)
            for row, record in zip(targets, records, strict=True):
                row[candidate.labels_of(record)] = 1
            return targets, "; ".join([candidate.name, *partial])
        gap = f"{candidate.name} lacks {len(lacking)} of {len(records)} images, such as `{lacking[0]}`"
        there = {"cls_labels": npy is not None, "annotations": annotations.is_dir()}.get(name, True)
        gap = gap if there else f"there is no {candidate.name}"
        (absent if len(lacking) == len(records) else partial).append(gap)
    raise ViceError(
        f"Every image must have class labels, but {'; '.join([*partial, *absent])}.",
        "Give cls_labels.npy next to the lists, an Annotations folder of XML files, or masks.",
    )


def no_labels(images: int, source: str) -> ViceError:
    """The error of images none of which has a label."""
    where = f" (labels: {source})" if source else ""
    return ViceError(
        f"An assessment needs images with labels, but none of the {images} has one{where}.",
        "Give the labels of the images: every class that an image shows is 1 in its row of the targets.",
    )


def _from_npy(file: Path | None, classes: Sequence[str]) -> _Source:
    content = {} if file is None else read_npy_dict(file, "The class labels")
    vectors = {composed(name) if isinstance(name, str) else name: vector for name, vector in content.items()}

    def labels_of(record: Record) -> np.ndarray:
        try:
            vector = np.asarray(vectors[composed(record.image_id)])
        except ValueError:  # rows of unequal lengths
            vector = np.zeros(0)
        if vector.shape != (len(classes),):
            raise ViceError(
                f"The labels of `{record.image_id}` in {file} must have shape ({len(classes)},), one "
                f"number per class, but have {vector.shape}.",
                "Give the classes of the labels in classes.txt, one name per line, or in dataset.yaml if there is one.",
            )
        if not ((vector == 0) | (vector == 1)).all():
            raise ViceError(
                f"The labels of `{record.image_id}` in {file} must be 0 or 1, but are {vector}.",
                "Write 1 for the classes that the image has, 0 for the others.",
            )
        return np.flatnonzero(vector)

    return _Source("cls_labels.npy", lambda record: composed(record.image_id) in vectors, labels_of)


def _from_annotations(folder: Path, classes: Sequence[str]) -> _Source:
    known = {name: index for index, name in enumerate(classes)}
    annotation_of = Finder(folder, (".xml",))

    def labels_of(record: Record) -> list[int]:
        file = annotation_of(record.image_id)
        assert file is not None  # only called for covered images
        return class_indices(read_annotation(file), known, file)

    return _Source("Annotations", lambda record: annotation_of(record.image_id) is not None, labels_of)


def _from_masks(where: str, classes: Sequence[str], read_mask: Callable[[Path], np.ndarray]) -> _Source:
    def labels_of(record: Record) -> np.ndarray:
        assert record.mask is not None  # only called for covered images
        return check_mask(read_mask(record.mask), len(classes), record.mask) - 1

    return _Source(f"masks ({where})", lambda record: record.mask is not None, labels_of)
