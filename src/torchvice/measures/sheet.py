"""Measures, the result, and Sheet, which collects values by path and the reason where one is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.catalogue import SECTIONS, every_measure, measure_of, overview, paths, quality_label
from torchvice.measures.inference import plain_interval
from torchvice.measures.rows import ClassRow, Control, Fold, Method, Stratum
from torchvice.measures.verdict import Verdict
from torchvice.measures.wording import decimals
from torchvice.metrics import js_divergence, kl_divergence, precision_recall, vice
from torchvice.metrics.bands import NullBand
from torchvice.metrics.calibration import Reliability
from torchvice.metrics.iou import IouCurve
from torchvice.metrics.resampling import Interval
from torchvice.samples.frames import pandas_frame, polars_frame

JSON_SCHEMA = 2  # docs/definitions.md lists what each number changed
LEFT_OUT = "left out"  # in the reason why images or labels are excluded; others are kept with a warning


@dataclass(frozen=True)
class Diagrams:
    """What figures draw: per-image `loss` and `ji` (N,) of `paper`, each protocol's reliability, the curves.

    `pair_loss` and `pair_ji` (P,) are those of the true pairs of `strict`: nats, and IoU at the held-out threshold.
    `reliability` also has `temperature`, that of `strict` after scaling; `bands`, of the same names, where the bars of
    a calibrated model would lie.
    """

    loss: np.ndarray | None = None
    ji: np.ndarray | None = None
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    curves: Mapping[str, IouCurve] = field(default_factory=dict)
    bands: Mapping[str, NullBand] = field(default_factory=dict)
    pair_loss: np.ndarray | None = None
    pair_ji: np.ndarray | None = None

    @property
    def of_vice(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Loss and JI score of each protocol that has both: of images under `paper`, of pairs under `strict`."""
        given = {"paper": (self.loss, self.ji), "strict": (self.pair_loss, self.pair_ji)}
        return {name: (loss, ji) for name, (loss, ji) in given.items() if loss is not None and ji is not None}


@dataclass(frozen=True)
class Measures:
    """Every number of an assessment. Fractions at full precision; NaN where undefined, the reason in `undefined`.

    `verdict`, a `Verdict`: what the numbers lead to, in sentences.

    Numbers, {name: value}, every one described in `torchvice.measures.catalogue`: `paper`, `strict`, `classification`,
    `localisation`, `sensitivities`, `calibration`, `without` (labels found on changed images), and `quality`, which
    also has the `name` and `meaning` of the quality that was chosen. About them: `undefined` {path: reason}, where an
    interval or a test alone is undefined {`intervals.PATH` or `tests.PATH`: reason}; `intervals` {path: {low, high,
    level, method}}; `tests` {path: {p, method}}; `notes` {path: a caveat that belongs to the number}.

    Rows, see `torchvice.measures.rows`: `controls`, `methods` and `retests` {explanation: row}; `strata`, `classes`,
    `folds`. Further: `threshold_curve` {thresholds, pair_iou, vice}; `quadrants` {by, cutoffs, counts, undefined,
    strongest}; `null_bands` {calibration error: what a calibrated model shows}; `ece_by_class` (C,); `scaling`,
    calibration after scaling that was fitted on another split. `images`, how many; `excluded` {reason: count} and
    `out_of` {the same reason: of how many}; `source`, what was measured; `diagrams`, what the figures draw.
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
    strata: list[Stratum] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    threshold_curve: dict[str, list[Any]] = field(default_factory=dict)
    controls: dict[str, Control] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    retests: dict[str, Method] = field(default_factory=dict)
    quadrants: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    null_bands: dict[str, dict[str, Any]] = field(default_factory=dict)
    ece_by_class: list[float] = field(default_factory=list)
    scaling: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    out_of: dict[str, int] = field(default_factory=dict)
    without: dict[str, float] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)

    def shares(self, *, left_out: bool | None = None) -> dict[str, str]:
        """{reason: "count of total"} of images, labels and maps that were left out or need a warning.

        Args:
            left_out: only what was left out (True), or only what was kept with a warning (False); None: both.
        """
        return {
            reason: f"{count} of {self.out_of[reason]}" if reason in self.out_of else str(count)
            for reason, count in self.excluded.items()
            if left_out in (None, LEFT_OUT in reason)
        }

    def value(self, path: str) -> float:
        """The measure at a path such as `strict.vice`; NaN where it is undefined.

        Raises:
            ViceError: no such measure, or one that this table does not have.
        """
        measure = measure_of(path)
        values = getattr(self, measure.section)
        if measure.name not in values:
            known = [f"{section}.{name}" for section in SECTIONS for name in getattr(self, section)]
            raise ViceError(f"`{path}` was not measured on this table.", did_you_mean(path, known))
        return float(values[measure.name])

    def to_json(self) -> dict[str, Any]:
        """The fields of `vice measure --json`: every measure a number or null, never NaN or infinity."""
        content: dict[str, Any] = {
            "schema": JSON_SCHEMA,
            "images": self.images,
            "excluded": self.excluded,
        }
        names = [f.name for f in fields(self) if f.name not in ("images", "excluded", "diagrams")]
        return content | {name: _plain(getattr(self, name)) for name in names}

    def to_pandas(self) -> Any:
        """A data frame with one row per number: its path, label, unit, value, and the ends of its 95 % interval.

        Returns:
            pandas.DataFrame with the columns measure, label, unit, better ("higher", "lower" or None), value, low, high
            and undefined, the reason where a value is NaN.

        Raises:
            ViceError: pandas is not installed.
        """
        return pandas_frame(self._columns())

    def to_polars(self) -> Any:
        """The same as `to_pandas`, as a polars.DataFrame.

        Raises:
            ViceError: polars is not installed.
        """
        return polars_frame(self._columns())

    def to_markdown(self) -> str:
        """Every measure that is defined, with its 95 % interval, as a table in Markdown; no counts."""
        text: str = _numbers_table(self).to_markdown()
        return text

    def to_latex(self) -> str:
        """The same as `to_markdown`, in LaTeX with the rules of booktabs."""
        text: str = _numbers_table(self).to_latex()
        return text

    def _columns(self) -> dict[str, Any]:
        found = [one for one in every_measure() if one.name in getattr(self, one.section)]
        limits = [self.intervals.get(one.path, {}) for one in found]
        return {
            "measure": [one.path for one in found],
            "label": [one.label for one in found],
            "unit": [one.unit for one in found],
            "better": [one.better for one in found],
            "value": [self.value(one.path) for one in found],
            "low": [one.get("low", math.nan) for one in limits],
            "high": [one.get("high", math.nan) for one in limits],
            "undefined": [self.undefined.get(one.path) for one in found],
        }

    def __repr__(self) -> str:
        vice = ", ".join(f"{part}.vice={decimals(getattr(self, part)['vice'], 4)}" for part in ("paper", "strict"))
        undefined = sum(not path.startswith(("intervals.", "tests.")) for path in self.undefined)
        return f"Measures({self.images} images, {vice}, {undefined} undefined)"

    def _repr_html_(self) -> str:
        """A notebook shows the numbers of both protocols, with their intervals, and the VICE diagrams."""
        # By name, and only when a notebook asks: the report stands above this room.
        html: str = import_module("torchvice.report.notebook").measures_html(
            self, overview("page"), quality_label(self.quality.get("name", "ji"))
        )
        return html


def _plain(value: Any) -> Any:
    """`value` for JSON: a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
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
    pair_loss: np.ndarray | None = None
    pair_ji: np.ndarray | None = None

    def whole(self) -> Diagrams:
        return Diagrams(**vars(self))


class Sheet:
    """Collect values by path, their intervals and tests, and the reason where one is undefined.

    `parts` are the other fields of Measures, by name; `notes` are caveats by path.
    """

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, float]] = {name: {} for name in SECTIONS}
        self.undefined: dict[str, str] = {}
        self.intervals: dict[str, Any] = {}
        self.tests: dict[str, Any] = {}
        self.notes: dict[str, str] = {}
        self.parts: dict[str, Any] = {}

    def put(self, path: str, value: Any, reason: str = "") -> None:
        """Set a value; a ViceError of its computation, or a value that is not finite, leaves NaN and the reason."""
        section, name = measure_of(path).section, measure_of(path).name
        try:
            number = float(value() if callable(value) else value)
        except ViceError as error:
            number, reason = math.nan, error.message
        if not math.isfinite(number):
            self.undefined[path] = reason or "The measure is not defined for these images."
            number = math.nan
        self.sections[section][name] = number

    def add(self, other: Sheet) -> None:
        """Take over what another sheet has."""
        for section, values in other.sections.items():
            self.sections[section] |= values
        for name in ("undefined", "intervals", "tests", "notes", "parts"):
            getattr(self, name).update(getattr(other, name))

    def value(self, path: str) -> float:
        """Return the value of a path."""
        section, name = path.split(".")
        return self.sections[section][name]

    @property
    def quality(self) -> dict[str, Any]:
        """Name and meaning of the quality that was chosen; empty before that."""
        chosen: dict[str, Any] = self.parts.get("quality", {})
        return chosen

    def put_interval(self, path: str, found: Interval | None) -> None:
        """Set the interval of a value, or the reason why it has none, if one is known."""
        plain = None if found is None else plain_interval(found)
        if plain is not None:
            self.intervals[path] = plain
        elif found is not None and found.reason:
            self.undefined[f"intervals.{path}"] = found.reason

    def put_test(self, path: str, p: float, method: str, permutations: int | None, reason: str = "") -> None:
        """Set the p-value, in (0, 1], of the hypothesis that the value at a path is 0, and whether it can be lower.

        Without `permutations`, None, it can. A p that is NaN is left out, with the reason.
        """
        if math.isnan(p):
            self.undefined[f"tests.{path}"] = reason or "The test is not defined for these images."
            return
        at_floor = permutations is not None and bool(p * (permutations + 1) <= 1)
        self.tests[path] = {"p": p, "method": method, "at_floor": at_floor}

    def not_reliable(self, path: str, note: str) -> None:
        """Mark the interval of a value as not reliable, and say why."""
        self.notes[path] = note
        if path in self.intervals:
            self.intervals[path]["reliable"] = False

    def leave_out(self, paths: list[str], reason: str) -> None:
        """Set these paths to undefined, for one reason."""
        for path in paths:
            self.put(path, math.nan, reason)

    def measures(self, images: int, excluded: dict[str, int], source: dict[str, Any], diagrams: Diagrams) -> Measures:
        """The finished sheet, every number in the order of the catalogue."""
        sections: dict[str, Any] = {
            section: {name: self.sections[section][name] for name in _names(section) if name in self.sections[section]}
            for section in SECTIONS
        }
        sections["quality"] = self.parts.pop("quality", {}) | sections["quality"]
        about: dict[str, Any] = {
            "intervals": self.intervals,
            "tests": self.tests,
            "notes": self.notes,
            "undefined": self.undefined,
        }
        return Measures(images, excluded, **sections, **about, source=source, diagrams=diagrams, **self.parts)


def _names(section: str) -> list[str]:
    return [path.partition(".")[2] for path in paths(section)]


def put_consistency(sheet: Sheet, loss: np.ndarray, ji: np.ndarray) -> None:
    """Put VICE, mean JI, KL and JS of the published table's two columns."""
    undefined = int(np.isnan(ji).sum())
    reason = ""
    if undefined:
        reason = f"The JI of {undefined} of {len(ji)} images is undefined"
        if lost := int(np.isnan(loss).sum()):
            reason += f", and {lost} have no loss"
        reason += ", which leaves the published number undefined."
        try:
            rest = vice(loss, ji, nan_policy="omit")
            reason += f" Over the other {rest.n} images VICE is {decimals(rest.value, 6)}."
        except ViceError:
            pass
    if not len(ji):
        reason = "No image has a mask."
    sheet.put("paper.vice", lambda: vice(loss, ji, called=("The loss", "The JI score")).value, reason)
    sheet.put("paper.ji", float(np.mean(ji)) if len(ji) else math.nan, reason)
    sheet.put("paper.kl", lambda: kl_divergence(loss, ji), reason or "A JI of 0 meets a positive loss.")
    sheet.put("paper.js", lambda: js_divergence(loss, ji), reason)


def put_precision_recall(sheet: Sheet, probabilities: np.ndarray, targets: np.ndarray) -> None:
    """Put CP, CR, CF1, OP, OR and OF1 into `classification`."""
    found = precision_recall(probabilities, targets)
    for name, value in (("cp", found.cp), ("cr", found.cr), ("cf1", found.cf1)):
        sheet.put(f"classification.{name}", value)
    for name, value in (("op", found.op), ("or", found.or_), ("of1", found.of1)):
        sheet.put(f"classification.{name}", value)


def _numbers_table(measures: Measures) -> Any:
    # Imported by name: `result_table` imports this module.
    return import_module("torchvice.measures.result_table").numbers_table(measures)
