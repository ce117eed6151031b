"""The diagrams of the measures: VICE, reliability and the threshold curve; and how a figure is saved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.files import atomic
from torchvice.metrics.bands import NullBand
from torchvice.metrics.binning import equal_count_means
from torchvice.metrics.calibration import Reliability
from torchvice.report.calibration_diagram import consistency_bars, consistency_key
from torchvice.report.frame import drawn, figure_of, panels
from torchvice.report.style import (
    COLUMN,
    MARGIN,
    PALETTE,
    SMALL,
    line_height,
    number,
    paper_style,
    text_width,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["reliability_diagram", "save_figure", "threshold_curve", "vice_diagram"]

LEFT, RIGHT, BELOW = 0.44, 0.14, 0.37  # inches that ticks and labels take beside the axes
CURVES = [("blue", "-", "o"), ("brown", (0, (5, 1.5)), "s"), ("red", (0, (1, 1)), "D")]
GAP: dict[str, Any] = {"edgecolor": PALETTE["red"], "lw": 0.4, "hatch": "//////"}
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]
IMAGES_PER_BIN = 5  # fewer make the line of means mere noise
ROUNDING = 1e-9  # a mean of ones may be a hair above one
MARKED_BINS = 40  # up to here every bin has room for a marker


def _plain(value: float, _: object = None) -> str:
    # Never an offset such as 1e-6 above the axis, where the heading is.
    return f"{value:g}"


def _inside(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and value == value and not low - ROUNDING <= value <= high + ROUNDING:
        raise ViceError(f"`{name}` must be in [{low:g}, {high:g}] or None, but is {value:g}.")


def _beyond(fractions: np.ndarray) -> bool:
    return bool((np.abs(fractions - 0.5) > 0.5 + ROUNDING).any())


@drawn
def vice_diagram(
    loss: ArrayLike,
    ji: ArrayLike,
    vice: float | None,
    *,
    bins: int = 300,
    label: str = "VICE",
    title: str = "",
    subtitle: str = "",
    axes: Axes | None = None,
) -> Figure:
    """The VICE diagram: images sorted by loss, in equal-count bins; the mean JI score as a line over loss bars.

    Args:
        loss: (N,) nats. An image whose loss is NaN has no place in the order: left out, and counted on the axis.
        ji: (N,) JI score in [0, 1]. A bin that holds a NaN leaves a gap in the line; the NaN are counted on the
            axis.
        vice: what stands in the box, in [-1, 1]; None or NaN is written as undefined.
        bins: at most so many, and at most one for five images.
        label: what it is called there.
        title: one sentence or less.
        subtitle: smaller, below the title.
        axes: draw into these, which hold the loss; the JI score is on their twin.

    Returns:
        matplotlib Figure, that of `axes`; else one 3.4 inches wide: its first axes hold the loss, the second the JI
        score.

    Raises:
        ViceError: lengths differ, no image with a loss, an infinite loss, or a score outside its range.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).
    """
    losses, scores = as_array("loss", loss, 1), as_array("ji", ji, 1)
    same_length(loss=losses, ji=scores)
    _inside("vice", vice, -1, 1)
    placed = ~np.isnan(losses)
    if not placed.any():
        raise ViceError(f"The VICE diagram needs at least one image with a loss, but {len(losses)} came.")
    if np.isinf(losses).any() or _beyond(scores):
        raise ViceError("`loss` must be finite and `ji` in [0, 1], but one of them is not.")
    left_out = len(losses) - int(placed.sum())
    losses, scores = losses[placed], scores[placed]
    n = len(losses)
    bins = min(bins, max(1, n // IMAGES_PER_BIN))
    mean_loss, mean_ji = equal_count_means(losses, scores, bins)
    images = np.full(bins, n // bins) + (np.arange(bins) < n % bins)
    edges = np.concatenate([[0], np.cumsum(images)]) * (100 / n)

    counts = {"JI undefined": int(np.isnan(scores).sum()), "no loss": left_out}
    below_axis = _counted("images by increasing loss, %", n, counts, COLUMN - 2 * MARGIN)
    ticks = _ticks(min(mean_loss.min(), 0), max(mean_loss.max(), 0) or 1, 5)
    (panel,) = panels(
        [1.5],
        axes=axes,
        below=BELOW + below_axis.count("\n") * line_height(SMALL),
        left=_left_of(ticks),
        right=LEFT,
        title=title,
        subtitle=subtitle,
        box=[_said(label, vice)],
    )
    _loss_bars(panel, mean_loss, edges, ticks)
    _ji_line(panel, mean_ji, (edges[:-1] + edges[1:]) / 2)
    panel.set_xlabel(below_axis)
    return figure_of(panel)


def _counted(label: str, n: int, counts: Mapping[str, int], width: float) -> str:
    """An axis label that says how many images there are and how many lack what, wrapped to `width` inches."""
    said = "; ".join([f"n = {n}", *(f"{reason}: {count}" for reason, count in counts.items() if count)])
    return "\n".join(wrapped(f"{label} ({said})", width))


def _ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers between `low` and `high`."""
    from matplotlib.ticker import MaxNLocator

    values = MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
    return [float(v) for v in values if low <= v <= high]


def _left_of(ticks: Sequence[float]) -> float:
    """Inches beside the axes for a turned label and these ticks."""
    return max(LEFT, 0.27 + max((text_width(_plain(tick), SMALL) for tick in ticks), default=0))


def _loss_bars(axes: Axes, mean_loss: np.ndarray, edges: np.ndarray, ticks: Sequence[float]) -> None:
    axes.stairs(mean_loss, edges, fill=True, color=PALETTE["orange"], lw=0, label="loss")
    low, high = min(float(mean_loss.min()), 0), max(float(mean_loss.max()), 0)
    axes.set(xlim=(0, 100), ylim=(low * 1.05, high * 1.05 or 1), xticks=[0, 25, 50, 75, 100], yticks=ticks)
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel("loss, nats", color=PALETTE["brown"])
    axes.tick_params(axis="y", labelcolor=PALETTE["brown"])


def _ji_line(below: Axes, mean_ji: np.ndarray, centres: np.ndarray) -> None:
    axes = below.twinx()
    drawn = np.concatenate([[False], ~np.isnan(mean_ji), [False]])
    # A point between two gaps has no line to be seen by.
    marked = drawn[1:-1] if len(mean_ji) <= MARKED_BINS else drawn[1:-1] & ~drawn[:-2] & ~drawn[2:]
    axes.plot(
        centres,
        mean_ji,
        color=PALETTE["blue"],
        lw=0.8 if len(mean_ji) > MARKED_BINS else 1.1,
        marker="o",
        ms=2,
        mew=0,
        markevery=np.flatnonzero(marked).tolist(),
        solid_joinstyle="round",
        label="JI score",
        clip_on=False,
    )
    axes.set(ylim=(0, 1), yticks=FIFTHS)
    axes.spines["right"].set_visible(True)
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylabel("JI score", color=PALETTE["blue"])
    axes.tick_params(axis="y", labelcolor=PALETTE["blue"])


@drawn
def reliability_diagram(
    reliability: Reliability,
    *,
    accuracy: float | None,
    ece: float | None,
    accuracy_label: str = "ML-accuracy",
    ece_label: str = "ECE-ML",
    title: str = "",
    band: NullBand | None = None,
    axes: Axes | None = None,
) -> Figure:
    """The reliability diagram: images per bin of confidence above; below, accuracy and its gap to the confidence.

    Args:
        reliability: the bins. Every bar runs from edge to edge of its bin; an empty bin has none, and one whose
            accuracy is undefined has a count only.
        accuracy: of all images, in [0, 1], for the box; None or NaN is written as undefined.
        ece: calibration error in [0, 1], for the box; likewise.
        accuracy_label: what the accuracy is called, in the box and on the axis.
        ece_label: what the calibration error is called.
        title: one sentence or less.
        band: of the same probabilities and bins: where the accuracy of a calibrated model's bin lies, as a line in the
            middle of the bin, and its calibration error in the box.
        axes: draw into these, which hold the accuracy; the counts take a fifth of their height.

    Returns:
        matplotlib Figure, that of `axes`; else one 3.4 inches wide: its first axes hold the counts, the second the
        accuracy.

    Raises:
        ViceError: `accuracy` or `ece` outside [0, 1], or a band of other bins.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    from matplotlib.patches import Patch

    _inside("accuracy", accuracy, 0, 1)
    _inside("ece", ece, 0, 1)
    ticks = _ticks(0, int(reliability.count.max()) or 1, 2, whole=True)
    left = _left_of(ticks)
    above, below = panels(
        [0.45, 1.75],
        axes=axes,
        between=0.13,
        below=BELOW,
        left=left,
        right=RIGHT,
        title=title,
        box=[_said(accuracy_label, accuracy), _said(ece_label, ece), *_calibrated(band)],
        keys=[
            Patch(facecolor=PALETTE["pale"], lw=0, label=accuracy_label),
            Patch(**GAP, facecolor=PALETTE["blush"], label="gap to mean confidence"),
            *([consistency_key(band)] if band is not None else []),
        ],
    )
    _count_bars(above, reliability, ticks)
    _accuracy_bars(below, reliability)
    if band is not None:
        consistency_bars(below, (reliability.edges[:-1] + reliability.edges[1:]) / 2, band)
    below.set_ylabel(accuracy_label)
    below.set_xlabel(_counted("confidence", reliability.n, {"in no bin": reliability.outside}, COLUMN - left - RIGHT))
    return figure_of(below)


def _count_bars(axes: Axes, reliability: Reliability, ticks: Sequence[float]) -> None:
    filled = reliability.count > 0
    left, wide = reliability.edges[:-1][filled], np.diff(reliability.edges)[filled]
    count = reliability.count[filled]
    axes.bar(left, count, wide, align="edge", color=PALETTE["rule"], ec="white", lw=0.4)
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * max(count, default=1)), xticks=FIFTHS, yticks=ticks, ylabel="images")
    axes.tick_params(axis="x", labelbottom=False)
    axes.yaxis.set_major_formatter(_plain)


def _accuracy_bars(axes: Axes, reliability: Reliability) -> None:
    known = (reliability.count > 0) & ~np.isnan(reliability.accuracy)
    left, wide = reliability.edges[:-1][known], np.diff(reliability.edges)[known]
    right, sure = reliability.accuracy[known], reliability.confidence[known]
    axes.bar(left, right, wide, align="edge", zorder=2, color=PALETTE["pale"], ec="white", lw=0.4)
    # Where the confidence is the lower of the two, the gap lies inside the bar. Its ground is mixed here and not left
    # to transparency, with which some viewers show no hatch.
    ground = [PALETTE["blush"] if gap > 0 else PALETTE["plum"] for gap in sure - right]
    axes.bar(left, sure - right, wide, bottom=right, align="edge", zorder=2, facecolor=ground, **GAP)
    axes.plot([0, 1], [0, 1], color=PALETTE["ink"], lw=0.7, ls=(0, (4, 2)), zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=FIFTHS, yticks=FIFTHS)
    axes.xaxis.set_major_formatter(_plain)
    axes.yaxis.set_major_formatter(_plain)


def _said(label: str, value: float | None) -> str:
    text = number(value)
    return f"{label} {text}" if text == "undefined" else f"{label} = {text}"


def _calibrated(band: NullBand | None) -> list[str]:
    return [] if band is None or band.low != band.low else [f"calibrated: {number(band.low)} to {number(band.high)}"]


@drawn
def threshold_curve(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, float | None]], *, title: str = "", axes: Axes | None = None
) -> Figure:
    """Mean IoU against the threshold of the map, with the best threshold marked and written out.

    Args:
        curves: for every name (`paper`, `strict`) the thresholds (T,), increasing; the mean IoU (T,) in [0, 1],
            where NaN leaves a gap; and the best threshold or None. A best threshold between two of the curve is
            marked on the line between them.
        title: one sentence or less.
        axes: draw into these.

    Returns:
        matplotlib Figure, that of `axes`, else one 3.4 inches wide; with a legend where there is more than one curve.

    Raises:
        ViceError: no curve or more than three, lengths differ, thresholds that do not increase, a mean IoU outside
            [0, 1], or a best threshold outside the thresholds.
    """
    checked = {name: _checked_curve(name, *curve) for name, curve in curves.items()}
    if not 1 <= len(checked) <= len(CURVES):
        raise ViceError(f"The threshold curve takes 1 to {len(CURVES)} curves, but {len(checked)} came.")
    from matplotlib.lines import Line2D

    said = [_best_said(*curve[2:]) for curve in checked.values()]
    labels = [f"{name}: {' '.join(best)}" for name, best in zip(checked, said, strict=True)]
    several = len(checked) > 1
    keys = [
        Line2D(
            [],
            [],
            lw=1.2,
            ms=4,
            mew=0,
            color=PALETTE[colour],
            ls=dashes,
            marker=marker,
            label=wrapped(label, 2.9, most=1)[0],
        )
        for label, (colour, dashes, marker) in zip(labels, CURVES, strict=False)
    ]
    heading: dict[str, Any] = {"keys": keys} if several else {"box": said[0]}
    (panel,) = panels([1.5], axes=axes, below=BELOW, left=LEFT, right=RIGHT, title=title, **heading)
    for (t, mean_iou, best, at_best), (colour, dashes, marker) in zip(checked.values(), CURVES, strict=False):
        panel.plot(t, mean_iou, lw=1.2, color=PALETTE[colour], ls=dashes)
        if best is not None and at_best is not None:
            panel.plot([best, best], [0, at_best], color=PALETTE[colour], lw=0.6, ls=(0, (1, 1.5)))
            panel.plot(
                [best],
                [at_best],
                ls="",
                marker=marker,
                ms=5,
                mec="white",
                mew=0.6,
                color=PALETTE[colour],
                zorder=4,
            )
    tops = [np.nanmax(c[1]) for c in checked.values() if not np.isnan(c[1]).all()]
    ends = [end for c in checked.values() for end in (c[0][0], c[0][-1])]
    room = 0.02 * (max(ends) - min(ends)) or 0.05
    panel.set(xlim=(min(ends) - room, max(ends) + room), ylim=(0, 1.1 * max(tops, default=0) or 1))
    panel.set(xlabel="threshold of the map", ylabel="mean IoU")
    panel.xaxis.set_major_formatter(_plain)
    panel.yaxis.set_major_formatter(_plain)
    return figure_of(panel)


def _checked_curve(
    name: str, thresholds: ArrayLike, mean_iou: ArrayLike, best: float | None
) -> tuple[np.ndarray, np.ndarray, float | None, float | None]:
    """Thresholds, mean IoU, the best threshold and the mean IoU there."""
    t, iou = as_array("thresholds", thresholds, 1), as_array("mean_iou", mean_iou, 1)
    same_length(thresholds=t, mean_iou=iou)
    if not len(t) or np.isnan(t).any() or (np.diff(t) <= 0).any():
        raise ViceError(f"The thresholds of `{name}` must be one or more increasing numbers, but are not.")
    if _beyond(iou):
        raise ViceError(f"The mean IoU of `{name}` must be in [0, 1].", "Divide percent by 100.")
    if best is None or best != best:
        return t, iou, None, None
    if not t[0] <= best <= t[-1]:
        raise ViceError(f"The best threshold of `{name}` must be in [{t[0]:g}, {t[-1]:g}], but is {best:g}.")
    at_best = float(np.interp(best, t, iou))
    return t, iou, best, None if np.isnan(at_best) else at_best


def _best_said(best: float | None, at_best: float | None) -> list[str]:
    if best is None or at_best is None:
        return ["best threshold undefined"]
    return [f"best mean IoU {number(at_best)}", f"at threshold {best:.3g}"]


@paper_style()
def save_figure(figure: Figure, stem: str | os.PathLike[str]) -> list[Path]:
    """Write `stem`.png (300 dpi) and `stem`.pdf (vector, fonts embedded), both whole or neither.

    The same figure gives the same bytes: nothing in them tells the time.

    Args:
        figure: any matplotlib Figure.
        stem: path without ending; folders that are missing are made.

    Returns:
        The two paths, PNG first.
    """
    stem = Path(stem)
    png, pdf = (stem.with_name(stem.name + ending) for ending in (".png", ".pdf"))
    with atomic(png) as png_part, atomic(pdf) as pdf_part:
        figure.savefig(png_part, metadata={"Software": None})
        figure.savefig(pdf_part, metadata={"CreationDate": None})
    return [png, pdf]
