"""The comparison figure: VICE of every model with its interval, and the differences between models or groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.report.frame import figure_of, panels, styled
from torchvice.report.style import PALETTE, SMALL, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_figure"]

ROW = 0.17  # height of a row, inches
BELOW, BETWEEN = 0.37, 0.42
WIDEST = 1.6  # greatest width of a name, inches
MOST = 40  # rows of a panel; of more pairs, the largest differences are drawn


@styled
def comparison_figure(
    models: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Draw VICE of every model above and the differences below, filled if their interval excludes 0.

    Args:
        models: rows with `name`, `vice`, `vice_low`, `vice_high`, see `torchvice.measures.Comparison`.
        differences: rows with `first`, `second`, `measure`, `difference`, `low`, `high`; those of `vice` are drawn.
            They are paired differences of models, or with `seeds_first` those of groups of seeds (`Comparison.seeds`).
        title: one sentence or less.
        axes: Axes to draw into, shared by the two panels.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide. A model without VICE has a row and no mark. Of more than 40
        differences the largest are drawn, and the axis label says so.

    Raises:
        ViceError: no model.
    """
    if not models:
        raise ViceError("The comparison figure needs at least one model, but none came.")
    above = [([str(r["name"])], r["vice"], r["vice_low"], r["vice_high"], True) for r in models]
    rows = [row for row in differences if row["measure"] == "vice" and row["difference"] is not None]
    rows = sorted(rows, key=lambda row: -abs(row["difference"]))
    below = [
        (
            [str(r["first"]), f"−{r['second']}"],
            r["difference"],
            r["low"],
            r["high"],
            _leaves_out_0(r["low"], r["high"]),
        )
        for r in rows[:MOST]
    ]
    heights = [ROW * (len(above) + 0.5), ROW * (2 * len(below) + 0.5)]
    left = 0.1 + max(text_width(_shortened(line), SMALL) for lines, *_ in above + below for line in lines)
    heights = heights if below else heights[:1]
    upper, *lower = panels(heights, axes=axes, between=BETWEEN, below=BELOW, left=left, right=0.14, title=title)
    _panel(upper, above, "VICE, 95 % interval")
    kind = "difference of VICE, over seeds" if rows and "seeds_first" in rows[0] else "paired difference of VICE"
    for panel in lower:
        more = f" (the largest {MOST} of {len(rows)})" if len(rows) > MOST else ""
        _panel(panel, below, f"{kind}{more}")
        panel.axvline(0, color=PALETTE["ink"], lw=0.6, ls=(0, (4, 2)), zorder=1)
    return figure_of(upper)


def _leaves_out_0(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _shortened(name: str) -> str:
    return wrapped(name, WIDEST, most=1)[0] if name else ""


Row = tuple[list[str], "float | None", "float | None", "float | None", bool]


def _panel(axes: Axes, rows: Sequence[Row], label: str) -> None:
    for place, (_, value, low, high, filled) in enumerate(rows):
        if value is None:
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=PALETTE["blue"], lw=1.1, solid_capstyle="butt", zorder=2)
        face = PALETTE["blue"] if filled else "white"
        axes.plot([value], [place], ls="", marker="o", ms=4, mew=0.9, mec=PALETTE["blue"], mfc=face, zorder=3)
    axes.set(ylim=(len(rows) - 0.5, -0.75), yticks=range(len(rows)), xlabel=label)
    for text in axes.set_yticklabels(["\n".join(map(_shortened, lines)) for lines, *_ in rows]):
        text.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=PALETTE["rule"], lw=0.3)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
