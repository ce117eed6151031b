"""The study figure: VICE of every run against its mAP and its ECE-ML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.measures.catalogue import compared_label
from torchvice.report.frame import figure_of, panels, styled
from torchvice.report.study.recipes import recipe_name
from torchvice.report.style import COLUMN, PALETTE, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["study_figure"]

HEIGHT = 1.5  # height of a panel, inches
# Okabe and Ito's colours, without yellow, which is faint on white. The numbers of colours and shapes have no common
# divisor: the first 30 recipes all look different, and neighbours in the legend share neither colour nor shape.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
MARKS = ("o", "s", "^", "D", "v")
MOST = len(COLOURS) * len(MARKS)
PANELS = (("mean_average_precision", "mAP"), ("ece_ml", "ECE-ML"))


@styled
def study_figure(
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    *,
    base: Mapping[str, str] | None = None,
    quality: str = "ji",
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Draw VICE against mAP above and against ECE-ML below: a small mark per run, a large one per mean of a recipe.

    Args:
        rows: rows of a study's table, with the columns of `by`, `vice`, `mean_average_precision` and `ece_ml`. A panel
            leaves out a run that lacks one of its two values.
        by: names of the study's axes; runs of the same levels are one recipe.
        base: levels of the base. With it a recipe is named by what it changes, else by all its levels.
        quality: the quality that VICE is of, one of `torchvice.measures.QUALITIES`.
        title: one sentence or less.
        axes: Axes to draw into, shared by the two panels.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide. Of more than 30 recipes the first 30 are drawn, and the
        legend says so. The bar of a mean is the standard deviation over seeds, if there are two or more.

    Raises:
        ViceError: no row, or a row without a column of `by`.
    """
    if not rows:
        raise ViceError("The study figure needs at least one row, but none came.")
    for name in by:
        if any(name not in row for row in rows):
            raise ViceError(f"Every row of a study must have a column for every axis, but one lacks `{name}`.")
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        recipes.setdefault(recipe_name(row, by, base or {}), []).append(row)
    drawn = list(recipes.items())[:MOST]
    keys = _keys([name for name, _ in drawn], len(recipes) - len(drawn))
    heights = [HEIGHT, HEIGHT]
    placed = panels(heights, axes=axes, between=0.42, below=0.34, left=0.42, right=0.08, title=title, keys=keys)
    for panel, (column, label) in zip(placed, PANELS, strict=True):
        for place, (_, runs) in enumerate(drawn):
            _draw_recipe(panel, runs, column, place)
        panel.set(xlabel=label, ylabel=compared_label("vice", quality))
        panel.margins(0.06)
        panel.grid(color=PALETTE["rule"], lw=0.3)
        panel.set_axisbelow(True)
        panel.locator_params(nbins=5)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure_of(placed[0])


def _mark_style(place: int) -> dict[str, Any]:
    return {"marker": MARKS[place % len(MARKS)], "color": COLOURS[place % len(COLOURS)], "ls": ""}


def _keys(names: Sequence[str], more: int) -> list[Any]:
    from matplotlib.lines import Line2D

    width = COLUMN - 0.4
    keys = [
        Line2D([], [], ms=4.5, mew=0, label=wrapped(name, width, most=1)[0], **_mark_style(place))
        for place, name in enumerate(names)
    ]
    if more:
        keys.append(Line2D([], [], ls="", label=f"and {more} more, not drawn"))
    return keys


def _draw_recipe(panel: Axes, runs: Sequence[Mapping[str, Any]], column: str, place: int) -> None:
    """Draw the runs of a recipe and their mean."""
    points = [(run[column], run["vice"]) for run in runs if run[column] is not None and run["vice"] is not None]
    if not points:
        return
    x, y = (list(values) for values in zip(*points, strict=True))
    style = _mark_style(place)
    colour = style["color"]
    mean = (sum(x) / len(x), sum(y) / len(y))
    if len(points) > 1:
        spread = [
            (sum((value - middle) ** 2 for value in values) / (len(values) - 1)) ** 0.5
            for values, middle in zip((x, y), mean, strict=True)
        ]
        panel.plot(x, y, ms=2.5, mew=0.5, mfc="none", zorder=2, **style)
        panel.plot([mean[0] - spread[0], mean[0] + spread[0]], [mean[1]] * 2, color=colour, lw=0.8, zorder=3)
        panel.plot([mean[0]] * 2, [mean[1] - spread[1], mean[1] + spread[1]], color=colour, lw=0.8, zorder=3)
    panel.plot([mean[0]], [mean[1]], ms=5, mew=0.5, mec="white", zorder=4, **style)
