"""An assessment in batches, for engines that hold the loop over the images themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchvice.assessment.images import Dataset, kind_of_targets
from torchvice.assessment.map_settings import MapSettings, Protocols
from torchvice.assessment.parts import WHOLE
from torchvice.assessment.pipeline import Pipeline, request_of
from torchvice.assessment.request import Extras
from torchvice.data.digests import Contents, described, of_record, shortened
from torchvice.data.images import stored_size
from torchvice.errors import ViceError
from torchvice.samples import Digests, Images, Maps, Regions, ShardFolder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BatchAssessment"]

_NOWHERE = ShardFolder(os.devnull)  # the table is written by the engine


class BatchAssessment:
    """The rows that `torchvice.assess` would write for some images of a dataset, in batches of any images.

    Args:
        model, dataset, protocols, settings, extras, targets, workers, made_by: see `torchvice.assess`.

    Attributes:
        dataset: the data.
        manifest: of the table, without the digests of the files in its `contents`: files are read with their images.

    Raises:
        ViceError: see `torchvice.assess`.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        *,
        protocols: Protocols,
        settings: MapSettings,
        extras: Extras,
        targets: Literal["multilabel", "exclusive"] | None,
        workers: int,
        made_by: Mapping[str, Any],
    ) -> None:
        self.dataset = dataset
        self._pixels = _Pixels(dataset)
        self._digests = _Digests(dataset)
        self._pipeline = _BatchPipeline(self._pixels, self._digests, workers)  # it checks the dataset
        kind = kind_of_targets(dataset, targets)
        self.manifest = request_of(self._pipeline, model, protocols, settings, extras, kind, made_by, None)

    def rows(
        self, places: Sequence[int], pixels: Mapping[int, np.ndarray]
    ) -> tuple[Images, Regions, Maps, list[dict[str, str]]]:
        """Assess some images.

        Args:
            places: in the dataset, each once.
            pixels: (H, W, 3) uint8 by place, of images that were decoded already; the others are read.

        Returns:
            The parts of the table, and the digests of each image's files, see `digests.of_record`.

        Raises:
            ViceError: pixels that are not those of the image's file.
        """
        for place, image in pixels.items():
            _check_size(self.dataset.records[place], image)
        self._pixels.given = pixels
        self._digests.found.clear()
        try:
            rows = self._pipeline.rows_of(places)
        finally:
            self._pixels.given = {}
        return rows.images(), rows.regions(), rows.maps(), [self._digests.found[place] for place in places]


class _Pixels:
    """A dataset of which some images were decoded already."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.given: Mapping[int, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def image(self, index: int) -> np.ndarray:
        return self.given[index] if index in self.given else self._dataset.image(index)


class _Digests(Sequence[Digests]):
    """The digests of every image of a dataset, read when they are asked for. `found` holds the unshortened ones."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.found: dict[int, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self.dataset.records)

    def __getitem__(self, index: Any) -> Any:
        self.found[index] = of_record(self.dataset, index)
        return shortened(self.found[index])


class _BatchPipeline(Pipeline):
    """A pipeline that reads no file before its image is assessed."""

    def __init__(self, dataset: Any, digests: _Digests, workers: int) -> None:
        super().__init__(dataset, _NOWHERE, workers, WHOLE)
        self._of_images = digests

    def _digested(self) -> tuple[dict[str, str], Sequence[Digests]]:
        contents = Contents()
        for record, targets in zip(self.dataset.records, self.dataset.targets, strict=True):
            contents.add(record.image_id, targets, {})
        return contents.digests() | described(self.dataset), self._of_images


def _check_size(record: Any, image: np.ndarray) -> None:
    """Refuse an image that was resized, or turned: its mask and its rows are of the pixels as stored."""
    file = getattr(record, "image", None)
    if isinstance(file, Path) and image.shape[:2] != (size := stored_size(file)):
        raise ViceError(
            f"The pixels of `{record.image_id}` must have the size of {file}, {size[1]} x {size[0]}, but have "
            f"{image.shape[1]} x {image.shape[0]}.",
            "Read images in their own size, or give their ids alone.",
        )
