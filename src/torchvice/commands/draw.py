"""Draw the figures of measures, cases and comparisons, and save them in a folder."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from torchvice.commands.measure import Measured
from torchvice.commands.tables import dataset_of
from torchvice.errors import ViceError
from torchvice.metrics.beside import at_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchvice.data import Dataset
    from torchvice.measures import Comparison, Measures, Pairs
    from torchvice.measures.case_selection import Choice
    from torchvice.report import Case
    from torchvice.samples import Samples

__all__ = ["draw_all", "draw_cases", "draw_comparison", "draw_measures"]

_T = TypeVar("_T")


@contextlib.contextmanager
def _missing_letters_said(tell: Callable[[str], None] | None) -> Iterator[None]:
    """Say once which letters the font of the figures lacks, in place of matplotlib's warning for each."""
    letters: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        if found := re.match(r"Glyph (\d+) .*missing from", str(one.message)):
            letters.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if letters and tell is not None:
        shown = "".join(sorted(letters)[:10]) + (" ..." if len(letters) > 10 else "")
        tell(f"The font of the figures lacks some letters, which are drawn as boxes: {shown}")


def draw_comparison(
    comparison: Comparison, folder: str | os.PathLike[str], tell: Callable[[str], None] | None = None
) -> list[Path]:
    """Draw VICE of the models with its intervals, and the differences of models, or of groups; returns the files."""
    from torchvice.measures.catalogue import compared_label
    from torchvice.report.comparison import comparison_figure
    from torchvice.report.figures import save_figure

    with _missing_letters_said(tell):
        differences, label = comparison.seeds or comparison.differences, compared_label("vice", comparison.quality)
        return save_figure(comparison_figure(comparison.models, differences, label=label), Path(folder) / "comparison")


def draw_measures(measures: Measures, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """Draw the diagrams that have numbers, each as PNG and PDF, two at a time; returns the files."""
    from torchvice.report.diagrams import diagrams_of

    figures = {Path(folder) / name: figure for name, figure in diagrams_of(measures, title).items()}
    saved: dict[Path, list[Path]] = {}
    others = [*figures][1::2]
    found, raised = at_once(
        lambda: saved.update(_save(figures, [*figures][::2])), lambda: _with_warnings(lambda: _save(figures, others))
    )
    saved |= found
    for warning in raised:
        warnings.warn_explicit(*warning)
    return [file for stem in figures for file in saved[stem]]


def _save(figures: Mapping[Path, Figure], stems: Sequence[Path]) -> dict[Path, list[Path]]:
    from torchvice.report.figures import save_figure

    return {stem: save_figure(figures[stem], stem) for stem in stems}


def _with_warnings(work: Callable[[], _T]) -> tuple[_T, list[tuple[str, type[Warning], str, int]]]:
    """What `work` returns, and the warnings of it, which would be lost with a copy of the process."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    return result, [(str(one.message), one.category, one.filename, one.lineno) for one in caught]


def draw_cases(
    samples: Samples,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    each: int = 2,
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Draw `each` cases of every kind under `strict`, from clear agreement to clear disagreement; returns the files.

    A case is left out if its image is gone or damaged or has another size than in the table, or if its mask has other
    numbers of pixels; `tell` is called with a sentence on these.
    """
    from torchvice.data.dataset import check_opened
    from torchvice.measures.case_selection import chosen_cases
    from torchvice.measures.pairs import true_pairs
    from torchvice.report.cases import case_sheet
    from torchvice.report.figures import save_figure

    check_opened(dataset)
    pairs = true_pairs(samples)
    choices = chosen_cases(pairs, each)
    if not choices:
        return []
    cases = [case for choice in choices if (case := _case_if_there(samples, dataset, pairs, choice)) is not None]
    changed = _changed(samples, dataset, cases)
    same = [case for case in cases if _as_counted(samples, case) and case.image_id not in changed]
    if len(same) < len(choices) and tell is not None:
        where = getattr(dataset, "root", "the dataset")
        tell(
            f"{len(choices) - len(same)} of the {len(choices)} cases are not drawn: their images or masks in {where} "
            "are not those that the table was made of."
        )
    return save_figure(case_sheet(same, columns=2), Path(folder) / "cases") if same else []


def _case_if_there(samples: Samples, dataset: Dataset, pairs: Pairs, choice: Choice) -> Case | None:
    """The case of a chosen pair; None if its image or mask is no longer in the dataset, or cannot be read."""
    from torchvice.commands.cases import case_of

    image_id, label = str(pairs.image_id[choice.row]), int(pairs.class_index[choice.row]) + 1
    try:
        return case_of(samples, dataset, image_id, label, pairs=pairs, kind=choice.kind)
    except ViceError:
        return None


def _changed(samples: Samples, dataset: Dataset, cases: Sequence[Case]) -> set[str]:
    """The images of cases whose file, or whose mask's, is not the one that the table was made of, where it knows."""
    from torchvice.data.digests import digests_of_image
    from torchvice.samples import changed_images

    place = {record.image_id: index for index, record in enumerate(dataset.records)}
    now = {case.image_id: digests_of_image(dataset, place[case.image_id], case.image, case.mask) for case in cases}
    changed = changed_images(samples.images.digests(), now)
    return {image_id for ids in changed.values() for image_id in ids}


def _as_counted(samples: Samples, case: Case) -> bool:
    """Whether the image has the size that it has in the table, and every label the pixels that were counted."""
    strict = samples.of_protocol("strict")
    row = int(np.flatnonzero(strict.images.image_id == case.image_id)[0])
    if case.image.shape[:2] != (strict.images.height[row], strict.images.width[row]):
        return False
    if case.mask is None:  # the objects are boxes
        return samples.of_boxes
    regions = strict.regions.where(strict.regions.image_id == case.image_id)
    counted = zip(regions.label.tolist(), regions.mask_pixels.tolist(), strict=True)
    return all(int((case.mask == label).sum()) == pixels for label, pixels in counted)


def draw_all(
    measured: Measured, folder: str | os.PathLike[str], title: str = "", tell: Callable[[str], None] | None = None
) -> list[Path]:
    """Draw the diagrams and, if the dataset of the table is still there, the cases; returns the files.

    `tell` is called with a sentence on cases that are left out, see `draw_cases`, and on letters that the font lacks.
    """
    with _missing_letters_said(tell):
        files = draw_measures(measured.measures, folder, title)
        if measured.samples is not None and "strict" in measured.samples.protocols:
            dataset = dataset_of(measured.samples)
            if dataset is not None:
                files += draw_cases(measured.samples, dataset, folder, tell=tell)
    return files
