"""What tells how far VICE can be trusted: intervals, sensitivities, controls, quadrants and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from torchvice.measures.association import disagreement, put_association
from torchvice.measures.consistency import ConsistencyData, put_consistency_of_pairs, put_intervals_of_vice
from torchvice.measures.controls import put_other_explanations
from torchvice.measures.inference import Inference, Replicates, number_or_none
from torchvice.measures.interventions import without_histograms
from torchvice.measures.pairs import Pairs
from torchvice.measures.quadrants import QUADRANTS, quadrants_by
from torchvice.measures.qualities import QUALITIES, quality_of
from torchvice.measures.sheet import Sheet
from torchvice.measures.threshold_free import put_normalisations, put_threshold_free
from torchvice.measures.verdict import verdict_of
from torchvice.measures.without import put_without
from torchvice.measures.witnesses import class_tests
from torchvice.metrics.beside import at_once
from torchvice.metrics.parallel import matrix_products
from torchvice.metrics.standing_out import ClassTest
from torchvice.metrics.weighted_scores import MeanAveragePrecision
from torchvice.samples import Samples

__all__ = ["put_trust"]

STRONGEST = 20  # pairs of each quadrant that the measures name


def put_trust(
    samples: Samples,
    pairs: Pairs,
    sheet: Sheet,
    quality: str,
    inference: Inference,
    calibrate: Callable[[], None] | None,
) -> None:
    """Put what tells how far VICE can be trusted: intervals, sensitivities, controls, quadrants.

    `calibrate` puts the calibration, where two processes share the work; None: of many pairs they take too much memory.
    """
    subject = _consistency_data(samples, quality, pairs)
    sheet.parts["quality"] = {"name": quality, "meaning": QUALITIES[quality].meaning}
    sheet.parts["quadrants"] = _quadrants(subject)
    others = partial(_others, samples, subject, inference)
    tests: dict[str, ClassTest] = {}

    def half() -> None:
        _put_sensitivities(sheet, samples, subject, inference)
        bare = without_histograms(pairs)  # with the columns that were read until here
        put_without(sheet, samples, bare, inference)
        if calibrate is not None:
            calibrate()
        with matrix_products().limit(limits=1):  # as in two processes: the last digits are the same
            tests.update(class_tests(bare, samples))

    if calibrate is None:
        half()
        more, replicates = others()
    else:
        more, replicates = at_once(half, others)
        inference.learn(pairs, replicates)
    sheet.add(more)
    put_intervals_of_vice(sheet, subject, inference)
    without = {name: value for name, value in sheet.sections["without"].items() if math.isfinite(value)}
    numbers = {"vice": _vice_of(sheet, pairs), "without": without}
    reason = sheet.undefined.get("intervals.strict.vice", "")
    sheet.parts["verdict"] = verdict_of(samples, without_histograms(pairs), tests, inference, numbers, reason)


def _put_sensitivities(sheet: Sheet, samples: Samples, subject: ConsistencyData, inference: Inference) -> None:
    """Put intervals, sensitivities, and measures without a threshold."""
    if np.isfinite(sheet.value("strict.mean_average_precision")):
        statistic = MeanAveragePrecision(subject.probabilities, subject.targets)
        drawn = inference.replicates(statistic, samples.of_protocol("strict").images.image_id)
        found = inference.interval(sheet.value("strict.mean_average_precision"), drawn)
        sheet.put_interval("strict.mean_average_precision", found)
    put_consistency_of_pairs(sheet, subject, inference)
    put_threshold_free(sheet, subject, inference)


def _others(samples: Samples, subject: ConsistencyData, inference: Inference) -> tuple[Sheet, dict[str, Replicates]]:
    """What does not need the sensitivities, nor they it: the other half of the work, and the replicates of VICE."""
    sheet, pairs = Sheet(), subject.pairs
    put_association(sheet, pairs, subject.thresholds, inference)
    normalisation = samples.of_protocol("strict").settings.get("normalisation", "")
    put_normalisations(sheet, subject, normalisation, inference)
    if pairs.regions is not None:
        pairs.regions.release("inside", "outside")
    put_other_explanations(sheet, samples, subject, inference)
    return sheet, inference.known(pairs)


def _vice_of(sheet: Sheet, pairs: Pairs) -> dict[str, Any]:
    """The association of certainty and map, for the verdict."""
    values = {name: sheet.sections[name].get("vice", math.nan) for name in ("paper", "strict")}
    values |= {name: sheet.sections["strict"].get(f"vice_{name}", math.nan) for name in ("joint", "lowest", "highest")}
    return {
        **{name: number_or_none(value) for name, value in values.items()},
        "interval": sheet.intervals.get("strict.vice"),
        "joint_interval": sheet.intervals.get("strict.vice_joint"),
        "disagreement": [row.to_json() for row in disagreement(sheet)],
        "p": sheet.tests.get("strict.vice", {}).get("p"),
        "pairs": len(pairs),
    }


def _quadrants(subject: ConsistencyData) -> dict[str, Any]:
    """Cut-offs, counts, and the strongest pairs of each quadrant."""
    pairs = subject.pairs
    found = quadrants_by(pairs, subject.name, subject.quality)
    quality = subject.quality if found.by == subject.name else pairs.quality
    p = pairs.probability
    strongest = {
        quadrant: [
            {
                "image_id": str(pairs.image_id[row]),
                "class": subject.classes[pairs.class_index[row]],
                "strength": float(found.strength[row]),
                "probability": float(p[row]),
                "quality": float(quality[row]),
            }
            for row in found.strongest(quadrant)[:STRONGEST].tolist()
        ]
        for quadrant in QUADRANTS
    }
    return {**found.to_json(), "strongest": strongest}


def _consistency_data(samples: Samples, quality: str, pairs: Pairs) -> ConsistencyData:
    """Collect the input of the consistency measures.

    Raises:
        ViceError: as `quality_of`.
    """
    strict = samples.of_protocol("strict")
    images, masked = strict.images, strict.images.where(strict.images.has_mask)
    return ConsistencyData(
        pairs=pairs,
        name=quality,
        quality=quality_of(pairs, quality),
        image_id=masked.image_id,
        loss=strict.losses[images.has_mask],
        probabilities=strict.probabilities,
        targets=images.targets,
        classes=samples.classes,
        thresholds=samples.thresholds,
    )
