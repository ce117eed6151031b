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

__all__ = ["Finished", "ViewOutput", "image_part", "is_padded"]


@dataclass(frozen=True)
class ViewOutput:
    """The output of one view for one image.

    `logits` (C,) float32; `classes` the explained ones; `maps` one low-resolution array for each, signed where the view
    is one pass, else summed or averaged over the passes after their ReLU; `status` of each; `full(size)` the normalised
    maps (M, H, W) float32 of an image of that size, made when asked for; `full(size, False)` those of all that is
    shown, padding included, at that size. `on_device(size)` the same tensor as `full(size)`, on the device of the maps;
    None on a CPU.
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

        Where a view is padded, only what it shows of the image counts for the normalisation.

        `how`: another way of normalising; `placed` False: of all that is shown, at that size.
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
        shown = None if box is None else image_part(box, size)
        if chosen.order == "resize-first":
            full = _normalised(self.combined(low, target), chosen.normalisation, shown, target)
        else:
            small = [_normalised(maps.clamp(min=0), chosen.normalisation, shown, target) for maps in low]
            if chosen.order.endswith("-via-view"):
                small = [upsample(maps, (self.side, self.side)) for maps in small]
            if chosen.order == "normalise-twice-via-view":
                small = [_normalised(maps, chosen.normalisation, shown, target) for maps in small]
            full = self.combined(small, target)
        if box is not None:
            full = uncrop(full, size, box[:2])
        return full


def image_part(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of a box that lie in the image; all of them where the view is not padded.

    Args:
        box: top, left, height and width, see `torchvice.samples.placing.box_of`.
        size: height and width of the image.

    Example:
        >>> image_part((-2, 1, 8, 4), (4, 6))
        (slice(2, 6, None), slice(0, 4, None))
    """
    rows, columns = (
        slice(max(0, -start), min(length, whole - start))
        for start, length, whole in zip(box[:2], box[2:], size, strict=True)
    )
    return rows, columns


def is_padded(view: str, size: tuple[int, int]) -> bool:
    """Whether a view shows an image of this size with padding around it.

    Example:
        >>> is_padded("crop224", (300, 200)), is_padded("crop224", (300, 400)), is_padded("warp224", (20, 20))
        (True, False, False)
    """
    box = box_of(view, size)
    return box is not None and image_part(box, size) != (slice(0, box[2]), slice(0, box[3]))


def _normalised(
    maps: torch.Tensor, how: Normalisation, shown: tuple[slice, slice] | None, box: tuple[int, int]
) -> torch.Tensor:
    """Normalise maps (M, h, w) of a box by what they hold where it shows the image; 0 in cells of padding alone.

    Args:
        maps, how: as of `torchvice.explain.normalise`.
        shown: rows and columns of the box that show the image; None: all.
        box: height and width of the box.
    """
    if shown is None:
        return normalise_maps(maps, how)
    rows, columns = (
        slice(part.start * cells // length, -(-part.stop * cells // length))
        for part, cells, length in zip(shown, maps.shape[1:], box, strict=True)
    )
    placed = torch.zeros_like(maps)
    placed[:, rows, columns] = normalise_maps(maps[:, rows, columns], how)
    return placed
