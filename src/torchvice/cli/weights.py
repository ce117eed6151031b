"""`vice weights`: what a checkpoint of a pre-training holds, and its conversion to a file that nothing can hide in."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.terminal import say

__all__ = ["app"]

app = typer.Typer(help="Look into a checkpoint of a pre-training, or convert it.", no_args_is_help=True)

SCHEME = typer.Option(
    "auto", "--scheme", help="auto: told by the keys; else as model.scheme: moco_v3_momentum, byol ..."
)


@app.command("inspect")
def inspect(
    file: Path = typer.Argument(..., help="A checkpoint as its authors publish it."),
    model: str | None = typer.Option(None, "--model", help="timm's name of the network; else the closest usual one."),
    scheme: str = SCHEME,
) -> None:
    """Say how a checkpoint was pre-trained, how much of a network it fills, what is left of it and what stays new."""
    from torchvice.models.pretraining import inspect_weights

    say(str(inspect_weights(file, model, scheme=scheme)))


@app.command("convert")
def convert(
    file: Path = typer.Argument(..., help="A checkpoint; also DINO's full ones and BYOL's pickles."),
    out: Path = typer.Argument(..., help="The file to write, .safetensors."),
    scheme: str = SCHEME,
) -> None:
    """Take the encoder out of a checkpoint, under timm's names. Nothing in the file is run."""
    from torchvice.models.pretraining import convert_weights

    encoder = convert_weights(file, out, scheme)
    say(f"{out}: {len(encoder.tensors)} tensors of {encoder.scheme}, {len(encoder.left)} left.")
