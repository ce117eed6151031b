"""`vice weights`: inspect a checkpoint of a pre-training, or convert it to safetensors."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.terminal import say
from torchvice.errors import ViceError

__all__ = ["app"]

app = typer.Typer(help="Inspect a checkpoint of a pre-training, or convert it.", no_args_is_help=True)

SCHEME = typer.Option(
    "auto", "--scheme", help="Scheme of the pre-training, such as byol or moco_v3_momentum; auto: by the keys."
)


@app.command("inspect")
def inspect(
    file: Path = typer.Argument(..., help="Checkpoint as its authors publish it."),
    model: str | None = typer.Option(
        None,
        "--model",
        help="Network in timm. Default: that of the RUN that the checkpoint is in, else the closest common one.",
    ),
    scheme: str = SCHEME,
    override: list[str] = typer.Option(
        [],
        "--override",
        "-o",
        help="Setting of the network, such as model.arguments.channels=[16,32,64,128]. Repeatable.",
    ),
) -> None:
    """Report how a checkpoint was pre-trained, and which parameters of a network it fills."""
    from torchvice.config import load_settings
    from torchvice.models.pretraining import inspect_weights
    from torchvice.runs import Run

    other = [text for text in override if not text.startswith(("model.", "model="))]
    if other:
        raise ViceError(f"Only settings of the model apply here, but {other[0]!r} is another one.")
    home = file.resolve().parent
    in_run = home.name == "checkpoints" and (home.parent / "config.yaml").is_file()
    if in_run and not (model or override):
        chosen = Run(home.parent).settings.model
    else:  # any preset will do: its network is removed
        chosen = load_settings("resnet50", ["model={name: '', arguments: null}", *override]).model
    name = model or chosen.name or None
    if chosen.arguments and name is None:
        raise ViceError("Arguments need a network.", "Name it: --model resnet18.")
    scheme = chosen.scheme if scheme == "auto" else scheme
    say(str(inspect_weights(file, name, chosen.arguments, scheme)))


@app.command("convert")
def convert(
    file: Path = typer.Argument(..., help="Checkpoint, including DINO's full ones and BYOL's pickles."),
    out: Path = typer.Argument(..., help="File to write, .safetensors."),
    scheme: str = SCHEME,
) -> None:
    """Extract the encoder of a checkpoint, under timm's names. No code in the file is run."""
    from torchvice.models.pretraining import convert_weights, note_of

    encoder = convert_weights(file, out, scheme)
    say(f"{out}: {len(encoder.tensors)} tensors of {encoder.scheme}, {len(encoder.left)} left.")
    if note := note_of(encoder):
        say(note)
