"""`vice measure`: the numbers of a RUN, a table or a CSV."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.commands.tables import load_samples, table_folder
from torchvice.errors import ViceError
from torchvice.files import write_json

if TYPE_CHECKING:
    from torchvice.measures import Measures
    from torchvice.samples import Samples

__all__ = ["Measured", "measure_path", "read_limits", "write_legacy_table", "write_measures"]


@dataclass(frozen=True)
class Measured:
    """What `vice measure` found: `measures`; the table or CSV; a `title`; the folder where results belong.

    `home` is the RUN for the split that it measures, so that measures.json in it is always of that one; the table's own
    folder, assess/SPLIT, for any other split; of a CSV its path without the ending. `path` is what was measured.
    """

    measures: Measures
    samples: Samples | None
    title: str
    home: Path
    path: Path
    csv: Any = None


def measure_path(
    path: str | os.PathLike[str],
    split: str | None = None,
    num_classes: int = 20,
    *,
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
    calibrate_on: str | os.PathLike[str] | None = None,
) -> Measured:
    """Measure a RUN, a folder of shards, or a CSV of the original implementation.

    Args:
        path: a RUN (its `split`, or the only one assessed), a folder with a manifest.json, or a .csv file.
        split: of a RUN.
        num_classes: of a CSV, which does not say.
        quality, replicates, seed: see `torchvice.measure`.
        calibrate_on: a split of the RUN or a table's folder, see `torchvice.measure`.

    Raises:
        ViceError: none of these, or a RUN that was not assessed.
    """
    from torchvice.interop import read_table
    from torchvice.measures import measure, measure_table
    from torchvice.samples import Samples

    path = Path(path)
    if path.is_file():
        if path.suffix.lower() != ".csv":
            way_out = "Name a RUN or a table's folder."
            raise ViceError(f"A file that is measured must be a .csv table, but is {path}.", way_out)
        table = read_table(path)
        return Measured(
            measure_table(table, num_classes), None, _readable(path.stem), path.with_suffix(""), path, table
        )
    folder = table_folder(path, split)
    samples = Samples.load(folder)
    fitted_on = None if calibrate_on is None else _other_samples(path, calibrate_on)
    measures = measure(samples, quality=quality, replicates=replicates, seed=seed, calibrate_on=fitted_on)
    return Measured(measures, samples, _readable(path.name), _home(path, folder), path)


def _readable(name: str) -> str:
    """A file's name for titles, with a question mark for what is no UTF-8: no font has half a character."""
    return name.encode(errors="replace").decode()


def _home(path: Path, table: Path) -> Path:
    """Where results belong: in what was named, but those of another split than a RUN measures beside their table."""
    from torchvice.runs import Run

    try:
        measured = Run(path).assess_dir()
    except ViceError:  # a table's folder, or settings that cannot be read, which are not asked for
        return path
    return path if table.name == measured.name else table


def _other_samples(path: Path, named: str | os.PathLike[str]) -> Samples:
    """The table that another one is calibrated on: a folder, or a split of the same RUN."""
    if Path(named).is_dir():
        return load_samples(named)
    return load_samples(path, str(named))


def read_limits(texts: Sequence[str]) -> Callable[[Measures], list[str]]:
    """`--fail-under`: from "vice=0.3" texts a check that gives a sentence for every measure that is lower.

    A name without a section is one of `strict`.

    Raises:
        ViceError: a text of another form, or a name that is no measure; when checked, one that the table does not hold.
    """
    from torchvice.measures.sheet import check_path

    limits = []
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            limits.append((name if "." in name else f"strict.{name}", float(value)))
        except ValueError:
            equals = ""
        if not equals or not name or np.isnan(limits[-1][1]):
            raise ViceError(f"--fail-under must be MEASURE=VALUE, but is {text!r}.", "Such as --fail-under vice=0.3.")
        check_path(limits[-1][0])

    def missed(measures: Measures) -> list[str]:
        found = [(path, measures.value(path), limit) for path, limit in limits]
        return [
            f"{path} must be at least {limit:g}, but is {'undefined' if np.isnan(value) else f'{value:.4f}'}."
            for path, value, limit in found
            if not value >= limit
        ]

    return missed


def write_measures(measures: Measures, path: str | os.PathLike[str]) -> Path:
    """`vice measure --json`."""
    return write_json(path, measures.to_json())


def write_legacy_table(found: Measured, path: str | os.PathLike[str]) -> Path:
    """`vice measure --write-csv`: the original's table, from the table's `paper` rows or from the CSV that was read."""
    from torchvice.interop import write_table
    from torchvice.measures.legacy import legacy_table

    return write_table(path, found.csv if found.samples is None else legacy_table(found.samples))
