"""The headline explanations of some images: as rows of a shard, or as a table in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from torchvice.assessment.faithfulness import with_faithfulness
from torchvice.assessment.images import Dataset, Read, kind_of_targets, read_ahead
from torchvice.assessment.ledger import manifest_of
from torchvice.assessment.rows import Rows
from torchvice.errors import ViceError
from torchvice.samples import Samples

if TYPE_CHECKING:
    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain.faithfulness import FaithfulnessChoices

__all__ = ["count_headlines", "keys", "samples_of"]


def keys(dataset: Dataset, part: Sequence[Read]) -> tuple[list[str], np.ndarray]:
    """The ids and the targets (N, C) of some images."""
    targets = np.array([dataset.targets[read.index] for read in part], dtype=np.uint8)
    return [dataset.records[read.index].image_id for read in part], targets


def count_headlines(
    views: Mapping[str, View],
    part: Sequence[Read],
    image_ids: Sequence[str],
    targets: np.ndarray,
    rows: Rows,
    exclusive: bool,
    advance: Callable[[], None],
    faithful: FaithfulnessChoices | None = None,
) -> dict[int, ViewOutput]:
    """Add images and headline explanations of every protocol; returns what `strict` saw, by position.

    Args:
        views: by protocol.
        part, image_ids, targets: the images, their ids and targets (N, C).
        rows: where they go.
        exclusive: whether every image has exactly one label.
        advance: called after each image and protocol.
        faithful: what is asked of the maps of `strict` beside their overlap; None: nothing.
    """
    images, masked = [read.image for read in part], [read.region is not None for read in part]
    found: dict[int, ViewOutput] = {}
    for protocol, view in views.items():
        competing = protocol == "strict" and exclusive
        asked = faithful if protocol == "strict" else None
        looked = view.look(images, targets, masked)
        for position, seen, judged in with_faithfulness(view, images, looked, asked):
            read, image_id = part[position], image_ids[position]
            ji = None if read.region is None else rows.count(image_id, view.explanation, seen, read.region, judged)
            size = (read.image.shape[0], read.image.shape[1])
            rows.add_image(image_id, view.name, size, targets[position], seen.logits, ji, competing)
            if protocol == "strict":
                found[position] = seen
            advance()
    return found


def samples_of(
    views: Mapping[str, View],
    dataset: Dataset,
    places: Sequence[int],
    *,
    targets: Literal["multilabel", "exclusive"] | None = None,
    workers: int = 2,
    batch: int = 128,
) -> Samples:
    """The table of some images, in memory: what `assess` writes of them, without controls and further explanations.

    Args:
        views: from `torchvice.assessment.views.views_of`.
        dataset: see `Dataset`.
        places: of one or more images in the dataset.
        targets, workers: as for `assess`.
        batch: images that are read ahead.

    Raises:
        ViceError: no places; or as `assess`.
    """
    if not len(places):
        raise ViceError("An assessment needs images, but none are asked for.")
    kind, rows = kind_of_targets(dataset, targets), Rows()
    parts = [list(places[start : start + batch]) for start in range(0, len(places), batch)]
    for part in read_ahead(dataset, parts, workers):
        count_headlines(views, part, *keys(dataset, part), rows, kind == "exclusive", lambda: None)
    manifest = {**manifest_of(dataset, views, (), kind, {}), "finished": True}
    return Samples(manifest, rows.images(), rows.regions(), rows.maps())
