"""The calibration diagram: reliability with the band of a calibrated model, before and after scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.wording import interval_text
from torchvice.metrics.bands import NullBand
from torchvice.metrics.calibration import Reliability
from torchvice.report.frame import figure_of, legend_above, set_heading, side_by_side, styled
from torchvice.report.style import (
    COLUMN,
    PALETTE,
    SMALL,
    column_figure,
    line_height,
    number,
    place_axes,
    wrapped,
    write_lines,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_diagram", "consistency_bars", "consistency_key", "reliability_points"]

LEFT, BETWEEN, RIGHT, BELOW = 0.44, 0.14, 0.14, 0.37  # inches around and between the panels
LEAST, MOST = 4.0, 36.0  # area of the smallest and largest marker, square points
ROUNDING = 1e-9  # an outcome on the limit of its band is inside
TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def consistency_key(band: NullBand) -> Artist:
    """The legend entry of `consistency_bars`."""
    from matplotlib.lines import Line2D

    label = f"{100 * band.level:g} % of calibrated models"
    return Line2D([], [], ls="", marker="|", ms=6, mew=0.8, color=PALETTE["ink"], label=label)


def consistency_bars(axes: Axes, places: np.ndarray, band: NullBand) -> None:
    """Draw the band of every bin as a vertical line with caps; an empty bin has none.

    Args:
        axes: Axes with the outcome on the y-axis.
        places: (B,) x positions of the lines.
        band: where the outcome of a calibrated model lies, in the same bins.

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
    """Draw the mean outcome of every bin against its mean confidence, as a dot that grows with the number of events.

    Args:
        axes: any Axes; limits and ticks are set.
        reliability: the bins; a bin of undefined outcome has no dot.
        band: drawn as bars behind the dots. A dot outside its bar is filled, a dot inside is hollow.

    Raises:
        ViceError: the band is of other bins.
    """
    known = (reliability.count > 0) & ~np.isnan(reliability.accuracy)
    confidence, outcome = reliability.confidence[known], reliability.accuracy[known]
    area = LEAST + (MOST - LEAST) * reliability.count[known] / max(reliability.n, 1)
    outside = np.ones(len(outcome), dtype=bool)
    if band is not None:
        low, high = (limit[known] for limit in _known_band(reliability.confidence, band))
        # The edge keeps a band of zero height visible.
        axes.bar(confidence, high - low, 0.022, low, color=PALETTE["rule"], ec=PALETTE["rule"], lw=0.4, zorder=2)
        outside = (outcome < low - ROUNDING) | (outcome > high + ROUNDING)
    axes.plot([0, 1], [0, 1], color=PALETTE["ink"], lw=0.7, ls=(0, (4, 2)), zorder=2.5)
    face = [PALETTE["blue"] if is_outside else "white" for is_outside in outside]
    axes.scatter(confidence, outcome, area, facecolor=face, edgecolor=PALETTE["blue"], lw=0.7, zorder=3, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=TICKS, yticks=TICKS)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")


@styled
def calibration_diagram(
    panels: Mapping[str, tuple[Reliability, NullBand | None]],
    *,
    outcome_label: str = "precision",
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Draw one or two reliability curves side by side, such as before and after scaling, each with its band.

    Args:
        panels: for one or two names the bins, and the band of the same probabilities or None.
        outcome_label: name of the outcome on the axis: precision, accuracy, share of true labels.
        title: one sentence or less.
        axes: Axes to draw into, shared by the panels.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide, with one axes per panel. Above a panel stand its name,
        its ECE and, with a band, the ECE of a calibrated model.

    Raises:
        ViceError: no panel or more than two, or a band of other bins.

    References:
        Broecker and Smith, Increasing the reliability of reliability diagrams, 2007.
    """
    if not 1 <= len(panels) <= 2:
        raise ViceError(f"The calibration diagram takes one or two panels, but {len(panels)} came.")
    bands = [band for _, band in panels.values() if band is not None]
    width = (COLUMN - LEFT - RIGHT - BETWEEN * (len(panels) - 1)) / len(panels)
    texts = [_panel_text(name, *panel, width) for name, panel in panels.items()]
    keys = _keys(bands)
    placed = _new_axes(texts, width, title, keys) if axes is None else side_by_side(axes, len(panels), BETWEEN)
    pad = None if axes is None else legend_above(axes, keys)
    for place, (panel, (reliability, band)) in enumerate(zip(placed, panels.values(), strict=True)):
        reliability_points(panel, reliability, band)
        panel.set_xlabel("mean confidence of a bin")
        panel.tick_params(axis="y", labelleft=not place)
        if axes is not None:
            set_heading(panel, [title, *texts[place]] if not place else texts[place], pad)
    placed[0].set_ylabel(outcome_label)
    return figure_of(placed[0])


def _new_axes(texts: list[list[str]], width: float, title: str, keys: list[Artist]) -> list[Axes]:
    """The panels of a new figure, with the texts above them."""
    height = min(width, 2.0)
    above = max(map(len, texts)) * line_height(SMALL) + 0.05
    figure = column_figure(BELOW + height + above, title=title, keys=keys)
    placed = []
    for place, lines in enumerate(texts):
        left = LEFT + place * (width + BETWEEN)
        placed.append(place_axes(figure, left, BELOW, width, height))
        write_lines(figure, left, BELOW + height + above, lines)
    return placed


def _panel_text(name: str, reliability: Reliability, band: NullBand | None, width: float) -> list[str]:
    ece = number(reliability.ece)
    lines = [f"ECE {ece}" if ece == "undefined" else f"ECE = {ece} (n = {reliability.n})"]
    if band is not None:
        lines.append(f"calibrated: {interval_text(band.low, band.high)}" if band.low == band.low else "")
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
