"""Numbers: the tables of the page, every cell a text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.measures import Measures
from torchvice.report.page.text import interval_of, label_of
from torchvice.report.style import number

__all__ = ["NumberTable", "number_rows", "numbers_beside", "shown", "shown_path", "tables_of", "undefined_by_reason"]

_ROWS = (
    ("VICE", "paper.vice", "strict.vice"),
    ("ECE-ML", "paper.ece_ml", "strict.ece_ml"),
    ("ML-accuracy", "paper.ml_accuracy", "strict.ml_accuracy"),
    ("F1", "paper.f1", "strict.f1"),
    ("mAP", "classification.mean_average_precision", "strict.mean_average_precision"),
    ("JI score, mean pair IoU", "paper.ji", "strict.ji"),
    ("Best mIoU", "localisation.best_mean_iou", "localisation.strict_best_mean_iou"),
    ("at threshold", "localisation.best_threshold", "localisation.strict_best_threshold"),
    *((name.upper(), f"classification.{name}", "") for name in ("cp", "cr", "cf1", "op", "or", "of1")),
    ("KL", "paper.kl", ""),
    ("JS", "paper.js", ""),
)
_HEADLINE = (
    ("VICE (strict)", "strict.vice"),
    ("VICE (paper)", "paper.vice"),
    ("Mean pair IoU", "strict.ji"),
    ("mAP", "strict.mean_average_precision"),
    ("ML-accuracy", "strict.ml_accuracy"),
    ("ECE-ML", "strict.ece_ml"),
)
# Rows by name or in a list: the section, the caption, the key of its definition.
_SECTIONS = (
    ("controls", "Controls: maps that know nothing, with the model's own losses", "control"),
    ("methods", "Other explanation methods, with the model's own losses", "method"),
    ("retests", "The same method on mirrored or scaled images", "retest"),
    ("tests", "Tests: how likely so strong a connection is by chance", "test"),
    ("strata", "VICE within strata", "stratum"),
    ("folds", "Thresholds, each chosen on the other folds", "fold"),
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
# Columns that stand in another's cell as its interval.
_LIMITS = {"vice": ("vice_low", "vice_high"), "difference": ("low", "high")}


@dataclass(frozen=True)
class NumberTable:
    """A table of the page: `caption`, the key of its definition, its heads, and rows of (text, interval or "")."""

    caption: str
    term: str
    heads: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str]]]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether all its texts are numbers (or undefined)."""
        columns = zip(*([text for text, _ in row] for row in self.rows), strict=True)
        return [all(text == number(None) or _NUMBER.fullmatch(text) for text in column) for column in columns]


def shown(value: Any) -> str:
    """A value as a cell has it.

    Example:
        >>> [shown(value) for value in (0.5, 7, True, None, float("nan"), "held out")]
        ['0.500', '7', '✓ yes', 'undefined', 'undefined', 'held out']
    """
    if isinstance(value, bool):
        return "✓ yes" if value else "✗ no"
    if isinstance(value, int | str):
        return str(value)
    return number(value)


def number_rows(measures: Measures) -> list[dict[str, Any]]:
    """The table of both protocols: a name, and of each the value, its interval and its definition."""
    rows = []
    for name, *paths in [*_ROWS[:1], *_of_quality(measures, ""), *_ROWS[1:]]:
        cells = []
        for path in paths:
            section, _, key = path.partition(".")
            value = getattr(measures, section).get(key) if path else math.nan
            cells.append({"path": path, "value": number(value), "interval": interval_of(measures, path)})
        rows.append({"name": name, "cells": cells})
    return rows


def _of_quality(measures: Measures, *before: str) -> list[tuple[str, ...]]:
    """The rows of another quality than the IoU, where one was asked for; the paths that stand before theirs."""
    if measures.quality.get("name", "ji") == "ji":
        return []
    label = label_of(measures)
    return [(f"VICE with {label}", *before, "quality.vice"), (f"Mean {label}", *before, "quality.mean")]


def numbers_beside(measures: Sequence[Measures]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The headline numbers of several models: a name, the key of its definition, and of each (value, interval)."""
    rows = []
    for name, path in [*_of_quality(measures[0]), *_HEADLINE]:
        section, _, key = path.partition(".")
        cells = [(number(getattr(one, section).get(key)), interval_of(one, path)) for one in measures]
        if any(value != number(None) for value, _ in cells):
            rows.append((name, path, cells))
    return rows


def tables_of(measures: Measures) -> list[NumberTable]:
    """Everything else that the measures hold, as far as they hold it."""
    tables = []
    for section, caption, term in _SECTIONS:
        content = getattr(measures, section, None) or {}
        rows = [{"name": _plain(n), **row} for n, row in content.items()] if isinstance(content, Mapping) else content
        if rows:
            tables.append(_of_rows(caption, term, rows, label_of(measures)))
    sensitivities = _flat(measures, measures.sensitivities, "sensitivities")
    if sensitivities:
        tables.append(NumberTable("Sensitivities of VICE", "sensitivity", ("Measure", "Value"), sensitivities))
    return [*tables, *_calibration(measures)]


def _calibration(measures: Measures) -> list[NumberTable]:
    """Every error, and beside it what a calibrated model would show by chance."""
    bands = measures.calibration.get("null_bands") or {}
    named = _flat(measures, {k: v for k, v in measures.calibration.items() if k != "null_bands"}, "calibration")
    if not named:
        return []
    chance = {_plain(name): _span(row, ("low", "high")) for name, row in bands.items()}
    if not chance:
        return [NumberTable("More on calibration", "calibration", ("Measure", "Value"), named)]
    heads = ("Measure", "Value", "by chance, if calibrated")
    rows = [[*row, (chance.get(row[0][0], ""), "")] for row in named]
    return [NumberTable("More on calibration", "calibration", heads, rows)]


def undefined_by_reason(undefined: Mapping[str, str]) -> dict[str, list[str]]:
    """{reason: paths}."""
    reasons: dict[str, list[str]] = {}
    for path, reason in undefined.items():
        reasons.setdefault(reason, []).append(path)
    return reasons


def shown_path(path: str) -> str:
    """A path as words.

    Example:
        >>> shown_path("sensitivities.vice_pointing")
        'sensitivities, VICE pointing'
    """
    return _plain(path)


def _plain(name: str) -> str:
    words = str(name).replace(".", ", ").replace("_", " ").split(" ")
    return " ".join(
        word.upper() if word.strip(",") in ("ece", "iou", "ji", "mce", "nll", "vice") else word for word in words
    )


def _of_rows(caption: str, term: str, rows: Sequence[Mapping[str, Any]], quality: str) -> NumberTable:
    limits = {} if "difference" in rows[0] else {"vice": ("low", "high")}
    limits = {**limits, **{key: ends for key, ends in _LIMITS.items() if key in rows[0] and ends[0] in rows[0]}}
    hidden = {end for ends in limits.values() for end in ends}
    keys = [key for key, value in rows[0].items() if key not in hidden and not isinstance(value, Mapping | list)]
    return NumberTable(
        caption,
        term,
        [f"mean {quality}" if key in ("ji", "quality") else _plain(key) for key in keys],
        [[(shown(row.get(key)), _span(row, limits.get(key))) for key in keys] for row in rows],
    )


def _span(row: Mapping[str, Any], ends: tuple[str, str] | None) -> str:
    if ends is None or any(row.get(end) is None for end in ends):
        return ""
    return f"{number(row[ends[0]])} to {number(row[ends[1]])}"


def _flat(measures: Measures, content: Mapping[str, Any], path: str, before: str = "") -> list[list[tuple[str, str]]]:
    """Named numbers of a nested mapping; lists, which are for figures, are left out."""
    rows: list[list[tuple[str, str]]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += _flat(measures, value, f"{path}.{name}", f"{before}{_plain(name)}: ")
        elif not isinstance(value, list | tuple):
            rows.append([(before + _plain(name), ""), (shown(value), interval_of(measures, f"{path}.{name}"))])
    return rows
