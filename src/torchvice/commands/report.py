"""`vice report`: the page of RUNs, tables, CSVs and studies."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.commands.measure import Measured, measure_path
from torchvice.commands.tables import check_unchanged, dataset_of, refuse_without_effect, table_folder
from torchvice.errors import ViceError
from torchvice.files import check_writable
from torchvice.measures import compare
from torchvice.measures.contents import ASSESS_STRICT, check_same_truth
from torchvice.report.page.cases import cases_of
from torchvice.report.page.page import MOST_CASES, Shown, intervals_of, write_page
from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import is_study, read_study
from torchvice.samples import Samples, ShardFolder

__all__ = ["LATEST", "check_html", "check_paths", "write_report"]

LATEST = "_latest"  # ending of a page's name where one with more replicates keeps its place
LONGEST_NAME = 120  # bytes; file systems take 255, ending included


def check_paths(paths: Sequence[str | os.PathLike[str]], compare: bool) -> None:
    """Check that the paths make one report: one study, one RUN, or several RUNs with `compare`.

    Raises:
        ViceError: no path, a study together with other paths, several paths without `compare`, or one path with it.
    """
    if not paths:
        raise ViceError("A report needs a RUN, but none is given.")
    studies = [path for path in paths if is_study(path)]
    if studies and (compare or len(paths) > 1):
        raise ViceError(
            f"{studies[0]} is a study: its report compares its own runs, not other paths.",
            f"Run: vice report {studies[0]}",
        )
    if compare != (len(paths) > 1):
        way_out = "Give two or more RUNs." if compare else "Add --compare."
        expected = "at least two RUNs with --compare" if compare else "one RUN without --compare"
        raise ViceError(f"A report takes {expected}, but {len(paths)} came.", way_out)
    places = [Path(path).resolve() for path in paths]
    if len(set(places)) < len(places):
        way_out = "Name another RUN or table in place of one." if len(places) == 2 else "Remove one."
        raise ViceError("Compared models must be different, but one folder is named twice.", way_out)


def write_report(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    pictures: bool = True,
    folder: bool = False,
    most_cases: int | None = None,
    quality: str | None = None,
    replicates: int | None = None,
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the page of a RUN, a table's folder, a CSV or a study, or of several compared; return the file to open.

    Args:
        paths: one path, or several to compare.
        out: file of the page, or with `folder` its folder. None: report.html or report/ in `Measured.home`, for several
            paths comparison_A_B.html or comparison_A_B/ here, by the models' names and the split that is given; with
            another quality report_recall.html; with LATEST if a page there has the same numbers with more replicates:
            it is kept.
        split: split of the RUNs.
        pictures: show images and masks; if False, the page holds no pixel of the data.
        folder: write images as files.
        most_cases: number of images with a case; None: the default of `torchvice.report.write_page`.
        quality: quality of a map, see `torchvice.measure`; default ji.
        replicates: replicates of the bootstrap over images, default 2000; 0: no intervals and no paired differences.
        title, progress: the page's title, default the run's name; called with the number of images done and of all.

    Raises:
        ViceError: images are missing, or an argument is wrong or has no effect; see also `measure_path`, `write_page`.
    """
    _check_before(paths, split, out, folder)
    if is_study(paths[0]):
        options = {"split": split, "folder": folder, "cases": most_cases, "quality": quality}
        return _study_page(Path(paths[0]), out, title, {**options, "replicates": replicates})
    runs = [measure_path(path, split, quality=quality, replicates=replicates) for path in paths]
    names, tables, quality = _different_names(runs), [run.samples for run in runs], quality or "ji"
    refuse_without_effect("a CSV of the original", paths[0], cases=most_cases if tables == [None] else None)
    cases = [None if table is None else cases_of(table, quality) for table in tables]
    models = [Shown(name, run.measures, its_cases) for name, run, its_cases in zip(names, runs, cases, strict=True)]
    return write_page(
        out or _free_path(_default_path(runs, names, split, folder, quality), folder, models),
        models,
        _reader_of(tables[0]) if pictures and tables[0] is not None else None,
        title=title or (runs[0].title if len(runs) == 1 else ""),
        folder=folder,
        most_cases=MOST_CASES if most_cases is None else most_cases,
        comparison=_comparison(names, tables, quality, 2000 if replicates is None else replicates),
        progress=progress,
    )


def _check_before(
    paths: Sequence[str | os.PathLike[str]], split: str | None, out: str | os.PathLike[str] | None, folder: bool
) -> None:
    """Check before anything is measured what can be known then."""
    check_paths(paths, len(paths) > 1)
    _check_out(out, folder, is_study(paths[0]))
    if len(paths) > 1:
        _check_protocols([Path(path) for path in paths], split)


def _check_out(out: str | os.PathLike[str] | None, folder: bool, of_study: bool) -> None:
    """Check that the page can be written there, as HTML."""
    if folder and not of_study:
        check_writable(out, "--out", folder=True, way_out=", or leave out --folder")
        return
    check_writable(out, "--out", "report.html", way_out="" if of_study else ", or add --folder")
    check_html(out, pdf=True)


def check_html(out: str | os.PathLike[str] | None, *, pdf: bool = False) -> None:
    """Check that a page is not written to a file whose name ends as another format.

    Args:
        out: the file, or None.
        pdf: whether the command also has --pdf.

    Raises:
        ViceError: another ending than .html or .htm.
    """
    suffix = "" if out is None else Path(out).suffix.lower()
    if out is not None and suffix not in ("", ".html", ".htm"):
        html = f"Give --out {Path(out).with_suffix('.html')}"
        raise ViceError(
            f"The page is HTML, but --out {out} ends in {suffix}.",
            f"{html}, and --pdf for a PDF." if pdf and suffix == ".pdf" else f"{html}.",
        )


def _check_protocols(paths: Sequence[Path], split: str | None) -> None:
    """Check that several paths have tables, all of them under `strict` or none."""
    protocols = {path: ShardFolder(table_folder(path, split)).manifest()["protocols"] for path in paths}
    without = [path for path, names in protocols.items() if "strict" not in names]
    if without and len(without) < len(paths):
        raise ViceError(
            f"Compared models must share one protocol, but {without[0]} was assessed under `paper` only.", ASSESS_STRICT
        )


def _study_page(path: Path, out: str | os.PathLike[str] | None, title: str, without_effect: dict[str, Any]) -> Path:
    refuse_without_effect("a study", path, **without_effect)
    return write_study_page(out or path / "report.html", read_study(path), title=title)


def _default_path(
    runs: Sequence[Measured], names: Sequence[str], split: str | None, folder: bool, quality: str
) -> Path:
    """Path of the page without `out`."""
    first = runs[0]
    if len(runs) > 1:
        stem = Path(_comparison_name([*names, Path(split).stem] if split else names))
    elif first.samples is None:
        stem = Path(f"{first.home}_report")
    else:
        stem = first.home / "report"
    if quality != "ji":  # the headline's page is not overwritten
        stem = stem.with_name(f"{stem.name}_{quality}")
    return stem if folder else stem.with_name(f"{stem.name}.html")


def _comparison_name(names: Sequence[str]) -> str:
    """Name of a comparison, so that one of other models has another name; a long one is cut to a digest.

    Example:
        >>> _comparison_name(["r50", "seeds/vit"])
        'comparison_r50_seeds-vit'
    """
    name = "_".join(["comparison", *(re.sub(r"[^\w-]+", "-", name) for name in names)])
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"comparison_{len(names)}-models_{hashlib.sha256(repr(names).encode()).hexdigest()[:8]}"


def _free_path(path: Path, folder: bool, models: Sequence[Shown]) -> Path:
    """The default path, or NAME_latest if the page there has the same numbers with more replicates: it is kept."""
    try:
        with open(path / "index.html" if folder else path, encoding="utf-8") as page:
            before = re.search(r'<meta name="intervals" content="(\d{1,9}) (\w+)">', page.read(4096))
    except (OSError, ValueError):
        return path
    replicates, numbers = intervals_of(models)
    kept = before is not None and before[2] == numbers and int(before[1]) > replicates
    return path.with_stem(f"{path.stem}{LATEST}") if kept else path


def _comparison(
    names: Sequence[str], tables: Sequence[Samples | None], quality: str, replicates: int
) -> dict[str, Any] | None:
    """The paired differences of several models, if all were assessed under `strict`."""
    strict = {
        name: table
        for name, table in zip(names, tables, strict=True)
        if table is not None and "strict" in table.protocols
    }
    if len(tables) < 2 or len(strict) < len(tables):
        return None
    check_same_truth(strict)
    if not replicates:
        return None
    return compare(strict, quality=quality, replicates=replicates).to_json()


def _different_names(runs: Sequence[Measured]) -> list[str]:
    """The names of the runs; equal names get their parent folder, or else a number, in front."""
    names = [run.title for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.path.absolute().parent.name}/{run.title}" for run in runs]
    return names if len(set(names)) == len(names) else [f"{place}: {name}" for place, name in enumerate(names, 1)]


def _reader_of(samples: Samples) -> Callable[[str], tuple[np.ndarray, np.ndarray | None] | None]:
    """A function from image id to image and mask of the table's dataset.

    Raises:
        ViceError: the dataset is not found, or is not the one of the table any more.
    """
    dataset = dataset_of(samples)
    if dataset is None:
        root = samples.manifest["dataset"].get("root")
        if not root:
            raise ViceError(
                "The page cannot show images: the table does not name a folder of its dataset.",
                "Write the page without images: --no-images.",
            )
        raise ViceError(
            f"The page needs the images in {root}, but they are not there.",
            "Change to the folder in which the assessment was started, or write the page without images: --no-images.",
        )
    check_unchanged(samples, dataset)
    index_of = {record.image_id: index for index, record in enumerate(dataset.records)}

    def read(image_id: str) -> tuple[np.ndarray, np.ndarray | None] | None:
        index = index_of.get(image_id)
        return None if index is None else (dataset.image(index), None if samples.of_boxes else dataset.mask(index))

    return read
