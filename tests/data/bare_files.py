"""Folders of images without lists: what the tests of them write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (8, 12)


def drawn(value: int = 255, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8: a square of `value` on 0."""
    mask = np.zeros(size, np.uint8)
    mask[2:5, 3:7] = value
    return mask


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def write_grey(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photos(root: Path, masks: Sequence[str], value: int = 255) -> Path:
    """Write photos/a.jpg, b.jpg, c.jpg, and masks of these names."""
    for seed, name in enumerate("abc"):
        write_image(root / "photos" / f"{name}.jpg", seed)
    for name in masks:
        write_grey(root / "masks" / name, drawn(value))
    return root


def sorted_photos(root: Path, value: int | None = None) -> Path:
    """Write photos/cat/0.jpg, photos/cat/1.jpg, photos/dog/0.jpg; and masks in a tree of the same names."""
    for seed, name in enumerate(("cat/0", "cat/1", "dog/0")):
        write_image(root / "photos" / f"{name}.jpg", seed)
        if value is not None:
            write_grey(root / "masks" / f"{name}.png", drawn(value))
    return root
