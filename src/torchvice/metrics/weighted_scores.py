"""Statistics of weighted images that are scores of a classifier: mAP and ECE-ML. See `torchvice.metrics.weighted`."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from torchvice.metrics.binning import equal_width_edges, equal_width_index
from torchvice.metrics.losses import logits_and_targets
from torchvice.metrics.multilabel import confidence, probabilities_and_targets, sample_precision, shown_classes
from torchvice.metrics.parallel import results_of
from torchvice.metrics.ranks import running_sums
from torchvice.metrics.weighted import WeightedStatistic

__all__ = ["MeanAveragePrecision", "MultilabelEce"]


class MeanAveragePrecision(WeightedStatistic):
    """mAP under `strict` of weighted images, over the classes that have a positive weight; each class is sorted once.

    Args:
        probabilities: (N, C) scores; any monotone score serves.
        targets: (N, C), 0 or 1.

    Raises:
        ViceError: shapes differ, targets other than 0 and 1, or NaN among the scores.

    Example:
        >>> ap = MeanAveragePrecision([[0.9], [0.8], [0.1]], [[1], [0], [1]])
        >>> ap(np.array([[1, 1, 1], [1, 0, 2]])).round(4).tolist()
        [0.8333, 1.0]
    """

    most_work = 2**30  # eight seconds of one core
    takes_bytes = True

    def __init__(self, probabilities: ArrayLike, targets: ArrayLike) -> None:
        self._scores, self._truth = logits_and_targets(probabilities, targets, "probabilities")
        self.rows = len(self._scores)
        self._shown = np.flatnonzero(self._truth.sum(axis=0) > 0)
        self.passes = max(1, len(self._shown))

    @cached_property
    def _classes(self) -> list[tuple[np.ndarray, ...]]:
        classes: list[tuple[np.ndarray, ...]] = []
        for c in self._shown:
            order = np.argsort(-self._scores[:, c], kind="stable")
            score = self._scores[order, c]
            tie = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
            place = np.flatnonzero(self._truth[order, c])  # of the positives, in the order of the scores
            last_of_tie = tie[np.searchsorted(tie, place)]
            ends = np.append(np.flatnonzero(np.diff(last_of_tie)), len(place) - 1)
            classes.append((order, order[place], last_of_tie[ends], ends))
        return classes

    def linear(self) -> tuple[float, np.ndarray]:
        """mAP, and its derivative by the weight of each image: (N,), of sum 0.

        AP is the sum over the true images k of hits_k / images_k, divided by the number of true images. Image i counts
        among the images of every k that does not score higher; a true one also among their hits, and as one more term.
        """

        def of_class(one: tuple[int, np.ndarray, np.ndarray]) -> tuple[float, np.ndarray]:
            _, score, truth = one
            levels, true = np.unique(score[truth], return_counts=True)
            reached = np.searchsorted(levels, score, side="right")  # how many levels each image reaches
            images = np.cumsum(np.bincount(reached, minlength=len(levels) + 1)[:0:-1])[::-1]
            hits = np.cumsum(true[::-1])[::-1]
            precision = hits / images
            ap = float((true * precision).sum() / hits[0])
            per_hit = np.append(0.0, np.cumsum(true / images))
            per_image = np.append(0.0, np.cumsum(true * precision / images))
            change = -per_image[reached]
            change[truth] += (per_hit[1:] + precision - ap)[reached[truth] - 1]
            return ap, change / hits[0]

        mean, change = 0.0, np.zeros(self.rows)
        for block in shown_classes(self._scores, self._truth):
            for ap, own in results_of(of_class, block):
                mean += ap
                change += own
        classes = max(1, len(self._shown))
        return mean / classes, change / classes

    def _values(self, weights: np.ndarray) -> np.ndarray:
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        for order, positive, last, ends in self._classes:
            # Precision is only asked for where a tie holds a positive.
            images = np.take(running_sums(np.take(weights, order, axis=1)), last, axis=1)
            hits = np.take(running_sums(np.take(weights, positive, axis=1)), ends, axis=1)
            gain = np.diff(hits, axis=1, prepend=0) * hits
            precision = np.divide(gain, images, out=np.zeros_like(gain), where=images > 0).sum(axis=1)
            drawn = hits[:, -1] > 0
            total[drawn] += precision[drawn] / hits[drawn, -1]
            classes += drawn
        return np.divide(total, classes, out=np.full(len(weights), np.nan), where=classes > 0)


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        value = self.value
        return value, (np.sign(self._gaps.sum(axis=1)) @ self._gaps - value) / self.rows

    def _values(self, weights: np.ndarray) -> np.ndarray:
        gap, total = np.abs(weights @ self._gaps.T).sum(axis=1), weights.sum(axis=1)
        return np.divide(gap, total, out=np.full(len(weights), np.nan), where=total > 0)
