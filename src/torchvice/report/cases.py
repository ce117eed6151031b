"""Case panels: an image with its map and with its mask, and below them the prediction of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.wording import decimals
from torchvice.metrics.overlap import VOID
from torchvice.report.frame import figure_of, styled
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
    write_lines,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Case", "case_panel", "case_sheet"]

GUTTER = 0.08  # inches between the two pictures
ACROSS = (COLUMN - 2 * MARGIN - GUTTER) / 2  # greatest width of a picture, inches
TALLEST = 2.0  # greatest height of a picture, inches
BETWEEN = 0.16  # inches between cases
FOOT = 0.2  # inches of the legend below all cases
MOST_PIXELS = 1200  # pixels are left out of a longer side; in print it has 500 dots


@dataclass(frozen=True, eq=False)
class Case:
    """One image with the map of one class, and the prediction of the model.

    Args:
        image: (H, W, 3) uint8.
        map: (H, W) in [0, 1]. NaN pixels show the image alone; values below 0, which the original's normalisation can
            give, are drawn as 0.
        mask: (H, W) whole numbers, 0 background and `void`, or None.
        class_name: name of the class that the map explains.
        label: value of the class in the mask, from 1 to below `void`.
        ji: JI score of the image in [0, 1], or None.
        iou: IoU of the class on this image, or None.
        confidence: probability of the class, in [0, 1].
        labels: names of the true classes.
        prediction: names of the predicted classes.
        image_id: name of the image in the dataset.
        status: status of the map; any other than `ok` is shown.
        kind: heading that says what the case is an example of; may be empty.
        void: value of the mask's pixels that do not count.

    Raises:
        ViceError: shapes that do not match, an image or mask of the wrong type, or a map above 1.
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
    void: int = VOID

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
        if not 1 <= self.label < self.void:
            raise ViceError(f"`label` {of} must be a mask value in 1..{self.void - 1}, but is {self.label}.")
        if (self.map > 1 + 1e-6).any():
            top = float(np.nanmax(self.map))
            raise ViceError(f"The map {of} must be in [0, 1], but reaches {top:g}.", "Normalise it first.")


def case_panel(case: Case, *, axes: Axes | None = None) -> Figure:
    """Draw one case, one column (3.4 inches) wide or in the place of the caller's Axes.

    The grey image with the map is at the left, the image with the mask at the right. Below stand IoU, confidence, JI
    score, labels and prediction.
    """
    return case_sheet([case], axes=axes)


@styled
def case_sheet(cases: Sequence[Case], columns: int = 1, *, axes: Axes | None = None) -> Figure:
    """Draw several cases in one figure, row by row.

    Args:
        cases: at least one.
        columns: cases per row; each is 3.4 inches wide.
        axes: Axes to draw into. They become invisible, and every case takes an equal share.

    Returns:
        The figure of `axes`, or a new one. Every case has two axes: the first holds the map, the second the mask.

    Raises:
        ViceError: no case, or fewer than one column.
    """
    from matplotlib.figure import Figure

    if not cases or columns < 1:
        raise ViceError(f"A sheet needs at least one case and one column, but has {len(cases)} and {columns}.")
    columns = min(columns, len(cases))
    if axes is not None:
        return _in_place(axes, cases, columns)
    cells = [_laid_out(case) for case in cases]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    # The pictures of a row are aligned, whatever the number of lines above and below.
    heights = [sum(max(part) for part in zip(*(cell.parts for cell in row), strict=True)) for row in rows]
    height = sum(heights) + BETWEEN * (len(rows) - 1) + FOOT + 2 * MARGIN
    width = columns * COLUMN + (columns - 1) * BETWEEN
    figure = Figure(figsize=(width, height))
    top = height - MARGIN
    for row, tall in zip(rows, heights, strict=True):
        above, pictures, _ = (max(part) for part in zip(*(cell.parts for cell in row), strict=True))
        for column, cell in enumerate(row):
            _draw_cell(figure, cell, column * (COLUMN + BETWEEN) + MARGIN, top, above, pictures)
        top -= tall + BETWEEN
    _draw_legend(figure, cases)
    return figure


@dataclass(frozen=True)
class _Cell:
    """A case with its text in lines; `parts` are the heights above, of and below the pictures, in inches."""

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
    """The text below the pictures."""

    def text(value: float | None) -> str:
        return "undefined" if value is None or math.isnan(value) else decimals(value, 2)

    of_class = f"IoU of {case.class_name} {text(case.iou)}"
    sentences = [
        f"{of_class}, its probability {text(case.confidence)}; JI score (paper) {text(case.ji)}",
        f"labels: {', '.join(case.labels) or 'none'}",
        f"prediction: {', '.join(case.prediction) or 'none'}",
    ]
    if case.status != "ok":
        sentences.append(f"status of the map: {case.status}")
    return sentences


def _draw_cell(figure: Figure, cell: _Cell, left: float, top: float, above: float, pictures: float) -> None:
    width, height = cell.picture
    write_lines(figure, left, top, cell.kind, TITLE)
    for side, caption in enumerate(cell.captions):
        x = left + side * (ACROSS + GUTTER)
        write_lines(figure, x, top - above + 0.03 + len(caption) * line_height(SMALL), caption)
        axes = place_axes(figure, x, top - above - height, width, height)
        _picture(axes, cell.case, bool(side), "auto")
    bottom = top - above - pictures - 0.05
    bottom = write_lines(figure, left, bottom, cell.name, colour="muted")
    write_lines(figure, left, bottom, cell.lines)


def _picture(axes: Axes, case: Case, of_mask: bool, aspect: Literal["auto", "equal"]) -> None:
    """Draw the image with the map, or with the mask."""
    axes.set_axis_off()
    # matplotlib shows the pixels of a much enlarged image as squares: it does not interpolate.
    axes.imshow(_with_mask(case) if of_mask else _with_map(case), aspect=aspect)
    if of_mask and case.mask is not None:
        mask, label = _thin(case.mask), case.label
        _outline(axes, _other_objects(mask, label, case.void), 0.4)
        _outline(axes, mask == label, 0.7)


def _in_place(axes: Axes, cases: Sequence[Case], columns: int) -> Figure:
    """Draw the cases in shares of the caller's Axes: captions above the pictures, text below."""
    axes.set_axis_off()
    box = axes.get_window_extent()
    rows = -(-len(cases) // columns)
    dpi = figure_of(axes).dpi
    inches = (box.width / dpi / columns, box.height / dpi / rows)
    width, height = 1 / columns, 1 / rows
    for place, case in enumerate(cases):
        left, top = place % columns * width, 1 - place // columns * height
        sentences = [case.image_id, *_sentences(case)]
        lines = [line for sentence in sentences for line in wrapped(sentence, 0.96 * inches[0], most=2)]
        foot = min(0.6, line_height(SMALL) * (len(lines) + 1) / max(inches[1], 0.1))  # fraction of the share
        head = min(0.2, line_height(SMALL) * (2 + bool(case.kind)) / max(inches[1], 0.1))
        text: dict[str, Any] = {"transform": axes.transAxes, "size": SMALL, "va": "top", "parse_math": False}
        axes.text(left + 0.01 * width, top, case.kind, **text)
        axes.text(left + 0.01 * width, top - (1 - foot) * height, "\n".join(lines), linespacing=1.3, **text)
        for side, caption in enumerate((_map_caption(case), _mask_caption(case))):
            x = left + (0.01 + 0.5 * side) * width
            inset = axes.inset_axes((x, top - (1 - foot) * height, 0.48 * width, (1 - foot - head) * height))
            inset.set_title(caption, size=SMALL, loc="left", pad=2).set_parse_math(False)
            _picture(inset, case, bool(side), "equal")
            inset.set_anchor("NW")
    return figure_of(axes)


def _thin(pixels: np.ndarray) -> np.ndarray:
    step = -(-max(pixels.shape[:2]) // MOST_PIXELS)
    return pixels[::step, ::step]


def _heat(values: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Blend the map over `ground` (..., 3) in [0, 1]: brighter and more opaque where the map is higher."""
    from matplotlib import colormaps

    values = np.clip(np.nan_to_num(values.astype(np.float32), nan=0.0), 0, 1)
    alpha = 0.85 * values[..., None]
    # The first seventh of the colours is left out: near black, they would look like shadows in the photograph.
    heat = colormaps["inferno"](0.15 + 0.85 * values)[..., :3]
    return np.clip((1 - alpha) * ground + alpha * heat, 0, 1)


def _with_map(case: Case) -> np.ndarray:
    # In grey, so that every colour in the picture belongs to the map.
    grey = _thin(case.image).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    return _heat(_thin(case.map), np.repeat(grey[..., None], 3, axis=2))


def _with_mask(case: Case) -> np.ndarray:
    pixels = _thin(case.image).astype(np.float32) / 255
    if case.mask is None:
        return pixels
    mask = _thin(case.mask)
    inside, void = mask == case.label, mask == case.void
    pixels[inside] = 0.6 * pixels[inside] + 0.4 * _rgb("sky")
    rows, columns = np.nonzero(void)
    period = max(2, max(mask.shape) // 60)
    pixels[rows, columns] = _stripes(rows, columns, period)[:, None]
    return pixels


def _rgb(colour: str) -> np.ndarray:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(PALETTE[colour]), np.float32)


def _outline(axes: Axes, inside: np.ndarray, width: float) -> None:
    """Draw the exact border of some pixels, white on dark."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    edges = _border(inside)
    # One path of all edges: a collection is drawn edge by edge, fifty times as slow.
    path = Path(edges.reshape(-1, 2), np.tile([Path.MOVETO, Path.LINETO], len(edges)).astype(Path.code_type))
    for colour, points in (("#303030", width + 0.7), ("white", width)):
        axes.add_artist(PathPatch(path, fill=False, edgecolor=colour, linewidth=points, capstyle="round"))


def _border(inside: np.ndarray) -> np.ndarray:
    """(S, 2, 2) segments between inside and outside pixels, also at the edge of the image, in imshow's coordinates."""
    padded = np.pad(inside, 1)
    row, column = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    horizontal = np.stack([column - 0.5, row - 0.5, column + 0.5, row - 0.5], axis=-1)
    row, column = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    vertical = np.stack([column - 0.5, row - 0.5, column - 0.5, row + 0.5], axis=-1)
    return np.concatenate([horizontal, vertical]).reshape(-1, 2, 2)


def _draw_legend(figure: Figure, cases: Sequence[Case]) -> None:
    """Draw one legend of the colours for all cases."""
    ramp = _heat(np.linspace(0, 1, 32)[None], np.full((1, 32, 3), 0.5))
    swatches: list[tuple[str, np.ndarray, str]] = [("map: 0", ramp, "1")]
    masks = [(case.mask, case.label, case.void) for case in cases if case.mask is not None]
    if any((mask == label).any() for mask, label, _ in masks):
        swatches.append(("", _framed(0.3 + 0.4 * _rgb("sky")), "the object"))
    if any(_other_objects(mask, label, void).any() for mask, label, void in masks):
        swatches.append(("", _framed(np.full(3, 0.5)), "another object"))
    if any((mask == void).any() for mask, _, void in masks):
        row, column = np.indices((8, 16))
        swatches.append(("", _stripes(row, column, 2)[..., None].repeat(3, axis=2), "void"))
    left, top = MARGIN, MARGIN + line_height(SMALL)
    for before, pixels, after in swatches:
        if before:
            write_lines(figure, left, top, [before])
            left += text_width(before, SMALL) + 0.04
        width = pixels.shape[1] / 100
        axes = place_axes(figure, left, top - 0.095, width, 0.08)
        axes.set_axis_off()
        axes.imshow(pixels, aspect="auto", vmin=0, vmax=1)
        left += width + 0.04
        write_lines(figure, left, top, [after])
        left += text_width(after, SMALL) + 0.12


def _other_objects(mask: np.ndarray, label: int, void: int) -> np.ndarray:
    return (mask != label) & (mask != 0) & (mask != void)


def _framed(colour: np.ndarray) -> np.ndarray:
    """(8, 16, 3) swatch of a colour, outlined like an object."""
    pixels = np.full((8, 16, 3), 0.3)
    pixels[1:-1, 1:-1] = 1
    pixels[2:-2, 2:-2] = colour
    return pixels


def _stripes(rows: np.ndarray, columns: np.ndarray, period: int) -> np.ndarray:
    return np.where(((rows + columns) // (period / 2)) % 2 == 0, np.float32(0.95), np.float32(0.35))
