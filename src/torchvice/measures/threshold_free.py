"""Measures that need no chosen threshold, and VICE under other normalisations, from the table's histograms."""

from __future__ import annotations

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.consistency import ConsistencyData
from torchvice.measures.inference import Inference
from torchvice.measures.qualities import QUALITIES, quality_of
from torchvice.measures.sheet import Sheet
from torchvice.metrics import pair_vice
from torchvice.metrics.boxes import held_out_box_accuracy, max_box_accuracy
from torchvice.metrics.localisation import RESCALINGS, iou_area, pixel_average_precision, renormalised_iou
from torchvice.metrics.thresholds import HeldOut
from torchvice.metrics.weighted import HeldOutSpearman, Mean

__all__ = ["put_normalisations", "put_threshold_free"]

NO_MASK = "No true label has a pixel in a mask."
GRID = np.arange(100) / 100


def put_threshold_free(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """Put PxAP, the area under the IoU curve and the mean of every quality of the table into `localisation`."""
    pairs = subject.pairs
    if pairs.regions is None or not len(pairs):
        sheet.leave_out(["localisation.pxap", "localisation.iou_area"], NO_MASK)
        return
    inside, outside = pairs.regions.inside, pairs.regions.outside
    sheet.put("localisation.pxap", pixel_average_precision(inside, outside), NO_MASK)
    sheet.put("localisation.iou_area", iou_area(inside, outside), NO_MASK)
    _put_box_accuracy(sheet, subject)
    for name in QUALITIES:
        if name == "ji":
            continue
        try:
            values = quality_of(pairs, name)
        except ViceError:
            continue
        known = ~np.isnan(values)
        path = f"localisation.{name}"
        sheet.put(path, float(values[known].mean()) if known.any() else float("nan"), NO_MASK)
        if known.any():
            replicates = inference.replicates(Mean(values[known]), pairs.image_id[known])
            sheet.put_interval(path, inference.interval(sheet.value(path), replicates))
        if not known.all():
            sheet.notes[path] = f"Undefined for {int((~known).sum())} of {len(known)} pairs, which are left out."


def _put_box_accuracy(sheet: Sheet, subject: ConsistencyData) -> None:
    """Put box accuracy, if there are boxes: at held-out thresholds, and at the best thresholds of the same images."""
    pairs = subject.pairs
    if pairs.regions is None or np.isnan(pairs.regions.box_iou).all():
        return
    best = np.asarray(pairs.regions.box_iou, float)
    held_out, optimistic = held_out_box_accuracy(best, pairs.fold), max_box_accuracy(best)
    for delta, value in zip(held_out.deltas, held_out.accuracy.tolist(), strict=True):
        sheet.put(f"localisation.box_accuracy_{round(100 * delta)}", value, NO_MASK)
    sheet.put("localisation.box_accuracy", held_out.mean, NO_MASK)
    sheet.put("localisation.max_box_accuracy", optimistic.mean, NO_MASK)
    sheet.notes["localisation.max_box_accuracy"] = "Its thresholds are the best of these images: optimistic."


def put_normalisations(sheet: Sheet, subject: ConsistencyData, normalisation: str, inference: Inference) -> None:
    """Put VICE under each normalisation, with held-out thresholds of its own; classes do not compete.

    Args:
        sheet, subject, inference: as elsewhere.
        normalisation: of the maps in the table; from another than "max" the rest cannot be derived.
    """
    pairs = subject.pairs
    if normalisation != "max" or pairs.regions is None or len(pairs) < 3:
        return
    for how in RESCALINGS:
        iou = renormalised_iou(pairs.regions.inside, pairs.regions.outside, how, GRID)
        path = f"sensitivities.normalisation_{how}"
        known = ~np.isnan(iou).any(axis=1)
        logit, fold, image_id = pairs.logit[known], pairs.fold[known], pairs.image_id[known]
        own = iou if known.all() else iou[known]
        quality = HeldOut(own, fold).quality
        sheet.put(path, lambda logit=logit, quality=quality: pair_vice(logit, quality).value)
        if np.isfinite(sheet.value(path)) and inference.resampling is not None:
            replicates = inference.replicates(HeldOutSpearman(logit, own, fold, image_id), image_id)
            sheet.put_interval(path, inference.interval(sheet.value(path), replicates))
