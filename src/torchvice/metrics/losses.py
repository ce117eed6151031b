"""How wrong the model was: the loss of a sample, and the log-likelihood of a single (image, class) pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, plain

__all__ = [
    "cross_entropy",
    "logits_and_targets",
    "pair_log_likelihood",
    "sample_loss",
    "sigmoid",
    "softmax",
    "zero_one",
]


def sigmoid(logits: ArrayLike) -> np.ndarray:
    """Probabilities of logits, elementwise, in the logits' own precision (float64 unless they are float32).

    The precision matters under `paper`: in float32 a logit of 1e-8 is a probability of exactly 0.5, and is no
    prediction.

    Example:
        >>> float(sigmoid([0.0])[0])
        0.5
    """
    array = np.asarray(plain(logits))
    array = array if array.dtype == np.float32 else array.astype(np.float64)
    # exp(-z) is rounded once, from float64: numpy's and torch's own float32 exponentials differ in the last bit, which
    # decides whether a logit of 1e-7 is above one half. Where exp overflows the probability is 0, as it should be.
    with np.errstate(over="ignore"):
        odds_against = np.exp(-array.astype(np.float64)).astype(array.dtype)
    return 1 / (1 + odds_against)


def zero_one(name: str, value: ArrayLike, ndim: int = 2) -> np.ndarray:
    """`value` as float64 with every entry 0 or 1.

    Raises:
        ViceError: another value, or another number of dimensions.
    """
    array = as_array(name, value, ndim)
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        raise ViceError(
            f"`{name}` must hold 0 and 1 only, but holds {array[wrong][0]:g}.",
            "Targets say which classes an image shows; masks and probabilities are other arguments.",
        )
    return array


def logits_and_targets(logits: ArrayLike, targets: ArrayLike, name: str = "logits") -> tuple[np.ndarray, np.ndarray]:
    """The pair as float64 (N, C) arrays of one shape.

    Raises:
        ViceError: shapes differ, no class, targets beside 0 and 1, or NaN among the logits.
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
    if np.isnan(values).any():
        raise ViceError(f"`{name}` must be numbers, but row {int(np.isnan(values).any(1).argmax())} holds NaN.")
    return values, truth


def sample_loss(logits: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Multi-label soft-margin loss of every image: the mean over classes of the binary cross-entropy.

    Args:
        logits: (N, C), before the sigmoid.
        targets: (N, C), 0 or 1.

    Returns:
        (N,) nats, 0 or more, lower is better; float64, exact also where the sigmoid saturates.

    Raises:
        ViceError: shapes differ, targets beside 0 and 1, or NaN among the logits.

    References:
        torch.nn.functional.multilabel_soft_margin_loss with reduction="none"; the paper's training loss.

    Example:
        >>> sample_loss([[0.0, 0.0]], [[1, 0]]).round(4).tolist()
        [0.6931]
    """
    values, truth = logits_and_targets(logits, targets)
    return np.logaddexp(0, np.where(truth == 1, -values, values)).mean(axis=1)


def pair_log_likelihood(logits: ArrayLike) -> np.ndarray:
    """-softplus(-z), the log-probability of a label that is true.

    Args:
        logits: of any shape, those of true (image, class) pairs.

    Returns:
        Nats, 0 or less, higher is better; the shape of `logits`.

    Example:
        >>> pair_log_likelihood([0.0]).round(4).tolist()
        [-0.6931]
    """
    return -np.logaddexp(0, -np.asarray(plain(logits), dtype=float))


def softmax(logits: ArrayLike) -> np.ndarray:
    """Probabilities of exclusive classes, (N, C) float64, every row adding up to 1.

    Example:
        >>> softmax([[0.0, 0.0]]).tolist()
        [[0.5, 0.5]]
    """
    return np.exp(_log_softmax(as_array("logits", logits, 2)))


def _log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Cross-entropy of every image under exclusive classes: minus the log of the true class's softmax.

    Args:
        logits: (N, C), before the softmax.
        targets: (N, C), one 1 in every row.

    Returns:
        (N,) nats, 0 or more, lower is better; float64.

    Raises:
        ViceError: shapes differ, NaN among the logits, or a row without exactly one 1.

    Example:
        >>> cross_entropy([[0.0, 0.0]], [[1, 0]]).round(4).tolist()
        [0.6931]
    """
    values, truth = logits_and_targets(logits, targets)
    wrong = truth.sum(axis=1) != 1
    if wrong.any():
        row = int(wrong.argmax())
        raise ViceError(f"Exclusive targets must hold one 1 in every row, but row {row} holds {int(truth[row].sum())}.")
    return -_log_softmax(values)[truth == 1]
