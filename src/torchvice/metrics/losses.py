"""Losses: of an image with several labels, of an image with one label, and of an (image, class) pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, to_numpy
from torchvice.metrics.parallel import by_rows

BYTES = (np.bool_, np.uint8, np.int8)


@by_rows
def sigmoid(logits: ArrayLike) -> np.ndarray:
    """Sigmoid of logits, elementwise, in the precision of the logits (float64 unless they are float32).

    The precision matters under `paper`: in float32 a logit of 1e-8 has a probability of exactly 0.5, which is not a
    prediction.

    Example:
        >>> float(sigmoid([0.0])[0])
        0.5
    """
    single = getattr(to_numpy(logits), "dtype", None) == np.float32
    array = as_array("logits", logits, None, np.float32 if single else np.float64)
    # exp(-z) is rounded once, from float64. The float32 exponentials of numpy and torch differ in the last bit, which
    # decides whether a logit of 1e-7 is above one half. Where exp overflows, the probability is 0, as it should be.
    with np.errstate(over="ignore"):
        odds_against = np.exp(-array.astype(np.float64)).astype(array.dtype)
    return 1 / (1 + odds_against)


def zero_one(name: str, value: ArrayLike, ndim: int = 2) -> np.ndarray:
    """Return `value`, with every entry 0 or 1: bytes and truth values as int8 in the same memory, others as float64.

    Raises:
        ViceError: any other value, or another number of dimensions.
    """
    if isinstance(value, np.ndarray) and value.dtype in BYTES and value.ndim == ndim:
        held, array = value, value.view(np.int8)  # faster to check, and smaller
        if value.view(np.uint8).max(initial=0) <= 1:
            return array
        wrong = value.view(np.uint8) > 1
    else:
        held = array = as_array(name, value, ndim)
        wrong = (array != 0) & (array != 1)
    if wrong.any():
        raise ViceError(
            f"`{name}` must hold 0 and 1 only, but holds {held[wrong][0]:g}.",
            "Targets state which classes an image shows. Masks and probabilities are separate arguments."
            if name == "targets"
            else "",
        )
    return array


def logits_and_targets(logits: ArrayLike, targets: ArrayLike, name: str = "logits") -> tuple[np.ndarray, np.ndarray]:
    """Return logits as a float64 (N, C) array, and targets as `zero_one` returns them.

    Raises:
        ViceError: shapes differ, no class, a target other than 0 and 1, or a NaN in the logits.
    """
    values, truth = as_array(name, logits, 2), zero_one("targets", targets)
    if values.shape != truth.shape:
        background = truth.shape[0] == values.shape[0] and truth.shape[1] == values.shape[1] + 1
        raise ViceError(
            f"`targets` must be (N, C) like `{name}` {values.shape}, but has shape {truth.shape}.",
            "Masks count the background as label 0; drop it with targets[:, 1:]." if background else "",
        )
    if not values.shape[1]:
        raise ViceError(f"`{name}` must be (N, C) with at least one class, but has shape {values.shape}.")
    if len(values) and np.isnan(values.min()):  # the smallest is NaN if any is, and costs less to find
        raise ViceError(f"`{name}` must be numbers, but row {int(np.isnan(values).any(1).argmax())} holds NaN.")
    return values, truth


@by_rows
def sample_loss(logits: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Multi-label soft-margin loss of every image: binary cross-entropy averaged over classes.

    Args:
        logits: (N, C), before the sigmoid.
        targets: (N, C), 0 or 1.

    Returns:
        (N,) nats, 0 or more, lower is better; float64, exact also where the sigmoid saturates.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, or a NaN in the logits.

    References:
        torch.nn.functional.multilabel_soft_margin_loss with reduction="none"; the paper's training loss.

    Example:
        >>> sample_loss([[0.0, 0.0]], [[1, 0]]).round(4).tolist()
        [0.6931]
    """
    values, truth = logits_and_targets(logits, targets)
    return np.logaddexp(0, np.where(truth == 1, -values, values)).mean(axis=1)


def pair_log_likelihood(logits: ArrayLike) -> np.ndarray:
    """Log-probability of a true label: -softplus(-z).

    Args:
        logits: logits of true (image, class) pairs, of any shape.

    Returns:
        Nats, 0 or less, higher is better; in the shape of `logits`.

    Example:
        >>> pair_log_likelihood([0.0]).round(4).tolist()
        [-0.6931]
    """
    return -np.logaddexp(0, -as_array("logits", logits, None))


@by_rows
def log_softmax(logits: ArrayLike) -> np.ndarray:
    """Log-softmax of every row: the log-probability of each class if the classes exclude each other.

    Args:
        logits: (N, C).

    Returns:
        (N, C) nats, 0 or less; float64, exact also where the softmax itself is 0 in float64.

    Raises:
        ViceError: not (N, C), no class, or a row whose highest logit is NaN or infinite.

    Example:
        >>> log_softmax([[0.0, 0.0]]).round(4).tolist()
        [[-0.6931, -0.6931]]
    """
    values = as_array("logits", logits, 2)
    if not values.shape[1]:
        raise ViceError(f"`logits` must be (N, C) with at least one class, but has shape {values.shape}.")
    top = values.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise ViceError("The highest logit of every row of `logits` must be finite, but is not.")
    from_top = values - top
    return from_top - np.log(np.exp(from_top).sum(axis=1, keepdims=True))


@by_rows
def softmax(logits: ArrayLike) -> np.ndarray:
    """Softmax of every row: (N, C) in [0, 1], every row sums to 1. Errors as in `log_softmax`.

    Example:
        >>> softmax([[0.0, 0.0]]).tolist()
        [[0.5, 0.5]]
    """
    return np.exp(log_softmax(logits))


def one_label(logits: ArrayLike, targets: ArrayLike, name: str = "logits") -> tuple[np.ndarray, np.ndarray]:
    """Return float64 logits (N, C), and the class of every image (N,).

    Raises:
        ViceError: an image without exactly one label, or as in `logits_and_targets`.
    """
    values, truth = logits_and_targets(logits, targets, name)
    labels = truth.sum(axis=1)
    if (labels != 1).any():
        row = int((labels != 1).argmax())
        raise ViceError(
            f"`targets` must have one label in every row, but row {row} has {labels[row]:g}.",
            "For images with several labels use exclusive=False, with one sigmoid per class; in place of cross_entropy "
            "sample_loss, of top_one_accuracy multilabel_accuracy.",
        )
    return values, truth.argmax(axis=1)


@by_rows
def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Cross-entropy of every image if the classes exclude each other: -ln softmax of its class.

    Args:
        logits: (N, C), before the softmax.
        targets: (N, C), 0 or 1, one label in every row.

    Returns:
        (N,) nats, 0 or more, lower is better; float64, exact also where the softmax saturates. The negative value is
        the log-likelihood of the true class.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, a row without exactly one label, or a NaN in the logits.

    References:
        torch.nn.functional.cross_entropy with reduction="none".

    Example:
        >>> cross_entropy([[0.0, 0.0]], [[1, 0]]).round(4).tolist()
        [0.6931]
    """
    values, label = one_label(logits, targets)
    return -log_softmax(values)[np.arange(len(values)), label]
