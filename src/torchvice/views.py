"""Views: what the model is shown of an image under each protocol, and how its maps come back to the image's size.

`strict` resizes the whole image once: one forward pass gives logits and map. `paper` shows three: a centre crop for the
loss, the whole image and its mirror image for a convolutional network's map, a square warp for a transformer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from torchvice.data.transforms import center_crop, normalise, warp
from torchvice.errors import ViceError
from torchvice.explain import Explainer, Explanation, map_status, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.models.families import input_size

__all__ = ["Seen", "View", "paper_view", "strict_view"]

# pytorch-grad-cam's guard against dividing by zero, part of the published transformer pipeline.
_WARP_EPS = 1e-7


@dataclass(frozen=True)
class Seen:
    """What one view of one image gave.

    `logits` (C,) float32; `maps` one low-resolution array for each asked label, signed; `status` of each; `full(size)`
    the normalised maps (M, H, W) float32 at that size, made when asked for.
    """

    logits: np.ndarray
    maps: list[np.ndarray]
    status: list[str]
    full: Callable[[tuple[int, int]], np.ndarray]


class View(Protocol):
    """A way of looking at images: its `name`, the id and the `settings` of its explanation, and `look`."""

    name: str
    explanation: str
    settings: dict[str, Any]

    def look(self, images: Sequence[np.ndarray], labels: Sequence[list[int]]) -> Iterator[tuple[int, Seen]]: ...


@dataclass(frozen=True)
class _Pixels:
    """How pixels become a tensor: normalisation and device."""

    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device

    def tensor(self, image: np.ndarray) -> torch.Tensor:
        return normalise(image, self.mean, self.std)


def _side(explainer: Explainer, size: int | None, name: str) -> int:
    """The side of a square view: as asked, else the network's own."""
    if size is None:
        return max(input_size(explainer.model))
    if size < 1:
        raise ViceError(f"`{name}` must be a number of pixels from 1 on, but is {size}.")
    return size


def _of_image(found: Explanation, image: int) -> torch.Tensor:
    """The pairs that belong to an image."""
    return (found.pairs[:, 0] == image).nonzero().flatten()


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class _StrictView:
    """The whole image, resized to a square: one pass gives logits and map. ReLU, resize, divide by the maximum."""

    def __init__(self, explainer: Explainer, side: int, batch_size: int, pixels: _Pixels) -> None:
        self.explainer, self.side, self.batch_size, self.pixels = explainer, side, batch_size, pixels
        self.name = f"warp{side}"
        self.explanation = f"strict:{explainer.method}"
        self.settings = {
            "protocol": "strict",
            "method": explainer.method,
            "site": explainer.site.to_dict(),
            "view": self.name,
            "labels": "true",
            "normalisation": "max",
            "order": "relu, resize to the image, normalise",
            "mirror": False,
            "seed": None,
        }

    def look(self, images: Sequence[np.ndarray], labels: Sequence[list[int]]) -> Iterator[tuple[int, Seen]]:
        for part in _chunks(range(len(images)), self.batch_size):
            batch = torch.stack([self.pixels.tensor(warp(images[i], self.side)) for i in part])
            found = self.explainer(batch.to(self.pixels.device), [labels[i] for i in part])
            logits = found.logits.float().cpu().numpy()
            for row, position in enumerate(part):
                pairs = _of_image(found, row)
                maps, status = found.maps[pairs], [found.status[p] for p in pairs.tolist()]
                yield position, Seen(logits[row], list(maps.cpu().numpy()), status, _strict_full(maps))


def _strict_full(maps: torch.Tensor) -> Callable[[tuple[int, int]], np.ndarray]:
    def full(size: tuple[int, int]) -> np.ndarray:
        # A map that is not finite explains nothing: it counts as a miss, and its status says so.
        usable = torch.where(torch.isfinite(maps).all((1, 2), keepdim=True), maps, torch.zeros_like(maps))
        return normalise_maps(upsample(usable.clamp(min=0), size), "max").cpu().numpy()

    return full


class _PaperView:
    """The centre crop for the logits; for the maps what the published pipeline shows to this kind of network."""

    def __init__(self, explainer: Explainer, side: int, batch_size: int, pixels: _Pixels) -> None:
        self.explainer, self.side, self.batch_size, self.pixels = explainer, side, batch_size, pixels
        self.whole = explainer.site.layout == "nchw"
        self.name = f"crop{side}"
        self.explanation = f"paper:{explainer.method}"
        order = (
            "relu, resize to the image, sum with the mirror image's, normalise"
            if self.whole
            else "relu, normalise, resize to the view, resize to the image"
        )
        self.settings = {
            "protocol": "paper",
            "method": explainer.method,
            "site": explainer.site.to_dict(),
            "view": "whole image, own size" if self.whole else f"warp{side}",
            "labels": "true",
            "normalisation": "paper" if self.whole else "minmax",
            "order": order,
            "mirror": self.whole,
            "seed": None,
        }

    def look(self, images: Sequence[np.ndarray], labels: Sequence[list[int]]) -> Iterator[tuple[int, Seen]]:
        logits: list[np.ndarray] = []
        for part in _chunks(images, self.batch_size):
            crops = torch.stack([center_crop(self.pixels.tensor(image), self.side) for image in part])
            found = self.explainer(crops.to(self.pixels.device), [[]] * len(crops))
            logits.extend(found.logits.float().cpu().numpy())
        explained = [i for i, asked in enumerate(labels) if asked]
        for i in set(range(len(images))) - set(explained):
            yield i, Seen(logits[i], [], [], _nothing)
        for part in self._groups(images, explained):
            chosen = [labels[i] for i in part]
            for row, (maps, full) in enumerate(self._explained([images[i] for i in part], chosen)):
                status = list(map_status(maps.amax(1) if maps.ndim == 4 else maps))
                yield part[row], Seen(logits[part[row]], list(maps.cpu().numpy()), status, full)

    def _groups(self, images: Sequence[np.ndarray], explained: list[int]) -> Iterator[Sequence[int]]:
        """Batches of images that can go through together: of one size, and no more pixels than a batch of views."""
        if not self.whole:
            yield from _chunks(explained, self.batch_size)
            return
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i in explained:
            by_size[images[i].shape[:2]].append(i)
        for (height, width), members in by_size.items():
            yield from _chunks(members, max(1, self.batch_size * self.side**2 // (2 * height * width)))

    def _explained(
        self, images: list[np.ndarray], labels: list[list[int]]
    ) -> Iterator[tuple[torch.Tensor, Callable[[tuple[int, int]], np.ndarray]]]:
        """Each image's low-resolution maps, (M, 2, h, w) with the mirror image's or (M, h, w), and their full form."""
        if not self.whole:
            batch = torch.stack([self.pixels.tensor(warp(image, self.side)) for image in images])
            found = self.explainer(batch.to(self.pixels.device), labels)
            for row in range(len(images)):
                maps = found.maps[_of_image(found, row)]
                yield maps, _warped_full(maps, self.side)
            return
        batch = torch.stack([self.pixels.tensor(image) for image in images]).to(self.pixels.device)
        found = self.explainer(torch.cat([batch, batch.flip(-1)]), labels * 2)
        for row in range(len(images)):
            plain, mirrored = (found.maps[_of_image(found, i)] for i in (row, row + len(images)))
            yield torch.stack([plain, mirrored], 1), _whole_full(plain, mirrored)


def _nothing(size: tuple[int, int]) -> np.ndarray:
    return np.zeros((0, *size), np.float32)


def _whole_full(plain: torch.Tensor, mirrored: torch.Tensor) -> Callable[[tuple[int, int]], np.ndarray]:
    def full(size: tuple[int, int]) -> np.ndarray:
        there, back = (upsample(maps.clamp(min=0), size) for maps in (plain, mirrored))
        return normalise_maps(there + back.flip(-1), "paper").cpu().numpy()

    return full


def _warped_full(maps: torch.Tensor, side: int) -> Callable[[tuple[int, int]], np.ndarray]:
    def full(size: tuple[int, int]) -> np.ndarray:
        positive = maps.clamp(min=0)
        positive = positive - positive.amin((1, 2), keepdim=True)
        scaled = positive / (positive.amax((1, 2), keepdim=True) + _WARP_EPS)
        return upsample(upsample(scaled, (side, side)), size).cpu().numpy()

    return full


def strict_view(
    explainer: Explainer,
    size: int | None,
    batch_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> View:
    """The view of `strict`: the whole image resized to `size` x `size` pixels (None: the network's input size)."""
    return _StrictView(explainer, _side(explainer, size, "view_size"), batch_size, _Pixels(mean, std, device))


def paper_view(
    explainer: Explainer,
    crop: int | None,
    batch_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> View:
    """The views of `paper`: logits on the centre crop of `crop` pixels, maps as published for the kind of network."""
    return _PaperView(explainer, _side(explainer, crop, "crop"), batch_size, _Pixels(mean, std, device))
