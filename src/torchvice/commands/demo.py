"""`vice demo`: all five steps on the embedded dataset or on the user's own, down to the page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from torchvice.commands.assess import assess_subject
from torchvice.commands.draw import draw_all
from torchvice.commands.measure import measure_path, write_measures
from torchvice.commands.report import write_report
from torchvice.config import Settings, load_settings
from torchvice.errors import ViceError
from torchvice.files import check_folder_free
from torchvice.measures import Measures
from torchvice.runs import Run
from torchvice.runs.subject import subject_from_run

__all__ = ["DemoResult", "OwnData", "run_demo"]


@dataclass(frozen=True)
class DemoResult:
    """The `measures` of a demo, their `title`, and `places`, where everything lies, in words."""

    measures: Measures
    title: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class OwnData:
    """A dataset and a network of the user's: its folder, timm's name, and a file of weights (None: timm's)."""

    root: Path
    network: str
    weights: Path | None = None


def run_demo(
    out: str | os.PathLike[str],
    *,
    shortcut: int | None = None,
    own: OwnData | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
    progress_bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
) -> DemoResult:
    """Train, assess, measure and draw: on the embedded dataset, or on the user's. Finished steps are not repeated.

    Args:
        out: folder of the RUN.
        shortcut: a digit whose images carry a tell-tale stripe, see `torchvice.data.digits.write_digits`.
        own: the user's data and network, trained by the preset `finetune`; None: the embedded digits and the preset
            `demo`.
        overrides: settings of the preset, such as "trainer.epochs=2".
        say: called with one line before each step.
        progress_bar: makes a progress bar for the assessment.

    Raises:
        ViceError: settings that do not fit, splits that are missing, or an `out` that holds another run.
    """
    folder = Path(out)
    names = [f"session_name={json.dumps(folder.name)}", f"work_dir={json.dumps(str(folder.parent))}"]
    if own is None:
        settings = _digits(shortcut, [*names, *overrides])
    else:
        settings = _own(own, [*names, *overrides])
    _check_folder(settings.folder)
    say(_first_line(settings, own))
    if own is None:
        from torchvice.data.digits import write_digits

        write_digits(settings.data.root, shortcut=shortcut)
    run = _trained(settings, folder, say)
    title = "Handwritten digits" if own is None else settings.data.root
    say("2-4 assess: logits, class activation maps and their overlap with the masks, in one pass")
    subject = subject_from_run(Run(run.folder))
    with progress_bar("views") as progress:
        assess_subject(subject, progress=progress)
    say("5 measure: ECE-ML, VICE and the diagrams")
    found = measure_path(run.folder)
    write_measures(found.measures, run.measures_json)
    draw_all(found, run.figures, title)
    say("report: the page of the images where performance and explanation disagree")
    page = write_report([run.folder], title=title)
    return DemoResult(found.measures, "digits" if own is None else title, _places(run, page))


def _digits(shortcut: int | None, given: list[str]) -> Settings:
    """The settings of the preset `demo`."""
    data = [] if shortcut is None else [f"data.root=data/digits-shortcut-{shortcut}"]
    return load_settings("demo", [*given[:2], *data, *given[2:]])


def _own(own: OwnData, given: list[str]) -> Settings:
    """The settings of the preset `finetune` for the user's data and network.

    Splits that are not given are `train`, `val` and `test`; without `test`, `val` is measured, and the other way round.

    Raises:
        ViceError: a split that is needed does not exist.
    """
    from torchvice.data.open import open_layout

    splits = open_layout(own.root).splits()
    val = "val" if "val" in splits else "test"
    chosen = {"train_split": "train", "selection_split": val, "eval_split": "test" if "test" in splits else val}
    content = [f"data.{name}={split}" for name, split in chosen.items()]
    content += [f"data.root={json.dumps(str(own.root))}", f"model.name={json.dumps(own.network)}"]
    if own.weights is not None:
        content.append(f"model.weights={json.dumps(str(own.weights))}")
    settings = load_settings("finetune", [*content, *given])
    for name in chosen:
        split = getattr(settings.data, name)
        if split not in splits and not Path(split).is_file():
            held = f"has {', '.join(splits)}" if splits else "has no lists"
            raise ViceError(
                f"The demo needs a list of images called {split!r}, but {own.root} {held}.",
                f"Name another one: -o data.{name}=SPLIT."
                if splits
                else "See docs/your-data.md: a list of each split.",
            )
    return settings


def _first_line(settings: Settings, own: OwnData | None) -> str:
    """What data is used, and for what."""
    data = settings.data
    if own is None:
        return f"data: real handwritten digits on real photographs, to {data.root}"
    line = f"data: {data.root}; {data.train_split} is trained on, {data.selection_split} chooses the checkpoint, "
    line += f"{data.eval_split} is measured"
    if data.selection_split == data.eval_split:
        line += ". The numbers flatter a checkpoint that was chosen on them: -o data.selection_split=SPLIT"
    return line


def _trained(settings: Settings, folder: Path, say: Callable[[str], None]) -> Run:
    """Train, or resume a training that was stopped."""
    from torchvice.training.run import train

    say(f"1 train: {settings.model.name}, {settings.trainer.epochs} epochs")
    resume = (settings.folder / "config.yaml").is_file()
    try:
        return train(settings, resume=resume)
    except ViceError as error:
        if "lower rate" in error.way_out:
            way_out = error.way_out.replace("under another name", "in another folder")
            raise ViceError(error.message, way_out.replace("-o session_name=NAME", f"--out {folder}-2")) from None
        if not resume:
            raise
        if "session_name=" not in error.way_out:  # the name of a demo is that of its folder
            raise
        raise ViceError(error.message, f"For another run choose another folder: vice demo --out {folder}-2") from None


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ViceError(f"A run must be a folder, but {folder} is a file.", "Choose another --out.")
    check_folder_free(folder, ("config.yaml", "checkpoints", "logs", "training.lock*", "assess"), "The run")


def _places(run: Run, page: Path) -> tuple[str, ...]:
    """Where everything lies, a line each."""
    places = {"Look at the cases": page, "Pictures": run.figures, "Numbers": run.measures_json}
    return tuple(f"{name}: {place}" for name, place in {**places, "Table": run.assess_dir()}.items())
