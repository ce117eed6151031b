"""Publishing: what `vice report` does with RUNs, tables, CSVs and studies: what they hold, on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.commands.measure import Measured, measure_path
from torchvice.commands.tables import dataset_of
from torchvice.errors import ViceError
from torchvice.measures import compare
from torchvice.report.page.page import MOST_CASES, Shown, write_page
from torchvice.report.page.rows import cases_of
from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import is_study, read_study
from torchvice.samples import Samples

__all__ = ["check_paths", "write_report"]


def check_paths(paths: Sequence[str | os.PathLike[str]], compare: bool) -> None:
    """Refuse what is no report: a study beside another, several paths that are not compared, one that is.

    Raises:
        ViceError: as said.
    """
    studies = [path for path in paths if is_study(path)]
    if studies and (compare or len(paths) > 1):
        raise ViceError(
            f"{studies[0]} is a study, whose report compares its own runs and nothing else.",
            f"vice report {studies[0]}",
        )
    if compare != (len(paths) > 1):
        way_out = "Add --compare." if not compare else "Name two or more RUNs."
        raise ViceError(f"A report is of one RUN, or compares several with --compare, but {len(paths)} came.", way_out)


def write_report(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    pictures: bool = True,
    folder: bool = False,
    most_cases: int | None = None,
    quality: str = "ji",
    replicates: int = 2000,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The page of a RUN, a table's folder, a CSV or a study; of several, but no study, the page that compares them.

    Args:
        paths: one, or several to compare.
        out: the file; with `folder` the folder. None: report.html, or report/, where `Measured.home` is; for
            several comparison.html, or comparison/, in the working directory. Of another quality than the IoU, the
            name ends on it: report_recall.html.
        split: of the RUNs.
        pictures: whether images and masks may be shown; else not a pixel of the data is on the page.
        folder: images as files.
        most_cases: how many images have their case embedded; None: see `torchvice.report.write_page`.
        quality: in what sense a map is good, one of `torchvice.measures.QUALITIES`; the pairs, their quadrants and all
            that hangs on VICE are shown with it. `paper` and `strict` stay what they are.
        replicates: of the bootstrap over images; 0: no intervals, and no paired differences.
        title: of the page; else the name of the run.
        progress: called with the images done and their number.

    Returns:
        The file to open.

    Raises:
        ViceError: the images are not where they were, or a CSV was asked for another quality; see also `measure_path`
            and `torchvice.report.write_page`.
    """
    if not paths:
        raise ViceError("A report needs a RUN, but none is given.")
    check_paths(paths, len(paths) > 1)
    if is_study(paths[0]):
        other = None if quality == "ji" else quality
        _refuse_of_study(paths[0], split=split, folder=folder, cases=most_cases, quality=other)
        return write_study_page(
            Path(paths[0]) / "report.html" if out is None else out, read_study(paths[0]), title=title
        )
    found = [measure_path(path, split, quality=quality, replicates=replicates) for path in paths]
    if quality != "ji" and any(one.samples is None for one in found):
        raise ViceError(f"Another quality needs the table of an assessment, but {quality!r} is asked of a CSV.")
    names = _different_names(found)
    models = [
        Shown(name, one.measures, None if one.samples is None else cases_of(one.samples, quality))
        for name, one in zip(names, found, strict=True)
    ]
    return write_page(
        _place(found, folder, quality) if out is None else out,
        models,
        _reader_of(found[0].samples) if pictures and found[0].samples is not None else None,
        title=title or (found[0].title if len(found) == 1 else ""),
        folder=folder,
        most_cases=MOST_CASES if most_cases is None else most_cases,
        comparison=_comparison(names, found, quality, replicates),
        progress=progress,
    )


def _refuse_of_study(path: str | os.PathLike[str], **given: Any) -> None:
    """A study's page is made of its tables, so that what chooses among images or measures is a mistake."""
    name = next((name for name, value in given.items() if value is not None and value is not False), None)
    if name is not None:
        raise ViceError(
            f"The page of the study {path} is made of its tables alone, so that --{name} says nothing.", "Leave it out."
        )


def _place(found: Sequence[Measured], folder: bool, quality: str) -> Path:
    """Where the page goes when nobody says."""
    first = found[0]
    if len(found) > 1:
        stem = Path("comparison")
    elif first.samples is None:
        stem = Path(f"{first.home}_report")
    else:
        stem = first.home / "report"
    if quality != "ji":  # the headline's page stays what it was
        stem = stem.with_name(f"{stem.name}_{quality}")
    return stem if folder else stem.with_name(f"{stem.name}.html")


def _comparison(
    names: Sequence[str], found: Sequence[Measured], quality: str, replicates: int
) -> dict[str, Any] | None:
    """The paired differences of several models that were all assessed under `strict`."""
    tables = [one.samples for one in found if one.samples is not None and "strict" in one.samples.protocols]
    if len(found) < 2 or len(tables) < len(found) or not replicates:
        return None
    return compare(dict(zip(names, tables, strict=True)), quality=quality, replicates=replicates).to_json()


def _different_names(found: Sequence[Measured]) -> list[str]:
    """The runs' names; equal ones are told apart by the folder above, or by their place."""
    names = [one.title for one in found]
    if len(set(names)) < len(names):
        names = [f"{one.path.absolute().parent.name}/{one.title}" for one in found]
    return names if len(set(names)) == len(names) else [f"{at + 1}: {name}" for at, name in enumerate(names)]


def _reader_of(samples: Samples) -> Callable[[str], tuple[np.ndarray, np.ndarray | None] | None]:
    """Image id -> image and mask, from where the table's dataset lies.

    Raises:
        ViceError: it does not lie there any more.
    """
    dataset = dataset_of(samples)
    if dataset is None:
        raise ViceError(
            f"The page shows the images of {samples.manifest['dataset'].get('root')}, but they are not there.",
            "Go to the folder that the assessment was started in, or make the page without them: --no-images.",
        )
    place = {record.image_id: index for index, record in enumerate(dataset.records)}

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray | None] | None:
        index = place.get(image_id)
        return None if index is None else (dataset.image(index), dataset.mask(index))

    return read
