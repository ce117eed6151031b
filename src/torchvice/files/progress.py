"""A progress bar on the terminal or in a notebook."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["Advance", "Step", "progress_bar", "shown_progress"]

Step = Callable[[int, int], None]  # called with (done, total)


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
def progress_bar(title: str, console: Console) -> Iterator[Advance]:
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
    # In a notebook without ipywidgets rich draws no bar, and says so with the path of its own file.
    warnings.filterwarnings("ignore", message='install "ipywidgets"', category=UserWarning)
    progress = Progress(*columns, console=console)
    advance = Advance(progress, title)
    try:
        yield advance
    finally:
        if advance.started:  # stopping one that was never drawn would print an empty line
            progress.stop()


@contextlib.contextmanager
def shown_progress(
    title: str, progress: Step | bool | None, passes: Step | None
) -> Iterator[tuple[Step | None, Step | None]]:
    """Yield the functions that are called with progress: the given ones, or those of a bar.

    Args:
        title: of the bar.
        progress: a function; True: a bar on standard error; None: a bar if that is a terminal or a notebook; False:
            nothing is called.
        passes: a function; None: the second line of the bar, where there is one.
    """
    if callable(progress) or progress is False:
        yield (progress or None), passes
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if progress is None and not (console.is_terminal or console.is_jupyter):
        yield None, passes
        return
    with progress_bar(title, console) as bar:
        yield bar, passes or bar.passes
