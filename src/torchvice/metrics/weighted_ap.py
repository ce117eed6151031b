"""Mean average precision as a function of weights: how often each image counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.metrics.losses import logits_and_targets

__all__ = ["MeanAveragePrecision"]


class MeanAveragePrecision:
    """mAP under `strict` of images that count as often as weights say; scores are sorted once, for all weights.

    Args:
        probabilities: (N, C) scores; any monotone score serves.
        targets: (N, C), 0 or 1.

    Raises:
        ViceError: shapes differ, targets beside 0 and 1, or NaN among the scores.

    Example:
        >>> ap = MeanAveragePrecision([[0.9], [0.8], [0.1]], [[1], [0], [1]])
        >>> ap(np.array([[1, 1, 1], [1, 0, 2]])).round(4).tolist()
        [0.8333, 1.0]
    """

    def __init__(self, probabilities: ArrayLike, targets: ArrayLike) -> None:
        values, truth = logits_and_targets(probabilities, targets, "probabilities")
        self._classes = []
        for c in np.flatnonzero(truth.sum(axis=0) > 0):
            order = np.argsort(-values[:, c], kind="stable")
            score = values[order, c]
            last_of_tie = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
            self._classes.append((order, truth[order, c], last_of_tie))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(b,) mAP for weights (b, N), over the classes that a resampling shows; NaN where it shows none."""
        total, shown = np.zeros(len(weights)), np.zeros(len(weights))
        for order, truth, last in self._classes:
            count = weights[:, order].astype(np.float64)
            seen = np.cumsum(count, axis=1)[:, last]
            hits = np.cumsum(count * truth, axis=1)[:, last]
            found = np.diff(hits, axis=1, prepend=0) * hits
            precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0).sum(axis=1)
            there = hits[:, -1] > 0
            total[there] += precision[there] / hits[there, -1]
            shown += there
        return np.divide(total, shown, out=np.full(len(weights), np.nan), where=shown > 0)
