"""The dataset of an assessment: what it must provide, and its images, read ahead a shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from torchvice.assessment.region import Region, image_of, region_of
from torchvice.data.dataset import Dataset, check_opened
from torchvice.data.digests import NOTHING, contents_of, of_pixels
from torchvice.data.labels import no_labels
from torchvice.errors import ViceError, brief, not_utf8_error, to_numpy
from torchvice.samples import Digests

if TYPE_CHECKING:
    from torchvice.assessment.reads import Reads

__all__ = ["Batch", "Dataset", "Partners", "Read", "check_dataset", "contents_of", "kind_of_targets", "read_ahead"]


def check_dataset(dataset: Dataset) -> None:
    """Refuse a dataset that cannot be assessed.

    Raises:
        ViceError: no dataset; no images; no image with a label; records without an id; two images with one id, whose
            rows could not be told apart; an id that is not UTF-8, which no table can hold; or targets that are not
            (N, C) of 0 and 1.
    """
    check_opened(dataset)
    if not len(dataset.records):
        raise ViceError(
            "An assessment needs images, but the dataset is empty.",
            "Choose another split (--split), or another folder of images.",
        )
    for number, record in enumerate(dataset.records):
        if not isinstance(getattr(record, "image_id", None), str):
            message = (
                f"Every record of the dataset must have an `image_id` (text), but record {number} is {brief(record)}."
            )
            raise ViceError(message, "For example types.SimpleNamespace(image_id='cat_1').")
    targets = np.asarray(to_numpy(dataset.targets))
    expected = (len(dataset.records), len(dataset.classes))
    if targets.shape != expected or not np.isin(targets, (0, 1)).all():
        came = (
            f"has shape {targets.shape}"
            if targets.shape != expected
            else f"holds {targets[~np.isin(targets, (0, 1))][0]}"
        )
        message = f"The dataset's `targets` must be {expected}, images and classes, of 0 and 1, but {came}."
        raise ViceError(message, "1 says that the image shows the class.")
    if not targets.any() and not getattr(dataset, "unlabelled", False):
        raise no_labels(len(dataset.records), str(getattr(dataset, "label_source", "")))
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


def kind_of_targets(dataset: Dataset, targets: str | None = None) -> str:
    """ "multilabel" or "exclusive": `targets` if given, else as the dataset says.

    Raises:
        ViceError: another value; exclusive targets where an image has no label or several, or of one class.
    """
    kind = targets or ("exclusive" if getattr(dataset, "exclusive", False) else "multilabel")
    if kind not in ("multilabel", "exclusive"):
        raise ViceError(f"`targets` must be 'multilabel' or 'exclusive', but is {targets!r}.")
    labels = np.asarray(dataset.targets).sum(1)
    if kind == "exclusive" and len(dataset.classes) == 1:
        raise ViceError(
            "Exclusive targets need two classes or more, since a softmax of one output is always 1, but the only class "
            f"is `{dataset.classes[0]}`.",
            "Give the data of all classes, or assess the one class as multilabel (--targets multilabel).",
        )
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

    `region` gives the region of an image; None: `region_of` reads it.
    """

    def __init__(self, dataset: Dataset, seed: int = 0, region: Callable[[int], Region | None] | None = None) -> None:
        self.dataset, self.seed = dataset, seed
        self._region_of = partial(region_of, dataset) if region is None else region
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
            region = self._region_of(circle[(place[index] + step) % len(circle)])
            if region is not None and region.holds(c):
                return region
        return None


@dataclass(frozen=True)
class Read:
    """An image as read from disk, its place in the dataset, its region, and its `partners`, see `Partners.regions`.

    `digests` are those of image and mask; empty where they were not asked for.
    """

    index: int
    image: np.ndarray
    region: Region | None
    partners: dict[int, Region] = field(default_factory=dict)
    digests: Digests = NOTHING


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
    dataset: Dataset,
    parts: Sequence[Sequence[int]],
    workers: int,
    partners: Partners | None = None,
    digests: Sequence[Digests] | None = None,
    reads: Reads | None = None,
) -> Iterator[Batch]:
    """The images of each part in turn; the next part is read while the caller works on the current one.

    `digests`: of every image of the dataset, as far as its files give them; None: not asked for. `reads` keeps what is
    read for other models.
    """

    def decoded(index: int) -> tuple[np.ndarray, Region | None]:
        if reads is not None:
            return reads.read(index)
        image = image_of(dataset, index)
        return image, region_of(dataset, index, (image.shape[0], image.shape[1]))

    def read(index: int) -> Read:
        image, region = decoded(index)
        others = {} if partners is None or region is None else partners.regions(index, region)
        known = NOTHING
        if digests is not None:
            known = of_pixels(digests[index], image, None if region is None else region.mask)
        return Read(index, image, region, others, known)

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
