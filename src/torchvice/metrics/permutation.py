"""Whether a correlation could be chance: studentised permutation tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.association import complete_rows, why_undefined
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.ranks import WeightedRanks, midranks, weighted_sums

__all__ = ["freedman_lane_p", "permutation_p"]

BLOCK = 2**17  # rows times permutations that are worked on at once
ALIKE = 1e-9  # relative: permutations as extreme as the data up to rounding count as being so


def permutation_p(
    a: ArrayLike,
    b: ArrayLike,
    cluster: ArrayLike | None = None,
    ranks: bool = True,
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided p-value of no correlation: b is permuted against a, and the correlation divided by its standard error.

    Permuting makes the columns independent, while the hypothesis only says that they are not correlated; without the
    standard error, which is taken anew in every permutation, losses that vary more for some qualities than for others
    reject too often. It is robust: of the products of deviations, summed over the rows of an image; with `ranks` also
    of what each row does to the ranks of the others.

    Args:
        a: (P,) first column; rows with NaN are left out.
        b: (P,) second column.
        cluster: (P,) whole numbers, the image of each row; None: every row is an image.
        ranks: test Spearman's correlation, else Pearson's.
        permutations: how many are drawn.
        seed: of the draws.

    Returns:
        (1 + permutations at least as extreme) / (1 + permutations), in (0, 1]; NaN where the correlation is undefined
        or with fewer than three images.

    Raises:
        ViceError: lengths differ, or no permutation.

    References:
        DiCiccio, Romano: Robust permutation tests for correlation and regression coefficients, JASA 2017.

    Example:
        >>> x = np.arange(20.0)
        >>> permutation_p(x, x**2, permutations=999), permutation_p(x, np.cos(3 * x), permutations=999) > 0.05
        (0.001, True)
    """
    images = np.arange(len(as_array("a", a, 1))) if cluster is None else as_array("cluster", cluster, 1, np.int64)
    (first, second, image), _ = complete_rows(a=a, b=b, cluster=images)
    if _undefined(first, second, image):
        return float("nan")
    order = np.argsort(image, kind="stable")
    first, second, image = first[order], second[order], image[order]
    studentised = _rank_test(first, second, image) if ranks else _moment_test(first, second, image)
    return _p_value(studentised, len(first), permutations, seed)


def freedman_lane_p(
    a: ArrayLike,
    b: ArrayLike,
    area: ArrayLike,
    labels: ArrayLike,
    cluster: ArrayLike | None = None,
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided p-value of no partial Spearman correlation given area and number of labels.

    The ranks of b are split into what the design of `PartialSpearman` explains and the rest; the rest is permuted, put
    back, and residualised again. The correlation with the residual ranks of a is divided by its robust standard error,
    as in `permutation_p`; the ranks are taken as given.

    Args:
        a: (P,) first column; rows with NaN are left out.
        b: (P,) second column.
        area: (P,) of the object.
        labels: (P,) number of labels of the image.
        cluster: (P,) whole numbers, the image of each row; None: every row is an image.
        permutations: how many are drawn.
        seed: of the draws.

    Returns:
        In (0, 1]; NaN where the partial correlation is undefined or with fewer than three images.

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
    images = np.arange(len(as_array("a", a, 1))) if cluster is None else as_array("cluster", cluster, 1, np.int64)
    (first, second, size, count, image), _ = complete_rows(a=a, b=b, area=area, labels=labels, cluster=images)
    if _undefined(first, second, image):
        return float("nan")
    order = np.argsort(image, kind="stable")
    first, second, size, count, image = (column[order] for column in (first, second, size, count, image))
    partial = PartialSpearman(first, second, size, count)
    if np.isnan(partial.value):
        return float("nan")
    left, values, _ = np.linalg.svd(partial.design(np.ones((1, len(first))))[0], full_matrices=False)
    basis = np.ascontiguousarray(left[:, values > 1e-8 * values[0]].T)  # orthonormal rows

    def residual(columns: np.ndarray) -> np.ndarray:
        return columns - np.einsum("bk,kp->bp", weighted_sums(columns, basis), basis)

    own, rest = residual(np.stack([midranks(first), midranks(second)]))

    def studentised(places: np.ndarray) -> np.ndarray:
        products = own * residual(rest[places])
        return _ratio(products, products, image)

    return _p_value(studentised, len(first), permutations, seed)


Studentised = Callable[[np.ndarray], np.ndarray]


def _undefined(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> bool:
    return bool(why_undefined({"a": a, "b": b})) or len(np.unique(image)) < 3


def _moment_test(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> Studentised:
    """Pearson's correlation over its standard error: the sum of products over the root of their sum of squares."""
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()

    def studentised(places: np.ndarray) -> np.ndarray:
        products = a * b[places]
        return _ratio(products, products, image)

    return studentised


def _rank_test(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> Studentised:
    """Spearman's correlation over its standard error, from the influence of each row.

    A row adds its own product of ranks, and moves by one half or one rank the partners of all that lie above it in
    either column: the running sums that `WeightedRanks` gives for ranks in place of weights.
    """
    rank_a, rank_b = WeightedRanks(a), WeightedRanks(b)
    ones = np.ones((1, len(a)))
    u, v = rank_a(ones)[0][0], rank_b(ones)[0][0]

    def studentised(places: np.ndarray) -> np.ndarray:
        partners = v[places]
        back = np.empty_like(partners)
        np.put_along_axis(back, places, np.broadcast_to(u, places.shape), axis=1)
        above_a = rank_a(partners)[0]
        above_b = np.take_along_axis(rank_b(back)[0], places, axis=1)
        products = u * partners
        moved = above_a + above_b
        return _ratio(products, products - (moved - moved.mean(axis=1, keepdims=True)), image)

    return studentised


def _ratio(products: np.ndarray, influence: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(b,) absolute sums of products over the root of the squared influence of images; rows lie image by image."""
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]])
    if len(starts) < len(image):
        influence = np.add.reduceat(influence, starts, axis=1)
    above, below = np.abs(products.sum(axis=1)), np.sqrt(np.einsum("bi,bi->b", influence, influence))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above > 0, above / below, 0.0)


def _p_value(studentised: Studentised, rows: int, permutations: int, seed: int) -> float:
    if permutations < 1:
        raise ViceError(f"A permutation test needs permutations, but has {permutations}.")
    observed = float(studentised(np.arange(rows)[None])[0])
    extreme = sum(
        int((studentised(places) >= observed * (1 - ALIKE)).sum()) for places in _places(rows, permutations, seed)
    )
    return (1 + extreme) / (1 + permutations)


def _places(rows: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Random orders of the rows, block by block."""
    rng, step = np.random.default_rng(seed), max(1, BLOCK // rows)
    for first in range(0, permutations, step):
        block = np.tile(np.arange(rows), (min(step, permutations - first), 1))
        yield rng.permuted(block, axis=1, out=block)
