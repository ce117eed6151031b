"""Reads: the images and masks of a dataset, decoded once and kept while several models are assessed on them."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from torchvice.assessment.images import Dataset, check_dataset
from torchvice.assessment.region import Region, image_of, region_of
from torchvice.data.digests import digests_of
from torchvice.data.warping import warp_all

__all__ = ["Reads"]

Size = tuple[int, int]


class Reads:
    """Images, regions and resized inputs of a dataset in bounded memory; the models that follow read them from there.

    Pixels are kept as uint8, masks as they are counted, and inputs as they are before normalisation: networks of one
    input size and interpolation share them, whatever their mean and std. What does not fit is read again.

    Args:
        dataset: see `Dataset`; its files are digested once.
        memory: the most bytes that are kept.

    Attributes:
        contents, digests: see `torchvice.data.digests.digests_of`.
        decoded: how many images were decoded, for benchmarks and tests.
        error: what went wrong while an image was read: no fault of a model.

    Raises:
        ViceError: as `check_dataset` and `digests_of`.
    """

    def __init__(self, dataset: Dataset, memory: int) -> None:
        check_dataset(dataset)
        self.dataset, self.memory = dataset, memory
        self.contents, self.digests = digests_of(dataset)
        self.decoded = 0
        self.error: Exception | None = None
        self._kept: dict[int, tuple[np.ndarray, Region | None]] = {}
        self._inputs: dict[tuple[Size, str], dict[int, np.ndarray]] = {}
        self._index: dict[int, int] = {}  # of a kept image, by its identity
        self._bytes = 0
        self._lock = Lock()

    def blocks(self, shard_size: int, side: int) -> list[range]:
        """Runs of images that fit into the memory together, each of whole shards; one, if all images fit.

        Args:
            shard_size: images of a shard.
            side: pixels of the largest square input.
        """
        total = len(self.dataset.records)
        image, region = self.read(0)
        each = image.nbytes + _bytes_of(region) + 3 * side**2
        length = max(1, int(self.memory / (1.25 * each)) // shard_size) * shard_size  # images differ in size
        return [range(start, min(start + length, total)) for start in range(0, total, length)]

    def start(self, block: range) -> None:
        """Drop what is kept of other images than those of a block."""
        with self._lock:
            for index in [index for index in self._kept if index not in block]:
                image, region = self._kept.pop(index)
                self._bytes -= image.nbytes + _bytes_of(region)
                del self._index[id(image)]
                for inputs in self._inputs.values():
                    self._bytes -= 0 if (shown := inputs.pop(index, None)) is None else shown.nbytes

    def read(self, index: int) -> tuple[np.ndarray, Region | None]:
        """Image `index`, (H, W, 3) uint8, and its region.

        Raises:
            ViceError: a damaged file, or as `image_of` and `region_of`.
        """
        if (kept := self._kept.get(index)) is not None:
            return kept
        try:
            image = image_of(self.dataset, index)
            region = region_of(self.dataset, index, (image.shape[0], image.shape[1]))
        except Exception as error:
            self.error = error
            raise
        with self._lock:
            self.decoded += 1
            size = image.nbytes + _bytes_of(region)
            if index not in self._kept and self._bytes + size <= self.memory:
                self._kept[index], self._index[id(image)] = (image, region), index
                self._bytes += size
        return image, region

    def region(self, index: int) -> Region | None:
        """The region of an image alone."""
        kept = self._kept.get(index)
        return region_of(self.dataset, index) if kept is None else kept[1]

    def warp_all(self, images: Sequence[np.ndarray], sizes: Sequence[Size], interpolation: str) -> list[np.ndarray]:
        """As `torchvice.data.warping.warp_all`: inputs that are kept are not resized again, and are not to be changed.

        A new input size takes the place of those before it where the memory is full.
        """
        places = [self._index.get(id(image)) for image in images]
        shown = [self._inputs.get((size, interpolation), {}).get(-1 if place is None else place)
                 for size, place in zip(sizes, places, strict=True)]  # fmt: skip
        missing = [row for row, one in enumerate(shown) if one is None]
        made = warp_all([images[row] for row in missing], [sizes[row] for row in missing], interpolation)
        for row, pixels in zip(missing, made, strict=True):
            shown[row] = pixels
            if places[row] is not None and pixels is not images[row]:
                self._keep(sizes[row], interpolation, places[row], pixels)
        return [one for one in shown if one is not None]

    def _keep(self, size: Size, interpolation: str, index: int | None, pixels: np.ndarray) -> None:
        key = size, interpolation
        with self._lock:
            if self._bytes + pixels.nbytes > self.memory:
                for other in [other for other in self._inputs if other != key]:
                    self._bytes -= sum(one.nbytes for one in self._inputs.pop(other).values())
            own = self._inputs.setdefault(key, {})
            if index is not None and index not in own and self._bytes + pixels.nbytes <= self.memory:
                own[index] = pixels
                self._bytes += pixels.nbytes


def _bytes_of(region: Region | None) -> int:
    if region is None:
        return 0
    arrays = (region.mask, region.classes, region.boxes)
    return sum(array.nbytes for array in arrays if array is not None)
