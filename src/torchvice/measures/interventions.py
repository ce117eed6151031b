"""Shares of labels that the model still finds on changed images, from the table's columns of interventions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.measures.inference import Inference, plain_interval
from torchvice.measures.pairs import REPLACED, Pairs
from torchvice.metrics.resampling import Interval
from torchvice.metrics.shares import share_interval
from torchvice.samples import Samples

__all__ = [
    "PARTS",
    "column_of",
    "filling_of",
    "interval_of_share",
    "share_of",
    "share_without",
    "was_intervened",
    "without_histograms",
]

# The parts of the catalogue's names, and the columns of the table.
PARTS = dict(zip(("object", "background", "hole"), REPLACED, strict=True))


def was_intervened(pairs: Pairs) -> bool:
    """Whether the table holds what the model says without the object or without the background."""
    return any(len(column_of(pairs, name)) for name in ("without_object", "without_background"))


def column_of(pairs: Pairs, name: str) -> np.ndarray:
    """(P,) a column of interventions; empty where the table does not hold it."""
    values = np.zeros(0) if pairs.regions is None else np.asarray(getattr(pairs.regions, name), float)
    return values if (~np.isnan(values)).any() else np.zeros(0)


def without_histograms(pairs: Pairs) -> Pairs:
    """The pairs without the histograms of their maps, which would be copied with every selection."""
    if pairs.regions is None:
        return pairs
    return replace(pairs, regions=pairs.regions.emptied("inside", "outside"))


def filling_of(samples: Samples) -> dict[str, Any]:
    """How the interventions of the headline explanation were made: `filling`, `dilation`; empty without any."""
    settings: dict[str, Any] = samples.of_protocol("strict").settings.get("interventions") or {}
    return dict(settings)


def share_of(events: np.ndarray, pairs: Pairs, inference: Inference) -> dict[str, Any]:
    """Share of pairs with an event: {share, pairs, interval}, None where undefined or without resamplings."""
    found = interval_of_share(events, pairs.image_id, inference)
    interval = None if found is None else plain_interval(found)
    return {"share": float(events.mean()) if len(events) else None, "pairs": len(events), "interval": interval}


def interval_of_share(events: np.ndarray, image_id: np.ndarray, inference: Inference) -> Interval | None:
    """The interval of a share of pairs with an event, from the image of each; None without pairs or resamplings."""
    if not len(events) or inference.resampling is None:
        return None
    return share_interval(events, inference.clusters(image_id))


def share_without(pairs: Pairs, part: str, inference: Inference) -> dict[str, Any]:
    """Share of found pairs that are still found without a part ("object", "background", "hole"), see `share_of`."""
    after = column_of(pairs, PARTS[part])
    if not len(after):
        return {"share": None, "pairs": 0, "interval": None}
    rows = pairs.predicted & ~np.isnan(after)
    return share_of(after[rows] > 0, pairs.where(rows), inference)
