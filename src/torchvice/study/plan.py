"""Plan: from the file of a study to its runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from torchvice.config import (
    FolderName,
    Section,
    Settings,
    load_settings,
    override_settings,
    problem_of,
    read_source,
    yaml_names,
)
from torchvice.config.sections import DataSettings, ModelSettings, TransformSettings
from torchvice.config.settings import Source
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import parse_document
from torchvice.study.axes import (
    Changes,
    around,
    base_level,
    check_disjoint,
    check_names_of_axes,
    grid,
    levels_of,
    overrides_of,
)
from torchvice.study.checkpoints import (
    UNNAMED,
    Given,
    check_no_network,
    check_no_training,
    given_runs,
    names_of,
    without_fields,
)
from torchvice.study.file_digests import FileDigests
from torchvice.study.identity import key_of
from torchvice.study.request import AssessmentRequest, check_names

__all__ = ["AssessmentRequest", "LaunchSettings", "PlannedRun", "Study", "load_study", "study_names", "study_schema"]

PRESETS = resources.files("torchvice") / "presets" / "studies"


class LaunchSettings(Section):
    """Where the runs run: `where` in the file of a study."""

    launcher: Literal["local", "ray", "slurm"] = "local"
    jobs: int = Field(default=1, ge=1)  # runs at a time
    gpus: float = Field(default=0, ge=0)  # per run; a share of one with ray only
    cpus: int | None = Field(default=None, ge=1)  # per run; None: an equal share of the machine
    slurm: dict[str, Any] = Field(default_factory=dict)  # submitit's parameters, such as slurm_partition


class _File(Section):
    """Content of the file of a study."""

    base: str | None = None  # may be left out where every run is a checkpoint
    name: FolderName | None = None
    folder: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, Any] = Field(default_factory=dict)
    one_at_a_time: bool = False
    across: tuple[str, ...] = ()
    compare: Literal["pairs", "base"] = "pairs"
    seeds: tuple[int, ...] = ()
    measure: AssessmentRequest = AssessmentRequest()
    where: LaunchSettings = LaunchSettings()
    needs: tuple[str, ...] = ()

    @field_validator("seeds", "across")
    @classmethod
    def _distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must differ")
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if value == []:  # the default is ()
            raise ValueError("must name at least one seed")
        return value


@dataclass(frozen=True)
class PlannedRun:
    """One run: its `levels` {axis: level}, `seed`, `settings` (with its folder) and `key`, the hash of the settings.

    `given`: the checkpoint of a run that is not trained; it may have no seed. Its key also depends on the contents of
    the checkpoint, and not on settings of training.
    """

    levels: dict[str, str]
    seed: int | None
    settings: Settings
    key: str
    given: Given | None = None

    @property
    def folder(self) -> Path:
        """Folder of the RUN."""
        return self.settings.folder

    @property
    def recipe(self) -> tuple[str, ...]:
        """The levels, which the runs of all seeds share."""
        return tuple(self.levels.values())

    @property
    def label(self) -> str:
        """The levels with their axes and the seed, as in `architecture resnet18, seed 1`."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return ", ".join([*(f"{axis} {level}" for axis, level in self.levels.items()), *seed]) or "the base"


@dataclass(frozen=True)
class Study:
    """A study: its folder, its axes {name: levels}, and its runs in the order of the table.

    In a study around a base, the base's level is the first of each axis, and the study is repeated at each level of the
    axes in `across`. `against_base`: compare levels with the base's only, otherwise all pairs. `digests`: of the files
    of checkpoints.
    """

    name: str
    folder: Path
    axes: dict[str, tuple[str, ...]]
    one_at_a_time: bool
    seeds: tuple[int, ...]
    runs: tuple[PlannedRun, ...]
    request: AssessmentRequest
    where: LaunchSettings
    needs: tuple[str, ...] = ()
    base: dict[str, str] = field(default_factory=dict)  # levels of the base; empty in a grid
    across: tuple[str, ...] = ()
    against_base: bool = False
    digests: FileDigests | None = None


def study_names() -> list[str]:
    """Return the names of the studies that come with torchvice, sorted.

    Example:
        >>> "digits" in study_names()
        True
    """
    return yaml_names(PRESETS)


def study_schema() -> dict[str, Any]:
    """The JSON Schema of the file of a study."""
    return _File.model_json_schema()


def load_study(
    source: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    folder: str | os.PathLike[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Study:
    """Load a study and plan its runs.

    Args:
        source: name of a study that comes with torchvice, or a YAML file (format: docs/studies.md).
        overrides: `section.name=value`, overrides of the base.
        folder: folder of the study; None: that of the file, otherwise work_dir/name.
        where: launch settings that take precedence over the file's.

    Raises:
        ViceError: no such file, an unknown setting, a value of the wrong type, equal levels of an axis, two axes of a
            grid that set the same setting, a checkpoint that does not exist, is named twice or has settings of
            training, GPUs that the launcher cannot give, or a file in the place of the folder.

    Example:
        >>> study = load_study("digits")
        >>> len({run.key for run in study.runs}) == len(study.runs)
        True
    """
    content = read_source(source, PRESETS, "study", "The study")
    file = _parse(content.text, content.where)
    own, shared = without_fields(file.settings)
    base = _load_base(file, own, content, overrides)
    axes = {axis: levels_of(axis, value, content.where) for axis, value in file.axes.items()}
    _check_axes(file, axes, content.where)
    name = file.name or content.stem
    home = _checked_home(Path(folder or file.folder or Path(base.work_dir) / name))
    origin = {axis: base_level(axis, levels, base, shared, file.one_at_a_time) for axis, levels in axes.items()}
    recipes = around(axes, origin, file.across) if file.one_at_a_time else grid(axes)
    planner = _Planner(base, shared, file.seeds or (base.seed,), home, content.folder, FileDigests(home))
    runs = tuple(run for levels, changes in recipes.items() for run in planner.runs(dict(levels), changes))
    _check_runs_differ(runs)
    settings = [*names_of(own), *(override.partition("=")[0].strip() for override in overrides)]
    _check_base(file, runs, settings, content.where)
    return Study(
        name=name,
        folder=home,
        axes={axis: _ordered(levels, origin[axis], file.one_at_a_time) for axis, levels in axes.items()},
        one_at_a_time=file.one_at_a_time,
        seeds=_seeds(planner.seeds, runs),
        runs=runs,
        request=file.measure,
        where=_checked_launch(file.where.model_copy(update=dict(where or {}))),
        needs=file.needs,
        base=origin if file.one_at_a_time else {},
        across=file.across,
        against_base=file.compare == "base",
        digests=planner.digests,
    )


def _checked_home(home: Path) -> Path:
    """Return the folder of a study, which may be missing.

    Raises:
        ViceError: it is a file, or lies in one.
    """
    there = next(place for place in (home, *home.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ViceError(f"The study must be written to a folder, but {there} is a file.", "Give another: --folder DIR.")
    return home


def _checked_launch(where: LaunchSettings) -> LaunchSettings:
    """Return the launch settings, whose launcher can give a run its GPUs.

    Raises:
        ViceError: a part of a GPU with SLURM, or one and a part with Ray.
    """
    if not float(where.gpus).is_integer():
        given = f"but is {where.gpus:g}"
        if where.launcher == "slurm":
            raise ViceError(
                f"`where.gpus` (--gpus) must be a whole number with the launcher slurm, {given}.",
                "Give --gpus 1 or more. Ray gives shares of a GPU: --launcher ray.",
            )
        if where.launcher == "ray" and not where.gpus < 1:
            raise ViceError(f"`where.gpus` (--gpus) must be below 1 or a whole number, {given}.", "Such as --gpus 2.")
    return where


def _ordered(levels: Iterable[str], origin: str, one_at_a_time: bool) -> tuple[str, ...]:
    """Return the levels of an axis; in a study around a base, the base's level is the first."""
    return tuple(dict.fromkeys([origin, *levels] if one_at_a_time else levels))


def _check_axes(file: _File, axes: Mapping[str, Mapping[str, Changes]], where: str) -> None:
    """Check `across` and `compare`, and that axes that are combined do not set the same setting."""
    if (file.across or file.compare == "base") and not file.one_at_a_time:
        name = "across" if file.across else "compare: base"
        raise ViceError(f"`{name}` needs a study around a base, but {where} is a grid.", "Add one_at_a_time: true.")
    for axis in file.across:
        if axis not in file.axes:
            raise ViceError(
                f"`across` must name axes of {where}, but `{axis}` is not an axis.", did_you_mean(axis, file.axes)
            )
    around = [[*file.across, axis] for axis in axes if axis not in file.across]
    for combined in around if file.one_at_a_time else [list(axes)]:
        check_disjoint({axis: axes[axis] for axis in combined})


def _parse(text: str, where: str) -> _File:
    """Parse the file of a study and check its names and types."""
    content = parse_document(text, where) or {}
    if not isinstance(content, dict):
        raise ViceError(f"{where} must hold a study, `name: value`, but holds a {type(content).__name__}.")
    for prefix, part, owner in (
        ("", content, _File),
        ("measure.", content.get("measure"), AssessmentRequest),
        ("where.", content.get("where"), LaunchSettings),
    ):
        for name in part if isinstance(part, Mapping) else ():
            if name not in owner.model_fields:
                raise ViceError(
                    f"`{prefix}{name}` is not a field of a study, in {where}.", did_you_mean(name, owner.model_fields)
                )
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            raise ViceError(f"`{path}` must be given in {where}, but is missing.", "For example base: demo.") from None
        raise ViceError(
            f"`{path}` of {where} {problem_of(item['msg'])}, but is {brief(item['input'])}.",
            "List some, or leave out `seeds`: then the base's is taken."
            if path == "seeds" and not item["input"]
            else "",
        ) from None
    check_names(file.measure, where)
    return file


def _load_base(file: _File, own: Changes, content: Source, overrides: Sequence[str]) -> Settings:
    """Load the base: a preset, or a YAML file relative to the study's folder or to the working directory.

    Without a base, network and data are open until they are named, and the network's source states the input.
    """
    changes = [*overrides_of(own), *overrides]
    if file.base is None:
        open_input: dict[str, Any] = dict.fromkeys(("crop", "interpolation", "mean", "std"))
        base = Settings(
            session_name=re.sub(r"[/\\]", "-", content.stem),
            model=ModelSettings(name=UNNAMED),
            data=DataSettings(root=UNNAMED),
            transform=TransformSettings(**open_input),
        )
        return override_settings(base, changes)
    relative = content.folder / file.base
    if relative.is_file() and Path(content.where).exists() and relative.samefile(content.where):
        raise ViceError(
            f"`base` of {content.where} must be a preset or a file of settings, but is this study itself.",
            "For example base: demo.",
        )
    source: str | Path = relative if relative.suffix and relative.is_file() else file.base
    return load_settings(source, changes)


def _check_base(file: _File, runs: Sequence[PlannedRun], names: Sequence[str], where: str) -> None:
    """Check that runs that are trained have a base, that settings of training have a run that is trained, and names."""
    trained = any(run.given is None for run in runs)
    if trained and file.base is None:
        raise ViceError(f"`base` must be given in {where}, but is missing.", "For example base: demo.")
    check_names_of_axes(file.axes, where, some_given=any(run.given for run in runs))
    if not trained:
        check_no_training(names, f"every run of {where}")
    if all(run.given is not None and run.given.run for run in runs):
        check_no_network(names, f"any run of {where}")


def _seeds(seeds: tuple[int, ...], runs: Sequence[PlannedRun]) -> tuple[int, ...]:
    """The seeds of a study; where no run is trained, those of its checkpoints."""
    known = tuple(dict.fromkeys(run.seed for run in runs if run.seed is not None))
    return seeds if any(run.given is None for run in runs) else known


@dataclass(frozen=True)
class _Planner:
    """What the runs of a study have in common; `shared` are fields of checkpoints, `beside` the folder of its file."""

    base: Settings
    shared: Changes
    seeds: tuple[int, ...]
    home: Path
    beside: Path
    digests: FileDigests

    def runs(self, levels: dict[str, str], changes: Changes) -> list[PlannedRun]:
        """The runs of a recipe: trained with each seed, or of the checkpoints that are given."""
        own, fields = without_fields(changes)
        fields = {**self.shared, **fields}
        if fields.get("checkpoint") is None:
            alone = next((name for name, value in fields.items() if value is not None), None)
            if alone:
                of_levels = ", ".join(f"{axis} {level}" for axis, level in levels.items()) or "the base"
                raise ViceError(
                    f"`{alone}` is of a checkpoint, but the run {of_levels} has none.", "Name it: checkpoint: FILE."
                )
            return [self._trained(levels, own, seed) for seed in self.seeds]
        given = given_runs(own, fields, levels, self.seeds, self.base, self.beside, self.digests)
        return [PlannedRun(levels, run.seed, self._placed(run.settings, run.name), run.key, run.given) for run in given]

    def _trained(self, levels: dict[str, str], changes: Changes, seed: int) -> PlannedRun:
        settings = override_settings(self.base, overrides_of({**changes, "seed": seed}))
        key = key_of(settings)
        name = f"{settings.model.name.partition('.')[0]}-s{seed}-{key}"
        return PlannedRun(levels, seed, self._placed(settings, name), key)

    def _placed(self, settings: Settings, name: str) -> Settings:
        return settings.model_copy(update={"work_dir": str(self.home / "runs"), "session_name": name})


def _check_runs_differ(runs: Sequence[PlannedRun]) -> None:
    by_key: dict[str, PlannedRun] = {}
    for run in runs:
        other = by_key.setdefault(run.key, run)
        if other is run:
            continue
        if run.given is None or other.given is None:
            names = [", ".join(f"{axis} {level}" for axis, level in one.levels.items()) for one in (other, run)]
            raise ViceError(f"Runs must differ in their settings, but {names[0]} and {names[1]} are the same.")
        same = run.given.checkpoint == other.given.checkpoint
        what = f"{run.given.checkpoint} is" if same else f"{other.given.checkpoint} and {run.given.checkpoint} are"
        raise ViceError(
            f"A checkpoint must be named once, but {what} the same for {other.label} and {run.label}.",
            "Give each run a checkpoint of its own, or remove one.",
        )
