"""Tables drawn at random with known dependence: logits and IoUs are given, pixel counts follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from torchvice.samples import HISTOGRAM_BINS, Images, Maps, Regions, Samples

THRESHOLDS = (0.1, 0.3, 0.5)
VIEW, HEADLINE = "warp", "strict:cam"
SIDE = 1000  # pixels of a mask of area share 0.1: the image has 100 x 100
# How much of a pair's IoU there is at each threshold: the middle one is the best.
CURVE = np.array([0.6, 1.0, 0.5])


def regions_of(
    image_id: np.ndarray, label: np.ndarray, iou: np.ndarray, explanation: str, area: np.ndarray
) -> dict[str, np.ndarray]:
    """Rows whose IoU at the middle threshold is `iou`: what is predicted lies within the object."""
    pixels = np.round(area * 10_000).astype(np.int64)
    shared = np.round(iou[:, None] * CURVE * pixels[:, None]).astype(np.int64)
    inside, outside = (np.zeros((len(iou), HISTOGRAM_BINS), np.int64) for _ in range(2))
    inside[:, -1], inside[:, 0] = shared[:, 1], pixels - shared[:, 1]
    outside[:, 0] = 10_000 - pixels
    return {
        "image_id": image_id,
        "explanation": np.array([explanation] * len(iou), dtype=object),
        "label": label,
        "status": np.array(["ok"] * len(iou), dtype=object),
        "mask_pixels": pixels,
        "predicted": shared,
        "intersection": shared,
        "inside": inside,
        "outside": outside,
        "energy_inside": shared[:, 1].astype(float),
        "energy_outside": np.full(len(iou), 5.0),
        "pointing": (iou > 0.2).astype(float),
        "otsu_predicted": shared[:, 1].astype(float),
        "otsu_intersection": shared[:, 1].astype(float),
    }


def simulated(
    images: int = 120,
    seed: int = 0,
    classes: int = 4,
    dependence: float = 1.0,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    **manifest: Any,
) -> Samples:
    """A table under `strict` alone.

    Args:
        images: how many. seed: of the draws. classes: C.
        dependence: of IoU on the logit; 0 makes them independent.
        others: further explanations {id: {"role": ..., "dependence": ...}}; their IoUs depend on the same logits.
        manifest: further entries.
    """
    rng = np.random.default_rng(seed)
    targets = rng.random((images, classes)) < 0.4
    targets[np.arange(images), rng.integers(classes, size=images)] = True
    logits = (rng.normal(0, 2, (images, classes)) + 3 * targets - 1.5).astype(np.float32)
    names = np.array([f"image{i:05d}" for i in range(images)], dtype=object)
    rows, label = np.nonzero(targets)
    area = rng.uniform(0.02, 0.4, len(rows))
    parts, settings = [], {HEADLINE: {"method": "cam", "role": "headline", "normalisation": "max"}}
    wanted = {HEADLINE: {"dependence": dependence}, **(others or {})}
    for explanation, how in wanted.items():
        noise = rng.normal(0, 1, len(rows))
        signal = how.get("dependence", 0.0) * logits[rows, label] / 2
        iou = 1 / (1 + np.exp(-(signal + noise - 0.5)))
        parts.append(Regions.of(**regions_of(names[rows], label + 1, iou, explanation, area)))
        if explanation != HEADLINE:
            settings[explanation] = {"method": "cam", **{k: v for k, v in how.items() if k != "dependence"}}
    whole = {
        "classes": [f"class{c}" for c in range(classes)],
        "thresholds": list(THRESHOLDS),
        "explanations": settings,
        "protocols": {"strict": {"view": VIEW, "explanation": HEADLINE}},
        "targets": "multilabel",
        "model": {"type": "Toy"},
        "dataset": {"root": "nowhere", "split": "test"},
        "versions": {"torchvice": "0"},
    }
    nothing = np.full(images, np.nan)
    return Samples(
        {**whole, **manifest},
        Images(
            names,
            np.array([VIEW] * images, dtype=object),
            *(np.full(images, 100, np.int32),) * 2,
            np.ones(images, bool),
            targets.astype(np.uint8),
            logits,
            nothing,
            nothing,
            nothing,
            nothing,
        ),
        Regions.join(parts),
        Maps(np.array([], object), np.array([], object), np.zeros(0, np.int64), np.array([], object)),
    )
