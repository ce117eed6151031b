"""`vice export`: a table in the formats of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from torchvice.cli.terminal import progress_bar, say

__all__ = ["app"]

app = typer.Typer(help="A table in the formats of other tools.", no_args_is_help=True)


class Media(StrEnum):
    """What becomes of the pictures."""

    copy = "copy"
    link = "link"
    reference = "reference"


@app.command("fiftyone")
def fiftyone(
    run: Path = typer.Argument(..., help="A RUN that was assessed, or a table's folder."),
    out: Path = typer.Option(..., "--out", help="The dataset's folder, new or empty."),
    split: str | None = typer.Option(None, "--split", help="Of a RUN that was assessed on several."),
    media: Media = typer.Option(
        Media.copy, "--media", help="The pictures: a copy, a symbolic link, or a reference to where they lie."
    ),
    no_masks: bool = typer.Option(
        False, "--no-masks", help="Neither masks nor boxes; with --media reference not a pixel of the data is written."
    ),
    explanation: list[str] = typer.Option(
        [], "--explanation", help="A further one of the table, such as strict:center; may come several times."
    ),
) -> None:
    """A dataset that FiftyOne opens: pictures, labels, masks and maps, with their loss and IoU as fields."""
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
