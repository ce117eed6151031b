"""ECE-ML: how far the confidence of a multi-label prediction is from what it promises."""

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

__all__ = [
    "Reliability",
    "multilabel_ece",
    "multilabel_reliability",
    "reliability",
    "reliability_in_bins",
    "reliability_of_sums",
]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram in numbers: B bins of the confidence on [0, 1].

    `edges` (B + 1,); `count` (B,) images; `confidence` and `accuracy` (B,) their means, NaN in an empty bin; `ece` the
    count-weighted mean gap, in [0, 1]; `n` all images; `outside` those in no bin.
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
    """Bin images by confidence and compare the mean confidence of each bin with its mean accuracy.

    Args:
        confidence: (N,) in [0, 1].
        accuracy: (N,) in [0, 1]; NaN makes its bin's accuracy and the ECE NaN under `paper`; `strict` leaves the
            image out.
        bins: equal bins (lo, hi]; the first takes a confidence of 0 under `strict` only.
        protocol: `paper` or `strict`.

    Returns:
        Reliability; its gaps are weighted by count / N.

    Raises:
        ViceError: lengths differ, or fewer than one bin.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.

    Example:
        >>> round(reliability([0.9, 0.8], [1.0, 0.5], bins=1).ece, 3)
        0.1
    """
    sure, right = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
    same_length(confidence=sure, accuracy=right)
    strict = checked_protocol(protocol) == "strict"
    if strict:
        sure, right = sure[~np.isnan(right)], right[~np.isnan(right)]
    edges = equal_width_edges(bins)
    return reliability_in_bins(sure, right, edges, equal_width_index(sure, edges, first_takes_zero=strict))


def reliability_in_bins(sure: np.ndarray, right: np.ndarray, edges: np.ndarray, index: np.ndarray) -> Reliability:
    """The diagram of confidences (N,) and outcomes (N,) whose bins are given: `index` (N,), -1 for none."""
    inside, bins = index >= 0, len(edges) - 1
    count = np.bincount(index[inside], minlength=bins)
    sums = [np.bincount(index[inside], column[inside], minlength=bins) for column in (sure, right)]
    return reliability_of_sums(edges, count, sums[0], sums[1], len(sure), int((~inside).sum()))


def reliability_of_sums(
    edges: np.ndarray, count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray, n: int, outside: int
) -> Reliability:
    """The diagram from the sums of each bin.

    Args:
        edges: (B + 1,).
        count, confidence, accuracy: (B,) images of each bin, and the sums over them.
        n: all images, NaN ECE for none.
        outside: those in no bin.
    """
    with np.errstate(invalid="ignore"):
        mean_sure, mean_right = confidence / count, accuracy / count
    gaps = np.abs(mean_sure - mean_right)[count > 0] * count[count > 0]
    ece = float(gaps.sum() / n) if n else float("nan")
    return Reliability(edges, count, mean_sure, mean_right, ece, n, outside)


def multilabel_reliability(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, protocol: Protocol = "paper"
) -> Reliability:
    """The reliability diagram behind `multilabel_ece`; arguments as there."""
    values, truth = probabilities_and_targets(probabilities, targets)
    if checked_protocol(protocol) == "strict":
        return reliability(confidence(values), sample_precision(values, truth), bins, protocol)
    sure = confidence(values, inclusive=True)
    return reliability(sure, sample_accuracy(values > 0.5, truth), bins, protocol)


def multilabel_ece(probabilities: ArrayLike, targets: ArrayLike, bins: int = 20, protocol: Protocol = "paper") -> float:
    """ECE-ML: expected calibration error of the multi-label confidence.

    The confidence of an image is the mean probability of its predicted classes, or the largest probability where none
    is predicted. `paper` compares it with the Jaccard index of the label sets, as published: a perfectly calibrated
    model does not score 0. `strict` compares it with the precision, whose expectation it is.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        bins: equal bins of the confidence.
        protocol: `paper` or `strict`.

    Returns:
        In [0, 1], lower is better; NaN without images or, under `paper`, where an image has neither label nor
        prediction.

    Raises:
        ViceError: shapes differ, targets beside 0 and 1, or a probability outside [0, 1].

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).

    Example:
        >>> round(multilabel_ece([[0.9, 0.7, 0.1]], [[1, 0, 0]]), 3)
        0.3
    """
    return multilabel_reliability(probabilities, targets, bins, protocol).ece
