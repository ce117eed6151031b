"""Palettes of masks: whether the indices are the labels, or only the colours behind them mean something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from torchvice.errors import ViceError

__all__ = ["has_two_tones", "palette_values", "refuse_two_tones", "refuse_unordered"]

SAVE_LABELS = "Save the labels themselves in grey of 8 bits: 0 background, c + 1 class c, 255 void"


def palette_values(picture: Image.Image, name: str) -> np.ndarray:
    """Read the values of a palette mask, (H, W) uint8: its indices, which are the labels.

    Greys are read in the place of indices that mean nothing: those of a GIF, whose palette programs renumber when they
    write it, and those of a grey palette that does not begin with black, the background, as quantizing gives it.

    Args:
        picture: of mode P.
        name: of the mask, for messages.

    Raises:
        ViceError: a GIF in colours.
    """
    indices = np.array(picture)
    if picture.format != "GIF" and not _is_unordered(picture):
        return indices
    colours = np.zeros((256, 3), np.uint8)
    palette = _palette(picture)
    colours[: len(palette)] = palette
    if not _is_grey(colours[np.flatnonzero(np.bincount(indices.ravel(), minlength=256))]):
        raise ViceError(
            f"{name} must be a PNG or a grey GIF, but is a GIF in colours, whose palette programs renumber.",
            "Write the labels themselves as PNG. A PNG that is made of the GIF has its wrong numbers.",
        )
    greys: np.ndarray = colours[:, 0][indices]
    return greys


def refuse_unordered(picture: Image.Image, name: str) -> None:
    """Refuse a mask of labels whose palette does not say which index is the background.

    Raises:
        ViceError: such a palette.
    """
    if has_two_tones(picture) and picture.mode == "P":
        raise ViceError(
            f"{name} must hold labels, but its palette is grey and does not begin with black: which index is the "
            "background is not known.",
            f"{SAVE_LABELS}.",
        )


def refuse_two_tones(names: Sequence[str]) -> None:
    """Refuse masks in two tones, see `has_two_tones`, where white is void; `names` are their ids.

    Raises:
        ViceError: there is one.
    """
    if names:
        raise ViceError(
            f"Masks must hold labels, of which 255 is void, but {len(names)} of them, such as that of `{names[0]}`, "
            f"{'has' if len(names) == 1 else 'have'} 1 bit a pixel or a grey palette that does not begin with black.",
            f"{SAVE_LABELS}. If white is the one object of all masks, say so: mask_values='object=255'.",
        )


def has_two_tones(mask: Any) -> bool:
    """Whether a mask is a PIL image of 1 bit with white, or of a grey palette that does not begin with black.

    Its values are then those of colours, and say nothing of labels.
    """
    if not isinstance(mask, Image.Image):
        return False
    if mask.mode == "1":
        return mask.getbbox() is not None
    return mask.mode == "P" and mask.format != "GIF" and _is_unordered(mask)


def _palette(picture: Image.Image) -> np.ndarray:
    """The colours of a palette, (at most 256, 3) uint8."""
    return np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)[:256]


def _is_grey(colours: np.ndarray) -> bool:
    return bool((colours == colours[:, :1]).all())


def _is_unordered(picture: Image.Image) -> bool:
    """Whether a palette is grey and does not begin with black."""
    palette = _palette(picture)
    return len(palette) > 0 and bool(palette[0].any()) and _is_grey(palette)
