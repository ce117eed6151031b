"""Scores: the logits of another tool, read from CSV or Parquet."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.data.finder import composed
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import existing_file

__all__ = ["Scores", "read_scores"]

# What the column of the image ids may be called; of two of them none is taken.
IDS = ("id", "image_id", "image", "name", "name_image")
LONG = ("class", "logit")
FORMS = (
    "Write one row an image (id and one column a class), or one row an image and class (id, class, logit); save as "
    "CSV with commas, or Parquet."
)


@dataclass(frozen=True)
class Scores:
    """The scores of some images.

    Attributes:
        path: the file.
        rows: {image id: (C,) float64}, the ids composed, as file systems and programs write one name in two forms.
        ignored: names of columns that are neither the id nor a class.
    """

    path: Path
    rows: dict[str, np.ndarray]
    ignored: tuple[str, ...] = ()

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The scores (N, C) float32 of these images, in their order.

        Raises:
            ViceError: an image without scores.
        """
        missing = [name for name in ids if composed(name) not in self.rows]
        if missing:
            held = next(iter(self.rows))
            way_out = "Add their rows, or assess the others: --split FILE, a list, or --images DIR, a folder of them."
            if len(missing) == len(ids):
                way_out = "Ids must be those of the dataset: the image's name without folder and suffix."
            raise ViceError(
                f"{self.path} must hold scores of every image, but lacks {len(missing)} of {len(ids)}, such as "
                f"`{missing[0]}`; it holds {len(self.rows)} images, such as `{held}`.",
                way_out,
            )
        return np.stack([self.rows[composed(name)] for name in ids]).astype(np.float32)

    def beyond(self, ids: Sequence[str]) -> list[str]:
        """The ids in the file that are none of these."""
        return sorted(self.rows.keys() - set(map(composed, ids)))


def read_scores(path: str | os.PathLike[str], classes: Sequence[str]) -> Scores:
    """Read scores of every class for some images.

    Args:
        path: CSV (.csv) or Parquet (.parquet). One row an image: a column `id` and one column for each class, called
            like it or, for all classes, 0 to C - 1. Or one row an image and class: `id`, `class` (name or index) and
            `logit`. The ids may also be called image_id, image, name or name_image.
        classes: (C,) names.

    Raises:
        ViceError: another kind of file; columns that are missing or fit twice; losses instead of logits; an image, or
            an image and class, twice or missing; a score that is not a finite number.
    """
    path = existing_file(path, "The file of scores")
    columns, classes = _columns(path), [composed(name) for name in classes]
    id_column = _id_column(path, columns)
    found = [_wide(columns, classes), LONG if set(LONG) <= columns.keys() else None]
    if all(found):
        raise ViceError(f"{path} has both one column a class and `class` with `logit`.", "Remove one of the two.")
    if found[0] is None and found[1] is None:
        raise _no_scores(path, columns, classes)
    ids = [composed(str(value).strip()) for value in columns.pop(id_column)]
    if found[0] is not None:
        rows = _of_images(path, ids, {name: columns[name] for name in found[0]}, classes)
    else:
        rows = _of_pairs(path, ids, columns, classes)
    if found[0] is not None and found[0][0] == "0":
        _refuse_further_numbers(path, columns, classes)
    ignored = tuple(name for name in columns if name not in (found[0] or LONG))
    if not rows:
        raise ViceError(
            f"{path} must hold scores of at least one image, but has only column names.",
            "Write a row for each image: its id, and a number for each class.",
        )
    return Scores(path, rows, ignored)


def _columns(path: Path) -> dict[str, Sequence[Any]]:
    """The columns of a file by name, their cells as texts (CSV) or values (Parquet)."""
    if path.suffix.lower() == ".csv":
        return _csv_columns(path)
    if path.suffix.lower() not in (".parquet", ".pq"):
        raise ViceError(f"Scores must be a .csv or .parquet file, but are {path.name}.", FORMS)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:  # read_table refuses a column that is there twice, in words of its own
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ViceError(
            f"The file of scores {path} must be Parquet, but cannot be read: {reason}.",
            "Write it again, or give a CSV.",
        ) from None
    if len(set(map(composed, table.column_names))) < len(table.column_names):
        raise ViceError(f"The file of scores {path} must have each column once, but has one twice.", FORMS)
    columns: dict[str, Sequence[Any]] = table.to_pydict()
    return {composed(name): cells for name, cells in columns.items()}


def _csv_columns(path: Path) -> dict[str, Sequence[Any]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [row for row in csv.reader(file, strict=True) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ViceError(
            f"The file of scores {path} must be CSV in UTF-8, but cannot be read: {error}.", FORMS
        ) from None
    header = [composed(name.strip()) for name in lines[0]] if lines else []
    if len(set(header)) < len(header) or not header:
        raise ViceError(f"The file of scores {path} must begin with column names, each once.", FORMS)
    wrong = next((row for row in lines[1:] if len(row) != len(header)), None)
    if wrong is not None:
        raise ViceError(
            f"The row of `{wrong[0]}` in {path} must have {len(header)} cells like the header, but has {len(wrong)}.",
            "Write each number with a decimal point; if the file is incomplete, write it again.",
        )
    return {name: [row[place] for row in lines[1:]] for place, name in enumerate(header)}


def _id_column(path: Path, columns: Mapping[str, Any]) -> str:
    named = [name for name in IDS if name in columns]
    if len(named) != 1:
        held = " and ".join(f"`{name}`" for name in named) or "none of them"
        raise ViceError(f"{path} must have one column of image ids ({', '.join(IDS)}), but has {held}.", FORMS)
    return named[0]


def _wide(columns: Mapping[str, Any], classes: Sequence[str]) -> list[str] | None:
    """The columns of the classes in their order, by name or else by index; None where one is missing."""
    for names in (list(classes), [str(c) for c in range(len(classes))]):
        if set(names) <= columns.keys():
            return names
    return None


def _refuse_further_numbers(path: Path, columns: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Refuse columns 0 to C and beyond: one may be the background, and then every class would be another."""
    further = [name for name in columns if name.isdigit() and int(name) >= len(classes)]
    if further and classes[0] != "0":
        raise ViceError(
            f"The columns of {path} must be 0 to {len(classes) - 1}, one for each of the {len(classes)} classes, but "
            f"there is `{further[0]}`, too.",
            "Leave out a column of the background, or call the columns by the names of the classes.",
        )


def _no_scores(path: Path, columns: Mapping[str, Any], classes: Sequence[str]) -> ViceError:
    if "loss" in columns and not set(classes) & columns.keys():
        return ViceError(
            f"{path} holds losses, but `strict` needs the logit of every class: a loss does not say how sure the model "
            "is of each label, nor what it predicts.",
            "Write the logits. For losses with a quality an image: a CSV of name_image, loss and miou, read by "
            "vice measure FILE.csv.",
        )
    if "class" in columns:
        hint = "For probabilities call the column `logit` and give --outputs probabilities."
        return ViceError(f"{path} has a column `class`, but no `logit` beside it.", hint)
    lacking = [name for name in classes if name not in columns]
    other = next((name for name in columns if name not in (*classes, *IDS)), None)
    hint = "" if other is None else f" It has `{other}`. {did_you_mean(other, lacking)}"
    return ViceError(
        f"{path} must have a column for each of the {len(classes)} classes, but lacks {len(lacking)}, such as "
        f"`{lacking[0]}`.{hint}",
        FORMS,
    )


def _of_images(
    path: Path, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for place, name in enumerate(ids):
        if name in rows:
            raise ViceError(f"{path} must hold every image once, but holds `{name}` twice.", "Remove one row.")
        cells = zip(columns.values(), classes, strict=True)
        rows[name] = np.array([_number(path, column[place], name, label) for column, label in cells])
    return rows


def _of_pairs(
    path: Path, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], classes: Sequence[str]
) -> dict[str, np.ndarray]:
    place_of = {str(c): c for c in range(len(classes))} | {name: c for c, name in enumerate(classes)}
    rows: dict[str, np.ndarray] = {}
    for name, given, cell in zip(ids, columns["class"], columns["logit"], strict=True):
        label = composed(str(given).strip())
        if label not in place_of:
            raise ViceError(f"{path} names the class `{label}`, which the data lack.", did_you_mean(label, classes))
        row, c = rows.setdefault(name, np.full(len(classes), np.nan)), place_of[label]
        if not math.isnan(row[c]):
            raise ViceError(
                f"{path} must hold image and class once, but holds `{name}` with `{label}` twice.",
                "Keep one of the two rows.",
            )
        row[c] = _number(path, cell, name, classes[c])
    for name, row in rows.items():
        if np.isnan(row).any():
            label = classes[int(np.isnan(row).argmax())]
            raise ViceError(f"{path} must hold every class of `{name}`, but lacks `{label}`.", FORMS)
    return rows


def _number(path: Path, cell: Any, name: str, label: str) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ViceError(
            f"The score of `{name}` for `{label}` in {path} must be a number, but is {cell!r}.", "Write a number there."
        )
    return value
