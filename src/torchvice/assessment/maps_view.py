"""MapsView: the view of maps and logits that were read from files, for `assess_maps`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from torchvice.assessment.finished import Finished, ViewOutput
from torchvice.assessment.foreign_maps import ForeignMaps
from torchvice.assessment.images import Batch
from torchvice.assessment.map_settings import MapSettings
from torchvice.explain import map_status, upsample
from torchvice.models.families import MapSite
from torchvice.samples import FOREIGN

__all__ = ["MapsView"]

STORED = 64  # largest side of a map in the table; finer ones are averaged after they were counted
FINER = 4  # an image has so many times the sides of a map, or more, if the map shows the grid that it was made on


@dataclass(frozen=True)
class _NoExplainer:
    """Stands where a view has its explainer: maps are read, and no network is there."""

    method: str = FOREIGN
    site: MapSite = field(default_factory=lambda: MapSite(""))
    class_map: None = None
    seed: int = 0

    @property
    def model(self) -> nn.Module:
        """A module without weights."""
        return nn.Identity()


@dataclass(frozen=True)
class _MapsOutput(ViewOutput):
    """A view's output with the `grid` (h, w) that the maps were made on; None where they were enlarged already."""

    grid: tuple[int, int] | None = None


class MapsView(Finished):
    """The view of maps on disk: logits and maps are read, and finished as those of a network.

    Args:
        files: the maps.
        logits: by image id, (C,) float32.
        settings: complete.
    """

    def __init__(self, files: ForeignMaps, logits: Mapping[str, np.ndarray], settings: MapSettings) -> None:
        assert settings.view_size is not None  # `_settings` saw to it
        self.files, self.logits, self.map_settings = files, logits, settings
        self.choices, self.side, self.explainer = settings.choices, settings.view_size, _NoExplainer()
        self.protocol, self.name, self.explanation = "strict", "files", "strict:maps"
        chosen = {"protocol": "strict", "method": FOREIGN, "site": None, "seed": None, **self.choices.to_dict()}
        self.settings: dict[str, Any] = {**chosen, "view": self.name, "flipped": False}

    def of_batch(self, batch: Batch, explained: Sequence[bool] | None = None) -> Iterator[tuple[int, ViewOutput]]:
        """Read the maps of a batch; yields (position, ViewOutput)."""
        wanted = [True] * len(batch.reads) if explained is None else explained
        for position, (read, image_id) in enumerate(zip(batch.reads, batch.image_ids, strict=True)):
            size = (read.image.shape[0], read.image.shape[1])
            found = self.files.read(read.index, size) if wanted[position] else {}
            yield position, self._output(self.logits[image_id], found, size)

    def _output(self, logits: np.ndarray, found: dict[int, np.ndarray], size: tuple[int, int]) -> ViewOutput:
        if not found:
            return _MapsOutput(logits, [], [], [], lambda shape, _=True: np.zeros((0, *shape), np.float32))
        planes = [torch.tensor(plane)[None].clamp(min=0) for plane in found.values()]
        if len({plane.shape for plane in planes}) > 1:
            planes = [upsample(plane, size) for plane in planes]
        low = torch.cat(planes)
        grid = (int(low.shape[1]), int(low.shape[2]))
        return _MapsOutput(
            logits,
            list(found),
            list(_stored(low).numpy()),
            list(map_status(low)),
            lambda shape, placed=True: self.finished([low], shape, placed=placed),
            grid=grid if FINER * max(grid) <= max(size) else None,
        )

    def control_grid(self, output: ViewOutput) -> tuple[int, int]:
        """(h, w) of the maps of controls: that of the maps, unless these were enlarged before they were saved."""
        side = max(1, self.side // 32)
        return getattr(output, "grid", None) or (side, side)


def _stored(low: torch.Tensor) -> torch.Tensor:
    """Maps (M, h, w) for the table: at most STORED on a side, divided by their maximum, which float16 may not hold."""
    height, width = (min(side, STORED) for side in low.shape[1:])
    small = low if (height, width) == tuple(low.shape[1:]) else functional.adaptive_avg_pool2d(low, (height, width))
    high = small.amax((1, 2), keepdim=True)
    return torch.where(high > 1, small / high, small)
