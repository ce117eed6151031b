"""Images resized as a whole, alone or side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from torchvice.data.pixels import INTERPOLATIONS
from torchvice.errors import ViceError, did_you_mean

__all__ = ["check_interpolation", "check_unit", "checked_pixels", "warp", "warp_all"]

_NORMALISATION = (
    "Give those of the network's training, such as ImageNet's: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225."
)


def checked_pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    """Return an image as (H, W, 3) uint8.

    Raises:
        ViceError: another shape or type.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ViceError(
            f"The image must be (H, W, 3) uint8, RGB, but has shape {pixels.shape} and type {pixels.dtype}.",
            "Read it with torchvice.data.read_image.",
        )
    return pixels


def warp(image: np.ndarray | Image.Image, size: int | tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """Resize the whole image without keeping its aspect ratio.

    Pillow's resize, which widens the filter when it shrinks (antialiasing); `bilinear` equals the original's
    224 x 224 warp, to the bit.

    Args:
        image: (H, W, 3) uint8 or a PIL image, RGB.
        size: pixels of both sides, or (H', W').
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.

    Returns:
        (H', W', 3) uint8.

    Raises:
        ViceError: another shape or type of image, a size below 1, an unknown interpolation.
    """
    check_interpolation(interpolation)
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ViceError(f"`size` must be at least 1 pixel, but is {size}.")
    picture = Image.fromarray(np.ascontiguousarray(checked_pixels(image)))
    return np.array(picture.resize((width, height), INTERPOLATIONS[interpolation]))


def warp_all(
    images: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    interpolation: str = "bilinear",
    threads: int | None = None,
) -> list[np.ndarray]:
    """`warp` of several images; an image that has its size (H', W') already is returned as it is.

    `threads`: None for one a core, 8 at most. Pillow resizes outside of Python's lock.
    """

    def one(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return image if size == image.shape[:2] else warp(image, size, interpolation)

    threads = min(8, os.cpu_count() or 1) if threads is None else threads
    if threads < 2 or len(images) < 2:
        return list(map(one, images, sizes))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, images, sizes))


def check_unit(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Check that a normalisation is that of images on [0, 1], and not of images of 0 to 255.

    Raises:
        ViceError: a number that is not finite, a std not above 0, or a mean above 1, which no image on [0, 1] reaches.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and not all(map(math.isfinite, values)):
            raise ViceError(f"`{name}` must be finite numbers, but is {tuple(values)}.", _NORMALISATION)
    if std is not None and not all(value > 0 for value in std):
        raise ViceError(f"`std` must be above 0 in every channel, but is {tuple(std)}.", _NORMALISATION)
    if mean is None or not any(value > 1 for value in mean):
        return
    shares = {"mean": mean, "std": std or ()}
    texts = [f"--{name} {','.join(f'{v / 255:.4g}' for v in values)}" for name, values in shares.items() if values]
    raise ViceError(
        f"`mean` must be that of images on [0, 1], but is {tuple(mean)}, as of images of 0 to 255.",
        f"Divide mean and std by 255: {' '.join(texts)}.",
    )


def check_interpolation(interpolation: str) -> None:
    """Check the name of an interpolation.

    Raises:
        ViceError: an unknown name.
    """
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise ViceError(
            f"`interpolation` must be one of {known}, but is {interpolation!r}.",
            did_you_mean(str(interpolation), INTERPOLATIONS),
        )
