"""`vice schema`: the JSON Schemas of the files that torchvice reads and writes, for editors and validators."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from torchvice.cli.terminal import say

__all__ = ["SCHEMAS", "schema", "schema_of"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


class SchemaName(StrEnum):
    """The files that have a schema."""

    measures = "measures"
    ranking = "ranking"
    manifest = "manifest"
    settings = "settings"
    study = "study"
    dataset = "dataset"
    class_map = "class-map"
    prompts = "prompts"


def _measures() -> dict[str, Any]:
    from torchvice.measures.json_schema import json_schema

    return json_schema()


def _ranking() -> dict[str, Any]:
    from torchvice.measures.json_schema import ranking_schema

    return ranking_schema()


def _manifest() -> dict[str, Any]:
    from torchvice.samples.checks import manifest_schema

    return manifest_schema()


def _settings() -> dict[str, Any]:
    from torchvice.config import Settings

    return Settings.model_json_schema()


def _study() -> dict[str, Any]:
    from torchvice.study.plan import study_schema

    return study_schema()


def _dataset() -> dict[str, Any]:
    from torchvice.data.description import description_schema

    return description_schema()


def _class_map() -> dict[str, Any]:
    from torchvice.runs.class_maps import class_map_schema

    return class_map_schema()


def _prompts() -> dict[str, Any]:
    from torchvice.models.prompts import prompts_schema

    return prompts_schema()


# {name: (what it describes, its schema)}
SCHEMAS: dict[SchemaName, tuple[str, Callable[[], dict[str, Any]]]] = {
    SchemaName.measures: ("measures.json, written by vice measure", _measures),
    SchemaName.ranking: ("ranking.json, written by vice rank --json", _ranking),
    SchemaName.manifest: ("manifest.json of a table, written by vice assess", _manifest),
    SchemaName.settings: ("a preset or config.yaml of a RUN, read by vice train", _settings),
    SchemaName.study: ("the file of a study, read by vice study", _study),
    SchemaName.dataset: ("dataset.yaml, read wherever data are", _dataset),
    SchemaName.class_map: ("a class map, read by --class-map", _class_map),
    SchemaName.prompts: ("prompts of a zero-shot classifier, read by --prompts", _prompts),
}


_WRITTEN = (SchemaName.measures, SchemaName.ranking, SchemaName.manifest)


def schema_of(name: SchemaName) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of file."""
    what, made = SCHEMAS[name]
    found = {**made(), "$schema": DRAFT, "title": f"torchvice: {what}"}
    if name not in _WRITTEN:  # a file may name its schema for an editor
        found["properties"] = {"$schema": {"type": "string"}, **found.get("properties", {})}
    return found


def schema(
    name: SchemaName = typer.Argument(..., help="The kind of file."),
    out: Path | None = typer.Option(None, "--out", help="File to write, in place of printing."),
) -> None:
    """The JSON Schema of a file that torchvice reads or writes, for an editor or a validator."""
    import json

    from torchvice.files import write_json

    if out is None:
        typer.echo(json.dumps(schema_of(name), indent=1))
    else:
        say(f"Written: {write_json(out, schema_of(name))}")
