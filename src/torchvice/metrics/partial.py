"""Partial rank correlation given the size of the object and the number of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, same_length
from torchvice.metrics.ranks import WeightedRanks
from torchvice.metrics.weighted import WeightedStatistic, correlation, finite_column

__all__ = ["PartialSpearman", "cubic_splines"]

PIECES = 4  # pieces of the spline; its knots are the quartiles of the area
EXPLAINED = 1e-9  # a column whose residual share of the variance is below this counts as constant
BLOCK = 2**21  # floats of the design matrices that are built at once


def cubic_splines(position: np.ndarray, pieces: int = PIECES) -> np.ndarray:
    """Cubic B-splines on equal pieces of [0, 1]. They sum to 1 at every position.

    Args:
        position: positions in [0, 1], of any shape.
        pieces: number of pieces of [0, 1].

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

    def __init__(self, a: ArrayLike, b: ArrayLike, area: ArrayLike, labels: ArrayLike) -> None:
        columns = {"a": a, "b": b, "area": area, "labels": labels}
        first, second, size, count = (finite_column(name, column) for name, column in columns.items())
        self.rows = same_length(a=first, b=second, area=size, labels=count)
        levels = np.unique(count)
        if len(levels) > 50:
            raise ViceError(
                f"`labels` is a factor, but has {len(levels)} different values.",
                "Merge large numbers of labels into one group.",
            )
        # The splines and the indicators both sum to 1, so one indicator is redundant.
        self._levels = (count[:, None] == levels[1:]).astype(np.float64)
        self._terms = PIECES + 3 + self._levels.shape[1]
        self.width = 16
        if self.rows:
            self._a, self._b, self._area = (WeightedRanks(column) for column in (first, second, size))

    def design(self, weights: np.ndarray) -> np.ndarray:
        """Design matrix of the residuals, (b, P, terms), for (b, P) float64 weights."""
        ranks, _ = self._area(weights)
        size = np.maximum(weights.sum(axis=1), 1e-300)[:, None]
        basis = cubic_splines(np.clip((ranks / size + 1) / 2, 0, 1))
        levels = np.broadcast_to(self._levels, (len(weights), *self._levels.shape))
        return np.concatenate([basis, levels], axis=2)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        step = max(1, BLOCK // (self.rows * (self._terms + 2)))
        parts = [self._block(weights[first : first + step]) for first in range(0, len(weights), step)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _block(self, weights: np.ndarray) -> np.ndarray:
        ranks = np.stack([self._a(weights)[0], self._b(weights)[0]], axis=2)
        ranks /= np.maximum(weights.sum(axis=1), 1e-300)[:, None, None]
        rows = np.concatenate([self.design(weights), ranks], axis=2) * np.sqrt(weights)[:, :, None]
        moments = rows.transpose(0, 2, 1) @ rows
        fixed, mixed, own = moments[:, :-2, :-2], moments[:, :-2, -2:], moments[:, -2:, -2:]
        # The Schur complement gives the moments of the residuals without the residuals. A level or a piece that is
        # missing from a replicate makes the design rank deficient, hence the pseudo-inverse.
        left = own - mixed.transpose(0, 2, 1) @ np.linalg.pinv(fixed, rcond=1e-10, hermitian=True) @ mixed
        spread = np.diagonal(left, axis1=1, axis2=2).copy()
        spread[spread <= EXPLAINED * np.diagonal(own, axis1=1, axis2=2)] = 0
        return correlation(left[:, 0, 1], spread[:, 0], spread[:, 1])
