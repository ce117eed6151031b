"""Numbers as tables of text, for the page and for the terminal; names and definitions come from the catalogue."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.measures import Measures
from torchvice.measures.catalogue import CATALOGUE, Measure, measure_of, overview, paths, quality_label, shown_in
from torchvice.measures.rows import COLUMNS
from torchvice.measures.wording import interval_text, p_text
from torchvice.report.page.text import interval_of, label_of
from torchvice.report.style import number

# Rows by name or in a list: the section, the caption, the key of its definition.
_SECTIONS = (
    ("controls", "Controls, with the model's own losses", "control"),
    ("methods", "Other explanation methods, with the model's own losses", "method"),
    ("retests", "The same method on mirrored or scaled images", "retest"),
    ("strata", "VICE within strata", "stratum"),
    ("folds", "Thresholds, each chosen on the other folds", "fold"),
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-\d+)?")
# Columns that stand in another's cell as its interval.
_WITH_LIMITS = ("vice", "difference", "difference_at_headline", "without_object", "without_background")
_LIMITS = {name: (f"{name}_low", f"{name}_high") for name in _WITH_LIMITS}
# Columns of controls and of classes that have a table of their own.
_AT_HEADLINE = {
    "name": "name",
    "vice_at_headline": "VICE",
    "difference_at_headline": "difference",
}
_CHANGED = {
    "name": "name",
    "found": "found",
    "without_object": "without object",
    "without_background": "without background",
}
_ABOUT = {"intervals": "interval", "tests": "p"}  # what a number may lack
_SCALED = ("ece", "ece_pooled", "ece_classwise", "nll", "brier")

Cell = tuple[str, str]


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers: `caption`, the key of its definition, its heads, and rows of (text, interval or "")."""

    caption: str
    term: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether all its texts are numbers (or undefined)."""
        columns = zip(*([text for text, _ in row] for row in self.rows), strict=True)
        return [all(text == number(None) or _NUMBER.fullmatch(text) for text in column) for column in columns]


def shown(value: Any) -> str:
    """A value as a cell shows it.

    Example:
        >>> [shown(value) for value in (0.5, 7, True, None, float("nan"), "held out")]
        ['0.500', '7', '✓ yes', 'undefined', 'undefined', 'held out']
    """
    if isinstance(value, bool):
        return "✓ yes" if value else "✗ no"
    if isinstance(value, int | str):
        return str(value)
    return number(value)


def named(measures: Measures, path: str) -> Measure:
    """The record of a path; of the quality that was chosen, with the name of that quality."""
    measure = measure_of(path)
    if measure.section != "quality":
        return measure
    start = "VICE with" if measure.name == "vice" else "Mean"
    return dataclasses.replace(measure, label=f"{start} {label_of(measures)}")


def _value(measures: Measures, path: str) -> float:
    section, _, name = path.partition(".")
    return float(getattr(measures, section).get(name, math.nan))


def number_rows(measures: Measures, place: str = "page") -> list[dict[str, Any]]:
    """The table of both protocols: a name, and for each protocol the path, the value and its interval.

    A row without any value is left out, unless all are.
    """
    rows = [(label, *cells) for label, *cells in overview(place)]
    if measures.quality.get("name", "ji") != "ji":
        rows[1:1] = [(named(measures, path).label, "", path) for path in ("quality.vice", "quality.mean")]
    return [{"name": label, "cells": [_cell(measures, path) for path in cells]} for label, *cells in rows]


def _cell(measures: Measures, path: str) -> dict[str, str]:
    value = number(_value(measures, path)) if path else ""
    return {"path": path, "value": value, "interval": interval_of(measures, path)}


def numbers_of_models(models: Sequence[Measures]) -> list[tuple[str, str, list[Cell]]]:
    """The headline numbers of several models: a name, the path, and for each model (value, interval)."""
    other = models[0].quality.get("name", "ji") != "ji"
    listed = [*(["quality.vice", "quality.mean"] if other else []), *(m.path for m in shown_in("headline"))]
    rows = []
    for path in sorted(listed, key=lambda path: not path.endswith(".vice")):
        cells = [(number(_value(one, path)), interval_of(one, path)) for one in models]
        if any(value != number(None) for value, _ in cells):
            measure = named(models[0], path)
            rows.append((measure.full_label if measure.label == "VICE" else measure.label, path, cells))
    return rows


def tables_of(measures: Measures, classes: bool = False) -> list[NumberTable]:
    """Everything else that the measures hold; with `classes` also the classes, which the page draws as a figure."""
    sections = (*_SECTIONS, ("classes", "Classes", "class_vice")) if classes else _SECTIONS
    tables = [
        _of_rows(caption, term, content, quality_label(measures.quality.get("name", "ji")))
        for section, caption, term in sections
        if (content := getattr(measures, section))
    ]
    if any(row.vice_at_headline is not None for row in measures.controls.values()):
        caption = "Controls, their maps cut at the headline's thresholds"
        tables.insert(1, _of_rows(caption, "control", measures.controls, "", _AT_HEADLINE))
    if measures.tests:
        rows = [
            [(shown_path(path), ""), (p_text(test["p"], test.get("at_floor", False)), ""), (test["method"], "")]
            for path, test in measures.tests.items()
        ]
        tables.append(NumberTable("Tests of a connection", "test", ("measure", "p", "method"), rows))
    if any(row.without_object is not None or row.without_background is not None for row in measures.classes):
        tables.append(
            _of_rows("Found labels of each class, on changed images", "without", measures.classes, "", _CHANGED)
        )
    for section, caption, term in (
        ("without", "On changed images: without object or background", "without"),
        ("sensitivities", "VICE by other definitions", "sensitivity"),
        ("localisation", "Localisation", "localisation"),
    ):
        rows = _named(measures, section, [p for p in paths(section) if "page" not in CATALOGUE[p].shown])
        tables += [NumberTable(caption, term, ("measure", "value"), rows)] if rows else []
    return [*tables, *_calibration(measures), *_scaling(measures)]


def _named(measures: Measures, section: str, listed: Iterable[str]) -> list[list[Cell]]:
    values = getattr(measures, section)
    return [
        [(measure_of(path).label, ""), (_shown(measures, path), interval_of(measures, path))]
        for path in listed
        if measure_of(path).name in values
    ]


def _shown(measures: Measures, path: str) -> str:
    value = _value(measures, path)
    return f"{value:.0f}" if measure_of(path).unit == "count" and not math.isnan(value) else number(value)


def _calibration(measures: Measures) -> list[NumberTable]:
    """Every error, and beside it what a calibrated model would show by chance."""
    rows = _named(measures, "calibration", paths("calibration"))
    if not rows:
        return []
    bands = {
        measure_of(f"calibration.{n}").label: _span(band, ("low", "high")) for n, band in measures.null_bands.items()
    }
    if not bands:
        return [NumberTable("Calibration", "calibration", ("measure", "value"), rows)]
    heads = ("measure", "value", "by chance, if calibrated")
    return [NumberTable("Calibration", "calibration", heads, [[*row, (bands.get(row[0][0], ""), "")] for row in rows])]


def _scaling(measures: Measures) -> list[NumberTable]:
    """Calibration after scalings that were fitted on another split."""
    if not measures.scaling:
        return []
    source = measures.scaling["fitted_on"]
    caption = f"After scaling, fitted on {source['images']} images of {source['split'] or 'another split'}"
    heads = ("", *(measure_of(f"calibration.{name}").label for name in _SCALED), "temperature")
    rows = [[("as trained", ""), *((number(measures.calibration[name]), "") for name in _SCALED), ("1", "")]]
    for way in ("temperature", "vector"):
        content = measures.scaling[way]
        slope = [] if "undefined" in content else content["scaling"]["slope"]
        temperature = f"{1 / slope[0]:.3f}" if len(slope) == 1 else ""
        rows.append([(way, ""), *((number(content.get(name)), "") for name in _SCALED), (temperature, "")])
    return [NumberTable(caption, "temperature", heads, rows)]


def undefined_by_reason(undefined: Mapping[str, str]) -> dict[str, list[str]]:
    """{reason: names of what is undefined}."""
    reasons: dict[str, list[str]] = {}
    for path, reason in undefined.items():
        reasons.setdefault(reason, []).append(shown_path(path))
    return reasons


def shown_path(path: str) -> str:
    """The name of what a path of numbers, rows or notes is about.

    Example:
        >>> shown_path("strict.vice"), shown_path("sensitivities.kendall"), shown_path("controls.center")
        ('VICE (strict)', "Kendall's tau-b", 'controls, center')
        >>> shown_path("controls.center.vice"), shown_path("intervals.strict.ji"), shown_path("tests.strict.vice")
        ('VICE of controls, center', 'interval of JI score (strict)', 'p of VICE (strict)')
    """
    about, _, rest = path.partition(".")
    if about in _ABOUT:
        return f"{_ABOUT[about]} of {shown_path(rest)}"
    if path in CATALOGUE:
        return CATALOGUE[path].full_label
    of_row = path.removesuffix(".vice")
    words = of_row.replace(".", ", ").replace("_", " ")
    return words if of_row == path else f"VICE of {words}"


def _of_rows(
    caption: str, term: str, content: Any, quality: str, columns: Mapping[str, str] | None = None
) -> NumberTable:
    """A table of row dataclasses, by name or in a list; of these columns, else of those in COLUMNS."""
    by_name = isinstance(content, Mapping)
    rows = [dataclasses.asdict(row) for row in (content.values() if by_name else content)]
    if by_name:
        rows = [{"name": name.replace("_", " "), **row} for name, row in zip(content, rows, strict=True)]
    limits = {key: ends for key, ends in _LIMITS.items() if ends[0] in rows[0]}
    named = columns or COLUMNS
    keys = [key for key in rows[0] if key in named]
    heads = [quality if key == "quality" else named[key] for key in keys]
    return NumberTable(
        caption, term, heads, [[(shown(row[key]), _span(row, limits.get(key))) for key in keys] for row in rows]
    )


def _span(row: Mapping[str, Any], ends: tuple[str, str] | None) -> str:
    if ends is None or any(row.get(end) is None for end in ends):
        return ""
    return interval_text(row[ends[0]], row[ends[1]])
