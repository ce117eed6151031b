"""Draw the figures of measures, cases and comparisons into a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.commands.measure import Measured
from torchvice.commands.tables import dataset_of

if TYPE_CHECKING:
    from torchvice.data import Dataset
    from torchvice.measures import Comparison, Measures
    from torchvice.samples import Samples

__all__ = ["draw_all", "draw_cases", "draw_comparison", "draw_measures"]


def draw_comparison(found: Comparison, folder: str | os.PathLike[str]) -> list[Path]:
    """VICE of the models with their intervals, and the paired differences; returns the files."""
    from torchvice.report.comparison import comparison_figure
    from torchvice.report.figures import save_figure

    return save_figure(comparison_figure(found.models, found.differences), Path(folder) / "comparison")


def draw_measures(measures: Measures, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """The diagrams that the measures have numbers for, each as PNG and PDF; returns the files."""
    from torchvice.report.diagrams import diagrams_of
    from torchvice.report.figures import save_figure

    made = diagrams_of(measures, title)
    return [file for name, figure in made.items() for file in save_figure(figure, Path(folder) / name)]


def draw_cases(samples: Samples, dataset: Dataset, folder: str | os.PathLike[str], each: int = 2) -> list[Path]:
    """A sheet of cases of `strict`: the clearest agreements and disagreements of prediction and explanation."""
    from torchvice.commands.cases import case_of
    from torchvice.measures.case_selection import chosen_cases
    from torchvice.measures.pairs import true_pairs
    from torchvice.report.cases import case_sheet
    from torchvice.report.figures import save_figure

    pairs = true_pairs(samples)
    choices = chosen_cases(pairs, each)
    if not choices:
        return []
    cases = [
        case_of(
            samples,
            dataset,
            str(pairs.image_id[choice.row]),
            int(pairs.class_index[choice.row]) + 1,
            pairs=pairs,
            kind=choice.kind,
        )
        for choice in choices
    ]
    return save_figure(case_sheet(cases, columns=2), Path(folder) / "cases")


def draw_all(found: Measured, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """The diagrams and, where the table's images still lie where they were, the cases; returns the files."""
    files = draw_measures(found.measures, folder, title)
    if found.samples is not None and "strict" in found.samples.protocols:
        dataset = dataset_of(found.samples)
        if dataset is not None:
            files += draw_cases(found.samples, dataset, folder)
    return files
