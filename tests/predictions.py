"""Predictions of models whose every probability is the chance of its label, and labels drawn from them."""

from __future__ import annotations

import numpy as np

from torchvice.metrics import sigmoid, softmax


def multilabel(n: int, seed: int, classes: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets (n, C) of a calibrated multi-label model; an image of 20 classes shows 1.3."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-6, 1.5, (n, classes))
    likely = rng.random(logits.shape) < 0.09
    logits[likely] = rng.normal(1, 2, int(likely.sum()))
    return logits, (rng.random(logits.shape) < sigmoid(logits)).astype(int)


def exclusive(n: int, seed: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits and one-hot targets (n, C) of a calibrated model of classes that exclude each other."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    label = (rng.random((n, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    return logits, np.eye(classes, dtype=int)[label]
