"""`vice report`: the page."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import typer

from torchvice.cli.numbers import QUALITY
from torchvice.cli.terminal import progress_bar, say

__all__ = ["report"]


def report(
    runs: list[Path] = typer.Argument(
        ..., help="A RUN, a table's folder or a study's; with --compare two or more RUNs."
    ),
    compare: bool = typer.Option(False, "--compare", help="The same images side by side, models as columns."),
    out: Path | None = typer.Option(None, "--out", help="The file (with --folder, the folder); else in the RUN."),
    split: str | None = typer.Option(None, "--split", help="Of a RUN that was assessed on several."),
    no_images: bool = typer.Option(False, "--no-images", help="Not a pixel of the data: no images, no masks."),
    folder: bool = typer.Option(False, "--folder", help="Images and cases as files, of all images, for large data."),
    cases: int | None = typer.Option(None, "--cases", min=0, help="Images whose case is on the page; else 2000."),
    quality: str = QUALITY,
    replicates: int = typer.Option(2000, "--replicates", min=0, help="Of the bootstrap; 0: no intervals."),
    title: str | None = typer.Option(None, "--title", help="Of the page; else the run's name."),
) -> None:
    """The page: numbers, figures and the images where performance and explanation part; or what a study found."""
    from torchvice.commands.report import check_paths, write_report
    from torchvice.report.study.recipes import is_study

    check_paths(runs, compare)
    with nullcontext() if is_study(runs[0]) else progress_bar("cases") as progress:
        file = write_report(
            runs,
            out,
            split=split,
            pictures=not no_images,
            folder=folder,
            most_cases=cases,
            quality=quality,
            replicates=replicates,
            title=title or "",
            progress=progress,
        )
    say(f"Written: {file}")
