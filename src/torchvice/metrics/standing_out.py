"""Classes that stand out: one class has more events than the other classes and the sizes of its objects explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.comparison import holm
from torchvice.metrics.size_effect import size_effect

__all__ = ["ClassTest", "classes_that_stand_out", "holm_over_witnesses"]

LEVEL = 0.05
MARGIN = 0.1  # share of pairs that a class may have in addition to a clean class's events and still not stand out
# Clean classes differ by a t distribution on the logit scale. docs/verdict.md has the simulations behind these numbers.
FREEDOM = 6.0
SPREADS = np.array([0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2])  # its scale, in logits
SPREAD_PRIOR = np.exp(-SPREADS / 0.8)
SHORTCUTS = np.array([0.0, 0.05, 0.15, 0.35])  # share of classes on a shortcut, equally likely a priori
# The grid of logits, around the median class: steps of 0.1, up to 6 away for a class and 3 for the typical class.
STEP, CELLS, CENTRES = 0.1, 121, 61
MIDDLE = slice((CELLS - CENTRES) // 2, (CELLS + CENTRES) // 2)


@dataclass(frozen=True)
class ClassTest:
    """The test of every class by one witness. All arrays are (C,).

    Attributes:
        pairs: number of tested pairs.
        events: number of pairs with the event.
        expected: number of events in a typical class with objects of these sizes.
        p_value: one-sided, for more events than a clean class has; NaN if the class could not be named even if all its
            pairs had the event.
        power: probability that the test, Holm included, names the class if half of its pairs were shortcut; 0 if
            `p_value` is NaN.
    """

    pairs: np.ndarray
    events: np.ndarray
    expected: np.ndarray
    p_value: np.ndarray
    power: np.ndarray


def classes_that_stand_out(
    events: ArrayLike,
    classes: ArrayLike,
    sizes: ArrayLike,
    n_classes: int,
    *,
    images: ArrayLike | None = None,
    witnesses: int = 2,
    level: float = LEVEL,
    with_power: bool = True,
) -> ClassTest:
    """Test for each class whether it has more events than the other classes predict, given the sizes of its objects.

    The logit of an event is a smooth function of log size plus an effect of the class. Clean classes differ: their
    effects follow a t distribution whose centre and scale are estimated from the other classes, some of which may be
    on a shortcut themselves. The p-value is the predictive probability that a further clean class has at least this
    many events. The pairs of a class are of different images, so images need no clusters; classes that share images
    make the p-values dependent, which Holm's correction allows.

    Args:
        events: (N,) whether the pair has the event, such as "its map looks elsewhere".
        classes: (N,) class of the pair, 0 to C - 1.
        sizes: (N,) share of the image that the object covers, in (0, 1].
        n_classes: C.
        images: (N,) image of each pair; given only to check that no image occurs twice in a class.
        witnesses: number of tables of p-values that Holm's correction will join; used for power and for NaN.
        level: probability of a false alarm in a table without shortcuts.
        with_power: compute the power too, which takes half of the time; NaN otherwise.

    Raises:
        ViceError: arrays of different lengths, a size outside (0, 1], a class outside 0 to C - 1, or an image that
            occurs twice in a class.

    References:
        Tarone: A modified Bonferroni method for discrete data, Biometrics 1990 (classes that could not be named).
        Efron: Large-scale inference, 2010, chapter 2 (the two-groups model).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> classes = np.repeat(np.arange(10), 100)
        >>> events = rng.random(1000) < np.where(classes == 3, 0.55, 0.1)
        >>> test = classes_that_stand_out(events, classes, np.full(1000, 0.2), 10)
        >>> np.flatnonzero(test.p_value * 20 < 0.05).tolist(), int(test.events[3]), round(test.expected[3])
        ([3], 51, 9)
    """
    happened, label, size = _checked(events, classes, sizes, n_classes, images)
    pairs, counts = (np.bincount(label, weight, n_classes).astype(int) for weight in (np.ones(len(label)), happened))
    shift, variance = size_effect(happened, label, np.log(size), n_classes)
    rate = _class_rates(_grid(pairs, counts), shift, label, n_classes)
    prediction = _prediction(pairs, counts, rate, variance)
    least = np.where(pairs > 0, prediction.at_least(pairs, MARGIN), 1.0)
    # The largest number of tests such that this many classes could reach the level (Tarone).
    ranked = np.sort(least) * np.arange(1, n_classes + 1)
    own_level = level / witnesses / max(int(np.flatnonzero(ranked <= level / witnesses).max(initial=-1)) + 1, 1)
    possible = least <= own_level
    power = np.full(n_classes, np.nan)
    if with_power:
        power = np.where(possible, prediction.at_least(prediction.significant(own_level), 0.5), 0)
    p_value = np.where(possible, prediction.at_least(counts, MARGIN), np.nan)
    return ClassTest(pairs, counts, prediction.expected(), p_value, power)


def holm_over_witnesses(
    tests: Mapping[str, ClassTest], level: float = LEVEL
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Correct the p-values of all classes and witnesses together by Holm's method.

    Args:
        tests: the test of each witness, all over the same C classes.
        level: probability that a table without shortcuts names any class.

    Returns:
        The adjusted p-values (C,) of each witness, NaN where the p-value is; and (C,) bool, the classes that at least
        one witness names.

    Raises:
        ViceError: no witness, or witnesses over different numbers of classes.
    """
    if not tests:
        raise ViceError("No witness found. Give at least one test.")
    columns = {name: test.p_value for name, test in tests.items()}
    same_length(**columns)
    adjusted = holm(np.concatenate(list(columns.values()))).reshape(len(columns), -1)
    return dict(zip(columns, adjusted, strict=True)), np.any(adjusted <= level, axis=0)


def _checked(
    events: ArrayLike, classes: ArrayLike, sizes: ArrayLike, n_classes: int, images: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    happened, label, size = (
        as_array("events", events, 1, bool),
        as_array("classes", classes, 1, int),
        as_array("sizes", sizes, 1),
    )
    same_length(events=happened, classes=label, sizes=size)
    wrong = label[(label < 0) | (label >= n_classes)]
    if len(wrong):
        raise ViceError(f"`classes` must be from 0 to {n_classes - 1}, but holds {wrong[0]}.")
    outside = size[~((size > 0) & (size <= 1))]
    if len(outside):
        raise ViceError(f"`sizes` must be in (0, 1], but holds {outside[0]:g}.")
    if images is not None:
        image = np.unique(as_array("images", images, 1, None), return_inverse=True)[1]
        same_length(events=happened, images=image)
        if len(np.unique(image * n_classes + label)) < len(label):
            raise ViceError("An image must occur once in a class, but one occurs twice.", "Keep one pair of each.")
    return happened, label, size


def _grid(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(U,) logits around the median of the classes' smoothed logits."""
    share = (counts + 0.5)[pairs > 0] / (pairs + 1)[pairs > 0]
    centre = float(np.median(np.log(share / (1 - share)))) if len(share) else 0.0
    return centre + STEP * (np.arange(CELLS) - CELLS // 2)


def _class_rates(grid: np.ndarray, shift: np.ndarray, label: np.ndarray, n_classes: int) -> np.ndarray:
    """(C, U) mean probability of the event over the pairs of a class, for each logit of the grid.

    Shifts are split between the two nearest multiples of STEP, so that the time does not grow with pairs times U.
    """
    number = np.bincount(label, minlength=n_classes)
    place = shift / STEP
    low = np.floor(place).astype(int)
    first = int(low.min(initial=0))
    width = int(low.max(initial=0)) - first + 2
    cell, part = label * width + low - first, place - low
    split = np.bincount(cell, 1 - part, n_classes * width) + np.bincount(cell + 1, part, n_classes * width)
    mass = split.reshape(n_classes, width) / np.maximum(number, 1)[:, None]
    mass[number == 0, -first] = 1
    each = 1 / (1 + np.exp(-(grid + STEP * (first + np.arange(width))[:, None])))
    return np.clip(mass @ each, 1e-12, 1 - 1e-12)


@lru_cache(maxsize=1)
def _kernels() -> np.ndarray:
    """(A, T, U) probability that a clean class lies in a cell of the grid, for each centre and spread."""
    from scipy.special import stdtr

    reach = CELLS // 2 + CENTRES // 2
    edges = STEP * (np.arange(-reach, reach + 2) - 0.5)
    below = stdtr(FREEDOM, edges / SPREADS[:, None])
    # Row a of the windows is the distribution as seen from centre a. The outer cells take the tails.
    windows = np.lib.stride_tricks.sliding_window_view(below, CELLS + 1, axis=1)[:, ::-1].copy()
    windows[..., 0], windows[..., -1] = 0, 1
    return np.diff(windows, axis=2).transpose(1, 0, 2).copy()


@dataclass(frozen=True)
class _Prediction:
    """A further clean class, as the other classes predict it: one row for each class that is tested.

    Attributes:
        pairs: (C,) number of its pairs.
        rate: (C, U) its mean probability of the event, for each logit of the grid.
        typical: (C, A) weights of the typical logit. clean: (C, U) distribution of its own logit.
    """

    pairs: np.ndarray
    rate: np.ndarray
    typical: np.ndarray
    clean: np.ndarray

    def expected(self) -> np.ndarray:
        """(C,) number of events in a typical class."""
        return self.pairs * (self.typical * self.rate[:, MIDDLE]).sum(axis=1)

    def at_least(self, counts: np.ndarray, extra: float) -> np.ndarray:
        """(C,) probability of `counts` events or more, if the share `extra` of the pairs has the event in addition."""
        from scipy.special import betainc

        # Binomial: pairs of unequal probability vary less.
        least = np.maximum(counts, 1)
        tail = betainc(least[:, None], np.maximum(self.pairs - least + 1, 1)[:, None], extra + (1 - extra) * self.rate)
        return np.where(counts > 0, np.minimum((self.clean * tail).sum(axis=1), 1), 1.0)

    def significant(self, level: float) -> np.ndarray:
        """(C,) smallest number of events whose p-value is at most `level`, or all pairs."""
        low, high = np.zeros_like(self.pairs), self.pairs.copy()
        while (low < high).any():
            half = (low + high) // 2
            enough = self.at_least(half, MARGIN) <= level
            low, high = np.where(enough, low, np.minimum(half + 1, high)), np.where(enough, half, high)
        return low


def _prediction(pairs: np.ndarray, counts: np.ndarray, rate: np.ndarray, variance: np.ndarray) -> _Prediction:
    """Estimate the typical logit and the spread of clean classes from all classes but one, for each class."""
    kernels = _kernels()
    likelihood = counts[:, None] * np.log(rate) + (pairs - counts)[:, None] * np.log1p(-rate)
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    clean = (likelihood @ kernels.reshape(-1, CELLS).T).reshape(-1, *kernels.shape[:2], 1)
    # A class on a shortcut: any share of its pairs, from none to all, in addition to the events of a typical class.
    gained = (likelihood * np.diff(rate, axis=1, append=1.0))[:, ::-1].cumsum(axis=1)[:, ::-1]
    shortcut = (gained / (1 - rate))[:, MIDDLE, None, None]
    evidence = np.log(np.maximum((1 - SHORTCUTS) * clean + SHORTCUTS * shortcut, 1e-300))
    others = evidence.sum(axis=0) - evidence + np.log(SPREAD_PRIOR)[:, None]
    weights = np.exp(others - others.max(axis=(1, 2, 3), keepdims=True)).sum(axis=3)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    predicted = weights.reshape(len(weights), -1) @ kernels.reshape(-1, CELLS)
    return _Prediction(pairs, rate, weights.sum(axis=2), _blurred(predicted, variance))


def _blurred(predicted: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Convolve each row with a normal distribution of the given variance; the outer cells take what leaves the grid."""
    from scipy.special import ndtr

    edges = STEP * (np.arange(-CELLS + 1, CELLS + 1) - 0.5)
    kernels = np.diff(ndtr(edges / np.sqrt(np.maximum(variance, 1e-8))[:, None]), axis=1)
    wide = np.stack([np.convolve(row, kernel) for row, kernel in zip(predicted, kernels, strict=True)])
    inside = wide[:, CELLS - 1 : 2 * CELLS - 1].copy()
    inside[:, 0] += wide[:, : CELLS - 1].sum(axis=1)
    inside[:, -1] += wide[:, 2 * CELLS - 1 :].sum(axis=1)
    return inside
