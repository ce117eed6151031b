"""`vice weights`: what a checkpoint of a pre-training holds, and its conversion to a file that nothing can hide in."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.terminal import say
from torchvice.errors import ViceError

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
    override: list[str] = typer.Option(
        [],
        "--override",
        "-o",
        help="The network as vice train is told: model.arguments.channels=[16,32,64,128]; may come several times.",
    ),
) -> None:
    """Say how a checkpoint was pre-trained, how much of a network it fills, what is left of it and what stays new."""
    from torchvice.config import load_settings
    from torchvice.models.pretraining import inspect_weights

    other = [text for text in override if not text.startswith(("model.", "model="))]
    if other:
        raise ViceError(f"Of the settings only those of the model count here, but {other[0]!r} is none.")
    # Any preset will do: all of its network is taken off again.
    chosen = load_settings("resnet50", ["model={name: '', arguments: null}", *override]).model
    name = model or chosen.name or None
    if chosen.arguments and name is None:
        raise ViceError("Arguments need the network that they are for.", "Name it: --model resnet18.")
    asked = chosen.scheme if scheme == "auto" else scheme
    say(str(inspect_weights(file, name, chosen.arguments, asked)))


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
