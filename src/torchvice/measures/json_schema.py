"""The JSON Schema of measures.json, made of the catalogue and of the rows."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

from torchvice.measures.catalogue import SECTIONS, measure_of, paths
from torchvice.measures.rank import BY, ranking_label
from torchvice.measures.rank import SCHEMA as RANKING_SCHEMA
from torchvice.measures.reduced import MEASURES
from torchvice.measures.rows import ClassRow, Control, Fold, Method, Stratum
from torchvice.measures.sheet import JSON_SCHEMA

__all__ = ["json_schema", "ranking_schema"]

_TYPES = {float: "number", int: "integer", str: "string", bool: "boolean", type(None): "null"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `vice measure --json` writes: also printed by `vice measure --schema`."""
    text, number = {"type": "string"}, {"type": ["number", "null"]}
    limits = _object(
        {"low": {"type": "number"}, "high": {"type": "number"}, "level": {"type": "number"}, "method": text},
        reliable={"type": "boolean"},
        undefined_replicates={"type": "integer"},
    )
    test = _object({"p": number | {"exclusiveMinimum": 0, "maximum": 1}, "method": text}, at_floor={"type": "boolean"})
    properties: dict[str, Any] = {
        "schema": {"const": JSON_SCHEMA},
        "images": {"type": "integer", "minimum": 0},
        "excluded": _mapping({"type": "integer", "minimum": 1}),
        "out_of": _mapping({"type": "integer"}),
        **{section: _section(section) for section in SECTIONS},
        "undefined": _mapping(text),
        "intervals": _mapping(limits),
        "tests": _mapping(test),
        "notes": _mapping(text),
        "controls": _mapping(_row(Control)),
        "methods": _mapping(_row(Method)),
        "retests": _mapping(_row(Method)),
        "strata": {"type": "array", "items": _row(Stratum)},
        "classes": {"type": "array", "items": _row(ClassRow)},
        "folds": {"type": "array", "items": _row(Fold)},
        "ece_by_class": {"type": "array", "items": number},
        "null_bands": _mapping(_mapping({"type": ["number", "integer", "string"]})),
        "verdict": _verdict(text, number, limits),
        **{name: {"type": "object"} for name in ("threshold_curve", "quadrants", "scaling", "source")},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "measures.json of torchvice",
        **_object(properties),
    }


def ranking_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `vice rank --json` writes."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    number, maybe_text = {"type": ["number", "null"]}, {"type": ["string", "null"]}
    rank, truth = {"type": ["integer", "null"], "minimum": 1}, {"type": ["boolean", "null"]}
    row: dict[str, Any] = {"name": text, "path": text}
    row |= dict.fromkeys(("rank", "rank_low", "rank_high", "alone_low", "alone_high"), rank)
    for measure in MEASURES:
        row[measure] = number | {"title": ranking_label(measure, "strict").removesuffix(" (strict)")}
        row |= {f"{measure}_{end}": number for end in ("low", "high") if measure in BY}
    row |= dict.fromkeys(
        ("predicted", "given_accuracy", "given_accuracy_low", "given_accuracy_high", "front_share"), number
    )
    row |= dict.fromkeys(("on_front", "candidate", "sure"), truth)
    row |= {"network": text, "method": text, "interpolation": maybe_text, "top1": number, "top5": number}
    row |= {"img_size": {"type": ["integer", "array", "null"]}, "undefined": _mapping(text)}
    left_out = _object({"name": text, "path": text, "reason": text})
    return _object(
        {
            "schema": {"const": RANKING_SCHEMA},
            "protocol": {"enum": ["strict", "paper"]},
            "by": {"enum": list(BY)},
            "accuracy": {"enum": ["ml_accuracy", "mean_average_precision"]},
            **dict.fromkeys(("images", "masked", "pairs", "replicates", "seed", "told_apart"), count),
            "level": {"type": "number"},
            "bootstrap": _mapping({"enum": ["exact", "linear"]}),
            "critical": _mapping({"type": "number"}),
            "models": {"type": "array", "items": _object(row)},
            "left_out": {"type": "array", "items": left_out},
            "top": rank,
            "sentences": {"type": "array", "items": text},
        }
    )


def _verdict(text: dict[str, Any], number: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """The verdict; its shares are empty objects where the table was not assessed under `strict`."""
    share = {"share": number, "pairs": {"type": "integer"}, "interval": {"anyOf": [limits, {"type": "null"}]}}
    named = {"class": text, "witness": text, "share": {"type": "number"}, "expected": {"type": "number"}}
    named |= {"p": {"type": "number"}, "pairs": {"type": "integer"}}
    named["looks_at"] = {"type": "array", "items": {"type": "object"}}
    texts = {"type": "array", "items": text}
    chance = {"chance": number, "chance_pairs": {"type": ["integer", "null"]}, "share_of_chance_pairs": number}

    def shares(**more: Any) -> dict[str, Any]:
        return {"type": "object", "properties": share | more, "additionalProperties": False}

    return _object(
        {
            "sentences": texts,
            "on_object": shares(**chance),
            "without_object": shares(lost=number, lost_to_hole=number, foreground_sensitivity=number),
            "without_background": shares(lost=number),
            "stands_out": {"type": "array", "items": _object(named)},
            "power": {"type": "object"},
            "vice": {"type": "object"},
            "caveats": texts,
        }
    )


def _section(section: str) -> dict[str, Any]:
    """The numbers of a section; `quality` also says which quality it is."""
    numbers = {}
    for path in paths(section):
        measure = measure_of(path)
        described = {"title": measure.full_label, "description": measure.definition}
        numbers[measure.name] = {"type": ["number", "null"], **described}
    words = {"name": {"type": "string"}, "meaning": {"type": "string"}} if section == "quality" else {}
    return {"type": "object", "properties": numbers | words, "additionalProperties": False}


def _row(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    columns = {f.name: {"type": _types(hints[f.name])} for f in dataclasses.fields(kind)}
    return _object(columns) | {"title": kind.__name__}


def _types(hint: Any) -> str | list[str]:
    names = [_TYPES[part] for part in get_args(hint) or (hint,)]
    return names[0] if len(names) == 1 else names


def _object(properties: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with exactly these properties, and perhaps the optional ones."""
    return {
        "type": "object",
        "properties": properties | optional,
        "required": list(properties),
        "additionalProperties": False,
    }


def _mapping(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}
