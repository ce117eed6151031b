"""Random boxes of an image, resized to a square: the view `resized_crop` of training."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image

from torchvice.data.pixels import INTERPOLATIONS

__all__ = ["Box", "random_box", "resized_box"]

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, as Pillow has it
TRIES = 10


def random_box(size: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float]) -> Box:
    """Draw a box inside an image, from torch's global generator: the draws of torchvision's RandomResizedCrop.

    Args:
        size: (H, W) of the image.
        area: least and greatest share of the image's area, in (0, 1].
        ratio: least and greatest width over height; its logarithm is uniform.

    Returns:
        (left, top, right, bottom), whole pixels. After ten boxes that do not fit, the largest central box of an allowed
        ratio.

    References:
        Szegedy et al., Going Deeper with Convolutions, 2015.
    """
    height, width = size
    low, high = torch.log(torch.tensor(ratio)).tolist()
    for _ in range(TRIES):
        pixels = height * width * torch.empty(1).uniform_(*area).item()
        aspect = math.exp(torch.empty(1).uniform_(low, high).item())
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, size=(1,)))
            left = int(torch.randint(0, width - w + 1, size=(1,)))
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def resized_box(image: np.ndarray, box: Box, side: int, interpolation: str) -> np.ndarray:
    """Resize a box of an image (H, W, 3) uint8 to (side, side, 3), with Pillow's antialiasing."""
    left, top, right, bottom = box
    if all(edge == int(edge) for edge in box):  # fewer pixels to copy; what lies outside of the box is not read
        image = image[int(top) : int(bottom), int(left) : int(right)]
        left, top, right, bottom = 0, 0, image.shape[1], image.shape[0]
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.array(picture.resize((side, side), INTERPOLATIONS[interpolation], box=(left, top, right, bottom)))
