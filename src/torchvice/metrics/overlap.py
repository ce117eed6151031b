"""Overlap of class activation maps with masks at every threshold, counted in one pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array
from torchvice.metrics.overlap_inputs import as_mask, as_planes, plane_of, void_plane
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, Cuts, as_cuts, blocks, count_below, cumulative, smallest

__all__ = [
    "MOST_CLASSES",
    "PAPER_THRESHOLDS",
    "VOID",
    "Overlap",
    "competing_overlap",
    "label_overlap",
    "overlap_from_histogram",
    "own_histograms",
    "void_of",
]

VOID = 255  # the mask value of pixels that belong to no label; they are never counted
WIDE_VOID = (1 << 16) - 1  # the same in masks of more classes than 8 bits can tell apart
MOST_CLASSES = WIDE_VOID - 1


def void_of(classes: int) -> int:
    """Return the mask value of void for a number of classes: 255 up to 254 classes, 65535 for more.

    Example:
        >>> void_of(254), void_of(255)
        (255, 65535)
    """
    return VOID if classes < VOID else WIDE_VOID


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one image under the competing label set: every pixel has one predicted label.

    Void pixels are not counted. Labels are 0 for the background and c + 1 for class c.

    Attributes:
        labels: (L,) int64, increasing: the background, and every label that has a map or mask pixels.
        mask_pixels: (L,) int64, pixels of the label in the mask.
        predicted: (L, T) int64, pixels predicted as the label at each threshold.
        intersection: (L, T) int64, pixels predicted as the label and inside its mask.
        nan_pixels: pixels, including void, where a map is NaN.
    """

    labels: np.ndarray
    mask_pixels: np.ndarray
    predicted: np.ndarray
    intersection: np.ndarray
    nan_pixels: int = 0


def competing_overlap(
    maps: Any,
    classes: Any,
    mask: Any,
    thresholds: Any = PAPER_THRESHOLDS,
    *,
    void: Any = VOID,
) -> Overlap:
    """Count the pixels of one image at all thresholds, with classes and background competing for each pixel.

    At threshold t a pixel is predicted as the class with the highest map if that score is above t, else as background.
    A tie with the threshold is background; a tie between classes is the lowest class. Scores and thresholds are
    compared in float32. NaN is higher than any number, as in numpy's argmax: a pixel with NaN has that class at every
    threshold.

    Args:
        maps: (M, H, W) scores, or M arrays (H, W); with M = 0 every pixel is background.
        classes: (M,) class of each map, 0..C-1, in any order, without duplicates.
        mask: (H, W) integers, 0 for background and c + 1 for class c; or (C, H, W) booleans, whose planes may
            overlap. Background is then where no plane is set.
        thresholds: (T,) increasing numbers.
        void: for an index mask, the value that is not counted. For boolean planes, (H, W) booleans or None; a number
            is ignored.

    Raises:
        ViceError: shapes differ, classes are negative or duplicated, a mask with other values, or thresholds that do
            not increase.

    References:
        The evaluation of weakly supervised segmentation seeds, as published with the VICE paper.

    Example:
        >>> counts = competing_overlap([[[0.9, 0.2]]], [4], np.array([[5, 0]]), [0.1, 0.5])
        >>> counts.labels, counts.intersection
        (array([0, 5]), array([[0, 1],
               [1, 1]]))
    """
    cuts = as_cuts(thresholds)
    mask = as_mask(mask)
    planes, ordered = as_planes(maps, classes, mask.shape[-2:])
    if mask.ndim == 3:
        return _against_planes(planes, cuts, ordered, mask, void_plane(mask, void))
    return _against_index(planes, cuts, ordered, mask, void)


def label_overlap(prediction: Any, mask: Any, *, void: Any = VOID) -> Overlap:
    """Count the pixels of one image whose prediction is a label map, such as a PNG: an Overlap with T = 1.

    Predictions on void pixels of the mask are ignored. Elsewhere a void prediction has no label, not even background,
    so the mask's label misses that pixel.

    Args:
        prediction: (H, W) integers, 0 for background and c + 1 for class c.
        mask: as in `competing_overlap`.
        void: as in `competing_overlap`.

    Raises:
        ViceError: shapes differ, or values that are not labels.

    Example:
        >>> label_overlap(np.array([[3, 3]]), np.array([[3, 0]])).intersection[:, 0]
        array([0, 1])
    """
    mask = as_mask(mask)
    prediction = as_array("prediction", prediction, 2, None)
    if prediction.dtype.kind not in "iu" or prediction.shape != mask.shape[-2:]:
        raise ViceError(
            f"`prediction` must be integer labels of the mask's size {mask.shape[-2:]}, but is "
            f"{prediction.dtype} of shape {prediction.shape}."
        )
    hidden = void_plane(mask, void)
    values = np.unique(prediction if hidden is None else prediction[~hidden])
    unlabelled = void if mask.ndim == 2 and void in values else None
    labels = values[(values != 0) & (values != unlabelled)].astype(np.int64)
    if labels.size and labels[0] < 0:
        raise ViceError(f"`prediction` must hold labels from 0 on, but holds {labels[0]}.")
    # Each label is one map. Void predictions are one more map, of a class that no mask holds.
    maps = [prediction == label for label in labels]
    classes = labels - 1
    if unlabelled is None:
        return competing_overlap(maps, classes, mask, [0.5], void=void)
    beyond = int(max(labels.max(initial=0), mask.max(initial=0))) + 1
    counts = competing_overlap([*maps, prediction == unlabelled], [*classes, beyond - 1], mask, [0.5], void=void)
    return Overlap(counts.labels[:-1], counts.mask_pixels[:-1], counts.predicted[:-1], counts.intersection[:-1])


def own_histograms(
    maps: Any, classes: Any, mask: Any, bins: int = 256, *, void: Any = VOID
) -> tuple[np.ndarray, np.ndarray]:
    """Histograms of each map inside and outside the mask of its class, without competition.

    Args:
        maps: (M, H, W) scores in [0, 1]; other values count in the first or the last bin.
        classes: (M,) class of each map.
        mask: as in `competing_overlap`.
        bins: number B of equal bins; bin b holds b/B <= v < (b + 1)/B, the last one also 1.0.
        void: as in `competing_overlap`. Void pixels and NaN pixels of the map are in neither histogram.

    Returns:
        (inside, outside): two (M, B) int64 arrays, rows in the order of `maps`.

    Raises:
        ViceError: as in `competing_overlap`, or fewer than one bin.

    Example:
        >>> own_histograms([[[0.9, 0.2]]], [4], np.array([[5, 0]]), bins=2)
        (array([[0, 1]]), array([[1, 0]]))
    """
    if bins < 1:
        raise ViceError(f"`bins` must be at least 1, but is {bins}.")
    mask = as_mask(mask)
    planes, ordered = as_planes(maps, classes, mask.shape[-2:])
    hidden = void_plane(mask, void)
    counts = np.zeros((len(planes), 2 * bins + 1), np.int64)
    index = np.empty(math.prod(mask.shape[-2:]), smallest(2 * bins + 1))
    for place, (plane, label) in enumerate(zip(planes, ordered, strict=True)):
        inside = (mask == label + 1 if mask.ndim == 2 else plane_of(mask, label + 1)).reshape(-1)
        for part in blocks(plane.size):
            position = np.clip(plane[part] * np.float32(bins), 0, bins - 1)
            excluded = None if hidden is None else hidden.reshape(-1)[part]
            if np.isnan(position.max()):
                excluded = np.isnan(position) | (False if excluded is None else excluded)
                position[excluded] = 0
            index[part] = position
            index[part] += np.multiply(inside[part], bins, dtype=index.dtype)
            if excluded is not None:
                np.copyto(index[part], 2 * bins, where=excluded)
        counts[place] = np.diff(cumulative(index, 2 * bins + 1))
    rows = np.argsort(np.argsort(as_array("classes", classes, 1, np.int64)))
    return counts[rows, bins:-1], counts[rows, :bins]


def _winners(planes: Sequence[np.ndarray], pixels: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the index of the highest map of each pixel (ties: the first), its score, and the number of NaN pixels."""
    small = np.uint8 if len(planes) <= 256 else np.int32
    winner = np.zeros(pixels, small)
    if not planes:
        return winner, np.full(pixels, -np.inf, np.float32), 0
    score = planes[0]
    for place, plane in enumerate(planes[1:], 1):
        # Indices increase, so the maximum replaces; writing through a boolean mask takes several times longer.
        np.maximum(winner, (plane > score).view(np.uint8) * small(place), out=winner)
        score = np.maximum(score, plane)
    if not np.isnan(score.max()):  # np.maximum passes NaN on, the comparison above ignores it
        return winner, score, 0
    nan = np.isnan(score)
    winner = np.argmax(np.stack(planes), axis=0).astype(small)
    return winner, np.where(nan, np.float32(np.inf), score), int(nan.sum())


def _count_above(
    planes: Sequence[np.ndarray],
    cuts: Cuts,
    pixels: int,
    codes: int,
    code_of: Callable[[slice, np.ndarray], np.ndarray],
) -> tuple[dict[int, tuple[int, np.ndarray]], int]:
    """Count the pixels of each code that occurs, and the pixels with NaN.

    `code_of` returns the codes of a block of pixels, 0..codes - 1, from the block and its winning maps.

    Returns:
        By code: its number of pixels, and those that each map wins above each threshold, (M, T) int64.
    """
    shape = (codes, max(len(planes), 1), len(cuts.table) + 1)
    index = np.empty(pixels, smallest(math.prod(shape)))
    narrow = np.uint8 if shape[0] * shape[1] <= 256 else index.dtype
    nan_pixels = 0
    for part in blocks(pixels):
        block = index[part]
        winner, score, nan = _winners([plane[part] for plane in planes], len(block))
        # Combine code, winner and score of a pixel into one integer. Its histogram holds every count of the image.
        count_below(score, cuts, block)
        pair = np.multiply(code_of(part, winner), shape[1], dtype=narrow, casting="unsafe")
        np.add(pair, winner, out=pair, casting="unsafe")
        block += np.multiply(pair, shape[2], dtype=block.dtype)
        nan_pixels += nan
    below = cumulative(index, math.prod(shape))
    ends = below[shape[2] :: shape[2]].reshape(shape[:2])  # for each code and map: where the next one begins
    total = np.diff(ends[:, -1], prepend=0)
    used = total.nonzero()[0]
    above = (ends[used, :, None] - below[:-1].reshape(shape)[used, :, 1:])[:, : len(planes)]
    return dict(zip(used.tolist(), zip(total[used].tolist(), above, strict=True), strict=True)), nan_pixels


def _against_index(
    planes: Sequence[np.ndarray], cuts: Cuts, classes: Sequence[int], mask: np.ndarray, void: Any
) -> Overlap:
    if mask.dtype == np.uint8:
        # In uint8, 255 (void, as a rule) becomes 0: so few codes are left that their histogram stays small.
        code: np.ndarray = mask.reshape(-1) + np.uint8(1)
        values: Sequence[int] = [255, *range(int(code.max(initial=0)))]
    else:
        present, code = np.unique(mask, return_inverse=True)
        values, code = present.tolist(), code.reshape(-1)
    counted, nan_pixels = _count_above(planes, cuts, mask.size, len(values), lambda part, _: code[part])
    return _of_labels(classes, len(cuts.table), values, counted, nan_pixels, void)


def overlap_from_histogram(classes: Sequence[int], histogram: np.ndarray, void: Any = VOID) -> Overlap:
    """The Overlap of an image whose pixels were counted elsewhere, such as on a GPU.

    Args:
        classes: (M,) class of each map, increasing.
        histogram: (256, max(M, 1), T + 1) integers: pixels by the value of the mask plus 1, modulo 256; by the map that
            is highest there, the first of equal ones; and by the number of thresholds strictly below its score. Without
            maps all pixels are below all thresholds.
        void: as in `competing_overlap`, of an index mask.
    """
    total = histogram.sum((1, 2), dtype=np.int64)
    used = total.nonzero()[0]
    above = histogram[used, : len(classes), :0:-1].cumsum(2, dtype=np.int64)[:, :, ::-1]
    counted = dict(zip(used.tolist(), zip(total[used].tolist(), above, strict=True), strict=True))
    return _of_labels(classes, histogram.shape[2] - 1, [255, *range(255)], counted, 0, void)


def _of_labels(
    classes: Sequence[int],
    thresholds: int,
    values: Sequence[int],
    counted: Mapping[int, tuple[int, np.ndarray]],
    nan_pixels: int,
    void: Any,
) -> Overlap:
    """The Overlap from what `_count_above` counts, where code i stands for the value `values[i]` of an index mask."""
    labels = {values[place]: row for place, row in counted.items() if values[place] != void}
    if min(labels, default=0) < 0:
        raise ViceError(
            f"`mask` must hold labels from 0 on, but holds {min(labels)}.",
            f"If that value marks void pixels, pass void={min(labels)}.",
        )
    won, own, bare = np.zeros((3, len(classes), thresholds), np.int64)
    for value, (_, above) in labels.items():
        won += above
        if value == 0:
            bare = above
        elif value - 1 in classes:
            place = classes.index(value - 1)
            own[place] = above[place]
    pixels = {value: total for value, (total, _) in labels.items()}
    return _gather(classes, pixels, sum(pixels.values()), won, own, bare, nan_pixels)


def _against_planes(
    planes: Sequence[np.ndarray],
    cuts: Cuts,
    classes: Sequence[int],
    mask: np.ndarray,
    hidden: np.ndarray | None,
) -> Overlap:
    own = [plane_of(mask, label + 1).reshape(-1) for label in classes]
    fixed = np.where(mask.any(axis=0), np.uint8(2), np.uint8(0))  # background 0, own 1, another 2, void 3
    if hidden is not None:
        fixed[hidden] = 3
    fixed = fixed.reshape(-1)

    def code_of(part: slice, winner: np.ndarray) -> np.ndarray:
        code = fixed[part].copy()
        for place, plane in enumerate(own):
            code[plane[part] & (winner == place) & (code == 2)] = 1
        return code

    counted, nan_pixels = _count_above(planes, cuts, fixed.size, 4, code_of)
    counted.pop(3, None)
    empty = 0, np.zeros((len(planes), len(cuts.table)), np.int64)
    (bare_pixels, bare), (_, inside), (_, outside) = (counted.get(code, empty) for code in range(3))
    visible = mask if hidden is None else mask & ~hidden
    pixels = {0: bare_pixels} | {label: int(n) for label, n in enumerate(visible.sum(axis=(1, 2)), 1) if n}
    all_pixels = sum(total for total, _ in counted.values())
    return _gather(classes, pixels, all_pixels, bare + inside + outside, inside, bare, nan_pixels)


def _gather(
    classes: Sequence[int],
    pixels: Mapping[int, int],
    counted: int,
    won: np.ndarray,
    own: np.ndarray,
    bare: np.ndarray,
    nan_pixels: int,
) -> Overlap:
    """Build the Overlap from the mask pixels of each label and the pixels that each map wins, (M, T).

    `won` counts all of them, `own` those inside the map's class, `bare` those on the mask's background. Pixels that no
    map wins are background.
    """
    labels = sorted({0, *pixels, *(label + 1 for label in classes)})
    mask_pixels = np.array([pixels.get(label, 0) for label in labels], dtype=np.int64)
    predicted = np.zeros((len(labels), own.shape[1]), np.int64)
    intersection = np.zeros_like(predicted)
    for place, label in enumerate(classes):
        row = labels.index(label + 1)
        predicted[row], intersection[row] = won[place], own[place]
    predicted[0] = counted - won.sum(axis=0)
    intersection[0] = mask_pixels[0] - bare.sum(axis=0)
    return Overlap(np.array(labels, dtype=np.int64), mask_pixels, predicted, intersection, nan_pixels)
