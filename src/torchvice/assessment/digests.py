"""Digests: what a dataset holds, as a whole and image by image, so that changed files are noticed by their content."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.data import description
from torchvice.data.dataset import Dataset
from torchvice.files import sha256
from torchvice.samples import Digests

__all__ = ["NOTHING", "contents_of", "digests_of", "digests_of_image", "of_pixels"]

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
    parts = {"ids": hashlib.sha256(), "targets": hashlib.sha256()}
    parts["targets"].update(np.ascontiguousarray(dataset.targets, np.uint8).tobytes())
    boxes = getattr(dataset, "boxes", None) if getattr(dataset, "regions", "masks") == "boxes" else None
    of_images: list[Digests] = []
    for index, record in enumerate(dataset.records):
        parts["ids"].update(record.image_id.encode() + b"\0")
        found = _of_files(record, masks=not boxes)
        for name, digest in found.items():  # a digest a file: where one ends and the next begins counts
            parts.setdefault(name, hashlib.sha256()).update(f"{index} {digest}".encode())
        if boxes:
            text = f"{[array.tolist() for array in boxes(index) or ()]}"
            found["masks"] = hashlib.sha256(text.encode()).hexdigest()
            parts.setdefault("boxes", hashlib.sha256()).update(f"{index} {text}".encode())
        of_images.append((found.get("images", "")[:LENGTH], found.get("masks", "")[:LENGTH]))
    digests = {name: digest.hexdigest() for name, digest in parts.items()}
    root = getattr(dataset, "root", None)
    if isinstance(root, Path) and (root / description.FILE).is_file():
        digests["description"] = sha256(root / description.FILE)
    return digests, of_images


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
    found = _of_files(dataset.records[index], masks=mask is not None)
    known = (found.get("images", "")[:LENGTH], found.get("masks", "")[:LENGTH])
    return of_pixels(known, image, mask)


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
