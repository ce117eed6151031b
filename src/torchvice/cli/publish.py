"""`vice publish`: numbers and data in the formats of the Hugging Face Hub, timm and Croissant."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer

from torchvice.cli.terminal import say

__all__ = ["publish"]


class PublishedForm(StrEnum):
    """The formats."""

    hub = "hub"
    model_index = "model-index"
    timm_csv = "timm-csv"
    croissant = "croissant"
    json = "json"


def publish(
    run: Path = typer.Argument(..., help="Run folder or folder of a table."),
    to: PublishedForm = typer.Option(..., "--to", help="Format."),
    out: Path | None = typer.Option(None, "--out", help="Folder of the files. Default: publish/ in the run."),
    split: str | None = typer.Option(None, "--split", help="Split, if the run was assessed on several."),
    dataset_id: str | None = typer.Option(None, "--dataset-id", help="Of hub: the dataset's repository, OWNER/NAME."),
    name: str | None = typer.Option(None, "--name", help="Name of the model, or with croissant of the dataset."),
    replicates: int = typer.Option(
        2000, "--replicates", min=0, help="Bootstrap replicates, 100 or more; 0: no intervals."
    ),
    seed: int = typer.Option(0, "--seed", help="Seed of the bootstrap."),
) -> None:
    """Write the numbers for the Hugging Face Hub or timm, or the data's description in Croissant. Uploads nothing."""
    from torchvice.commands.publish import publish as write_files

    files = write_files(
        run, to.value, out, split=split, dataset_id=dataset_id, name=name, replicates=replicates, seed=seed
    )
    say(f"Written: {', '.join(map(str, files))}")
