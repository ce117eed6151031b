"""Equal-width, equal-mass and equal-count bins. This module alone decides their edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length, to_numpy
from torchvice.metrics.parallel import in_row_blocks

__all__ = ["equal_count_means", "equal_mass_edges", "equal_mass_index", "equal_width_edges", "equal_width_index"]


def equal_width_edges(bins: int) -> np.ndarray:
    """Edges of equal-width bins on [0, 1], (bins + 1,).

    The edges are the float32 numbers of torch.linspace, as in the original. A confidence of 0.45, in float32 or
    float64, lies in the bin whose upper edge is 0.45.

    Raises:
        ViceError: fewer than one bin.
    """
    if bins < 1:
        raise ViceError(f"`bins` must be at least 1, but is {bins}.")
    # torch steps in float32 from both ends and rounds each edge once: with 20 bins it has 0.45000002, numpy 0.44999999.
    step, place = float(np.float32(1) / np.float32(bins)), np.arange(bins + 1)
    edges = np.where(place < (bins + 1) // 2, step * place, 1 - step * (bins - place))
    return edges.astype(np.float32).astype(float)


def equal_width_index(values: ArrayLike, edges: np.ndarray, first_takes_zero: bool) -> np.ndarray:
    """Bin of every value; -1 for a value outside all bins, or NaN.

    Args:
        values: (N,).
        edges: (B + 1,) increasing.
        first_takes_zero: whether the first bin is closed on both sides.

    Returns:
        (N,) int64 in -1..B-1.

    Example:
        >>> equal_width_index([0.0, 0.5, 0.6], equal_width_edges(2), first_takes_zero=False).tolist()
        [-1, 0, 1]
    """

    def place(some: np.ndarray) -> np.ndarray:
        # Right-closed. The first bin also takes 0 under `strict`; `paper` leaves it out, as published.
        index = np.searchsorted(edges, some, side="left") - 1
        if first_takes_zero:
            index[some == edges[0]] = 0
        index[index >= len(edges) - 1] = -1  # also NaN, which sorts after every number
        return index

    array = np.asarray(to_numpy(values), dtype=float)
    return in_row_blocks(lambda rows: place(array[rows]), len(array), 1)


def equal_mass_edges(values: ArrayLike, bins: int) -> np.ndarray:
    """Edges of bins of equal count: the quantiles of the values.

    Args:
        values: (N,) numbers.
        bins: maximum number of bins. Equal edges are merged, so equal values share a bin and the order of the rows
            does not matter.

    Returns:
        (B + 1,) with 1 <= B <= bins, from the smallest to the largest value; [0, 1] without values.

    Raises:
        ViceError: fewer than one bin, or a NaN.

    References:
        scikit-learn's calibration_curve(strategy="quantile") uses the same bins.

    Example:
        >>> equal_mass_edges([0.1, 0.2, 0.6, 0.9, 1.0], 2).tolist()
        [0.1, 0.6, 1.0]
    """
    array = as_array("values", values, 1)
    if bins < 1:
        raise ViceError(f"`bins` must be at least 1, but is {bins}.")
    if not len(array):
        return np.array([0.0, 1.0])
    edges = np.unique(_quantiles(array, np.arange(bins + 1) / bins))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def _quantiles(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """As numpy.quantile, bit for bit: of many shares it takes three times as long as sorting all values.

    numpy goes from the nearer neighbour towards the other one, so that the same is done here.
    """
    ordered = np.sort(values)
    if np.isnan(ordered[-1]):
        raise ViceError(f"`values` must be numbers, but {int(np.isnan(ordered).sum())} of {len(ordered)} are NaN.")
    exact = shares * (len(values) - 1)
    below = np.floor(exact).astype(np.int64)
    low, high = ordered[below], ordered[np.minimum(below + 1, len(values) - 1)]
    share = exact - below
    step = high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


def equal_mass_index(values: ArrayLike, edges: np.ndarray) -> np.ndarray:
    """Bin of every value, (N,) int64, for edges from `equal_mass_edges`: (lo, hi], the first bin closed on both sides.

    Example:
        >>> equal_mass_index([0.1, 0.6, 0.7], np.array([0.1, 0.6, 1.0])).tolist()
        [0, 0, 1]
    """

    def place(some: np.ndarray) -> np.ndarray:
        index = np.searchsorted(edges, some, side="left")
        index -= 1
        return np.maximum(index, 0, out=index)

    array = as_array("values", values, 1)
    return in_row_blocks(lambda rows: place(array[rows]), len(array), 1)


def equal_count_means(loss: ArrayLike, quality: ArrayLike, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss and mean quality in bins of equal count, after sorting by loss.

    Args:
        loss: (N,) sort key; ties keep their order.
        quality: (N,).
        bins: number of bins; the first N mod bins hold one more image.

    Returns:
        Two (bins,) arrays; NaN for an empty bin (fewer images than bins) or a bin with a NaN.

    Example:
        >>> [m.tolist() for m in equal_count_means([3.0, 1.0, 2.0], [0.0, 1.0, 0.5], 2)]
        [[1.5, 3.0], [0.75, 0.0]]
    """
    values, scores = as_array("loss", loss, 1), as_array("quality", quality, 1)
    same_length(loss=values, quality=scores)
    if bins < 1:
        raise ViceError(f"`bins` must be at least 1, but is {bins}.")
    parts = np.array_split(np.argsort(values, kind="stable"), bins)
    means = [(values[p].mean(), scores[p].mean()) if len(p) else (np.nan, np.nan) for p in parts]
    return np.array([m[0] for m in means]), np.array([m[1] for m in means])
