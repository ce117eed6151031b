"""The style of every figure: one paper column wide, colours safe for colour-blind readers, text that fits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.measures.wording import decimals

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLUMN",
    "HEAT",
    "MARGIN",
    "PALETTE",
    "SMALL",
    "TITLE",
    "column_figure",
    "line_height",
    "number",
    "paper_style",
    "place_axes",
    "text_width",
    "wrapped",
    "write_lines",
]

COLUMN = 3.4  # inches: one column of a two-column paper
SMALL, TITLE = 7.0, 8.0  # points
MARGIN = 0.05  # inches around everything

# Blue against orange differs for every kind of colour vision and, dark against light, on a grey printer.
PALETTE = {
    "ink": "#1a1a1a",
    "muted": "#595959",
    "rule": "#b0b0b0",
    "blue": "#0072b2",  # JI score; the first curve
    "pale": "#7db6dc",  # bars of accuracy: the gap must be visible on them
    "orange": "#f2b880",  # loss: bars
    "brown": "#9a4f00",  # loss: text
    "red": "#c8452c",  # the gap
    "blush": "#f5dad4",  # background of the gap on white
    "plum": "#94a4bf",  # background of the gap on a bar
    "sky": "#56b4e9",  # the object of a mask
}

# The map over the image: matplotlib's inferno at 17 points. High values are light on any background.
HEAT = (
    *("#000004", "#0b0724", "#210c4a", "#3d0965", "#57106e", "#71196e", "#8a226a", "#a32c61", "#bc3754"),
    *("#d24644", "#e45a31", "#f1731d", "#f98e09", "#fcac11", "#f9cb35", "#f2ea69", "#fcffa4"),
)

FONT = "DejaVu Sans"  # comes with matplotlib: the same on every machine
SETTINGS: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": SMALL,
    "axes.labelsize": SMALL,
    "axes.linewidth": 0.5,
    "axes.edgecolor": PALETTE["muted"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.labelpad": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": PALETTE["ink"],
    "text.hinting": "none",  # same width on screen as in print: hinting widened lines by up to 7 %
    "text.parse_math": False,  # a class may be called `a$b$c`
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # embedded TrueType: journals refuse matplotlib's default, Type 3
}


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Matplotlib's defaults with our settings, only inside the block or the decorated function."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's style (LaTeX, dark background) would break the layout
        matplotlib.rcParams.update(SETTINGS)
        yield


def number(value: float | None) -> str:
    """Format with three decimals, or two significant digits where these are 0; None and NaN are `undefined`.

    Example:
        >>> number(0.62181), number(-0.0001), number(None)
        ('0.622', '-0.0001', 'undefined')
    """
    if value is None or value != value:
        return "undefined"
    return decimals(value)


def line_height(size: float) -> float:
    """Inches from one line of text of `size` points to the next."""
    return size * 1.3 / 72


def text_width(text: str, size: float) -> float:
    """Width of `text` on one line at `size` points, in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONT, size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def wrapped(text: str, width: float, size: float = SMALL, most: int = 3) -> list[str]:
    """Break `text` into lines of at most `width` inches.

    Breaks at spaces, and inside a word only if it is wider than a line. Text that does not fit into `most` lines is
    cut, and the last line ends with an ellipsis.
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if text_width(joined, size) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while len(word) > 1 and text_width(word, size) > width:
            fits = _fitting(word, width, size)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    if line:
        lines.append(line)
    if len(lines) > most:
        last = lines[most - 1]
        fits = _fitting(last, width - text_width("…", size), size)
        lines = [*lines[: most - 1], last[:fits].rstrip() + "…"]
    return lines


def _fitting(word: str, width: float, size: float) -> int:
    """Number of leading characters that fit into `width` inches; at least one."""
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(word[:middle], size) <= width else (low, middle - 1)
    return low


def place_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a position in inches from the lower left corner of the figure."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write_lines(
    figure: Figure, left: float, top: float, lines: Sequence[str], size: float = SMALL, colour: str = "ink"
) -> float:
    """Write lines of text from an upper left corner in inches; returns the top of the next line."""
    across, up = figure.get_size_inches()
    for line in lines:
        baseline = top - 0.95 * size / 72
        figure.text(left / across, baseline / up, line, size=size, color=PALETTE[colour], va="baseline")
        top -= line_height(size)
    return top


def column_figure(
    body: float, *, title: str = "", subtitle: str = "", box: Sequence[str] = (), keys: Sequence[Artist] = ()
) -> Figure:
    """A figure one column wide: `body` inches, and above them as much as the heading needs.

    Args:
        body: inches below the heading, for the caller's axes.
        title: text at the left, wrapped so that it does not reach the box.
        subtitle: smaller text below the title.
        box: lines of the framed box at the right.
        keys: artists with labels, listed below the title.
    """
    from matplotlib.figure import Figure

    box_width = max((text_width(line, SMALL) for line in box), default=0.0)
    title_width = COLUMN - 2 * MARGIN - (box_width + 0.25 if box else 0)
    titles, subtitles = wrapped(title, title_width, TITLE, most=5), wrapped(subtitle, title_width, SMALL, most=4)
    left_height = len(titles) * line_height(TITLE) + (len(subtitles) + len(keys)) * line_height(SMALL)
    left_height += 0.04 if keys else 0
    box_height = len(box) * line_height(SMALL) + 0.07 if box else 0.0
    heading = max(left_height, box_height)
    height = body + (heading + 0.08 if heading else 0) + MARGIN
    figure = Figure(figsize=(COLUMN, height))
    top = write_lines(figure, MARGIN, height - MARGIN, titles, TITLE)
    top = write_lines(figure, MARGIN, top, subtitles, SMALL, "muted")
    if keys:
        figure.legend(
            handles=list(keys),
            loc="upper left",
            bbox_to_anchor=(MARGIN / COLUMN, (top - 0.02) / height),
            borderpad=0,
            borderaxespad=0,
            labelspacing=0.3,
            handlelength=1.4,
            handletextpad=0.5,
        )
    if box:
        figure.text(
            1 - (MARGIN + 0.05) / COLUMN,
            1 - (MARGIN + 0.05) / height,
            "\n".join(box),
            ha="right",
            va="top",
            bbox={"boxstyle": "round,pad=0.4", "fc": "white", "ec": PALETTE["muted"], "lw": 0.5},
        )
    return figure
