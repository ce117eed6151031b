"""Check a table that was read from disk: manifests get edited, disks flip bits, two runs write into one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from torchvice.errors import ViceError

if TYPE_CHECKING:
    import pyarrow as pa

    from torchvice.samples.columns import Images, Regions

__all__ = ["all_versions", "check_columns", "check_manifest", "check_resumed", "check_rows", "manifest_schema"]

_Known = TypeVar("_Known", "_Manifest", "_Resumed")

WAY_OUT = "Restore the table's folder, or delete it and run vice assess again."


@dataclass(frozen=True)
class _Protocol:
    view: str
    explanation: str


@dataclass(frozen=True)
class _Manifest:
    """What measures read of a manifest; everything else is free."""

    classes: list[str]
    targets: Literal["multilabel", "exclusive"]
    thresholds: list[float]
    explanations: dict[str, dict[str, Any]]
    protocols: dict[Literal["paper", "strict"], _Protocol]
    model: dict[str, Any]
    dataset: dict[str, Any]
    versions: dict[str, Any]
    later_versions: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _MapSettings:
    choices: dict[str, Any]
    site: dict[str, Any]


@dataclass(frozen=True)
class _Resumed:
    """What a resumed assessment reads in addition."""

    finished: bool
    added: list[str]
    adding: dict[str, dict[str, Any]]
    map_settings: _MapSettings = field(default_factory=lambda: _MapSettings({}, {}))  # earlier tables have none


# What is read of an explanation's settings.
_SETTINGS = {"role": str, "method": str, "normalisation": str, "interventions": dict}


def check_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """Check the entries that readers need: there, of the right type, and in agreement.

    Raises:
        ViceError: an entry is missing or wrong; `where` names the file.
    """
    checked = _validated(_Manifest, manifest, where)
    for name, chosen in checked.protocols.items():
        if chosen.explanation not in checked.explanations:
            message = f"`protocols.{name}` names `{chosen.explanation}`, which is not among its explanations"
            raise ViceError(f"The manifest {where} is damaged: {message}.", WAY_OUT)
    for explanation, settings in checked.explanations.items():
        _check_settings(f"explanations.{explanation}", settings, where)
    if unknown := sorted(set(checked.added) - set(checked.explanations)):
        message = f"`added` names `{unknown[0]}`, which is not among its explanations"
        raise ViceError(f"The manifest {where} is damaged: {message}.", WAY_OUT)
    if not checked.classes or not checked.thresholds:
        raise ViceError(f"The manifest {where} is damaged: it names no classes or no thresholds.", WAY_OUT)


def all_versions(manifest: Mapping[str, Any], *more: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions that a table's rows were made with, each once, in the order of the rows; `more` come last."""
    found: list[dict[str, Any]] = []
    for versions in (manifest["versions"], *manifest.get("later_versions", ()), *more):
        found += [] if versions in found else [versions]
    return found


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of manifest.json: what measures read of it; everything else is free."""
    from pydantic import TypeAdapter

    return TypeAdapter(_Manifest).json_schema()


def check_resumed(manifest: Mapping[str, Any], where: str) -> None:
    """Check the entries that only a resumed assessment reads, after `check_manifest`.

    Raises:
        ViceError: as `check_manifest`.
    """
    for explanation, settings in _validated(_Resumed, manifest, where).adding.items():
        _check_settings(f"adding.{explanation}", settings, where)


def _validated(kind: type[_Known], manifest: Mapping[str, Any], where: str) -> _Known:
    from pydantic import TypeAdapter, ValidationError

    known = {entry.name: manifest[entry.name] for entry in fields(kind) if entry.name in manifest}
    try:
        return TypeAdapter(kind).validate_python(known, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ViceError(f"The manifest {where} is damaged: `{place}`: {first['msg']}.", WAY_OUT) from None


def _check_settings(place: str, settings: Mapping[str, Any], where: str) -> None:
    """Check the settings of an explanation: a role, and the right types of what is read."""
    if settings.get("role") is None:
        raise ViceError(f"The manifest {where} is damaged: `{place}` has no role.", WAY_OUT)
    for name, kind in _SETTINGS.items():
        value = settings.get(name)
        if value is not None and not isinstance(value, kind):
            raise ViceError(f"The manifest {where} is damaged: `{place}.{name}` is of the wrong type.", WAY_OUT)


_TEXT = {"image_id", "view", "explanation", "status", "image_digest", "mask_digest"}
_LISTS = {
    "targets",
    "logits",
    "predicted",
    "intersection",
    "inside",
    "outside",
    "box_iou",
    "peak_features",
    "map",
    "map_shape",
}


def check_columns(table: pa.Table) -> None:
    """Check that every column of a shard has the kind of values that its name stands for, and none is missing.

    Raises:
        ValueError: a column of another type, or a value that is null.
    """
    check_types(table.schema)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise ValueError(f"its column `{name}` has {column.null_count} values that are null")


def check_types(schema: pa.Schema) -> None:
    """Check that the columns of a shard have the kinds of values that their names stand for.

    Raises:
        ValueError: a column of another type.
    """
    import pyarrow.types as kinds

    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in _LISTS:
            listed = kinds.is_list if name.startswith("map") else kinds.is_fixed_size_list
            right = listed(kind) and _is_number(kind.value_type)
        elif name in _TEXT:
            right = kinds.is_string(kind)
        else:
            right = kinds.is_boolean(kind) if name == "has_mask" else _is_number(kind)
        if not right:
            raise ValueError(f"its column `{name}` is of type {kind}")


def _is_number(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind) or kinds.is_floating(kind))


def check_rows(manifest: Mapping[str, Any], images: Images, regions: Regions, where: str) -> None:
    """Check the rows of all shards together: each image and view once, and as many columns as the manifest says.

    Raises:
        ViceError: an image twice, which two runs in one folder leave behind; rows of another table.
    """
    classes, thresholds = len(manifest["classes"]), len(manifest["thresholds"])
    keys = list(zip(images.image_id.tolist(), images.view.tolist(), strict=True))
    if len(set(keys)) < len(keys):
        (image, view), times = Counter(keys).most_common(1)[0]
        raise ViceError(
            f"The table {where} must hold each image once, but holds `{image}` {times} times on the view {view}, and "
            f"{len(keys) - len(set(keys))} rows too many in all.",
            "Two runs wrote into this folder. Delete it and run vice assess again.",
        )
    widths = {"logits": classes, "targets": classes, "predicted": thresholds, "intersection": thresholds}
    for name, expected in widths.items():
        part = images if name in ("logits", "targets") else regions
        # Of the first row: columns of a finished table are on disk, and those of one file have one width.
        shape = getattr(part.where(np.arange(min(1, len(part)))), name).shape[1:]
        if len(part) and shape != (expected,):
            raise ViceError(f"The table {where} must have {expected} `{name}` a row, but has {shape}.", WAY_OUT)
    outside = (regions.label < 0) | (regions.label > classes)
    if outside.any():
        label = int(regions.label[outside][0])
        raise ViceError(f"The table {where} must have labels from 0 to {classes}, but has {label}.", WAY_OUT)
    unknown = set(regions.image_id.tolist()) - set(images.image_id.tolist())
    if unknown:
        raise ViceError(f"The table {where} has regions of `{min(unknown)}`, but no such image.", WAY_OUT)
