"""Ranks with ties on the middle rank, and sums: of a column, and of many weightings of one column at once."""

from __future__ import annotations

import numpy as np

EXACT = 2.0**53  # float64 holds whole numbers up to here
PART = 2**16  # floats of a part of a block: what stays in the cache
SHORT = 2**22  # rows whose weights, as bytes, have doubled sums of 31 bits

__all__ = ["ChosenRanks", "WeightedRanks", "midranks", "running_sums", "weighted_sums"]


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; ties get their mean rank. As scipy.stats.rankdata, without the second that its import takes.

    Example:
        >>> midranks(np.array([0.3, 0.0, 0.0])).tolist()
        [3.0, 1.5, 1.5]
    """
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.r_[len(values) > 0, ordered[1:] != ordered[:-1]])
    count = np.diff(first, append=len(values))
    del ordered
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (count + 1) / 2, count)
    return ranks


def weighted_sums(weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(b, P) weights and (k, P) columns: (b, k) weighted sums.

    Dot products of vectors rather than a product of matrices: a sum does not depend on the other rows and columns of
    the block, so that equal columns have equal sums, and no thread waits for another one on a busy machine (where a
    product of matrices took ten times as long).
    """
    return np.vecdot(weights[:, None, :], columns)


def running_sums(values: np.ndarray) -> np.ndarray:
    """float64 running sums along the last axis; of whole numbers in a third of numpy's time, of bytes in a sixth.

    numpy takes ten times as long to add up floats in a row as integers, since each addition waits for the one before.
    Whole numbers up to 2^53 have the same sums either way.

    Example:
        >>> running_sums(np.array([[2.0, 0.0, 3.0], [0.5, 0.25, 0.0]])).tolist()
        [[2.0, 2.0, 5.0], [0.5, 0.75, 0.75]]
    """
    if values.dtype == np.uint8 or values.dtype.kind == "i":
        return _narrow_sums(values).astype(np.float64)
    if _are_whole(values):
        return np.cumsum(values.astype(np.int64), axis=-1).astype(np.float64)
    return np.cumsum(values, axis=-1, dtype=np.float64)


def _narrow_sums(values: np.ndarray) -> np.ndarray:
    """As `running_sums`, but whole numbers stay whole."""
    kind = _kind_of_sums(values)
    return running_sums(values) if kind is np.float64 else np.cumsum(values, axis=-1, dtype=kind)


def _kind_of_sums(values: np.ndarray) -> type:
    """What sums along the last axis are: int32 of bytes, whose doubled sums fit, int64 of integers, else float64."""
    if values.dtype == np.uint8:
        return np.int32 if values.shape[-1] < SHORT else np.int64
    return np.int64 if values.dtype.kind == "i" else np.float64


def _are_whole(values: np.ndarray) -> bool:
    """Whether values are whole numbers whose sums in a row are exact."""
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    return bool(max(high, -low) * values.shape[-1] < EXACT and (np.floor(values) == values).all())


def _steps(upper: np.ndarray) -> np.ndarray:
    """Differences along the last axis, of which the running sums are `upper`; in half the time of numpy.diff."""
    steps = np.empty_like(upper)
    steps[..., :1] = upper[..., :1]
    np.subtract(upper[..., 1:], upper[..., :-1], out=steps[..., 1:])
    return steps


def _between(upper: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """The sum of the weights up to a tie and of those below it, in place of `upper`."""
    upper *= 2
    upper -= tied
    return upper


class WeightedRanks:
    """Midranks of a column under many weightings: one sort, then one running sum for each weighting.

    A row of weight w stands for w equal rows. With n rows in total, ranks are returned as 2 rank - (n + 1). For integer
    weights they are integers. They sum to 0, and their weighted squares sum to a third of n^3 minus the cubed weights
    of the ties.

    Args:
        values: (P,) numbers, without NaN.
        group: (P,) group of each row; rows are ranked within their group. None: one group.

    Example:
        >>> ranks, spread = WeightedRanks(np.array([0.3, 0.0, 0.0]))(np.ones((1, 3)))
        >>> ranks.tolist(), spread.tolist()
        ([[2.0, -1.0, -1.0]], [[18.0]])
    """

    def __init__(self, values: np.ndarray, group: np.ndarray | None = None) -> None:
        self.order = np.argsort(values) if group is None else np.lexsort((values, group))
        ordered = values[self.order]
        new_group = np.arange(len(values)) == 0
        if group is not None:
            new_group[1:] |= np.diff(group[self.order]) != 0
        new = new_group.copy()
        new[1:] |= ordered[1:] != ordered[:-1]
        tie = np.cumsum(new) - 1
        self.tie = np.empty_like(tie)
        self.tie[self.order] = tie
        self.first_tie = tie[new_group]
        self.group_of_tie = (np.cumsum(new_group) - 1)[new]
        # A row of each tie; those of ties of several rows, all of them in order, and the places of these ties.
        self._first = self.order[new]
        several = np.bincount(tie) > 1 if len(tie) else np.zeros(0, bool)
        self._several = np.flatnonzero(several)
        self._rows_of_several = self.order[several[tie]]
        self._starts_of_several = np.flatnonzero(new[several[tie]])

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return centred and doubled ranks, and their spread.

        Args:
            weights: (b, P) float64, 0 or more; or uint8, which is faster.

        Returns:
            (b, P) ranks, int32 or int64 of bytes and float64 of floats, and the spread (b, G): n^3 minus the cubes of
            the ties of each group, which is three times the weighted sum of squared ranks; 0 for a group with a single
            value.
        """
        ranks, tied, size = self._ranks_of_ties(weights)
        tied, cube = tied.astype(np.float64, copy=False), size.astype(np.float64) ** 3
        spread = cube - np.add.reduceat(tied * tied * tied, self.first_tie, axis=1)
        # With fractional weights, a group of one tie leaves rounding noise.
        spread[spread <= 1e-12 * cube] = 0
        return np.take(ranks, self.tie, axis=1), spread

    def _ranks_of_ties(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rank and the weight of each tie, in the order of the values, and the weight of each group."""
        upper, tied = self._weights_of_ties(weights)
        if len(self.first_tie) == 1:
            size = upper[:, -1:].copy() if upper.dtype.kind == "i" else weights.sum(axis=1, keepdims=True)
            ranks = _between(upper, tied)
            ranks -= size
        else:
            ranks = _between(upper, tied)
            size = np.add.reduceat(tied, self.first_tie, axis=1)
            edges = np.cumsum(size, axis=1)
            ranks -= np.take(2 * edges - size, self.group_of_tie, axis=1)
        return ranks, tied, size

    def _weights_of_ties(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each tie, in the order of the values, the sum of the weights up to it, and its own weight."""
        kind = _kind_of_sums(weights)
        tied = self._sums_of_ties(weights, kind)
        return running_sums(tied) if kind is np.float64 else np.cumsum(tied, axis=1, dtype=kind), tied

    def _sums_of_ties(self, values: np.ndarray, kind: type) -> np.ndarray:
        """(b, T) sums of (b, P) values over each tie, in the order of the ties."""
        sums = np.take(values, self._first, axis=1).astype(kind, copy=False)
        if len(self._several):
            rows = np.take(values, self._rows_of_several, axis=1).astype(kind, copy=False)
            sums[:, self._several] = np.add.reduceat(rows, self._starts_of_several, axis=1)
        return sums

    def sums(self, other: np.ndarray) -> np.ndarray:
        """For each row the sum of `other`, (..., P), over the rows of its group that lie below, minus those above."""
        ranks = self._ranks_of_ties(other.reshape(-1, other.shape[-1]))[0]
        return np.take(ranks, self.tie, axis=1).reshape(other.shape)

    def products(self, weights: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of `other` times the ranks of one group, and the spread of the ranks, in half the time of `__call__`.

        Args:
            weights: (b, P) float64, 0 or more; or uint8, which is faster.
            other: (b, P) numbers that sum to 0 in each row, such as weights times centred ranks of another column.

        Returns:
            (b,) sums, and the spread (b,).

        Example:
            >>> ranks, once = WeightedRanks(np.array([0.3, 0.0, 0.0])), np.ones((1, 3))
            >>> [part.tolist() for part in ranks.products(once, ranks(once)[0])]
            [[6.0], [18.0]]
        """
        upper, tied = self._weights_of_ties(weights)
        own = self._sums_of_ties(other, np.float64)
        cube = upper[:, -1].astype(np.float64) ** 3
        # What the ranks are centred by has no effect, since the sum of `other` is 0.
        ranks = _between(upper, tied).astype(np.float64, copy=False)
        sums = np.vecdot(ranks, own)
        tied = tied.astype(np.float64, copy=False)
        spread = cube - np.vecdot(tied * tied, tied)
        return sums, np.where(spread <= 1e-12 * cube, 0, spread)


class ChosenRanks:
    """The ranks of a column that every weighting puts together for itself: each fold's rows from a chosen column.

    All values are numbered once, ties alike. A number and the row's place make one key, and sorting short whole numbers
    takes a tenth of the time of sorting floats by their index.

    Args:
        values: (P, T) numbers, without NaN.
        fold: (P,) whole numbers 0 to F - 1.

    Example:
        >>> ranks = ChosenRanks(np.array([[0.3, 0.0], [0.0, 0.1], [0.0, 0.2]]), np.array([0, 1, 1]))
        >>> other = np.array([[2.0, -1.0, -1.0], [2.0, -1.0, -1.0]])
        >>> [part.tolist() for part in ranks.products(np.array([[0, 0], [1, 1]]), np.ones((2, 3)), other)]
        [[6.0, -6.0], [18.0, 24.0]]
    """

    def __init__(self, values: np.ndarray, fold: np.ndarray) -> None:
        number = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        self._bits = max(len(values) - 1, 0).bit_length()
        whole = (int(number.max(initial=0)) + 1) << self._bits
        kind = np.dtype(np.uint32 if whole < 1 << 32 else np.uint64)
        keys = (number.astype(kind) << self._bits) + np.arange(len(values), dtype=kind)[:, None]
        self._keys = [np.ascontiguousarray(keys[fold == f].T) for f in range(int(fold.max(initial=-1)) + 1)]

    def products(self, chosen: np.ndarray, weights: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums of `other` times the ranks, and their spread: as `WeightedRanks.products`.

        Args:
            chosen: (b, F) the column of each fold's rows, 0 to T - 1.
            weights: (b, P) float64, 0 or more; or uint8, which is faster.
            other: (b, P) numbers that sum to 0 in each row.

        Returns:
            (b,) sums, and the spread (b,).
        """
        step = max(1, PART // max(1, weights.shape[1]))
        parts = [slice(first, first + step) for first in range(0, len(weights), step)]
        sums = [self._products(chosen[part], weights[part], other[part]) for part in parts]
        return np.concatenate([part for part, _ in sums]), np.concatenate([part for _, part in sums])

    def _products(self, chosen: np.ndarray, weights: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = np.concatenate([column[at] for column, at in zip(self._keys, chosen.T, strict=True)], axis=1)
        keys.sort(axis=1)
        rows, width = keys.shape
        place = (keys & keys.dtype.type((1 << self._bits) - 1)).astype(np.intp)
        place += np.arange(0, rows * width, width)[:, None]
        keys >>= self._bits
        last = np.ones(keys.shape, bool)
        np.not_equal(keys[:, 1:], keys[:, :-1], out=last[:, :-1])
        ends, place = np.flatnonzero(last), place.ravel()
        first = np.searchsorted(ends, np.arange(0, rows * width, width))
        # Sums run through the block: what a row adds to the ranks of the next is one constant for all of its ranks.
        upper = np.take(_narrow_sums(np.take(weights, place)), ends)
        tied = _steps(upper)
        own = _steps(np.take(_narrow_sums(np.take(other, place)), ends)).astype(np.float64, copy=False)
        own *= _between(upper, tied)
        tied = tied.astype(np.float64, copy=False)
        size = np.add.reduceat(tied, first)
        spread = size**3 - np.add.reduceat(tied * tied * tied, first)
        return np.add.reduceat(own, first), np.where(spread <= 1e-12 * size**3, 0, spread)
