"""Frames: the axes of a figure, one above another, in a figure of its own or in place of the caller's Axes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

from torchvice.report.style import COLUMN, SMALL, column_figure, paper_style, place_axes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["beside", "drawn", "figure_of", "head", "panels"]

P = ParamSpec("P")


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function in our style; in the caller's own where it is given `axes`."""

    @functools.wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        if kwargs.get("axes") is not None:
            return function(*args, **kwargs)
        with paper_style():
            return function(*args, **kwargs)

    return styled


def figure_of(axes: Axes) -> Figure:
    """The figure that axes stand in, also through a subfigure."""
    from matplotlib.figure import Figure

    found: Any = axes.figure
    while not isinstance(found, Figure):
        found = found.figure
    return found


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
    """Axes above one another, from the top, and the heading above them.

    Args:
        heights: inches of each.
        axes: None: a figure of our own, one column wide. Else these are divided, the tallest panel being `axes`
            itself, and the heading is its title: title, subtitle and the box's lines.
        below, left, right: inches that ticks and labels take, in a figure of our own.
        between: inches between two panels.
        title, subtitle, box, keys: as for `column_figure`.
    """
    if axes is not None:
        made = _divided(axes, heights, between)
        head(made[0], [title, subtitle, ", ".join(box)])
        if keys:
            axes.legend(handles=list(keys), frameon=False)
        return made
    body = sum(heights) + between * (len(heights) - 1) + below
    figure = column_figure(body, title=title, subtitle=subtitle, box=box, keys=keys)
    top, made = body, []
    for height in heights:
        made.append(place_axes(figure, left, top - height, COLUMN - left - right, height))
        top -= height + between
    return made


def _divided(axes: Axes, heights: Sequence[float], between: float) -> list[Axes]:
    """The caller's Axes, and new ones above and below it that take their share of its height."""
    if len(heights) == 1:
        return [axes]
    from matplotlib import rcParams
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    pad = between * rcParams["font.size"] / SMALL  # the caller's letters stand between the panels
    divider = make_axes_locatable(axes)
    main = max(range(len(heights)), key=heights.__getitem__)
    made = {main: axes}
    for place in [*range(main - 1, -1, -1), *range(main + 1, len(heights))]:
        share = f"{100 * heights[place] / heights[main]:.1f}%"
        made[place] = divider.append_axes("top" if place < main else "bottom", size=share, pad=pad)
    return [made[place] for place in range(len(heights))]


def beside(axes: Axes, count: int, between: float) -> list[Axes]:
    """The caller's Axes and new ones at its right, of one width; `between` in inches."""
    if count == 1:
        return [axes]
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    divider = make_axes_locatable(axes)
    return [axes, *(divider.append_axes("right", size="100%", pad=between) for _ in range(count - 1))]


def head(axes: Axes, lines: Sequence[str]) -> None:
    """The lines above the caller's Axes, where our own figure has its heading; empty ones are left out."""
    said = "\n".join(line for line in lines if line)
    if said:
        axes.set_title(said, loc="left", fontsize="medium").set_parse_math(False)  # a class may be called `a$b$c`
