"""Measures of `paper` in one pass over the shards, without loading the table: for millions of rows."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from torchvice.errors import ViceError
from torchvice.metrics.rank_correlation import RankCorrelation
from torchvice.metrics.streaming import BinnedCalibration, CoMoments
from torchvice.samples import ShardFolder

__all__ = ["StreamMeasures", "stream_measures"]

IN_MEMORY = 1 << 22  # rows that are ranked in memory; more are ranked in temporary files
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


def stream_measures(
    folder: str | os.PathLike[str],
    *,
    bins: int = 20,
    spearman: bool = True,
    temporary: str | os.PathLike[str] | None = None,
) -> StreamMeasures:
    """VICE, its rank correlation and ECE-ML in one pass over the shards.

    VICE and ECE-ML hold one batch of rows. Spearman's ranks hold up to 4 million rows in memory and sort more in
    temporary files of 16 bytes a row (`torchvice.metrics.rank_correlation.RankCorrelation`).

    The columns were made when the table was: they are those of `torchvice.measure`, but for a probability of exactly
    one half, which ECE-ML of `paper` counts as predicted in the confidence and the column does not.

    Args:
        folder: of a table that was assessed under `paper`.
        bins: of ECE-ML.
        spearman: whether to compute the rank correlation; NaN if not.
        temporary: folder for the files of the ranks. None: that of the system (`TMPDIR`), which lies in memory on some
            machines.

    Raises:
        ViceError: no table, one that was not assessed under `paper`, no finished shard, a damaged one, one that the
            manifest lists and that is gone, or no room for the files.
    """
    shards = ShardFolder(folder)
    manifest = shards.manifest()
    chosen = manifest["protocols"].get("paper")
    if chosen is None:
        raise ViceError("These measures are of `paper`, but the table was not assessed under it.")
    if not shards.shards():
        raise ViceError(f"{shards.folder} must hold a table, but no shard of it is finished.", "Run vice assess again.")
    shards.check_complete(manifest)
    moments, binned = CoMoments(), BinnedCalibration(bins)
    views = {protocol["view"] for protocol in manifest["protocols"].values()}  # a row of each image is of each view
    rows = shards.rows("images") // len(views) if spearman else 0
    with RankCorrelation(rows, temporary, IN_MEMORY) as ranks:
        for batch in shards.stream("images", COLUMNS, view=chosen["view"]):
            binned.add(batch["confidence"], batch["accuracy"])
            loss, ji = -batch["loss"][batch["has_mask"]], batch["ji"][batch["has_mask"]]
            moments.add(loss, ji)
            if spearman and not moments.undefined:
                ranks.add(loss, ji)
        vice, rank, undefined = _correlations(moments, ranks if spearman else None)
    ece = binned.reliability().ece
    if math.isnan(ece):
        undefined["ece_ml"] = "An image with neither label nor prediction has no accuracy (0/0)."
    return StreamMeasures(binned.n, moments.n + moments.undefined, vice, rank, ece, undefined)


def _correlations(moments: CoMoments, ranks: RankCorrelation | None) -> tuple[float, float, dict[str, str]]:
    """VICE, its rank correlation, and why they are undefined where they are NaN; None: ranks were not requested."""
    vice = rank = math.nan
    undefined: dict[str, str] = {}
    try:
        if moments.undefined:
            rows = moments.n + moments.undefined
            raise ViceError(f"The JI of {moments.undefined} of {rows} images is undefined.")
        vice = moments.correlation()
    except ViceError as error:
        undefined = {"vice": error.message, "spearman": error.message}
    if ranks is None:
        undefined["spearman"] = "It was not requested."
    elif not undefined:
        rank = ranks.correlation()  # outside of `try`: a full disk is no undefined value
    return vice, rank, undefined
