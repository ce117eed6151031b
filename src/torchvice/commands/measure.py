"""`vice measure`: the numbers of a RUN, a table or a CSV."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.commands.tables import load_samples, refuse_without_effect, table_folder
from torchvice.errors import ViceError
from torchvice.files import write_json

if TYPE_CHECKING:
    from torchvice.measures import Measures
    from torchvice.samples import Samples

__all__ = [
    "Measured",
    "kept_because",
    "measure_path",
    "measures_file",
    "read_limits",
    "shortcut_sentences",
    "write_legacy_table",
    "write_measures",
]


@dataclass(frozen=True)
class Measured:
    """The result of `vice measure`: `measures`; the table `samples` or the `csv`; a `title`; the `path` measured.

    Results are written to `home`: the RUN for the split that its settings measure, so that its measures.json is always
    of that split; the folder of the table, assess/SPLIT, for another split; the path without suffix for a CSV.
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
    num_classes: int | None = None,
    *,
    quality: str | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    calibrate_on: str | os.PathLike[str] | None = None,
) -> Measured:
    """Measure a RUN, a folder of shards, or a CSV of the original implementation.

    Args:
        path: a RUN (its `split`, or the only one assessed), a folder with a manifest.json, or a .csv file.
        split: split of a RUN.
        num_classes: number of classes of a CSV, see `torchvice.measures.measure_table`.
        quality, replicates, seed: see `torchvice.measure`, whose defaults take the place of None.
        calibrate_on: a split of the RUN or the folder of a table, see `torchvice.measure`.

    Raises:
        ViceError: another file or folder, a RUN that was not assessed, or an argument that has no effect on the path.
    """
    from torchvice.measures import measure
    from torchvice.samples import Samples

    path = Path(path)
    if path.is_file():
        # A CSV has no intervals: no replicates are what it has.
        given = {"split": split, "quality": quality, "calibrate_on": calibrate_on, "replicates": replicates or None}
        return _measure_csv(path, num_classes, {**given, "seed": seed})
    folder = table_folder(path, split)
    samples = Samples.load(folder)
    fitted_on = None if calibrate_on is None else _other_samples(path, calibrate_on)
    if num_classes != len(samples.classes):
        refuse_without_effect(f"a table of {len(samples.classes)} classes", folder, classes=num_classes)
    statistics: dict[str, Any] = {"quality": quality, "replicates": replicates, "seed": seed}
    statistics = {name: value for name, value in statistics.items() if value is not None}
    measures = measure(samples, **statistics, calibrate_on=fitted_on)
    if fitted_on is not None and _trained_on(path, folder, fitted_on):
        measures.notes["scaling"] = (
            "The scalings are fitted on the training split, where the model is surer than on new images: they correct "
            "too little. Give another split to --calibrate-on."
        )
    return Measured(measures, samples, _readable(path.name), _home(path, folder), path)


def _measure_csv(path: Path, num_classes: int | None, given: dict[str, Any]) -> Measured:
    """Measure a CSV; `given` are the arguments that have no effect on it."""
    from torchvice.interop import read_table
    from torchvice.measures import measure_table

    if path.suffix.lower() != ".csv":
        raise ViceError(f"A measured file must be a .csv table, but is {path}.", "Give a RUN or a table's folder.")
    refuse_without_effect("a CSV of the original", path, **given)
    table = read_table(path)
    return Measured(measure_table(table, num_classes), None, _readable(path.stem), path.with_suffix(""), path, table)


def _readable(name: str) -> str:
    """A file name for titles, with question marks for what is not valid UTF-8, because no font can show it."""
    return name.encode(errors="replace").decode()


def _home(path: Path, table: Path) -> Path:
    """The folder of the results: `path`, or the folder of the table if the RUN's settings measure another split."""
    if table == path:
        return path
    from torchvice.runs import Run

    try:
        measured = Run(path).assess_dir()
    except ViceError:  # unreadable settings, which are not needed here
        return path
    return path if table.name == measured.name else table


def _other_samples(path: Path, folder_or_split: str | os.PathLike[str]) -> Samples:
    """The table to calibrate on: a split of the same RUN, else the folder of a table or another RUN."""
    folder, split = Path(folder_or_split), str(folder_or_split)
    own = {manifest.parent.name for manifest in path.glob("assess/*/manifest.json")}
    parts = ("manifest.json", "config.yaml", "assess")  # of a table and of a RUN
    if split.removesuffix(".txt") not in own and any((folder / part).exists() for part in parts):
        return load_samples(folder)
    if (path / "manifest.json").is_file():
        raise ViceError(
            f"--calibrate-on must be the folder of a table where {path} is one, but {folder} is not one.",
            "Give a table of the same model on another split, or a RUN in place of the table.",
        )
    return load_samples(path, split)


def _trained_on(path: Path, table: Path, samples: Samples) -> bool:
    """Whether a table is of the split that the RUN was trained on, by the RUN's settings."""
    from torchvice.runs import Run

    split = samples.manifest["dataset"].get("split")
    for folder in (path, table.parent.parent):
        try:
            trained_on = Run(folder).settings.data.train_split
        except ViceError:
            continue
        return split is not None and Path(split).name.removesuffix(".txt") == Path(trained_on).name.removesuffix(".txt")
    return False


def read_limits(texts: Sequence[str]) -> Callable[[Measures], list[str]]:
    """Parse `--fail-under` texts such as "vice=0.3" into a check that returns a sentence for every lower measure.

    A name without a section belongs to `strict`.

    Raises:
        ViceError: a text of another form, or an unknown measure; when called, a measure that the table does not have.
    """
    from torchvice.measures.catalogue import measure_of
    from torchvice.measures.wording import decimals, decimals_between

    limits = []
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            limits.append((name if "." in name else f"strict.{name}", float(value)))
        except ValueError:
            equals = ""
        if not equals or not name or np.isnan(limits[-1][1]):
            raise ViceError(f"--fail-under must be MEASURE=VALUE, but is {text!r}.", "Example: --fail-under vice=0.3.")
        measure_of(limits[-1][0])

    def lower_measures(measures: Measures) -> list[str]:
        values = [(path, measures.value(path), limit) for path, limit in limits]
        return [
            f"{path} must be at least {limit:g}, but is "
            f"{'undefined' if np.isnan(value) else decimals(value, decimals_between(value, limit, 4))}."
            for path, value, limit in values
            if not value >= limit
        ]

    return lower_measures


def shortcut_sentences(measures: Measures) -> list[str]:
    """Why `--fail-if shortcut` fails: a class stands out, or none could be tested; else empty."""
    verdict = measures.verdict
    if verdict.stands_out:
        names = dict.fromkeys(row["class"] for row in verdict.stands_out)
        return [f"No class must stand out (--fail-if shortcut), but these do: {', '.join(names)}."]
    if not verdict.power.get("classes"):
        return ["A class must be tested (--fail-if shortcut), but none could be: see the verdict."]
    return []


def measures_file(home: Path, quality: str = "ji") -> Path:
    """The file of the numbers in a folder: another quality has its own, so that the headline's numbers stay."""
    return home / ("measures.json" if quality == "ji" else f"measures_{quality}.json")


def write_measures(measures: Measures, path: str | os.PathLike[str]) -> Path:
    """Write the JSON of `vice measure --json`."""
    return write_json(path, measures.to_json())


def kept_because(measures: Measures, path: Path) -> str:
    """Why the numbers in a file must not be replaced: they are of the same table, and hold more; else empty.

    Args:
        measures: the new numbers.
        path: the file; it may be missing or hold anything.
    """
    from torchvice.measures.catalogue import OF_A_TABLE

    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        new = json.loads(json.dumps(measures.to_json()))
        if any(old[section] != new[section] for section in OF_A_TABLE):
            return ""
        before, now = (content["source"]["inference"]["replicates"] for content in (old, new))
        if before > now:
            return f"its intervals are from {before} replicates, these are from {now}"
        scaled = old["scaling"] and not new["scaling"]
        return "it holds the calibration after scaling, which these numbers lack" if scaled else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def write_legacy_table(measured: Measured, path: str | os.PathLike[str]) -> Path:
    """Write the original's table for `vice measure --write-csv`: the `paper` rows, or the CSV that was read."""
    from torchvice.interop import write_table
    from torchvice.measures.legacy import legacy_table

    return write_table(path, measured.csv if measured.samples is None else legacy_table(measured.samples))
