"""Further calibration errors: over cells, by class, of the top label, with equal-mass bins, and the largest gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, check_kind
from torchvice.metrics.binning import equal_mass_edges, equal_mass_index, equal_width_edges, equal_width_index
from torchvice.metrics.calibration import Reliability, reliability_in_bins
from torchvice.metrics.multilabel import TOGETHER, confidence, probabilities_and_targets, sample_precision
from torchvice.metrics.parallel import in_threads, row_blocks

Unit = Literal["image", "cell", "top"]


def unit_confidence(values: np.ndarray, unit: str) -> np.ndarray:
    """Confidence of every event: of an image, of a cell (its probability), or of the top label (the largest one).

    Raises:
        ViceError: an unknown unit.
    """
    if unit == "image":
        return confidence(values)
    if unit == "cell":
        return values.ravel()
    if unit == "top":
        return values.max(axis=1, initial=0.0)
    raise ViceError(f"`unit` must be 'image', 'cell' or 'top', but is {unit!r}.")


def calibration_events(
    probabilities: ArrayLike, targets: ArrayLike, unit: Unit = "image"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence and the outcome of every event.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        unit: `image`: confidence and precision of every image, as in the ECE-ML of `strict`; `cell`: each of the N * C
            probabilities is an event; `top`: the largest probability, and whether its class is true (ties: the first
            class).

    Returns:
        Confidence and outcome, (N,) or (N * C,) each, in [0, 1]. For a calibrated model the expected outcome equals the
        confidence.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, a probability outside [0, 1], or an unknown unit.

    Example:
        >>> [e.round(2).tolist() for e in calibration_events([[0.9, 0.7, 0.1]], [[1, 0, 0]], "image")]
        [[0.8], [0.5]]
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    confidences = unit_confidence(values, unit)
    if unit == "image":
        return confidences, sample_precision(values, truth)
    if unit == "cell":
        return confidences, truth.ravel().astype(np.float64, copy=False)
    return confidences, np.take_along_axis(truth, values.argmax(axis=1)[:, None], axis=1)[:, 0].astype(np.float64)


def bins_of(values: np.ndarray, bins: int, equal_mass: bool) -> tuple[np.ndarray, np.ndarray]:
    """Edges, and the bin of every value in [0, 1], by width or by mass. Every value has a bin."""
    if equal_mass:
        edges = equal_mass_edges(values, bins)
        return edges, equal_mass_index(values, edges)
    edges = equal_width_edges(bins)
    return edges, equal_width_index(values, edges, first_takes_zero=True)


def event_reliability(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, unit: Unit = "image", *, equal_mass: bool = False
) -> Reliability:
    """Reliability diagram of images, cells or top labels, and its calibration error.

    Args:
        probabilities: (N, C) in [0, 1]; a softmax for `top`.
        targets: (N, C), 0 or 1.
        bins: number of bins (lo, hi]; the first is closed on both sides.
        unit: kind of event, see `calibration_events`.
        equal_mass: use bins of equal count (fewer if values are equal) instead of equal width.

    Returns:
        Reliability: `ece` in [0, 1], 0 is perfect, NaN without images; every event is in a bin.

    Raises:
        ViceError: as `calibration_events`, or fewer than one bin.

    References:
        Guo et al., ICML 2017, for `top`; Nixon et al., Measuring calibration in deep learning, 2019, for equal mass.

    Example:
        >>> round(event_reliability([[0.9, 0.7, 0.1]], [[1, 0, 0]], unit="cell").ece, 3)
        0.3
    """
    confidences, outcomes = calibration_events(probabilities, targets, unit)
    return reliability_in_bins(confidences, outcomes, *bins_of(confidences, bins, equal_mass))


def maximum_calibration_error(reliability: Reliability) -> float:
    """MCE: the largest gap between mean confidence and mean outcome of a bin, however few events the bin holds.

    Returns:
        In [0, 1], 0 is perfect; NaN without events.

    References:
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.

    Example:
        >>> round(maximum_calibration_error(event_reliability([[0.9], [0.2]], [[1], [1]])), 3)
        0.8
    """
    check_kind("reliability", reliability, Reliability, "what `reliability` or `event_reliability` returns")
    filled = reliability.count > 0
    gaps = np.abs(reliability.confidence - reliability.accuracy)[filled]
    return float(gaps.max()) if len(gaps) else float("nan")


@dataclass(frozen=True)
class ClasswiseEce:
    """Classwise ECE: `value`, the mean over classes; `by_class` (C,); `positives` (C,), images that show each.

    All C classes enter the mean. The ECE of a class that no image shows is its mean probability, because its outcomes
    are all 0. `without_positives` counts such classes.
    """

    value: float
    by_class: np.ndarray
    positives: np.ndarray

    @property
    def without_positives(self) -> int:
        return int((self.positives == 0).sum())


def class_bins(values: np.ndarray, bins: int, equal_mass: bool) -> np.ndarray:
    """Bin of every cell, (N, C), among C * bins bins; those of class c start at c * bins."""
    index = np.empty(values.shape, np.int64)

    def fill(c: int) -> None:
        columns = np.ascontiguousarray(values[:, c : c + TOGETHER].T)
        places = [bins_of(column, bins, equal_mass)[1] + (c + own) * bins for own, column in enumerate(columns)]
        index[:, c : c + TOGETHER] = np.stack(places, axis=1)

    in_threads(fill, range(0, values.shape[1], TOGETHER))
    return index


def classwise_ece(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, *, equal_mass: bool = False
) -> ClasswiseEce:
    """Classwise ECE: the calibration error of each class over the images, and its mean over classes.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        bins: number of bins (lo, hi] of every class; the first is closed on both sides.
        equal_mass: use bins of equal count, computed for each class.

    Returns:
        ClasswiseEce, in [0, 1], 0 is perfect; NaN without images.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, a probability outside [0, 1], or fewer than one bin.

    References:
        Kull et al., Beyond temperature scaling, NeurIPS 2019; Nixon et al. 2019 (static calibration error).

    Example:
        >>> classwise_ece([[0.9, 0.2], [0.6, 0.1]], [[1, 0], [1, 0]]).by_class.round(3).tolist()
        [0.25, 0.15]
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    n, classes = values.shape
    index, residual = class_bins(values, bins, equal_mass), np.zeros(classes * bins)
    for rows in row_blocks(n, classes):
        residual += np.bincount(index[rows].ravel(), (values[rows] - truth[rows]).ravel(), minlength=classes * bins)
    with np.errstate(invalid="ignore"):
        by_class = np.abs(residual).reshape(classes, bins).sum(axis=1) / np.float64(n)
    return ClasswiseEce(float(by_class.mean()), by_class, truth.sum(axis=0).astype(int))
