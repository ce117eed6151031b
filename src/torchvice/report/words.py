"""Words: what the head of the page says, and the definition behind every number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.measures import Measures
from torchvice.report.rows import Cases
from torchvice.report.style import number

__all__ = ["DEFINITIONS", "Number", "Sentence", "facts_of", "interval_of", "sentences_of"]

# One place for all; the words of docs/definitions.md, shortened.
DEFINITIONS: dict[str, tuple[str, str]] = {
    "strict.vice": (
        "VICE (strict)",
        "Spearman's rank correlation, over true (image, class) pairs, of the pair's log-likelihood with the IoU of its "
        "map at a threshold that other images chose. In [-1, 1]: 1 means that the surer the model is of an object, the "
        "better its map covers it; 0 no connection. The same under any temperature.",
    ),
    "paper.vice": (
        "VICE (paper)",
        "Pearson's correlation, over images with a mask, of minus the loss with the JI score, as published. In "
        "[-1, 1], higher is more consistent. It hangs on few images where losses are skewed.",
    ),
    "strict.ece_ml": (
        "ECE-ML (strict)",
        "Multi-label expected calibration error: over 20 bins of the confidence, the count-weighted mean gap between "
        "mean confidence and mean precision of the predicted labels. In [0, 1], 0 is perfect; binning alone makes it "
        "0.02 to 0.03 with some 1500 images.",
    ),
    "paper.ece_ml": (
        "ECE-ML (paper)",
        "As published: the gap between mean confidence and mean Jaccard index of the label sets, over 20 bins. A "
        "perfectly calibrated model does not reach 0.",
    ),
    "strict.ml_accuracy": (
        "ML-accuracy (strict)",
        "Mean over images of the Jaccard index of predicted and true label sets; images with neither are left out. In "
        "[0, 1], 1 is perfect.",
    ),
    "paper.ml_accuracy": (
        "ML-accuracy (paper)",
        "Mean over images of the Jaccard index of predicted and true label sets; undefined if an image has neither.",
    ),
    "strict.f1": ("F1 (strict)", "Mean over images of 2 |P and Y| / (|P| + |Y|); images with neither are left out."),
    "paper.f1": ("F1 (paper)", "Mean over images of 2 |P and Y| / (|P| + |Y|); an image with neither counts 0."),
    "strict.ji": (
        "Mean pair IoU (strict)",
        "Mean IoU of map and mask over true (image, class) pairs, each at a threshold chosen on the other folds' "
        "images; a missed object counts 0. In [0, 1].",
    ),
    "paper.ji": (
        "JI score (paper)",
        "Mean over images of the image's JI at threshold 0.1: the mean IoU of the labels whose IoU is not 0, "
        "background included. An object missed altogether leaves the mean instead of lowering it.",
    ),
    "strict.mean_average_precision": (
        "mAP (strict)",
        "Mean over classes of the average precision of ranking images by probability; a class that no image shows is "
        "left out. In [0, 1]; blind to temperature.",
    ),
    "classification.mean_average_precision": (
        "mAP (paper)",
        "Mean over classes of the average precision; a class that no image shows counts 0.",
    ),
    "classification.cp": ("CP", "Mean over classes of precision: hits of the class over its predictions."),
    "classification.cr": ("CR", "Mean over classes of recall: hits of the class over its true labels."),
    "classification.cf1": ("CF1", "Harmonic mean of CP and CR."),
    "classification.op": ("OP", "Precision over all labels: all hits over all predictions."),
    "classification.or": ("OR", "Recall over all labels: all hits over all true labels."),
    "classification.of1": ("OF1", "Harmonic mean of OP and OR."),
    "paper.kl": ("KL (paper)", "Relative entropy of loss and JI scaled to sums of 1, nats. Measures no consistency."),
    "paper.js": ("JS (paper)", "The published variant of the Jensen-Shannon divergence of loss and JI, bits."),
    "localisation.best_threshold": (
        "Best threshold (paper)",
        "The first threshold of the highest mIoU. Chosen and reported on the same images: optimistic.",
    ),
    "localisation.best_mean_iou": (
        "Best mIoU (paper)",
        "Mean IoU over labels and background at the best threshold, pixels summed over images; a class that never "
        "occurs counts 0.",
    ),
    "localisation.strict_best_threshold": (
        "Best threshold (strict)",
        "The first threshold of the highest mIoU. Chosen and reported on the same images: optimistic.",
    ),
    "localisation.strict_best_mean_iou": (
        "Best mIoU (strict)",
        "Mean IoU over the labels that occur and background at the best threshold, pixels summed over images.",
    ),
    "loss": (
        "Loss",
        "Of an image, the mean over classes of the binary cross-entropy, nats. Of a pair, -ln p of its true class: "
        "ln 2 = 0.69 is p = 0.5.",
    ),
    "confidence": (
        "Confidence",
        "The mean probability of the predicted labels (p above 0.5); without any, the largest probability.",
    ),
    "accuracy": ("Accuracy of an image", "The Jaccard index of its predicted and true label sets."),
    "image_ji": (
        "JI score of an image",
        "At threshold 0.1, the mean IoU of the labels whose IoU is not 0, background included.",
    ),
    "probability": ("Probability", "1 / (1 + exp(-logit)) of one class. Above 0.5 the class is predicted."),
    "iou": (
        "IoU of a pair",
        "Pixels that map and mask share, over the pixels of either, at a threshold that other images chose.",
    ),
    "quadrant": (
        "Quadrant",
        "Right: the probability of the true class is above 0.5. Looking at the object: the IoU of its map is at least "
        "0.3. Both cut-offs are fixed and do not move with the data.",
    ),
    "strength": (
        "Strength",
        "How far inside its quadrant a pair lies: the smaller of the distances of probability and IoU from their "
        "cut-offs, each as a share of the way to 0 or 1.",
    ),
    "size": (
        "Object size",
        "The share of the image that the class's mask covers: small below 5 %, medium to 20 %, large above.",
    ),
    "class_ap": ("AP of a class", "Precision among all images that score at least as high, averaged over its images."),
    "class_iou": ("IoU of a class", "Mean pair IoU of its true pairs."),
    "class_vice": ("VICE of a class", "VICE (strict) over the true pairs of this class alone."),
    "control": (
        "Control",
        "Maps that know nothing of the image (or of its training), measured with the model's own losses. A control is "
        "beaten where the whole interval of the paired difference lies above 0.",
    ),
    "sensitivity": ("Sensitivity", "The same question asked in another way; not the headline."),
    "method": ("Other methods", "VICE of maps made by another method, with the same logits, and how far it differs."),
    "retest": ("Test and retest", "VICE of the same method on mirrored or scaled images: how stable the number is."),
    "test": (
        "Tests",
        "p: how often a table without any connection would show one as strong. Permutations are studentised, with the "
        "standard error by images.",
    ),
    "stratum": (
        "Strata",
        "VICE over the pairs of a stratum alone. Within predicted or not predicted pairs the probability varies less, "
        "which lowers any correlation.",
    ),
    "fold": ("Folds", "The threshold of a fold is the one of highest mean pair IoU over the other four folds."),
    "temperature": (
        "Temperature scaling",
        "All logits divided by one number, chosen on another split so that the loss there is lowest. VICE of strict is "
        "blind to it.",
    ),
    "difference": (
        "Paired difference",
        "Both models are measured on the same resampled images, so that what the images do to both drops out. p by "
        "Holm's correction over the pairs of models.",
    ),
    "calibration": (
        "Calibration",
        "Further measures of calibration; docs/definitions.md has each formula. By chance, if calibrated: where the "
        "middle 95 % of models lie whose labels are drawn from their own probabilities, independently.",
    ),
    "disagreement": (
        "Disagreement",
        "Of models on a pair: the range of their probabilities plus the range of their IoUs, in [0, 2].",
    ),
}


@dataclass(frozen=True)
class Number:
    """A number in a sentence: its `text`, and the key of its definition."""

    text: str
    term: str


Sentence = Sequence[str | Number]


def interval_of(measures: Measures, path: str) -> str:
    """The interval of a measure in words; empty where there is none."""
    return _interval(measures.intervals.get(path))


def _interval(found: Any) -> str:
    if not found or any(found.get(end) is None or math.isnan(found[end]) for end in ("low", "high")):
        return ""
    level = 100 * found.get("level", 0.95)
    return f"{level:.0f}\u00a0% interval {number(found['low'])} to {number(found['high'])}"


def _with(measures: Measures, path: str, what: str = "") -> list[str | Number]:
    """A measure, what it is and its interval, as parts of a sentence."""
    section, name = path.split(".")
    inside = "; ".join(part for part in (what, interval_of(measures, path)) if part)
    parts: list[str | Number] = [Number(number(getattr(measures, section)[name]), path)]
    return [*parts, f" ({inside})"] if inside else parts


def _known(measures: Measures, path: str) -> float | None:
    section, name = path.split(".")
    value = getattr(measures, section).get(name, math.nan)
    return None if math.isnan(value) else float(value)


def _first(measures: Measures, *paths: str) -> str | None:
    return next((path for path in paths if _known(measures, path) is not None), None)


def sentences_of(measures: Measures, cases: Cases | None) -> list[Sentence]:
    """Three to seven sentences: how accurate, how calibrated, how consistent, zero maps, controls, quadrants, classes.

    A sentence whose numbers are undefined says so; one whose numbers were not asked for is left out.
    """
    said = [_accuracy(measures), _calibration(measures), _consistency(measures), _zero_maps(measures)]
    said += [_controls(measures), _quadrants(cases), _classes(measures)]
    return [sentence for sentence in said if sentence]


def _accuracy(measures: Measures) -> Sentence:
    path = _first(measures, "strict.ml_accuracy", "paper.ml_accuracy")
    if path is None:
        return ["How accurate the model is, is undefined here: see below for the reason."]
    parts: list[str | Number] = [
        f"Over {measures.images} images, the predicted labels agree with the true ones to ",
        *_with(measures, path, "ML-accuracy, where 1 is perfect"),
    ]
    ranked = _first(measures, "strict.mean_average_precision", "classification.mean_average_precision")
    if ranked:
        parts += ["; ranking images by probability, the mean average precision is ", *_with(measures, ranked)]
    return [*parts, "."]


def _calibration(measures: Measures) -> Sentence:
    path = _first(measures, "strict.ece_ml", "paper.ece_ml")
    if path is None:
        return ["How well its confidence is calibrated, is undefined here: see below for the reason."]
    off = 100 * (_known(measures, path) or 0)
    outcome = "share of predictions that are right" if path.startswith("strict") else "Jaccard index of the labels"
    return [
        f"Its confidence misses the {outcome} by {off:.1f} percentage points on average: ECE-ML is ",
        *_with(measures, path),
        f", where 0 is perfect{_by_chance(measures, path)}.",
    ]


def _by_chance(measures: Measures, path: str) -> str:
    """What a calibrated model would show, where that was simulated."""
    band = (measures.calibration.get("null_bands") or {}).get("ece") if path == "strict.ece_ml" else None
    if not band or not _finite(band.get("low")):
        return ""
    return f" and a calibrated model would show {number(band['low'])} to {number(band['high'])} by chance"


def _consistency(measures: Measures) -> Sentence:
    path = _first(measures, "strict.vice", "paper.vice")
    if path is None:
        reason = measures.undefined.get("strict.vice") or measures.undefined.get("paper.vice", "")
        return [f"Consistency is undefined: VICE could not be computed. {reason}".strip()]
    value = _known(measures, path) or 0.0
    found = measures.intervals.get(path) or {}
    low, high = found.get("low"), found.get("high")
    surer = "the surer it is of an object" if path == "strict.vice" else "the lower its loss on an image"
    if low is not None and high is not None and low <= 0 <= high:
        reading = "so that no connection between certainty and map is established"
    elif abs(value) < 0.1:
        reading = "so that certainty has hardly to do with where it looks"
    else:
        well, what = "better" if value > 0 else "worse", "it" if path == "strict.vice" else "the objects"
        how = "covers" if abs(value) >= 0.5 else "tends to cover" if abs(value) >= 0.3 else "slightly tends to cover"
        reading = f"{surer}, the {well} its map {how} {what}"
    return ["VICE is ", *_with(measures, path), f": {reading} (1 is perfect consistency, 0 none)."]


def _zero_maps(measures: Measures) -> Sentence:
    """A caution where most of the maps say nothing at all."""
    note = measures.notes.get("maps")
    return [note] if note else []


def _quadrants(cases: Cases | None) -> Sentence:
    if cases is None or not cases.pairs:
        return []
    counts, total = cases.counts(), cases.pairs

    def share(name: str) -> Number:
        return Number(f"{counts[name]} ({100 * counts[name] / total:.0f}\u00a0%)", "quadrant")

    return [
        f"Of {total} true (image, class) pairs, ",
        share("right_elsewhere"),
        " are found though the map lies elsewhere, and ",
        share("wrong_there"),
        " are missed though it lies on the object.",
    ]


def _controls(measures: Measures) -> Sentence:
    controls: Mapping[str, Any] = measures.controls
    if not controls:
        return []
    controls = {name: row for name, row in controls.items() if row.get("beaten") is not None}
    if not controls:
        return ["Whether it beats the controls is undefined: none of their differences has an interval."]
    lost = [name for name, row in controls.items() if not row["beaten"]]
    count = Number(str(len(controls)), "control")
    if not lost:
        return ["It beats all ", count, " controls, maps that know nothing of the image: each difference is above 0."]
    names = _listed([_plain(name) for name in lost])
    return [f"It does not beat {len(lost)} of ", count, f" controls ({names}): read its VICE with caution."]


def _classes(measures: Measures) -> Sentence:
    """The classes whose interval leaves the VICE of all out, the farthest three."""
    rows = measures.classes
    overall = _known(measures, "strict.vice")
    sure = [row for row in rows if all(_finite(row.get(key)) for key in ("vice", "low", "high"))]
    if overall is None or not sure:
        return []
    apart = [row for row in sure if not row["low"] <= overall <= row["high"]]
    if not apart:
        return [f"No class stands out: the interval of each of {len(sure)} classes contains the VICE of all."]
    apart.sort(key=lambda row: -abs(row["vice"] - overall))
    parts: list[str | Number] = ["Classes that stand out: "]
    for place, row in enumerate(apart[:3]):
        parts += [", " if place else "", f"{row['name']} (VICE ", Number(number(row["vice"]), "class_vice"), ")"]
    more = f", and {len(apart) - 3} more" if len(apart) > 3 else ""
    return [*parts, f"{more}; about one class in twenty would do so by chance."]


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def facts_of(measures: Measures, cases: Cases | None) -> list[tuple[str, str]]:
    """What was measured, as (name, value): model, data, method, n, protocol; what is not known is left out."""
    source = measures.source.get("table", {})
    if not isinstance(source, Mapping):
        return [("Table", str(source)), ("Images", str(measures.images))]
    model, data = source.get("model", {}), source.get("dataset", {})
    weights = str(model.get("weights_sha256") or "")[:12]
    made = cases.made_by if cases is not None else {}
    named = [made.get("network") or model.get("type"), made.get("checkpoint") and f"checkpoint {made['checkpoint']}"]
    facts = [
        ("Model", " · ".join(str(part) for part in named if part)),
        ("Weights", f"SHA-256 {weights}…" if weights else ""),
        ("Data", " · ".join(str(data[key]) for key in ("root", "split") if data.get(key))),
        ("Labels from", str(data.get("labels") or "")),
        ("Images", str(measures.images)),
    ]
    if cases is not None:
        facts += _facts_of_maps(cases)
    versions = source.get("versions", {})
    known = [f"{name} {versions[name]}" for name in ("torchvice", "torch", "timm") if name in versions]
    facts.append(("Versions", ", ".join(known)))
    return [(name, value) for name, value in facts if value]


def _facts_of_maps(cases: Cases) -> list[tuple[str, str]]:
    chosen = cases.settings
    site = chosen.get("site") or {}
    masks = int(cases.has_mask.sum())
    threshold = {
        "strict": "held out: each fifth of the images at the best threshold of the others",
        "paper": "0.1, fixed",
    }
    return [
        ("With a mask", "all" if masks == len(cases) else f"{masks} of {len(cases)}"),
        ("True pairs", str(cases.pairs) if cases.protocol == "strict" else ""),
        ("Protocol", f"{cases.protocol} (shown here); view {chosen.get('view', 'unknown')}"),
        (
            "Maps",
            " · ".join(
                str(part) for part in (chosen.get("method"), site.get("layer"), chosen.get("normalisation")) if part
            ),
        ),
        ("Threshold", threshold[cases.protocol]),
    ]
