"""What appears on the terminal: progress bars on standard error, tables and sentences on standard output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from torchvice.explain import Method
    from torchvice.measures import Measures

__all__ = ["number", "print_measures", "print_methods", "progress_bar", "say"]


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
    return "–" if value != value else f"{value:.{digits}f}"


def print_methods(methods: Iterable[Method]) -> None:
    """The registry of explanation methods as a table."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("method", "needs", "passes for L labels an image", "paper"):
        table.add_column(title)
    for method in methods:
        table.add_row(method.name, method.needs, method.cost, method.paper)
    console().print(table)


_ROWS = (
    ("VICE", "paper.vice", "strict.vice"),
    ("ECE-ML", "paper.ece_ml", "strict.ece_ml"),
    ("ML-accuracy", "paper.ml_accuracy", "strict.ml_accuracy"),
    ("F1", "paper.f1", "strict.f1"),
    ("mAP", "classification.mean_average_precision", "strict.mean_average_precision"),
    ("JI score", "paper.ji", "strict.ji"),
    ("best mIoU", "localisation.best_mean_iou", "localisation.strict_best_mean_iou"),
    ("at threshold", "localisation.best_threshold", "localisation.strict_best_threshold"),
    ("KL", "paper.kl", ""),
    ("JS", "paper.js", ""),
    ("CP / CR / CF1", "classification.cp classification.cr classification.cf1", ""),
    ("OP / OR / OF1", "classification.op classification.or classification.of1", ""),
)


def print_measures(measures: Measures, title: str) -> None:
    """The measures of both protocols side by side, then what was left out and what is undefined, with the reasons."""
    from rich.table import Table

    table = Table(title=f"{title} · {measures.images} images", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("paper", justify="right")
    table.add_column("strict", justify="right")
    for name, *paths in _ROWS:
        cells = [" / ".join(number(_value(measures, path)) for path in cell.split()) for cell in paths]
        if any(cell.strip("–/ ") for cell in cells):
            table.add_row(name, *cells)
    console().print(table)
    for reason, count in measures.excluded.items():
        say(f"  {count} {reason}")
    by_reason: dict[str, list[str]] = {}
    for path, reason in measures.undefined.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 3} more" if len(paths) > 4 else ""
        say(f"  undefined: {', '.join(paths[:3] if more else paths)}{more}. {reason}")


def _value(measures: Measures, path: str) -> float:
    section, name = path.split(".")
    value: float = getattr(measures, section)[name]
    return value
