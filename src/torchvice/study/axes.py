"""Axes of a study: their levels, the base's level of each, and the combinations that are run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torchvice.config import Settings, override_settings
from torchvice.errors import ViceError, brief
from torchvice.study.checkpoints import ORIGIN, names_of, without_fields

__all__ = [
    "BASE",
    "Changes",
    "Recipes",
    "around",
    "base_level",
    "check_disjoint",
    "check_names_of_axes",
    "grid",
    "levels_of",
    "overrides_of",
]

BASE = "base"  # name of the base's level if an axis does not list it
# Columns of the table; those of the second line have others beside them, such as vice_low and vice_gradcam.
COLUMNS = ("run", "seed", "status", "reason", "images", "controls", "loss", "ece_ml", "paper_ece_ml", "train_seconds")
COLUMNS_OF_SEVERAL = ("vice", "paper_vice", "mean_average_precision", "ji", "quality", "assess_seconds")

Changes = dict[str, Any]  # {setting: value}
Recipes = dict[tuple[tuple[str, str], ...], Changes]  # {((axis, level), ...): changes}


def overrides_of(changes: Changes) -> list[str]:
    """Convert {setting: value} to overrides, with JSON as YAML; `parse_yaml` also reads JSON's 1e-05."""
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def levels_of(axis: str, value: Any, where: str) -> dict[str, Changes]:
    """Parse the levels of an axis and the settings that each changes."""
    if isinstance(value, list):
        levels = {_label(entry): {axis: entry} for entry in value}
        if len(levels) < len(value):
            labels = list(map(_label, value))
            duplicate = next(label for label in labels if labels.count(label) > 1)
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


def check_names_of_axes(axes: Iterable[str], where: str, some_given: bool) -> None:
    """Check that no axis is called like another column of the table; `some_given`: it has those of checkpoints."""
    columns = (*COLUMNS, *COLUMNS_OF_SEVERAL, *(ORIGIN if some_given else ()))
    for axis in axes:
        if axis in columns or axis.startswith(tuple(f"{name}_" for name in COLUMNS_OF_SEVERAL)):
            raise ViceError(
                f"An axis must not be called `{axis}`, as a column of the table, but one of {where} is.",
                "Give it another name, and each level its settings: NAME: {LEVEL: {SETTING: VALUE}}.",
            )


def base_level(
    axis: str,
    levels: Mapping[str, Changes],
    base: Settings,
    shared: Mapping[str, Any] | None = None,
    one_at_a_time: bool = False,
) -> str:
    """Check the settings of each level, and return the level that equals the base, or BASE.

    `shared` are the fields of a checkpoint that all runs have; see `torchvice.study.checkpoints.FIELDS`. Levels that
    are a part of the checkpoint's name differ by it. In a study around the base, no other level is called BASE.
    """
    shared = shared or {}
    variants: dict[str, tuple[Settings, dict[str, Any]]] = {}
    for level, changes in levels.items():
        if "seed" in changes:
            raise ViceError(f"An axis must not set `seed`, but `{axis}` does.", "List the seeds: seeds: [1, 2, 3].")
        own, fields = without_fields(changes)
        variant = override_settings(base, overrides_of(own)), {**shared, **fields}
        same = next((other for other, known in variants.items() if known == variant), None)
        if same is not None and f"{{{axis}}}" not in str(variant[1].get("checkpoint")):
            raise ViceError(
                f"The levels of the axis `{axis}` must differ, but {same} and {level} have the same settings."
            )
        variants[level] = variant
    origin = next((level for level, variant in variants.items() if variant == (base, shared)), None)
    if origin is None and one_at_a_time and BASE in levels:
        raise ViceError(
            f"The level `{BASE}` of the axis `{axis}` must have the settings of the base, around which the study is, "
            "but has others.",
            "Give the level another name, or the base these settings, under `settings`.",
        )
    return origin or BASE


def check_disjoint(axes: Mapping[str, Mapping[str, Changes]]) -> None:
    """Check that axes that are combined set different settings."""
    owner: dict[str, str] = {}
    for axis, levels in axes.items():
        for name in {name for changes in levels.values() for name in names_of(changes)}:
            if owner.setdefault(name, axis) != axis:
                raise ViceError(
                    f"Combined axes must set different settings, but `{owner[name]}` and `{axis}` both set `{name}`.",
                    "Merge them into one axis, or set one_at_a_time: true and leave both out of `across`.",
                )


def grid(axes: Mapping[str, Mapping[str, Changes]]) -> Recipes:
    """Combine every level of every axis."""
    recipes: Recipes = {}
    for chosen in itertools.product(*([(axis, level) for level in levels] for axis, levels in axes.items())):
        recipes[chosen] = {name: v for axis, level in chosen for name, v in axes[axis][level].items()}
    return recipes


def around(axes: Mapping[str, Mapping[str, Changes]], origin: Mapping[str, str], across: Sequence[str] = ()) -> Recipes:
    """Combine the base with one changed axis at a time, at every combination of the axes in `across`."""
    off_base = [(axis, level) for axis in axes if axis not in across for level in axes[axis] if level != origin[axis]]
    recipes: Recipes = {}
    crossed = {axis: dict.fromkeys((origin[axis], *axes[axis])) for axis in across}
    for chosen in itertools.product(*crossed.values()):
        crossed_levels = dict(zip(across, chosen, strict=True))
        changes = {name: v for axis, level in crossed_levels.items() for name, v in axes[axis].get(level, {}).items()}
        recipes[tuple({**origin, **crossed_levels}.items())] = changes
        for axis, level in off_base:
            recipes[tuple({**origin, **crossed_levels, axis: level}.items())] = {**changes, **axes[axis][level]}
    return recipes
