"""The dataset of an assessment: what it must provide, and its images, read ahead a shard at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from torchvice.assessment.region import Region, region_of
from torchvice.data import description
from torchvice.data.dataset import Dataset
from torchvice.errors import ViceError, not_utf8_error
from torchvice.files import sha256

__all__ = ["Batch", "Dataset", "Partners", "Read", "check_dataset", "contents_of", "kind_of_targets", "read_ahead"]


def check_dataset(dataset: Dataset) -> None:
    """Refuse a dataset that cannot be assessed.

    Raises:
        ViceError: no images; two images with one id, whose rows could not be told apart; or an id that is not UTF-8,
            which no table can hold.
    """
    if not len(dataset.records):
        raise ViceError("An assessment needs images, but the dataset is empty.")
    ids: set[str] = set()
    for record in dataset.records:
        if record.image_id in ids:
            raise ViceError(
                f"Image ids must be unique, but the dataset has `{record.image_id}` more than once.",
                "Remove the second one from the list.",
            )
        try:
            record.image_id.encode()
        except UnicodeEncodeError as error:
            raise not_utf8_error(error) from None
        ids.add(record.image_id)


def contents_of(dataset: Dataset) -> dict[str, str]:
    """SHA-256 digests of a dataset, by part: `ids` in their order, `targets`, and the files of `images` and `masks`.

    `boxes` take the place of masks where objects are boxes; `description` is the file dataset.yaml. Records that name
    no files, of a dataset class of the user's own, give ids and targets alone.

    Raises:
        ViceError: a damaged annotation.
    """
    parts = {"ids": hashlib.sha256(), "targets": hashlib.sha256()}
    parts["targets"].update(np.ascontiguousarray(dataset.targets, np.uint8).tobytes())
    boxes = getattr(dataset, "boxes", None) if getattr(dataset, "regions", "masks") == "boxes" else None
    for index, record in enumerate(dataset.records):
        parts["ids"].update(record.image_id.encode() + b"\0")
        files = {"images": getattr(record, "image", None), "masks": None if boxes else getattr(record, "mask", None)}
        for name, file in files.items():
            if isinstance(file, Path):  # a digest a file: where one ends and the next begins counts
                parts.setdefault(name, hashlib.sha256()).update(f"{index} {sha256(file)}".encode())
        if boxes:
            found = boxes(index) or ()
            parts.setdefault("boxes", hashlib.sha256()).update(
                f"{index} {[array.tolist() for array in found]}".encode()
            )
    digests = {name: digest.hexdigest() for name, digest in parts.items()}
    root = getattr(dataset, "root", None)
    if isinstance(root, Path) and (root / description.FILE).is_file():
        digests["description"] = sha256(root / description.FILE)
    return digests


def kind_of_targets(dataset: Dataset, targets: str | None = None) -> str:
    """ "multilabel" or "exclusive": `targets` if given, else as the dataset says.

    Raises:
        ViceError: another value; or exclusive targets where an image has no label or several.
    """
    kind = targets or ("exclusive" if getattr(dataset, "exclusive", False) else "multilabel")
    if kind not in ("multilabel", "exclusive"):
        raise ViceError(f"`targets` must be 'multilabel' or 'exclusive', but is {targets!r}.")
    labels = np.asarray(dataset.targets).sum(1)
    if kind == "exclusive" and (labels != 1).any():
        wrong = int((labels != 1).argmax())
        raise ViceError(
            f"Exclusive targets have one label per image, but `{dataset.records[wrong].image_id}` has "
            f"{int(labels[wrong])}.",
            "Assess them as multilabel (--targets multilabel).",
        )
    return kind


class Partners:
    """For an image and a class, the region of another image that shows the class: a derangement within each class.

    The images of a class form a circle, in an order that depends only on the seed and the class; the partner is the
    next one whose region holds the class. So every region is used once, whatever the batches are.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self._circles: dict[int, tuple[list[int], dict[int, int]]] = {}

    def regions(self, index: int, region: Region) -> dict[int, Region]:
        """By class, the partner's region, for the true classes that the image's own region and another one hold."""
        regions = {}
        for c in np.flatnonzero(self.dataset.targets[index]).tolist():
            other = self._next(index, c) if region.holds(c) else None
            if other is not None:
                regions[c] = other
        return regions

    def _next(self, index: int, c: int) -> Region | None:
        if c not in self._circles:
            members = np.flatnonzero(np.asarray(self.dataset.targets)[:, c])
            circle = np.random.default_rng([self.seed, c]).permutation(members).tolist()
            self._circles[c] = circle, {member: place for place, member in enumerate(circle)}
        circle, place = self._circles[c]
        for step in range(1, len(circle)):
            region = region_of(self.dataset, circle[(place[index] + step) % len(circle)])
            if region is not None and region.holds(c):
                return region
        return None


@dataclass(frozen=True)
class Read:
    """An image as read from disk, its place in the dataset, its region, and its `partners`, see `Partners.regions`."""

    index: int
    image: np.ndarray
    region: Region | None
    partners: dict[int, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Images that are read and counted together, with their ids (N,) and targets (N, C)."""

    reads: list[Read]
    image_ids: list[str]
    targets: np.ndarray

    @property
    def images(self) -> list[np.ndarray]:
        """(H, W, 3) uint8 each."""
        return [read.image for read in self.reads]

    @property
    def masked(self) -> list[bool]:
        """Whether an image has a region, and its maps are counted."""
        return [read.region is not None for read in self.reads]


def read_ahead(
    dataset: Dataset, parts: Sequence[Sequence[int]], workers: int, partners: Partners | None = None
) -> Iterator[Batch]:
    """The images of each part in turn; the next part is read while the caller works on the current one."""

    def read(index: int) -> Read:
        image = dataset.image(index)
        region = region_of(dataset, index, (image.shape[0], image.shape[1]))
        others = {} if partners is None or region is None else partners.regions(index, region)
        return Read(index, image, region, others)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead = [pool.submit(read, i) for i in parts[0]] if parts else []
        for number, part in enumerate(parts):
            current, ahead = ahead, []
            if number + 1 < len(parts):
                ahead = [pool.submit(read, i) for i in parts[number + 1]]
            targets = np.array([dataset.targets[i] for i in part], dtype=np.uint8)
            ids = [dataset.records[i].image_id for i in part]
            try:
                yield Batch([future.result() for future in current], ids, targets)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
