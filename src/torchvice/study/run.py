"""run_study: start what is missing of a study, one run's failure at a time, and keep its table."""

from __future__ import annotations

import itertools
import shutil
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchvice.data import open_dataset
from torchvice.errors import ViceError
from torchvice.files.lock import locked
from torchvice.study.description import write_description
from torchvice.study.job import failure, finished, prepare
from torchvice.study.launch import launched
from torchvice.study.plan import Planned, Study
from torchvice.study.table import compared, sentences_of, table_rows, write_table

__all__ = ["Estimate", "StudyResult", "check_study", "estimate", "run_study", "study_result"]


@dataclass(frozen=True)
class Estimate:
    """What is left of a study: `missing` runs; `seconds` and `bytes` they will take, None where nothing tells.

    Both from the finished runs of this study: of the same levels where there are any, else of all. Before one is
    finished `bytes` are those of the checkpoints alone, `least`.
    """

    finished: tuple[Planned, ...]
    missing: tuple[Planned, ...]
    seconds: float | None
    bytes: int | None
    least: bool = False


@dataclass(frozen=True)
class StudyResult:
    """What a study found: `rows` of the table, `comparisons`, `sentences`, `failed` {run: reason}, and the `files`."""

    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def estimate(study: Study, parameters: Mapping[str, int] | None = None) -> Estimate:
    """What is left of a study, and what that will take, told by what is finished of it.

    Args:
        study: see `load_study`.
        parameters: what `check_study` returned: the size of the checkpoints, where no run is finished yet.
    """
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
    least = not done and parameters is not None
    if parameters is not None and not done:
        disk = [_checkpoints(run, parameters[_network(run)]) for run in missing]
    return Estimate(
        tuple(done),
        tuple(missing),
        sum(seconds) / study.where.jobs if len(seconds) == len(missing) else None,
        round(sum(disk)) if len(disk) == len(missing) else None,
        least,
    )


def _network(run: Planned) -> str:
    """What tells the networks of a study apart."""
    return f"{run.settings.model.name} {run.settings.model.arguments}"


def _checkpoints(run: Planned, parameters: int) -> float:
    """Bytes of best.ckpt and last.ckpt: the weights, the optimiser's state and the average of the weights, if any."""
    states = 0 if run.settings.model.linear_probe else {"sgd": 1, "adamw": 2}[run.settings.optimizer.name]
    states += run.settings.regularisation.ema > 0
    return 2.0 * 4 * parameters * (1 + states)


def _seconds(row: dict[str, Any]) -> float | None:
    """What a run took; None of one that was resumed, of which only a part was timed."""
    parts = [row.get("train_seconds"), row.get("assess_seconds")]
    return None if row.get("resumed") or None in parts else float(sum(filter(None, parts)))


def check_disk(study: Study, found: Estimate) -> None:
    """Refuse to start what the disk has no room for, as far as that is known."""
    if found.bytes is None:
        return
    free = shutil.disk_usage(study.folder).free
    if free < found.bytes:
        raise ViceError(
            f"{len(found.missing)} runs need about {_megabytes(found.bytes)}, but the disk of {study.folder} has "
            f"{_megabytes(free)} left.",
            "Make room there, or give another --folder.",
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_study(study: Study, files: bool = True) -> dict[str, int]:
    """Refuse, before anything runs, what could not run: unknown networks, wrong methods.

    Args:
        study: see `load_study`.
        files: whether the data must be there, and the weights and what the methods need.

    Returns:
        The parameters of every network, for `estimate`.

    Raises:
        ViceError: the first thing that is wrong.
    """
    from torchvice.assessment.checks import check_asked
    from torchvice.explain import METHODS, FaithfulnessChoices
    from torchvice.explain.attribution import captum_attr
    from torchvice.models.build import build_model
    from torchvice.models.pretraining import check_weights

    asked = study.asked
    check_asked(
        asked.protocols,
        method=asked.method,
        controls=asked.controls_of_strict,
        also=asked.also,
        faithful=FaithfulnessChoices.parse(asked.faithfulness) if asked.faithfulness else None,
    )
    parameters = {}
    for key, runs in itertools.groupby(sorted(study.runs, key=_network), key=_network):
        alike = [run.settings.model for run in runs]
        network = build_model(alike[0].name, 1, arguments=alike[0].arguments)
        parameters[key] = sum(p.numel() for p in network.parameters())
        for weights, scheme in {(model.weights, model.scheme) for model in alike if model.weights and files}:
            check_weights(network, weights, scheme)
    if files:
        if any("captum" in METHODS[name].needs for name in (asked.method, *asked.also) if name in METHODS):
            captum_attr()
        for wanted in {(run.settings.data.root, split) for run in study.runs for split in _splits(run)}:
            open_dataset(*wanted, classes=_classes(study, wanted[0]))
    return parameters


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
        check_disk(study, estimate(study, check_study(study, files=bool(missing))))
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
        return study_result(study, failed)


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)


def _named(run: Planned) -> str:
    return ", ".join([*run.levels.values(), f"seed {run.seed}"])


def _row_in_words(row: dict[str, Any]) -> str:
    said = "undefined" if row["vice"] is None else f"{row['vice']:.3f}"
    return f"VICE {said}, {row['train_seconds'] + row['assess_seconds']:.0f} s"


def study_result(study: Study, failed: dict[str, str] | None = None) -> StudyResult:
    """What is found so far: the tables, the findings and the figure of the runs that are finished, written anew.

    Args:
        study: see `load_study`; nothing of it is run.
        failed: {run: reason}.
    """
    from torchvice.files import write_text
    from torchvice.report.figures import save_figure
    from torchvice.report.study.figure import study_figure

    failed = failed or {}
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
