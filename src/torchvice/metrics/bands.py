"""The null band: the calibration errors that a calibrated model would show by chance, from simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError
from torchvice.metrics.calibration_errors import bins_of, class_bins, unit_confidence
from torchvice.metrics.multilabel import check_sums, probabilities_and_targets
from torchvice.metrics.parallel import row_blocks

__all__ = ["NullBand", "null_band"]

BandUnit = Literal["image", "cell", "class", "top"]
FEW = 64  # below this number, the labels of a group are drawn one by one; otherwise their sum is drawn
BLOCK = 2**22  # numbers held at once
MOST_DRAWS = 2**24  # images times draws of one class for each; beyond it they are drawn from sums
MANY = 100  # classes of which each depends so little on the others that they are drawn alone


@dataclass(frozen=True)
class NullBand:
    """Calibration errors of a calibrated model: in [`low`, `high`] with probability `level`; `median` is their median.

    `bin_low` and `bin_high` (B,), or (C, B) for the unit `class`, are the same for the mean outcome of each bin; NaN
    for an empty bin. They are the consistency bars of the reliability diagram.
    """

    low: float
    median: float
    high: float
    level: float
    simulations: int
    bin_low: np.ndarray
    bin_high: np.ndarray


@dataclass(frozen=True)
class _Design:
    """Which labels are drawn, and how they add up to the outcomes of B bins.

    Attributes:
        group: (N, C) group of every cell; -1 for a cell that enters no outcome.
        weight: (G,) weight of a label of the group in its bin.
        group_bin: (G,) bin of each group.
        count, mean_confidence: (B,) number of events and their mean confidence.
        shape: shape of the bins, (B,) or (C, B).
    """

    group: np.ndarray
    weight: np.ndarray
    group_bin: np.ndarray
    count: np.ndarray
    mean_confidence: np.ndarray
    shape: tuple[int, ...]


_Draw = Callable[[np.ndarray, _Design, int, np.random.Generator], np.ndarray]


def null_band(
    probabilities: ArrayLike,
    bins: int = 20,
    unit: BandUnit = "image",
    *,
    equal_mass: bool = False,
    exclusive: bool = False,
    simulations: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> NullBand:
    """Draw the labels from the probabilities many times, and measure the calibration error of each draw.

    An ECE inside the band does not distinguish the model from a calibrated one. Labels are drawn independently over
    images and classes. Where the labels of an image depend on each other (chair and table), all bands except that of
    `top` are somewhat too narrow.

    Args:
        probabilities: (N, C) in [0, 1], of the measured model.
        bins, equal_mass: as in the measure.
        unit: `image` for the ECE-ML of `strict`, `cell` for ECE pooled over cells, `class` for classwise ECE, `top` for
            the top label.
        exclusive: draw exactly one class per image; every row must sum to 1.
        simulations: number of draws of all labels.
        level: coverage of the band, in (0, 1).
        seed: seed of the draws.

    Returns:
        NullBand; NaN without images. In a bin with 64 labels or more, the sum of the labels is drawn from a binomial
        distribution of the same mean and variance. With `exclusive` and more than 2^24 images x simulations, the unit
        `cell` draws the bin of each image's class, which is the same, and the unit `class` with 100 classes or more
        draws every class by itself: their sums hardly depend on each other.

    Raises:
        ViceError: a value outside its range, an unknown unit or, with `exclusive`, a row that does not sum to 1.

    References:
        Broecker and Smith, Increasing the reliability of reliability diagrams, 2007; Roelofs et al., Mitigating bias in
        calibration error estimation, AISTATS 2022.

    Example:
        >>> null_band([[0.5]], simulations=100).median
        0.5
    """
    values, _ = probabilities_and_targets(probabilities, np.zeros(np.shape(probabilities), bool))
    _check_arguments(values, simulations, level, exclusive)
    design = _design(values, bins, unit, equal_mass)
    # For other units, each image draws one label, which is a Bernoulli draw in either case.
    draw = _of_one_class(values, unit, simulations) if exclusive and unit in ("cell", "class") else _independent
    return _band(values, design, draw, simulations, level, seed)


def _of_one_class(values: np.ndarray, unit: str, simulations: int) -> _Draw:
    """How one class is drawn for each image: as such, or, of many images, so that the sums are alike."""
    if len(values) * simulations <= MOST_DRAWS:
        return _categorical
    if unit == "cell":
        return _of_bins
    return _independent if values.shape[1] >= MANY else _categorical


def _check_arguments(values: np.ndarray, simulations: int, level: float, exclusive: bool) -> None:
    if simulations < 1:
        raise ViceError(f"`simulations` must be at least 1, but is {simulations}.")
    if not 0 < level < 1:
        raise ViceError(f"`level` must be in (0, 1), but is {level:g}.")
    if exclusive:
        check_sums(values)


def _band(values: np.ndarray, design: _Design, draw: _Draw, simulations: int, level: float, seed: int) -> NullBand:
    """Quantiles of the calibration error and of each bin's mean outcome over the draws."""
    if not len(values):
        nan = np.full(design.shape, np.nan)
        return NullBand(math.nan, math.nan, math.nan, level, simulations, nan, nan.copy())
    drawn = draw(values, design, simulations, np.random.default_rng(seed))
    tails = [(1 - level) / 2, (1 + level) / 2]
    filled = design.count > 0
    sums, expected = drawn[:, filled], (design.mean_confidence * design.count)[filled]
    del drawn
    error = np.array([np.abs(row - expected).sum() for row in sums]) / design.count.sum()
    low, median, high = np.quantile(error, [tails[0], 0.5, tails[1]]).tolist()
    bands = np.full((2, len(filled)), np.nan)
    bands[:, filled] = np.quantile(sums / design.count[filled], tails, axis=0, overwrite_input=True)
    return NullBand(low, median, high, level, simulations, *(band.reshape(design.shape) for band in bands))


def _design(values: np.ndarray, bins: int, unit: str, equal_mass: bool) -> _Design:
    n, classes = values.shape
    if unit == "class":
        index, total = class_bins(values, bins, equal_mass), classes * bins
    else:
        confidences = unit_confidence(values, unit)
        edges, event_bin = bins_of(confidences, bins, equal_mass)
        index, total = event_bin.reshape(n, classes if unit == "cell" else 1), len(edges) - 1
    shape = (classes, bins) if unit == "class" else (total,)
    if unit in ("cell", "class"):
        count = np.bincount(index.ravel(), minlength=total)
        sums = np.bincount(index.ravel(), values.ravel(), minlength=total)
        return _Design(index, np.ones(total), np.arange(total), count, sums / np.maximum(count, 1), shape)
    predicted = values > 0.5
    if unit == "top":
        predicted[:] = False
    without = ~predicted.any(axis=1)
    predicted[without, values[without].argmax(axis=1)] = True
    k = predicted.sum(axis=1)
    # With k predicted labels the outcome is a share of k: labels of the same bin and the same k form a group.
    kinds, kind = np.unique(event_bin * (classes + 1) + k, return_inverse=True)
    count = np.bincount(event_bin, minlength=total)
    mean = np.bincount(event_bin, confidences, minlength=total) / np.maximum(count, 1)
    group = np.where(predicted, kind[:, None], -1)
    return _Design(group, 1 / (kinds % (classes + 1)), kinds // (classes + 1), count, mean, shape)


def _summed(labels: np.ndarray, design: _Design) -> np.ndarray:
    """Sum the labels of the groups, (S, G), into the outcomes of the bins, (S, B)."""
    if len(design.group_bin) == len(design.count) and (design.group_bin == np.arange(len(design.group_bin))).all():
        return labels * design.weight
    into = np.zeros((len(design.group_bin), len(design.count)))
    into[np.arange(len(design.group_bin)), design.group_bin] = design.weight
    return labels @ into


def _independent(values: np.ndarray, design: _Design, simulations: int, rng: np.random.Generator) -> np.ndarray:
    drawn = design.group >= 0
    group, p = (one.ravel() if drawn.all() else one[drawn] for one in (design.group, values))
    groups = len(design.group_bin)
    size, mean, squares = np.zeros(groups, np.int64), np.zeros(groups), np.zeros(groups)
    for some in row_blocks(len(p), 1):
        size += np.bincount(group[some], minlength=groups)
        mean += np.bincount(group[some], p[some], minlength=groups)
        squares += np.bincount(group[some], p[some] * p[some], minlength=groups)
    # The sum of many Bernoulli draws is close to a binomial of the same mean and variance (Ehm 1991). Within a bin the
    # probabilities differ little, so the approximation is almost exact.
    trials = np.rint(np.divide(mean**2, squares, out=np.zeros(groups), where=squares > 0))
    trials = np.maximum(trials, np.ceil(mean)) * (size >= FEW)
    probability = np.minimum(np.divide(mean, trials, out=np.zeros(groups), where=trials > 0), 1)
    labels = rng.binomial(trials.astype(np.int64), probability, (simulations, groups)).astype(float)
    few = (size < FEW)[group]
    order = np.argsort(group[few], kind="stable")
    group, p = group[few][order], p[few][order].astype(np.float32)
    if len(group):
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        rows = max(1, BLOCK // len(group))
        for first in range(0, simulations, rows):
            block = slice(first, min(first + rows, simulations))
            true = rng.random((block.stop - first, len(p)), dtype=np.float32) < p
            labels[block, group[starts]] = np.add.reduceat(true, starts, axis=1, dtype=np.int32)
    return _summed(labels, design)


def _categorical(values: np.ndarray, design: _Design, simulations: int, rng: np.random.Generator) -> np.ndarray:
    n, classes = values.shape
    # One sorted list for all rows: row i covers (i, i + 1], so a draw of row i falls among its own classes.
    upper = np.cumsum(values, axis=1)
    upper /= upper[:, -1:]
    upper[:, -1] = 1
    cumulative = (upper + np.arange(n)[:, None]).ravel()
    flat, groups = design.group.ravel(), len(design.group_bin)
    labels = np.empty((simulations, groups))
    for row in range(simulations):
        cell = np.minimum(np.searchsorted(cumulative, np.arange(n) + rng.random(n), side="right"), n * classes - 1)
        labels[row] = np.bincount(flat[cell] + 1, minlength=groups + 1)[1:]
    return _summed(labels, design)


def _of_bins(values: np.ndarray, design: _Design, simulations: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the bin in which each image's class lies: the same sums as those of classes, from B numbers an image."""
    n, bins = len(values), len(design.group_bin)
    share = np.zeros((bins, n), np.float32)
    for rows in row_blocks(*values.shape):
        some = len(values[rows])
        place = design.group[rows] + bins * np.arange(some)[:, None]
        share[:, rows] = np.bincount(place.ravel(), values[rows].ravel(), minlength=some * bins).reshape(some, bins).T
    upper = np.cumsum(share, axis=0)[:-1] / share.sum(axis=0)
    labels = np.empty((simulations, bins))
    for row in range(simulations):
        place = (rng.random(n, dtype=np.float32) >= upper).sum(axis=0, dtype=np.uint16)
        labels[row] = np.bincount(place, minlength=bins)
    return _summed(labels, design)
