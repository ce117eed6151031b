"""`vice demo`: all five steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from torchvice.cli.tables import print_measures
from torchvice.cli.terminal import progress_bar, say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.commands.demo import OwnData

__all__ = ["demo"]


def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", help="Folder of the run."),
    shortcut: int | None = typer.Option(None, "--shortcut", min=0, max=9, help="Digit with a tell-tale stripe."),
    data: Path | None = typer.Option(
        None, "--data", help="Your own dataset, in the layout of VOC 2012. Needs --model."
    ),
    model: str | None = typer.Option(None, "--model", help="timm's name of the network to fine-tune on --data."),
    weights: Path | None = typer.Option(
        None,
        "--weights",
        help="File with pretrained weights of --model. Default: timm's, from its cache or by download.",
    ),
    override: list[str] = typer.Option([], "--override", "-o", help="A setting, such as trainer.epochs=2. Repeatable."),
) -> None:
    """All five steps on the embedded dataset, or on your own: training, maps, table, numbers and pictures."""
    own = _own(data, model, weights, shortcut)
    from torchvice.commands.demo import run_demo

    result = run_demo(out, shortcut=shortcut, own=own, overrides=override, say=say, progress_bar=progress_bar)
    print_measures(result.measures, result.title)
    for place in result.places:
        say(place)


def _own(data: Path | None, model: str | None, weights: Path | None, shortcut: int | None) -> OwnData | None:
    """The user's data and network; None: the embedded dataset."""
    from torchvice.commands.demo import OwnData

    if data is None:
        for name, value in {"--model": model, "--weights": weights}.items():
            if value is not None:
                raise ViceError(
                    f"{name} goes with --data, which is not given: the embedded digits have a network of their own.",
                    "Give your dataset: --data DIR.",
                )
        return None
    if model is None:
        raise ViceError("--data needs a network, but --model is not given.", "For example --model resnet50.")
    if shortcut is not None:
        raise ViceError("--shortcut plants a stripe in the embedded digits, but --data is given too.", "Remove one.")
    return OwnData(data, model, weights)
