"""Averages of maps: over several layers, and over augmented copies of the image (`aug_smooth`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from torchvice.errors import ViceError
from torchvice.explain.maps import normalise, upsample
from torchvice.models.families import MapSite

__all__ = ["Grid", "MapAverage", "Scaled"]

Scaled = Literal["minmax", "none"]
Grid = Literal["finest", "image"]
_UNCHANGED = (1.0, False)
# In the published order: factors on the normalised image, first without and then with mirroring.
_AUGMENTED = tuple((factor, mirrored) for mirrored in (False, True) for factor in (1.0, 0.9, 1.1))


@dataclass(frozen=True)
class MapAverage:
    """Mean of the positive parts of the maps of several layers and augmented copies of the image.

    Args:
        sites: the layers.
        aug_smooth: average over six copies: the image and its mirror image, each times 0.9, 1 and 1.1.
        scaled: "minmax" scales each layer's map, and the mean of each copy, to [0, 1], so that no layer dominates;
            "none" does not scale.
        grid: size at which layers are averaged: the "finest" of their grids, or the "image", as published.

    Raises:
        ViceError: no layer, a layer named twice, or an unknown value.

    References:
        Gildenblat, pytorch-grad-cam (`target_layers`, `aug_smooth`), which uses scaled="minmax" and grid="image".
    """

    sites: tuple[MapSite, ...]
    aug_smooth: bool = False
    scaled: Scaled = "minmax"
    grid: Grid = "finest"

    def __post_init__(self) -> None:
        names = [site.layer for site in self.sites]
        if not names or len(set(names)) < len(names):
            raise ViceError(f"`layers` must name at least one layer, and each once, but is {names}.")
        for name, value, known in (("scaled", self.scaled, get_args(Scaled)), ("grid", self.grid, get_args(Grid))):
            if value not in known:
                raise ViceError(f"`{name}` must be one of {', '.join(known)}, but is {value!r}.")

    def mean(
        self, images: torch.Tensor, first: torch.Tensor, explain: Callable[[torch.Tensor, MapSite], torch.Tensor]
    ) -> torch.Tensor:
        """Compute the mean map (P, h, w) of every pair, not negative.

        Args:
            images: (N, 3, H, W).
            first: (P, h, w), the signed maps of the first layer for the unchanged images.
            explain: computes the maps of the same pairs from images and a layer.
        """
        size = (images.shape[2], images.shape[3])
        means = []
        for factor, mirrored in _AUGMENTED if self.aug_smooth else (_UNCHANGED,):
            copies = images if factor == 1 else images * factor
            copies = copies.flip(-1) if mirrored else copies
            known = [first] if (factor, mirrored) == _UNCHANGED else []
            maps = known + [explain(copies, site) for site in self.sites[len(known) :]]
            mean = self._mean_of_layers(maps, size)
            means.append(mean.flip(-1) if mirrored else mean)
        return torch.stack(means).mean(0)

    def _mean_of_layers(self, maps: list[torch.Tensor], image: tuple[int, int]) -> torch.Tensor:
        """Compute the mean (P, h, w) of the layers' maps on the common grid."""
        height, width = max((tuple(one.shape[1:]) for one in maps), key=lambda size: size[0] * size[1])
        size = image if self.grid == "image" else (height, width)
        resized = [upsample(normalise(one.clamp(min=0), self.scaled), size) for one in maps]
        return normalise(torch.stack(resized).mean(0), self.scaled)
