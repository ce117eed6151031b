"""Case panels: an image with its map and with its mask side by side, and what the model said in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics.overlap import VOID
from torchvice.report.frame import drawn, figure_of
from torchvice.report.style import (
    COLUMN,
    MARGIN,
    PALETTE,
    SMALL,
    TITLE,
    line_height,
    place_axes,
    text_width,
    wrapped,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Case", "case_panel", "case_sheet"]

GUTTER = 0.08  # inches between the two pictures
ACROSS = (COLUMN - 2 * MARGIN - GUTTER) / 2  # inches that a picture may be wide
TALLEST = 2.0  # inches; a taller picture becomes narrower
BETWEEN = 0.16  # inches between cases
FOOT = 0.2  # inches of the key below all cases
MOST_PIXELS = 1200  # a longer side is thinned by whole steps: in print it has 500 dots


@dataclass(frozen=True, eq=False)
class Case:
    """One image, the map of one class on it, and what the model said.

    Args:
        image: (H, W, 3) uint8.
        map: (H, W) in [0, 1]; NaN pixels stay uncovered. What the original's normalisation leaves below 0 is
            drawn as 0.
        mask: (H, W) whole numbers, 0 background, 255 void, or None.
        class_name: the class that the map explains.
        label: its value in the mask, 1..254.
        ji: JI score of the image in [0, 1], or None.
        iou: of the class on this image, or None.
        confidence: the probability of the class, in [0, 1].
        labels: names of the true classes.
        prediction: names of the predicted classes.
        image_id: its name in the dataset.
        status: of the map; anything but `ok` is written out.
        kind: what the case is an example of, written above it; may be empty.

    Raises:
        ViceError: shapes that do not fit together, another type of image or mask, or a map above 1.
    """

    image: np.ndarray
    map: np.ndarray
    mask: np.ndarray | None
    class_name: str
    label: int
    ji: float | None
    iou: float | None
    confidence: float
    labels: tuple[str, ...]
    prediction: tuple[str, ...]
    image_id: str
    status: str = "ok"
    kind: str = ""

    def __post_init__(self) -> None:
        of = f"of {self.image_id}"
        for name, array in (("image", self.image), ("map", self.map), ("mask", self.mask)):
            if not isinstance(array, np.ndarray) and not (name == "mask" and array is None):
                raise ViceError(f"The {name} {of} must be a numpy array, but is a {type(array).__name__}.")
        shape = self.image.shape
        if len(shape) != 3 or shape[2] != 3 or self.image.dtype != np.uint8 or not self.image.size:
            raise ViceError(f"The image {of} must be (H, W, 3) uint8, but is {shape} {self.image.dtype}.")
        for name, array in (("map", self.map), ("mask", self.mask)):
            if array is not None and array.shape != shape[:2]:
                raise ViceError(
                    f"The {name} {of} must be {shape[:2]} like the image, but has shape {array.shape}.",
                    "Resize it to the image first.",
                )
        if self.mask is not None and self.mask.dtype.kind not in "iu":
            raise ViceError(f"The mask {of} must hold whole numbers, but is {self.mask.dtype}.")
        if not 1 <= self.label < VOID:
            raise ViceError(f"`label` {of} must be a mask value in 1..{VOID - 1}, but is {self.label}.")
        if (self.map > 1 + 1e-6).any():
            top = float(np.nanmax(self.map))
            raise ViceError(f"The map {of} must be in [0, 1], but reaches {top:g}.", "Normalise it first.")


def case_panel(case: Case, *, axes: Axes | None = None) -> Figure:
    """The picture of one case, one column (3.4 inches) wide, or in the place of the caller's Axes.

    At the left the image in grey with the map over it, at the right the image with the mask; beneath them the JI
    score, IoU, confidence, labels and prediction.
    """
    return case_sheet([case], axes=axes)


@drawn
def case_sheet(cases: Sequence[Case], columns: int = 1, *, axes: Axes | None = None) -> Figure:
    """Several cases in one figure, row by row.

    Args:
        cases: at least one.
        columns: cases beside each other; each is 3.4 inches wide.
        axes: draw in the place of these, which become invisible, each case in an equal share.

    Returns:
        matplotlib Figure, that of `axes`, else one of our own; per case two axes, that of the map and that of the mask.

    Raises:
        ViceError: no case, or fewer than one column.
    """
    from matplotlib.figure import Figure

    if not cases or columns < 1:
        raise ViceError(f"A sheet needs at least one case and one column, but has {len(cases)} and {columns}.")
    columns = min(columns, len(cases))
    if axes is not None:
        return _in_place(axes, cases, columns)
    laid = [_laid_out(case) for case in cases]
    rows = [laid[i : i + columns] for i in range(0, len(laid), columns)]
    # Pictures of one row stand on one line, whatever the number of lines above and below.
    heights = [sum(max(part) for part in zip(*(cell.parts for cell in row), strict=True)) for row in rows]
    height = sum(heights) + BETWEEN * (len(rows) - 1) + FOOT + 2 * MARGIN
    width = columns * COLUMN + (columns - 1) * BETWEEN
    figure = Figure(figsize=(width, height))
    top = height - MARGIN
    for row, tall in zip(rows, heights, strict=True):
        above, pictures, _ = (max(part) for part in zip(*(cell.parts for cell in row), strict=True))
        for column, cell in enumerate(row):
            _draw(figure, cell, column * (COLUMN + BETWEEN) + MARGIN, top, above, pictures)
        top -= tall + BETWEEN
    _draw_key(figure, cases)
    return figure


@dataclass(frozen=True)
class _Cell:
    """A case whose text is broken into lines; `parts` are the inches above, of and below the pictures."""

    case: Case
    kind: list[str]
    captions: tuple[list[str], list[str]]
    name: list[str]
    lines: list[str]
    picture: tuple[float, float]
    parts: tuple[float, float, float]


def _laid_out(case: Case) -> _Cell:
    captions = (wrapped(_map_caption(case), ACROSS, most=2), wrapped(_mask_caption(case), ACROSS, most=2))
    room = COLUMN - 2 * MARGIN
    kind, name = wrapped(case.kind, room, TITLE, most=2), wrapped(case.image_id, room, most=2)
    lines = [line for sentence in _sentences(case) for line in wrapped(sentence, room)]
    height, width = case.image.shape[:2]
    scale = min(ACROSS / width, TALLEST / height)
    above = len(kind) * line_height(TITLE) + 0.03 * bool(kind) + max(map(len, captions)) * line_height(SMALL) + 0.03
    below = (len(name) + len(lines)) * line_height(SMALL) + 0.05
    return _Cell(case, kind, captions, name, lines, (width * scale, height * scale), (above, height * scale, below))


def _map_caption(case: Case) -> str:
    return f"map of {case.class_name}" if np.isfinite(case.map).any() else f"no map of {case.class_name}"


def _mask_caption(case: Case) -> str:
    if case.mask is None:
        return "no mask"
    return f"mask of {case.class_name}" if (case.mask == case.label).any() else f"no {case.class_name} in the mask"


def _sentences(case: Case) -> list[str]:
    """What stands beneath the pictures."""

    def said(value: float | None) -> str:
        return "undefined" if value is None or math.isnan(value) else f"{value:.2f}"

    of_class = f"IoU of {case.class_name} {said(case.iou)}"
    sentences = [
        f"{of_class}, its probability {said(case.confidence)}; JI score (paper) {said(case.ji)}",
        f"labels: {', '.join(case.labels) or 'none'}",
        f"prediction: {', '.join(case.prediction) or 'none'}",
    ]
    if case.status != "ok":
        sentences.append(f"status of the map: {case.status}")
    return sentences


def _draw(figure: Figure, cell: _Cell, left: float, top: float, above: float, pictures: float) -> None:
    width, height = cell.picture
    write(figure, left, top, cell.kind, TITLE)
    for side, caption in enumerate(cell.captions):
        x = left + side * (ACROSS + GUTTER)
        write(figure, x, top - above + 0.03 + len(caption) * line_height(SMALL), caption)
        axes = place_axes(figure, x, top - above - height, width, height)
        _picture(axes, cell.case, bool(side), "auto")
    bottom = top - above - pictures - 0.05
    bottom = write(figure, left, bottom, cell.name, colour="muted")
    write(figure, left, bottom, cell.lines)


def _picture(axes: Axes, case: Case, of_mask: bool, aspect: Literal["auto", "equal"]) -> None:
    """The image with the map, or with the mask."""
    axes.set_axis_off()
    # Enlarged threefold and more, pixels stay squares: nothing is made up.
    axes.imshow(_with_mask(case) if of_mask else _with_map(case), aspect=aspect)
    if of_mask and case.mask is not None:
        mask, label = _thin(case.mask), case.label
        _outline(axes, _others(mask, label), 0.4)
        _outline(axes, mask == label, 0.7)


def _in_place(axes: Axes, cases: Sequence[Case], columns: int) -> Figure:
    """The cases in shares of the caller's Axes: captions above the pictures, what the model said in lines below."""
    axes.set_axis_off()
    box = axes.get_window_extent()
    rows = -(-len(cases) // columns)
    dpi = figure_of(axes).dpi
    inches = (box.width / dpi / columns, box.height / dpi / rows)
    wide, high = 1 / columns, 1 / rows
    for place, case in enumerate(cases):
        left, top = place % columns * wide, 1 - place // columns * high
        said = [case.image_id, *_sentences(case)]
        lines = [line for text in said for line in wrapped(text, 0.96 * inches[0], most=2)]
        foot = min(0.6, line_height(SMALL) * (len(lines) + 1) / max(inches[1], 0.1))  # of the share's height
        head = min(0.2, line_height(SMALL) * (2 + bool(case.kind)) / max(inches[1], 0.1))
        text: dict[str, Any] = {"transform": axes.transAxes, "size": SMALL, "va": "top", "parse_math": False}
        axes.text(left + 0.01 * wide, top, case.kind, **text)
        axes.text(left + 0.01 * wide, top - (1 - foot) * high, "\n".join(lines), linespacing=1.3, **text)
        for side, caption in enumerate((_map_caption(case), _mask_caption(case))):
            x = left + (0.01 + 0.5 * side) * wide
            inset = axes.inset_axes((x, top - (1 - foot) * high, 0.48 * wide, (1 - foot - head) * high))
            inset.set_title(caption, size=SMALL, loc="left", pad=2).set_parse_math(False)
            _picture(inset, case, bool(side), "equal")
            inset.set_anchor("NW")
    return figure_of(axes)


def _thin(pixels: np.ndarray) -> np.ndarray:
    step = -(-max(pixels.shape[:2]) // MOST_PIXELS)
    return pixels[::step, ::step]


def _heat(values: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """`ground` (..., 3) in [0, 1] under the map: brighter and more opaque where the map is higher."""
    from matplotlib import colormaps

    values = np.clip(np.nan_to_num(values.astype(np.float32), nan=0.0), 0, 1)
    alpha = 0.85 * values[..., None]
    # From a seventh on: the first colours are near black, and would read as shadows of the photograph.
    heat = colormaps["inferno"](0.15 + 0.85 * values)[..., :3]
    return np.clip((1 - alpha) * ground + alpha * heat, 0, 1)


def _with_map(case: Case) -> np.ndarray:
    # In grey, so that every colour in the picture is the map's.
    grey = _thin(case.image).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    return _heat(_thin(case.map), np.repeat(grey[..., None], 3, axis=2))


def _with_mask(case: Case) -> np.ndarray:
    pixels = _thin(case.image).astype(np.float32) / 255
    if case.mask is None:
        return pixels
    mask = _thin(case.mask)
    inside, void = mask == case.label, mask == VOID
    pixels[inside] = 0.6 * pixels[inside] + 0.4 * _rgb("sky")
    rows, columns = np.nonzero(void)
    period = max(2, max(mask.shape) // 60)
    pixels[rows, columns] = _stripes(rows, columns, period)[:, None]
    return pixels


def _rgb(colour: str) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(PALETTE[colour]), np.float32)


def _outline(axes: Axes, inside: np.ndarray, width: float) -> None:
    """The exact border of some pixels, white on dark."""
    from matplotlib.collections import LineCollection

    edges = list(_border(inside))
    for colour, points in (("#303030", width + 0.7), ("white", width)):
        lines = LineCollection(edges, colors=colour, linewidths=points, capstyle="round")
        axes.add_collection(lines, autolim=False)


def _border(inside: np.ndarray) -> np.ndarray:
    """(S, 2, 2) segments between pixels inside and outside, image edges too, in the coordinates of imshow."""
    padded = np.pad(inside, 1)
    row, column = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    flat = np.stack([column - 0.5, row - 0.5, column + 0.5, row - 0.5], axis=-1)
    row, column = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    steep = np.stack([column - 0.5, row - 0.5, column - 0.5, row + 0.5], axis=-1)
    return np.concatenate([flat, steep]).reshape(-1, 2, 2)


def _draw_key(figure: Figure, cases: Sequence[Case]) -> None:
    """What the colours mean, once for all cases."""
    ramp = _heat(np.linspace(0, 1, 32)[None], np.full((1, 32, 3), 0.5))
    swatches: list[tuple[str, np.ndarray, str]] = [("map: 0", ramp, "1")]
    masks = [(case.mask, case.label) for case in cases if case.mask is not None]
    if any((mask == label).any() for mask, label in masks):
        swatches.append(("", _framed(0.3 + 0.4 * _rgb("sky")), "the object"))
    if any(_others(mask, label).any() for mask, label in masks):
        swatches.append(("", _framed(np.full(3, 0.5)), "another object"))
    if any((mask == VOID).any() for mask, _ in masks):
        row, column = np.indices((8, 16))
        swatches.append(("", _stripes(row, column, 2)[..., None].repeat(3, axis=2), "void"))
    left, top = MARGIN, MARGIN + line_height(SMALL)
    for before, pixels, after in swatches:
        if before:
            write(figure, left, top, [before])
            left += text_width(before, SMALL) + 0.04
        wide = pixels.shape[1] / 100
        axes = place_axes(figure, left, top - 0.095, wide, 0.08)
        axes.set_axis_off()
        axes.imshow(pixels, aspect="auto", vmin=0, vmax=1)
        left += wide + 0.04
        write(figure, left, top, [after])
        left += text_width(after, SMALL) + 0.12


def _others(mask: np.ndarray, label: int) -> np.ndarray:
    return (mask != label) & (mask != 0) & (mask != VOID)


def _framed(colour: np.ndarray) -> np.ndarray:
    """(8, 16, 3): a swatch in the frame of an outlined object."""
    pixels = np.full((8, 16, 3), 0.3)
    pixels[1:-1, 1:-1] = 1
    pixels[2:-2, 2:-2] = colour
    return pixels


def _stripes(rows: np.ndarray, columns: np.ndarray, period: int) -> np.ndarray:
    return np.where(((rows + columns) // (period / 2)) % 2 == 0, np.float32(0.95), np.float32(0.35))
