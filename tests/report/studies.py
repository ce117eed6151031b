"""Studies for tests: a folder with the files that a small study writes, its numbers given, nothing trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchvice.files import write_json
from torchvice.study.table import write_table

# Of each network VICE, mAP and ECE-ML: on the front of mAP are `a` and `b`, on that of ECE-ML `b` and `c`.
MEANS = {"a": (0.2, 0.9, 0.09), "b": (0.5, 0.8, 0.06), "c": (0.4, 0.7, 0.03), "d": (0.1, 0.85, 0.08)}
STEPS = (0.0, -0.01, 0.01)  # of the seeds, around the mean


def run_row(
    net: str, seed: int, vice: float | None, ap: float | None, ece: float | None, **more: Any
) -> dict[str, Any]:
    """A run's row, with the columns of `torchvice.study.job.row_of`; further VICE and ECE-ML follow from the strict."""
    ends = (None, None) if vice is None else (vice - 0.05, vice + 0.05)
    return {
        "run": f"{net}-s{seed}",
        "network": net,
        "seed": seed,
        "status": "finished",
        "images": 600,
        "vice": vice,
        "vice_low": ends[0],
        "vice_high": ends[1],
        "paper_vice": None if vice is None else 1 - vice,
        "mean_average_precision": ap,
        "mean_average_precision_low": None if ap is None else ap - 0.02,
        "mean_average_precision_high": None if ap is None else ap + 0.02,
        "ece_ml": ece,
        "paper_ece_ml": None if ece is None else ece + 0.1,
        "loss": 0.1,
        "controls": "above all",
        "vice_gradcam": None if vice is None else 0.6 - vice,
        "train_seconds": 93.44,
        "reason": None,
        **more,
    }


def rows_of(means: dict[str, tuple[float, float, float]] | None = None, seeds: int = 3) -> list[dict[str, Any]]:
    found = (MEANS if means is None else means).items()
    return [
        run_row(net, at + 1, vice + STEPS[at], ap + STEPS[at], ece)
        for net, (vice, ap, ece) in found
        for at in range(seeds)
    ]


def difference(first: str, second: str, measure: str, value: float | None, p_holm: float | None, **more: Any) -> dict:
    """A row of the comparisons."""
    return {
        "axis": "network",
        "others": "",
        "first": first,
        "second": second,
        "measure": measure,
        "difference": value,
        "low": None if value is None else value - 0.05,
        "high": None if value is None else value + 0.05,
        "p": None if p_holm is None else p_holm / 3,
        "p_holm": p_holm,
        "seeds_first": 3,
        "seeds_second": 3,
        "reason": None,
        **more,
    }


COMPARED = [
    difference("a", "b", "vice", -0.3, 0.001),
    difference("a", "c", "vice", -0.2, 0.049),
    difference("a", "d", "vice", 0.1, 0.05),
    difference("a", "b", "ece_ml", 0.03, 0.2),
    difference("a", "c", "ece_ml", 0.06, 0.01),
    difference("a", "d", "ece_ml", 0.01, 0.6),
]


def study_folder(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    comparisons: Sequence[dict[str, Any]] | None = None,
    **description: Any,
) -> Path:
    """The files of a study; without `description` that of a study older than it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(rows, folder / "table")
    if comparisons is not None:
        write_table(comparisons, folder / "comparisons")
    if description:
        write_json(folder / "study.json", {"schema": 1, **description})
    return folder
