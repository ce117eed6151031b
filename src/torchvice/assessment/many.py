"""One of many models on a dataset that they share: the table that `assess` alone would write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchvice.assessment.images import kind_of_targets
from torchvice.assessment.ledger import common_of
from torchvice.assessment.map_settings import MapSettings, Protocols
from torchvice.assessment.opened import opened_out
from torchvice.assessment.parts import WHOLE, locked_part
from torchvice.assessment.pipeline import Pipeline, Progress, request_of
from torchvice.assessment.reads import Reads
from torchvice.assessment.request import Extras
from torchvice.samples import ShardFolder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SHARD_SIZE", "Assessed", "assess_with"]

SHARD_SIZE = 128  # as that of `assess`


@dataclass(frozen=True)
class Assessed:
    """What was made: images in the table, whether it is finished, and the images per pass at the end."""

    images: int
    finished: bool
    batch_size: int


def assess_with(
    reads: Reads,
    model: nn.Module,
    out: Path,
    *,
    block: range | None = None,
    protocols: Protocols,
    settings: MapSettings,
    extras: Extras,
    targets: Literal["multilabel", "exclusive"] | None = None,
    workers: int = 2,
    made_by: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    passes: Progress | None = None,
    tell: Callable[[str], None],
) -> Assessed:
    """Assess a model on images that others have read, or will; the arguments are those of `torchvice.assess`.

    Args:
        reads: of the dataset.
        block: the images that are assessed now, see `Reads.blocks`; None: all.
        tell: called with what `assess` says.

    Raises:
        ViceError: as `torchvice.assess`; or outputs that are not finite.
    """
    folder = ShardFolder(opened_out(out))
    pipeline = Pipeline(reads.dataset, folder, workers, WHOLE, reads, tell)
    kind = kind_of_targets(reads.dataset, targets)
    request = request_of(pipeline, model, protocols, settings, extras, kind, made_by or {}, passes)
    with locked_part(folder.folder, WHOLE, common_of(request) | {"shard_size": SHARD_SIZE}):
        pipeline.run(request, SHARD_SIZE, progress, block)
    images = len(folder.finished_images())
    finished = images == len(reads.dataset.records)
    return Assessed(images, finished, min(view.batch_size for view in pipeline.views.values()))
