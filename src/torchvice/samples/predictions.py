"""Loss, probability, prediction and confidence of images, from their logits.

All but the NLL of calibration takes them from here.
"""

from __future__ import annotations

import numpy as np

from torchvice.metrics.losses import cross_entropy, sample_loss, sigmoid, softmax
from torchvice.metrics.multilabel import confidence

__all__ = ["confidences", "losses", "predicted", "probabilities"]


def losses(logits: np.ndarray, targets: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N,) nats: the multi-label soft-margin loss, or, of exclusive classes, the cross-entropy.

    Args:
        logits: (N, C). targets: (N, C), 0 or 1.
        exclusive: whether the classes exclude each other, see `ProtocolSamples.exclusive`.

    Raises:
        ViceError: see `torchvice.metrics.sample_loss` and `torchvice.metrics.losses.cross_entropy`.
    """
    return (cross_entropy if exclusive else sample_loss)(logits, targets)


def probabilities(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N, C) in [0, 1]: the sigmoid, in the precision of the logits, or, of exclusive classes, the softmax in float64.

    Args:
        logits: (N, C).
        exclusive: see `losses`.
    """
    return softmax(logits) if exclusive else sigmoid(logits)


def predicted(probabilities: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N, C) bool: every class above one half, or, of exclusive classes, the likeliest one (of equal ones the first).

    Example:
        >>> predicted(np.array([[0.6, 0.7, 0.1]]), exclusive=False).tolist()
        [[True, True, False]]
        >>> predicted(np.array([[0.2, 0.4, 0.4]]), exclusive=True).tolist()
        [[False, True, False]]
    """
    if not exclusive:
        return probabilities > 0.5
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]


def confidences(probabilities: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N,) in [0, 1]: `torchvice.metrics.confidence`, or, of exclusive classes, the highest probability."""
    return probabilities.max(axis=1) if exclusive else confidence(probabilities)
