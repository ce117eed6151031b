"""The low-resolution map of a view, put to its place in the whole image."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["box_of", "whole_map"]

_VIEW = re.compile(r"(?:(short|long|warp)(\d+)-)?crop(\d+)")


def box_of(view: str, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Where a square view lies in an image: top, left, height and width in pixels; beyond the image where it is padded.

    Args:
        view: "crop224", the centre; "short256-crop224", the centre of the image with a short side of 256 pixels;
            "long256-crop224" and "warp256-crop224", with a long side, and with both sides, of 256. All others show the
            whole image.
        size: height and width of the image, pixels.

    Returns:
        None: the whole image.

    Example:
        >>> box_of("crop224", (300, 400)), box_of("short256-crop224", (300, 400)), box_of("warp224", (300, 400))
        ((38, 88, 224, 224), (19, 69, 262, 262), None)
    """
    found = _VIEW.fullmatch(view)
    if found is None:
        return None
    how, side = found[1], int(found[3])
    if how is None:  # the offset is that of `data.transforms.uncrop`
        return round((size[0] - side) / 2), round((size[1] - side) / 2), side, side
    to, length = int(found[2]), min(size) if how == "short" else max(size)
    resized = [to if how == "warp" else max(1, int(to * own / length)) for own in size]
    edges = [
        [round((middle + half * side) / 2 * own / middle) for half in (-1, 1)]
        for own, middle in zip(size, resized, strict=True)
    ]
    (top, bottom), (left, right) = edges
    return top, left, max(1, bottom - top), max(1, right - left)


def whole_map(low: np.ndarray, view: str, size: tuple[int, int], grid: tuple[int, int] | None = None) -> np.ndarray:
    """A map as one of the whole image: that of a crop lies where the crop was, and is 0 outside of it.

    Args:
        low: (h, w).
        view: name of the view that the map was made of, see `box_of`.
        size: height and width of the image, pixels.
        grid: shape of the result; None: 24 cells or more along the crop, at most one a pixel.

    Returns:
        (rows, columns); `low` itself where the view shows the whole image and no grid is given.

    Example:
        >>> whole_map(np.ones((1, 1)), "crop2", (2, 4), (2, 4))
        array([[0., 1., 1., 0.],
               [0., 1., 1., 0.]])
    """
    box = box_of(view, size)
    if box is None and grid is None:
        return low
    weights = []
    for axis in (0, 1):
        cells, length = low.shape[axis], size[axis]
        start, shown = (0, length) if box is None else (box[axis], box[axis + 2])
        points = grid[axis] if grid else min(length, max(1, round(max(2 * cells, 24) * length / shown)))
        at = (np.arange(points) + 0.5) * length / points - start
        centres = (np.arange(cells) + 0.5) * shown / cells
        inside = (at > 0) & (at < shown)
        weights.append(np.stack([np.interp(at, centres, cell) for cell in np.eye(cells)], axis=1) * inside[:, None])
    return weights[0] @ np.asarray(low, float) @ weights[1].T
