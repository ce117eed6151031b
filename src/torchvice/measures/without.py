"""The section `without` of the measures: what the model still finds with a part of the image gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.measures.inference import Inference
from torchvice.measures.interventions import PARTS, column_of, filling_of, share_of, share_without, was_intervened
from torchvice.measures.pairs import Pairs
from torchvice.measures.sheet import Sheet
from torchvice.metrics.interventions import (
    ForegroundSensitivity,
    Median,
    median_fall,
    relative_foreground_sensitivity,
    share_lost,
    share_still_found,
)
from torchvice.samples import Samples
from torchvice.samples.columns import FILLINGS
from torchvice.samples.placing import box_of

__all__ = ["put_without"]

NOTHING_FOUND = "The model finds no true label that was measured."


def put_without(sheet: Sheet, samples: Samples, pairs: Pairs, inference: Inference) -> None:
    """Put the section `without`, and the columns of the classes, as far as the table holds interventions."""
    _put_classes(sheet, pairs, len(samples.classes), inference)
    if not was_intervened(pairs):
        return
    before = np.where(pairs.predicted, np.maximum(pairs.margin, np.finfo(float).tiny), -1.0)
    for part, column in PARTS.items():
        after = column_of(pairs, column)
        if len(after):
            _put_part(sheet, part, before, after, pairs, inference)
    _put_sensitivity(sheet, "foreground_sensitivity", ("without_object", "without_background"), pairs, inference)
    _put_sensitivity(sheet, "foreground_sensitivity_noise", ("noisy_object", "noisy_background"), pairs, inference)
    _put_fillings(sheet, filling_of(samples).get("filling", ""), pairs, inference)
    notes = ["Objects are unions of boxes: background within a box is removed with the object."] * samples.of_boxes
    if note := _outside_the_view(samples, pairs):
        notes.append(note)
    if notes:
        sheet.notes["without"] = " ".join(notes)


def _outside_the_view(samples: Samples, pairs: Pairs) -> str:
    """How many labels have an object of which the view shows nothing, as a sentence; "" if none.

    Of these alone nothing was measured. A view without a place in the image shows all of it.
    """
    settings = samples.of_protocol("strict").settings
    columns = [column_of(pairs, PARTS[part]) for part in ("object", "background")]
    unknown = np.all([np.isnan(column) for column in columns if len(column)], axis=0)
    count = int(unknown.sum())
    if not count or box_of(str(settings.get("view", "")), (1, 1)) is None:
        return ""
    return (
        f"Objects outside the view: of {count} of {len(pairs)} labels the view shows no pixel of the object. Nothing "
        "is replaced, and these labels are left out."
    )


def _put_part(
    sheet: Sheet, part: str, before: np.ndarray, after: np.ndarray, pairs: Pairs, inference: Inference
) -> None:
    """Put shares and median fall of one part."""
    rows = (before > 0) & ~np.isnan(after)
    interval = share_without(pairs, part, inference)["interval"]
    if part != "hole":
        _put_share(sheet, f"without.{part}_found", share_still_found(before, after), interval)
    if interval is not None:
        interval = {**interval, "low": 1 - interval["high"], "high": 1 - interval["low"]}
    _put_share(sheet, f"without.{part}_lost", share_lost(before, after), interval)
    path = f"without.{part}_fall"
    sheet.put(path, median_fall(before, after), NOTHING_FOUND)
    falls = before[rows] - after[rows]
    if len(falls) and np.isfinite(falls).all():
        replicates = inference.replicates(Median(falls), pairs.image_id[rows])
        sheet.put_interval(path, inference.interval(sheet.value(path), replicates))


def _put_share(sheet: Sheet, path: str, share: float, interval: dict[str, Any] | None) -> None:
    sheet.put(path, share, NOTHING_FOUND)
    if interval is not None:
        sheet.intervals[path] = interval


def _put_sensitivity(sheet: Sheet, name: str, columns: tuple[str, str], pairs: Pairs, inference: Inference) -> None:
    """Put the relative foreground sensitivity of all true pairs that have both columns."""
    values = [column_of(pairs, column) for column in columns]
    if not all(map(len, values)):
        return
    rows = ~np.isnan(values[0]) & ~np.isnan(values[1])
    foreground, background = (column[rows] > 0 for column in values)
    path = f"without.{name}"
    if not rows.any():
        sheet.put(path, float("nan"), "No true label was measured both ways.")
        return
    value = relative_foreground_sensitivity(foreground.mean(), background.mean())
    sheet.put(path, value, "All labels are found, or none is: nothing can differ.")
    replicates = inference.replicates(ForegroundSensitivity(foreground, background), pairs.image_id[rows])
    sheet.put_interval(path, inference.interval(value, replicates))


def _put_fillings(sheet: Sheet, in_use: str, pairs: Pairs, inference: Inference) -> None:
    """Put the share still found under every filling, over the found pairs that were measured with all of them."""
    columns = {
        name: column
        for name in FILLINGS
        if len(column := column_of(pairs, "without_object" if name == in_use else f"object_by_{name}"))
    }
    if len(columns) < 2:
        return
    rows = pairs.predicted & ~np.isnan(np.stack(list(columns.values()))).any(axis=0)
    for name, column in columns.items():
        found = share_of(column[rows] > 0, pairs.where(rows), inference)
        share = float("nan") if found["share"] is None else found["share"]
        _put_share(sheet, f"without.object_found_{name}", share, found["interval"])


def _put_classes(sheet: Sheet, pairs: Pairs, classes: int, inference: Inference) -> None:
    """Fill the columns `found`, `without_object` and `without_background` of the classes."""
    rows = sheet.parts.get("classes")
    if rows:
        columns = _of_classes(pairs, classes, inference)
        sheet.parts["classes"] = [replace(row, **more) for row, more in zip(rows, columns, strict=True)]


def _of_classes(pairs: Pairs, classes: int, inference: Inference) -> Iterator[dict[str, Any]]:
    found = pairs.where(pairs.predicted)
    for c in range(classes):
        own = found.where(found.class_index == c)
        row: dict[str, Any] = {"found": len(own)}
        for part in ("object", "background"):
            after = column_of(own, PARTS[part])
            known = ~np.isnan(after)
            if len(after):
                share = share_of(after[known] > 0, own.where(known), inference)
                ends = share["interval"] or {"low": None, "high": None}
                name = PARTS[part]
                row |= {name: share["share"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
        yield row
