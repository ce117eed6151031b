"""The verdict: whether the model is right for the right reasons, which classes are not, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchvice.measures.inference import Inference
from torchvice.measures.interventions import filling_of, share_of, share_without
from torchvice.measures.looked_at import looked_at
from torchvice.measures.pairs import Pairs
from torchvice.measures.qualities import IOU_CUTOFF
from torchvice.measures.verdict_text import caveats_of, sentences_of
from torchvice.measures.witnesses import LEVEL, events_of, testable
from torchvice.metrics.iou import pair_iou
from torchvice.metrics.standing_out import ClassTest, holm_over_witnesses
from torchvice.samples import Samples

__all__ = ["Verdict", "standing_out", "verdict_of"]


@dataclass(frozen=True)
class Verdict:
    """What the numbers lead to. Shares are of the found pairs: true labels with mask pixels that the model predicts.

    Attributes:
        sentences: three to five, the strongest evidence first, each with its test or interval and its number of labels;
            what could not be measured is said.
        on_object: {share, chance, chance_pairs, share_of_chance_pairs, pairs, interval}: pairs whose map lies on the
            object (IoU of 0.3 or more at the held-out threshold); `chance`, the share of the same maps that lie on
            another image's object of the class, from the control `shuffled`. It is over the `chance_pairs` whose class
            another image shows (None: the control was not assessed); `share_of_chance_pairs`, the share of these.
        without_object: {share, pairs, interval, lost, lost_to_hole, foreground_sensitivity}: pairs that are still found
            without the object.
        without_background: {share, pairs, interval, lost}.
        stands_out: the classes that stand out, the strongest evidence first, [{class, witness, share, expected, p,
            pairs, looks_at}]. `witness`, a key of `torchvice.measures.witnesses.WITNESSES`: "localisation" (the map
            lies off the object), "score_without_object" (found without the object, or scores higher than 95 % of the
            images without the class) or, where classes exclude each other, "without_object" (found without the object);
            `share` of `pairs`, and what is `expected` of a class with objects of these sizes; `p` after Holm over
            classes and witnesses; `looks_at`: what the class is found by instead, see
            `torchvice.measures.looked_at.Group`.
        power: {level, witnesses, classes, pairs, named, by_class, p_by_class, not_testable}: `classes` that could be
            named; the probability `named` that a class is named if half of its pairs depend on a shortcut: `by_class`,
            and of the class where it is the median, with `pairs`; `p_by_class`, the smallest p of each class after
            Holm; names of the classes that could not be named whatever they show.
        vice: {paper, strict, interval, p, pairs, joint, joint_interval, lowest, highest, disagreement}: the association
            of certainty and map; `joint`, given class, size, labels and extent; `lowest` and `highest` over thresholds
            that are as good; `disagreement`, senses without a threshold that establish something else.
        caveats: what the sentences do not say.
    """

    sentences: tuple[str, ...] = ()
    on_object: Mapping[str, Any] = field(default_factory=dict)
    without_object: Mapping[str, Any] = field(default_factory=dict)
    without_background: Mapping[str, Any] = field(default_factory=dict)
    stands_out: tuple[Mapping[str, Any], ...] = ()
    power: Mapping[str, Any] = field(default_factory=dict)
    vice: Mapping[str, Any] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()


def verdict_of(
    samples: Samples,
    pairs: Pairs,
    tests: Mapping[str, ClassTest],
    inference: Inference,
    numbers: Mapping[str, Mapping[str, Any]],
    no_interval: str = "",
) -> Verdict:
    """Draw the verdict from a table that was assessed under `strict`.

    Args:
        samples: the table.
        pairs: its true pairs.
        tests: of its classes, `torchvice.measures.witnesses.class_tests`.
        inference: of the intervals.
        numbers: of the rest of the measures, as JSON has them: `vice`, the part of the verdict of this name, and
            `without`, what is defined of the section.
        no_interval: why VICE has no interval, as a sentence; "" if it has one, or if images were not resampled.
    """
    rows = standing_out(tests, samples.classes)
    events = events_of(pairs, samples) if rows else {}
    named = [
        row | {"looks_at": _looks_at(pairs, *events[row["witness"]], samples.classes, row["class"])} for row in rows
    ]
    filling = filling_of(samples)
    without = numbers["without"]
    parts: dict[str, Any] = {
        "on_object": _on_object(samples, pairs, inference),
        "without_object": share_without(pairs, "object", inference)
        | {"lost": without.get("object_lost"), "lost_to_hole": without.get("hole_lost")}
        | {"foreground_sensitivity": without.get("foreground_sensitivity")},
        "without_background": share_without(pairs, "background", inference) | {"lost": without.get("background_lost")},
        "stands_out": tuple(named),
        "power": _power(tests, samples.classes),
        "vice": numbers["vice"],
    }
    return Verdict(
        sentences=tuple(sentences_of(parts, len(pairs), filling, samples.foreign, no_interval)),
        caveats=tuple(caveats_of(samples, parts, without, inference.resampling is not None)),
        **parts,
    )


def _looks_at(
    pairs: Pairs, event: np.ndarray, known: np.ndarray, classes: tuple[str, ...], name: str
) -> list[dict[str, Any]]:
    """What the pairs of a class that show the event are found by instead, in groups."""
    return [group.to_json(name) for group in looked_at(pairs, classes.index(name), event & known)]


def standing_out(tests: Mapping[str, ClassTest], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The classes that stand out, one row for each witness that names them, the strongest evidence first."""
    if not tests:
        return []
    adjusted, _ = holm_over_witnesses(tests, LEVEL)
    ranked: list[tuple[float, float, dict[str, Any]]] = []
    for witness, test in tests.items():
        for c in np.flatnonzero(adjusted[witness] <= LEVEL).tolist():
            count = int(test.pairs[c])
            share, expected = float(test.events[c] / count), float(test.expected[c] / count)
            row = {"class": classes[c], "witness": witness, "share": share, "expected": expected}
            row |= {"p": float(adjusted[witness][c]), "pairs": count, "looks_at": []}
            ranked.append((float(test.p_value[c]), expected - share, row))
    return [row for *_, row in sorted(ranked, key=lambda entry: entry[:2])]


def _power(tests: Mapping[str, ClassTest], classes: tuple[str, ...]) -> dict[str, Any]:
    """What the tests could have named."""
    nothing: dict[str, Any] = {
        "classes": 0,
        "pairs": None,
        "named": None,
        "by_class": {},
        "p_by_class": {},
        "not_testable": list(classes),
    }
    about = {"level": LEVEL, "witnesses": list(tests)}
    if not tests:
        return about | nothing
    best = np.max([test.power for test in tests.values()], axis=0)
    known = testable(tests)
    absent = [name for name, one in zip(classes, known, strict=True) if not one]
    if not known.any():
        return about | nothing
    pairs = np.max([test.pairs for test in tests.values()], axis=0)
    rows = np.flatnonzero(known)
    adjusted, _ = holm_over_witnesses(tests, LEVEL)
    smallest = np.min([np.where(np.isnan(p), 1.0, p) for p in adjusted.values()], axis=0)
    # The class of median power; of two middle ones that of less power.
    median = rows[np.argsort(best[rows], kind="stable")[(len(rows) - 1) // 2]]
    return about | {
        "classes": len(rows),
        "pairs": int(pairs[median]),
        "named": float(best[median]),
        "by_class": {classes[c]: float(best[c]) for c in rows.tolist()},
        "p_by_class": {classes[c]: float(smallest[c]) for c in rows.tolist()},
        "not_testable": absent,
    }


def _on_object(samples: Samples, pairs: Pairs, inference: Inference) -> dict[str, Any]:
    """Share of found pairs whose map lies on the object, and on another image's object of the class."""
    found = pairs.where(pairs.predicted)
    on_object = found.quality >= IOU_CUTOFF
    by_chance = _by_chance(samples, found)
    chance: dict[str, Any] = dict.fromkeys(("chance", "chance_pairs", "share_of_chance_pairs"))
    if by_chance is not None:
        known = ~np.isnan(by_chance)
        chance["chance_pairs"] = int(known.sum())
        if known.any():
            chance["chance"] = float((by_chance[known] >= IOU_CUTOFF).mean())
            chance["share_of_chance_pairs"] = float(on_object[known].mean())
    result = share_of(on_object, found, inference)
    return {"share": result["share"], **chance, **result}


def _by_chance(samples: Samples, found: Pairs) -> np.ndarray | None:
    """(P,) IoU of the found pairs' maps with another image's object of the class, at the headline's thresholds.

    NaN without another image that shows the class; None where the control `shuffled` was not assessed.
    """
    shuffled = next(
        (
            name
            for name, settings in samples.manifest["explanations"].items()
            if settings.get("role") == "control" and name.partition(":")[2] == "shuffled"
        ),
        None,
    )
    if shuffled is None:
        return None
    regions = samples.of_explanation(shuffled)
    regions = regions.where(regions.mask_pixels > 0)
    keys = zip(regions.image_id.tolist(), (regions.label - 1).tolist(), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    pairs = zip(found.image_id.tolist(), found.class_index.tolist(), strict=True)
    row = np.array([row_of.get(key, -1) for key in pairs], np.int64)
    known = row >= 0
    regions = regions.where(row[known])  # of the others no counts are read
    place = np.arange(len(regions)), found.at[known]
    iou = np.full(len(found), np.nan)
    iou[known] = pair_iou(regions.intersection[place], regions.predicted[place], regions.mask_pixels)
    return iou
