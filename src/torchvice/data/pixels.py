"""Images and masks as Python objects: PIL images, arrays and tensors to the arrays that an assessment takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from torchvice.data.palettes import palette_values
from torchvice.errors import ViceError, to_numpy

__all__ = ["FIRST", "INTERPOLATIONS", "almost_black", "image_pixels", "mask_pixels", "said_black"]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

BLACK = 3  # of 255: images of 0 to 1 in integers, or divided by 255 twice, hold at most 1
FIRST = 16  # images
NORMALISED = "Leave out the normalisation: torchvice normalises images itself (mean, std)."
OVERSHOT = "Clip it: image.clip(0, 1). A bicubic resize leaves the range by a little."
BYTES = "Divide it by 255, or give integers: image.astype('uint8')."
WORDS = "Divide it by the largest value of its format, such as image / 65535 for 16 bits or image / 4095 for 12."
OVERSHOOT = 0.25  # beyond 0 to 1, of a resize; normalised images go further
NORMALISED_MOST = 8.0  # the largest value of an image divided by a std of 0.12
SCALED = "ToTensor() divides masks by 255: use PILToTensor(), or no transform."


def image_pixels(image: Any, name: str) -> np.ndarray:
    """Return an image as (H, W, 3) uint8.

    Args:
        image: a PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or with the channels first, as tensors
            have them; integers of 0 to 255, or floats of 0 to 1, which are multiplied by 255 and rounded.
        name: for messages.

    Raises:
        ViceError: another shape, NaN, or numbers outside the range, such as those of a normalised image.
    """
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise ViceError(
                f"{name} must have 8 bits per channel, but its mode is {image.mode}.",
                "Give an array of 0 to 1: np.asarray(image) / 65535 of 16 bits, or / 255 of values of 0 to 255.",
            )
        return np.array(image.convert("RGB"))
    pixels = _channels_last(np.asarray(to_numpy(image)), hasattr(image, "detach"))
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.dtype.kind not in "iufb":
        raise ViceError(
            f"{name} must be a PIL image or an array (H, W, 3) or (3, H, W) of numbers, but is "
            f"{pixels.dtype} of shape {np.shape(to_numpy(image))}.",
            "Open files first: PIL.Image.open(path)." if pixels.dtype.kind in "USO" else "",
        )
    floating = pixels.dtype.kind == "f"
    if floating and not np.isfinite(pixels).all():
        raise ViceError(
            f"{name} must hold numbers, but holds NaN or infinity.",
            "Look for what made them: an image without them is needed.",
        )
    least, most, limit = float(pixels.min(initial=0)), float(pixels.max(initial=0)), 1 if floating else 255
    if least < 0 or most > limit:
        kind = "floats of 0 to 1" if floating else "integers of 0 to 255"
        raise ViceError(f"{name} must hold {kind}, but holds {least:g} to {most:g}.", _into_range(pixels, least, most))
    pixels = np.rint(pixels.astype(np.float64) * 255) if floating else pixels
    pixels = pixels.astype(np.uint8)[..., :3]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def almost_black(images: Sequence[np.ndarray]) -> str:
    """A sentence on images (H, W, 3) uint8 of which the first are all almost black; "" where one of them is not."""
    first = images[:FIRST]
    which = "The first image is" if len(first) == 1 else f"The first {len(first)} images are all"
    return said_black([int(image.max(initial=0)) for image in first], which)


def said_black(largest: Sequence[int], which: str) -> str:
    """A sentence on images that are all almost black, by the largest value of each; "" where one of them is not."""
    most = max(largest, default=255)
    if most > BLACK:
        return ""
    return (
        f"{which} almost black: no value is above {most} of 255. Were they divided by 255 twice, or are they 0 to 1 in "
        "integers? If so, give them with 0 to 255."
    )


def _into_range(pixels: np.ndarray, least: float, most: float) -> str:
    """What brings an image's numbers into the range, by what its smallest and largest value say they are."""
    whole = bool((pixels == np.rint(pixels)).all())
    if least >= -OVERSHOOT and most <= 1 + OVERSHOOT and not whole:
        return OVERSHOT
    if least < 0 and pixels.dtype.kind == "i":
        return "Bring it to 0 to 255: add and scale by the range of its format, the same for all images."
    if least < 0 or (most <= NORMALISED_MOST and not whole):
        return NORMALISED
    return BYTES if most <= 255 else WORDS


def mask_pixels(mask: Any, name: str) -> np.ndarray:
    """Return a mask as (H, W) integers.

    Args:
        mask: a PIL image, whose palette indices (see `palette_values`) or grey values count; or an array (H, W),
            (1, H, W) or (H, W, 1) of integers, booleans or whole floats.
        name: for messages.

    Raises:
        ViceError: another shape, colours, NaN, or numbers that are not whole.
    """
    if isinstance(mask, Image.Image):
        if mask.mode == "P":
            return palette_values(mask, name)
        mask = mask.convert("L") if mask.mode == "1" else mask
        channels = np.asarray(mask)
        grey = channels.ndim == 3 and mask.mode in ("RGB", "RGBA", "LA")
        colours = channels[..., : 1 if mask.mode == "LA" else 3] if grey else channels[..., None]
        if (grey and (colours != colours[..., :1]).any()) or channels.ndim not in (2, 3):
            raise ViceError(
                f"{name} must hold the labels themselves, not colours, but is {mask.mode}.",
                "Give the index of the class at every pixel, such as np.array(mask) of a palette image.",
            )
        return _whole(colours[..., 0], name)
    array = np.asarray(to_numpy(mask))
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or array.dtype.kind not in "iufb":
        raise ViceError(
            f"{name} must be (H, W) integers, but is {array.dtype} of shape {np.shape(to_numpy(mask))}.",
            "Give one integer a pixel: mask.astype('uint8')."
            if array.ndim == 2
            else "Give one integer a pixel, the label of its class: mask.argmax(0) of one plane a label.",
        )
    return _whole(array, name)


def _whole(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(array) | (array != np.rint(array))
        if wrong.any():
            raise ViceError(f"{name} must hold whole numbers, but holds {array[wrong][0]:g}.", SCALED)
        return array.astype(np.int64)
    return np.ascontiguousarray(array)


def _channels_last(array: np.ndarray, tensor: bool) -> np.ndarray:
    if array.ndim == 2:
        return array[..., None]
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
    return np.moveaxis(array, 0, 2) if first and (tensor or array.shape[2] not in (1, 3, 4)) else array
