"""Witnesses: the events by which a class can stand out, and the test of every class by each of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from torchvice.measures.interventions import column_of
from torchvice.measures.pairs import Pairs
from torchvice.measures.qualities import IOU_CUTOFF
from torchvice.metrics.standing_out import ClassTest, classes_that_stand_out
from torchvice.samples import ProtocolSamples, Samples

__all__ = ["LEVEL", "WITNESSES", "class_tests", "events_of", "testable"]

LEVEL = 0.05  # probability that a table without any shortcut names a class
FALSE_POSITIVES = 0.05  # share of the images without a class that its threshold lets through
FEWEST_NEGATIVES = 40  # images without the class, for a threshold of its own

# What a witness says of found labels.
WITNESSES = {
    "localisation": "have their map off the object",
    "without_object": "are still found without the object, by a higher score than 95 % of other classes' images "
    "without theirs",
    "score_without_object": "are found without the object, or score higher than 95 % of the images without the class",
}


def class_tests(pairs: Pairs, samples: Samples) -> dict[str, ClassTest]:
    """Test every class by each witness that the table holds.

    Args:
        pairs: true pairs; those that the model predicts are tested.
        samples: the table of these pairs; images without a class give the threshold of its scores.
    """
    found = pairs.where(pairs.predicted)
    events = events_of(found, samples)
    sizes = np.clip(found.area, 1e-9, 1)
    return {
        name: classes_that_stand_out(
            event[known],
            found.class_index[known],
            sizes[known],
            len(samples.classes),
            witnesses=len(events),
            level=LEVEL,
        )
        for name, (event, known) in events.items()
    }


def testable(tests: Mapping[str, ClassTest]) -> np.ndarray:
    """(C,) bool: the classes with enough found labels for one of the witnesses; (0,) without a test."""
    return np.any([~np.isnan(test.p_value) for test in tests.values()], axis=0) if tests else np.zeros(0, bool)


def events_of(pairs: Pairs, samples: Samples) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By witness that the table holds, (P,) bool whether its event happened to each pair, and whether that is known.

    Something else may speak for a label that is lost without its object: its score is then lower than before, but
    higher than on the images without the class. So a score without the object is also compared with the scores of
    those images, at a false positive rate of 5 %. Where classes exclude each other, one of them is always the
    likeliest, and a network without anything to go by has a favourite. The event is then that the class still is the
    likeliest, by a larger margin than on 95 % of the images of other classes whose object is removed, too.

    Args:
        pairs: true pairs.
        samples: the table that they are of.
    """
    events = {"localisation": (pairs.quality < IOU_CUTOFF, np.ones(len(pairs), bool))}
    without = column_of(pairs, "without_object")
    if len(without):
        strict = samples.of_protocol("strict")
        name = "without_object" if strict.exclusive else "score_without_object"
        least = _favourites(strict) if strict.exclusive else np.minimum(_thresholds(samples), 0)
        threshold = least[pairs.class_index]
        events[name] = (without > threshold, ~np.isnan(without) & ~np.isnan(threshold))
    return {name: (event, known) for name, (event, known) in events.items() if known.any()}


def _thresholds(samples: Samples) -> np.ndarray:
    """(C,) logits that 5 % of the images without the class exceed; NaN with fewer than 40 such images."""
    images = samples.of_protocol("strict").images
    thresholds = np.full(len(samples.classes), np.nan)
    for c, (logits, targets) in enumerate(zip(images.logits.T, images.targets.T, strict=True)):
        negatives = logits[targets == 0]
        if len(negatives) >= FEWEST_NEGATIVES:
            thresholds[c] = np.quantile(negatives.astype(float), 1 - FALSE_POSITIVES)
    return thresholds


def _favourites(strict: ProtocolSamples) -> np.ndarray:
    """(C,) margins, 0 or more, that a class has on 5 % of the other classes' images without their object.

    NaN with fewer than 40 such images, and in tables of earlier versions, which do not have what is answered then.
    """
    rows = np.flatnonzero((strict.regions.label > 0) & ~np.isnan(strict.regions.answer_without_object))
    classes, answers = strict.regions.label[rows] - 1, strict.regions.answer_without_object[rows].astype(int)
    margins = strict.regions.answer_margin[rows].astype(float)
    thresholds = np.full(strict.images.targets.shape[1], np.nan)
    for c in range(len(thresholds)):
        others = classes != c
        if others.sum() >= FEWEST_NEGATIVES:
            # Where another class is the likeliest, the margin of this one is below 0.
            thresholds[c] = np.quantile(np.where(answers == c, margins, 0)[others], 1 - FALSE_POSITIVES)
    return thresholds
