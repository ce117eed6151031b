"""Multi-label classification: confidence, accuracy, F1, precision and recall, average precision.

A class is predicted if its probability is above one half. For images and classes with neither label nor prediction,
`paper` follows the published conventions and `strict` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, did_you_mean
from torchvice.metrics.losses import logits_and_targets, one_label, zero_one
from torchvice.metrics.parallel import by_rows, in_threads, row_blocks

TOGETHER = 64  # columns
Protocol = Literal["paper", "strict"]
PROTOCOLS = ("paper", "strict")


def checked_protocol(protocol: str) -> str:
    """Return `protocol`.

    Raises:
        ViceError: it is neither `paper` nor `strict`.
    """
    if protocol not in PROTOCOLS:
        raise ViceError(
            f"`protocol` must be 'paper' or 'strict', but is {protocol!r}.", did_you_mean(str(protocol), PROTOCOLS)
        )
    return protocol


def probabilities_and_targets(probabilities: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities as a float64 (N, C) array, and targets as `zero_one` returns them.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, or a probability outside [0, 1].
    """
    values, truth = logits_and_targets(probabilities, targets, "probabilities")
    if len(values) and (values.min() < 0 or values.max() > 1):
        raise ViceError(
            f"`probabilities` must lie in [0, 1], but span {values.min():g} to {values.max():g}.",
            "Logits become probabilities with torchvice.metrics.sigmoid(logits), or softmax(logits) of exclusive "
            "classes.",
        )
    return values, truth


def check_sums(probabilities: np.ndarray) -> None:
    """Check that the probabilities (N, C) of exclusive classes have the sum 1 in every row.

    Raises:
        ViceError: a row has another sum.
    """
    wrong = np.abs(probabilities.sum(axis=1) - 1) > 1e-3  # a softmax in half precision is within this tolerance
    if wrong.any():
        row = int(wrong.argmax())
        raise ViceError(
            f"Rows of exclusive `probabilities` must have the sum 1, but row {row} has {probabilities[row].sum():g}.",
            "Convert logits with torchvice.metrics.softmax(logits).",
        )


@by_rows
def confidence(probabilities: ArrayLike, inclusive: bool = False) -> np.ndarray:
    """Confidence of every image: the mean probability of its predicted classes, or the largest without any.

    Args:
        probabilities: (N, C) in [0, 1].
        inclusive: count a probability of exactly one half as predicted, as the original does in ECE-ML, but not in its
            per-image table.

    Returns:
        (N,) in [0, 1].

    Raises:
        ViceError: not (N, C).

    Example:
        >>> confidence([[0.9, 0.7, 0.2], [0.4, 0.1, 0.2]]).round(2).tolist()
        [0.8, 0.4]
    """
    values = as_array("probabilities", probabilities, 2)
    predicted = values >= 0.5 if inclusive else values > 0.5
    count = predicted.sum(axis=1)
    mean = (values * predicted).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, values.max(axis=1, initial=0.0))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN for 0 / 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _label_sets(predicted: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    chosen, truth = logits_and_targets(zero_one("predicted", predicted), targets, "predicted")
    return chosen == 1, truth == 1


@by_rows
def sample_accuracy(predicted: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Jaccard index of the predicted and true label sets of every image.

    Args:
        predicted: (N, C), 0 or 1.
        targets: (N, C), 0 or 1.

    Returns:
        (N,) in [0, 1]; NaN for an image with neither label nor prediction.

    Raises:
        ViceError: shapes differ, or a value other than 0 and 1.

    Example:
        >>> sample_accuracy([[1, 1, 0]], [[1, 0, 0]]).tolist()
        [0.5]
    """
    chosen, truth = _label_sets(predicted, targets)
    return _ratio((chosen & truth).sum(1).astype(float), (chosen | truth).sum(1))


@by_rows
def sample_f1(predicted: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """F1 (Dice) of the predicted and true label sets of every image: (N,) in [0, 1], NaN if both are empty.

    Arguments and errors as in `sample_accuracy`.
    """
    chosen, truth = _label_sets(predicted, targets)
    return _ratio(2.0 * (chosen & truth).sum(1), chosen.sum(1) + truth.sum(1))


@by_rows
def sample_precision(probabilities: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Precision of every image: the share of its predicted classes that are true.

    Without a predicted class it is 1 or 0: whether the class of the largest probability is true. For a calibrated model
    the expected precision equals `confidence`. This does not hold for the Jaccard index of the published ECE-ML.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.

    Returns:
        (N,) in [0, 1].

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, or a probability outside [0, 1].

    Example:
        >>> sample_precision([[0.9, 0.7], [0.4, 0.1]], [[1, 0], [1, 0]]).tolist()
        [0.5, 1.0]
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    predicted = values > 0.5
    count = predicted.sum(axis=1)
    top = np.take_along_axis(truth, values.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(count > 0, (truth * predicted).sum(axis=1) / np.maximum(count, 1), top)


def top_one_accuracy(logits: ArrayLike, targets: ArrayLike) -> float:
    """Share of the images whose highest logit is that of their class; of equal logits the first counts.

    Args:
        logits: (N, C) logits or probabilities.
        targets: (N, C), 0 or 1, one label in every row.

    Returns:
        In [0, 1], higher is better; NaN without images.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, a row without exactly one label, or a NaN in the logits.

    Example:
        >>> top_one_accuracy([[2.0, 1.0], [0.0, 3.0]], [[1, 0], [1, 0]])
        0.5
    """
    values, label = one_label(logits, targets)
    return float((values.argmax(axis=1) == label).mean()) if len(values) else float("nan")


def _mean_of_rows(rows: np.ndarray, protocol: str, empty_counts: float) -> float:
    """Mean over images. `strict` leaves undefined rows out; `paper` counts them as `empty_counts`."""
    defined = ~np.isnan(rows)
    if checked_protocol(protocol) == "strict":
        rows = rows[defined]
    else:
        rows = np.where(defined, rows, empty_counts)
    return float(rows.mean()) if len(rows) else float("nan")


def multilabel_accuracy(
    probabilities: ArrayLike, targets: ArrayLike, protocol: Protocol = "paper", threshold: float = 0.5
) -> float:
    """ML-accuracy: Jaccard index of the predicted (p > threshold) and true label sets, averaged over images.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        protocol: an image with neither label nor prediction (0/0) makes the mean NaN under `paper`; `strict` leaves it
            out.
        threshold: a class is predicted above it.

    Returns:
        In [0, 1], higher is better, or NaN.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, or a probability outside [0, 1].

    References:
        Godbole and Sarawagi, Discriminative methods for multi-labeled classification, 2004.

    Example:
        >>> multilabel_accuracy([[0.9, 0.8], [0.1, 0.7]], [[1, 0], [0, 1]])
        0.75
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    return _mean_of_rows(sample_accuracy(values > threshold, truth), protocol, float("nan"))


def multilabel_f1(
    probabilities: ArrayLike, targets: ArrayLike, protocol: Protocol = "paper", threshold: float = 0.5
) -> float:
    """F1 of the predicted (p > threshold) and true label sets, averaged over images.

    An image with neither label nor prediction counts 0 under `paper`; `strict` leaves it out.

    Example:
        >>> round(multilabel_f1([[0.9, 0.8], [0.1, 0.7]], [[1, 0], [0, 1]]), 4)
        0.8333
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    return _mean_of_rows(sample_f1(values > threshold, truth), protocol, 0.0)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and F1 as fractions, averaged over classes (CP, CR, CF1) and over all cells (OP, OR, OF1)."""

    cp: float
    cr: float
    cf1: float
    op: float
    or_: float
    of1: float


def precision_recall(
    probabilities: ArrayLike, targets: ArrayLike, threshold: float | None = 0.5, top_k: int | None = None
) -> PrecisionRecall:
    """CP, CR, CF1, OP, OR and OF1 of the classes with p >= threshold, or of the `top_k` highest probabilities.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        threshold: a class is predicted at or above it (inclusive, as published); None uses `top_k`.
        top_k: number of predictions per image, used if `threshold` is None.

    Returns:
        Fractions. A class without predictions has precision 0, a class without labels has recall 0, and both enter the
        mean. CF1 is the harmonic mean of CP and CR, not the mean F1 of the classes.

    Raises:
        ViceError: neither threshold nor top_k, a top_k below 1, or as in `sample_precision`.

    References:
        Zhu et al., Learning spatial regularization with image-level supervisions, CVPR 2017.

    Example:
        >>> precision_recall([[0.9, 0.8], [0.1, 0.7]], [[1, 0], [0, 1]]).cp
        0.75
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    if threshold is None and top_k is None:
        raise ViceError("`precision_recall` needs a threshold or top_k, but both are None.")
    if threshold is None and top_k is not None and top_k < 1:
        raise ViceError(f"`top_k` must be at least 1, but is {top_k}.")
    counts = np.zeros((3, values.shape[1]), np.int64)
    for rows in row_blocks(*values.shape):
        predicted, true = _chosen(values[rows], threshold, top_k), truth[rows] == 1
        counts += [part.sum(axis=0) for part in (predicted & true, predicted, true)]
    return _precision_recall_of_counts(*counts)


def _chosen(values: np.ndarray, threshold: float | None, top_k: int | None) -> np.ndarray:
    """(N, C) bool: the classes at or above a threshold, or the `top_k` likeliest."""
    if threshold is not None:
        return values >= threshold
    likeliest = np.argsort(-values, axis=1, kind="stable")[:, :top_k]
    predicted = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(predicted, likeliest, True, axis=1)
    return predicted


def _precision_recall_of_counts(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> PrecisionRecall:
    def harmonic(a: float, b: float) -> float:
        return 2 * a * b / (a + b) if a + b > 0 else 0.0

    cp = float((hits / np.maximum(predicted, 1)).mean()) if len(hits) else 0.0
    cr = float((hits / np.maximum(true, 1)).mean()) if len(hits) else 0.0
    op = float(hits.sum() / max(predicted.sum(), 1))
    or_ = float(hits.sum() / max(true.sum(), 1))
    return PrecisionRecall(cp, cr, harmonic(cp, cr), op, or_, harmonic(op, or_))


def average_precision(probabilities: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Average precision of every class: the mean precision at its true images, with ties taken together.

    Args:
        probabilities: (N, C) probabilities, or any scores that increase with them.
        targets: (N, C), 0 or 1.

    Returns:
        (C,) in [0, 1]; NaN for a class that no image shows.

    References:
        sklearn.metrics.average_precision_score gives the same numbers.

    Example:
        >>> average_precision([[0.9], [0.8], [0.1]], [[1], [0], [1]]).round(4).tolist()
        [0.8333]
    """
    values, truth = logits_and_targets(probabilities, targets, "probabilities")
    result = np.full(values.shape[1], np.nan)

    def measure(one: tuple[int, np.ndarray, np.ndarray]) -> None:
        c, score, shown = one
        levels, true = np.unique(score[shown], return_counts=True)
        reached = np.searchsorted(levels, score, side="right")  # how many of the true images' scores each reaches
        images = np.cumsum(np.bincount(reached, minlength=len(levels) + 1)[:0:-1])
        true = true[::-1]
        result[c] = float((true * np.cumsum(true) / images).sum() / true.sum())

    for block in shown_classes(values, truth):
        in_threads(measure, block)
    return result


def shown_classes(values: np.ndarray, truth: np.ndarray) -> Iterator[list[tuple[int, np.ndarray, np.ndarray]]]:
    """Each class that an image shows, its scores (N,) and whether each image shows it (N,), in blocks of classes.

    The columns of a block are copied together, because the rows of a large array lie far from each other.
    """
    for first in range(0, values.shape[1], TOGETHER):
        columns = slice(first, first + TOGETHER)
        scores = np.ascontiguousarray(values[:, columns].T)
        both = enumerate(zip(scores, np.ascontiguousarray(truth[:, columns].T == 1), strict=True))
        yield [(first + c, score, shown) for c, (score, shown) in both if shown.any()]


def mean_average_precision(probabilities: ArrayLike, targets: ArrayLike, protocol: Protocol = "paper") -> float:
    """mAP: the mean of `average_precision` over classes.

    A class that no image shows counts 0 under `paper` (the sum is divided by all C); `strict` leaves it out.

    Example:
        >>> mean_average_precision([[0.9, 0.2], [0.1, 0.1]], [[1, 0], [0, 0]], protocol="paper")
        0.5
        >>> mean_average_precision([[0.9, 0.2], [0.1, 0.1]], [[1, 0], [0, 0]], protocol="strict")
        1.0
    """
    return _mean_of_rows(average_precision(probabilities, targets), protocol, 0.0)
