"""Words: what the head of the page says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.measures import QUALITIES, Measures
from torchvice.measures.quadrants import QUADRANTS
from torchvice.measures.verdict_text import FEWEST_LABELS
from torchvice.measures.wording import decimals, interval_text
from torchvice.report.page.cases import Cases
from torchvice.report.style import number

__all__ = ["Number", "Sentence", "facts_of", "interval_of", "label_of", "sentences_of"]

ACCURACY = ("strict.ml_accuracy", "paper.ml_accuracy")  # the first that is defined is said
CALIBRATION = ("strict.ece_ml", "paper.ece_ml")


def label_of(measures: Measures) -> str:
    """The name in a sentence of the quality that was asked for."""
    return QUALITIES[measures.quality.get("name", "ji")].label


@dataclass(frozen=True)
class Number:
    """A number in a sentence: its `text`, and the key of its definition."""

    text: str
    term: str


Sentence = Sequence[str | Number]


def interval_of(measures: Measures, path: str) -> str:
    """The interval of a measure as text, with "?" if it is not reliable; empty without one."""
    return _interval(measures.intervals.get(path))


def _interval(found: Any) -> str:
    if not found or any(found.get(end) is None or math.isnan(found[end]) for end in ("low", "high")):
        return ""
    level = 100 * found.get("level", 0.95)
    doubt = "\u00a0?" if found.get("reliable") is False else ""
    return f"{level:.0f}\u00a0% interval {interval_text(found['low'], found['high'])}{doubt}"


def _with(measures: Measures, path: str, what: str = "") -> list[str | Number]:
    """A measure, what it is and its interval, as parts of a sentence."""
    section, name = path.split(".")
    inside = "; ".join(part for part in (what, interval_of(measures, path)) if part)
    parts: list[str | Number] = [Number(number(getattr(measures, section)[name]), path)]
    return [*parts, f" ({inside})"] if inside else parts


def _known(measures: Measures, path: str) -> float | None:
    section, name = path.split(".")
    value = getattr(measures, section).get(name)
    return float(value) if _finite(value) else None


def _first(measures: Measures, *paths: str) -> str | None:
    """The first path with a number; of a table with `strict`, none of `paper` takes the place of what is undefined."""
    strict = "strict" in measures.source.get("protocols", ())
    asked = (path for path in paths if not (strict and path.startswith("paper.")))
    return next((path for path in asked if _known(measures, path) is not None), None)


def _undefined(measures: Measures, sentence: str, *paths: str) -> Sentence:
    """The sentence, and the reason of the first path that has one."""
    reason = next((measures.undefined[path] for path in paths if path in measures.undefined), "")
    return [f"{sentence} {reason}".strip()]


def sentences_of(measures: Measures, cases: Cases | None) -> list[Sentence]:
    """Three to six sentences below the verdict: how accurate, calibrated, consistent; zero maps, controls, quadrants.

    A sentence whose numbers are undefined says so; one whose numbers were not asked for is left out.
    """
    said = [_accuracy(measures), _calibration(measures), _consistency(measures), _zero_maps(measures)]
    said += [_controls(measures), _quadrants(cases)]
    return [sentence for sentence in said if sentence]


def _accuracy(measures: Measures) -> Sentence:
    path = _first(measures, *ACCURACY)
    if path is None:
        return _undefined(measures, "How accurate the model is, is undefined.", *ACCURACY)
    parts: list[str | Number] = [
        f"Over {measures.images} images, the predicted labels agree with the true ones to ",
        *_with(measures, path, "ML-accuracy, where 1 is perfect"),
    ]
    ranked = _first(measures, "strict.mean_average_precision", "classification.mean_average_precision")
    if ranked:
        parts += ["; ranking images by probability, the mean average precision is ", *_with(measures, ranked)]
    return [*parts, "."]


def _calibration(measures: Measures) -> Sentence:
    path = _first(measures, *CALIBRATION)
    if path is None:
        return _undefined(measures, "How well its confidence is calibrated, is undefined.", *CALIBRATION)
    off = 100 * (_known(measures, path) or 0)
    outcome = "share of predictions that are right" if path.startswith("strict") else "Jaccard index of the labels"
    return [
        f"Its confidence misses the {outcome} by {decimals(off, 1)} percentage points on average: ECE-ML is ",
        *_with(measures, path),
        f", where 0 is perfect{_by_chance(measures, path)}.",
    ]


def _by_chance(measures: Measures, path: str) -> str:
    """What a calibrated model would show, where that was simulated."""
    band = measures.null_bands.get("ece") if path == "strict.ece_ml" else None
    if not band or not _finite(band.get("low")):
        return ""
    return f" and a calibrated model would show {interval_text(band['low'], band['high'])} by chance"


def _consistency(measures: Measures) -> Sentence:
    other = measures.quality.get("name", "ji") != "ji"
    path = "quality.vice" if other else _first(measures, "strict.vice", "paper.vice")
    if path is None or _known(measures, path) is None:
        own = "strict.vice" if "strict" in measures.source.get("protocols", ()) else "paper.vice"
        return _undefined(measures, "Consistency is undefined: VICE could not be computed.", path or own, own)
    value = _known(measures, path) or 0.0
    found = measures.intervals.get(path) or {}
    low, high = found.get("low"), found.get("high")
    surer = "the lower its loss on an image" if path == "paper.vice" else "the surer it is of an object"
    pairs = measures.verdict.vice.get("pairs", FEWEST_LABELS) if path != "paper.vice" else FEWEST_LABELS
    if pairs < FEWEST_LABELS:
        reading = f"{pairs} labels are too few to establish a connection between certainty and map"
    elif low is None or high is None:
        reading = "without an interval no connection between certainty and map is established"
    elif low <= 0 <= high:
        reading = "no connection between certainty and map is established"
    elif abs(value) < 0.1:
        what = f"the {label_of(measures)} of its map" if other else "where it looks"
        reading = f"certainty has hardly anything to do with {what}"
    elif other:
        how = "is" if abs(value) >= 0.5 else "tends to be" if abs(value) >= 0.3 else "slightly tends to be"
        reading = f"{surer}, the {'higher' if value > 0 else 'lower'} the {label_of(measures)} of its map {how}"
    else:
        well, what = "better" if value > 0 else "worse", "it" if path == "strict.vice" else "the objects"
        how = "covers" if abs(value) >= 0.5 else "tends to cover" if abs(value) >= 0.3 else "slightly tends to cover"
        reading = f"{surer}, the {well} its map {how} {what}"
    named = f"VICE with {label_of(measures)} in the place of the IoU is " if other else "VICE is "
    headline = ["; with the IoU it is ", *_with(measures, "strict.vice")] if other else []
    why = measures.undefined.get(f"intervals.{path}", "")
    end = f". {why}" if why else "."
    return [named, *_with(measures, path), f": {reading} (1 is perfect consistency, 0 none)", *headline, end]


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

    label, undefined = QUALITIES[cases.quadrant_quality].label, total - sum(counts.values())
    left = f"; {undefined} are in no quadrant, their {label} being undefined" if undefined else ""
    return [
        f"Of {total} true (image, class) pairs, ",
        share("right_elsewhere"),
        f" are {QUADRANTS['right_elsewhere']}, and ",
        share("wrong_there"),
        f" are {QUADRANTS['wrong_there']} (at it: {label} of {cases.cutoffs['iou']:g} or more){left}.",
    ]


def _controls(measures: Measures) -> Sentence:
    controls = {name: row for name, row in measures.controls.items() if row.beaten is not None}
    missing = [name for name in measures.controls if name not in controls]
    left_out = (path.split(".")[1] for path in measures.undefined if path.startswith("controls."))
    missing += [name for name in left_out if name not in measures.controls]
    if not controls and not missing:
        return []
    if not controls:
        return ["Whether VICE is above the controls is undefined: none of their differences has an interval."]
    undefined = f"; {_listed([_plain(name) for name in missing])} {_are(missing)} undefined" if missing else ""
    lost = [name for name, row in controls.items() if not row.beaten]
    if lost:
        below = [name for name in lost if (controls[name].difference_high or 0) < 0]
        names, count = _listed([_plain(name) for name in lost]), Number(str(len(controls)), "control")
        lower = f", and below {_listed([_plain(name) for name in below])}" if below else ""
        start = f"VICE is not clearly higher than {len(lost)} of "
        parts: list[str | Number] = [start, count, f" controls ({names}){lower}"]
        return [*parts, f"{undefined}."]
    return [
        f"VICE is above {f'{len(controls)} of' if missing else 'all'} ",
        Number(str(len(controls) + len(missing)), "control"),
        f" controls{undefined}: the whole 95\u00a0% interval of each difference lies above 0. Easy and difficult "
        "classes alone can do that; joint VICE compares within classes.",
    ]


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


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


def _maps_made_by(chosen: Mapping[str, Any], protocol: str) -> list[str]:
    """Method, layers, normalisation, and under `strict` every choice that is not its default."""
    layer = " + ".join(chosen.get("layers") or ()) or (chosen.get("site") or {}).get("layer")
    parts = [str(part) for part in (chosen.get("method"), layer, chosen.get("normalisation")) if part]
    if protocol != "strict":
        return parts
    several = chosen.get("mirror") or len(chosen.get("scales") or ()) > 1
    averaged = chosen.get("aug_smooth") or chosen.get("layers")
    parts += [name for name in ("mirror", "eigen_smooth", "aug_smooth") if chosen.get(name)]
    parts += [f"scales {', '.join(f'{x:g}' for x in chosen['scales'])}"] if chosen.get("scales", [1.0]) != [1.0] else []
    usual = {"labels": "true", "order": "resize-first"}
    usual |= {"combine": "mean"} if several else {}
    usual |= {"scaled": "minmax", "grid": "finest"} if averaged else {}
    return parts + [f"{name} {chosen[name]}" for name, value in usual.items() if chosen.get(name, value) != value]


def _facts_of_maps(cases: Cases) -> list[tuple[str, str]]:
    chosen = cases.settings
    masks = int(cases.has_mask.sum())
    threshold = {
        "strict": "held out: each fifth of the images at the best threshold of the others",
        "paper": "0.1, fixed",
    }
    return [
        ("With a mask", "all" if masks == len(cases) else f"{masks} of {len(cases)}"),
        ("True pairs", str(cases.pairs) if cases.protocol == "strict" else ""),
        ("Protocol", f"{cases.protocol} (shown here); view {chosen.get('view', 'unknown')}"),
        ("Maps", " · ".join(_maps_made_by(chosen, cases.protocol))),
        ("Threshold", threshold[cases.protocol]),
        (
            "Quality",
            "" if cases.quality_name == "ji" else f"{cases.quality_name}: {QUALITIES[cases.quality_name].meaning}",
        ),
    ]
