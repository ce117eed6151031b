"""Plan: a study's file, and the runs that it asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from torchvice.assessment.checks import NAMED_CONTROLS
from torchvice.config import Section, Settings, load_settings, override_settings
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import existing_file, parse_yaml

__all__ = ["Asked", "Planned", "Study", "Where", "load_study", "study_names"]

PRESETS = resources.files("torchvice") / "presets" / "studies"
BASE = "base"  # the level of an axis that lists no level like the base

# What may differ between two starts of one run: where and how fast, not what.
NOT_IDENTITY = {
    "": ("session_name", "work_dir", "seed"),
    "data": ("workers",),
    "trainer": ("accelerator", "strategy", "num_nodes", "vice_every_n_epochs", "vice_images", "vice_figures"),
}


class Asked(Section):
    """What is measured of every run; see `torchvice.assess` and `torchvice.measure`."""

    protocols: tuple[Literal["paper", "strict"], ...] = ("paper", "strict")
    method: str = "auto"
    also: tuple[str, ...] = ()
    controls: Literal["all", "cheap", "none"] = "all"
    faithfulness: tuple[str, ...] = ()
    quality: str = "ji"
    replicates: int = Field(default=2000, ge=100)

    @property
    def controls_of_strict(self) -> bool | tuple[str, ...]:
        """`controls` as `torchvice.assess` takes them; none where `strict` is not assessed."""
        return NAMED_CONTROLS[self.controls] if "strict" in self.protocols else False


class Where(Section):
    """Where the runs run: the launcher, how many at a time, the GPUs of each, and what SLURM is told."""

    launcher: Literal["local", "ray", "slurm"] = "local"
    jobs: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)  # of each run
    cpus: int | None = Field(default=None, ge=1)  # of each run; None: an equal share of the machine
    slurm: dict[str, Any] = Field(default_factory=dict)  # submitit's parameters, such as slurm_partition


class _File(Section):
    """The file of a study."""

    base: str
    name: str | None = None
    folder: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, Any] = Field(default_factory=dict)
    one_at_a_time: bool = False
    across: tuple[str, ...] = ()
    compare: Literal["pairs", "base"] = "pairs"
    seeds: tuple[int, ...] = ()
    measure: Asked = Asked()
    where: Where = Where()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One run: its `levels` {axis: level}, `seed`, `settings` (which name its folder) and `key`, the settings' hash."""

    levels: dict[str, str]
    seed: int
    settings: Settings
    key: str

    @property
    def folder(self) -> Path:
        """The RUN."""
        return self.settings.folder

    @property
    def recipe(self) -> tuple[str, ...]:
        """The levels: what the seeds of one recipe have in common."""
        return tuple(self.levels.values())


@dataclass(frozen=True)
class Study:
    """A study: where it lies, its axes {name: levels, the base's first}, and its runs in the order of the table.

    Of a study around a base, `across` are the axes at each level of which it is made anew. `against_base`: levels are
    compared with the base's alone, else every two.
    """

    name: str
    folder: Path
    axes: dict[str, tuple[str, ...]]
    one_at_a_time: bool
    seeds: tuple[int, ...]
    runs: tuple[Planned, ...]
    asked: Asked
    where: Where
    needs: tuple[str, ...] = ()
    base: dict[str, str] = field(default_factory=dict)  # the base's levels; empty in a grid
    across: tuple[str, ...] = ()
    against_base: bool = False


def study_names() -> list[str]:
    """The names of the studies that come with torchvice, sorted.

    Example:
        >>> "digits" in study_names()
        True
    """
    return sorted(p.name.removesuffix(".yaml") for p in PRESETS.iterdir() if p.name.endswith(".yaml"))


def load_study(
    source: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    folder: str | os.PathLike[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Study:
    """The study of a file.

    Args:
        source: the name of a study that comes with torchvice, or a YAML file with `base` (a preset or a YAML file), and
            maybe `settings` {setting: value} over it, `axes`, `one_at_a_time`, `across`, `compare`, `seeds`, `measure`,
            `where`, `name`, `folder`, `needs`. An axis is a setting with the list of its values, or a name of its own
            with {level: {setting: value}}. `across` names the axes that a study around a base is crossed with;
            `compare: base` compares levels with the base's alone.
        overrides: `section.name=value` over the base, as for `vice train`.
        folder: of the study; None: as the file says, else work_dir/name.
        where: what of `where` goes before the file's.

    Raises:
        ViceError: no such file, an unknown setting, a value of the wrong type, two levels of an axis that are one, or
            two axes of a grid that set the same.

    Example:
        >>> study = load_study("digits")
        >>> len({run.key for run in study.runs}) == len(study.runs)
        True
    """
    text, said, stem, home = _source(source)
    file = _read(text, said)
    base = _base_of(file, home, overrides)
    axes = {axis: _levels(axis, value, said) for axis, value in file.axes.items()}
    _check_base(file, said)
    if file.one_at_a_time:
        for axis in axes.keys() - set(file.across):
            _refuse_shared({name: axes[name] for name in (*file.across, axis)})
    else:
        _refuse_shared(axes)
    seeds = file.seeds or (base.seed,)
    if len(set(seeds)) < len(seeds):
        raise ViceError(f"The seeds of {said} must differ, but are {list(seeds)}.")
    home = Path(folder or file.folder or Path(base.work_dir) / (file.name or stem))
    made = {axis: _made(axis, levels, base) for axis, levels in axes.items()}
    origin = {axis: next((level for level, s in levels.items() if s == base), BASE) for axis, levels in made.items()}
    recipes = _around(axes, origin, file.across) if file.one_at_a_time else _grid(axes)
    runs = tuple(_planned(levels, changes, seed, base, home) for levels, changes in recipes.items() for seed in seeds)
    _refuse_twice(runs)
    return Study(
        name=file.name or stem,
        folder=home,
        axes={axis: _shown(levels, origin[axis], file.one_at_a_time) for axis, levels in axes.items()},
        one_at_a_time=file.one_at_a_time,
        seeds=seeds,
        runs=runs,
        asked=file.measure,
        where=file.where.model_copy(update=dict(where or {})),
        needs=file.needs,
        base=origin if file.one_at_a_time else {},
        across=file.across,
        against_base=file.compare == "base",
    )


def _shown(levels: Iterable[str], origin: str, one_at_a_time: bool) -> tuple[str, ...]:
    """The levels of an axis; of a study around a base, the base's first."""
    return tuple(dict.fromkeys([origin, *levels] if one_at_a_time else levels))


def _check_base(file: _File, where: str) -> None:
    if (file.across or file.compare == "base") and not file.one_at_a_time:
        name = "across" if file.across else "compare: base"
        raise ViceError(f"`{name}` needs a study around a base, but {where} is a grid.", "Add one_at_a_time: true.")
    for axis in file.across:
        if axis not in file.axes:
            raise ViceError(f"`across` must name axes of {where}, but `{axis}` is none.", did_you_mean(axis, file.axes))


Changes = dict[str, Any]  # {setting: value}


def _source(source: str | os.PathLike[str]) -> tuple[str, str, str, Path]:
    """Text, what to call it in a message, the default name, and the folder that paths in it may start from."""
    name = os.fspath(source)
    if isinstance(source, str) and name in study_names():
        return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), f"the study {name}", name, Path()
    path = Path(name)
    if not path.suffix and not path.exists():
        raise ViceError(f"A study must be a YAML file, but is {name!r}.", did_you_mean(name, study_names()))
    path = existing_file(path, "A study", f"Studies that come with torchvice: {', '.join(study_names())}.")
    try:
        return path.read_text(encoding="utf-8"), str(path), path.stem, path.parent
    except UnicodeDecodeError as error:
        raise ViceError(f"{path} must be YAML in UTF-8, but is not: {error}.") from None


def _read(text: str, where: str) -> _File:
    content = parse_yaml(text, where) or {}
    if not isinstance(content, dict):
        raise ViceError(f"{where} must hold a study, `name: value`, but holds a {type(content).__name__}.")
    for prefix, part, owner in (
        ("", content, _File),
        ("measure.", content.get("measure"), Asked),
        ("where.", content.get("where"), Where),
    ):
        for name in part if isinstance(part, Mapping) else ():
            if name not in owner.model_fields:
                raise ViceError(
                    f"`{prefix}{name}` is no part of a study, in {where}.", did_you_mean(name, owner.model_fields)
                )
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        path = ".".join(str(part) for part in item["loc"])
        said = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
        if item["type"] == "missing":
            raise ViceError(f"`{path}` must be given in {where}, but is missing.", "Such as base: demo.") from None
        raise ViceError(f"`{path}` of {where} {said}, but is {brief(item['input'])}.") from None


def _base_of(file: _File, home: Path, overrides: Sequence[str]) -> Settings:
    beside = home / file.base
    source: str | Path = beside if beside.suffix and beside.is_file() else file.base
    return load_settings(source, [*_texts(file.settings), *overrides])


def _texts(changes: Changes) -> list[str]:
    """{setting: value} as overrides; JSON is YAML, but for numbers such as 1e-05, which this YAML reads too."""
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def _levels(axis: str, value: Any, where: str) -> dict[str, Changes]:
    """The levels of an axis and what each changes."""
    if isinstance(value, list):
        levels = {_label(entry): {axis: entry} for entry in value}
        if len(levels) < len(value):
            twice = next(_label(entry) for entry in value if value.count(entry) > 1)
            raise ViceError(f"The values of the axis `{axis}` must differ, but {twice} comes twice in {where}.")
    elif isinstance(value, Mapping):
        levels = {str(level): dict(changes or {}) if _is_changes(changes) else {} for level, changes in value.items()}
        wrong = next((level for level, changes in value.items() if not _is_changes(changes)), None)
        if wrong is not None:
            raise ViceError(
                f"The level `{wrong}` of the axis `{axis}` must be settings, {{setting: value}}, but is "
                f"{brief(value[wrong])} in {where}.",
                f"An axis of one setting is written {axis}: [value, value].",
            )
    else:
        raise ViceError(
            f"The axis `{axis}` must be a list of values or levels with their settings, but is {brief(value)} in "
            f"{where}."
        )
    if not levels:
        raise ViceError(f"The axis `{axis}` must have a level, but has none in {where}.")
    return levels


def _is_changes(changes: Any) -> bool:
    return changes is None or isinstance(changes, Mapping)


def _label(value: Any) -> str:
    """A value as a level's name.

    Example:
        >>> _label(0.05), _label("resnet18"), _label(None), _label([16, 32])
        ('0.05', 'resnet18', 'null', '[16, 32]')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _made(axis: str, levels: Mapping[str, Changes], base: Settings) -> dict[str, Settings]:
    """The settings of the base with each level of an axis; wrong names and values are told here."""
    made: dict[str, Settings] = {}
    for level, changes in levels.items():
        if "seed" in changes:
            raise ViceError(
                f"`seed` must not be set by an axis, but `{axis}` does.", "List the seeds: seeds: [1, 2, 3]."
            )
        settings = _changed(base, changes)
        same = next((other for other, known in made.items() if known == settings), None)
        if same is not None:
            raise ViceError(
                f"The levels of the axis `{axis}` must differ, but {same} and {level} are the same settings."
            )
        made[level] = settings
    return made


def _changed(base: Settings, changes: Changes) -> Settings:
    """The base with some settings changed, checked as any settings."""
    return override_settings(base, _texts(changes))


def _refuse_shared(axes: Mapping[str, Mapping[str, Changes]]) -> None:
    owner: dict[str, str] = {}
    for axis, levels in axes.items():
        for name in {name for changes in levels.values() for name in changes}:
            if owner.setdefault(name, axis) != axis:
                raise ViceError(
                    f"Two axes of a grid must not set the same, but `{owner[name]}` and `{axis}` both set `{name}`.",
                    "Make them one axis, or go one_at_a_time: true, without `across` of one of them.",
                )


Recipes = dict[tuple[tuple[str, str], ...], Changes]


def _grid(axes: Mapping[str, Mapping[str, Changes]]) -> Recipes:
    """Every combination of levels."""
    recipes: Recipes = {}
    for chosen in itertools.product(*([(axis, level) for level in levels] for axis, levels in axes.items())):
        recipes[chosen] = {name: v for axis, level in chosen for name, v in axes[axis][level].items()}
    return recipes


def _around(
    axes: Mapping[str, Mapping[str, Changes]], origin: Mapping[str, str], across: Sequence[str] = ()
) -> Recipes:
    """The base, and every level of every axis with the others as the base has them; all at each level of `across`."""
    around = [(axis, level) for axis in axes if axis not in across for level in axes[axis] if level != origin[axis]]
    recipes: Recipes = {}
    crossed = {axis: dict.fromkeys((origin[axis], *axes[axis])) for axis in across}
    for chosen in itertools.product(*crossed.values()):
        here = dict(zip(across, chosen, strict=True))
        changes = {name: v for axis, level in here.items() for name, v in axes[axis].get(level, {}).items()}
        recipes[tuple({**origin, **here}.items())] = changes
        for axis, level in around:
            recipes[tuple({**origin, **here, axis: level}.items())] = {**changes, **axes[axis][level]}
    return recipes


def _planned(levels: tuple[tuple[str, str], ...], changes: Changes, seed: int, base: Settings, folder: Path) -> Planned:
    settings = _changed(base, {**changes, "seed": seed})
    key = _identity(settings)
    name = f"{settings.model.name.partition('.')[0]}-s{seed}-{key}"
    settings = settings.model_copy(update={"work_dir": str(folder / "runs"), "session_name": name})
    return Planned(dict(levels), seed, settings, key)


def _identity(settings: Settings) -> str:
    """The hash of what a run is: its settings that differ from the defaults, so that a new setting changes no run."""
    content = settings.model_dump(mode="json", exclude_defaults=True)
    for section, names in NOT_IDENTITY.items():
        part = content.get(section, {}) if section else content
        for name in names:
            part.pop(name, None)
    content = {name: value for name, value in content.items() if value != {}}
    content["seed"] = settings.seed
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _refuse_twice(runs: Sequence[Planned]) -> None:
    seen: dict[str, Planned] = {}
    for run in runs:
        other = seen.setdefault(run.key, run)
        if other is not run:
            raise ViceError(
                f"Two runs must differ in more than their names, but {_said(other)} and {_said(run)} are one.",
            )


def _said(run: Planned) -> str:
    return ", ".join(f"{axis} {level}" for axis, level in run.levels.items()) or "the base"
