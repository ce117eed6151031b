"""Statistics of weighted rows, many weightings at once: one for every replicate of a bootstrap.

A statistic is made from its columns once and then called with weights (b, P), how often each of the P rows counts. It
returns (b,) values, NaN where it is undefined. `value` is its value when every row counts once.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.binning import equal_width_edges, equal_width_index
from torchvice.metrics.losses import logits_and_targets
from torchvice.metrics.multilabel import confidence, probabilities_and_targets, sample_precision
from torchvice.metrics.ranks import ChosenRanks, WeightedRanks, weighted_sums
from torchvice.metrics.thresholds import HeldOut

SHARED = 4  # replicates that share a choice of thresholds on average, for one sorting of floats to pay


def finite_column(name: str, values: ArrayLike, ndim: int = 1) -> np.ndarray:
    """`values` as float64.

    Raises:
        ViceError: a value is NaN or infinite.
    """
    array = as_array(name, values, ndim)
    if not np.isfinite(array).all():
        raise ViceError(
            f"`{name}` must be finite, but {int((~np.isfinite(array)).sum())} values are not.",
            "Leave such rows out, and report how many.",
        )
    return array


def correlation(products: np.ndarray, squares_a: np.ndarray, squares_b: np.ndarray) -> np.ndarray:
    """products / sqrt(squares), within [-1, 1]; NaN where a column has no spread."""
    together = np.where((squares_a > 0) & (squares_b > 0), squares_a * squares_b, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(together > 0, np.clip(products / np.sqrt(together), -1, 1), np.nan)


class WeightedStatistic(ABC):
    """A statistic of P rows under many weightings.

    Attributes:
        rows: P.
        width: the approximate number of floats that a call needs for a row and weighting.
        passes: how often a call goes through the rows of a weighting; of interest where there are a thousand classes.
    """

    rows: int
    width = 8
    passes = 1

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Compute the statistic for each weighting.

        Args:
            weights: (b, P), 0 or more.

        Returns:
            (b,) float64, NaN where it is undefined.

        Raises:
            ViceError: `weights` does not have one column for each row.
        """
        if weights.ndim != 2 or weights.shape[1] != self.rows:
            raise ViceError(f"`weights` must be (b, {self.rows}), but has shape {weights.shape}.")
        if not self.rows:
            return np.full(len(weights), np.nan)
        return self._values(weights.astype(np.float64, copy=False))

    @property
    def value(self) -> float:
        """The statistic where every row counts once."""
        return float(self(np.ones((1, self.rows)))[0])

    @abstractmethod
    def _values(self, weights: np.ndarray) -> np.ndarray:
        """The statistic under (b, P) float64 weights; P is at least one."""


class Ratio(WeightedStatistic):
    """Sum of `numerator` over sum of `denominator`; NaN where the latter is 0.

    Example:
        >>> Ratio([1.0, 2.0], [2.0, 8.0])(np.array([[1, 1], [1, 0]])).tolist()
        [0.3, 0.5]
    """

    def __init__(self, numerator: ArrayLike, denominator: ArrayLike) -> None:
        parts = finite_column("numerator", numerator), finite_column("denominator", denominator)
        self.rows = same_length(numerator=parts[0], denominator=parts[1])
        self._parts = np.stack(parts)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        above, below = weighted_sums(weights, self._parts).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(below != 0, above / below, np.nan)


class Mean(Ratio):
    """The weighted mean of a column.

    Example:
        >>> Mean([1.0, 2.0, 6.0])(np.array([[1, 1, 1], [2, 1, 0]])).round(3).tolist()
        [3.0, 1.333]
    """

    def __init__(self, values: ArrayLike) -> None:
        values = finite_column("values", values)
        super().__init__(values, np.ones(len(values)))


class Pearson(WeightedStatistic):
    """Pearson's correlation, by its moments.

    Example:
        >>> pearson = Pearson([1.0, 2.0, 3.0, 9.0], [1.0, 3.0, 2.0, 0.0])
        >>> pearson(np.array([[1, 1, 1, 0], [1, 0, 0, 0]])).round(3).tolist()
        [0.5, nan]
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        first, second = finite_column("a", a), finite_column("b", b)
        self.rows = same_length(a=first, b=second)
        self._columns = np.stack([_centred(first), _centred(second)])
        a_, b_ = self._columns
        self._moments = np.stack([np.ones(self.rows), a_, b_, a_ * a_, b_ * b_, a_ * b_])

    def _values(self, weights: np.ndarray) -> np.ndarray:
        n, a, b, aa, bb, ab = weighted_sums(weights, self._moments).T
        with np.errstate(divide="ignore", invalid="ignore"):
            spread_a, spread_b, products = aa - a * a / n, bb - b * b / n, ab - a * b / n
        # Where the squares nearly cancel, the columns are centred again: a column that is constant in the replicate
        # leaves rounding noise, and one whose outlier was not drawn loses digits.
        doubtful = ~((spread_a > 1e-6 * aa) & (spread_b > 1e-6 * bb))
        for row in np.flatnonzero(doubtful):
            moments = self._recentred_moments(weights[row])
            spread_a[row], spread_b[row], products[row] = moments
        return correlation(products, spread_a, spread_b)

    def influence(self) -> np.ndarray:
        """(P,) the derivative of the correlation by the weight of each row, where every row counts once; of sum 0."""
        a, b = ((column - column.mean()) / column.std() for column in self._columns)
        change: np.ndarray = (a * b - float((a * b).mean()) * (a * a + b * b) / 2) / self.rows
        return change

    def _recentred_moments(self, weights: np.ndarray) -> tuple[float, float, float]:
        drawn = weights > 0
        if not drawn.any() or (np.ptp(self._columns[:, drawn], axis=1) == 0).any():
            return 0.0, 0.0, 0.0
        columns, weights = self._columns[:, drawn], weights[drawn]
        a, b = columns - (columns @ weights / weights.sum())[:, None]
        return float(weights @ (a * a)), float(weights @ (b * b)), float(weights @ (a * b))


def _centred(column: np.ndarray) -> np.ndarray:
    """Subtract the median, which hardly depends on the outliers that are drawn; scale to [-1, 1]."""
    if not len(column):
        return column
    column = column / (np.abs(column).max() or 1.0)
    column = column - np.median(column)
    return column / (np.abs(column).max() or 1.0)


class RankStatistic(WeightedStatistic):
    """A statistic of the ranks of a first column, which many statistics of the same rows have in common.

    Attributes:
        first: digest of the first column: statistics with the same one may share what `prepare` returns.
    """

    def __init__(self, first: np.ndarray) -> None:
        self.rows = len(first)
        self.first = hashlib.sha256(first.tobytes()).digest()
        if self.rows:
            self._ranks = WeightedRanks(first)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        return self.finish(weights, *self.prepare(weights))

    def prepare(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(b, P) weights times the centred ranks of the first column, and their spread (b,)."""
        ranks, spread = self._ranks(weights)
        ranks *= weights
        return ranks, spread[:, 0]

    @abstractmethod
    def finish(self, weights: np.ndarray, weighted: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """The statistic (b,) under (b, P) float64 weights, from what `prepare` returned for them."""


class Spearman(RankStatistic):
    """Spearman's correlation, ties on the middle rank, re-ranked under every weighting.

    The same as scipy.stats.spearmanr of rows repeated by their weights.

    Example:
        >>> Spearman([1.0, 2.0, 3.0], [0.1, 0.3, 0.2])(np.array([[1, 1, 1], [1, 1, 0]])).tolist()
        [0.5, 1.0]
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        first, second = finite_column("a", a), finite_column("b", b)
        same_length(a=first, b=second)
        super().__init__(first)
        if self.rows:
            self._others = WeightedRanks(second)

    def finish(self, weights: np.ndarray, weighted: np.ndarray, spread: np.ndarray) -> np.ndarray:
        products, other = self._others.products(weights, weighted)
        return correlation(3 * products, spread, other)


class WithinSpearman(WeightedStatistic):
    """Spearman's correlation pooled over groups, after ranking within each.

    The ranks of a group of n rows are centred and divided by n, so that they run from -1/2 to 1/2 in every group:
    differences between groups have no effect. A group of one row adds nothing.

    Args:
        a: (P,) first column.
        b: (P,) second column.
        group: (P,) whole numbers, the class of each pair.

    Example:
        >>> WithinSpearman([1.0, 2.0, 8.0, 9.0], [0.2, 0.1, 0.9, 0.8], [0, 0, 1, 1]).value
        -1.0
    """

    def __init__(self, a: ArrayLike, b: ArrayLike, group: ArrayLike) -> None:
        first, second = finite_column("a", a), finite_column("b", b)
        groups = as_array("group", group, 1, np.int64)
        self.rows = same_length(a=first, b=second, group=groups)
        self._sorted = np.argsort(groups, kind="stable")
        first, second, groups = first[self._sorted], second[self._sorted], groups[self._sorted]
        self._starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if self.rows else groups
        # One group needs no scale, and stays in whole numbers.
        self._alone = Spearman(first, second) if len(self._starts) == 1 else None
        if self.rows and self._alone is None:
            self._a, self._b = WeightedRanks(first, groups), WeightedRanks(second, groups)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        weights = np.take(weights, self._sorted, axis=1)
        if self._alone is not None:
            return self._alone(weights)
        ranks_a, spread_a = self._a(weights)
        ranks_b, spread_b = self._b(weights)
        size = np.add.reduceat(weights, self._starts, axis=1)
        scale = 1 / np.where(size > 0, size, 1.0) ** 2
        products = np.add.reduceat(weights * ranks_a * ranks_b, self._starts, axis=1)
        return correlation(*((part * scale).sum(axis=1) for part in (3 * products, spread_a, spread_b)))


class HeldOutSpearman(RankStatistic):
    """VICE under `strict`: Spearman of logits with IoU at thresholds that `HeldOut` chooses again for every weighting.

    Args:
        logit: (P,) logits of true pairs.
        iou: (P, T) IoU of each pair at every threshold.
        fold: (P,) whole numbers; pairs of one image share it.
        image: (P,) the image of each pair, if all pairs of an image always have one weight: as of `HeldOut`.

    Example:
        >>> HeldOutSpearman([1.0, 2.0, 3.0], [[0.1, 0.1], [0.2, 0.3], [0.4, 0.6]], [0, 0, 1]).value
        1.0
    """

    def __init__(self, logit: ArrayLike, iou: ArrayLike, fold: ArrayLike, image: ArrayLike | None = None) -> None:
        first = finite_column("logit", logit)
        self._rule = HeldOut(finite_column("iou", iou, 2), fold, image)
        same_length(logit=first, iou=self._rule.values)
        super().__init__(first)

    def finish(self, weights: np.ndarray, weighted: np.ndarray, spread: np.ndarray) -> np.ndarray:
        chosen = self._rule.chosen(weights)
        choices, which = np.unique(chosen, axis=0, return_inverse=True)
        if len(choices) * SHARED > len(weights):
            products, other = self._chosen_ranks.products(chosen, weights, weighted)
            return correlation(3 * products, spread, other)
        # Replicates that choose the same thresholds share one sorting of the IoUs.
        result = np.empty(len(weights))
        for index, choice in enumerate(choices):
            rows = np.flatnonzero(which.reshape(-1) == index)
            products, other = WeightedRanks(self._rule.at(choice)).products(weights[rows], weighted[rows])
            result[rows] = correlation(3 * products, spread[rows], other)
        return result

    @cached_property
    def _chosen_ranks(self) -> ChosenRanks:
        return ChosenRanks(self._rule.values, self._rule.fold)


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
        mean, change = 0.0, np.zeros(self.rows)
        for c in self._shown:
            score, truth = np.ascontiguousarray(self._scores[:, c]), self._truth[:, c].astype(bool)
            levels, true = np.unique(score[truth], return_counts=True)
            reached = np.searchsorted(levels, score, side="right")  # how many levels each image reaches
            images = np.cumsum(np.bincount(reached, minlength=len(levels) + 1)[:0:-1])[::-1]
            hits = np.cumsum(true[::-1])[::-1]
            precision = hits / images
            ap = float((true * precision).sum() / hits[0])
            per_hit = np.append(0.0, np.cumsum(true / images))
            per_image = np.append(0.0, np.cumsum(true * precision / images))
            of_class = -per_image[reached]
            of_class[truth] += (per_hit[1:] + precision - ap)[reached[truth] - 1]
            change += of_class / hits[0]
            mean += ap
        classes = max(1, len(self._shown))
        return mean / classes, change / classes

    def _values(self, weights: np.ndarray) -> np.ndarray:
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        for order, positive, last, ends in self._classes:
            # Precision is only asked for where a tie holds a positive.
            images = np.take(np.cumsum(np.take(weights, order, axis=1), axis=1), last, axis=1)
            hits = np.take(np.cumsum(np.take(weights, positive, axis=1), axis=1), ends, axis=1)
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

    def _values(self, weights: np.ndarray) -> np.ndarray:
        gap, total = np.abs(weights @ self._gaps.T).sum(axis=1), weights.sum(axis=1)
        return np.divide(gap, total, out=np.full(len(weights), np.nan), where=total > 0)
