"""Measures and comparisons as tables on the terminal: numbers with their intervals, then what must be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchvice.cli.terminal import console, number, say

if TYPE_CHECKING:
    from rich.table import Table

    from torchvice.measures import Comparison, Measures

__all__ = ["print_comparison", "print_measures", "print_trust"]

_MEANINGS = {
    "vice": "VICE",
    "quality": "quality",
    "mean_average_precision": "mAP",
    "loss": "loss",
    "ece_ml": "ECE-ML",
}


def _table(title: str, *columns: str, whole: str = "name") -> Table:
    """A table whose first column are names, the others numbers; `whole` says which of the two never break a line."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        name = place == 0
        table.add_column(
            column, justify="left" if name else "right", no_wrap=name == (whole == "name"), overflow="fold"
        )
    return table


def print_measures(measures: Measures, title: str) -> None:
    """The measures of both protocols side by side, then what was left out and what is undefined, with the reasons."""
    from torchvice.measures.overview import OVERVIEW

    table = _table(f"{title} · {measures.images} images", "", "paper", "strict")
    for name, *paths in OVERVIEW:
        cells = [" / ".join(_said(measures, path) for path in cell.split()) for cell in paths]
        if any(cell.strip("–/ ") for cell in cells):
            table.add_row(name, *cells)
    console().print(table)
    name, value = measures.quality.get("name", "ji"), measures.quality.get("vice")
    if name != "ji" and value is not None:
        said = _said(measures, "quality.vice")
        say(f"  with {name} in place of IoU ({measures.quality['meaning']}): VICE {said}; so is all that follows")
    replicates = measures.source.get("inference", {}).get("replicates")
    if replicates:
        say(f"  in brackets: 95 % intervals over resampled images ({replicates} replicates)")
    _print_controls(measures)
    _print_quadrants(measures)
    _print_scaling(measures)
    for path in ("table", "maps", "controls", "paper.vice"):
        if path in measures.notes:
            say(f"  {path}: {measures.notes[path]}" if "." in path else f"  {measures.notes[path]}")
    for reason, share in measures.shares().items():
        say(f"  {share} {reason}")
    by_reason: dict[str, list[str]] = {}
    for path, reason in measures.undefined.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 3} more" if len(paths) > 4 else ""
        say(f"  undefined: {', '.join(paths[:3] if more else paths)}{more}. {reason}")


def _said(measures: Measures, path: str) -> str:
    """A measure, with its interval where it has one."""
    section, name = path.split(".")
    value = number(getattr(measures, section)[name])
    limits = measures.intervals.get(path)
    if limits is None:
        return value
    doubt = " ?" if limits.get("reliable") is False else ""
    return f"{value} ({_span(limits['low'], limits['high'])}){doubt}"


def _span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _cell(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else number(value, digits)


def _print_controls(measures: Measures) -> None:
    """VICE of the controls, and how far the result lies above each."""
    if not measures.controls:
        return
    name = measures.quality.get("name", "ji")
    about = "" if name == "ji" else f" (VICE with {name})"
    columns = ("control", "VICE", "quality", "difference", "95 %", "")
    table = _table(f"Does it beat maps that know nothing?{about}", *columns)
    for name, row in measures.controls.items():
        beaten = {True: "above", False: "not above", None: ""}[row["beaten"]]
        span = _span(row["low"], row["high"])
        table.add_row(name, _cell(row["vice"]), _cell(row["ji"]), _cell(row["difference"]), span, beaten)
    console().print(table)


def _print_quadrants(measures: Measures) -> None:
    from torchvice.measures.quadrants import QUADRANTS
    from torchvice.measures.qualities import QUALITIES

    if not measures.quadrants:
        return
    cut = measures.quadrants["cutoffs"]
    counts = measures.quadrants["counts"]
    said = "; ".join(f"{counts[key]} {QUADRANTS[key]}" for key in QUADRANTS)
    label = QUALITIES[measures.quadrants["by"]].label
    undefined = measures.quadrants["undefined"]
    said += f"; {undefined} in none, their {label} being undefined" if undefined else ""
    say(f"  labels (right: p above {cut['probability']:g}; at the object: {label} {cut['iou']:g} or more): {said}")


def _print_scaling(measures: Measures) -> None:
    """What temperature and vector scaling, fitted on another split, make of the calibration."""
    scaled = measures.calibration.get("scaled")
    if not scaled:
        return
    names = ("ece", "ece_pooled", "nll", "brier")
    fitted_on = scaled["fitted_on"]
    title = f"After scaling, fitted on {fitted_on['images']} images of {fitted_on['split'] or 'another split'}"
    table = _table(title, "", *names, "temperature")
    table.add_row("as trained", *(_cell(measures.calibration[name], 4) for name in names), "1")
    for way in ("temperature", "vector"):
        found = scaled[way]
        if "undefined" in found:
            table.add_row(f"{way}: {found['undefined']}")
            continue
        slope = found["scaling"]["slope"]
        table.add_row(way, *(_cell(found[n], 4) for n in names), f"{1 / slope[0]:.3f}" if len(slope) == 1 else "")
    console().print(table)


def print_trust(measures: Measures) -> None:
    """Everything that tells how far VICE may be trusted: sensitivities, strata, classes, other methods, calibration."""
    if measures.sensitivities:
        table = _table("VICE, asked in other ways", "sensitivity", "value", "95 %", "p")
        for name, value in measures.sensitivities.items():
            limits = measures.intervals.get(f"sensitivities.{name}") or {}
            test = measures.tests.get(f"sensitivities.{name}", {})
            span = _span(limits.get("low"), limits.get("high"))
            table.add_row(name, number(value, 3), span, _cell(test.get("p")))
        console().print(table)
    for title, section in (("Other methods", measures.methods), ("The same method again", measures.retests)):
        if section:
            table = _table(title, "explanation", "VICE", "map quality", "difference", "95 %", "agreement of quality")
            for name, row in section.items():
                span = _span(row["low"], row["high"])
                cells = [_cell(row[key]) for key in ("vice", "ji", "difference")]
                table.add_row(name, *cells, span, _cell(row["agreement"]))
            console().print(table)
    if measures.strata:
        table = _table("VICE within strata", "stratum", "pairs", "map quality", "VICE", "95 %")
        for row in measures.strata:
            table.add_row(
                f"{row['by']}: {row['stratum']}",
                str(row["pairs"]),
                _cell(row["quality"]),
                _cell(row["vice"]),
                _span(row["low"], row["high"]),
            )
        console().print(table)
        say(f"  {measures.notes['strata.correctness']}")
    if measures.classes:
        table = _table("Classes", "class", "pairs", "AP", "map quality", "VICE", "95 %")
        for row in measures.classes:
            cells = [_cell(row[key]) for key in ("average_precision", "iou", "vice")]
            table.add_row(row["name"], str(row["pairs"]), *cells, _span(row["low"], row["high"]))
        console().print(table)
    _print_numbers("Localisation", measures.localisation, measures, "localisation")
    numbers = {name: v for name, v in measures.calibration.items() if isinstance(v, float)}
    _print_numbers("Calibration (0 is perfect)", numbers, measures, "calibration")
    if measures.folds:
        said = ", ".join(f"{row['threshold']:.2f}" for row in measures.folds)
        say(f"  held-out thresholds of the folds: {said}")


def _print_numbers(title: str, values: Mapping[str, float], measures: Measures, section: str) -> None:
    if not values:
        return
    table = _table(title, "", "value", "95 %")
    for name, value in values.items():
        limits = measures.intervals.get(f"{section}.{name}") or {}
        table.add_row(name, number(value), _span(limits.get("low"), limits.get("high")))
    console().print(table)


def print_comparison(found: Comparison) -> None:
    """The models side by side, their differences, and in words what is established and what is not."""
    short = {row["name"]: _letter(place) for place, row in enumerate(found.models)}
    measures = ("vice", "quality", "mean_average_precision", "loss")
    title = f"{len(found.models)} models · {found.images} images · quality: {found.quality}"
    table = _table(title, "model", *(_MEANINGS[m] for m in (*measures, "ece_ml")), whole="numbers")
    for row in found.models:
        # Narrow: five of them stand side by side.
        spans = [_span(row[f"{m}_low"], row[f"{m}_high"]).replace(" to ", "–") for m in measures]
        cells = [f"{_cell(row[m])}\n{span}" for m, span in zip(measures, spans, strict=True)]
        table.add_row(f"{short[row['name']]}  {row['name']}", *cells, _cell(row["ece_ml"]))
    console().print(table)
    if found.seeds:
        table = _table("VICE between groups, over seeds and images", "", "seeds", "difference", "95 %", "p")
        for row in found.seeds:
            seeds = f"{row['seeds_first']} and {row['seeds_second']}"
            cells = [_cell(row["difference"]), _span(row["low"], row["high"]), _cell(row["p"])]
            table.add_row(f"{row['first']} - {row['second']}", seeds, *cells)
        console().print(table)
    else:
        _print_pairs(found, short)
    for reason, count in found.excluded.items():
        say(f"  {count} {reason}")
    for sentence in found.sentences:
        say(sentence)


def _print_pairs(found: Comparison, short: Mapping[str, str]) -> None:
    """The differences of every pair of models, as they are and at equal likelihood."""
    table = _table("Differences, paired over images", "", "measure", "difference", "95 %", "p (Holm)")
    for row in found.differences:
        pair = f"{short[row['first']]} - {short[row['second']]}"
        table.add_row(pair, _MEANINGS[row["measure"]], *_difference_cells(row))
    console().print(table)
    if any(row["difference"] is not None for row in found.matched):
        table = _table("VICE at equal likelihood", "", "first", "second", "difference", "95 %", "no partner")
        for row in found.matched:
            cells = [_cell(row[key]) for key in ("vice_first", "vice_second", "difference")]
            span = _span(row["low"], row["high"])
            pair = f"{short[row['first']]} - {short[row['second']]}"
            table.add_row(pair, *cells, span, _cell(row["without_partner"], 2))
        console().print(table)


def _letter(place: int) -> str:
    """What a model is called within the tables: A to Z, then numbers."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _difference_cells(row: Mapping[str, Any]) -> list[str]:
    return [_cell(row["difference"]), _span(row["low"], row["high"]), _cell(row["p_holm"])]
