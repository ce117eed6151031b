"""Samples to Measures: every number of step 5 under both protocols, from the table alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_whole, check_kind
from torchvice.measures.calibration import put_calibration
from torchvice.measures.catalogue import measure_of, paths
from torchvice.measures.consistency import CALLED, put_paper_interval
from torchvice.measures.contents import ASSESS_STRICT
from torchvice.measures.inference import LEVEL, Inference
from torchvice.measures.pairs import Pairs, true_pairs
from torchvice.measures.qualities import check_quality
from torchvice.measures.sheet import (
    LEFT_OUT,
    DiagramParts,
    Measures,
    Sheet,
    put_consistency,
    put_precision_recall,
)
from torchvice.measures.trust import put_trust
from torchvice.measures.verdict import Verdict
from torchvice.metrics import (
    mean_average_precision,
    multilabel,
    multilabel_accuracy,
    multilabel_f1,
    multilabel_reliability,
    pair_vice,
    sample_accuracy,
    sigmoid,
)
from torchvice.metrics.iou import IouCurve, curve_from_counts, image_ji_from_counts
from torchvice.metrics.parallel import row_blocks
from torchvice.metrics.thresholds import SAMPLE_THRESHOLD
from torchvice.metrics.weighted import Mean, WeightedStatistic
from torchvice.samples import Images, Regions, Samples
from torchvice.samples.checks import all_versions

__all__ = ["measure", "paper_ji", "threshold_index"]

FEWEST_AT_ONCE = 2**18  # pairs times replicates: fewer take less time than a copy of the process
FEWEST_REPLICATES = 100  # of an interval of 95 %: 2.5 draws lie beyond each end
OF_THE_TABLE = ("model", "dataset", "explanations", "versions", "later_versions")  # of its manifest, with the measures
# What most maps may be, and what that means.
STATUSES = {
    "zero": (
        "are zero everywhere",
        "They find no object, whatever the model sees; try another method or layer.",
    ),
    "constant": (
        "have one value everywhere",
        "They locate nothing, whatever the model sees; try another method or layer.",
    ),
    "nan": (
        "hold a value that is not finite",
        "The numbers say nothing of what the model sees; look for the cause in the method, or in the files of maps.",
    ),
}
NO_STRICT = "Nothing can be said of single labels: the table was assessed under `paper` only (--protocol both)."


def measure(
    samples: Samples,
    *,
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
    calibrate_on: Samples | None = None,
) -> Measures:
    """Compute every number of an assessment, under both protocols, with intervals, controls and sensitivities.

    docs/definitions.md has every formula.

    Args:
        samples: the table; numbers of a protocol that it was not assessed for are NaN.
        quality: one of `torchvice.measures.QUALITIES`, for all sections but `paper` and `strict`.
        replicates: number of bootstrap replicates over images, at least 100; 0: no intervals and no tests.
        seed: seed of the bootstrap.
        calibrate_on: the same model's table of another split; temperature and vector scaling are fitted on it.

    Raises:
        ViceError: no images, an unknown or absent quality, one to 99 replicates, or a `calibrate_on` of other classes
            or another model.
    """
    replicates, seed = as_whole("replicates", replicates), as_whole("seed", seed, 0)
    _check(samples, quality, replicates)
    protocols = samples.protocols
    sheet, diagrams, shares = Sheet(), DiagramParts(), dict[str, tuple[int, int]]()
    # One after the other: of many images and classes, what either holds is large.
    held = samples.of_protocol("paper" if "paper" in protocols else "strict")
    images, always = len(held.images), np.atleast_1d(held.images.targets.all(axis=0))
    inference = Inference(held.images.image_id.tolist(), replicates, seed)
    _classify(held.images, sheet)
    if "paper" in protocols:
        _measure_paper(samples, sheet, diagrams, inference)
        shares |= _excluded(samples, "paper", None)
    else:
        _leave_out(sheet, "paper")
    pairs = None
    if "strict" in protocols:
        held = samples.of_protocol("strict")
        pairs = true_pairs(samples)
        _measure_strict(samples, pairs, sheet, diagrams, inference)
        shares |= _excluded(samples, "strict", pairs)
    else:
        _leave_out(sheet, "strict")
    sheet.parts["out_of"] = {reason: whole for reason, (_, whole) in shares.items()}
    _put_warnings(sheet, samples, images, always, shares)
    if pairs is not None:
        calibrate = partial(put_calibration, sheet, diagrams, samples, calibrate_on, seed, simulate=replicates > 0)
        few = FEWEST_AT_ONCE <= len(pairs) * replicates <= WeightedStatistic.most_work
        put_trust(samples, pairs, sheet, quality, inference, calibrate if few else None)
        if not few:
            del held, inference  # with all their draws and ranks: calibration needs much memory
            calibrate()
    source = _source(samples) | {"inference": {"replicates": replicates, "seed": seed, "level": LEVEL}}
    excluded = {reason: count for reason, (count, _) in shares.items()}
    return sheet.measures(images, excluded, source, diagrams.whole())


def _check(samples: Samples, quality: str, replicates: int) -> None:
    """Refuse what has no numbers, or numbers that say nothing."""
    check_kind("samples", samples, Samples, "a table", "Read it from its folder: torchvice.Samples.load(FOLDER).")
    check_quality(quality)
    if not (len(samples.images) and samples.protocols):
        raise ViceError("A measurement needs images, but the table has none.")
    if replicates != 0 and replicates < FEWEST_REPLICATES:
        raise ViceError(
            f"An interval of 95 % needs {FEWEST_REPLICATES} replicates or more, but `replicates` is {replicates}.",
            "Give 0 for no intervals, or 2000.",
        )
    if quality != "ji" and "strict" not in samples.protocols:
        raise ViceError(
            f"The quality {quality!r} needs the pairs of `strict`, but the table was assessed under `paper` only.",
            f"{ASSESS_STRICT} Or leave the quality out.",
        )


def _put_warnings(
    sheet: Sheet, samples: Samples, images: int, always: np.ndarray, shares: dict[str, tuple[int, int]]
) -> None:
    """Note whether the table is finished, whether most maps say nothing, and the classes that every image shows."""
    if samples.manifest.get("finished") is False:
        total = samples.manifest["dataset"].get("images", "?")
        sheet.notes["table"] = f"The assessment is not finished: these are {images} of {total} images."
        if images == total:
            sheet.notes["table"] = (
                "The assessment is not finished: faithfulness or interventions that were asked for later may be of "
                "some images alone."
            )
    if various := _various_versions(samples.manifest):
        sheet.notes["versions"] = (
            f"Parts of the table were made with different versions ({various}), whose outputs may differ in the last "
            "digits."
        )
    whole = samples.manifest["dataset"].get("all_classes") or ()
    if left_out := [name for name in whole if name not in samples.classes]:
        sheet.notes["classes"] = f"Not asked for, as the class map leaves them out: {', '.join(left_out)}."
    if names := [name for name, every in zip(samples.classes, always.tolist(), strict=True) if every]:
        section = "strict" if "strict" in samples.protocols else "classification"
        sheet.notes[f"{section}.mean_average_precision"] = _always_shown(names, len(samples.classes))
    said = {status: _mostly(status, shares) for status in STATUSES}
    if any(said.values()):
        sheet.notes["maps"] = " ".join(
            f"More than half of the maps {what}: {counts}. {meaning}"
            for (what, meaning), counts in zip(STATUSES.values(), said.values(), strict=True)
            if counts
        )


def _mostly(status: str, shares: Mapping[str, tuple[int, int]]) -> str:
    """How many of the maps have a status, under the protocols where it is more than half of them; "" if nowhere."""
    found = {protocol: shares.get(_reason(protocol, status), (0, 0)) for protocol in ("paper", "strict")}
    return " and ".join(f"{n} of {maps} under {protocol}" for protocol, (n, maps) in found.items() if 2 * n > maps)


def _various_versions(manifest: Mapping[str, Any]) -> str:
    """The packages of which a table's rows were made with several versions, such as "torch 2.13.0 and 2.14.1"."""
    every = all_versions(manifest)
    packages = {name: [str(one[name]) for one in every if name in one] for name in every[0]}
    different = {name: list(dict.fromkeys(found)) for name, found in packages.items() if len(set(found)) > 1}
    return ", ".join(f"{name} {' and '.join(found)}" for name, found in different.items())


def _leave_out(sheet: Sheet, protocol: str) -> None:
    prefix = "" if protocol == "paper" else "strict_"
    found = [f"localisation.{prefix}{name}" for name in ("best_threshold", "best_mean_iou")]
    sheet.leave_out([*paths(protocol), *found], f"The table was not assessed under `{protocol}`.")
    if protocol == "strict":
        sheet.parts["verdict"] = Verdict((NO_STRICT,))


def _source(samples: Samples) -> dict[str, Any]:
    """What was measured, as the manifest says."""
    return {
        "table": {name: samples.manifest[name] for name in OF_THE_TABLE if name in samples.manifest},
        "protocols": samples.manifest["protocols"],
        "targets": samples.manifest.get("targets", "multilabel"),
    }


def _excluded(samples: Samples, protocol: str, pairs: Pairs | None) -> dict[str, tuple[int, int]]:
    """What was left out or needs a warning under a protocol: {reason: (count, total)}, without zero counts."""
    part = samples.of_protocol(protocol)
    images, regions = part.images, part.regions
    without_mask = int((~images.has_mask).sum())
    found = {f"images without a mask ({LEFT_OUT} of VICE, JI and mIoU)": (without_mask, len(images))}
    maps = int((regions.status != "none").sum())
    for status in ("zero", "constant", "nan"):
        found[_reason(protocol, status)] = (int((regions.status == status).sum()), maps)
    if protocol == "strict" and pairs is not None:
        labels = pairs.without_pixels + len(pairs)
        found[f"strict: true labels without a pixel in the mask ({LEFT_OUT})"] = (pairs.without_pixels, labels)
        predicted = part.predicted
        found["strict: predicted labels that are not true (counted apart: no pair, their IoU is 0 by definition)"] = (
            int((predicted & (images.targets == 0)).sum()),
            int(predicted.sum()),
        )
        empty = (images.targets.sum(1) == 0) & ~predicted.any(1)
        neither = f"strict: images with neither label nor prediction ({LEFT_OUT} of ML-accuracy and F1)"
        found[neither] = (int(empty.sum()), len(images))
    return {reason: share for reason, share in found.items() if share[0]}


def _reason(protocol: str, status: str) -> str:
    return f"{protocol}: maps that are {status} (kept, see docs)"


def _measure_paper(samples: Samples, sheet: Sheet, diagrams: DiagramParts, inference: Inference) -> None:
    paper = samples.of_protocol("paper")
    images, regions, probabilities = paper.images, paper.regions, paper.probabilities
    masked = images.where(images.has_mask)
    loss, ji = paper.losses[images.has_mask], paper_ji(samples, masked, regions)
    put_consistency(sheet, loss, ji)
    put_paper_interval(sheet, loss, ji, masked.image_id, inference)
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
    """Return the index of a threshold of the table.

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
    shared, predicted, pixels = np.zeros(shape), np.zeros(shape), np.zeros(labels)
    for rows in row_blocks(len(regions.label), shape[1]):
        place = regions.label[rows].astype(np.int64)
        pixels += np.bincount(place, regions.mask_pixels[rows], labels)
        cells = (place[:, None] * shape[1] + np.arange(shape[1])).ravel()
        for sums, counts in ((shared, regions.intersection), (predicted, regions.predicted)):
            sums += np.bincount(cells, counts[rows].ravel(), sums.size).reshape(shape)
    return curve_from_counts(shared.T, predicted.T, pixels, samples.thresholds, protocol)


def _measure_strict(samples: Samples, pairs: Pairs, sheet: Sheet, diagrams: DiagramParts, inference: Inference) -> None:
    strict = samples.of_protocol("strict")
    images, regions, probabilities = strict.images, strict.regions, strict.probabilities
    sheet.put("strict.vice", lambda: pair_vice(pairs.logit, pairs.quality, called=CALLED).value)
    diagrams.pair_loss, diagrams.pair_ji = np.logaddexp(0, -pairs.logit), pairs.quality
    none = "No image has a true label with a mask."
    sheet.put("strict.ji", pairs.quality.mean() if len(pairs.quality) else math.nan, none)
    diagram = multilabel_reliability(probabilities, images.targets, protocol="strict")
    sheet.put("strict.ece_ml", diagram.ece)
    empty = "No image has a label or a prediction."
    accuracy = sample_accuracy(strict.predicted, images.targets)
    sheet.put("strict.ml_accuracy", _mean(accuracy), empty)
    known = ~np.isnan(accuracy)
    if known.any():
        replicates = inference.replicates(Mean(accuracy[known]), images.image_id[known])
        sheet.put_interval("strict.ml_accuracy", inference.interval(sheet.value("strict.ml_accuracy"), replicates))
    for measure in (measure_of(path) for path in paths("strict")):
        if measure.of:
            score = getattr(multilabel, measure.of)
            sheet.put(measure.path, score(strict.predicted, images.targets, "strict"), empty)
    ap = mean_average_precision(probabilities, images.targets, "strict")
    sheet.put("strict.mean_average_precision", ap, "No image shows any class.")
    curve = _curve(samples, regions, "strict")
    sheet.put("localisation.strict_best_threshold", curve.best_threshold, "No image has a mask.")
    sheet.put("localisation.strict_best_mean_iou", curve.best_mean_iou, "No image has a mask.")
    diagrams.reliability["strict"], diagrams.curves["strict"] = diagram, curve


def _always_shown(names: Sequence[str], classes: int) -> str:
    """The note of classes that every image shows: no ranking of the images is wrong."""
    shown = f"Every image shows `{names[0]}`" if len(names) == 1 else f"Every image shows {len(names)} of the classes"
    of = "mAP is" if len(names) == classes else f"{'its' if len(names) == 1 else 'their'} average precision is"
    return f"{shown}: {of} 1 whatever the model answers. Images without the object would tell."


def _mean(rows: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    return float(np.nanmean(rows)) if (~np.isnan(rows)).any() else math.nan


def _classify(images: Images, sheet: Sheet) -> None:
    """The published multi-label scores."""
    probabilities = sigmoid(images.logits)
    ap = mean_average_precision(probabilities, images.targets)
    sheet.put("classification.mean_average_precision", ap)
    put_precision_recall(sheet, probabilities, images.targets)
