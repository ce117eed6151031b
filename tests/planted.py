"""Simulated tables with the columns of interventions, and perhaps a class that is found by something else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from simulated import HEADLINE, simulated
from torchvice.samples import FEATURES, Samples

INTERVENTIONS = {"filling": "blur", "dilation": 5, "treatments": ["object", "background"], "seed": 0}
SHUFFLED = {"strict:shuffled": {"role": "control", "dependence": 0.0}}


def planted(
    images: int = 200, seed: int = 0, classes: int = 6, shortcut: int | None = None, share: float = 0.9, **options: Any
) -> Samples:
    """A table under `strict` with interventions.

    Args:
        images, seed, classes, options: as of `simulated`.
        shortcut: the class of which `share` of the pairs are found by a patch at the lower left: their maps lie there,
            and neither losing the object nor a hole elsewhere changes their logit.
        share: of its pairs.
    """
    samples = simulated(images, seed=seed, classes=classes, **{"dependence": 0.3, "others": SHUFFLED, **options})
    rng, regions = np.random.default_rng(1000 + seed), samples.regions
    headline, count = regions.explanation == HEADLINE, len(regions)
    row_of = {name: row for row, name in enumerate(samples.images.image_id.tolist())}
    rows = np.array([row_of[name] for name in regions.image_id.tolist()])
    logit = samples.images.logits[rows, regions.label - 1].astype(float)
    other = (regions.label - 1 == shortcut) & (rng.random(count) < share) & headline
    found, drawn = logit > 0, rng.random(count)
    features = rng.normal(size=(count, FEATURES))
    features[other] = 10 + 0.1 * features[other]
    columns = {
        "without_object": np.where(other, logit - 0.1, logit - rng.normal(4, 1.5, count)),
        "without_background": np.where(other, logit - 5, logit - rng.normal(1, 1, count)),
        "with_hole": np.where(found & (drawn < 0.9), logit - rng.normal(0.4, 0.5, count), np.nan),
        "object_by_mean": np.where(found & (drawn < 0.3), logit - rng.normal(3.5, 1.5, count), np.nan),
        "object_by_noise": np.where(found & (drawn < 0.3), logit - rng.normal(5, 1.5, count), np.nan),
        "peak_y": np.where(other, 0.9, rng.random(count)),
        "peak_x": np.where(other, 0.1, rng.random(count)),
        "peak_side": np.full(count, 0.25),
        "peak_height": np.ones(count),
        "peak_covered": np.where(other, -1.0, logit),
        "elsewhere_covered": logit,
    }
    if samples.exclusive:  # a label that is lost is taken for any other class
        own, classes = regions.label - 1, len(samples.classes)
        another = (own + rng.integers(1, classes, count)) % classes
        columns["answer_without_object"] = np.where(columns["without_object"] > 0, own, another)
        columns["answer_margin"] = np.where(
            columns["without_object"] > 0, columns["without_object"], rng.exponential(0.5, count)
        )
    columns = {name: np.where(headline, column, np.nan) for name, column in columns.items()}
    features = np.where(headline[:, None], features, np.nan).astype(np.float32)
    intersection = np.where(other[:, None], regions.intersection // 20, regions.intersection)
    explanations = {name: dict(settings) for name, settings in samples.manifest["explanations"].items()}
    explanations[HEADLINE]["interventions"] = INTERVENTIONS
    return Samples(
        {**samples.manifest, "explanations": explanations},
        samples.images,
        dataclasses.replace(regions, **columns, peak_features=features, intersection=intersection),
        samples.maps,
    )
