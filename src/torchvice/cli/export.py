"""`vice export`: a table in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from torchvice.cli.terminal import progress_bar, say

__all__ = ["app"]

app = typer.Typer(help="Export a table to the formats of other tools.", no_args_is_help=True)


class Media(StrEnum):
    """How pictures are included."""

    copy = "copy"
    link = "link"
    reference = "reference"


@app.command("fiftyone")
def fiftyone(
    run: Path = typer.Argument(..., help="Run folder or folder of a table."),
    out: Path = typer.Option(..., "--out", help="Folder of the dataset, new or empty."),
    split: str | None = typer.Option(None, "--split", help="Split to export, if the run was assessed on several."),
    media: Media = typer.Option(Media.copy, "--media", help="How pictures are included."),
    no_masks: bool = typer.Option(False, "--no-masks", help="Leave out masks and boxes."),
    explanation: list[str] = typer.Option([], "--explanation", help="Explanation to add: strict:center. Repeatable."),
) -> None:
    """Write a FiftyOne dataset: pictures, labels, masks and maps, with loss and IoU as fields."""
    from torchvice.fiftyone import write_fiftyone

    with progress_bar("images") as progress:
        count = write_fiftyone(
            run,
            out,
            split=split,
            media=media.value,
            masks=not no_masks,
            explanations=explanation,
            progress=progress,
        )
    say(f"{out}: {count} samples written. FiftyOne reads them as fiftyone.types.FiftyOneDataset.")
