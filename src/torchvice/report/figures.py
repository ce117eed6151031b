"""The diagrams of the measures: VICE, reliability and the threshold curve; and how a figure is saved."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.files import atomic
from torchvice.measures.wording import interval_text
from torchvice.metrics.bands import NullBand
from torchvice.metrics.binning import equal_count_means
from torchvice.metrics.calibration import Reliability
from torchvice.report.calibration import consistency_bars, consistency_key
from torchvice.report.frame import figure_of, panels, styled
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
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["reliability_diagram", "save_figure", "threshold_curve", "vice_diagram"]

LEFT, RIGHT, BELOW = 0.44, 0.14, 0.37  # inches of ticks and labels around the axes
CURVES = [("blue", "-", "o"), ("brown", (0, (5, 1.5)), "s"), ("red", (0, (1, 1)), "D")]
GAP: dict[str, Any] = {"edgecolor": PALETTE["red"], "lw": 0.4, "hatch": "//////"}
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]
IMAGES_PER_BIN = 5  # with fewer, the line of means is mere noise
ROUNDING = 1e-9  # a mean of ones may be slightly above one
MARKED_BINS = 40  # up to this number every bin has room for a marker


def _tick_label(value: float, _: object = None) -> str:
    # Never an offset such as 1e-6 above the axis, where the heading is.
    return f"{value:g}"


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and value == value and not low - ROUNDING <= value <= high + ROUNDING:
        raise ViceError(f"`{name}` must be in [{low:g}, {high:g}] or None, but is {value:g}.")


def _not_fractions(values: np.ndarray) -> bool:
    return bool((np.abs(values - 0.5) > 0.5 + ROUNDING).any())


@styled
def vice_diagram(
    loss: ArrayLike,
    ji: ArrayLike,
    vice: float | None,
    *,
    bins: int = 300,
    label: str = "VICE",
    of: str = "images",
    title: str = "",
    subtitle: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Draw the VICE diagram: images sorted by loss in equal-count bins, the mean JI score as a line over loss bars.

    Args:
        loss: (N,) nats. Images without a loss (NaN) are left out, and counted on the axis.
        ji: (N,) JI score in [0, 1]. A bin with a NaN leaves a gap in the line; the NaNs are counted on the axis.
        vice: value in the box, in [-1, 1]; None or NaN is written as undefined.
        bins: highest number of bins; a bin has at least five images.
        label: name of the value in the box.
        of: what has a loss and a JI score: images, or pairs of an image and a label.
        title: one sentence or less.
        subtitle: smaller text below the title.
        axes: Axes to draw into. They hold the loss, their twin the JI score.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide. Its first axes hold the loss, the second the JI score.

    Raises:
        ViceError: lengths differ, no image with a loss, an infinite loss, or a score outside its range.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).
    """
    _check_range("vice", vice, -1, 1)
    losses, scores, missing = _images_with_loss(loss, ji)
    mean_loss, mean_ji, edges = _equal_count_bins(losses, scores, bins)
    x_label = _with_counts(f"{of} by increasing loss, %", len(losses), missing, COLUMN - 2 * MARGIN)
    ticks = _ticks(min(mean_loss.min(), 0), max(mean_loss.max(), 0) or 1, 5)
    below = BELOW + x_label.count("\n") * line_height(SMALL)
    heading: dict[str, Any] = {"title": title, "subtitle": subtitle, "box": [_value_text(label, vice)]}
    (panel,) = panels([1.5], axes=axes, below=below, left=_left_margin(ticks), right=LEFT, **heading)
    _loss_bars(panel, mean_loss, edges, ticks)
    _ji_line(panel, mean_ji, (edges[:-1] + edges[1:]) / 2)
    panel.set_xlabel(x_label)
    return figure_of(panel)


def _images_with_loss(loss: ArrayLike, ji: ArrayLike) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Loss and JI score of the images that have a loss, and {reason: number of images} of what is missing."""
    losses, scores = as_array("loss", loss, 1), as_array("ji", ji, 1)
    same_length(loss=losses, ji=scores)
    known = ~np.isnan(losses)
    if not known.any():
        raise ViceError(f"The VICE diagram needs at least one image with a loss, but none of {len(losses)} has one.")
    if np.isinf(losses).any():
        raise ViceError(f"`loss` must be finite, but {int(np.isinf(losses).sum())} of {len(losses)} are not.")
    if _not_fractions(scores):
        raise ViceError("`ji` must lie in [0, 1], but some values do not.", "Divide per cent by 100.")
    missing = {"JI undefined": int(np.isnan(scores[known]).sum()), "no loss": int((~known).sum())}
    return losses[known], scores[known], missing


def _equal_count_bins(losses: np.ndarray, scores: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean loss (B,) and mean JI score (B,) of bins by increasing loss, and their edges (B + 1,) in % of images."""
    n = len(losses)
    bins = min(most, max(1, n // IMAGES_PER_BIN))
    mean_loss, mean_ji = equal_count_means(losses, scores, bins)
    images = np.full(bins, n // bins) + (np.arange(bins) < n % bins)
    return mean_loss, mean_ji, np.concatenate([[0], np.cumsum(images)]) * (100 / n)


def _with_counts(label: str, n: int, missing: Mapping[str, int], width: float) -> str:
    """An axis label with the number of images and of those left out for each reason, wrapped to `width` inches."""
    counts = "; ".join([f"n = {n}", *(f"{reason}: {count}" for reason, count in missing.items() if count)])
    return "\n".join(wrapped(f"{label} ({counts})", width))


def _ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers between `low` and `high`."""
    from matplotlib.ticker import MaxNLocator

    values = MaxNLocator(most, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
    return [float(v) for v in values if low <= v <= high]


def _left_margin(ticks: Sequence[float]) -> float:
    """Inches at the left of the axes that these tick labels and a rotated axis label need."""
    return max(LEFT, 0.27 + max((text_width(_tick_label(tick), SMALL) for tick in ticks), default=0))


def _loss_bars(axes: Axes, mean_loss: np.ndarray, edges: np.ndarray, ticks: Sequence[float]) -> None:
    axes.stairs(mean_loss, edges, fill=True, color=PALETTE["orange"], lw=0, label="loss")
    low, high = min(float(mean_loss.min()), 0), max(float(mean_loss.max()), 0)
    axes.set(xlim=(0, 100), ylim=(low * 1.05, high * 1.05 or 1), xticks=[0, 25, 50, 75, 100], yticks=ticks)
    axes.yaxis.set_major_formatter(_tick_label)
    axes.set_ylabel("loss, nats", color=PALETTE["brown"])
    axes.tick_params(axis="y", labelcolor=PALETTE["brown"])


def _ji_line(loss_axes: Axes, mean_ji: np.ndarray, centres: np.ndarray) -> None:
    axes = loss_axes.twinx()
    known = np.concatenate([[False], ~np.isnan(mean_ji), [False]])
    many = len(mean_ji) > MARKED_BINS
    # A point between two gaps has no line: without a marker it would be invisible.
    marked = known[1:-1] & ~known[:-2] & ~known[2:] if many else known[1:-1]
    axes.plot(
        centres,
        mean_ji,
        color=PALETTE["blue"],
        lw=0.8 if many else 1.1,
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
    axes.yaxis.set_major_formatter(_tick_label)
    axes.set_ylabel("JI score", color=PALETTE["blue"])
    axes.tick_params(axis="y", labelcolor=PALETTE["blue"])


@styled
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
    """Draw the reliability diagram: images per bin of confidence above, accuracy and its gap to the confidence below.

    Args:
        reliability: the bins. An empty bin has no bar; a bin of undefined accuracy has only its count.
        accuracy: accuracy of all images in the box, in [0, 1]; None or NaN is written as undefined.
        ece: calibration error in the box, in [0, 1]; None or NaN is written as undefined.
        accuracy_label: name of the accuracy, in the box and on the axis.
        ece_label: name of the calibration error.
        title: one sentence or less.
        band: `null_band` of the same probabilities and bins: a line in each bin covers the accuracy that a calibrated
            model has there, and the box adds its calibration error.
        axes: Axes to draw into. They hold the accuracy; the counts take a fifth of their height.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide. Its first axes hold the counts, the second the accuracy.

    Raises:
        ViceError: `accuracy` or `ece` outside [0, 1], or a band of other bins.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    _check_range("accuracy", accuracy, 0, 1)
    _check_range("ece", ece, 0, 1)
    ticks = _ticks(0, int(reliability.count.max()) or 1, 2, whole=True)
    left, box = _left_margin(ticks), [_value_text(accuracy_label, accuracy), _value_text(ece_label, ece)]
    heading: dict[str, Any] = {"title": title, "box": box + _band_text(band), "keys": _gap_keys(accuracy_label, band)}
    above, below = panels([0.45, 1.75], axes=axes, between=0.13, below=BELOW, left=left, right=RIGHT, **heading)
    _count_bars(above, reliability, ticks)
    _accuracy_bars(below, reliability)
    if band is not None:
        consistency_bars(below, (reliability.edges[:-1] + reliability.edges[1:]) / 2, band)
    below.set_ylabel(accuracy_label)
    missing = {"in no bin": reliability.outside}
    below.set_xlabel(_with_counts("confidence", reliability.n, missing, COLUMN - left - RIGHT))
    return figure_of(below)


def _gap_keys(accuracy_label: str, band: NullBand | None) -> list[Artist]:
    """The legend of the reliability diagram."""
    from matplotlib.patches import Patch

    bars = Patch(facecolor=PALETTE["pale"], lw=0, label=accuracy_label)
    gap = Patch(**GAP, facecolor=PALETTE["blush"], label="gap to mean confidence")
    return [bars, gap, *([] if band is None else [consistency_key(band)])]


def _count_bars(axes: Axes, reliability: Reliability, ticks: Sequence[float]) -> None:
    filled = reliability.count > 0
    left, width = reliability.edges[:-1][filled], np.diff(reliability.edges)[filled]
    count = reliability.count[filled]
    axes.bar(left, count, width, align="edge", color=PALETTE["rule"], ec="white", lw=0.4)
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * max(count, default=1)), xticks=FIFTHS, yticks=ticks, ylabel="images")
    axes.tick_params(axis="x", labelbottom=False)
    axes.yaxis.set_major_formatter(_tick_label)


def _accuracy_bars(axes: Axes, reliability: Reliability) -> None:
    known = (reliability.count > 0) & ~np.isnan(reliability.accuracy)
    left, width = reliability.edges[:-1][known], np.diff(reliability.edges)[known]
    accuracy, confidence = reliability.accuracy[known], reliability.confidence[known]
    axes.bar(left, accuracy, width, align="edge", zorder=2, color=PALETTE["pale"], ec="white", lw=0.4)
    # If the confidence is lower than the accuracy, the gap lies on the bar. Its background is a mixed colour and not
    # transparent, because some viewers show no hatch on transparent areas.
    gap = confidence - accuracy
    background = [PALETTE["blush"] if height > 0 else PALETTE["plum"] for height in gap]
    axes.bar(left, gap, width, bottom=accuracy, align="edge", zorder=2, facecolor=background, **GAP)
    axes.plot([0, 1], [0, 1], color=PALETTE["ink"], lw=0.7, ls=(0, (4, 2)), zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=FIFTHS, yticks=FIFTHS)
    axes.xaxis.set_major_formatter(_tick_label)
    axes.yaxis.set_major_formatter(_tick_label)


def _value_text(label: str, value: float | None) -> str:
    text = number(value)
    return f"{label} {text}" if text == "undefined" else f"{label} = {text}"


def _band_text(band: NullBand | None) -> list[str]:
    return [] if band is None or band.low != band.low else [f"calibrated: {interval_text(band.low, band.high)}"]


class _Curve(NamedTuple):
    """Thresholds (T,), mean IoU (T,), the best threshold and the mean IoU there, each None if undefined."""

    thresholds: np.ndarray
    mean_iou: np.ndarray
    best: float | None
    best_iou: float | None


@styled
def threshold_curve(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, float | None]], *, title: str = "", axes: Axes | None = None
) -> Figure:
    """Draw the mean IoU against the threshold of the map, with the best threshold marked and written out.

    Args:
        curves: for every name (`paper`, `strict`) the thresholds (T,), increasing; the mean IoU (T,) in [0, 1], where
            NaN leaves a gap; and the best threshold or None. A best threshold between two thresholds is marked on the
            line between them.
        title: one sentence or less.
        axes: Axes to draw into.

    Returns:
        The figure of `axes`, or a new one 3.4 inches wide. Several curves have a legend.

    Raises:
        ViceError: no curve or more than three, lengths differ, thresholds that do not increase, a mean IoU outside
            [0, 1], or a best threshold outside the thresholds.
    """
    checked = {name: _checked_curve(name, *curve) for name, curve in curves.items()}
    if not 1 <= len(checked) <= len(CURVES):
        raise ViceError(f"The threshold curve takes 1 to {len(CURVES)} curves, but {len(checked)} came.")
    heading: dict[str, Any] = {"keys": _curve_keys(checked)}
    if len(checked) == 1:
        heading = {"box": _best_text(*checked.values())}
    (panel,) = panels([1.5], axes=axes, below=BELOW, left=LEFT, right=RIGHT, title=title, **heading)
    for curve, look in zip(checked.values(), CURVES, strict=False):
        _draw_curve(panel, curve, *look)
    tops = [np.nanmax(curve.mean_iou) for curve in checked.values() if not np.isnan(curve.mean_iou).all()]
    ends = [end for curve in checked.values() for end in curve.thresholds[[0, -1]]]
    room = 0.02 * (max(ends) - min(ends)) or 0.05
    panel.set(xlim=(min(ends) - room, max(ends) + room), ylim=(0, 1.1 * max(tops, default=0) or 1))
    panel.set(xlabel="threshold of the map", ylabel="mean IoU")
    panel.xaxis.set_major_formatter(_tick_label)
    panel.yaxis.set_major_formatter(_tick_label)
    return figure_of(panel)


def _curve_keys(curves: Mapping[str, _Curve]) -> list[Artist]:
    """The legend of several curves, with the best threshold of each."""
    from matplotlib.lines import Line2D

    keys: list[Artist] = []
    for (name, curve), (colour, dashes, marker) in zip(curves.items(), CURVES, strict=False):
        label = wrapped(f"{name}: {' '.join(_best_text(curve))}", 2.9, most=1)[0]
        keys.append(Line2D([], [], lw=1.2, ms=4, mew=0, color=PALETTE[colour], ls=dashes, marker=marker, label=label))
    return keys


def _draw_curve(axes: Axes, curve: _Curve, colour: str, dashes: Any, marker: str) -> None:
    ink, best, best_iou = PALETTE[colour], curve.best, curve.best_iou
    axes.plot(curve.thresholds, curve.mean_iou, lw=1.2, color=ink, ls=dashes)
    if best is not None and best_iou is not None:
        axes.plot([best, best], [0, best_iou], color=ink, lw=0.6, ls=(0, (1, 1.5)))
        axes.plot([best], [best_iou], ls="", marker=marker, ms=5, mec="white", mew=0.6, color=ink, zorder=4)


def _checked_curve(name: str, thresholds: ArrayLike, mean_iou: ArrayLike, best: float | None) -> _Curve:
    t, iou = as_array("thresholds", thresholds, 1), as_array("mean_iou", mean_iou, 1)
    same_length(thresholds=t, mean_iou=iou)
    if not len(t) or np.isnan(t).any() or (np.diff(t) <= 0).any():
        raise ViceError(f"The thresholds of `{name}` must be one or more increasing numbers, but are not.")
    if _not_fractions(iou):
        raise ViceError(f"The mean IoU of `{name}` must be in [0, 1], but is not.", "Divide percent by 100.")
    if best is None or best != best:
        return _Curve(t, iou, None, None)
    if not t[0] <= best <= t[-1]:
        raise ViceError(f"The best threshold of `{name}` must be in [{t[0]:g}, {t[-1]:g}], but is {best:g}.")
    best_iou = float(np.interp(best, t, iou))
    return _Curve(t, iou, best, None if np.isnan(best_iou) else best_iou)


def _best_text(curve: _Curve) -> list[str]:
    if curve.best is None or curve.best_iou is None:
        return ["best threshold undefined"]
    return [f"best mean IoU {number(curve.best_iou)}", f"at threshold {curve.best:.3g}"]


@paper_style()
def save_figure(figure: Figure, stem: str | os.PathLike[str]) -> list[Path]:
    """Write `stem`.png (300 dpi) and `stem`.pdf (vector, fonts embedded), both or neither.

    The same figure gives the same bytes: the files hold no date.

    Args:
        figure: any matplotlib Figure.
        stem: path without suffix; missing folders are created.

    Returns:
        The two paths, PNG first.
    """
    stem = Path(stem)
    png, pdf = (stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf"))
    # In memory first: where the disk fails, matplotlib's own clean-up fails, too, and hides why.
    images, vectors = io.BytesIO(), io.BytesIO()
    figure.savefig(images, format="png", metadata={"Software": None})
    figure.savefig(vectors, format="pdf", metadata={"CreationDate": None})
    with atomic(png) as png_part, atomic(pdf) as pdf_part:
        png_part.write_bytes(images.getvalue())
        pdf_part.write_bytes(vectors.getvalue())
    return [png, pdf]
