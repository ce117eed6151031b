"""Studentised permutation tests of a correlation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError
from torchvice.metrics.association import rows_by_image
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.ranks import WeightedRanks, midranks, weighted_sums

__all__ = ["freedman_lane_p", "permutation_p", "permutes"]

BLOCK = 2**16  # rows times permutations per block: what stays in the cache
MOST_WORK = 2**26  # rows times permutations, some seconds of one core; beyond it p is that of a normal distribution
ALIKE = 1e-9  # relative tolerance: permutations as extreme as the data up to rounding count as extreme


def permutation_p(
    a: ArrayLike,
    b: ArrayLike,
    cluster: ArrayLike | None = None,
    ranks: bool = True,
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided p-value for no correlation, from permutations of b and the studentised correlation.

    Permuting makes the columns independent, but the hypothesis only states that they are uncorrelated. The test would
    reject too often if the loss varies more for some qualities than for others. So every correlation is divided by its
    robust standard error, computed again in each permutation: that of the products of deviations, summed over the rows
    of an image. With `ranks` it includes the effect of each row on the ranks of the other rows.

    Args:
        a: (P,) first column; rows with NaN are left out.
        b: (P,) second column.
        cluster: (P,) integers, the image of each row; None: every row is an image.
        ranks: test the Spearman correlation, else the Pearson correlation.
        permutations: number of permutations.
        seed: seed of the permutations.

    Returns:
        (1 + permutations at least as extreme) / (1 + permutations), in (0, 1]; where rows x permutations exceed 2^26,
        the p-value of the normal distribution, to which that of permutations tends. NaN if the correlation is
        undefined, or with fewer than three images.

    Raises:
        ViceError: lengths differ, or no permutation.

    References:
        DiCiccio, Romano: Robust permutation tests for correlation and regression coefficients, JASA 2017.

    Example:
        >>> x = np.arange(20.0)
        >>> permutation_p(x, x**2, permutations=999), permutation_p(x, np.cos(3 * x), permutations=999) > 0.05
        (0.001, True)
    """
    rows = rows_by_image(cluster, a=a, b=b)
    if rows is None:
        return float("nan")
    studentised = _rank_test(*rows) if ranks else _moment_test(*rows)
    return _p_value(studentised, len(rows[0]), permutations, seed)


def freedman_lane_p(
    a: ArrayLike,
    b: ArrayLike,
    area: ArrayLike,
    labels: ArrayLike,
    cluster: ArrayLike | None = None,
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided p-value for no partial Spearman correlation given area and number of labels.

    The design of `PartialSpearman` splits the ranks of b into fitted values and residuals. The residuals are permuted,
    added back, and residualised again. Their correlation with the residual ranks of a is divided by its robust standard
    error, as in `permutation_p`, with the ranks taken as fixed.

    Args:
        a, b, cluster, permutations, seed: as in `permutation_p`.
        area: (P,) area of the object.
        labels: (P,) number of labels in the image.

    Returns:
        In (0, 1]; NaN if the partial correlation is undefined, or with fewer than three images.

    Raises:
        ViceError: lengths differ, or no permutation.

    References:
        Freedman, Lane: A nonstochastic interpretation of reported significance levels, JBES 1983. Winkler et al.:
        Permutation inference for the general linear model, NeuroImage 2014.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> size = rng.random(200)
        >>> a, b = size + 0.1 * rng.normal(size=200), size + 0.1 * rng.normal(size=200)
        >>> permutation_p(a, b, permutations=99), freedman_lane_p(a, b, size, np.ones(200), permutations=99) > 0.05
        (0.01, True)
    """
    rows = rows_by_image(cluster, a=a, b=b, area=area, labels=labels)
    studentised = None if rows is None else _partial_test(*rows)
    if rows is None or studentised is None:
        return float("nan")
    return _p_value(studentised, len(rows[0]), permutations, seed)


def permutes(rows: int, permutations: int) -> bool:
    """Whether the tests permute so many rows; else the studentised value is taken as normally distributed."""
    return rows * permutations <= MOST_WORK


Studentised = Callable[[np.ndarray], np.ndarray]


def _partial_test(
    a: np.ndarray, b: np.ndarray, area: np.ndarray, labels: np.ndarray, image: np.ndarray
) -> Studentised | None:
    """The partial Spearman correlation over its standard error; None if it is undefined."""
    partial = PartialSpearman(a, b, area, labels)
    if np.isnan(partial.value):
        return None
    left, values, _ = np.linalg.svd(partial.design(np.ones((1, len(a))))[0], full_matrices=False)
    basis = np.ascontiguousarray(left[:, values > 1e-8 * values[0]].T)  # orthonormal rows

    def residual(columns: np.ndarray) -> np.ndarray:
        return columns - weighted_sums(columns, basis) @ basis

    own, rest = residual(np.stack([midranks(a), midranks(b)]))

    def studentised(places: np.ndarray) -> np.ndarray:
        products = own * residual(rest[places])
        return _ratio(products, products, image)

    return studentised


def _moment_test(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> Studentised:
    """The Pearson correlation over its standard error: the sum of products over the root of their sum of squares."""
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()

    def studentised(places: np.ndarray) -> np.ndarray:
        products = a * b[places]
        return _ratio(products, products, image)

    return studentised


def _rank_test(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> Studentised:
    """The Spearman correlation over its standard error, from the influence of each row.

    A row adds its product of ranks. It also shifts the ranks of all rows above it in either column by one half or one;
    `WeightedRanks` gives these running sums if ranks take the place of weights.
    """
    rank_a, rank_b = WeightedRanks(a), WeightedRanks(b)
    ones = np.ones((1, len(a)))
    # Whole numbers, which are added up in a third of the time of floats.
    u, v = (np.rint(rank(ones)[0][0]).astype(np.int64) for rank in (rank_a, rank_b))

    def studentised(places: np.ndarray) -> np.ndarray:
        partners = v[places]
        back = np.empty_like(partners)
        np.put_along_axis(back, places, np.broadcast_to(u, places.shape), axis=1)
        moved = rank_a.sums(partners) + np.take_along_axis(rank_b.sums(back), places, axis=1)
        products = u.astype(np.float64) * partners
        return _ratio(products, products - (moved - moved.mean(axis=1, keepdims=True)), image)

    return studentised


def _ratio(products: np.ndarray, influence: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Absolute sums of products over the root of the squared influence of images, (b,). Rows are sorted by image."""
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]])
    if len(starts) < len(image):
        influence = np.add.reduceat(influence, starts, axis=1)
    above, below = np.abs(products.sum(axis=1)), np.sqrt(np.vecdot(influence, influence))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above > 0, above / below, 0.0)


def _p_value(studentised: Studentised, rows: int, permutations: int, seed: int) -> float:
    if permutations < 1:
        raise ViceError(f"A permutation test needs permutations, but has {permutations}.")
    observed = float(studentised(np.arange(rows)[None])[0])
    if not permutes(rows, permutations):
        return max(math.erfc(observed / math.sqrt(2)), sys.float_info.min)
    extreme = sum(
        int((studentised(places) >= observed * (1 - ALIKE)).sum()) for places in _places(rows, permutations, seed)
    )
    return (1 + extreme) / (1 + permutations)


def _places(rows: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Random orders of the rows, in blocks."""
    rng, step = np.random.default_rng(seed), max(1, BLOCK // rows)
    for first in range(0, permutations, step):
        block = np.tile(np.arange(rows), (min(step, permutations - first), 1))
        yield rng.permuted(block, axis=1, out=block)
