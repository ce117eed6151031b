"""`vice demo`: all five steps."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.tables import print_measures
from torchvice.cli.terminal import progress_bar, say

__all__ = ["demo"]


def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", help="Folder of the run."),
    shortcut: int | None = typer.Option(None, "--shortcut", min=0, max=9, help="Digit with a tell-tale stripe."),
    override: list[str] = typer.Option([], "--override", "-o", help="A setting, such as trainer.epochs=2. Repeatable."),
) -> None:
    """All five steps on the embedded dataset: data, training, maps, table, numbers and pictures."""
    from torchvice.commands.demo import run_demo

    result = run_demo(out, shortcut=shortcut, overrides=override, say=say, progress_bar=progress_bar)
    print_measures(result.measures, result.title)
    for place in result.places:
        say(place)
