"""Plan: from the file of a study to its runs."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from torchvice.assessment import Extras
from torchvice.assessment.controls import CONTROL_SETS
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
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import parse_document
from torchvice.study.identity import key_of

__all__ = ["AssessmentRequest", "LaunchSettings", "PlannedRun", "Study", "load_study", "study_names", "study_schema"]

PRESETS = resources.files("torchvice") / "presets" / "studies"
BASE = "base"  # name of the base's level if an axis does not list it

Changes = dict[str, Any]  # {setting: value}


class AssessmentRequest(Section):
    """How every run is assessed and measured, see `torchvice.assess` and `torchvice.measure`."""

    protocols: tuple[Literal["paper", "strict"], ...] = ("paper", "strict")
    method: str = "auto"
    also: tuple[str, ...] = ()
    controls: Literal["all", "cheap", "none"] = "all"
    faithfulness: tuple[str, ...] = ()
    without: tuple[str, ...] = ("auto",)
    quality: str = "ji"
    replicates: int = Field(default=2000, ge=100)

    @property
    def extras(self) -> Extras:
        """What is requested in addition to the maps, as `torchvice.assess` takes it; no controls without `strict`."""
        controls = CONTROL_SETS[self.controls] if "strict" in self.protocols else ()
        without = self.without if "strict" in self.protocols else ()
        return Extras.of(controls, self.also, self.faithfulness, "auto" if without == ("auto",) else without)


class LaunchSettings(Section):
    """Where the runs run: `where` in the file of a study."""

    launcher: Literal["local", "ray", "slurm"] = "local"
    jobs: int = Field(default=1, ge=1)  # runs at a time
    gpus: float = Field(default=0, ge=0)  # per run
    cpus: int | None = Field(default=None, ge=1)  # per run; None: an equal share of the machine
    slurm: dict[str, Any] = Field(default_factory=dict)  # submitit's parameters, such as slurm_partition


class _File(Section):
    """Content of the file of a study."""

    base: str
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

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("must differ")
        return value


@dataclass(frozen=True)
class PlannedRun:
    """One run: its `levels` {axis: level}, `seed`, `settings` (with its folder) and `key`, the hash of the settings."""

    levels: dict[str, str]
    seed: int
    settings: Settings
    key: str

    @property
    def folder(self) -> Path:
        """Folder of the RUN."""
        return self.settings.folder

    @property
    def recipe(self) -> tuple[str, ...]:
        """The levels, which the runs of all seeds share."""
        return tuple(self.levels.values())


@dataclass(frozen=True)
class Study:
    """A study: its folder, its axes {name: levels}, and its runs in the order of the table.

    In a study around a base, the base's level is the first of each axis, and the study is repeated at each level of the
    axes in `across`. `against_base`: compare levels with the base's only, otherwise all pairs.
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
            grid that set the same setting, or a file in the place of the folder.

    Example:
        >>> study = load_study("digits")
        >>> len({run.key for run in study.runs}) == len(study.runs)
        True
    """
    content = read_source(source, PRESETS, "study", "The study")
    file = _parse(content.text, content.where)
    base = _load_base(file, content.folder, overrides)
    axes = {axis: _levels(axis, value, content.where) for axis, value in file.axes.items()}
    _check_axes(file, axes, content.where)
    seeds = file.seeds or (base.seed,)
    name = file.name or content.stem
    home = _checked_home(Path(folder or file.folder or Path(base.work_dir) / name))
    origin = {axis: _base_level(axis, levels, base) for axis, levels in axes.items()}
    recipes = _around(axes, origin, file.across) if file.one_at_a_time else _grid(axes)
    runs = tuple(_planned(levels, changes, seed, base, home) for levels, changes in recipes.items() for seed in seeds)
    _check_runs_differ(runs)
    return Study(
        name=name,
        folder=home,
        axes={axis: _ordered(levels, origin[axis], file.one_at_a_time) for axis, levels in axes.items()},
        one_at_a_time=file.one_at_a_time,
        seeds=seeds,
        runs=runs,
        request=file.measure,
        where=file.where.model_copy(update=dict(where or {})),
        needs=file.needs,
        base=origin if file.one_at_a_time else {},
        across=file.across,
        against_base=file.compare == "base",
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
        _check_disjoint({axis: axes[axis] for axis in combined})


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
        return _File.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "missing":
            raise ViceError(f"`{path}` must be given in {where}, but is missing.", "For example base: demo.") from None
        raise ViceError(f"`{path}` of {where} {problem_of(item['msg'])}, but is {brief(item['input'])}.") from None


def _load_base(file: _File, folder: Path, overrides: Sequence[str]) -> Settings:
    """Load the base: a preset, or a YAML file relative to the study's folder or to the working directory."""
    relative = folder / file.base
    source: str | Path = relative if relative.suffix and relative.is_file() else file.base
    return load_settings(source, [*_overrides(file.settings), *overrides])


def _overrides(changes: Changes) -> list[str]:
    """Convert {setting: value} to overrides, with JSON as YAML; `parse_yaml` also reads JSON's 1e-05."""
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def _levels(axis: str, value: Any, where: str) -> dict[str, Changes]:
    """Parse the levels of an axis and the settings that each changes."""
    if isinstance(value, list):
        levels = {_label(entry): {axis: entry} for entry in value}
        if len(levels) < len(value):
            duplicate = next(_label(entry) for entry in value if value.count(entry) > 1)
            raise ViceError(f"The values of the axis `{axis}` must differ, but {duplicate} occurs twice in {where}.")
    elif isinstance(value, Mapping):
        levels = {str(level): dict(changes or {}) if _is_changes(changes) else {} for level, changes in value.items()}
        wrong = next((level for level, changes in value.items() if not _is_changes(changes)), None)
        if wrong is not None:
            raise ViceError(
                f"The level `{wrong}` of the axis `{axis}` must be settings, {{setting: value}}, but is "
                f"{brief(value[wrong])} in {where}.",
                f"For an axis of one setting write {axis}: [value, value].",
            )
    else:
        raise ViceError(
            f"The axis `{axis}` must be a list of values or {{level: {{setting: value}}}}, but is {brief(value)} in "
            f"{where}."
        )
    if not levels:
        raise ViceError(f"The axis `{axis}` has no levels in {where}.", "List its values, or leave out the axis.")
    return levels


def _is_changes(changes: Any) -> bool:
    return changes is None or isinstance(changes, Mapping)


def _label(value: Any) -> str:
    """Convert a value to the name of its level.

    Example:
        >>> _label(0.05), _label("resnet18"), _label(None), _label([16, 32])
        ('0.05', 'resnet18', 'null', '[16, 32]')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _base_level(axis: str, levels: Mapping[str, Changes], base: Settings) -> str:
    """Check the settings of each level, and return the level that equals the base, or BASE."""
    variants: dict[str, Settings] = {}
    for level, changes in levels.items():
        if "seed" in changes:
            raise ViceError(f"An axis must not set `seed`, but `{axis}` does.", "List the seeds: seeds: [1, 2, 3].")
        settings = override_settings(base, _overrides(changes))
        same = next((other for other, variant in variants.items() if variant == settings), None)
        if same is not None:
            raise ViceError(
                f"The levels of the axis `{axis}` must differ, but {same} and {level} have the same settings."
            )
        variants[level] = settings
    return next((level for level, settings in variants.items() if settings == base), BASE)


def _check_disjoint(axes: Mapping[str, Mapping[str, Changes]]) -> None:
    owner: dict[str, str] = {}
    for axis, levels in axes.items():
        for name in {name for changes in levels.values() for name in changes}:
            if owner.setdefault(name, axis) != axis:
                raise ViceError(
                    f"Combined axes must set different settings, but `{owner[name]}` and `{axis}` both set `{name}`.",
                    "Merge them into one axis, or set one_at_a_time: true and leave both out of `across`.",
                )


Recipes = dict[tuple[tuple[str, str], ...], Changes]  # {((axis, level), ...): changes}


def _grid(axes: Mapping[str, Mapping[str, Changes]]) -> Recipes:
    """Combine every level of every axis."""
    recipes: Recipes = {}
    for chosen in itertools.product(*([(axis, level) for level in levels] for axis, levels in axes.items())):
        recipes[chosen] = {name: v for axis, level in chosen for name, v in axes[axis][level].items()}
    return recipes


def _around(
    axes: Mapping[str, Mapping[str, Changes]], origin: Mapping[str, str], across: Sequence[str] = ()
) -> Recipes:
    """Combine the base with one changed axis at a time, at every combination of the axes in `across`."""
    around = [(axis, level) for axis in axes if axis not in across for level in axes[axis] if level != origin[axis]]
    recipes: Recipes = {}
    crossed = {axis: dict.fromkeys((origin[axis], *axes[axis])) for axis in across}
    for chosen in itertools.product(*crossed.values()):
        crossed_levels = dict(zip(across, chosen, strict=True))
        changes = {name: v for axis, level in crossed_levels.items() for name, v in axes[axis].get(level, {}).items()}
        recipes[tuple({**origin, **crossed_levels}.items())] = changes
        for axis, level in around:
            recipes[tuple({**origin, **crossed_levels, axis: level}.items())] = {**changes, **axes[axis][level]}
    return recipes


def _planned(
    levels: tuple[tuple[str, str], ...], changes: Changes, seed: int, base: Settings, folder: Path
) -> PlannedRun:
    settings = override_settings(base, _overrides({**changes, "seed": seed}))
    key = key_of(settings)
    name = f"{settings.model.name.partition('.')[0]}-s{seed}-{key}"
    settings = settings.model_copy(update={"work_dir": str(folder / "runs"), "session_name": name})
    return PlannedRun(dict(levels), seed, settings, key)


def _check_runs_differ(runs: Sequence[PlannedRun]) -> None:
    by_key: dict[str, PlannedRun] = {}
    for run in runs:
        other = by_key.setdefault(run.key, run)
        if other is not run:
            raise ViceError(f"Runs must differ in their settings, but {_name(other)} and {_name(run)} are the same.")


def _name(run: PlannedRun) -> str:
    return ", ".join(f"{axis} {level}" for axis, level in run.levels.items()) or "the base"
