"""Pixels for the page: thumbnails of a limited size, outlines of masks as SVG paths, maps as bytes."""

from __future__ import annotations

import io

import numpy as np

from torchvice.metrics.overlap import VOID

__all__ = ["map_bytes", "outlines", "thumbnail"]

OUTLINE_SIDE = 128  # largest grid of outlines; a thumbnail is hardly larger
MAP_SIDE = 32  # finer maps, such as those of perturbation methods, are averaged; CAMs have a side of 7 to 28
# Tried in this order until one fits: longer side in pixels, quality.
LADDER = ((288, 82), (256, 75), (256, 60), (224, 50), (192, 42), (160, 35), (128, 30), (96, 20))


def thumbnail(image: np.ndarray, room: int) -> tuple[bytes, str]:
    """Encode an image in at most `room` bytes, if the last step of LADDER allows it; and its format (webp or jpeg).

    Args:
        image: (H, W, 3) uint8.
        room: greatest size in bytes.
    """
    from PIL import Image, features

    picture = Image.fromarray(image)
    kind = "webp" if features.check("webp") else "jpeg"
    content = b""
    for side, quality in LADDER:
        scale = min(1.0, side / max(picture.size))
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        buffer = io.BytesIO()
        small = picture if size == picture.size else picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
        small.save(buffer, kind, quality=quality)
        content = buffer.getvalue()
        if len(content) <= room:
            break
    return content, kind


def outlines(mask: np.ndarray, void: int = VOID) -> tuple[int, int, dict[int, str]]:
    """The outline of every label of a mask as an SVG path, on a grid of at most OUTLINE_SIDE.

    The path of void encloses void and objects together: void is mostly a rim around objects, and their paths are its
    inner border. A pixel is void if it lies inside an odd number of all paths.

    Args:
        mask: (H, W) whole numbers, 0 background.
        void: its value for void.

    Returns:
        Width and height of the grid, and {label: path}; objects too small for the grid are left out.

    Example:
        >>> outlines(np.array([[0, 2], [0, 2]]))
        (2, 2, {2: 'M1 0h1v2h-1z'})
    """
    height, width = mask.shape
    scale = min(1.0, OUTLINE_SIDE / max(height, width))
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    rows = ((np.arange(tall) + 0.5) * height / tall).astype(int)
    columns = ((np.arange(wide) + 0.5) * width / wide).astype(int)
    small = mask[np.ix_(rows, columns)]
    labels = [int(label) for label in np.unique(small) if label]
    return wide, tall, {label: _path(small > 0 if label == void else small == label) for label in labels}


def _path(inside: np.ndarray) -> str:
    """The border of some pixels as closed loops of horizontal and vertical lines."""
    next_corners: dict[tuple[int, int], list[tuple[int, int]]] = {}
    padded = np.pad(inside, 1)
    centre = padded[1:-1, 1:-1]
    # Clockwise around every pixel; there is no line between two inside pixels.
    for neighbour, (x0, y0), (x1, y1) in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    ):
        for y, x in np.argwhere(centre & ~neighbour).tolist():
            next_corners.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    path = []
    while next_corners:
        start = next(iter(next_corners))
        corners, at, direction = [start], start, (0, 0)
        while True:
            ends = next_corners[at]
            end = ends.pop()
            if not ends:
                del next_corners[at]
            step = (end[0] - at[0], end[1] - at[1])
            if step == direction:
                corners[-1] = end
            else:
                corners.append(end)
            at, direction = end, step
            if at == start:
                break
        path.append(_svg_path(corners))
    return "".join(path)


def _svg_path(corners: list[tuple[int, int]]) -> str:
    (x, y), path = corners[0], [f"M{corners[0][0]} {corners[0][1]}"]
    for to_x, to_y in corners[1:-1]:  # the closing z draws the last line
        path.append(f"h{to_x - x}" if to_y == y else f"v{to_y - y}")
        x, y = to_x, to_y
    return "".join(path) + "z"


def map_bytes(plane: np.ndarray) -> tuple[int, int, bytes]:
    """Height, width and bytes 0 to 255 of a low-resolution map after ReLU, divided by its maximum.

    NaN counts as 0. A map without positive values is 0 everywhere.

    Example:
        >>> map_bytes(np.array([[-1.0, 1.0], [2.0, np.nan]]))
        (2, 2, b'\\x00\\x80\\xff\\x00')
    """
    values = np.maximum(np.nan_to_num(np.asarray(plane, np.float32), nan=0.0, posinf=0.0), 0)
    values = _reduced(values)
    top = values.max(initial=0)
    scaled = np.round(values / top * 255) if top > 0 else values
    return values.shape[0], values.shape[1], scaled.astype(np.uint8).tobytes()


def _reduced(values: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        side = values.shape[axis]
        if side > MAP_SIDE:
            parts = np.array_split(np.arange(side), MAP_SIDE)
            values = np.stack([values.take(part, axis).mean(axis) for part in parts], axis)
    return values
