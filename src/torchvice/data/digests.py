"""Digests: what a dataset holds, as a whole and image by image, so that changed files are noticed by their content."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.data import description
from torchvice.data.dataset import Dataset
from torchvice.errors import to_numpy
from torchvice.files import sha256

__all__ = [
    "NOTHING",
    "Contents",
    "contents_of",
    "described",
    "digests_of",
    "digests_of_image",
    "of_pixels",
    "of_record",
    "shortened",
]

# Of an image and of its mask, as `torchvice.samples.Digests` has them in the table.
Digests = tuple[str, str]
LENGTH = 16  # hexadecimal digits in the table: 64 bits notice a change, and are no proof against an attack
NOTHING: Digests = ("", "")


def contents_of(dataset: Dataset) -> dict[str, str]:
    """SHA-256 digests of a dataset, by part: `ids` in their order, `targets`, and the files of `images` and `masks`.

    `boxes` take the place of masks where objects are boxes; `description` is the file dataset.yaml. Records that name
    no files, of a dataset class of the user's own, give ids and targets alone.

    Raises:
        ViceError: a damaged annotation.
    """
    return digests_of(dataset)[0]


def digests_of(dataset: Dataset) -> tuple[dict[str, str], list[Digests]]:
    """The digests of `contents_of`, and those of every image, from one reading of the files.

    Raises:
        ViceError: a damaged annotation.
    """
    contents, of_images = Contents(), list[Digests]()
    for index, record in enumerate(dataset.records):
        found = of_record(dataset, index)
        contents.add(record.image_id, dataset.targets[index], found)
        of_images.append(shortened(found))
    return contents.digests() | described(dataset), of_images


class Contents:
    """The digests of a dataset as a whole, from those of its images, which are added in their order.

    Attributes:
        images: how many were added.
    """

    def __init__(self) -> None:
        self.images = 0
        self._parts = {"ids": hashlib.sha256(), "targets": hashlib.sha256()}

    def add(self, image_id: str, targets: Any, found: Mapping[str, str]) -> None:
        """Add an image: its id, targets (C,), and what `of_record` found."""
        self._parts["ids"].update(image_id.encode() + b"\0")
        self._parts["targets"].update(np.ascontiguousarray(to_numpy(targets), np.uint8).tobytes())
        for name, digest in found.items():  # a digest a file: where one ends and the next begins counts
            self._parts.setdefault(name, hashlib.sha256()).update(f"{self.images} {digest}".encode())
        self.images += 1

    def digests(self) -> dict[str, str]:
        """The digests by part, see `contents_of`."""
        return {name: digest.hexdigest() for name, digest in self._parts.items()}


def described(dataset: Dataset) -> dict[str, str]:
    """The digest of the file that describes a dataset as a whole, if it has one."""
    root = getattr(dataset, "root", None)
    there = isinstance(root, Path) and (root / description.FILE).is_file()
    return {"description": sha256(root / description.FILE)} if there and root is not None else {}


def of_record(dataset: Dataset, index: int) -> dict[str, str]:
    """The SHA-256 of the files of one image, of `images` and `masks`; or the text of its `boxes`, where objects are.

    Raises:
        ViceError: a damaged annotation.
    """
    boxes = getattr(dataset, "boxes", None) if getattr(dataset, "regions", "masks") == "boxes" else None
    found = _of_files(dataset.records[index], masks=not boxes)
    return found | ({"boxes": f"{[array.tolist() for array in boxes(index) or ()]}"} if boxes else {})


def shortened(found: Mapping[str, str]) -> Digests:
    """The digests of an image as the table has them, of what `of_record` found."""
    mask = hashlib.sha256(found["boxes"].encode()).hexdigest() if "boxes" in found else found.get("masks", "")
    return found.get("images", "")[:LENGTH], mask[:LENGTH]


def _of_files(record: Any, masks: bool) -> dict[str, str]:
    """The SHA-256 of the files that a record names, of `images` and `masks`."""
    files = {"images": getattr(record, "image", None), "masks": getattr(record, "mask", None) if masks else None}
    return {name: sha256(file) for name, file in files.items() if isinstance(file, Path)}


def digests_of_image(dataset: Dataset, index: int, image: np.ndarray, mask: np.ndarray | None) -> Digests:
    """The digests of one image as the table has them; that of boxes is not read again, and empty.

    Args:
        dataset, index: where it is.
        image, mask: as read; None: boxes, or no mask.
    """
    return of_pixels(shortened(_of_files(dataset.records[index], masks=mask is not None)), image, mask)


def of_pixels(known: Digests, image: np.ndarray, mask: np.ndarray | None) -> Digests:
    """The digests of an image, from its pixels where no file gave them.

    Args:
        known: from files; "" where no file gave one.
        image: (H, W, 3).
        mask: (H, W) labels, or None.
    """
    labels = None if mask is None else mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
    planes = (image, labels)
    found = [old or ("" if plane is None else _digest(plane)) for old, plane in zip(known, planes, strict=True)]
    return found[0], found[1]


def _digest(plane: np.ndarray) -> str:
    """The CRC-32 of an array, its type and its shape: a tenth of the time of decoding, and enough to notice a change.

    It begins with `pixels:`, as files have other digests.
    """
    before = zlib.crc32(f"{plane.dtype} {plane.shape}".encode())
    return f"pixels:{zlib.crc32(np.ascontiguousarray(plane).data, before):08x}"
