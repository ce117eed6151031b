"""Class maps: which outputs of a model mean which class of the data, from a file or one that torchvice ships."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import read_yaml

__all__ = ["class_map_schema", "read_class_map", "ready_class_maps"]

_READY = resources.files("torchvice") / "presets" / "class_maps"


def ready_class_maps() -> dict[str, Path]:
    """The class maps that torchvice ships, by name; experiments/class_maps.py writes them."""
    files = sorted(entry.name for entry in _READY.iterdir() if entry.name.endswith(".yaml"))
    return {name.removesuffix(".yaml"): Path(str(_READY / name)) for name in files}


def read_class_map(path: str | os.PathLike[str], classes: Sequence[str], outputs: int) -> list[list[int]]:
    """The model's outputs that mean each of the data's classes; none for a class that the map leaves out.

    Args:
        path: JSON or YAML, {class name: output index or list of indices}, or a name of `ready_class_maps`. Several
            outputs mean "any of these", and their largest logit counts. A class may be left out, and is then not asked
            for. A ready map may name classes that the data lack.
        classes: (C,) the data's class names.
        outputs: how many the model has.

    Raises:
        ViceError: no such file or name, a file and a ready map of one name, an unknown class, no class of the data at
            all, an index outside the outputs, or another number of outputs than a ready map is for.
    """
    ready = ready_class_maps()
    shipped = str(path) in ready
    if shipped and Path(path).exists():
        raise ViceError(
            f"The class map {path} is one that torchvice ships, and a file here.",
            f"For the file give its whole path: {Path(path).absolute()}.",
        )
    if not shipped and not Path(path).exists() and not Path(path).suffix:
        way_out = did_you_mean(str(path), ready)
        raise ViceError(f"The class map must be a file or one of {', '.join(ready)}, but is {str(path)!r}.", way_out)
    content = read_yaml(ready[str(path)] if shipped else path, "The class map")
    if not isinstance(content, Mapping):
        raise ViceError(
            f"The class map {path} must map class names to outputs, but is a {type(content).__name__}.",
            "Write lines such as `dog: [151, 152]`.",
        )
    known = {str(name): value for name, value in content.items()}
    _check_names(path, known, classes, shipped)
    if shipped and outputs != 1000:
        raise ViceError(
            f"The class map {path} is for a model of ImageNet's 1000 outputs, but the model has {outputs}.",
            "Write a class map of your own: --class-map FILE.",
        )
    return [_group(name, known[name], outputs) if name in known else [] for name in classes]


def _check_names(path: Any, known: Mapping[str, Any], classes: Sequence[str], shipped: bool) -> None:
    unknown = [name for name in known if name not in classes]
    if unknown and not shipped:
        message = f"The class map {path} names `{unknown[0]}`, which is no class of the data."
        raise ViceError(message, did_you_mean(unknown[0], classes))
    if len(unknown) == len(known):
        raise ViceError(
            f"The class map {path} must name classes of the data, but names none of them: {brief(list(classes))}.",
            f"It names {', '.join(list(known)[:5])} ..." if known else "Give the outputs of at least one class.",
        )


def _group(name: str, given: Any, outputs: int) -> list[int]:
    group = given if isinstance(given, list) else [given]
    if not group or not all(type(i) is int and 0 <= i < outputs for i in group):
        raise ViceError(
            f"The class map's `{name}` must be outputs 0 to {outputs - 1}, but is {brief(given)}.",
            "Count the outputs from 0.",
        )
    return group


def class_map_schema() -> dict[str, Any]:
    """The JSON Schema of a class map; that the classes are those of the data is checked where it is read."""
    output = {"type": "integer", "minimum": 0, "description": "an output of the model, counted from 0"}
    several = {"type": "array", "items": output, "minItems": 1}
    return {"type": "object", "additionalProperties": {"anyOf": [output, several]}, "minProperties": 1}
