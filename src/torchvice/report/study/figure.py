"""The study figure: VICE of every run against its mAP and its ECE-ML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.report.frame import drawn, figure_of, panels
from torchvice.report.study.recipes import recipe_name
from torchvice.report.style import COLUMN, PALETTE, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["study_figure"]

HEIGHT = 1.5  # inches of a panel
# Okabe and Ito's colours, without the yellow that white swallows; with as many shapes as do not divide their number
# every recipe has a mark of its own, and no two that are neighbours in the key share colour or shape.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")
MARKS = ("o", "s", "^", "D", "v")
MOST = len(COLOURS) * len(MARKS)
PANELS = (("mean_average_precision", "mAP"), ("ece_ml", "ECE-ML"))


@drawn
def study_figure(
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    *,
    base: Mapping[str, str] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """VICE against mAP above, against ECE-ML below: a small mark a run, a large one the mean of a recipe's seeds.

    Args:
        rows: of a study's table, with the columns of `by`, `vice`, `mean_average_precision` and `ece_ml`; a run
            without one of the two that a panel needs has no mark there.
        by: the axes' names; runs of the same levels are one recipe.
        base: the base's levels; a recipe is then named by what it changes. Else by all its levels.
        title: one sentence or less.
        axes: draw into these, which the two panels share.

    Returns:
        matplotlib Figure, that of `axes`, else one 3.4 inches wide. Of more than 30 recipes the first are drawn, and
        the key says so. The bar of a mean is the standard deviation over seeds, where there are two or more.

    Raises:
        ViceError: no row, or a row without a column of `by`.
    """
    if not rows:
        raise ViceError("A study is drawn of its rows, but none came.")
    for name in by:
        if any(name not in row for row in rows):
            raise ViceError(f"Every row of a study must have its axes, but one lacks `{name}`.")
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        recipes.setdefault(recipe_name(row, by, base or {}), []).append(row)
    shown = list(recipes.items())[:MOST]
    keys = _keys([name for name, _ in shown], len(recipes) - len(shown))
    made = panels([HEIGHT, HEIGHT], axes=axes, between=0.42, below=0.34, left=0.42, right=0.08, title=title, keys=keys)
    for panel, (column, label) in zip(made, PANELS, strict=True):
        for place, (_, runs) in enumerate(shown):
            _recipe(panel, runs, column, place)
        panel.set(xlabel=label, ylabel="VICE")
        panel.margins(0.06)
        panel.grid(color=PALETTE["rule"], lw=0.3)
        panel.set_axisbelow(True)
        panel.locator_params(nbins=5)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure_of(made[0])


def _look(place: int) -> dict[str, Any]:
    return {"marker": MARKS[place % len(MARKS)], "color": COLOURS[place % len(COLOURS)], "ls": ""}


def _keys(names: Sequence[str], more: int) -> list[Any]:
    from matplotlib.lines import Line2D

    width = COLUMN - 0.4
    keys = [
        Line2D([], [], ms=4.5, mew=0, label=wrapped(name, width, most=1)[0], **_look(place))
        for place, name in enumerate(names)
    ]
    if more:
        keys.append(Line2D([], [], ls="", label=f"and {more} more, not drawn"))
    return keys


def _recipe(panel: Axes, runs: Sequence[Mapping[str, Any]], column: str, place: int) -> None:
    """The marks of a recipe's runs and of their mean."""
    points = [(run[column], run["vice"]) for run in runs if run[column] is not None and run["vice"] is not None]
    if not points:
        return
    x, y = (list(values) for values in zip(*points, strict=True))
    look = _look(place)
    colour = look["color"]
    mean = (sum(x) / len(x), sum(y) / len(y))
    if len(points) > 1:
        spread = [
            (sum((value - middle) ** 2 for value in values) / (len(values) - 1)) ** 0.5
            for values, middle in zip((x, y), mean, strict=True)
        ]
        panel.plot(x, y, ms=2.5, mew=0.5, mfc="none", zorder=2, **look)
        panel.plot([mean[0] - spread[0], mean[0] + spread[0]], [mean[1]] * 2, color=colour, lw=0.8, zorder=3)
        panel.plot([mean[0]] * 2, [mean[1] - spread[1], mean[1] + spread[1]], color=colour, lw=0.8, zorder=3)
    panel.plot([mean[0]], [mean[1]], ms=5, mew=0.5, mec="white", zorder=4, **look)
