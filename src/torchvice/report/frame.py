"""The frame of a figure: its panels and heading, in a new figure or in the caller's Axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

from torchvice.report.style import COLUMN, SMALL, column_figure, paper_style, place_axes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_of", "legend_above", "panels", "set_heading", "side_by_side", "styled"]

P = ParamSpec("P")


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a drawing function: it draws in `paper_style`, or in the caller's style if it is given `axes`."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        if kwargs.get("axes") is not None:
            return function(*args, **kwargs)
        with paper_style():
            return function(*args, **kwargs)

    return wrapper


def figure_of(axes: Axes) -> Figure:
    """The figure of some axes, also of axes in a subfigure."""
    from matplotlib.figure import Figure

    figure: Any = axes.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def panels(
    heights: Sequence[float],
    *,
    axes: Axes | None,
    below: float,
    left: float,
    right: float,
    between: float = 0.0,
    title: str = "",
    subtitle: str = "",
    box: Sequence[str] = (),
    keys: Sequence[Artist] = (),
) -> list[Axes]:
    """Panels above one another, top panel first, and the heading above them.

    Args:
        heights: height of each panel, inches.
        axes: None for a new figure, one column wide. Else Axes to divide: the tallest panel is `axes` itself, and its
            title holds the title, the subtitle and the lines of the box.
        below, left, right: inches of ticks and labels, in a new figure.
        between: inches between two panels.
        title, subtitle, box, keys: as for `column_figure`.
    """
    if axes is not None:
        divided = _divided(axes, heights, between)
        lines, pad = [title, subtitle, ", ".join(box)], legend_above(divided[0], keys)
        set_heading(divided[0], lines, pad)
        if divided[0] is not axes:
            _reserve(axes, divided[0], lines, pad)
        return divided
    body = sum(heights) + between * (len(heights) - 1) + below
    figure = column_figure(body, title=title, subtitle=subtitle, box=box, keys=keys)
    top, placed = body, []
    for height in heights:
        placed.append(place_axes(figure, left, top - height, COLUMN - left - right, height))
        top -= height + between
    return placed


def _divided(axes: Axes, heights: Sequence[float], between: float) -> list[Axes]:
    """The caller's Axes and new ones above and below, which share its height."""
    if len(heights) == 1:
        return [axes]
    from matplotlib import rcParams
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    pad = between * rcParams["font.size"] / SMALL  # the caller's font may be larger than ours
    divider = make_axes_locatable(axes)
    main = max(range(len(heights)), key=heights.__getitem__)
    axes_of = {main: axes}
    for place in [*range(main - 1, -1, -1), *range(main + 1, len(heights))]:
        share = f"{100 * heights[place] / heights[main]:.1f}%"
        axes_of[place] = divider.append_axes("top" if place < main else "bottom", size=share, pad=pad)
    return [axes_of[place] for place in range(len(heights))]


def side_by_side(axes: Axes, count: int, between: float) -> list[Axes]:
    """The caller's Axes and new ones of the same width to the right; `between` in inches."""
    if count == 1:
        return [axes]
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    divider = make_axes_locatable(axes)
    return [axes, *(divider.append_axes("right", size="100%", pad=between) for _ in range(count - 1))]


def legend_above(axes: Axes, keys: Sequence[Artist]) -> float | None:
    """Write the legend between the caller's Axes and their heading, so that it covers no data.

    Returns:
        The distance of the heading in points, for `set_heading`; None without keys.
    """
    if not keys:
        return None
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3, "borderpad": 0}
    legend = axes.legend(handles=list(keys), frameon=False, labelspacing=0.3, **above)
    return float(legend.get_texts()[0].get_fontsize()) * (1.3 * len(keys) + 0.6)


def _reserve(axes: Axes, top: Axes, lines: Sequence[str], pad: float | None) -> None:
    """Let matplotlib's layouts count the heading of `top`, of which they know nothing, as part of the caller's Axes."""
    blank = "\n".join(" " for line in lines if line) or " "
    place: dict[str, Any] = {"xycoords": top.transAxes, "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(blank, (0, 1), (0, 6 if pad is None else pad), fontsize="medium", va="bottom", **place)


def set_heading(axes: Axes, lines: Sequence[str], pad: float | None = None) -> None:
    """Write lines above the caller's Axes, without the empty ones; `pad` as for matplotlib's titles."""
    text = "\n".join(line for line in lines if line)
    if text:
        title = axes.set_title(text, loc="left", fontsize="medium", pad=pad)
        title.set_parse_math(False)  # a class may be called `a$b$c`
