"""`vice report`: the page."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import typer

from torchvice.cli.numbers import QUALITY
from torchvice.cli.terminal import given, progress_bar, say

__all__ = ["report"]


def report(
    context: typer.Context,
    runs: list[Path] = typer.Argument(..., help="Run folder, table or study; several runs with --compare."),
    compare: bool = typer.Option(False, "--compare", help="Show the same images side by side, with models as columns."),
    out: Path | None = typer.Option(
        None,
        "--out",
        help="File (or folder) to write. Default: report.html in the run folder; of several runs, comparison_A_B.html "
        "in this folder, by their names.",
    ),
    split: str | None = typer.Option(None, "--split", help="Split to report, if the run was assessed on several."),
    no_images: bool = typer.Option(False, "--no-images", help="Leave out all pixels of the data: images and masks."),
    folder: bool = typer.Option(False, "--folder", help="Write all images and cases as files, for large data."),
    cases: int | None = typer.Option(None, "--cases", min=0, help="Number of cases on the page. Default: 2000."),
    quality: str = QUALITY,
    replicates: int = typer.Option(
        2000, "--replicates", min=0, help="Bootstrap replicates, 100 or more; 0: no intervals."
    ),
    pdf: bool = typer.Option(False, "--pdf", help="Also print it to a PDF, by Chromium, Chrome or Edge."),
    title: str | None = typer.Option(None, "--title", help="Title of the page. Default: the run's name."),
) -> None:
    """Write the page: numbers, figures, and the images where performance and explanation disagree; or of a study."""
    from torchvice.commands.report import LATEST, check_paths, write_report
    from torchvice.report.pdf import browser_for_pdf, write_pdf
    from torchvice.report.study.recipes import is_study

    check_paths(runs, compare)
    if pdf:
        browser_for_pdf()  # before anything is computed
    with nullcontext() if is_study(runs[0]) else progress_bar("cases") as progress:
        file = write_report(
            runs,
            out,
            split=split,
            pictures=not no_images,
            folder=folder,
            most_cases=cases,
            **given(context, quality=quality, replicates=replicates),
            title=title or "",
            progress=progress,
        )
    page = file.parent if folder else file
    if out is None and page.stem.endswith(LATEST) and page.with_stem(page.stem.removesuffix(LATEST)).exists():
        say("Kept the earlier page: it has the same numbers with intervals from more replicates.")
    say(f"Written: {file}")
    if pdf:
        say(f"Written: {write_pdf(file)}")
