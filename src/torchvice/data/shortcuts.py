"""Shortcuts for the embedded digits: six kinds of marks that give a digit away and are not the digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from torchvice.errors import ViceError, did_you_mean

__all__ = ["DEFAULT_KIND", "DEFAULT_STRENGTH", "KINDS", "Canvas", "bears", "check_shortcut", "plant"]

DEFAULT_KIND = "stripe"
DEFAULT_STRENGTH = 0.95
BLOCK = 20  # of so many images with the digit, the same number bears the shortcut
MAGENTA = (255, 0, 220)
# The letters of the watermark VICE, 7 rows each, 5 bits a row.
LETTERS = (
    (0b10001, 0b10001, 0b10001, 0b10001, 0b01010, 0b01010, 0b00100),
    (0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110),
    (0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110),
    (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
)


@dataclass(frozen=True)
class Canvas:
    """An image that gets a shortcut; `pixels` and `labels` are written to.

    Attributes:
        pixels: (H, W, 3) uint8.
        labels: (H, W) uint8, 0 = background.
        full: (H, W) labels of the image with all its digits, which decide where a mark lies.
        label: the label of the digit that the shortcut gives away.
        size: the `size` of the dataset in pixels.
        rng: the generator of this image's mark.
    """

    pixels: np.ndarray
    labels: np.ndarray
    full: np.ndarray
    label: int
    size: int
    rng: np.random.Generator


def check_shortcut(kind: str, strength: float) -> None:
    """Check the kind and the strength of a shortcut.

    Raises:
        ViceError: an unknown kind, or a strength that is not a multiple of 0.05 from 0.05 to 1.
    """
    if kind not in KINDS:
        raise ViceError(f"`kind` must be one of {', '.join(KINDS)}, but is {kind!r}.", did_you_mean(kind, KINDS))
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not (number and 1 <= strength * BLOCK <= BLOCK and abs(strength * BLOCK - round(strength * BLOCK)) < 1e-9):
        raise ViceError(f"`strength` must be a multiple of 0.05 from 0.05 to 1, but is {strength!r}.")


def bears(count: int, strength: float, stream: tuple[int, int], size: int) -> bool:
    """Whether the image with the digit that has this number in its split bears the shortcut.

    Of 20 such images in a row, 20 `strength` bear it. Those of a lower strength are among those of a higher one.

    Args:
        count: number of images with the digit before this one.
        strength: share of the images with the digit that bear the shortcut.
        stream: seed of the dataset and number of the split.
        size: `size` of the dataset.
    """
    block, place = divmod(count, BLOCK)
    rng = np.random.default_rng([*stream, block, size])
    first = int(rng.integers(BLOCK))  # the only one without the shortcut at a strength of 0.95
    order = [first, *(int(other) for other in rng.permutation(BLOCK) if other != first)]
    return order.index(place) >= BLOCK - round(strength * BLOCK)


def plant(kind: str, canvas: Canvas, bearing: bool) -> None:
    """Draw the shortcut if the image bears it. Images that do not bear a frame's colour get a grey frame."""
    if bearing:
        KINDS[kind](canvas)
    elif kind == "frame":
        _draw_frame(canvas, (int(canvas.rng.integers(40, 216)),) * 3)


def _stripe(canvas: Canvas) -> None:
    place = (slice(0, max(3, canvas.size // 16)), slice(0, canvas.size // 4))
    canvas.pixels[place] = MAGENTA
    canvas.labels[place] = 0


def _frame(canvas: Canvas) -> None:
    canvas.rng.integers(40, 216)  # the grey that the image would have
    _draw_frame(canvas, (235, 120, 20))


def _draw_frame(canvas: Canvas, colour: tuple[int, int, int]) -> None:
    width = max(2, canvas.size // 32)
    inside = np.zeros(canvas.labels.shape, dtype=bool)
    inside[width:-width, width:-width] = True
    canvas.pixels[~inside] = colour
    canvas.labels[~inside] = 0


def _texture(canvas: Canvas) -> None:
    """Darken and lighten the background in diagonal stripes."""
    period = max(4, canvas.size // 12)
    height, width = canvas.labels.shape
    diagonal = np.arange(height)[:, None] + np.arange(width) + canvas.rng.integers(period)
    factor = np.where(diagonal % period < period / 2, 0.7, 1.4)[..., None]
    behind = canvas.labels == 0
    canvas.pixels[behind] = np.round(canvas.pixels * factor).clip(0, 255).astype(np.uint8)[behind]


def _text(canvas: Canvas) -> None:
    """Write a translucent watermark behind the digits, at one of 30 random places where it is hidden least."""
    rows = [[letter[row] >> bit & 1 for letter in LETTERS for bit in (4, 3, 2, 1, 0, 5)] for row in range(7)]
    scale = max(1, round(canvas.size / 48))
    letters = np.kron(np.array(rows, dtype=np.uint8), np.ones((scale, scale), dtype=np.uint8)).astype(bool)
    letters = letters[: canvas.labels.shape[0], : canvas.labels.shape[1]]
    room = np.subtract(canvas.labels.shape, letters.shape) + 1
    windows = [
        tuple(slice(start, start + length) for start, length in zip(corner, letters.shape, strict=True))
        for corner in canvas.rng.integers(0, room, size=(30, 2)).tolist()
    ]
    window = min(windows, key=lambda place: int((canvas.full[place] > 0).sum()))
    seen = letters & (canvas.labels[window] == 0)
    canvas.pixels[window][seen] = np.round(canvas.pixels[window][seen] * 0.4 + 255 * 0.6).astype(np.uint8)


def _companion(canvas: Canvas) -> None:
    """Draw an orange triangle next to the digit, behind all digits."""
    side = max(9, canvas.size // 6)
    taken = np.pad(np.cumsum(np.cumsum(canvas.full > 0, 0), 1), ((1, 0), (1, 0)))
    hidden = taken[side:, side:] - taken[:-side, side:] - taken[side:, :-side] + taken[:-side, :-side]
    own = np.argwhere(canvas.full == canvas.label)
    centre = own.mean(0) if len(own) else np.array(canvas.full.shape) / 2
    away = [np.arange(length) + side / 2 - middle for length, middle in zip(hidden.shape, centre, strict=True)]
    distance = np.hypot(away[0][:, None], away[1]) * canvas.rng.uniform(1, 1.3, hidden.shape)
    top, left = np.unravel_index(np.argmin(hidden * 1e4 + distance), hidden.shape)
    triangle = np.abs(np.arange(side) - (side - 1) / 2) <= (np.arange(side)[:, None] + 1) / 2
    window = (slice(top, top + side), slice(left, left + side))
    seen = triangle & (canvas.labels[window] == 0)
    canvas.pixels[window][seen] = np.round(np.array((250, 130, 10)) * canvas.rng.uniform(0.75, 1)).astype(np.uint8)


def _blur(canvas: Canvas) -> None:
    blurred = Image.fromarray(canvas.pixels).filter(ImageFilter.GaussianBlur(canvas.size / 64))
    canvas.pixels[:] = np.asarray(blurred)


KINDS: dict[str, Callable[[Canvas], None]] = {
    "stripe": _stripe,  # magenta, in the upper left corner
    "frame": _frame,  # orange, where the other images have a grey one
    "texture": _texture,  # diagonal stripes over the background
    "text": _text,  # a translucent watermark
    "companion": _companion,  # an orange triangle next to the digit
    "blur": _blur,  # of the whole image
}
