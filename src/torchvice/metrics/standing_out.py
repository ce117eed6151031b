"""Classes that stand out: one class has more events than the other classes and the sizes of its objects explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.clean_class import Prediction, predict_clean_classes
from torchvice.metrics.comparison import holm
from torchvice.metrics.size_effect import size_effect

__all__ = ["ClassTest", "classes_that_stand_out", "holm_over_witnesses"]

LEVEL = 0.05
MARGIN = 0.1  # share of pairs that a class may have in addition to a clean class's events and still not stand out


@dataclass(frozen=True)
class ClassTest:
    """The test of every class by one witness. All arrays are (C,).

    Attributes:
        pairs: number of tested pairs.
        events: number of pairs with the event.
        expected: number of events in a typical class with objects of these sizes.
        p_value: one-sided, for more events than a clean class and a tenth of the pairs in addition would have; NaN if
            the class could not be named even if all its pairs had the event.
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

    Logits are a smooth function of log size plus an effect of the class. Effects of clean classes follow a t
    distribution, estimated from the other classes, some of which may be on a shortcut. The p-value is the predictive
    probability that a further clean class, with a tenth of its pairs in addition, has at least this many events. Pairs
    of a class belong to different images, so they need no clusters; Holm's correction allows dependent classes.

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
        ViceError: different lengths, values outside their range, or an image that occurs twice in a class.

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
    counts = np.bincount(label[happened], minlength=n_classes)
    shift, variance = size_effect(happened, label, np.log(size), n_classes)
    prediction = predict_clean_classes(counts, label, shift, variance)
    return _tested(prediction, counts, level / witnesses, with_power)


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


def _tested(prediction: Prediction, counts: np.ndarray, level: float, with_power: bool) -> ClassTest:
    """P-values and power of one witness, whose share of the level is given."""
    pairs = prediction.pairs
    least = np.where(pairs > 0, prediction.at_least(pairs, MARGIN), 1.0)
    # The largest number of tests such that this many classes could reach the level (Tarone).
    ranked = np.sort(least) * np.arange(1, len(counts) + 1)
    own_level = level / max(int(np.flatnonzero(ranked <= level).max(initial=-1)) + 1, 1)
    possible = least <= own_level
    power = np.full(len(counts), np.nan)
    if with_power:
        power = np.where(possible, prediction.at_least(prediction.enough(own_level, MARGIN), 0.5), 0)
    p_value = np.where(possible, prediction.at_least(counts, MARGIN), np.nan)
    return ClassTest(pairs, counts, prediction.expected(), p_value, power)


def _checked(
    events: ArrayLike, classes: ArrayLike, sizes: ArrayLike, n_classes: int, images: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    happened, label = as_array("events", events, 1), as_array("classes", classes, 1, int)
    size = as_array("sizes", sizes, 1)
    same_length(events=happened, classes=label, sizes=size)
    for name, rule, column, right in (
        ("events", "0 or 1", happened, (happened == 0) | (happened == 1)),
        ("classes", f"from 0 to {n_classes - 1}", label, (label >= 0) & (label < n_classes)),
        ("sizes", "in (0, 1]", size, (size > 0) & (size <= 1)),
    ):
        if not right.all():
            raise ViceError(f"`{name}` must be {rule}, but holds {column[~right][0]:g}.")
    if images is not None:
        image = np.unique(as_array("images", images, 1, None), return_inverse=True)[1]
        same_length(events=happened, images=image)
        if len(np.unique(image * n_classes + label)) < len(label):
            raise ViceError("An image must occur once in a class, but one occurs twice.", "Keep one pair of each.")
    return happened == 1, label, size
