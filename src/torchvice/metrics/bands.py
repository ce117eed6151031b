"""The null band: the calibration error that a calibrated model of these probabilities would show, by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError
from torchvice.metrics.calibration_errors import bins_of, class_bins, unit_confidence
from torchvice.metrics.multilabel import probabilities_and_targets

__all__ = ["NullBand", "null_band"]

BandUnit = Literal["image", "cell", "class", "top"]
FEW = 64  # labels of a group that are drawn one by one; of more, their number is
BLOCK = 2**22  # numbers held at once


@dataclass(frozen=True)
class NullBand:
    """What a calibrated model shows: an ECE in [`low`, `high`] with the probability `level`, above `median` with 1/2.

    `bin_low` and `bin_high` (B,), for the unit `class` (C, B): the same of the mean outcome of each bin on its own, NaN
    in an empty one. They are bands of consistency for the reliability diagram.
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
    """Which labels are drawn, and what becomes of them.

    `group` (N, C) of every cell, -1 for one that enters no outcome; `weight` (G,) of a label in the group's bin, and
    `home` (G,) that bin; `count` and `sure` (B,) events and mean confidence of the bins.
    """

    group: np.ndarray
    weight: np.ndarray
    home: np.ndarray
    count: np.ndarray
    sure: np.ndarray


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
    """Draw the labels from the probabilities, again and again, and measure the calibration error of each draw.

    A model whose ECE lies in the band is not told from a calibrated one by it. Assumption: given the probabilities,
    labels are drawn independently of each other, over images and over classes. Where the labels of an image hang
    together (a chair seldom comes without a table), all bands but that of `top` are somewhat too narrow.

    Args:
        probabilities: (N, C) in [0, 1], of the model that was measured.
        bins: as of the measure.
        unit: `image` for the ECE-ML of `strict`, `cell` for ECE pooled over cells, `class` for classwise ECE, `top` for
            the top label.
        equal_mass: bins of equal count, as of the measure.
        exclusive: one label an image: one draw of a class by its row, whose sum is 1.
        simulations: draws of all labels.
        level: of the band, in (0, 1).
        seed: of the draws; the same seed gives the same band.

    Returns:
        NullBand; NaN without images. Where a bin has 64 labels or more to draw, their sum is drawn from the binomial
        law of the same mean and variance.

    Raises:
        ViceError: a probability outside [0, 1], an unknown unit, no simulation, a level outside (0, 1), fewer than one
            bin, or, exclusive, a row whose sum is not 1.

    References:
        Broecker and Smith, Increasing the reliability of reliability diagrams, 2007; Roelofs et al., Mitigating bias in
        calibration error estimation, AISTATS 2022.

    Example:
        >>> null_band([[0.5]], simulations=100).median
        0.5
    """
    values, _ = probabilities_and_targets(probabilities, np.zeros(np.shape(probabilities)))
    if simulations < 1:
        raise ViceError(f"`simulations` must be at least 1, but is {simulations}.")
    if not 0 < level < 1:
        raise ViceError(f"`level` must be in (0, 1), but is {level:g}.")
    if exclusive:
        _checked_rows(values)
    design = _design(values, bins, unit, equal_mass)
    shape = (values.shape[1], -1) if unit == "class" else (-1,)
    tails = [(1 - level) / 2, (1 + level) / 2]
    if not len(values):
        nothing = np.full(len(design.count), np.nan).reshape(shape)
        return NullBand(math.nan, math.nan, math.nan, level, simulations, nothing, nothing.copy())
    rng = np.random.default_rng(seed)
    # Where a row has one label to draw, whether it is true is a coin of its own in either case.
    together = exclusive and unit in ("cell", "class")
    drawn = (_categorical if together else _independent)(values, design, simulations, rng)
    filled = design.count > 0
    outcome = np.full((simulations, len(filled)), np.nan)
    outcome[:, filled] = drawn[:, filled] / design.count[filled]
    error = np.abs(drawn - design.sure * design.count).sum(axis=1) / design.count.sum()
    low, median, high = np.quantile(error, [tails[0], 0.5, tails[1]]).tolist()
    bands = np.full((2, len(filled)), np.nan)
    bands[:, filled] = np.quantile(outcome[:, filled], tails, axis=0)
    return NullBand(low, median, high, level, simulations, bands[0].reshape(shape), bands[1].reshape(shape))


def _checked_rows(values: np.ndarray) -> None:
    wrong = np.abs(values.sum(axis=1) - 1) > 1e-3  # a softmax in half precision is nearer
    if wrong.any():
        row = int(wrong.argmax())
        raise ViceError(
            f"Rows of exclusive `probabilities` must have the sum 1, but row {row} has {values[row].sum():g}.",
            "Logits become such probabilities with torchvice.metrics.softmax(logits).",
        )


def _design(values: np.ndarray, bins: int, unit: str, equal_mass: bool) -> _Design:
    n, classes = values.shape
    if unit == "class":
        index, total = class_bins(values, bins, equal_mass), classes * bins
    else:
        sure = unit_confidence(values, unit)
        edges, of_event = bins_of(sure, bins, equal_mass)
        index, total = of_event.reshape(n, classes if unit == "cell" else 1), len(edges) - 1
    if unit in ("cell", "class"):
        count = np.bincount(index.ravel(), minlength=total)
        sums = np.bincount(index.ravel(), values.ravel(), minlength=total)
        return _Design(index, np.ones(total), np.arange(total), count, sums / np.maximum(count, 1))
    predicted = values > 0.5
    if unit == "top":
        predicted[:] = False
    alone = ~predicted.any(axis=1)
    predicted[alone, values[alone].argmax(axis=1)] = True
    several = predicted.sum(axis=1)
    # Outcomes of k labels are shares of k: labels of one bin and one k are alike.
    kinds, kind = np.unique(of_event * (classes + 1) + several, return_inverse=True)
    count = np.bincount(of_event, minlength=total)
    mean = np.bincount(of_event, sure, minlength=total) / np.maximum(count, 1)
    group = np.where(predicted, kind[:, None], -1)
    return _Design(group, 1 / (kinds % (classes + 1)), kinds // (classes + 1), count, mean)


def _summed(labels: np.ndarray, design: _Design) -> np.ndarray:
    """(S, B) outcomes summed in each bin, from the (S, G) labels of each group."""
    if len(design.home) == len(design.count) and (design.home == np.arange(len(design.home))).all():
        return labels * design.weight
    into = np.zeros((len(design.home), len(design.count)))
    into[np.arange(len(design.home)), design.home] = design.weight
    return labels @ into


def _independent(values: np.ndarray, design: _Design, simulations: int, rng: np.random.Generator) -> np.ndarray:
    drawn = design.group >= 0
    group, p = design.group[drawn], values[drawn]
    groups = len(design.home)
    size = np.bincount(group, minlength=groups)
    mean, squares = np.bincount(group, p, minlength=groups), np.bincount(group, p * p, minlength=groups)
    # The sum of many Bernoulli draws is near to a binomial of its mean and variance (Ehm 1991): of `trials` draws of
    # the mean squared probability over the mean one. In a bin the probabilities differ little, and it is all but exact.
    trials = np.rint(np.divide(mean**2, squares, out=np.zeros(groups), where=squares > 0))
    trials = np.maximum(trials, np.ceil(mean)) * (size >= FEW)
    chance = np.minimum(np.divide(mean, trials, out=np.zeros(groups), where=trials > 0), 1)
    labels = rng.binomial(trials.astype(np.int64), chance, (simulations, groups)).astype(float)
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
    # One list for all rows: row i ends at i + 1, so that a draw of row i is found among its own classes.
    upper = np.cumsum(values, axis=1)
    upper /= upper[:, -1:]
    upper[:, -1] = 1
    places = (upper + np.arange(n)[:, None]).ravel()
    flat, groups = design.group.ravel(), len(design.home)
    labels = np.empty((simulations, groups))
    for row in range(simulations):
        cell = np.minimum(np.searchsorted(places, np.arange(n) + rng.random(n), side="right"), n * classes - 1)
        labels[row] = np.bincount(flat[cell] + 1, minlength=groups + 1)[1:]
    return _summed(labels, design)
