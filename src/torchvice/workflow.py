"""Workflow: what a command does with a RUN, a table or a file; the joints between the rooms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.files import write_json

if TYPE_CHECKING:
    from torchvice.data import VocDataset
    from torchvice.measures import Comparison, Measures
    from torchvice.samples import Samples
    from torchvice.subjects import Subject

__all__ = [
    "Measured",
    "assess_subject",
    "check_names",
    "compare_paths",
    "draw_all",
    "draw_cases",
    "draw_comparison",
    "draw_measures",
    "explain_subject",
    "load_samples",
    "measure_path",
    "read_limits",
    "write_legacy_table",
    "write_measures",
]

Progress = Callable[[int, int], None]


def check_names(
    method: str,
    layer: str | None,
    choices: Sequence[str],
    device: str,
    protocols: Sequence[str],
    controls: bool | Sequence[str] | None = None,
    also: Sequence[str] = (),
    faithfulness: Sequence[str] = (),
) -> None:
    """Tell what can be told of the arguments of `assess_subject` and `explain_subject` before a model is built.

    Raises:
        ViceError: see `torchvice.assessment.check_asked`.
    """
    from torchvice.assessment.asked import check_asked
    from torchvice.explain import Choices, FaithfulnessChoices

    check_asked(
        protocols,
        method=method,
        layer=layer,
        choices=Choices.parse(choices),
        controls=controls or False,
        also=also,
        faithful=FaithfulnessChoices.parse(faithfulness) if faithfulness else None,
        device=device,
    )


def _how(subject: Subject, method: str, layer: str | None, choices: Sequence[str], device: str) -> dict[str, Any]:
    """The arguments that `assess` and `write_map_files` have in common."""
    from torchvice.explain import Choices

    return {
        "method": method,
        "layer": layer,
        "class_map": subject.class_map,
        "choices": Choices.parse(choices),
        "view_size": subject.view_size,
        "crop": subject.crop,
        "mean": subject.mean,
        "std": subject.std,
        "batch_size": subject.batch_size,
        "device": device,
    }


def assess_subject(
    subject: Subject,
    *,
    protocols: Sequence[Any] = ("paper", "strict"),
    method: str = "auto",
    layer: str | None = None,
    choices: Sequence[str] = (),
    controls: bool | Sequence[str] | None = None,
    also: Sequence[str] = (),
    faithfulness: Sequence[str] = (),
    device: str = "auto",
    workers: int = 2,
    targets: Any = None,
    part: Any = None,
    progress: Progress | None = None,
    passes: Progress | None = None,
) -> Samples:
    """Steps 2 to 4 in one pass, see `torchvice.assess`.

    `choices` are texts, see `torchvice.explain.Choices.parse`, and so is `faithfulness`, see
    `torchvice.explain.FaithfulnessChoices.parse`; `controls` None: those that the table has, where it is begun already;
    all of a new one, where `strict` is assessed. (`torchvice.assess` has none unless they are asked for.)

    Raises:
        ViceError: see `torchvice.assess`; before it begins, files of the dataset that cannot be used, see
            `torchvice.data.check_files`.
    """
    from torchvice.assessment import WHOLE, assess
    from torchvice.data.check import check_files
    from torchvice.explain import FaithfulnessChoices

    check_files(subject.dataset)
    if controls is None:
        controls = _controls_of(subject.out) if "strict" in protocols else False
    return assess(
        subject.model,
        subject.dataset,
        out=subject.out,
        protocols=protocols,
        workers=workers,
        targets=targets,
        controls=controls,
        also=also,
        faithfulness=FaithfulnessChoices.parse(faithfulness) if faithfulness else (),
        made_by=subject.made_by,
        part=part or WHOLE,
        progress=progress,
        passes=passes,
        **_how(subject, method, layer, choices, device),
    )


def _controls_of(folder: Path) -> bool | list[str]:
    """The controls of the table that lies in a folder, finished or not; all where there is none."""
    from torchvice.samples import ShardFolder

    table = ShardFolder(folder)
    if not table.manifest_path.is_file() or not table.shards():
        return True
    manifest = table.manifest()
    known = manifest["explanations"] | manifest["adding"]
    return [name.partition(":")[2] for name, settings in known.items() if settings["role"] == "control"]


def explain_subject(
    subject: Subject,
    folder: str | os.PathLike[str],
    *,
    protocol: str = "paper",
    file_format: str = "npz",
    method: str = "auto",
    layer: str | None = None,
    choices: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
    passes: Progress | None = None,
) -> int:
    """Step 2 as files: the true labels' maps of every image, one file an image; returns how many were written.

    See `torchvice.export.write_map_files`.
    """
    from torchvice.export import write_map_files

    return write_map_files(
        subject.model,
        subject.dataset,
        folder,
        protocol=protocol,
        file_format=file_format,
        progress=progress,
        passes=passes,
        **_how(subject, method, layer, choices, device),
    )


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
    table_folder = _table_folder(path, split)
    samples = Samples.load(table_folder)
    fitted_on = None if calibrate_on is None else _other_samples(path, calibrate_on)
    measures = measure(samples, quality=quality, replicates=replicates, seed=seed, calibrate_on=fitted_on)
    return Measured(measures, samples, _readable(path.name), _home(path, table_folder), path)


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


def load_samples(path: str | os.PathLike[str], split: str | None = None) -> Samples:
    """The table of a RUN (its `split`, or the only one assessed), or that of a folder with a manifest.json.

    Raises:
        ViceError: neither, or a RUN that was not assessed.
    """
    from torchvice.samples import Samples

    return Samples.load(_table_folder(Path(path), split))


def _table_folder(path: Path, split: str | None) -> Path:
    """The folder of the table at a path: itself, or one of a RUN."""
    if not path.is_dir():
        raise ViceError(f"A RUN, a table's folder or a CSV is measured, but there is nothing at {path}.")
    return path if (path / "manifest.json").is_file() else _assessed(path, split)


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


def compare_paths(
    paths: Sequence[str | os.PathLike[str]],
    split: str | None = None,
    *,
    groups: Sequence[str] = (),
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare RUNs or tables' folders, see `torchvice.measures.compare`.

    Args:
        paths: each is named by its folder, or, where two have one name, by its path.
        split: of RUNs.
        groups: "NAME=RUN,RUN,RUN" texts: seeds of one recipe.
        quality, replicates, seed: see `torchvice.measures.compare`.

    Raises:
        ViceError: the same folder twice, or a group of another form.
    """
    from torchvice.measures import compare

    folders = [Path(path) for path in paths]
    short = [folder.resolve().name for folder in folders]
    names = [str(f) if short.count(name) > 1 else name for f, name in zip(folders, short, strict=True)]
    if len(set(names)) < len(names):
        raise ViceError("Models that are compared must be different, but one folder is named twice.")
    members = {}
    for text in groups:
        name, equals, runs = text.partition("=")
        if not (name and equals and runs):
            raise ViceError(f"A group must be NAME=RUN,RUN,RUN, but is {text!r}.")
        members[name] = [run if run in names else Path(run).name for run in runs.split(",")]
    models = {name: load_samples(folder, split) for name, folder in zip(names, folders, strict=True)}
    return compare(models, quality=quality, groups=members, replicates=replicates, seed=seed)


def draw_comparison(found: Comparison, folder: str | os.PathLike[str]) -> list[Path]:
    """VICE of the models with their intervals, and the paired differences; returns the files."""
    from torchvice.report.comparison import comparison_figure
    from torchvice.report.figures import save_figure

    return save_figure(comparison_figure(found.models, found.differences), Path(folder) / "comparison")


def _assessed(run: Path, split: str | None) -> Path:
    """The folder of the RUN's table."""
    found = sorted(manifest.parent for manifest in run.glob("assess/*/manifest.json"))
    names = [folder.name for folder in found]
    if not found:
        known = (run / "config.yaml").is_file()
        neither = "A RUN has a config.yaml, a table a manifest.json."
        way_out = f"Assess it first: vice assess {run}" if known else neither
        raise ViceError(f"{run} must be a RUN that was assessed, but no table is in it.", way_out)
    if split is not None:
        name = split.removesuffix(".txt")
        if name not in names:
            raise ViceError(f"{run} was not assessed on `{name}`.", f"Assessed: {', '.join(names)}.")
        return found[names.index(name)]
    if len(found) > 1:
        from torchvice.runs import Run

        name = Run(run).settings.data.eval_split.removesuffix(".txt")
        if name not in names:
            raise ViceError(f"{run} was assessed on several splits: {', '.join(names)}.", "Name one: --split NAME.")
        return found[names.index(name)]
    return found[0]


def draw_measures(measures: Measures, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """The diagrams that the measures have numbers for, each as PNG and PDF; returns the files."""
    from torchvice.report.diagrams import diagrams_of
    from torchvice.report.figures import save_figure

    made = diagrams_of(measures, title)
    return [file for name, figure in made.items() for file in save_figure(figure, Path(folder) / name)]


def draw_cases(samples: Samples, dataset: VocDataset, folder: str | os.PathLike[str], each: int = 2) -> list[Path]:
    """A sheet of cases of `strict`: the clearest agreements and disagreements of prediction and explanation."""
    from torchvice.cases import case_of
    from torchvice.measures.choice import chosen_cases
    from torchvice.measures.pairs import true_pairs
    from torchvice.report.cases import case_sheet
    from torchvice.report.figures import save_figure

    pairs = true_pairs(samples)
    choices = chosen_cases(pairs, each)
    if not choices:
        return []
    cases = [
        case_of(
            samples,
            dataset,
            str(pairs.image_id[choice.row]),
            int(pairs.class_index[choice.row]) + 1,
            pairs=pairs,
            kind=choice.kind,
        )
        for choice in choices
    ]
    return save_figure(case_sheet(cases, columns=2), Path(folder) / "cases")


def draw_all(found: Measured, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """The diagrams and, where the table's images still lie where they were, the cases; returns the files."""
    files = draw_measures(found.measures, folder, title)
    if found.samples is not None and "strict" in found.samples.manifest["protocols"]:
        dataset = dataset_of(found.samples)
        if dataset is not None:
            files += draw_cases(found.samples, dataset, folder)
    return files


def dataset_of(samples: Samples) -> VocDataset | None:
    """The dataset that a table was made from, where it still lies there, else None."""
    from torchvice.data import VocDataset

    source = samples.manifest["dataset"]
    try:
        return VocDataset(source["root"], source["split"], classes=samples.classes)
    except ViceError:
        return None


def write_measures(measures: Measures, path: str | os.PathLike[str]) -> Path:
    """`vice measure --json`."""
    return write_json(path, measures.to_json())


def write_legacy_table(found: Measured, path: str | os.PathLike[str]) -> Path:
    """`vice measure --write-csv`: the original's table, from the table's `paper` rows or from the CSV that was read."""
    from torchvice.interop import write_table
    from torchvice.measures.legacy import legacy_table

    return write_table(path, found.csv if found.samples is None else legacy_table(found.samples))
