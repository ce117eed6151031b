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


def correlation_change(
    moments: tuple[float, float, float], changes: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[float, np.ndarray] | None:
    """A correlation c / sqrt(a b), and its derivative from those of its moments.

    Args:
        moments: c, a and b. changes: (P,) derivatives of each.

    Returns:
        The correlation and (P,) derivatives; None where a column has no spread.
    """
    c, a, b = moments
    if not (a > 0 and b > 0):
        return None
    root = np.sqrt(a * b)
    of_c, of_a, of_b = changes
    return float(c / root), of_c / root - c / root / 2 * (of_a / a + of_b / b)


def correlation_of_ranks(
    a: WeightedRanks, b: WeightedRanks, starts: np.ndarray | None = None
) -> tuple[float, np.ndarray] | None:
    """Spearman's correlation of rows that count once, and its derivative by the weight of each: (P,).

    The centred rank of row i is the sum over the rows j of w_j sign(x_i - x_j), so that the sum over i of z_i times it
    changes with the weight of row m by the sum of z_i sign(x_i - x_m): minus `WeightedRanks.sums`.

    Args:
        a, b: the ranks of both columns. starts: the first row of each group, of ranks within groups.

    References:
        Croux, Dehon: Influence functions of the Spearman and Kendall correlation measures, 2010.
    """
    once = np.ones((1, len(a.order)))
    starts = np.zeros(1, np.int64) if starts is None else starts
    count = np.diff(starts, append=once.size)
    size = np.repeat(count, count)  # of the group of each row
    first, second = a(once)[0][0] / size, b(once)[0][0] / size

    def moment(x: np.ndarray, y: np.ndarray, through_ranks: np.ndarray) -> tuple[float, np.ndarray]:
        sums = np.add.reduceat(x * y, starts)
        return float(sums.sum()), x * y - (np.repeat(2 * sums, count) + through_ranks) / size

    found = (
        moment(first, second, a.sums(second) + b.sums(first)),
        moment(first, first, 2 * a.sums(first)),
        moment(second, second, 2 * b.sums(second)),
    )
    (c, of_c), (aa, of_aa), (bb, of_bb) = found
    return correlation_change((c, aa, bb), (of_c, of_aa, of_bb))


class WeightedStatistic(ABC):
    """A statistic of P rows under many weightings.

    Attributes:
        rows: P.
        width: the approximate number of floats that a call needs for a row and weighting.
        takes_bytes: whether `_values` also takes weights as uint8; others get them as float64.
        passes: how often a call goes through the rows of a weighting; of interest where there are a thousand classes.
        most_work: rows times passes times replicates beyond which replicates are linear, where the statistic is.
    """

    rows: int
    width = 8
    takes_bytes = False
    passes = 1
    most_work = 2**26  # about a second of one core, and a measurement has seventy statistics

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
        whole = self.takes_bytes and weights.dtype == np.uint8
        return self._values(weights if whole else weights.astype(np.float64, copy=False))

    @property
    def value(self) -> float:
        """The statistic where every row counts once."""
        return float(self(np.ones((1, self.rows)))[0])

    def linear(self) -> tuple[float, np.ndarray] | None:
        """The statistic where every row counts once, and its derivative by the weight of each row there.

        Returns:
            The value and (P,) derivatives, of sum 0; None where the statistic has no derivative.
        """
        return None

    def of_linear(self, values: np.ndarray) -> np.ndarray:
        """(b,) replicates of the statistic from those of `linear`: the same, but for a statistic that is no sum."""
        return values

    @abstractmethod
    def _values(self, weights: np.ndarray) -> np.ndarray:
        """The statistic under (b, P) weights, float64 or as `takes_bytes` says; P is at least one."""


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        value, (above, below) = self.value, self._parts
        return value, (above - value * below) / below.sum()


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        a, b = self._columns - self._columns.mean(axis=1, keepdims=True)
        return correlation_change((a @ b, a @ a, b @ b), (a * b, a * a, b * b))

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

    takes_bytes = True

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
        # No rank is larger than the sum of the weights.
        if ranks.dtype == np.int32 and int(weights.sum(axis=1).max(initial=0)) * int(weights.max(initial=0)) >= 2**31:
            ranks = ranks.astype(np.int64)
        ranks *= weights
        return ranks, spread[:, 0]

    @abstractmethod
    def finish(self, weights: np.ndarray, weighted: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """The statistic (b,) under (b, P) float64 or uint8 weights, from what `prepare` returned for them."""


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        return correlation_of_ranks(self._ranks, self._others)


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        if self._alone is not None:
            found = self._alone.linear()
        else:
            found = correlation_of_ranks(self._a, self._b, self._starts)
        if found is None:
            return None
        change = np.empty(self.rows)
        change[self._sorted] = found[1]
        return found[0], change


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

    def linear(self) -> tuple[float, np.ndarray] | None:
        """As of `Spearman` at the thresholds of all rows: a small change of the weights changes no choice."""
        return correlation_of_ranks(self._ranks, WeightedRanks(self._rule.quality))
