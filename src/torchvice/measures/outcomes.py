"""Outcomes: what `strict` makes of the logits, of several labels an image or of exclusive ones."""

from __future__ import annotations

import numpy as np

from torchvice.metrics import sample_loss, sigmoid
from torchvice.metrics.losses import cross_entropy, softmax
from torchvice.samples import Images

__all__ = ["decided", "strict_loss", "strict_probabilities"]


def strict_probabilities(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N, C) float64 of logits (N, C): of each class by itself, or, of exclusive targets, by softmax."""
    logits = logits.astype(float)
    return softmax(logits) if exclusive else sigmoid(logits)


def strict_loss(images: Images, exclusive: bool) -> np.ndarray:
    """(N,) nats: the multi-label soft-margin loss, or, of exclusive targets, the cross-entropy."""
    return cross_entropy(images.logits, images.targets) if exclusive else sample_loss(images.logits, images.targets)


def decided(probabilities: np.ndarray, exclusive: bool) -> np.ndarray:
    """(N, C) what is predicted: every class above one half, or, of exclusive targets, the likeliest one."""
    if not exclusive:
        return probabilities > 0.5
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]
