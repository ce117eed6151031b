"""`vice table`: the numbers of models, or of one model's explanations, as a table for a paper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchvice.commands.compare import compare_paths
from torchvice.commands.tables import load_samples

if TYPE_CHECKING:
    from torchvice.measures import ResultTable

__all__ = ["result_table_of"]


def result_table_of(
    paths: Sequence[str | os.PathLike[str]],
    split: str | None = None,
    *,
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
) -> ResultTable:
    """Models by measures; for one path its explanations and controls.

    Args:
        paths: RUNs or folders of tables.
        split, quality, replicates, seed: as for `compare_paths`.

    Raises:
        ViceError: as `compare_paths` and `torchvice.measures.measure`.
    """
    from torchvice.measures import explanations_table, measure, models_table

    if len(paths) == 1:
        samples = load_samples(paths[0], split)
        return explanations_table(measure(samples, quality=quality, replicates=replicates, seed=seed))
    return models_table(compare_paths(paths, split, quality=quality, replicates=replicates, seed=seed))
