"""What appears on the terminal: progress bars on standard error, tables and sentences on standard output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.cli.streams import visible

if TYPE_CHECKING:
    import typer
    from rich.console import Console
    from rich.table import Table

    from torchvice.explain import Method
    from torchvice.files.progress import Advance

__all__ = ["add_row", "console", "given", "number", "print_methods", "progress_bar", "say", "stopped"]

AGAIN = "What is finished is kept: run the same command again to go on."


def console(stderr: bool = False) -> Console:
    """A console that leaves numbers and paths uncoloured, and whose command goes on when nobody reads it any more."""
    return _kind()(stderr=stderr, highlight=False, soft_wrap=True)


@cache
def _kind() -> type[Console]:
    from rich.console import Console

    class Unread(Console):
        """`vice measure RUN | head` has the numbers to write: rich's own console would end the process."""

        def on_broken_pipe(self) -> None:
            """Send what follows nowhere."""
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)

    return Unread


def say(text: str = "") -> None:
    """One line for the user; square brackets mean themselves, and control characters are shown."""
    console().print(visible(text), markup=False, emoji=False)


@contextmanager
def stopped(begun: Path, way: str = AGAIN) -> Iterator[None]:
    """Say how the work inside the block goes on if it is stopped with Ctrl-C.

    Args:
        begun: a file or folder that is there if anything of it is kept.
        way: the sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        from torchvice.training.resuming import is_rank_zero

        if begun.exists() and is_rank_zero():
            console(stderr=True).print(f"Stopped. {way}", markup=False)
        raise


def add_row(table: Table, cells: Iterable[str]) -> None:
    """Add cells that are text, never markup, because names come from the data; control characters are shown."""
    from rich.text import Text

    table.add_row(*(Text(visible(cell)) for cell in cells))


def given(context: typer.Context, **values: Any) -> dict[str, Any]:
    """The values of the options that are on the command line; the others, which have their default, become None."""

    def on_the_line(name: str) -> bool:
        source = context.get_parameter_source(name)  # an enumeration of click, which typer may bring along
        return source is not None and source.name == "COMMANDLINE"

    return {name: value if on_the_line(name) else None for name, value in values.items()}


def progress_bar(title: str) -> AbstractContextManager[Advance]:
    """A bar with count, elapsed time and an estimate; yields what moves it."""
    from torchvice.files.progress import progress_bar

    return progress_bar(title, console(stderr=True))


def number(value: float, digits: int = 4) -> str:
    """A measure for people; an en dash where it is undefined."""
    from torchvice.measures.wording import decimals

    if value != value:
        return "–"
    return decimals(value, digits)


def print_methods(methods: Iterable[Method]) -> None:
    """The registry of explanation methods as a table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("method", "needs", "passes for L labels an image", "paper"):
        table.add_column(title, no_wrap=title == "method", overflow="fold")  # names are there to be copied
    for method in methods:
        table.add_row(method.name, method.needs, method.cost, method.paper)
    console().print(table)
