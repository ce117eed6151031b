"""Measures of `paper` in one pass over the shards, without loading the table: for millions of rows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics.consistency import pair_vice
from torchvice.metrics.streaming import BinnedCalibration, CoMoments
from torchvice.samples import ShardFolder

__all__ = ["StreamMeasures", "stream_measures"]

COLUMNS = ("has_mask", "loss", "ji", "confidence", "accuracy")


@dataclass(frozen=True)
class StreamMeasures:
    """Three numbers of `paper`, computed from the table's columns.

    `images` rows of the view; `masked` those with a mask; `vice` Pearson and `spearman` Spearman correlation of -loss
    with JI over the latter, in [-1, 1]; `ece_ml` in [0, 1]; NaN where undefined, the reason in `undefined` by name.
    """

    images: int
    masked: int
    vice: float
    spearman: float
    ece_ml: float
    undefined: dict[str, str]


def stream_measures(folder: str | os.PathLike[str], *, bins: int = 20, spearman: bool = True) -> StreamMeasures:
    """VICE, its rank correlation and ECE-ML in one pass over the shards.

    VICE and ECE-ML hold one batch of rows. Spearman's ranks need two columns at once: 16 bytes a row, and some 83 in
    all while they are ranked (benchmarks/README.md).

    The columns were made when the table was: they are those of `torchvice.measure`, but for a probability of exactly
    one half, which ECE-ML of `paper` counts as predicted in the confidence and the column does not.

    Args:
        folder: of a table that was assessed under `paper`.
        bins: of ECE-ML.
        spearman: whether to compute the rank correlation; NaN if not.

    Raises:
        ViceError: no table, one that was not assessed under `paper`, no finished shard, or a damaged one.
    """
    shards = ShardFolder(folder)
    chosen = shards.manifest()["protocols"].get("paper")
    if chosen is None:
        raise ViceError("These measures are of `paper`, but the table was not assessed under it.")
    if not shards.shards():
        raise ViceError(f"{shards.folder} must hold a table, but no shard of it is finished.", "Run vice assess again.")
    moments, binned = CoMoments(), BinnedCalibration(bins)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in shards.stream("images", COLUMNS, view=chosen["view"]):
        binned.add(batch["confidence"], batch["accuracy"])
        loss, ji = -batch["loss"][batch["has_mask"]], batch["ji"][batch["has_mask"]]
        moments.add(loss, ji)
        if spearman:
            kept.append((loss, ji))
    undefined: dict[str, str] = {}
    masked = moments.n + moments.undefined
    nothing = f"The JI of {moments.undefined} of {masked} images is undefined." if moments.undefined else ""
    value = _put(undefined, "vice", moments.correlation, nothing)
    ranked = _put(undefined, "spearman", lambda: _ranked(kept), nothing if spearman else "It was not requested.")
    ece = binned.reliability().ece
    if math.isnan(ece):
        undefined["ece_ml"] = "An image with neither label nor prediction has no accuracy (0/0)."
    return StreamMeasures(binned.n, masked, value, ranked, ece, undefined)


def _put(undefined: dict[str, str], name: str, value: Callable[[], float], reason: str) -> float:
    """Return the value, or NaN and note the reason."""
    if not reason:
        try:
            return value()
        except ViceError as error:
            reason = error.message
    undefined[name] = reason
    return math.nan


def _ranked(kept: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Spearman's correlation of the kept columns, whose memory is freed piece by piece."""
    columns = [np.concatenate([part[side] for part in kept]) for side in (0, 1)] if kept else [np.zeros(0)] * 2
    kept.clear()
    return pair_vice(*columns).value
