"""The figures of docs/photographs.md: no pixel of a photograph is in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from photographs_kept import table_of

from torchvice.measures import measure
from torchvice.report.diagrams import diagrams_of
from torchvice.report.figures import save_figure
from torchvice.report.study.figure import study_figure
from torchvice.study import Study
from torchvice.study.job import finished

DIAGRAMS = ("vice", "vice_strict", "reliability_paper", "reliability_strict")


def write_figures(study: Study, rows: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Draw the recipes, and the diagrams of the paper for the first run of the base; returns the names of the files.

    A kept table of the base has those of `strict` alone.

    Args:
        study: with the runs' folders.
        rows: its finished runs.
        folder: where the PNG files go.
    """
    drawn = {}
    if any(row.get("vice") is not None for row in rows):
        drawn["recipes"] = study_figure(rows, list(study.axes), base=study.base)
    base = next((run for run in study.runs if run.levels == study.base and finished(run, study.request)), None)
    if base is not None:
        found = diagrams_of(measure(table_of(base), replicates=100))
        drawn |= {name: found[name] for name in DIAGRAMS if name in found}
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, figure in drawn.items():
        names.append(f"photographs_{study.name}_{name}.png")
        shutil.copyfile(save_figure(figure, study.folder / name)[0], folder / names[-1])
    return names
