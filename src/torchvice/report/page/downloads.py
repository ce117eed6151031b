"""What the page gives to take along: its numbers as files, held in their links."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torchvice.measures import Measures, explanations_table
from torchvice.measures.catalogue import SECTIONS, measure_of, paths
from torchvice.measures.rows import ClassRow

__all__ = ["Download", "downloads_of"]

_TYPES = {"json": "application/json", "csv": "text/csv;charset=utf-8"}
_HEADS = ("measure", "label", "value", "low", "high", "undefined")


@dataclass(frozen=True)
class Download:
    """A file in a link: `name` of the file, `label` of the link, and `href`, a data: address that holds its text."""

    name: str
    label: str
    href: str


def downloads_of(measures: Measures, model: str) -> list[Download]:
    """The files of a model: all measures as JSON, and its numbers, classes and explanations as CSV.

    Args:
        measures: of the model.
        model: its name, with which the files' names begin.

    Returns:
        measures.json, as `vice measure --json` writes it, and tables at full precision, empty where undefined.
        Explanations only where the table has some under `strict`.
    """
    stem = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
    files = [
        ("measures.json", "all measures (JSON)", json.dumps(measures.to_json(), indent=1) + "\n"),
        ("numbers.csv", "numbers (CSV)", _csv(_HEADS, _numbers(measures))),
    ]
    if measures.classes:
        names = [field.name for field in fields(ClassRow)]
        rows = ([_cell(asdict(row)[name]) for name in names] for row in measures.classes)
        files.append(("classes.csv", "classes (CSV)", _csv(names, rows)))
    if measures.methods or measures.controls:
        files.append(("explanations.csv", "explanations and controls (CSV)", explanations_table(measures).to_csv()))
    return [Download(f"{stem}-{name}", label, _address(name, text)) for name, label, text in files]


def _numbers(measures: Measures) -> Iterable[list[Any]]:
    for path in (path for section in SECTIONS for path in paths(section)):
        one = measure_of(path)
        values = getattr(measures, one.section)
        if one.name in values:
            limits = measures.intervals.get(path, {})
            ends = [_cell(limits.get(end)) for end in ("low", "high")]
            yield [path, one.label, _cell(values[one.name]), *ends, measures.undefined.get(path, "")]


def _cell(value: Any) -> Any:
    """A value as CSV has it: empty where there is no number."""
    return "" if value is None or value != value else value


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()


def _address(name: str, text: str) -> str:
    kind = _TYPES[name.rpartition(".")[2]]
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
