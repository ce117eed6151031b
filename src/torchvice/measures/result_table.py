"""Tables for a paper: models by measures, or explanations and controls by VICE, as Markdown, LaTeX, CSV or a frame."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torchvice.errors import ViceError
from torchvice.measures.catalogue import compared_label, every_measure, quality_label
from torchvice.measures.contents import ASSESS_STRICT
from torchvice.measures.rows import Comparison
from torchvice.measures.sheet import Measures
from torchvice.measures.wording import decimals, decimals_between, interval_text
from torchvice.samples.frames import pandas_frame, polars_frame

__all__ = ["Cell", "ResultTable", "explanations_table", "models_table", "numbers_table"]

LEVEL = 0.05
# {column of a comparison: +1 if more is better, -1 if less is}; in this order.
COLUMNS = {"vice": 1, "quality": 1, "mean_average_precision": 1, "loss": -1, "without_object": -1}
_MARKDOWN, _LATEX = str.maketrans({"|": "\\|"}), {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


@dataclass(frozen=True)
class Cell:
    """A number with the ends of its 95 % interval; None where undefined. `best`: established to be better than all."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False

    def text(self) -> str:
        """Two or more decimals, with the interval in brackets; empty where undefined."""
        if self.value is None or math.isnan(self.value):
            return ""
        if self.low is None or self.high is None:
            return decimals(self.value, 2)
        digits = decimals_between(self.low, self.high, 2)  # with fewer it could read as outside of its interval
        return f"{decimals(self.value, digits)} [{interval_text(self.low, self.high, 2).replace(' to ', ', ')}]"


@dataclass(frozen=True)
class ResultTable:
    """A table of numbers with their intervals.

    Attributes:
        caption: what the rows are, of how many images.
        heads: of the columns; the first is that of the rows' names.
        rows: (name, a cell for each further head).
        notes: sentences below the table.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """The table in Markdown, the best in bold, caption above and notes below."""
        lines = [f"{self.caption}.", "", _line(self.heads), _line(["---", *["---:"] * (len(self.heads) - 1)])]
        for name, cells in self.rows:
            lines.append(_line([name, *(f"**{cell.text()}**" if cell.best else cell.text() for cell in cells)]))
        return "\n".join([*lines, "", *self.notes]) + "\n"

    def to_latex(self) -> str:
        """The table in LaTeX, with the rules of booktabs, the best in bold."""
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(' '.join([f'{self.caption}.', *self.notes]))}}}"]
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(self.heads) - 1)}}}", r"\toprule"]
        lines += [" & ".join(map(_latex, self.heads)) + r" \\", r"\midrule"]
        for name, cells in self.rows:
            texts = [rf"\textbf{{{cell.text()}}}" if cell.best else cell.text() for cell in cells]
            lines.append(" & ".join([_latex(name), *(text.replace("-", "$-$") for text in texts)]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"

    def to_csv(self) -> str:
        """One line a row, with full precision: for each head the number, its interval, and whether it is best."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self._columns())
        writer.writerows(["" if value is None else value for value in row] for row in self._values())
        return out.getvalue()

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with the columns of `to_csv`.

        Raises:
            ViceError: pandas is not installed.
        """
        return pandas_frame(self._by_column())

    def to_polars(self) -> Any:
        """A polars.DataFrame with the columns of `to_csv`.

        Raises:
            ViceError: polars is not installed.
        """
        return polars_frame(self._by_column())

    def _by_column(self) -> dict[str, list[Any]]:
        rows = self._values()
        return {name: [row[place] for row in rows] for place, name in enumerate(self._columns())}

    def _columns(self) -> list[str]:
        return [self.heads[0], *(f"{h}{end}" for h in self.heads[1:] for end in ("", " low", " high", " best"))]

    def _values(self) -> list[list[Any]]:
        return [[name, *(v for c in cells for v in (c.value, c.low, c.high, c.best))] for name, cells in self.rows]


def models_table(found: Comparison) -> ResultTable:
    """Models by measures, the best in bold where it is better than every other one by the comparison's own tests.

    Args:
        found: of `torchvice.measures.compare`; a comparison of seeds' groups has its single models as rows.

    Returns:
        VICE, the mean quality, mAP and loss, and the share found without the object if all tables have it.
    """
    columns = {name: sign for name, sign in COLUMNS.items() if all(name in row for row in found.models)}
    rows = [
        (row["name"], tuple(_cell(row, name, _is_best(found, row["name"], name, columns[name])) for name in columns))
        for row in found.models
    ]
    heads = ["Model", *(compared_label(name, found.quality) for name in columns)]
    note = f"Bold: better than every other model (p at most {LEVEL:g}, Holm over the pairs of models)."
    note += " The intervals are of 95 %, over images; each row is one trained model."
    return ResultTable(f"Models over {found.images} images", tuple(heads), tuple(rows), (note,))


def numbers_table(measures: Measures) -> ResultTable:
    """Every measure of an assessment that is defined, with its interval; no counts.

    Args:
        measures: of `torchvice.measures.measure`.

    Returns:
        One row per measure, by its full label; nothing is marked as best.
    """
    rows = []
    for one in every_measure():
        value = _known(getattr(measures, one.section).get(one.name))
        if value is not None and one.unit != "count":
            limits = measures.intervals.get(one.path) or {}
            group = "VICE by other definitions: " if one.section == "sensitivities" else ""
            rows.append((f"{group}{one.full_label}", (Cell(value, limits.get("low"), limits.get("high")),)))
    note = "The intervals are of 95 %, over images." if any(cell.low is not None for _, (cell,) in rows) else ""
    return ResultTable(
        f"Numbers of {measures.images} images", ("Measure", "Value"), tuple(rows), (note,) if note else ()
    )


def explanations_table(measures: Measures) -> ResultTable:
    """The headline explanation, the other methods and the controls of a table by mean quality and VICE.

    Args:
        measures: of `torchvice.measures.measure`, with intervals.

    Returns:
        Mean quality, VICE, and by how much the headline's VICE is higher. Nothing is marked as best: methods are
        compared with the headline, not with each other.

    Raises:
        ViceError: the table was not assessed under `strict`, or has neither masks nor boxes.
    """
    name = measures.quality.get("name")
    if name is None:
        raise ViceError(
            "Explanations are compared under `strict`, but the table was not assessed for it.",
            ASSESS_STRICT,
        )
    if "vice" not in measures.quality:
        raise ViceError(
            "Explanations are compared by their overlap with objects, but no image of the table has a mask or a box.",
            "Assess images with masks: --images DIR --masks DIR.",
        )
    limits = measures.intervals.get("strict.vice" if name == "ji" else "quality.vice") or {}
    own = Cell(_known(measures.quality["vice"]), limits.get("low"), limits.get("high"))
    rows: list[tuple[str, tuple[Cell, ...]]] = [
        (_headline(measures), (Cell(_known(measures.quality["mean"])), own, Cell(None)))
    ]
    for kind, found in (("", measures.methods), ("control: ", measures.controls)):
        for one, scored in found.items():
            row = {field: getattr(scored, field) for field in ("vice", "vice_low", "vice_high", "quality")}
            row |= {f"difference{end}": getattr(scored, f"difference{end}") for end in ("", "_low", "_high")}
            cells = (Cell(row["quality"]), _cell(row, "vice"), _cell(row, "difference"))
            rows.append((f"{kind}{one}", cells))
    heads = ("Explanation", quality_label(name), compared_label("vice", name), "headline's VICE minus it")
    note = "The intervals are of 95 %, over images; those of differences are paired."
    return ResultTable(f"Explanations and controls over {measures.images} images", heads, tuple(rows), (note,))


def _headline(measures: Measures) -> str:
    """The method of strict's headline explanation, which is called `strict:METHOD`."""
    made = measures.source["table"]["explanations"]
    headlines = (name for name, one in made.items() if one["role"] == "headline" and name.startswith("strict:"))
    return next(headlines, "strict:headline").removeprefix("strict:")


def _cell(row: Mapping[str, Any], name: str, best: bool = False) -> Cell:
    return Cell(_known(row[name]), row.get(f"{name}_low"), row.get(f"{name}_high"), best)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _is_best(found: Comparison, model: str, measure: str, sign: int) -> bool:
    """Whether the model is established to be better than each of the others."""
    others = {row["name"] for row in found.models} - {model}
    for row in found.differences:
        if row["measure"] != measure or model not in (row["first"], row["second"]) or row["p_holm"] is None:
            continue
        gain = sign * row["difference"] * (1 if row["first"] == model else -1)
        if row["p_holm"] <= LEVEL and gain > 0:
            others -= {row["first"], row["second"]}
    return not others and len(found.models) > 1


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(str(cell).translate(_MARKDOWN) for cell in cells)} |"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
