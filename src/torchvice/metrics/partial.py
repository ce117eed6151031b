"""The rank correlation given what else moves both columns: size and number of labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, same_length
from torchvice.metrics.ranks import WeightedRanks
from torchvice.metrics.weighted import WeightedStatistic, correlation, correlation_change, finite_column

__all__ = ["PartialSpearman", "cubic_splines", "merged_counts"]

PIECES = 4  # pieces of the spline; its knots are the quartiles of the area
EXPLAINED = 1e-9  # a column whose residual share of the variance is below this counts as constant
MOST_LEVELS = 50  # values of the factor: each is a term of the design
PART = 2**17  # floats of terms of rows that are built at once: what stays in the cache
# The four cubic B-splines of a piece as polynomials of the place in it, from 0 to 1: coefficients of 1, t, t^2, t^3.
PIECE = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6


def merged_counts(labels: np.ndarray) -> np.ndarray:
    """(P,) numbers of labels with at most 50 different values: the highest ones are one group, called by its lowest.

    Example:
        >>> merged_counts(np.arange(1, 53))[-5:].tolist(), merged_counts(np.array([1, 2, 90])).tolist()
        ([48, 49, 50, 50, 50], [1, 2, 90])
    """
    levels = np.unique(labels)
    return labels if len(levels) <= MOST_LEVELS else np.minimum(labels, levels[MOST_LEVELS - 1])


def cubic_splines(position: np.ndarray, pieces: int = PIECES, *, slopes: bool = False) -> np.ndarray:
    """Cubic B-splines on equal pieces of [0, 1]. They sum to 1 at every position.

    Args:
        position: positions in [0, 1], of any shape.
        pieces: number of pieces of [0, 1].
        slopes: return their derivatives by the position instead.

    Returns:
        The shape of `position`, plus a last dimension of pieces + 3.

    References:
        de Boor: A practical guide to splines, 1978. scipy.interpolate.BSpline with the same knots.

    Example:
        >>> (6 * cubic_splines(np.array([0.0, 1.0]), pieces=1)).round(6).tolist()
        [[1.0, 4.0, 1.0, 0.0], [0.0, 1.0, 4.0, 1.0]]
    """
    scaled = position * pieces
    basis = np.empty((*position.shape, pieces + 3))
    for index in range(pieces + 3):
        distance = np.abs(scaled - (index - 1))
        # (4 - 6 d^2 + 3 d^3) / 6 up to d = 1, then (2 - d)^3 / 6: a difference of two truncated cubes.
        outer, inner = np.maximum(2 - distance, 0), np.maximum(1 - distance, 0)
        if slopes:
            side = np.sign(scaled - (index - 1))
            basis[..., index] = pieces * side * (4 * inner * inner - outer * outer) / 2
            continue
        basis[..., index] = (outer * outer * outer - 4 * inner * inner * inner) / 6
    return basis


class PartialSpearman(WeightedStatistic):
    """Partial Spearman correlation of a and b given area and number of labels.

    The ranks of both columns are residualised by least squares on cubic splines of rank(area), with knots at its
    quartiles, and one indicator for each number of labels. The value is the Pearson correlation of the residuals. Every
    weighting ranks a, b and area again. Splines are needed because a straight line would keep an effect of size if
    medium objects score best.

    Args:
        a: (P,) first column.
        b: (P,) second column.
        area: (P,) area of the object, in any unit; only its ranks are used.
        labels: (P,) number of labels in the image, treated as a factor.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> area = rng.random(500)
        >>> peak = -((area - 0.5) ** 2)  # medium objects are easier and covered better
        >>> a, b = peak + 0.05 * rng.normal(size=500), peak + 0.05 * rng.normal(size=500)
        >>> partial = PartialSpearman(a, b, area, np.ones(500))
        >>> abs(partial.value) < 0.1
        True
    """

    takes_bytes = True

    def __init__(self, a: ArrayLike, b: ArrayLike, area: ArrayLike, labels: ArrayLike) -> None:
        columns = {"a": a, "b": b, "area": area, "labels": labels}
        first, second, size, count = (finite_column(name, column) for name, column in columns.items())
        self.rows = same_length(a=first, b=second, area=size, labels=count)
        levels = np.unique(count)
        if len(levels) > MOST_LEVELS:
            raise ViceError(
                f"`labels` is a factor, but has {len(levels)} different values.",
                "Merge large numbers of labels into one group: torchvice.metrics.partial.merged_counts(labels).",
            )
        # The splines and the indicators both sum to 1, so one indicator is redundant.
        self._levels = (count[:, None] == levels[1:]).astype(np.float64)
        self._terms = PIECES + 3 + self._levels.shape[1]
        self.width = 16
        if self.rows:
            self._area = WeightedRanks(size)
            # In the order of size, the pieces of the splines are runs of rows.
            self._by_size = np.argsort(size, kind="stable")
            ordered = (column[self._by_size] for column in (first, second, size))
            self._a, self._b, self._size = (WeightedRanks(column) for column in ordered)
            self._other_terms = np.ascontiguousarray(self._levels[self._by_size].T)

    def design(self, weights: np.ndarray) -> np.ndarray:
        """Design matrix of the residuals, (b, P, terms), for (b, P) float64 weights."""
        ranks, _ = self._area(weights)
        size = np.maximum(weights.sum(axis=1), 1e-300)[:, None]
        basis = cubic_splines(np.clip((ranks / size + 1) / 2, 0, 1))
        levels = np.broadcast_to(self._levels, (len(weights), *self._levels.shape))
        return np.concatenate([basis, levels], axis=2)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        weights = np.take(weights, self._by_size, axis=1)
        moments = self._moments(weights)
        fixed, mixed, own = moments[:, :-2, :-2], moments[:, :-2, -2:], moments[:, -2:, -2:]
        # The Schur complement gives the moments of the residuals without the residuals. A level or a piece that is
        # missing from a replicate makes the design rank deficient, hence the pseudo-inverse.
        left = own - mixed.transpose(0, 2, 1) @ np.linalg.pinv(fixed, rcond=1e-10, hermitian=True) @ mixed
        spread = np.diagonal(left, axis1=1, axis2=2).copy()
        spread[spread <= EXPLAINED * np.diagonal(own, axis1=1, axis2=2)] = 0
        return correlation(left[:, 0, 1], spread[:, 0], spread[:, 1])

    def linear(self) -> tuple[float, np.ndarray] | None:
        """The residuals' moments change by their products, by the ranks of both columns, and by that of the area.

        That the fit changes has no effect of the first order: residuals are orthogonal to the design.
        """
        once = np.ones((1, self.rows))
        place = (self._size(once)[0][0] / self.rows + 1) / 2
        design = np.concatenate([cubic_splines(place), self._other_terms.T], axis=1)
        ranks = np.stack([made(once)[0][0] / self.rows for made in (self._a, self._b)], axis=1)
        fit = np.linalg.lstsq(design, ranks, rcond=1e-10)[0]
        rest = ranks - design @ fit
        bend = cubic_splines(place, slopes=True) @ fit[: PIECES + 3]

        def moment(x: int, y: int) -> tuple[float, np.ndarray]:
            change = rest[:, x] * rest[:, y]
            for own, other in ((x, rest[:, y]), (y, rest[:, x])):
                change = change - ((self._a, self._b)[own].sums(other) + ranks[:, own] @ other) / self.rows
            through_area = rest[:, y] * bend[:, x] + rest[:, x] * bend[:, y]
            centred = (2 * place - 1) @ through_area
            return float(rest[:, x] @ rest[:, y]), change + (self._size.sums(through_area) + centred) / (2 * self.rows)

        (c, of_c), (a, of_a), (b, of_b) = moment(0, 1), moment(0, 0), moment(1, 1)
        found = correlation_change((c, a, b), (of_c, of_a, of_b))
        if found is None or min(a, b) <= EXPLAINED * (ranks * ranks).sum(axis=0).min():
            return None
        change = np.empty(self.rows)
        change[self._by_size] = found[1]
        return found[0], change

    def _moments(self, weights: np.ndarray) -> np.ndarray:
        """Moments (b, terms + 2, terms + 2) of `design` and the ranks of both columns; rows are in the order of size.

        Within a piece only four splines differ from 0, and they are cubics of the place in the piece: the moments of
        its powers give those of the splines.
        """
        width = self._terms + 2 - (PIECES + 3) + 4
        own = np.zeros((len(weights), PIECES, width, width))
        step = max(1, PART // (width * self.rows))
        for first in range(0, len(weights), step):
            self._put_moments_of_powers(weights[first : first + step], own[first : first + step])
        change = np.eye(width)
        change[:4, :4] = PIECE
        of_splines = change @ own @ change.T
        moments = np.zeros((len(weights), self._terms + 2, self._terms + 2))
        for piece in range(PIECES):
            terms = np.r_[piece : piece + 4, PIECES + 3 : self._terms + 2]
            moments[:, terms[:, None], terms] += of_splines[:, piece]
        return moments

    def _put_moments_of_powers(self, weights: np.ndarray, own: np.ndarray) -> None:
        """Put the moments (b, pieces, k, k) of 1, t, t^2, t^3 of the place in each piece, the levels and both ranks."""
        size = np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        place = np.clip((self._size(weights)[0] / size + 1) / 2, 0, 1) * PIECES
        columns = np.empty((len(weights), own.shape[2], self.rows))
        np.sqrt(weights, out=columns[:, 0], dtype=np.float64)
        inside = place - np.minimum(np.floor(place), PIECES - 1)
        for power in range(1, 4):
            np.multiply(columns[:, power - 1], inside, out=columns[:, power])
        np.multiply(self._other_terms, columns[:, :1], out=columns[:, 4:-2])
        for column, made in ((-2, self._a), (-1, self._b)):
            np.multiply(made(weights)[0] / size, columns[:, 0], out=columns[:, column])
        for row, spot in enumerate(place):
            edges = [0, *np.searchsorted(spot, np.arange(1, PIECES)), self.rows]
            for piece, (first, last) in enumerate(pairwise(edges)):
                part = columns[row, :, first:last]
                np.matmul(part, part.T, out=own[row, piece])
