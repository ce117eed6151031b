"""What appears on the terminal: progress bars on standard error, tables and sentences on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torchvice.cli.streams import visible

if TYPE_CHECKING:
    import typer
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from torchvice.explain import Method

__all__ = ["Advance", "add_row", "console", "given", "number", "print_methods", "progress_bar", "say"]


def console(stderr: bool = False) -> Console:
    """A console that leaves numbers and paths uncoloured."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """One line for the user; square brackets mean themselves, and control characters are shown."""
    console().print(visible(text), markup=False, emoji=False)


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


class Advance:
    """Moves a bar, called with (done, total); `passes` moves a second one beneath it while there are any left."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, title
        self._task: TaskID | None = None
        self._passes: TaskID | None = None

    @property
    def started(self) -> bool:
        """Whether a bar was drawn."""
        return bool(self._progress.tasks)

    def __call__(self, done: int, total: int) -> None:
        if self._task is None:  # nothing is drawn above the error of a command that does not begin
            self._task = self._progress.add_task(self._title, total=total)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def passes(self, done: int, total: int) -> None:
        """Passes of the batch at hand, of the methods that need many."""
        if self._passes is None:
            self._progress.start()
            self._passes = self._progress.add_task("  passes of this batch", total=total)
        self._progress.update(self._passes, completed=done, total=total, visible=done < total)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """A bar with count, elapsed time and an estimate; yields what moves it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console(stderr=True))
    advance = Advance(progress, title)
    try:
        yield advance
    finally:
        if advance.started:  # stopping one that was never drawn would print an empty line
            progress.stop()


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
