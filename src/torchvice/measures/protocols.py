"""Samples -> Measures: every number of step 5 under both protocols, derived from the table and none from the images."""

from __future__ import annotations

import math

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.pairs import true_pairs
from torchvice.measures.sheet import (
    PAPER,
    STRICT,
    DiagramParts,
    Measures,
    Sheet,
    paths_of,
    put_consistency,
    put_precision_recall,
)
from torchvice.metrics import (
    mean_average_precision,
    multilabel_accuracy,
    multilabel_f1,
    multilabel_reliability,
    pair_vice,
    sample_loss,
    sigmoid,
)
from torchvice.metrics.iou import IouCurve, curve_from_counts, image_ji_from_counts
from torchvice.metrics.thresholds import SAMPLE_THRESHOLD
from torchvice.samples import Images, Regions, Samples

__all__ = ["measure", "paper_ji", "threshold_index"]


def measure(samples: Samples) -> Measures:
    """Every number of an assessment, under both protocols side by side.

    Args:
        samples: the table. A protocol that it was not assessed for is null in the result, with that reason.

    Returns:
        Measures. `classification` follows the published conventions on the view of `paper` (of `strict`, where the
        table has no `paper`); see docs/definitions.md for every formula.

    Raises:
        ViceError: a table without images.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).
    """
    protocols = samples.manifest["protocols"]
    if not len(samples.images) or not protocols:
        raise ViceError("A measurement needs images, but the table has none.")
    sheet, diagrams = Sheet(), DiagramParts()
    excluded: dict[str, int] = {}
    for protocol, section in (("paper", _measure_paper), ("strict", _measure_strict)):
        if protocol in protocols:
            section(samples, sheet, diagrams)
            excluded |= _excluded(samples, protocol)
        else:
            reason = f"The table was not assessed under `{protocol}`."
            sheet.leave_out(paths_of(protocol, PAPER if protocol == "paper" else STRICT), reason)
            prefix = "" if protocol == "paper" else "strict_"
            sheet.leave_out([f"localisation.{prefix}best_threshold", f"localisation.{prefix}best_mean_iou"], reason)
    first = samples.of_view(protocols["paper" if "paper" in protocols else "strict"]["view"])
    _classify(first, sheet)
    source = {
        "table": {name: samples.manifest[name] for name in ("model", "dataset", "explanations", "versions")},
        "protocols": protocols,
    }
    return sheet.measures(len(first), excluded, source, diagrams.whole())


def _excluded(samples: Samples, protocol: str) -> dict[str, int]:
    """What did not enter the measures of a protocol, by reason; only what happened is listed."""
    chosen = samples.manifest["protocols"][protocol]
    images, regions = samples.of_view(chosen["view"]), samples.of_explanation(chosen["explanation"])
    found = {"images without a mask (left out of VICE, JI and mIoU)": int((~images.has_mask).sum())}
    for status in ("zero", "constant", "nan"):
        found[f"{protocol}: maps that are {status} (kept, see docs)"] = int((regions.status == status).sum())
    if protocol == "strict":
        pairs = true_pairs(samples)
        found["strict: true labels without a pixel in the mask (left out)"] = pairs.without_pixels
        empty = (images.targets.sum(1) == 0) & (sigmoid(images.logits.astype(float)) <= 0.5).all(1)
        found["strict: images with neither label nor prediction (left out of ML-accuracy and F1)"] = int(empty.sum())
    return {reason: count for reason, count in found.items() if count}


def _measure_paper(samples: Samples, sheet: Sheet, diagrams: DiagramParts) -> None:
    chosen = samples.manifest["protocols"]["paper"]
    images, regions = samples.of_view(chosen["view"]), samples.of_explanation(chosen["explanation"])
    probabilities = sigmoid(images.logits)  # in float32, as published
    masked = images.where(images.has_mask)
    loss, ji = sample_loss(masked.logits, masked.targets), paper_ji(samples, masked, regions)
    put_consistency(sheet, loss, ji)
    diagram = multilabel_reliability(probabilities, images.targets)
    nothing = "An image with neither label nor prediction has no accuracy (0/0)."
    sheet.put("paper.ece_ml", diagram.ece, nothing)
    sheet.put("paper.ml_accuracy", multilabel_accuracy(probabilities, images.targets), nothing)
    sheet.put("paper.f1", multilabel_f1(probabilities, images.targets))
    curve = _curve(samples, regions, "paper")
    sheet.put("localisation.best_threshold", curve.best_threshold, "No image has a mask.")
    sheet.put("localisation.best_mean_iou", curve.best_mean_iou, "No image has a mask.")
    diagrams.loss, diagrams.ji = loss, ji
    diagrams.reliability["paper"], diagrams.curves["paper"] = diagram, curve


def paper_ji(samples: Samples, images: Images, regions: Regions) -> np.ndarray:
    """(N,) the published per-image JI at threshold 0.1 of the given image rows."""
    at = threshold_index(samples.thresholds, SAMPLE_THRESHOLD)
    place = {image_id: row for row, image_id in enumerate(images.image_id.tolist())}
    rows = np.array([place[image_id] for image_id in regions.image_id.tolist()], dtype=np.int64)
    return image_ji_from_counts(
        regions.intersection[:, at], regions.predicted[:, at], regions.mask_pixels, rows, len(images)
    )


def threshold_index(thresholds: np.ndarray, wanted: float) -> int:
    """Where a threshold stands among those of the table.

    Raises:
        ViceError: the table has no counts there.
    """
    found = np.flatnonzero(np.isclose(thresholds, wanted, rtol=0, atol=1e-9))
    if not len(found):
        raise ViceError(f"The table must hold counts at threshold {wanted}, but has {thresholds.tolist()}.")
    return int(found[0])


def _curve(samples: Samples, regions: Regions, protocol: str) -> IouCurve:
    """The mIoU curve of an explanation, from the sums of the table."""
    labels = len(samples.classes) + 1
    shape = (labels, len(samples.thresholds))
    shared, said, pixels = np.zeros(shape), np.zeros(shape), np.zeros(labels)
    np.add.at(shared, regions.label, regions.intersection)
    np.add.at(said, regions.label, regions.predicted)
    np.add.at(pixels, regions.label, regions.mask_pixels)
    return curve_from_counts(shared.T, said.T, pixels, samples.thresholds, protocol)


def _measure_strict(samples: Samples, sheet: Sheet, diagrams: DiagramParts) -> None:
    chosen = samples.manifest["protocols"]["strict"]
    images, regions = samples.of_view(chosen["view"]), samples.of_explanation(chosen["explanation"])
    probabilities, pairs = sigmoid(images.logits.astype(float)), true_pairs(samples)
    sheet.put("strict.vice", lambda: pair_vice(pairs.logit, pairs.quality).value)
    none = "No image has a true label with a mask."
    sheet.put("strict.ji", pairs.quality.mean() if len(pairs.quality) else math.nan, none)
    diagram = multilabel_reliability(probabilities, images.targets, protocol="strict")
    sheet.put("strict.ece_ml", diagram.ece)
    empty = "No image has a label or a prediction."
    sheet.put("strict.ml_accuracy", multilabel_accuracy(probabilities, images.targets, "strict"), empty)
    sheet.put("strict.f1", multilabel_f1(probabilities, images.targets, "strict"), empty)
    ap = mean_average_precision(probabilities, images.targets, "strict")
    sheet.put("strict.mean_average_precision", ap, "No image shows any class.")
    curve = _curve(samples, regions, "strict")
    sheet.put("localisation.strict_best_threshold", curve.best_threshold, "No image has a mask.")
    sheet.put("localisation.strict_best_mean_iou", curve.best_mean_iou, "No image has a mask.")
    diagrams.reliability["strict"], diagrams.curves["strict"] = diagram, curve


def _classify(images: Images, sheet: Sheet) -> None:
    """The published multi-label scores."""
    probabilities = sigmoid(images.logits)
    ap = mean_average_precision(probabilities, images.targets)
    sheet.put("classification.mean_average_precision", ap)
    put_precision_recall(sheet, probabilities, images.targets)
