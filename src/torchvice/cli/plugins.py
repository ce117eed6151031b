"""`--plugin FILE`: methods of the user's own, known to a command before it uses its other options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from torchvice.cli.terminal import print_methods

__all__ = ["PLUGIN", "list_methods", "load_plugins"]


def load_plugins(files: Sequence[Path]) -> None:
    """Register the methods of every file.

    Raises:
        ViceError: see `torchvice.assessment.plugins.load_plugin`.
    """
    if files:
        from torchvice.assessment.plugins import load_plugin

        for file in files:
            load_plugin(file)


def list_methods(context: typer.Context, wanted: bool) -> None:
    """Print all methods and end, if wanted: the callback of an eager option."""
    if wanted:
        context.meta[_WANTED] = True
        _print_after_both(context)


def _keep(context: typer.Context, files: list[Path]) -> list[Path]:
    context.meta[_FILES] = files
    _print_after_both(context)
    return files


def _print_after_both(context: typer.Context) -> None:
    """Print once both options were seen, which may come in any order."""
    if context.meta.get(_WANTED) and _FILES in context.meta:
        load_plugins(context.meta[_FILES])
        from torchvice.explain import METHODS

        print_methods(METHODS.values())
        raise typer.Exit


_WANTED, _FILES = "torchvice.list_methods", "torchvice.plugins"
PLUGIN = typer.Option(
    [],
    "--plugin",
    rich_help_panel="Maps",
    callback=_keep,
    is_eager=True,
    help="Python file that registers methods with @torchvice.explain.method; it is run. Repeatable.",
)
