"""Finished maps: low-resolution maps brought to the image's size and to [0, 1], and what a view gives of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from torchvice.data.transforms import uncrop
from torchvice.explain import Choices, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.explain.maps import Normalisation
from torchvice.samples.placing import box_of

__all__ = ["Finished", "ViewOutput"]


@dataclass(frozen=True)
class ViewOutput:
    """The output of one view for one image.

    `logits` (C,) float32; `classes` the explained ones; `maps` one low-resolution array for each, signed where the view
    is one pass, else summed or averaged over the passes after their ReLU; `status` of each; `full(size)` the normalised
    maps (M, H, W) float32 of an image of that size, made when asked for; `full(size, False)` those of what is shown of
    it, at that size. `on_device(size)` the same tensor as `full(size)`, on the device of the maps; None on a CPU.
    """

    logits: np.ndarray
    classes: list[int]
    maps: list[np.ndarray]
    status: list[str]
    full: Callable[..., np.ndarray]
    on_device: Callable[..., torch.Tensor] | None = None


class Finished:
    """How low-resolution maps become those that are counted: the base of every view.

    Attributes:
        choices: normalisation, order and combination.
        side: pixels of a square view or centre crop.
        settings: of the maps; `view` is the name of what is shown, see `torchvice.samples.placing.box_of`.
    """

    choices: Choices
    side: int
    settings: dict[str, Any]

    def combined(self, low: list[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """The passes' maps after ReLU, resized and summed or averaged."""
        total = upsample(low[0].clamp(min=0), size)
        if len(low) == 1:
            return total
        total = sum(upsample(maps.clamp(min=0), size) for maps in low[1:]) + total
        return total / len(low) if self.choices.combine == "mean" else total

    def finished(
        self, low: list[torch.Tensor], size: tuple[int, int], how: Normalisation | None = None, placed: bool = True
    ) -> np.ndarray:
        """The normalised maps (M, H, W) at the image's size, from those (M, h, w) of every pass.

        `how`: another way of normalising; `placed` False: of what is shown of the image alone, at that size.
        """
        return self.finished_tensor(low, size, how, placed).cpu().numpy()

    def finished_tensor(
        self, low: list[torch.Tensor], size: tuple[int, int], how: Normalisation | None = None, placed: bool = True
    ) -> torch.Tensor:
        """`finished` as a tensor, on the device of the maps."""
        chosen = self.choices if how is None else replace(self.choices, normalisation=how)
        if chosen.normalisation != "paper":
            # A map that is not finite explains nothing: it counts as a miss, and its status says so.
            usable = torch.stack([torch.isfinite(maps).all(2).all(1) for maps in low]).all(0)[:, None, None]
            low = [torch.where(usable, maps, torch.zeros_like(maps)) for maps in low]
        box = box_of(str(self.settings["view"]), size) if placed else None
        target = size if box is None else box[2:]
        if chosen.order == "resize-first":
            full = normalise_maps(self.combined(low, target), chosen.normalisation)
        else:
            small = [normalise_maps(maps.clamp(min=0), chosen.normalisation) for maps in low]
            if chosen.order.endswith("-via-view"):
                small = [upsample(maps, (self.side, self.side)) for maps in small]
            if chosen.order == "normalise-twice-via-view":
                small = [normalise_maps(maps, chosen.normalisation) for maps in small]
            full = self.combined(small, target)
        if box is not None:
            full = uncrop(full, size, box[:2])
        return full
