"""The page of a study: tables of runs and recipes, VICE against mAP and ECE-ML, and the effect of each axis."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torchvice.files import atomic
from torchvice.measures.wording import interval_text
from torchvice.report.page.numbers import shown
from torchvice.report.page.page import embedded, joined, template
from torchvice.report.study.recipes import Recipe, RecipeMean, Row, StudyTable, pareto_front
from torchvice.report.study.text import (
    column_name,
    column_term,
    counted,
    facts_of_study,
    front_sentence,
    is_established,
    lower_is_better,
    sentences_of_study,
    study_definitions,
    why_not_compared,
)
from torchvice.report.style import number

__all__ = ["write_study_page"]

STYLES = ("page.css", "study.css")
FEW = 2  # with at most so many pairs each, all combinations of an axis share one figure
SCRIPTS = ("base.js", "figures.js", "sortable.js", "table.js", "front.js", "effects.js", "shell.js", "study.js")


def write_study_page(path: str | os.PathLike[str], table: StudyTable, *, title: str = "") -> Path:
    """Write the report of a study as one file that opens from disk and holds no pixel of the data.

    Args:
        path: file to write. It links to the report.html of every run that has one, by relative path.
        table: from `torchvice.report.study.recipes.read_study`.
        title: title of the page; default: the name of the study.
    """
    path = Path(path)
    text = template("study.html.jinja").render(_context(table, path.parent, title or table.name))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path


def _context(table: StudyTable, folder: Path, title: str) -> dict[str, Any]:
    recipes, effects, definitions = table.recipes(), _effects(table), study_definitions(table.quality)
    choices = _choices(table, recipes)
    # In their order, so that the same study is the same bytes.
    drawn = dict.fromkeys(
        name for choice in choices for name in (choice["y"], *(panel["x"] for panel in choice["panels"]))
    )
    study = {
        "runs": _runs(table, recipes),
        "recipes": [{"name": recipe.name, "levels": recipe.levels} for recipe in recipes],
        "columns": {name: _column(table, recipes, name) for name in drawn},
        "choices": choices,
        "effects": effects,
    }
    data = {"title": title, "definitions": definitions, "quadrants": [], "models": [], "ids": [], "study": study}
    return {
        "title": title,
        "facts": facts_of_study(table),
        "sentences": sentences_of_study(table, recipes),
        "definitions": definitions,
        "vice": (column_name("vice", table.quality), column_term("vice", table.quality)),
        "axes": table.axes,
        "choices": choices,
        "effects": effects,
        "why_not": why_not_compared(table),
        "tables": [_recipe_table(table, recipes), _run_table(table, recipes, folder)],
        "css": joined(STYLES),
        "scripts": joined(SCRIPTS),
        "data": embedded(data),
    }


@dataclass(frozen=True)
class _Cell:
    """A cell: its `text`, the small text `below`, the sort `key` (None: last), and the target of its `link`."""

    text: str
    below: str = ""
    key: float | str | None = None
    link: str = ""


def _recipe_table(table: StudyTable, recipes: Sequence[Recipe]) -> dict[str, Any]:
    measured = [name for name in table.measured if name != "images"]
    heads = [
        ("Recipe", "recipe", False),
        ("runs", "", True),
        *((column_name(n, table.quality), column_term(n, table.quality), True) for n in measured),
    ]
    rows = []
    for recipe in recipes:
        done = sum(table.rows[at]["status"] == "finished" for at in recipe.rows)
        failed = len(recipe.rows) - done
        given = sum(table.rows[at].get("origin") == "given" for at in recipe.rows)
        below = [f"{count} {word}" for count, word in ((failed, "failed"), (given, "given")) if count]
        cells = [_Cell(recipe.name, key=recipe.name), _Cell(str(done), ", ".join(below), done)]
        cells += [_mean_cell(table.mean(recipe, name), done) for name in measured]
        rows.append(cells)
    return {
        "id": "recipes",
        "name": "Recipes",
        "caption": "Recipes: mean over the runs of a recipe, with the standard deviation below",
        "heads": heads,
        "rows": list(enumerate(rows)),
    }


def _mean_cell(mean: RecipeMean, done: int) -> _Cell:
    if mean.value is None:
        return _Cell("–")
    below = [f"± {number(mean.sd)}"] if mean.sd is not None else []
    below += [f"of {counted(mean.n, 'run')}"] if mean.n != done else []
    return _Cell(_number(mean.value), ", ".join(below), mean.value)


def _number(value: float) -> str:
    """Three decimals, or one for numbers from 10, such as seconds."""
    return f"{value:.1f}" if abs(value) >= 10 else number(value)


def _run_table(table: StudyTable, recipes: Sequence[Recipe], folder: Path) -> dict[str, Any]:
    texts = [name for name in table.columns if name not in table.measured and _has_text(table.rows, name)]
    origin = [name for name in texts if name == "origin"]  # beside the status
    texts = [name for name in texts if name not in origin]
    texts += ["reason"] if any(row.get("reason") for row in table.rows) else []
    numbers = {axis: _numbers_of(levels) for axis, levels in table.axes.items()}
    axes = [(axis, "", bool(numbers[axis])) for axis in table.axes]
    heads = [("Run", "", False), *axes, ("seed", "", True), ("status", "", False)]
    heads += [(column_name(name), column_term(name), False) for name in origin]
    heads += [(column_name(name, table.quality), column_term(name, table.quality), True) for name in table.measured]
    heads += [
        (column_name(name, table.quality), column_term(name, table.quality) if name != "reason" else "", False)
        for name in texts
    ]
    of_row = {at: place for place, recipe in enumerate(recipes) for at in recipe.rows}
    rows = []
    for at, row in enumerate(table.rows):
        cells = [_Cell(str(row["run"]), key=str(row["run"]), link=_link(table.folder, str(row["run"]), folder))]
        levels = {axis: str(row[axis]) for axis in table.axes}
        cells += [_Cell(level, key=numbers[axis].get(level, level)) for axis, level in levels.items()]
        cells += [
            _Cell("–" if row["seed"] is None else shown(row["seed"]), key=row["seed"]),
            _status(str(row["status"])),
        ]
        cells += [_Cell(str(row[name]), key=row[name]) for name in origin]
        cells += [_value_cell(row, name) for name in table.measured]
        cells += [_Cell("–" if row[name] is None else str(row[name]), key=row[name]) for name in texts]
        rows.append((of_row[at], cells))
    return {
        "id": "runs",
        "name": "Runs",
        "caption": "Runs: numbers with their 95 % interval over images below, if known",
        "heads": heads,
        "rows": rows,
    }


def _numbers_of(levels: Sequence[str]) -> dict[str, float]:
    """{level: its number}, by which an axis is sorted; empty unless every level is a finite number."""
    try:
        numbers = {level: float(level) for level in levels}
    except ValueError:
        return {}
    return numbers if all(map(math.isfinite, numbers.values())) else {}


def _has_text(rows: Sequence[Row], name: str) -> bool:
    return any(isinstance(row[name], str) for row in rows)


def _status(status: str) -> _Cell:
    marks = {"finished": "✓ ", "failed": "✗ "}
    return _Cell(marks.get(status, "") + status, key=status)


def _value_cell(row: Row, name: str) -> _Cell:
    value = row[name]
    if value is None:
        return _Cell("–")
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    below = interval_text(low, high) if low is not None and high is not None else ""
    return _Cell(str(value) if isinstance(value, int) else _number(value), below, value)


def _link(study: Path, run: str, folder: Path) -> str:
    """Relative link from `folder` to the page of a run; empty if the run has no page."""
    page = study / "runs" / run / "report.html"
    if Path(run).name != run or not page.is_file():
        return ""
    try:
        target = os.path.relpath(page.absolute(), folder.absolute())
    except ValueError:  # another drive
        return ""
    return quote(Path(target).as_posix())


def _runs(table: StudyTable, recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    of_row = {at: place for place, recipe in enumerate(recipes) for at in recipe.rows}
    return [
        {"name": str(row["run"]), "seed": row["seed"], "recipe": of_row[at]}
        | ({"given": True} if row.get("origin") == "given" else {})
        for at, row in enumerate(table.rows)
    ]


def _column(table: StudyTable, recipes: Sequence[Recipe], name: str) -> dict[str, Any]:
    """A measure in the figures: value and interval of every run; mean, sd and number of runs of every recipe."""
    means = [table.mean(recipe, name) for recipe in recipes]
    return {
        "label": column_name(name, table.quality),
        "lower": lower_is_better(name),
        "run": [row.get(name) for row in table.rows],
        "low": [row.get(f"{name}_low") for row in table.rows],
        "high": [row.get(f"{name}_high") for row in table.rows],
        "mean": [mean.value for mean in means],
        "sd": [mean.sd for mean in means],
        "n": [mean.n for mean in means],
    }


def _choices(table: StudyTable, recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """Every VICE of the table with its two panels: `strict` first, then further explanations, `paper` last.

    Protocols are not mixed: VICE (paper) is drawn against ECE-ML (paper).
    """
    further = [name for name in table.measured if name.startswith("vice_")]
    choices = []
    for y in (name for name in ("vice", *further, "paper_vice") if name in table.measured):
        xs = ("mean_average_precision", "paper_ece_ml" if y == "paper_vice" else "ece_ml")
        panels = [_front(table, recipes, y, x) for x in xs]
        choices.append(
            {
                "y": y,
                "name": "VICE (strict)" if (y, table.quality) == ("vice", "ji") else column_name(y, table.quality),
                "panels": panels,
            }
        )
    return choices


def _front(table: StudyTable, recipes: Sequence[Recipe], y: str, x: str) -> dict[str, Any]:
    sign = -1 if lower_is_better(x) else 1
    places, points = [], []
    for place, recipe in enumerate(recipes):
        across, up = table.mean(recipe, x).value, table.mean(recipe, y).value
        if across is not None and up is not None:
            places.append(place)
            points.append((sign * across, up))
    on = [places[point] for point in pareto_front(points)]
    return {"x": x, "on": on, "said": front_sentence(table, y, x, [recipes[at] for at in on], len(places))}


def _effects(table: StudyTable) -> list[dict[str, Any]]:
    """The comparisons by axis, by combination of the other axes, and by measure.

    Combinations with few pairs each share one figure, in which every pair names its combination.
    """
    effects = []
    axes: dict[str, dict[str, list[Row]]] = {}
    for row in table.comparisons or ():
        axes.setdefault(str(row["axis"]), {}).setdefault(str(row["others"] or ""), []).append(row)
    for axis, groups in axes.items():
        pairs = max(len({(row["first"], row["second"]) for row in rows}) for rows in groups.values())
        if len(groups) > 1 and pairs <= FEW:
            together = [row for rows in groups.values() for row in rows]
            effects.append(_effect(table, axis, "every combination of the other axes", together, named=True))
        else:
            effects += [_effect(table, axis, others, rows, named=False) for others, rows in groups.items()]
    return effects


def _effect(table: StudyTable, axis: str, others: str, rows: Sequence[Row], named: bool) -> dict[str, Any]:
    by_measure: dict[str, list[Row]] = {}
    for row in rows:
        by_measure.setdefault(str(row["measure"]), []).append(row)
    levels = dict.fromkeys(str(row[side]) for row in rows for side in ("first", "second"))
    known = table.axes.get(axis, ())
    return {
        "axis": axis,
        "others": others,
        "named": named,
        "levels": sorted(levels, key=lambda level: known.index(level) if level in known else len(known)),
        "said": _counts(rows),
        "measures": [_measure(table, name, own) for name, own in by_measure.items()],
    }


def _counts(rows: Sequence[Row]) -> str:
    """The number of established differences of a group, or the reasons why no difference was tested."""
    tested = [row for row in rows if row["p_holm"] is not None]
    if not tested:
        reasons = dict.fromkeys(row["reason"] for row in rows if row["reason"])
        return f"None of {counted(len(rows), 'difference')} supports a claim. {' '.join(reasons)}".strip()
    established = sum(map(is_established, tested))
    left = f"; {len(rows) - len(tested)} could not be tested" if len(rows) > len(tested) else ""
    are = "is" if established == 1 else "are"
    return f"{established} of {counted(len(tested), 'difference')} {are} established{left}."


def _measure(table: StudyTable, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "name": column_name(name, table.quality),
        "term": column_term(name, table.quality),
        "better": "lower is better" if lower_is_better(name) else "higher is better",
        "rows": [{**_difference(row), "away": _away(table, str(row["others"] or ""))} for row in rows],
    }


def _away(table: StudyTable, others: str) -> str:
    """The levels of a combination that differ from the base; all levels if the base is unknown."""
    if not table.base:
        return others
    for axis, level in table.base.items():  # a level such as [2, 9] has a comma of its own
        others = re.sub(rf"(^|, ){re.escape(f'{axis} {level}')}(?=, |$)", "", others)
    return others.removeprefix(", ") or "base"


def _difference(row: Row) -> Mapping[str, Any]:
    numbers = ("difference", "low", "high", "p", "p_holm", "seeds_first", "seeds_second", "reason")
    text = {name: str(row[name] or "") for name in ("first", "second", "others")}
    return {**text, **{name: row.get(name) for name in numbers}, "sure": is_established(row)}
