"""run_study: start what is missing of a study, one run's failure at a time, and keep its table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchvice.data import VocDataset
from torchvice.errors import ViceError, nearest
from torchvice.study.description import write_description
from torchvice.study.job import failure, finished, prepare
from torchvice.study.launch import launched
from torchvice.study.lock import locked
from torchvice.study.plan import Planned, Study
from torchvice.study.table import compared, sentences_of, table_rows, write_table

__all__ = ["Estimate", "StudyResult", "check_study", "estimate", "run_study"]


@dataclass(frozen=True)
class Estimate:
    """What is left of a study: `missing` runs; `seconds` and `bytes` they will take, None where nothing tells.

    Both from the finished runs of this study: of the same levels where there are any, else of all.
    """

    finished: tuple[Planned, ...]
    missing: tuple[Planned, ...]
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class StudyResult:
    """What a study found: `rows` of the table, `comparisons`, `sentences`, `failed` {run: reason}, and the `files`."""

    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def estimate(study: Study) -> Estimate:
    """What is left of a study, and what that will take, told by what is finished of it."""
    rows = {run.key: finished(run, study.asked) for run in study.runs}
    done = [run for run in study.runs if rows[run.key] is not None]
    missing = [run for run in study.runs if rows[run.key] is None]
    timed = {run.key: _seconds(rows[run.key] or {}) for run in done}
    sizes = {run.key: _size(run.folder) for run in done}
    seconds: list[float] = []
    disk: list[float] = []
    for run in missing:
        alike = [other.key for other in done if other.recipe == run.recipe] or [other.key for other in done]
        known = [value for key in alike if (value := timed[key]) is not None]
        seconds += [statistics.median(known)] if known else []
        disk += [statistics.median(sizes[key] for key in alike)] if alike else []
    whole = len(seconds) == len(missing)
    return Estimate(
        tuple(done),
        tuple(missing),
        sum(seconds) / study.where.jobs if whole else None,
        round(sum(disk)) if len(disk) == len(missing) else None,
    )


def _seconds(row: dict[str, Any]) -> float | None:
    """What a run took; None of one that was resumed, of which only a part was timed."""
    parts = [row.get("train_seconds"), row.get("assess_seconds")]
    return None if row.get("resumed") or None in parts else float(sum(filter(None, parts)))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_study(study: Study, data: bool = True) -> None:
    """Refuse, before anything runs, what could not run: unknown networks, data that are not there, wrong methods.

    Raises:
        ViceError: the first thing that is wrong.
    """
    from torchvice.explain import METHODS, FaithfulnessChoices
    from torchvice.models.build import build_model

    if study.asked.faithfulness:
        FaithfulnessChoices.parse(study.asked.faithfulness)
    names = [name for name in (study.asked.method, *study.asked.also) if name != "auto"]
    for name in names:
        known = name in METHODS or name in ("mirror", "predicted") or name.startswith("scale")
        if not known:
            raise ViceError(f"`{name}` is no explanation method.", nearest(name, METHODS))
    networks = {(run.settings.model.name, str(run.settings.model.arguments)): run.settings.model for run in study.runs}
    for network in networks.values():
        build_model(network.name, 1, arguments=network.arguments)
    if data:
        for wanted in {(run.settings.data.root, split) for run in study.runs for split in _splits(run)}:
            VocDataset(*wanted, classes=_classes(study, wanted[0]))


def _splits(run: Planned) -> tuple[str, ...]:
    data = run.settings.data
    return data.train_split, data.selection_split, data.eval_split


def _classes(study: Study, root: str) -> tuple[str, ...] | None:
    return next(run.settings.data.classes for run in study.runs if run.settings.data.root == root)


def run_study(
    study: Study, *, say: Callable[[str], None] = print, progress: Callable[[int, int], None] | None = None
) -> StudyResult:
    """Run what is missing of a study, and write its table, comparisons and figure into its folder.

    Started again after a kill it goes on; with a further axis or seed it runs what that adds. A run that fails is told
    and does not stop the others; the next start tries it again.

    Args:
        study: see `load_study`.
        say: told a line for each run that ends.
        progress: called with (runs that ended, all).

    Raises:
        ViceError: as `check_study`, or another process is at work in the folder.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with locked(study.folder / "lock", f"The study {study.folder}"):
        missing = [run for run in study.runs if finished(run, study.asked) is None]
        check_study(study, data=bool(missing))
        write_description(study)  # before the first row: the page of a study can be made while it runs
        ended = len(study.runs) - len(missing)
        failed: dict[str, str] = {}
        _tell(progress, ended, len(study.runs))
        by_folder = {prepare(run, study.asked): run for run in missing}
        if missing:
            say(f"{len(missing)} of {len(study.runs)} runs are to be made, {study.where.launcher}.")
        for folder, how in launched(list(by_folder), study.where) if missing else ():
            run, ended = by_folder[folder], ended + 1
            row = finished(run, study.asked)
            if row is None:
                failed[folder.name] = failure(folder) or how or "it ended without a result"
                say(f"{ended}/{len(study.runs)} {_named(run)}: failed, {failed[folder.name]} ({folder}/job/log.txt)")
            else:
                say(f"{ended}/{len(study.runs)} {_named(run)}: {_row_in_words(row)}")
            write_table(table_rows(study, failed), study.folder / "table")
            _tell(progress, ended, len(study.runs))
        return _result(study, failed)


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)


def _named(run: Planned) -> str:
    return ", ".join([*run.levels.values(), f"seed {run.seed}"])


def _row_in_words(row: dict[str, Any]) -> str:
    said = "undefined" if row["vice"] is None else f"{row['vice']:.3f}"
    return f"VICE {said}, {row['train_seconds'] + row['assess_seconds']:.0f} s"


def _result(study: Study, failed: dict[str, str]) -> StudyResult:
    """The tables and the figure of what is finished."""
    from torchvice.files import write_text
    from torchvice.report.figures import save_figure
    from torchvice.report.study import study_figure

    rows = table_rows(study, failed)
    comparisons = compared(study)
    sentences = sentences_of(study, comparisons, failed)
    files = write_table(rows, study.folder / "table")
    files += write_table(comparisons, study.folder / "comparisons") if comparisons else []
    files.append(write_text(study.folder / "findings.txt", "\n".join(sentences) + "\n"))
    done = [row for row in rows if row["status"] == "finished"]
    if any(row["vice"] is not None for row in done):
        files += save_figure(study_figure(done, list(study.axes), base=study.base), study.folder / "study")
    return StudyResult(rows, comparisons, sentences, failed, files)
