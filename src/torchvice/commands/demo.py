"""`vice demo`: all five steps on the embedded dataset, down to the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from torchvice.commands.assess import assess_subject
from torchvice.commands.draw import draw_all
from torchvice.commands.measure import measure_path, write_measures
from torchvice.commands.report import write_report
from torchvice.config import load_settings
from torchvice.errors import ViceError
from torchvice.measures import Measures
from torchvice.runs import Run
from torchvice.runs.subject import subject_from_run

__all__ = ["DemoResult", "run_demo"]


@dataclass(frozen=True)
class DemoResult:
    """The `measures` of a demo, their `title`, and `places`, where everything lies, in words."""

    measures: Measures
    title: str
    places: tuple[str, ...]


def run_demo(
    out: str | os.PathLike[str],
    *,
    shortcut: int | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
    progress_bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
) -> DemoResult:
    """Write the embedded dataset, train on it, assess, measure and draw. Finished steps are not repeated.

    Args:
        out: folder of the RUN.
        shortcut: a digit whose images carry a tell-tale stripe, see `torchvice.data.digits.write_digits`.
        overrides: settings of the `demo` preset, such as "trainer.epochs=2".
        say: called with one line before each step.
        progress_bar: makes a progress bar for the assessment.

    Raises:
        ViceError: settings that do not fit, or an `out` that holds another run.
    """
    from torchvice.data.digits import write_digits
    from torchvice.training.run import train

    folder = Path(out)
    names = [f"session_name={folder.name}", f"work_dir={folder.parent}"]
    if shortcut is not None:
        names.append(f"data.root=data/digits-shortcut-{shortcut}")
    settings = load_settings("demo", [*names, *overrides])
    _check_folder(settings.folder)
    say(f"data: real handwritten digits on real photographs, to {settings.data.root}")
    write_digits(settings.data.root, shortcut=shortcut)
    say(f"1 train: {settings.model.name}, {settings.trainer.epochs} epochs")
    resume = (settings.folder / "config.yaml").is_file()
    try:
        run = train(settings, resume=resume)
    except ViceError as error:
        if not resume:
            raise
        raise ViceError(error.message, f"For another run choose another folder: vice demo --out {folder}-2") from None
    say("2-4 assess: logits, class activation maps and their overlap with the masks, in one pass")
    subject = subject_from_run(Run(run.folder))
    with progress_bar("views") as progress:
        assess_subject(subject, progress=progress)
    say("5 measure: ECE-ML, VICE and the diagrams")
    found = measure_path(run.folder)
    write_measures(found.measures, run.measures_json)
    draw_all(found, run.figures, "Handwritten digits")
    say("report: the page of the images where performance and explanation disagree")
    page = write_report([run.folder], title="Handwritten digits")
    return DemoResult(found.measures, "digits", _places(run, page))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ViceError(f"A run must be a folder, but {folder} is a file.", "Choose another --out.")


def _places(run: Run, page: Path) -> tuple[str, ...]:
    """Where everything lies, a line each."""
    places = {"Look at the cases": page, "Pictures": run.figures, "Numbers": run.measures_json}
    return tuple(f"{name}: {place}" for name, place in {**places, "Table": run.assess_dir()}.items())
