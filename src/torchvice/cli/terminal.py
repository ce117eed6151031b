"""What appears on the terminal: progress bars on standard error, tables and sentences on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from torchvice.explain import Method

__all__ = ["console", "number", "print_methods", "progress_bar", "say"]


def console(stderr: bool = False) -> Console:
    """A console that leaves numbers and paths uncoloured."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """One line for the user; square brackets mean themselves."""
    console().print(text, markup=False)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with count, elapsed time and an estimate; yields `advance(done, total)`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def number(value: float, digits: int = 4) -> str:
    """A measure for people; an en dash where it is undefined."""
    if value != value:
        return "–"
    text = f"{value:.{digits}f}"
    return text if text.strip("-0.") else text.lstrip("-")  # no negative zero


def print_methods(methods: Iterable[Method]) -> None:
    """The registry of explanation methods as a table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("method", "needs", "passes for L labels an image", "paper"):
        table.add_column(title)
    for method in methods:
        table.add_row(method.name, method.needs, method.cost, method.paper)
    console().print(table)
