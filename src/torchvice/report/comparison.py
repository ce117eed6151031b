"""The comparison figure: VICE of every model with its interval, and the differences between models or groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.report.frame import figure_of, panels, styled
from torchvice.report.style import COLUMN, PALETTE, SMALL, line_height, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_figure"]

ROW = 0.17  # height of a row, inches
BELOW, BETWEEN, RIGHT = 0.37, 0.42, 0.14
WIDEST = 1.6  # greatest width of a name, inches
MOST = 40  # rows of a panel; of more pairs, the largest differences are drawn


@styled
def comparison_figure(
    models: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    *,
    label: str = "VICE",
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Draw VICE of every model above and the differences below, filled if their interval excludes 0.

    Args:
        models: rows with `name`, `vice`, `vice_low`, `vice_high`, see `torchvice.measures.Comparison`.
        differences: rows with `first`, `second`, `measure`, `difference`, `low`, `high`; those of `vice` are drawn.
            They are paired differences of models, or with `seeds_first` those of groups of seeds (`Comparison.seeds`).
        label: name of the value on both axes, such as `VICE with pointing`.
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
    kind = (
        f"difference of {label}, over seeds" if rows and "seeds_first" in rows[0] else f"paired difference of {label}"
    )
    more = f" (the largest {MOST} of {len(rows)})" if len(rows) > MOST else ""
    x_labels = [wrapped(text, COLUMN - left - RIGHT) for text in (f"{label}, 95 % interval", f"{kind}{more}")]
    further = [(len(lines) - 1) * line_height(SMALL) for lines in x_labels]
    upper, *lower = panels(
        heights if below else heights[:1],
        axes=axes,
        between=BETWEEN + further[0],
        below=BELOW + further[bool(below)],
        left=left,
        right=RIGHT,
        title=title,
    )
    _panel(upper, above, "\n".join(x_labels[0]))
    for panel in lower:
        _panel(panel, below, "\n".join(x_labels[1]))
        panel.axvline(0, color=PALETTE["ink"], lw=0.6, ls=(0, (4, 2)), zorder=1)
    return figure_of(upper)


def _leaves_out_0(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and (low > 0 or high < 0)


def _shortened(name: str) -> str:
    """A name of at most WIDEST inches. Its middle is left out: names of one study often differ at the end only."""
    if text_width(name, SMALL) <= WIDEST:
        return name
    kept = next(kept for kept in range(len(name) - 1, 0, -1) if text_width(_ends(name, kept), SMALL) <= WIDEST)
    return _ends(name, kept)


def _ends(name: str, kept: int) -> str:
    """The first and last characters of a name, `kept` in all, around an ellipsis."""
    last = kept // 2
    return f"{name[: kept - last].rstrip()}…{name[len(name) - last :].lstrip()}"


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
