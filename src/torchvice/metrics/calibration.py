"""ECE-ML: the calibration error of the multi-label confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import as_array, same_length
from torchvice.metrics.binning import equal_width_edges, equal_width_index
from torchvice.metrics.multilabel import (
    Protocol,
    checked_protocol,
    confidence,
    probabilities_and_targets,
    sample_accuracy,
    sample_precision,
)


@dataclass(frozen=True)
class Reliability:
    """The numbers of a reliability diagram, in B bins of the confidence on [0, 1].

    Attributes:
        edges: (B + 1,) edges of the bins.
        count: (B,) number of images in each bin.
        confidence, accuracy: (B,) means of each bin; NaN for an empty bin.
        ece: mean gap weighted by count, in [0, 1].
        n: number of all images.
        outside: number of images in no bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float
    n: int
    outside: int


def reliability(
    confidence: ArrayLike, accuracy: ArrayLike, bins: int = 20, protocol: Protocol = "paper"
) -> Reliability:
    """Bin images by confidence, and compare the mean confidence of each bin with its mean accuracy.

    Args:
        confidence: (N,) in [0, 1].
        accuracy: (N,) in [0, 1]. Under `paper` a NaN makes the accuracy of its bin and the ECE NaN; `strict` leaves
            the image out.
        bins: number of equal-width bins (lo, hi]; the first includes a confidence of 0 under `strict` only.
        protocol: `paper` or `strict`.

    Returns:
        Reliability; the gaps are weighted by count / N.

    Raises:
        ViceError: lengths differ, or fewer than one bin.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.

    Example:
        >>> round(reliability([0.9, 0.8], [1.0, 0.5], bins=1).ece, 3)
        0.1
    """
    confidences, outcomes = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
    same_length(confidence=confidences, accuracy=outcomes)
    strict = checked_protocol(protocol) == "strict"
    if strict:
        confidences, outcomes = confidences[~np.isnan(outcomes)], outcomes[~np.isnan(outcomes)]
    edges = equal_width_edges(bins)
    return reliability_in_bins(
        confidences, outcomes, edges, equal_width_index(confidences, edges, first_takes_zero=strict)
    )


def reliability_in_bins(
    confidences: np.ndarray, outcomes: np.ndarray, edges: np.ndarray, index: np.ndarray
) -> Reliability:
    """Reliability diagram of (N,) confidences and outcomes with given bins: `index` (N,), -1 for no bin."""
    n, bins, outside = len(index), len(edges) - 1, int((index < 0).sum())
    if outside:
        confidences, outcomes, index = (column[index >= 0] for column in (confidences, outcomes, index))
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, column, minlength=bins) for column in (confidences, outcomes)]
    return reliability_of_sums(edges, count, sums[0], sums[1], n, outside)


def reliability_of_sums(
    edges: np.ndarray, count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray, n: int, outside: int
) -> Reliability:
    """Reliability diagram from the sums of each bin.

    Args:
        edges: (B + 1,).
        count, confidence, accuracy: (B,) number of images in each bin, and the sums over them.
        n: number of all images; the ECE is NaN for 0.
        outside: number of images in no bin.
    """
    with np.errstate(invalid="ignore"):
        mean_confidence, mean_accuracy = confidence / count, accuracy / count
    gaps = np.abs(mean_confidence - mean_accuracy)[count > 0] * count[count > 0]
    ece = float(gaps.sum() / n) if n else float("nan")
    return Reliability(edges, count, mean_confidence, mean_accuracy, ece, n, outside)


def multilabel_reliability(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, protocol: Protocol = "paper"
) -> Reliability:
    """Reliability diagram behind `multilabel_ece`, with the same arguments."""
    values, truth = probabilities_and_targets(probabilities, targets)
    if checked_protocol(protocol) == "strict":
        return reliability(confidence(values), sample_precision(values, truth), bins, protocol)
    confidences = confidence(values, inclusive=True)
    return reliability(confidences, sample_accuracy(values > 0.5, truth), bins, protocol)


def multilabel_ece(probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, protocol: Protocol = "paper") -> float:
    """ECE-ML: expected calibration error of the multi-label confidence.

    The confidence of an image is the mean probability of its predicted classes, or the largest probability if no class
    is predicted. `paper` compares it with the Jaccard index of the label sets, as published; a perfectly calibrated
    model does not reach 0. `strict` compares it with the precision, which a calibrated confidence predicts.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        bins: number of equal-width bins of the confidence.
        protocol: `paper` or `strict`.

    Returns:
        In [0, 1], lower is better; NaN without images or, under `paper`, if an image has neither label nor prediction.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, or a probability outside [0, 1].

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).

    Example:
        >>> round(multilabel_ece([[0.9, 0.7, 0.1]], [[1, 0, 0]]), 3)
        0.3
    """
    return multilabel_reliability(probabilities, targets, bins, protocol).ece
