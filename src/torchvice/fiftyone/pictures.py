"""Maps and masks as grey PNG, which FiftyOne draws over an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torchvice.interop import bilinear

__all__ = ["HEATMAP_SIDE", "heatmap", "write_grey"]

HEATMAP_SIDE = 512  # the app stretches a heatmap over its image; a map has 7 to 28 pixels per side


def heatmap(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Convert a low-resolution map to bytes, as on the page: ReLU, bilinear enlargement, division by its maximum.

    Args:
        plane: (h, w), finite.
        size: (H, W) of the image.

    Returns:
        (H, W) uint8, scaled down so that the longer side is at most HEATMAP_SIDE; a map without positive values is 0.

    Example:
        >>> heatmap(np.array([[-1.0, 4.0]]), (1, 4)).tolist()
        [[0, 64, 191, 255]]
    """
    scale = min(1.0, HEATMAP_SIDE / max(size))
    tall, wide = (max(1, round(side * scale)) for side in size)
    full = bilinear(np.maximum(np.asarray(plane, np.float32), 0)[None], (tall, wide))[0]
    top = full.max()
    return np.round(full / top * 255 if top > 0 else full).astype(np.uint8)


def write_grey(path: Path, pixels: np.ndarray) -> None:
    """Write an (H, W) array as a grey PNG, of 8 bits if it is uint8, else of 16.

    Grey, not a palette: FiftyOne reads the colours of a palette PNG, not its indices.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)).save(path, "PNG")
