"""What the model still finds with the object, the background or another part of the image gone, from the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.measures.inference import Inference, ends_of, plain_interval
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
from torchvice.metrics.shares import share_interval
from torchvice.samples import Samples
from torchvice.samples.columns import FILLINGS

__all__ = ["filling_of", "put_interventions", "share_of", "share_without", "was_intervened"]

NOTHING_FOUND = "The model finds no true label that was measured."
# The parts of the catalogue's names, and the columns of the table.
PARTS = {"object": "without_object", "background": "without_background", "hole": "with_hole"}


def was_intervened(pairs: Pairs) -> bool:
    """Whether the table holds what the model says without the object or without the background."""
    return any(len(_column(pairs, name)) for name in ("without_object", "without_background"))


def _column(pairs: Pairs, name: str) -> np.ndarray:
    """(P,) a column of interventions; empty where the table does not hold it."""
    values = np.zeros(0) if pairs.regions is None else np.asarray(getattr(pairs.regions, name), float)
    return values if (~np.isnan(values)).any() else np.zeros(0)


def filling_of(samples: Samples) -> dict[str, Any]:
    """How the interventions of the headline explanation were made: `filling`, `dilation`; empty without any."""
    settings: dict[str, Any] = samples.of_protocol("strict").settings.get("interventions") or {}
    return dict(settings)


def share_of(events: np.ndarray, pairs: Pairs, inference: Inference) -> dict[str, Any]:
    """Share of pairs with an event: {share, pairs, interval}, None where undefined or without resamplings."""
    interval = None
    if len(events) and inference.resampling is not None:
        interval = plain_interval(share_interval(events, inference.clusters(pairs.image_id)))
    return {"share": float(events.mean()) if len(events) else None, "pairs": len(events), "interval": interval}


def share_without(pairs: Pairs, part: str, inference: Inference) -> dict[str, Any]:
    """Share of found pairs that are still found without a part ("object", "background", "hole"), see `share_of`."""
    after = _column(pairs, PARTS[part])
    if not len(after):
        return {"share": None, "pairs": 0, "interval": None}
    rows = pairs.predicted & ~np.isnan(after)
    return share_of(after[rows] > 0, pairs.where(rows), inference)


def put_interventions(sheet: Sheet, samples: Samples, pairs: Pairs, inference: Inference) -> None:
    """Put the section `without`, and the columns of the classes, as far as the table holds interventions."""
    _put_classes(sheet, pairs, len(samples.classes), inference)
    if not was_intervened(pairs):
        return
    before = np.where(pairs.predicted, np.maximum(pairs.margin, np.finfo(float).tiny), -1.0)
    for part, column in PARTS.items():
        after = _column(pairs, column)
        if len(after):
            _put_part(sheet, part, before, after, pairs, inference)
    _put_sensitivity(sheet, "foreground_sensitivity", ("without_object", "without_background"), pairs, inference)
    _put_sensitivity(sheet, "foreground_sensitivity_noise", ("noisy_object", "noisy_background"), pairs, inference)
    _put_fillings(sheet, filling_of(samples).get("filling", ""), pairs, inference)
    if samples.manifest.get("regions") == "boxes":
        sheet.notes["without"] = "Objects are unions of boxes: background within a box is removed with the object."


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
    values = [_column(pairs, column) for column in columns]
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
        if len(column := _column(pairs, "without_object" if name == in_use else f"object_by_{name}"))
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
            after = _column(own, PARTS[part])
            known = ~np.isnan(after)
            if len(after):
                one = own.where(known) if len(known) else own
                share = share_of(after[known] > 0, one, inference)
                ends = share["interval"] or {"low": None, "high": None}
                name = PARTS[part]
                row |= {name: share["share"], f"{name}_low": ends["low"], f"{name}_high": ends["high"]}
        yield row
