"""`vice study`: many runs that differ in stated settings, and one table of them."""

from __future__ import annotations

import importlib.util
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.terminal import add_row, console, progress_bar, say, stopped

if TYPE_CHECKING:
    from torchvice.study import Estimate, Study

__all__ = ["study"]


class Launcher(StrEnum):
    """Where runs are started."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


def study(
    file: str = typer.Argument(..., help="Study that comes with torchvice (digits, ...) or a YAML file."),
    override: list[str] = typer.Option([], "--override", "-o", help="Setting of the base, such as trainer.epochs=2."),
    dry_run: bool = typer.Option(False, "--dry-run", help="List the runs, their needs, time and disk use."),
    launcher: Launcher | None = typer.Option(None, "--launcher", help="Launcher of the runs. Default: as in the file."),
    jobs: int | None = typer.Option(None, "--jobs", min=1, help="Number of runs at a time."),
    gpus: float | None = typer.Option(
        None, "--gpus", min=0, help="GPUs per run, for Ray and SLURM; with Ray also a share of one, such as 0.5."
    ),
    folder: Path | None = typer.Option(None, "--folder", help="Folder of the study. Default: runs/NAME."),
) -> None:
    """Train, assess and compare many runs: architectures, pre-training, regularisers, seeds. A killed study resumes.

    Checkpoints that the file names are assessed and compared without training.
    """
    from torchvice.study import load_study, run_study

    given = {"launcher": launcher and launcher.value, "jobs": jobs, "gpus": gpus}
    planned = load_study(file, override, folder=folder, where={k: v for k, v in given.items() if v is not None})
    if dry_run:
        _print_plan(planned)
        return
    with stopped(planned.folder / "runs"), progress_bar("runs") as progress:
        found = run_study(planned, say=say, progress=progress)
    _print_rows(found.rows, list(planned.axes), planned.request.quality)
    for sentence in found.sentences:
        say(sentence)
    if found.files:
        say("Written: " + ", ".join(map(str, found.files)))
    if found.failed:
        say(f"{len(found.failed)} of {len(planned.runs)} runs failed; vice study {file} retries them.")
        raise typer.Exit(1)


def _print_plan(planned: Study) -> None:
    from torchvice.study import check_study, estimate
    from torchvice.study.launch import lacking_launcher

    found = estimate(planned, check_study(planned, files=False))
    done = {run.key for run in found.finished}
    say(f"{planned.name}: {len(planned.runs)} runs in {planned.folder}")
    for run in planned.runs:
        mark = "finished" if run.key in done else "to do"
        origin = f", given: {run.given.checkpoint}" if run.given else ""
        say(f"  {mark:8}  {run.label}{origin}  ({run.folder.name})")
    for need in planned.needs:
        if not _is_there(need.partition(":")[0].partition(",")[0]):
            say(f"needs: {need}")
    if lacking := lacking_launcher(planned.where):
        needed, why = (f"{text[:1].lower()}{text[1:].removesuffix('.')}" for text in (lacking.way_out, lacking.message))
        say(f"needs: {needed} ({why})")
    for root in sorted({str(run.settings.data.root) for run in planned.runs}):
        if not Path(root).is_dir() and not any(need.startswith(root) for need in planned.needs):
            say(f"needs: the dataset in {root}, which is not there")
    if any(run.given is not None or run.settings.model.weights for run in found.missing):
        say("Whether weights fit their networks is seen when the runs start.")
    say(_left(found))


def _left(found: Estimate) -> str:
    if not found.missing:
        return "Nothing is left to do."
    unknown = "unknown until a run of this study is finished"
    time = unknown if found.seconds is None else _duration(found.seconds)
    disk = unknown if found.bytes is None else f"{found.bytes / 1e6:,.0f} MB{' or more' if found.least else ''}"
    return f"{len(found.missing)} runs are left. Time: {time}. Disk: {disk}."


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{minutes // 60} h {minutes % 60} min"
        if minutes > 90
        else f"{minutes} min"
    )


def _print_rows(rows: list[dict[str, Any]], axes: list[str], quality: str) -> None:
    from rich.table import Table

    from torchvice.measures.catalogue import compared_label
    from torchvice.measures.wording import decimals

    origins = {row.get("origin") for row in rows}
    title = "Runs, all given as checkpoints" if origins == {"given"} else "Runs"
    table = Table(title=title, title_justify="left")
    columns = ("vice", "mean_average_precision", "ece_ml", "ji" if quality == "ji" else "quality")
    words = [" ".join(re.split(r"[._]", axis)) for axis in axes]  # so that a narrow heading breaks between words
    origin = ["origin"] if len(origins) > 1 else []
    for column in (*words, "seed", *origin, *(compared_label(name, quality) for name in columns), "controls"):
        table.add_column(column, overflow="fold")
    for row in rows:
        numbers = ["–" if row.get(name) is None else decimals(row[name]) for name in columns]
        status = _short(str(row.get("controls") or ("–" if row["status"] == "finished" else row["status"])))
        levels = (str(row[axis]) for axis in axes)
        seed = "–" if row["seed"] is None else str(row["seed"])
        add_row(table, (*levels, seed, *(row[name] for name in origin), *numbers, status))
    console().print(table)


def _short(status: str) -> str:
    """A list of controls that does not fit as their number; table.csv names them."""
    words, _, names = status.partition("not above ")
    return f"not above {len(names.split(', '))}" if not words and ", " in names else status


def _is_there(need: str) -> bool:
    """Whether what a study needs is a path that exists, or an installed package."""
    return Path(need).exists() or (need.isidentifier() and importlib.util.find_spec(need) is not None)
