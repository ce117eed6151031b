"""Scores of a map against its own object, without competition: energy, pointing game, Otsu's threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.metrics.overlap import VOID
from torchvice.metrics.overlap_inputs import as_mask, as_planes, plane_of, void_plane
from torchvice.metrics.thresholds import cumulative

__all__ = ["OwnMaps", "otsu_from_counts", "otsu_threshold", "own_maps"]

OTSU_BINS = 256
# Values that differ by less than this share of the largest are equal: resizing in float32 turns 1 into 1 - 1e-7.
ROUNDING = 1e-5


@dataclass(frozen=True)
class OwnMaps:
    """Scores of M maps: float64 arrays (M,), NaN where undefined. Void pixels are not counted.

    Attributes:
        energy_inside, energy_outside: sums of the map inside and outside its object; negative values count as 0.
        pointing: share of the highest pixels that lie inside the object, in [0, 1]. Ties (up to rounding, 1e-5 of the
            largest magnitude) count together, so a constant map scores like chance: the object's share of the pixels.
        otsu_predicted: pixels above Otsu's threshold of the map; NaN for a constant map.
        otsu_intersection: the part of them inside the object.
    """

    energy_inside: np.ndarray
    energy_outside: np.ndarray
    pointing: np.ndarray
    otsu_predicted: np.ndarray
    otsu_intersection: np.ndarray


def own_maps(maps: Any, classes: Any, mask: Any, *, void: Any = VOID) -> OwnMaps:
    """Energy, pointing game and Otsu's counts of each map against its class; all NaN if a value is not finite.

    Args:
        maps: (M, H, W) scores.
        classes: (M,) class of each map.
        mask, void: as in `torchvice.metrics.overlap.competing_overlap`.

    Raises:
        ViceError: as in `competing_overlap`.

    References:
        Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018 (pointing game).
        Wang et al., Score-CAM, CVPR Workshops 2020 (energy).
        Otsu, A threshold selection method from gray-level histograms, IEEE SMC 1979.

    Example:
        >>> scores = own_maps([[[0.9, 0.3]]], [4], np.array([[5, 0]]))
        >>> float(scores.pointing[0]), float(scores.energy_outside[0].round(3)), float(scores.otsu_predicted[0])
        (1.0, 0.3, 1.0)
    """
    mask = as_mask(mask)
    planes, ordered = as_planes(maps, classes, mask.shape[-2:])
    hidden = void_plane(mask, void)
    visible = None if hidden is None or not hidden.any() else ~hidden.reshape(-1)
    scores = np.full((5, len(planes)), np.nan)
    for place, (plane, label) in enumerate(zip(planes, ordered, strict=True)):
        if np.isfinite(plane).all():
            inside = (mask == label + 1 if mask.ndim == 2 else plane_of(mask, label + 1)).reshape(-1)
            scores[:, place] = _scores(plane, inside, visible)
    rows = np.argsort(np.argsort(np.asarray(classes)))
    return OwnMaps(*scores[:, rows])


def _scores(
    plane: np.ndarray, inside: np.ndarray, visible: np.ndarray | None
) -> tuple[float, float, float, float, float]:
    # The threshold depends only on the map, so it includes the pixels that are void in the mask.
    threshold = otsu_threshold(plane)
    if visible is not None:
        plane, inside = plane[visible], inside[visible]
    if not len(plane):
        return (np.nan,) * 5
    positive = np.maximum(plane, 0)
    within = float(positive[inside].sum(dtype=np.float64))
    outside = float(positive[~inside].sum(dtype=np.float64))
    highest, lowest = float(plane.max()), float(plane.min())
    top = plane >= highest - ROUNDING * max(abs(highest), abs(lowest))
    pointing = float(np.count_nonzero(top & inside) / np.count_nonzero(top))
    if np.isnan(threshold):
        return within, outside, pointing, np.nan, np.nan
    above = plane > threshold
    return within, outside, pointing, float(np.count_nonzero(above)), float(np.count_nonzero(above & inside))


def otsu_threshold(values: Any) -> float:
    """Otsu's threshold: the split of the values into two classes with the largest variance between the classes.

    Args:
        values: finite numbers of any shape.

    Returns:
        Centre of the lower class's last bin, of 256 equal bins between the smallest and the largest value; the first of
        equally good splits. It has float32 precision, for comparison with float32. NaN for constant values (up to
        rounding, 1e-5 of the largest).

    Example:
        >>> otsu_threshold([0.0, 0.0, 1.0])
        0.001953125
    """
    flat = np.asarray(values, dtype=np.float32).reshape(-1)
    low, high = (float(flat.min()), float(flat.max())) if len(flat) else (0.0, 0.0)
    width = (high - low) / OTSU_BINS
    if not high - low > ROUNDING * max(abs(low), abs(high)) or not np.isfinite(width):
        return float("nan")
    index = np.minimum((flat - np.float32(low)) * np.float32(1 / width), np.float32(OTSU_BINS - 1)).astype(np.uint16)
    return otsu_from_counts(np.diff(cumulative(index, OTSU_BINS)), low, width)


def otsu_from_counts(counts: np.ndarray, low: float, width: float) -> float:
    """Otsu's threshold from the counts (256,) of equal bins: from the lowest value on, `width` each."""
    counts = counts.astype(float)
    middles = low + (np.arange(OTSU_BINS) + 0.5) * width
    below = counts.cumsum()[:-1]
    above = counts.sum() - below
    sums = (counts * middles).cumsum()
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(np.float32(middles[int(between.argmax())]))
