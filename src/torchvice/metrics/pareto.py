"""Two numbers of many models: the Pareto front, and what the second one is beyond what the first predicts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import as_array, same_length

__all__ = ["on_front", "residuals_given", "spline_columns"]

STRAIGHT = 30  # models; with fewer the prediction is a straight line
KNOTS = (0.05, 0.35, 0.65, 0.95)  # quantiles of the first number; Harrell's for four knots
SINGULAR = 1e-10


def on_front(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Which models no other one beats: none is as good in both numbers and better in one. Higher is better.

    Args:
        first, second: (b, m) two numbers of m models, in b replicates. NaN is never on the front.

    Returns:
        (b, m) bool. Models with the same two numbers are on the front together.

    Example:
        >>> on_front([[0.9, 0.8, 0.7, 0.9]], [[0.1, 0.3, 0.2, 0.1]]).tolist()
        [[True, True, False, True]]
    """
    x, y = as_array("first", first, 2, np.float64), as_array("second", second, 2, np.float64)
    same_length(first=x.T, second=y.T)
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = np.where(known, x, -np.inf), np.where(known, y, -np.inf)
    order = np.lexsort((-y, -x), axis=1)
    across, up = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
    best = np.maximum.accumulate(up, axis=1)
    found = np.ones(x.shape, bool)  # the first of all is on the front; so is who is higher than all before it
    found[:, 1:] = up[:, 1:] > best[:, :-1]
    # Who equals the one before it in both numbers shares its fate.
    equal = (across[:, 1:] == across[:, :-1]) & (up[:, 1:] == up[:, :-1])
    start = np.maximum.accumulate(np.where(np.pad(equal, ((0, 0), (1, 0))), 0, np.arange(x.shape[1])), axis=1)
    found = np.take_along_axis(found, start, axis=1)
    result = np.empty_like(found)
    np.put_along_axis(result, order, found, axis=1)
    return result & known


def spline_columns(values: np.ndarray, knots: np.ndarray | None) -> np.ndarray:
    """(..., m, k) columns of a regression on (..., m) values: 1 and the value, with knots also a natural cubic spline.

    The restricted cubic spline is straight beyond the outer knots. Harrell: Regression modeling strategies, 2015.
    """
    columns = [np.ones_like(values), values]
    if knots is not None:
        whole, last, before = knots[-1] - knots[0], knots[-1], knots[-2]

        def cubed(knot: float) -> np.ndarray:
            part: np.ndarray = np.maximum(values - knot, 0.0) ** 3
            return part

        for knot in knots[:-2].tolist():
            bend = cubed(knot) - cubed(before) * (last - knot) / (last - before)
            columns.append((bend + cubed(last) * (before - knot) / (last - before)) / whole**2)
    return np.stack(columns, axis=-1)


def residuals_given(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """What `second` is beyond what `first` predicts over the models, by least squares; first row: the estimates.

    The prediction is a straight line with fewer than 30 models, else a natural cubic spline with four knots at the 5,
    35, 65 and 95 % quantiles of the first row. It is fitted again in every replicate, with the same knots.

    Args:
        first, second: (1 + b, m) two numbers of m models: the estimates, then b replicates. Without NaN.

    Returns:
        (1 + b, m) residuals, and (m,) the prediction of the estimates.

    Example:
        >>> left, line = residuals_given([[0.1, 0.2, 0.3, 0.4]], [[1.0, 2.0, 3.0, 5.0]])
        >>> left.round(3).tolist(), line.round(3).tolist()
        ([[0.2, -0.1, -0.4, 0.3]], [0.8, 2.1, 3.4, 4.7])
    """
    x, y = as_array("first", first, 2, np.float64), as_array("second", second, 2, np.float64)
    same_length(first=x.T, second=y.T)
    middle, spread = x[0].mean(), x[0].std() or 1.0
    x = (x - middle) / spread
    knots = np.quantile(x[0], KNOTS) if x.shape[1] >= STRAIGHT else None
    if knots is not None and (np.diff(knots) <= SINGULAR).any():
        knots = None  # too few different values
    left, line = np.empty_like(y), np.empty(y.shape[1])
    step = max(1, 2**20 // max(1, x.shape[1]))
    for at in range(0, len(x), step):
        part = slice(at, at + step)
        design = spline_columns(x[part], knots)
        squares = np.einsum("bmk,bml->bkl", design, design)
        products = np.einsum("bmk,bm->bk", design, y[part])
        factors = np.einsum("bkl,bl->bk", np.linalg.pinv(squares, rcond=SINGULAR, hermitian=True), products)
        fit = np.einsum("bmk,bk->bm", design, factors)
        left[part] = y[part] - fit
        if not at:
            line = fit[0]
    return left, line
