"""Several: maps of several layers, or of several looks at the image, averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from torchvice.errors import ViceError
from torchvice.explain.maps import normalise, upsample
from torchvice.models.families import MapSite

__all__ = ["Several"]

Scaled = Literal["minmax", "none"]
Grid = Literal["finest", "image"]
_PLAIN = (1.0, False)
# The published order of test-time augmentation: factors on the normalised image, each with and without mirroring.
_AUGMENTED = tuple((factor, mirrored) for mirrored in (False, True) for factor in (1.0, 0.9, 1.1))


@dataclass(frozen=True)
class Several:
    """How maps of several layers and looks become one: the mean of their positive parts.

    Args:
        sites: the layers.
        aug_smooth: six looks in place of one: the image and its mirror image, each times 0.9, 1 and 1.1.
        scaled: "minmax", each layer's map and the mean of each look on [0, 1], so that no layer drowns another; "none",
            as they are.
        grid: where they meet: on the "finest" of the layers' grids, or at the size of the "image", as published.

    Raises:
        ViceError: no layer, a layer named twice, or a value that is none of these.

    References:
        Gildenblat, pytorch-grad-cam (`target_layers`, `aug_smooth`): scaled="minmax" and grid="image" are its own.
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
        """The mean map (P, h, w) of every pair, not negative.

        Args:
            images: (N, 3, H, W).
            first: (P, h, w), the signed maps of the first layer of the images as they are.
            explain: from images and a layer the maps of the same pairs.
        """
        looks = []
        for factor, mirrored in _AUGMENTED if self.aug_smooth else (_PLAIN,):
            shown = images if factor == 1 else images * factor
            shown = shown.flip(-1) if mirrored else shown
            known = [first] if (factor, mirrored) == _PLAIN else []
            maps = known + [explain(shown, site) for site in self.sites[len(known) :]]
            looks.append(self._met(maps, tuple(images.shape[2:])))  # type: ignore[arg-type]
            if mirrored:
                looks[-1] = looks[-1].flip(-1)
        return torch.stack(looks).mean(0)

    def _met(self, maps: list[torch.Tensor], image: tuple[int, int]) -> torch.Tensor:
        """The mean (P, h, w) of the layers' maps, where they meet."""
        height, width = max((tuple(one.shape[1:]) for one in maps), key=lambda size: size[0] * size[1])
        size = image if self.grid == "image" else (height, width)
        met = [upsample(normalise(one.clamp(min=0), self.scaled), size) for one in maps]
        return normalise(torch.stack(met).mean(0), self.scaled)
