"""Shares of labels that the model still finds on changed images, from the table's columns of interventions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.measures.inference import Inference, plain_interval
from torchvice.measures.pairs import Pairs
from torchvice.metrics.shares import share_interval
from torchvice.samples import Samples

__all__ = [
    "PARTS",
    "column_of",
    "filling_of",
    "share_of",
    "share_without",
    "was_intervened",
    "without_histograms",
]

# The parts of the catalogue's names, and the columns of the table.
PARTS = {"object": "without_object", "background": "without_background", "hole": "with_hole"}


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
    interval = None
    if len(events) and inference.resampling is not None:
        interval = plain_interval(share_interval(events, inference.clusters(pairs.image_id)))
    return {"share": float(events.mean()) if len(events) else None, "pairs": len(events), "interval": interval}


def share_without(pairs: Pairs, part: str, inference: Inference) -> dict[str, Any]:
    """Share of found pairs that are still found without a part ("object", "background", "hole"), see `share_of`."""
    after = column_of(pairs, PARTS[part])
    if not len(after):
        return {"share": None, "pairs": 0, "interval": None}
    rows = pairs.predicted & ~np.isnan(after)
    return share_of(after[rows] > 0, pairs.where(rows), inference)
