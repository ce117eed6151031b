"""Localisation measures without a threshold, from histograms of the maps inside and outside their objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.parallel import results_of, row_blocks

__all__ = ["histogram_iou", "iou_area", "pixel_average_precision", "renormalised_iou"]

Rescaling = Literal["max", "minmax", "percentile"]
RESCALINGS: tuple[Rescaling, ...] = ("max", "minmax", "percentile")
_PERCENTILE = 0.99
_Result = TypeVar("_Result")


def _by_blocks(
    inside: ArrayLike, outside: ArrayLike, compute: Callable[[np.ndarray, np.ndarray], _Result]
) -> list[_Result]:
    """What `compute` returns for each block of rows of both histograms as floats; one without rows if there are none.

    Several blocks are computed at a time.
    """
    first, second = as_array("inside", inside, 2, None), as_array("outside", outside, 2, None)

    def result(rows: slice) -> _Result:
        # A block of the other one may be shorter, which is refused.
        return compute(*_histograms(first[rows], second[rows] if len(first) == len(second) else second))

    return results_of(result, row_blocks(*first.shape))


def _histograms(inside: ArrayLike, outside: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = as_array("inside", inside, 2), as_array("outside", outside, 2)
    if first.shape != second.shape or not first.shape[1]:
        raise ViceError(
            f"`inside` and `outside` must be (P, B) histograms of one shape, but are {first.shape} and {second.shape}."
        )
    if (first < 0).any() or (second < 0).any():
        raise ViceError("`inside` and `outside` must be counts of pixels, but one is negative.")
    return first, second


def pixel_average_precision(inside: ArrayLike, outside: ArrayLike) -> float:
    """PxAP: average precision of all pixels (object or not), ranked by map value.

    Args:
        inside: (P, B) histogram of each map inside its object.
        outside: (P, B) histogram outside. Pixels of one bin are tied and enter together.

    Returns:
        In [0, 1], higher is better; an uninformative map scores the objects' share of the pixels. NaN without object
        pixels.

    Raises:
        ViceError: shapes differ, or negative counts.

    References:
        Choe et al., Evaluating weakly supervised object localization methods right, CVPR 2020.

    Example:
        >>> pixel_average_precision([[0, 2]], [[3, 0]])
        1.0
    """
    sums = _by_blocks(inside, outside, lambda hit, miss: (hit.sum(axis=0), miss.sum(axis=0)))
    hit, miss = (np.sum(parts, axis=0)[::-1] for parts in zip(*sums, strict=True))
    total = hit.sum()
    if not total:
        return float("nan")
    above = np.cumsum(hit)
    precision = np.divide(above, above + np.cumsum(miss), out=np.zeros_like(above), where=hit > 0)
    return float((precision * hit).sum() / total)


def histogram_iou(inside: ArrayLike, outside: ArrayLike) -> np.ndarray:
    """IoU of each map with its object, (P, B), if bin b and all higher bins are foreground.

    NaN for a map without object pixels.

    Example:
        >>> histogram_iou([[0, 2]], [[2, 0]]).tolist()
        [[0.5, 1.0]]
    """
    hit, miss = _histograms(inside, outside)
    shared, false = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (hit, miss))
    pixels = hit.sum(axis=1, keepdims=True)
    return np.divide(shared, false + pixels, out=np.full(shared.shape, np.nan), where=pixels > 0)


def iou_area(inside: ArrayLike, outside: ArrayLike) -> float:
    """Area under the curve of the mean IoU over pairs, for all thresholds in [0, 1].

    Returns:
        In [0, 1], higher is better; 1 only for maps that are 1 on their objects and 0 elsewhere. NaN without pairs.

    Example:
        >>> iou_area([[0, 2]], [[2, 0]])
        0.75
    """

    def sums(hit: np.ndarray, miss: np.ndarray) -> tuple[float, int]:
        iou = histogram_iou(hit, miss)
        known = iou[~np.isnan(iou[:, 0])]
        return float(known.sum()), known.size

    total, count = (sum(parts) for parts in zip(*_by_blocks(inside, outside, sums), strict=True))
    return total / count if count else float("nan")


def renormalised_iou(inside: ArrayLike, outside: ArrayLike, how: Rescaling, thresholds: ArrayLike) -> np.ndarray:
    """IoU of each map with its object at thresholds of another normalisation of the map.

    A normalisation shifts and scales the values of a map, so each threshold of the other normalisation corresponds to
    one of this. No pixels are needed. Exact to the width of a bin: the histogram does not tell the values of one bin
    apart. Those of the bin of the minimum (of 0, unless `how` is "minmax") count as the minimum, which is above no
    threshold; so a map of one bin has no foreground under "minmax". A 99th percentile in the first bin counts as 0, and
    the map is then divided by its maximum, as in `torchvice.explain.normalise`.

    Args:
        inside, outside: (P, B) histograms of maps divided by their maximum.
        how: "max", unchanged; "minmax", the minimum becomes 0; "percentile", divided by the 99th percentile.
        thresholds: (T,) in [0, 1].

    Returns:
        (P, T); NaN for a map without object pixels.

    Raises:
        ViceError: as in `pixel_average_precision`, or an unknown normalisation.
    """
    cuts = as_array("thresholds", thresholds, 1)
    if how not in RESCALINGS:
        raise ViceError(f"`how` must be one of {', '.join(RESCALINGS)}, but is {how!r}.")
    return np.concatenate(_by_blocks(inside, outside, lambda hit, miss: _renormalised(hit, miss, how, cuts)))


def _renormalised(hit: np.ndarray, miss: np.ndarray, how: Rescaling, cuts: np.ndarray) -> np.ndarray:
    """`renormalised_iou` of a block of rows."""
    both = np.cumsum(hit + miss, axis=1)
    bins = both.shape[1]
    lowest = np.minimum((both == 0).sum(axis=1), bins - 1) if how == "minmax" else np.zeros(len(both), np.int64)
    high = np.ones(len(both))
    if how == "percentile":
        top = (both < _PERCENTILE * both[:, -1:]).sum(axis=1)
        high = np.where(top > 0, (top + 1) / bins, 1.0)
    low = lowest / bins
    cut = low[:, None] + cuts * (high - low)[:, None]
    # The foreground starts at the first bin that lies entirely above the threshold, and above the minimum's bin.
    place = np.minimum(np.ceil(np.round(cut * bins, 9)).astype(np.int64), bins - 1)
    place = np.maximum(place, lowest[:, None] + 1)
    iou = histogram_iou(hit, miss)
    nothing = np.where(np.isnan(iou[:, :1]), np.nan, 0.0)  # of a foreground that starts after the last bin
    return np.take_along_axis(np.concatenate([iou, nothing], axis=1), place, axis=1)
