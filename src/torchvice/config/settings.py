"""Settings: what a run is made of, from a preset or a YAML file, overridden by `section.name=value`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from torchvice.config.sections import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AssessSettings,
    DataSettings,
    ModelSettings,
    OptimizerSettings,
    RegularisationSettings,
    ScheduleSettings,
    Section,
    TrainerSettings,
    TransformSettings,
)
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import existing_file, parse_yaml
from torchvice.files.yaml_text import FLOAT, whole_match

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Section",
    "Settings",
    "dump_settings",
    "load_settings",
    "override_settings",
    "preset_names",
]

PRESETS = resources.files("torchvice") / "presets"

# What the original's command lines call it, and where it is here.
ORIGINAL_NAMES = {
    "crop_size": "transform.crop",
    "eval_list": "data.eval_split",
    "infer_list": "data.eval_split",
    "network": "model.name",
}


class Settings(Section):
    """All settings of a run; `folder` is where it lives."""

    session_name: str
    work_dir: str = "runs"
    seed: int = Field(default=2022, ge=0, lt=2**32)
    loss: Literal["auto", "multilabel", "cross_entropy"] = "auto"  # auto: cross_entropy where data.exclusive
    data: DataSettings = DataSettings()
    model: ModelSettings
    transform: TransformSettings = TransformSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    regularisation: RegularisationSettings = RegularisationSettings()
    trainer: TrainerSettings = TrainerSettings()
    assess: AssessSettings = AssessSettings()

    @field_validator("session_name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        if re.search(r"[/\\\0]", value) or not value.strip(". "):
            raise ValueError("must be the name of one folder, without slashes")
        return value

    @property
    def training_loss(self) -> str:
        """`loss` with its `auto` decided: "multilabel" or "cross_entropy"."""
        return ("cross_entropy" if self.data.exclusive else "multilabel") if self.loss == "auto" else self.loss

    @property
    def folder(self) -> Path:
        """The run's folder, work_dir/session_name."""
        return Path(self.work_dir) / self.session_name


class _Dumper(yaml.SafeDumper):
    """Quotes what either generation of YAML would take for something else than text."""


# PyYAML copies the resolvers to the subclass before it adds one.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", whole_match(FLOAT), list("-+.0123456789"))


def preset_names() -> list[str]:
    """The names of the presets that come with torchvice, sorted."""
    return sorted(p.name[: -len(".yaml")] for p in PRESETS.iterdir() if p.name.endswith(".yaml"))


def load_settings(source: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Settings:
    """The settings of a preset or YAML file, overridden.

    Args:
        source: the name of a preset, or the path of a YAML file. What a file leaves out has the default,
            `session_name` the file's own name.
        overrides: `section.name=value` each, the value written as in YAML: `optimizer.lr=1e-2`,
            `transform.jitter=null`, `model.arguments.channels=[16,32,64,128]`. Later ones win.

    Raises:
        ViceError: no such preset or file, not YAML (said with the line), an unknown name (with the nearest
            right one), or a value of the wrong type or range.

    Example:
        >>> load_settings("resnet50", ["optimizer.lr=1e-3"]).optimizer.lr
        0.001
    """
    text, where, name = _source_text(source)
    content = parse_yaml(text, where) or {}
    if not isinstance(content, dict):
        raise ViceError(f"{where} must hold settings, `name: value`, but holds a {type(content).__name__}.")
    content.setdefault("session_name", name)
    content.setdefault("model", {})
    _check_names(content, Settings, "", f" in {where}")
    return _settings(content, overrides)


def override_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Settings with some of them overridden, as for `load_settings`.

    Raises:
        ViceError: as for `load_settings`.

    Example:
        >>> override_settings(load_settings("demo"), ["trainer.epochs=2"]).trainer.epochs
        2
    """
    return _settings(settings.model_dump(), overrides)


def _settings(content: dict[str, Any], overrides: Sequence[str]) -> Settings:
    for override in overrides:
        _override(content, override)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise _told(error) from None


def dump_settings(settings: Settings) -> str:
    """The settings as YAML text that `load_settings` reads back to the same."""
    content = settings.model_dump(mode="json")
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def _source_text(source: str | os.PathLike[str]) -> tuple[str, str, str]:
    """Text, what to call it in a message, and the default session name."""
    name = os.fspath(source)
    if isinstance(source, str) and name in preset_names():
        return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8"), f"the preset {name}", name
    path = Path(name)
    if isinstance(source, str) and not path.suffix and not path.exists():
        message = f"The settings must be a preset or a YAML file, but are {name!r}."
        raise ViceError(message, did_you_mean(name, preset_names()))
    path = existing_file(path, "The settings", f"Presets: {', '.join(preset_names())}.")
    try:
        return path.read_text(encoding="utf-8"), str(path), path.stem
    except UnicodeDecodeError as error:
        raise ViceError(f"{path} must be YAML in UTF-8, but is not: {error}.") from None


def _section(owner: type[BaseModel], name: str) -> type[Section] | None:
    kind = owner.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _paths(owner: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for name in owner.model_fields:
        section = _section(owner, name)
        if section:
            yield from _paths(section, f"{prefix}{name}.")
        else:
            yield prefix + name


def _unknown(path: str, where: str) -> ViceError:
    section, _, leaf = path.rpartition(".")
    leaves: dict[str, list[str]] = {}
    for known in _paths():
        leaves.setdefault(known.rpartition(".")[2], []).append(known)
    inside = {name: f"{section}.{name}" for name in leaves if f"{section}.{name}" in leaves[name]}
    # The last word alone, in its own section first: `optimizer.rate` is not to become `optimizer.name`.
    found = [inside[name] for name in difflib.get_close_matches(leaf, inside, n=1)]
    if not found and not inside:
        found = leaves.get(leaf, [])
        found = difflib.get_close_matches(path, found, n=1, cutoff=0.5) or found
        found = found or [p for name in difflib.get_close_matches(leaf, leaves, 1, 0.75) for p in leaves[name]]
    if path in ORIGINAL_NAMES:
        way_out = f"What the original calls so is `{ORIGINAL_NAMES[path]}` here."
    elif found:
        way_out = f"Did you mean {' or '.join(f'`{p}`' for p in found)}?"
    else:
        way_out = did_you_mean(leaf, inside.values() or Settings.model_fields)
    return ViceError(f"`{path}` is not a setting{where}.", way_out)


def _check_names(content: dict[Any, Any], owner: type[BaseModel], prefix: str, where: str) -> None:
    for name, value in list(content.items()):
        if name not in owner.model_fields:
            raise _unknown(f"{prefix}{name}", where)
        section = _section(owner, name)
        if section and value is None:  # a section whose lines are all commented out
            content[name] = {}
        elif section and not isinstance(value, Mapping):
            way_out = f"It has: {', '.join(section.model_fields)}."
            raise ViceError(f"`{prefix}{name}` must be a section{where}, but is {brief(value)}.", way_out)
        elif section:
            _check_names(value, section, f"{prefix}{name}.", where)


def _override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ViceError(f"An override must be `section.name=value`, but is {override!r}.")
    value = parse_yaml(text, f"The value of `{path}`")
    *above, leaf = path.split(".")
    owner: type[BaseModel] | None = Settings
    place = content
    for name in above:
        if owner is not None and name not in owner.model_fields:
            raise _unknown(path, "")
        free = owner is None or owner.model_fields[name].annotation == dict[str, Any]
        section = None if owner is None or free else _section(owner, name)
        if not free and section is None:  # a name below a plain value, like seed.x
            raise _unknown(path, "")
        below = place.get(name)
        place[name] = place = dict(below) if isinstance(below, Mapping) else {}
        owner = section
    if owner is not None:
        _check_names({leaf: value}, owner, "".join(f"{name}." for name in above), "")
        if _section(owner, leaf):  # merged: data={root: x} leaves the lists as they are
            value = {**(place.get(leaf) or {}), **(value or {})}
        place[leaf] = value
    else:
        place[leaf] = value


_FLUFF = re.compile(r", (unable to parse|got a number with).*")


def _told(error: ValidationError) -> ViceError:
    """pydantic's findings as one sentence about the first wrong setting."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        depth = 2 if len(loc) > 1 and _section(Settings, loc[0]) else 1
        section = _section(Settings, loc[0]) if depth == 2 else Settings
        default = section.model_fields[loc[depth - 1]].default if section else None
        message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
        if item["type"] in ("missing", "too_long") and isinstance(default, tuple):
            message = f"must be {len(default)} values, like {list(default)}"
        elif item["type"] == "missing":
            message = "must be given"
        found.setdefault(".".join(loc[:depth]), (item["input"], []))[1].append(_FLUFF.sub("", message))
    path, (value, messages) = next(iter(found.items()))
    if messages == ["must be given"]:
        return ViceError(f"`{path}` must be given, but is missing.", f"For example -o {path}=VALUE.")
    said = " or ".join(dict.fromkeys(messages)).replace(" or must be ", " or ")
    said = said if said.startswith("must") else f"is wrong ({said[:1].lower()}{said[1:]})"
    more = f" {len(found) - 1} more are wrong." if len(found) > 1 else ""
    return ViceError(f"`{path}` {said}, but is {brief(value)}.{more}")
