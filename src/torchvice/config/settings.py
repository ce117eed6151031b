"""Settings of a run: read a preset or a YAML file, override by `section.name=value`, check, and write."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from torchvice.config.sections import (
    AssessSettings,
    DataSettings,
    FolderName,
    ModelSettings,
    OptimizerSettings,
    RegularisationSettings,
    ScheduleSettings,
    Section,
    TrainerSettings,
    TransformSettings,
)
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import existing_file, parse_document, parse_yaml
from torchvice.files.yaml_text import FLOAT, whole_match

PRESETS = resources.files("torchvice") / "presets"

# Options of the original implementation, and the settings that replace them.
ORIGINAL_NAMES = {
    "crop_size": "transform.crop",
    "eval_list": "data.eval_split",
    "infer_list": "data.eval_split",
    "network": "model.name",
}


class Settings(Section):
    """All settings of a run."""

    session_name: FolderName
    work_dir: str = "runs"
    seed: int = Field(default=2022, ge=0, lt=2**32)
    loss: Literal["auto", "multilabel", "cross_entropy"] = "auto"  # auto: cross_entropy if data.exclusive
    data: DataSettings = DataSettings()
    model: ModelSettings
    transform: TransformSettings = TransformSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    regularisation: RegularisationSettings = RegularisationSettings()
    trainer: TrainerSettings = TrainerSettings()
    assess: AssessSettings = AssessSettings()

    @property
    def training_loss(self) -> str:
        """Loss to train with, "multilabel" or "cross_entropy"; resolves `auto`."""
        return ("cross_entropy" if self.data.exclusive else "multilabel") if self.loss == "auto" else self.loss

    @property
    def folder(self) -> Path:
        """Folder of the run, work_dir/session_name."""
        return Path(self.work_dir) / self.session_name


class _Dumper(yaml.SafeDumper):
    """Quote text that YAML 1.1 or 1.2 would read as another type."""


# PyYAML copies the resolvers to the subclass before it adds one.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", whole_match(FLOAT), list("-+.0123456789"))


def preset_names() -> list[str]:
    """Return the names of the presets that come with torchvice, sorted."""
    return yaml_names(PRESETS)


def yaml_names(folder: Traversable) -> list[str]:
    """Return the names of the YAML files in a folder, sorted, without suffix."""
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_settings(source: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Settings:
    """Load the settings of a preset or YAML file.

    Args:
        source: name of a preset, path of a YAML file, or folder of a RUN, whose config.yaml is read and whose work_dir
            is where it lies. Settings that a file leaves out have their defaults; `session_name` has the file's name.
        overrides: `section.name=value`, with YAML values: `optimizer.lr=1e-2`, `transform.jitter=null`,
            `model.arguments.channels=[16,32,64,128]`. Later overrides take precedence.

    Raises:
        ViceError: no such preset or file, invalid YAML (the message has the line), an unknown name (the message
            suggests the closest), or a value of the wrong type or range.

    Example:
        >>> load_settings("resnet50", ["optimizer.lr=1e-3"]).optimizer.lr
        0.001
    """
    folder = _run_folder(source)
    file = read_source(folder / "config.yaml" if folder else source, PRESETS, "preset", "The settings")
    content = parse_document(file.text, file.where) or {}
    if not isinstance(content, dict):
        raise ViceError(f"{file.where} must hold settings, `name: value`, but holds a {type(content).__name__}.")
    content.setdefault("session_name", file.stem)
    content.setdefault("model", {})
    _check_names(content, Settings, "", f" in {file.where}")
    if folder:  # it may have been moved, or the command may run elsewhere
        content["work_dir"] = str(folder.parent)
    return _settings(content, overrides)


def _run_folder(source: str | os.PathLike[str]) -> Path | None:
    """The folder of a RUN, if the source is one and no name of a preset."""
    if isinstance(source, str) and source in preset_names():
        return None
    folder = Path(source)
    if not (folder / "config.yaml").is_file():
        return None
    return folder if folder.name not in ("", "..") else folder.resolve()


def override_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Return the settings with some of them overridden, see `load_settings`.

    Raises:
        ViceError: see `load_settings`.

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
        raise _as_vice_error(error) from None


def dump_settings(settings: Settings) -> str:
    """Return the settings as YAML text, which `load_settings` reads back unchanged."""
    content = settings.model_dump(mode="json")
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


@dataclass(frozen=True)
class Source:
    """Text of a YAML file, its name in messages, its stem, and the folder that relative paths in it start from."""

    text: str
    where: str
    stem: str
    folder: Path


def read_source(source: str | os.PathLike[str], shipped: Traversable, kind: str, what: str) -> Source:
    """Read a YAML file by its path, or by its name if it comes with torchvice.

    Args:
        source: path or name.
        shipped: folder of the YAML files that come with torchvice.
        kind: word for a shipped file in messages: "preset" or "study".
        what: word for the content in messages: "The settings" or "The study".

    Raises:
        ViceError: no such file or name, or not UTF-8.
    """
    name, names = os.fspath(source), yaml_names(shipped)
    if isinstance(source, str) and name in names:
        return Source((shipped / f"{name}.yaml").read_text(encoding="utf-8"), f"the {kind} {name}", name, Path())
    path = Path(name)
    if isinstance(source, str) and not path.suffix and not path.exists():
        raise ViceError(f"No {kind} or YAML file called {name!r} found.", did_you_mean(name, names))
    path = existing_file(path, what, f"Included with torchvice: {', '.join(names)}.")
    try:
        return Source(path.read_text(encoding="utf-8"), str(path), path.stem, path.parent)
    except UnicodeDecodeError as error:
        raise ViceError(f"{path} must be YAML in UTF-8, but is not: {error}.") from None


def _section(owner: type[BaseModel], name: str) -> type[Section] | None:
    """Return the class of a setting that is a section, else None."""
    kind = owner.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _paths(owner: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    for name in owner.model_fields:
        section = _section(owner, name)
        if section:
            yield from _paths(section, f"{prefix}{name}.")
        else:
            yield prefix + name


def _unknown(path: str, where: str) -> ViceError:
    """Build the error for an unknown setting, with the closest names."""
    section, _, leaf = path.rpartition(".")
    leaves: dict[str, list[str]] = {}
    for known in _paths():
        leaves.setdefault(known.rpartition(".")[2], []).append(known)
    inside = {name: f"{section}.{name}" for name in leaves if f"{section}.{name}" in leaves[name]}
    # Compare the last part only, so that `optimizer.rate` does not suggest `optimizer.name`. The right name in a wrong
    # section comes first: `data.batch_size`. With an unknown section (`optimiser.lr`) the whole path decides.
    close = leaves.get(leaf, [])
    if section and not inside:
        close = difflib.get_close_matches(path, close, n=1, cutoff=0.5) or close
    close = close or [inside[name] for name in difflib.get_close_matches(leaf, inside, n=1)]
    if not close:
        close = [p for name in difflib.get_close_matches(leaf, leaves, 1, 0.75) for p in leaves[name]]
    if path in ORIGINAL_NAMES:
        way_out = f"The original's `{path}` is `{ORIGINAL_NAMES[path]}` here."
    elif close:
        way_out = f"Did you mean {' or '.join(f'`{p}`' for p in close)}?"
    else:
        way_out = did_you_mean(leaf, inside.values() or Settings.model_fields)
    return ViceError(f"`{path}` is not a setting{where}.", way_out)


def _check_names(content: dict[Any, Any], owner: type[BaseModel], prefix: str, where: str) -> None:
    """Check that all names are settings and all sections mappings; an empty section becomes {}, in place."""
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
    """Apply one `section.name=value` to the content, in place."""
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ViceError(f"An override must be `section.name=value`, but is {override!r}.")
    value = parse_yaml(text, f"The value of `{path}`")
    *sections, leaf = path.split(".")
    owner: type[BaseModel] | None = Settings  # None: below `model.arguments`, where any name is allowed
    target = content
    for name in sections:
        if owner is not None and name not in owner.model_fields:
            raise _unknown(path, "")
        free = owner is None or owner.model_fields[name].annotation == dict[str, Any]
        section = None if owner is None or free else _section(owner, name)
        if not free and section is None:  # a name below a single value, like seed.x
            raise _unknown(path, "")
        inner = target.get(name)
        target[name] = target = dict(inner) if isinstance(inner, Mapping) else {}
        owner = section
    if owner is not None:
        _check_names({leaf: value}, owner, "".join(f"{name}." for name in sections), "")
        if _section(owner, leaf):  # data={root: x} is merged into the section
            value = {**(target.get(leaf) or {}), **(value or {})}
    target[leaf] = value


def problem_of(message: str) -> str:
    """Shorten a message of pydantic to the part that follows the name of the setting, such as "must be a number"."""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be", 1)
    message = message.replace("must be a valid tuple", "must be a list")
    return re.sub(r", (unable to parse|got a number with).*", "", message)


def _length(annotation: Any) -> int | None:
    """Return the number of values of a tuple, alone or in a union; None for other types.

    Example:
        >>> _length(tuple[int, int] | None), _length(tuple[str, ...]), _length(int)
        (2, None, None)
    """
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
            return len(get_args(kind))
    return None


def _as_vice_error(error: ValidationError) -> ViceError:
    """Turn pydantic's errors into one sentence about the first wrong setting."""
    problems: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        depth = 2 if len(loc) > 1 and _section(Settings, loc[0]) else 1
        section = _section(Settings, loc[0]) if depth == 2 else Settings
        default = section.model_fields[loc[depth - 1]].default if section else None
        message = problem_of(item["msg"])
        length = _length(section.model_fields[loc[depth - 1]].annotation) if section else None
        if length and (item["type"] == "too_long" or (item["type"] == "missing" and len(loc) > depth)):
            like = f", like {list(default)}" if isinstance(default, tuple) else ""
            message = f"must be {length} values{like}"
        elif item["type"] == "missing":
            message = "must be given"
        problems.setdefault(".".join(loc[:depth]), (item["input"], []))[1].append(message)
    path, (value, messages) = next(iter(problems.items()))
    if messages == ["must be given"]:
        return ViceError(f"`{path}` must be given, but is missing.", f"For example -o {path}=VALUE.")
    problem = " or ".join(dict.fromkeys(messages)).replace(" or must be ", " or ")
    problem = problem if problem.startswith("must") else f"is wrong ({problem[:1].lower()}{problem[1:]})"
    more = ", ".join(f"`{other}`" for other in list(problems)[1:])
    return ViceError(f"`{path}` {problem}, but is {brief(value)}.{f' Also wrong: {more}.' if more else ''}")
