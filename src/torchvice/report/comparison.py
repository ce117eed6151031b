"""The comparison of models: VICE of each with its interval, and the paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.report.frame import drawn, figure_of, panels
from torchvice.report.style import PALETTE, SMALL, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_figure"]

ROW = 0.17  # inches of a row
BELOW, BETWEEN = 0.37, 0.42
WIDEST = 1.6  # inches that names may take
MOST = 40  # rows of a panel; of more pairs the clearest are drawn


@drawn
def comparison_figure(
    models: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """VICE of every model above, below the differences of VICE; a difference whose interval leaves out 0 is filled.

    Args:
        models: rows with `name`, `vice`, `vice_low`, `vice_high`, see `torchvice.measures.Comparison`.
        differences: rows with `first`, `second`, `measure`, `difference`, `low`, `high`; those of `vice` are drawn.
        title: one sentence or less.
        axes: draw into these, which the two panels share.

    Returns:
        matplotlib Figure, that of `axes`, else one 3.4 inches wide. A model without VICE has a row and no mark; of more
        than 40 differences the largest are drawn, and the axis says so.

    Raises:
        ViceError: no model.
    """
    if not models:
        raise ViceError("A comparison is drawn of models, but none came.")
    above = [([str(r["name"])], r["vice"], r["vice_low"], r["vice_high"], True) for r in models]
    rows = [row for row in differences if row["measure"] == "vice" and row["difference"] is not None]
    rows = sorted(rows, key=lambda row: -abs(row["difference"]))
    below = [
        ([str(r["first"]), f"−{r['second']}"], r["difference"], r["low"], r["high"], _apart(r["low"], r["high"]))
        for r in rows[:MOST]
    ]
    heights = [ROW * (len(above) + 0.5), ROW * (2 * len(below) + 0.5)]
    left = 0.1 + max(text_width(_shown(line), SMALL) for lines, *_ in above + below for line in lines)
    upper, *lower = panels(
        heights if below else heights[:1],
        axes=axes,
        between=BETWEEN,
        below=BELOW,
        left=left,
        right=0.14,
        title=title,
    )
    _panel(upper, above, "VICE, 95 % interval")
    for panel in lower:
        more = f" (the largest {MOST} of {len(rows)})" if len(rows) > MOST else ""
        _panel(panel, below, f"paired difference of VICE{more}")
        panel.axvline(0, color=PALETTE["ink"], lw=0.6, ls=(0, (4, 2)), zorder=1)
    return figure_of(upper)


def _apart(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _shown(name: str) -> str:
    return wrapped(name, WIDEST, most=1)[0] if name else ""


Row = tuple[list[str], "float | None", "float | None", "float | None", bool]


def _panel(axes: Axes, rows: Sequence[Row], label: str) -> None:
    for place, (_, value, low, high, filled) in enumerate(rows):
        if value is None:
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=PALETTE["blue"], lw=1.1, solid_capstyle="butt", zorder=2)
        axes.plot(
            [value],
            [place],
            ls="",
            marker="o",
            ms=4,
            mew=0.9,
            mec=PALETTE["blue"],
            mfc=PALETTE["blue"] if filled else "white",
            zorder=3,
        )
    axes.set(ylim=(len(rows) - 0.5, -0.75), yticks=range(len(rows)), xlabel=label)
    for text in axes.set_yticklabels(["\n".join(map(_shown, lines)) for lines, *_ in rows]):
        text.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=PALETTE["rule"], lw=0.3)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
