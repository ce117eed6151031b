"""The sheet that measures are written on: values by path, and the reason where one is undefined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics import Reliability, js_divergence, kl_divergence, precision_recall, vice
from torchvice.metrics.iou import IouCurve

__all__ = [
    "CLASSIFICATION",
    "LOCALISATION",
    "PAPER",
    "STRICT",
    "DiagramParts",
    "Diagrams",
    "Measures",
    "Sheet",
    "paths_of",
    "put_consistency",
    "put_precision_recall",
]

JSON_SCHEMA = 1
PAPER = ["vice", "ece_ml", "ml_accuracy", "f1", "ji", "kl", "js"]
STRICT = ["vice", "ece_ml", "ml_accuracy", "f1", "ji", "mean_average_precision"]
CLASSIFICATION = ["mean_average_precision", "cp", "cr", "cf1", "op", "or", "of1"]
LOCALISATION = ["best_threshold", "best_mean_iou", "strict_best_threshold", "strict_best_mean_iou"]


def paths_of(section: str, names: list[str]) -> list[str]:
    """The paths of some names in a section."""
    return [f"{section}.{name}" for name in names]


@dataclass(frozen=True)
class Diagrams:
    """What figures draw: per-image `loss` and `ji` (N,) of `paper`, each protocol's reliability, the curves."""

    loss: np.ndarray | None = None
    ji: np.ndarray | None = None
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    curves: Mapping[str, IouCurve] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """Every number of an assessment. Fractions at full precision; NaN where undefined, the reason in `undefined`.

    `images` how many; `excluded` {reason: count}; `paper`, `strict`, `classification`, `localisation` {name: value};
    `undefined` {path: reason}; `intervals` {path: ...}, empty until they are asked for; `source` what was measured;
    `diagrams` what the figures draw.
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

    def to_json(self) -> dict[str, Any]:
        """The fields of `vice measure --json`: every measure a number or null, never NaN or infinity."""
        content: dict[str, Any] = {
            "schema": JSON_SCHEMA,
            "images": self.images,
            "excluded": self.excluded,
        }
        for section in ("paper", "strict", "classification", "localisation"):
            values = getattr(self, section)
            content[section] = {n: v if math.isfinite(v) else None for n, v in values.items()}
        return {**content, "undefined": self.undefined, "intervals": self.intervals, "source": self.source}


@dataclass
class DiagramParts:
    loss: np.ndarray | None = None
    ji: np.ndarray | None = None
    reliability: dict[str, Reliability] = field(default_factory=dict)
    curves: dict[str, IouCurve] = field(default_factory=dict)

    def whole(self) -> Diagrams:
        return Diagrams(self.loss, self.ji, self.reliability, self.curves)


class Sheet:
    """Collects values by path, and the reason where one is undefined."""

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, float]] = {
            name: {} for name in ("paper", "strict", "classification", "localisation")
        }
        self.undefined: dict[str, str] = {}

    def put(self, path: str, value: float | Callable[[], float], reason: str = "") -> None:
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
        sections = {part: {name: self.sections[part][name] for name in known} for part, known in names.items()}
        return Measures(images, excluded, **sections, undefined=self.undefined, source=source, diagrams=diagrams)


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
