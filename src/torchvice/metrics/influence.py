"""Influence of each row on a statistic: its derivative by the row's weight, from which linear replicates are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import same_length
from torchvice.metrics.ranks import WeightedRanks
from torchvice.metrics.weighted import finite_column

__all__ = ["spearman_influence"]


def spearman_influence(a: ArrayLike, b: ArrayLike) -> tuple[float, np.ndarray]:
    """Spearman's correlation and its derivative by the weight of each row, where every row counts once.

    With u and v the doubled, centred midranks, the correlation is S / sqrt(A B), S = sum u v, A = sum u^2, B = sum v^2.
    Weight added to a row adds its own product, and moves the ranks of all rows above and below it.

    Args:
        a, b: (P,) columns.

    Returns:
        The correlation in [-1, 1], NaN where a column does not vary, and (P,) derivatives of sum 0. The value plus the
        sum of (weight - 1) times derivative is the linear replicate, the infinitesimal jackknife.

    Raises:
        ViceError: lengths differ, or a value is not finite.

    References:
        Efron, Tibshirani: An introduction to the bootstrap, 1993, chapter 22. Croux, Dehon: Influence functions of the
        Spearman and Kendall correlation measures, Statistical Methods and Applications 2010.

    Example:
        >>> value, change = spearman_influence([1.0, 2.0, 3.0], [0.1, 0.3, 0.2])
        >>> round(value, 3), change.round(3).tolist()
        (0.5, [0.5, -0.25, -0.25])
    """
    first, second = finite_column("a", a), finite_column("b", b)
    rows = same_length(a=first, b=second)
    if not rows:
        return float("nan"), np.zeros(0)
    rank_a, rank_b, once = WeightedRanks(first), WeightedRanks(second), np.ones((1, rows))
    u, v = rank_a(once)[0][0], rank_b(once)[0][0]
    spread_a, spread_b = float(u @ u), float(v @ v)
    if not spread_a or not spread_b:
        return float("nan"), np.zeros(rows)
    value = float(u @ v / np.sqrt(spread_a * spread_b))
    products = u * v + _moved(rank_a, v) + _moved(rank_b, u)
    squares_a, squares_b = u * u + 2 * _moved(rank_a, u), v * v + 2 * _moved(rank_b, v)
    change = products / np.sqrt(spread_a * spread_b) - value / 2 * (squares_a / spread_a + squares_b / spread_b)
    return min(1.0, max(-1.0, value)), change


def _moved(ranks: WeightedRanks, partner: np.ndarray) -> np.ndarray:
    """What a row's weight adds to the sum of ranks times `partner`: those above it less those below it.

    `partner` sums to 0. As weights, the ranks of `WeightedRanks` are twice the sum below plus that of the tie: the
    negative of what is wanted.
    """
    moved: np.ndarray = -ranks(partner[None])[0][0]
    return moved
