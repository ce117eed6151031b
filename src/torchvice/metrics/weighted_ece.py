"""ECE-ML as a function of weights: how often each image counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.metrics.binning import equal_width_edges, equal_width_index
from torchvice.metrics.multilabel import confidence, probabilities_and_targets, sample_precision
from torchvice.metrics.weighted import WeightedStatistic

__all__ = ["MultilabelEce"]


class MultilabelEce(WeightedStatistic):
    """`multilabel_ece` under `strict` of images that count as often as weights say; each stays in its bin.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        bins: equal bins of the confidence.

    Raises:
        ViceError: as `multilabel_ece`.

    Example:
        >>> ece = MultilabelEce([[0.9, 0.7], [0.8, 0.1]], [[1, 0], [1, 0]], bins=2)
        >>> ece(np.array([[1, 1], [1, 0], [0, 3]])).round(3).tolist()
        [0.05, 0.3, 0.2]
    """

    def __init__(self, probabilities: ArrayLike, targets: ArrayLike, bins: int = 20) -> None:
        values, truth = probabilities_and_targets(probabilities, targets)
        sure, right = confidence(values), sample_precision(values, truth)
        self.rows = len(sure)
        index = equal_width_index(sure, equal_width_edges(bins), first_takes_zero=True)
        self._gaps = np.zeros((bins, self.rows))
        self._gaps[index, np.arange(self.rows)] = sure - right

    def _values(self, weights: np.ndarray) -> np.ndarray:
        gap, total = np.abs(weights @ self._gaps.T).sum(axis=1), weights.sum(axis=1)
        return np.divide(gap, total, out=np.full(len(weights), np.nan), where=total > 0)
