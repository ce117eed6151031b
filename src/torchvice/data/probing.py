"""What a user's transform does to an image, found by sending images through it: its place, its scale, its values.

Grey ramps tell which pixel of the image each pixel of the input shows, black and white images the normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchvice.data.random_state import rng_seeded
from torchvice.errors import ViceError, reason_of

__all__ = ["Shown", "refuse_random", "shown_by", "transformed"]

MARGIN = 3  # pixels at an edge of the image, which a filter sees half of; left out where there are enough others
TRIES = 16  # of each of three sizes: a transform that mirrors one image in ten mirrors none of 48 in 6 of 1000 cases
VALUES = "It must give (3, S, S) or (1, S, S), such as ToTensor and Normalize do: the same for every pixel of an image."


@dataclass(frozen=True)
class Shown:
    """What is shown of an image of one size.

    Attributes:
        side: pixels of the square input.
        top, left: of the image, where the input begins; negative where the image is padded.
        scales: vertical and horizontal, pixels of the image for one of the input.
        mean, std: per channel, of images on [0, 1].
    """

    side: int
    top: float
    left: float
    scales: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def transformed(function: Callable[[Any], Any], image: np.ndarray, name: str) -> torch.Tensor:
    """(3, S, S) float32, what a transform makes of an image (H, W, 3) uint8.

    A processor of transformers gives a dictionary with `pixel_values`. A grey input is repeated.

    Raises:
        ViceError: an error in the user's code, or something else than a square input.
    """
    try:
        given = function(Image.fromarray(np.ascontiguousarray(image)))
        if isinstance(given, Mapping) or hasattr(given, "pixel_values"):
            given = given["pixel_values"]
        if isinstance(given, list | tuple) and len(given) == 1:
            given = given[0]
        made = given if isinstance(given, torch.Tensor) else torch.tensor(np.asarray(given))
    except ViceError:
        raise
    except Exception as error:
        reason = reason_of(error, "no message")
        message = f"The transform {name} must take a PIL image and give a tensor, but raises {type(error).__name__}"
        way_out = "Call it with an image by itself first."
        if isinstance(error, TypeError):  # perhaps it takes no image at all
            way_out += " If it makes a transform, call it in the file: transform = make(), and give FILE.py:transform."
        raise ViceError(f"{message}: {reason}.", way_out) from error
    made = made[0] if made.ndim == 4 and len(made) == 1 else made
    if made.ndim != 3 or len(made) not in (1, 3) or not made.is_floating_point():
        came = f"{tuple(made.shape)} of {str(made.dtype).removeprefix('torch.')}"
        message = f"The transform {name} must give (3, S, S) floating-point numbers, but gives {came}"
        raise ViceError(f"{message}.", "End it with ToTensor() and Normalize(...).")
    if made.shape[1] != made.shape[2]:
        height, width = image.shape[:2]
        raise ViceError(
            f"The transform {name} must give a square, but makes {made.shape[1]} x {made.shape[2]} pixels of an image "
            f"of {height} x {width}.",
            "Add CenterCrop(S), or resize both sides: Resize((S, S)).",
        )
    return made.detach().float().expand(3, -1, -1).clone()


def refuse_random(first: torch.Tensor, again: torch.Tensor, name: str) -> None:
    """Refuse a transform that made two different inputs of one image; `name` is for the message.

    Raises:
        ViceError: they differ.
    """
    if not torch.equal(first, again):
        raise ViceError(
            f"The transform {name} must do the same with an image each time, but is random.",
            "Give the one of validation, without Random... and ColorJitter.",
        )


def shown_by(function: Callable[[Any], Any], size: tuple[int, int], name: str, *, tries: int = 1) -> Shown:
    """Find what a transform shows of images of a size (H, W).

    Args:
        function: from a PIL image to a tensor.
        size: of the images.
        name: of the transform, for messages.
        tries: how often one image is sent through it; more than one shows what is random.

    Raises:
        ViceError: a transform that is random, mirrors, turns or bends images, or changes values in another way than
            a normalisation does; or as `transformed`.
    """
    with rng_seeded(sum(size)):
        down, right = (transformed(function, image, name) for image in _ramps(size))
        black, grey, white = (transformed(function, _constant(size, value), name) for value in (0, 128, 255))
        for _ in range(tries - 1):
            refuse_random(right, transformed(function, _ramps(size)[1], name), name)
    if len({made.shape for made in (down, right, black, grey, white)}) > 1:
        raise ViceError(f"The transform {name} must give one size for images of one size, but gives several.", VALUES)
    values = white - black
    span = values.abs().amax((1, 2))
    inside = ((values.abs() > 0.99 * span[:, None, None]) & (span > 1e-6)[:, None, None]).any(0).numpy()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if inside.any() and not inside[np.ix_(rows, columns)].all():
        raise _moved(name, "turns or bends")
    if not inside.any() or not _is_linear(black, grey, white, inside):
        raise ViceError(f"The transform {name} must normalise images, but changes their values in another way.", VALUES)
    fit = _Fit(name, size, inside, black, white)
    (scale_y, top), (scale_x, left) = fit.axis(down, 0), fit.axis(right, 1)
    at = int(rows[len(rows) // 2]), int(columns[len(columns) // 2])
    low, high = black[:, at[0], at[1]].double(), white[:, at[0], at[1]].double()
    std = 1 / (high - low)
    return Shown(len(inside), top, left, (scale_y, scale_x), tuple((-low * std).tolist()), tuple(std.tolist()))


def _constant(size: tuple[int, int], value: int) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def _ramps(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images that grow from black to white downwards, and to the right.

    A channel steps a third of a level after the one before, so that their mean is finer than one channel's levels.
    """
    ramps = []
    for axis, length in enumerate(size):
        level = 255 * (np.arange(length) + 0.5) / length
        line = np.stack([np.floor(level + shift / 3) for shift in range(3)], 1).clip(0, 255).astype(np.uint8)
        line = line[:, None] if axis == 0 else line[None]
        ramps.append(np.ascontiguousarray(np.broadcast_to(line, (*size, 3))))
    return ramps[0], ramps[1]


def _is_linear(black: torch.Tensor, grey: torch.Tensor, white: torch.Tensor, inside: np.ndarray) -> bool:
    """Whether grey lies between black and white as its value does."""
    expected = black + (white - black) * (128 / 255)
    wrong = (grey - expected).abs() / (white - black).abs().amax((1, 2), keepdim=True).clamp(min=1e-6)
    return bool(wrong[:, torch.from_numpy(inside)].max() < 0.02)


@dataclass(frozen=True)
class _Fit:
    """The lines through what the ramps became.

    `inside` (S, S): where the input shows the image and no padding; `black`, `white`: of the constant images.
    """

    name: str
    size: tuple[int, int]
    inside: np.ndarray
    black: torch.Tensor
    white: torch.Tensor

    def axis(self, ramp: torch.Tensor, axis: int) -> tuple[float, float]:
        """Pixels of the image for one of the input along an axis, and where in the image the input begins."""
        length = self.size[axis]
        span = self.white - self.black
        used = span.abs().amax((1, 2)) > 1e-6
        level = 255 * ((ramp - self.black)[used] / torch.where(span == 0, torch.ones_like(span), span)[used]).mean(0)
        place = (level.double().numpy() + 1 / 6) * length / 255  # + 1/6: what the floor of three channels takes
        kept = [_inner(np.flatnonzero(self.inside.any(1 - side))) for side in (0, 1)]
        place = place[np.ix_(*kept)]
        along, across = (kept[axis], kept[1 - axis])
        lines = place.mean(1 - axis)
        if len(along) < 2:
            raise ViceError(f"The transform {self.name} must give more than {len(self.inside)} pixels.", VALUES)
        slope, start = np.polyfit(along, lines, 1)
        turned = np.polyfit(across, place.mean(axis), 1)[0] * len(across) if len(across) > 1 else 0.0
        fitted = slope * along + start
        bent = np.abs(place - (fitted[:, None] if axis == 0 else fitted[None])).max()
        allowed = max(1.0, abs(slope)) + length / 255
        if slope <= 0 or abs(turned) > allowed or bent > allowed:
            raise _moved(self.name, "mirrors" if slope < 0 and bent <= allowed else "turns or bends")
        return float(slope), float(start - slope / 2)


def _moved(name: str, how: str) -> ViceError:
    return ViceError(
        f"The transform {name} must resize, crop and pad images, but {how} them.",
        "Leave that step out: a map cannot be put back on the image.",
    )


def _inner(places: np.ndarray) -> np.ndarray:
    return places[MARGIN:-MARGIN] if len(places) > 5 * MARGIN else places
