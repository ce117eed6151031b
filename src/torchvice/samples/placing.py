"""The low-resolution map of a view, put to its place in the whole image."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["whole_map"]


def whole_map(low: np.ndarray, view: str, size: tuple[int, int], grid: tuple[int, int] | None = None) -> np.ndarray:
    """A map as one of the whole image: that of a centre crop lies in its middle, and is 0 outside of the crop.

    Args:
        low: (h, w).
        view: name of the view that the map was made of: "crop224"; all others show the whole image.
        size: height and width of the image, pixels.
        grid: shape of the result; None: 24 cells or more along the crop, at most one a pixel.

    Returns:
        (rows, columns); `low` itself where the view shows the whole image and no grid is given.

    Example:
        >>> whole_map(np.ones((1, 1)), "crop2", (2, 4), (2, 4))
        array([[0., 1., 1., 0.],
               [0., 1., 1., 0.]])
    """
    crop = re.fullmatch(r"crop(\d+)", view)
    if crop is None and grid is None:
        return low
    side = int(crop[1]) if crop else None
    weights = []
    for axis in (0, 1):
        cells, length = low.shape[axis], size[axis]
        shown = side or length
        points = grid[axis] if grid else min(length, max(1, round(max(2 * cells, 24) * length / shown)))
        # The crop's offset is that of `data.transforms.uncrop`.
        at = (np.arange(points) + 0.5) * length / points - (round((length - side) / 2) if side else 0)
        centres = (np.arange(cells) + 0.5) * shown / cells
        inside = (at > 0) & (at < shown)
        weights.append(np.stack([np.interp(at, centres, cell) for cell in np.eye(cells)], axis=1) * inside[:, None])
    return weights[0] @ np.asarray(low, float) @ weights[1].T
