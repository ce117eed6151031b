"""`vice data`: make a dataset."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.terminal import say

__all__ = ["app"]

app = typer.Typer(help="Make a dataset in the layout of VOC 2012.", no_args_is_help=True)


@app.callback()
def _only_groups() -> None:
    """Keep `vice data` a group of commands, though it has one today."""


@app.command("digits")
def digits(
    out: Path = typer.Option(..., "--out", help="Folder of the dataset; must be empty, absent, or hold the same set."),
    shortcut: int | None = typer.Option(
        None, "--shortcut", min=0, max=9, help="Stamp a stripe into the corner of most images with this digit."
    ),
    single: bool = typer.Option(
        False, "--single", help="One digit an image: classes that exclude each other, to train with data.exclusive."
    ),
    train: int = typer.Option(3000, "--train", min=1, help="Images to train on."),
    val: int = typer.Option(400, "--val", min=1, help="Images that choose the checkpoint."),
    test: int = typer.Option(600, "--test", min=1, help="Images that are measured."),
    size: int = typer.Option(96, "--size", min=32, help="Shortest long side of an image, pixels."),
    seed: int = typer.Option(2022, "--seed", min=0, help="The same seed gives the same bytes."),
) -> None:
    """The embedded dataset: real handwritten digits pasted on real photographs, with masks; nothing is downloaded."""
    from torchvice.data.digits import write_digits

    folder = write_digits(out, train=train, val=val, test=test, size=size, seed=seed, shortcut=shortcut, single=single)
    say(f"{folder}: {train} training, {val} validation and {test} test images of ten digits.")
