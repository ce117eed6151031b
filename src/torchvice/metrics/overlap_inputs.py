"""Masks and maps in the form in which they are counted, after the checks that hold for all counting."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, same_length

__all__ = ["as_mask", "as_planes", "plane_of", "void_plane"]


def void_plane(mask: np.ndarray, void: Any) -> np.ndarray | None:
    """(H, W) booleans, true for pixels that are not counted; None if the mask cannot have any."""
    if mask.ndim == 2:
        return None if void is None else mask == void
    if not isinstance(void, np.ndarray) and not hasattr(void, "detach"):
        return None
    plane = as_array("void", void, 2, bool)
    if plane.shape != mask.shape[1:]:
        raise ViceError(f"`void` must have the size of the mask's planes {mask.shape[1:]}, but has {plane.shape}.")
    return plane


def as_mask(mask: Any) -> np.ndarray:
    """(H, W) integers, or (C, H, W) booleans."""
    array = as_array("mask", mask, 3 if getattr(mask, "ndim", 2) == 3 else 2, None)
    if array.dtype.kind == "b" and array.ndim == 2:
        array = array.view(np.uint8)
    if array.dtype.kind not in ("b" if array.ndim == 3 else "iu"):
        raise ViceError(
            f"`mask` must be (H, W) integers or (C, H, W) booleans, but is {array.dtype} of shape {array.shape}."
        )
    return array


def as_planes(maps: Any, classes: Any, size: tuple[int, ...]) -> tuple[list[np.ndarray], list[int]]:
    """Return the maps as flat float32 arrays sorted by class, and the sorted classes."""
    given: list[int] = as_array("classes", classes, 1, np.int64).tolist()
    same_length(maps=maps, classes=given)
    order = sorted(range(len(given)), key=given.__getitem__)
    ordered = [given[place] for place in order]
    if len(set(ordered)) < len(ordered) or min(ordered, default=0) < 0:
        raise ViceError(f"`classes` must be 0 or more, without duplicates, but is {given}.")
    planes = [as_array("maps", maps[place], 2, np.float32) for place in order]
    for plane in planes:
        if plane.shape != size:
            raise ViceError(
                f"`maps` must have the mask's size {tuple(size)}, but one has {plane.shape}.",
                "Resize the maps to the image, not the mask to the maps.",
            )
    return [plane.reshape(-1) for plane in planes], ordered


def plane_of(mask: np.ndarray, label: int) -> np.ndarray:
    """Plane of a label, (H, W) booleans, in a stack (C, H, W)."""
    if label > len(mask):
        raise ViceError(f"`classes` must be below {len(mask)}, the planes of the mask, but one is {label - 1}.")
    return mask[label - 1]
