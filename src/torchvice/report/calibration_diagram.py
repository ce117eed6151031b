"""Calibration drawn with its chance: what every bin would show of a calibrated model, before and after scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics.bands import NullBand
from torchvice.metrics.calibration import Reliability
from torchvice.report.frame import beside, drawn, figure_of, head
from torchvice.report.style import (
    COLUMN,
    PALETTE,
    SMALL,
    column_figure,
    line_height,
    number,
    place_axes,
    wrapped,
    write,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_diagram", "consistency_bars", "consistency_key", "reliability_points"]

LEFT, BETWEEN, RIGHT, BELOW = 0.44, 0.14, 0.14, 0.37  # inches beside, between and below the panels
LEAST, MOST = 4.0, 36.0  # square points of the marker of one event, and of all
ROUNDING = 1e-9  # an outcome at the end of its band is inside
TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def consistency_key(band: NullBand) -> Artist:
    """The entry of the legend for `consistency_bars`."""
    from matplotlib.lines import Line2D

    label = f"{100 * band.level:g} % of calibrated models"
    return Line2D([], [], ls="", marker="|", ms=6, mew=0.8, color=PALETTE["ink"], label=label)


def consistency_bars(axes: Axes, places: np.ndarray, band: NullBand) -> None:
    """Upright lines with ends, from where to where the outcome of a calibrated model's bin lies; none in an empty bin.

    Args:
        axes: with the outcome upward.
        places: (B,) where the lines stand.
        band: of the same bins.

    Raises:
        ViceError: the band is of other bins.
    """
    low, high = _known_band(places, band)
    middle = (low + high) / 2
    axes.errorbar(
        places, middle, (high - low) / 2, fmt="none", ecolor=PALETTE["ink"], elinewidth=0.7, capsize=1.4, capthick=0.7
    )


def _known_band(places: np.ndarray, band: NullBand) -> tuple[np.ndarray, np.ndarray]:
    if band.bin_low.shape != places.shape:
        raise ViceError(
            f"The band must have {len(places)} bins like the diagram, but has the shape {band.bin_low.shape}.",
            "null_band takes the same probabilities, bins, unit and equal_mass as the diagram.",
        )
    return band.bin_low, band.bin_high


def reliability_points(axes: Axes, reliability: Reliability, band: NullBand | None = None) -> None:
    """Mean outcome against mean confidence of every bin, in any axes: a dot, the larger the more events it holds.

    Args:
        axes: any; limits and ticks are set.
        reliability: the bins; one whose outcome is undefined has no dot.
        band: drawn behind the dots; a dot outside its bar is filled, one inside is hollow.

    Raises:
        ViceError: the band is of other bins.
    """
    known = (reliability.count > 0) & ~np.isnan(reliability.accuracy)
    sure, right = reliability.confidence[known], reliability.accuracy[known]
    area = LEAST + (MOST - LEAST) * reliability.count[known] / max(reliability.n, 1)
    outside = np.ones(len(sure), dtype=bool)
    if band is not None:
        low, high = (end[known] for end in _known_band(reliability.confidence, band))
        # A band without width is a line all the same.
        axes.bar(sure, high - low, 0.022, low, color=PALETTE["rule"], ec=PALETTE["rule"], lw=0.4, zorder=2)
        outside = (right < low - ROUNDING) | (right > high + ROUNDING)
    axes.plot([0, 1], [0, 1], color=PALETTE["ink"], lw=0.7, ls=(0, (4, 2)), zorder=2.5)
    face = [PALETTE["blue"] if out else "white" for out in outside]
    axes.scatter(sure, right, area, facecolor=face, edgecolor=PALETTE["blue"], lw=0.7, zorder=3, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=TICKS, yticks=TICKS)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")


@drawn
def calibration_diagram(
    panels: Mapping[str, tuple[Reliability, NullBand | None]],
    *,
    outcome_label: str = "precision",
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Reliability side by side, such as before and after scaling, each with its bands of consistency.

    Args:
        panels: one or two: for each name the bins, and the band of the same probabilities or None.
        outcome_label: what came true, on the axis: precision, accuracy, share of true labels.
        title: one sentence or less.
        axes: draw into these, which the panels share.

    Returns:
        matplotlib Figure, that of `axes`, else one 3.4 inches wide: one axes a panel. Above each its name, its ECE and,
        with a band, the ECE of a calibrated model.

    Raises:
        ViceError: no panel or more than two, or a band of other bins.

    References:
        Broecker and Smith, Increasing the reliability of reliability diagrams, 2007.
    """
    if not 1 <= len(panels) <= 2:
        raise ViceError(f"The calibration diagram takes one or two panels, but {len(panels)} came.")
    bands = [band for _, band in panels.values() if band is not None]
    width = (COLUMN - LEFT - RIGHT - BETWEEN * (len(panels) - 1)) / len(panels)
    texts = [_said(name, *panel, width) for name, panel in panels.items()]
    made = _own_axes(texts, width, title, _keys(bands)) if axes is None else beside(axes, len(panels), BETWEEN)
    for place, (panel, (reliability, band)) in enumerate(zip(made, panels.values(), strict=True)):
        reliability_points(panel, reliability, band)
        panel.set_xlabel("mean confidence of a bin")
        panel.tick_params(axis="y", labelleft=not place)
        if axes is not None:
            head(panel, [title, *texts[place]] if not place else texts[place])
    made[0].set_ylabel(outcome_label)
    if axes is not None:
        axes.legend(handles=_keys(bands), frameon=False, loc="upper left")
    return figure_of(made[0])


def _own_axes(texts: list[list[str]], width: float, title: str, keys: list[Artist]) -> list[Axes]:
    """The panels in a figure of their own, the texts above them."""
    height = min(width, 2.0)
    above = max(map(len, texts)) * line_height(SMALL) + 0.05
    figure = column_figure(BELOW + height + above, title=title, keys=keys)
    made = []
    for place, lines in enumerate(texts):
        left = LEFT + place * (width + BETWEEN)
        made.append(place_axes(figure, left, BELOW, width, height))
        write(figure, left, BELOW + height + above, lines)
    return made


def _said(name: str, reliability: Reliability, band: NullBand | None, width: float) -> list[str]:
    ece = number(reliability.ece)
    lines = [f"ECE {ece}" if ece == "undefined" else f"ECE = {ece} (n = {reliability.n})"]
    if band is not None:
        lines.append(f"calibrated: {number(band.low)} to {number(band.high)}" if band.low == band.low else "")
    return [*wrapped(name, width, most=1), *lines]


def _keys(bands: list[NullBand]) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def dot(face: str, label: str) -> Line2D:
        return Line2D([], [], ls="", marker="o", ms=4, mew=0.7, mec=PALETTE["blue"], mfc=face, label=label)

    if not bands:
        return [dot(PALETTE["blue"], "a bin, larger with its count")]
    grey = Patch(facecolor=PALETTE["rule"], lw=0, label=f"{100 * bands[0].level:g} % of calibrated models")
    return [
        dot(PALETTE["blue"], "a bin outside its band, larger with its count"),
        dot("white", "a bin inside its band"),
        grey,
    ]
