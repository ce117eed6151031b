"""The sheet that measures are written on: values by path, and the reason where one is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.inference import plain_interval
from torchvice.metrics import js_divergence, kl_divergence, precision_recall, vice
from torchvice.metrics.bands import NullBand
from torchvice.metrics.calibration import Reliability
from torchvice.metrics.iou import IouCurve
from torchvice.metrics.resampling import Interval

__all__ = [
    "CLASSIFICATION",
    "LOCALISATION",
    "PAPER",
    "STRICT",
    "DiagramParts",
    "Diagrams",
    "Measures",
    "Sheet",
    "check_path",
    "paths_of",
    "put_consistency",
    "put_precision_recall",
]

JSON_SCHEMA = 1
# The sections that hold numbers by name.
NUMBERS = ("paper", "strict", "classification", "localisation", "sensitivities")
PAPER = ["vice", "ece_ml", "ml_accuracy", "f1", "ji", "kl", "js"]
STRICT = ["vice", "ece_ml", "ml_accuracy", "f1", "ji", "mean_average_precision"]
CLASSIFICATION = ["mean_average_precision", "cp", "cr", "cf1", "op", "or", "of1"]
LOCALISATION = ["best_threshold", "best_mean_iou", "strict_best_threshold", "strict_best_mean_iou"]
# Sections whose names no table changes; those of the other two hang on what it holds.
_FIXED = {"paper": PAPER, "strict": STRICT, "classification": CLASSIFICATION}


def paths_of(section: str, names: list[str]) -> list[str]:
    """The paths of some names in a section."""
    return [f"{section}.{name}" for name in names]


def check_path(path: str) -> None:
    """Whether a path such as `strict.vice` can be a measure, as far as that is known before anything is measured.

    Raises:
        ViceError: no section of numbers, or no name of a section whose names are always the same.
    """
    section, _, name = path.partition(".")
    if section not in NUMBERS or name not in _FIXED.get(section, [name]) or not name:
        known = [known for part, names in _FIXED.items() for known in paths_of(part, names)]
        known += [*paths_of("localisation", LOCALISATION), *(f"{part}.NAME" for part in NUMBERS if part not in _FIXED)]
        raise ViceError(f"A measure must have a known path, but is {path!r}.", did_you_mean(path, known))


@dataclass(frozen=True)
class Diagrams:
    """What figures draw: per-image `loss` and `ji` (N,) of `paper`, each protocol's reliability, the curves.

    `reliability` also has `temperature`, that of `strict` after scaling; `bands`, of the same names, where the bars of
    a calibrated model would lie.
    """

    loss: np.ndarray | None = None
    ji: np.ndarray | None = None
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    curves: Mapping[str, IouCurve] = field(default_factory=dict)
    bands: Mapping[str, NullBand] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """Every number of an assessment. Fractions at full precision; NaN where undefined, the reason in `undefined`.

    `images` how many; `excluded` {reason: count}; `out_of` {the same reason: of how many}; `paper`, `strict`,
    `classification`, `localisation` {name: value}; `undefined` {path: reason}; `intervals` {path: {low, high, level,
    method}}; `source` what was measured; `diagrams` what the figures draw.

    What VICE is made of and how far it may be trusted, see docs/definitions.md: `quality` {name, vice, mean};
    `sensitivities` {name: value}; `tests` {path: {p, method}}; `strata`, `classes` and `folds`, lists of rows;
    `threshold_curve` {thresholds, pair_iou, vice}; `controls`, `methods` and `retests` {explanation: row}; `quadrants`
    {cutoffs, counts, undefined, strongest}; `calibration` {name: value}; `notes` {path: what must be said beside the
    number}.
    """

    images: int
    excluded: dict[str, int]
    paper: dict[str, float]
    strict: dict[str, float]
    classification: dict[str, float]
    localisation: dict[str, float]
    undefined: dict[str, str]
    source: dict[str, Any]
    diagrams: Diagrams
    intervals: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    sensitivities: dict[str, float] = field(default_factory=dict)
    tests: dict[str, Any] = field(default_factory=dict)
    strata: list[dict[str, Any]] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)
    folds: list[dict[str, Any]] = field(default_factory=list)
    threshold_curve: dict[str, list[Any]] = field(default_factory=dict)
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    retests: dict[str, dict[str, Any]] = field(default_factory=dict)
    quadrants: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    out_of: dict[str, int] = field(default_factory=dict)

    def shares(self) -> dict[str, str]:
        """{reason: how many of how many} of what did not enter, or entered with a warning."""
        return {
            reason: f"{count} of {self.out_of[reason]}" if reason in self.out_of else str(count)
            for reason, count in self.excluded.items()
        }

    def value(self, path: str) -> float:
        """The measure at a path such as `strict.vice`; NaN where it is undefined.

        Raises:
            ViceError: no such measure.
        """
        section, _, name = path.partition(".")
        found = getattr(self, section, None) if section in NUMBERS else None
        if found is None or not isinstance(found.get(name), int | float):
            known = [f"{part}.{key}" for part in NUMBERS for key, v in getattr(self, part).items() if _is_number(v)]
            raise ViceError(f"A measure must have a known path, but is {path!r}.", did_you_mean(path, known))
        return float(found[name])

    def to_json(self) -> dict[str, Any]:
        """The fields of `vice measure --json`: every measure a number or null, never NaN or infinity."""
        content: dict[str, Any] = {
            "schema": JSON_SCHEMA,
            "images": self.images,
            "excluded": self.excluded,
        }
        names = [f.name for f in fields(self) if f.name not in ("images", "excluded", "diagrams")]
        return content | {name: _plain(getattr(self, name)) for name in names}

    def __repr__(self) -> str:
        said = ", ".join(f"{part}.vice={getattr(self, part)['vice']:.4f}" for part in ("paper", "strict"))
        return f"Measures({self.images} images, {said}, {len(self.undefined)} undefined)"

    def _repr_html_(self) -> str:
        """A notebook shows the numbers of both protocols, with their intervals, and the VICE diagram."""
        from torchvice.measures.overview import OVERVIEW

        # By name, and only when a notebook asks: the report stands above this room.
        html: str = import_module("torchvice.report.notebook").measures_html(self, OVERVIEW)
        return html


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """`value` for JSON: a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass
class DiagramParts:
    loss: np.ndarray | None = None
    ji: np.ndarray | None = None
    reliability: dict[str, Reliability] = field(default_factory=dict)
    curves: dict[str, IouCurve] = field(default_factory=dict)
    bands: dict[str, NullBand] = field(default_factory=dict)

    def whole(self) -> Diagrams:
        return Diagrams(self.loss, self.ji, self.reliability, self.curves, self.bands)


class Sheet:
    """Collects values by path, their intervals and tests, and the reason where one is undefined.

    `parts` are the rest of the Measures, by name; `notes` what must be said beside a number.
    """

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, float]] = {name: {} for name in (*NUMBERS, "quality")}
        self.undefined: dict[str, str] = {}
        self.intervals: dict[str, Any] = {}
        self.tests: dict[str, Any] = {}
        self.notes: dict[str, str] = {}
        self.parts: dict[str, Any] = {}

    def put(self, path: str, value: Any, reason: str = "") -> None:
        """Set a value; a ViceError of its computation, or a value that is not finite, leaves NaN and the reason."""
        section, name = path.split(".")
        try:
            number = float(value() if callable(value) else value)
        except ViceError as error:
            number, reason = math.nan, error.message
        if not math.isfinite(number):
            self.undefined[path] = reason or "The measure is not defined for these images."
            number = math.nan
        self.sections[section][name] = number

    def value(self, path: str) -> float:
        """What was put there."""
        section, name = path.split(".")
        return self.sections[section][name]

    def put_interval(self, path: str, found: Interval | None) -> None:
        """Set the interval of a value; nothing where there is none."""
        plain = None if found is None else plain_interval(found)
        if plain is not None:
            self.intervals[path] = plain

    def put_test(self, path: str, p: float, method: str) -> None:
        """Set the p-value, in (0, 1], of the hypothesis that the value at a path is 0."""
        self.tests[path] = {"p": p, "method": method}

    def not_reliable(self, path: str, note: str) -> None:
        """Mark the interval of a value as not reliable, and say why."""
        self.notes[path] = note
        if path in self.intervals:
            self.intervals[path]["reliable"] = False

    def leave_out(self, paths: list[str], reason: str) -> None:
        """Say why nothing is known of these paths."""
        for path in paths:
            self.put(path, math.nan, reason)

    def measures(self, images: int, excluded: dict[str, int], source: dict[str, Any], diagrams: Diagrams) -> Measures:
        """The finished sheet, every name in its place."""
        names = {
            "paper": PAPER,
            "strict": STRICT,
            "classification": CLASSIFICATION,
            "localisation": LOCALISATION,
        }
        sections: dict[str, Any] = {
            part: {name: self.sections[part][name] for name in known if name in self.sections[part]}
            for part, known in names.items()
        }
        sections["localisation"] |= self.sections["localisation"]
        sections["sensitivities"] = self.sections["sensitivities"]
        sections["quality"] = {**self.parts.pop("quality", {}), **self.sections["quality"]}
        said: dict[str, Any] = {
            "intervals": self.intervals,
            "tests": self.tests,
            "notes": self.notes,
            "undefined": self.undefined,
        }
        return Measures(images, excluded, **sections, **said, source=source, diagrams=diagrams, **self.parts)


def put_consistency(sheet: Sheet, loss: np.ndarray, ji: np.ndarray) -> None:
    """VICE, mean JI, KL and JS of the published table's two columns."""
    undefined = int(np.isnan(ji).sum())
    reason = ""
    if undefined:
        reason = f"The JI of {undefined} of {len(ji)} images is undefined, which leaves the published number undefined."
        try:
            rest = vice(loss, ji, nan_policy="omit")
            reason += f" Over the other {rest.n} images VICE is {rest.value:.6f}."
        except ViceError:
            pass
    if not len(ji):
        reason = "No image has a mask."
    sheet.put("paper.vice", lambda: vice(loss, ji).value, reason)
    sheet.put("paper.ji", float(np.mean(ji)) if len(ji) else math.nan, reason)
    sheet.put("paper.kl", lambda: kl_divergence(loss, ji), reason or "A JI of 0 meets a positive loss.")
    sheet.put("paper.js", lambda: js_divergence(loss, ji), reason)


def put_precision_recall(sheet: Sheet, probabilities: np.ndarray, targets: np.ndarray) -> None:
    """CP, CR, CF1, OP, OR and OF1, into `classification`."""
    found = precision_recall(probabilities, targets)
    for name, value in (("cp", found.cp), ("cr", found.cr), ("cf1", found.cf1)):
        sheet.put(f"classification.{name}", value)
    for name, value in (("op", found.op), ("or", found.or_), ("of1", found.of1)):
        sheet.put(f"classification.{name}", value)
