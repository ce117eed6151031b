"""Schemas accept what torchvice reads and writes, and refuse what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import torchvice
from command import vice
from planted import planted
from torchvice.cli.schemas import SCHEMAS, SchemaName, schema_of
from torchvice.config import load_settings
from torchvice.data.description import read_description
from torchvice.errors import ViceError
from torchvice.files import read_yaml
from torchvice.runs.class_maps import read_class_map, ready_class_maps
from torchvice.study import load_study

ROOT = Path(__file__).parents[2]
PRESETS = Path(torchvice.__file__).parent / "presets"


def _valid(name: SchemaName, content: Any) -> bool:
    return Draft202012Validator(schema_of(name)).is_valid(json.loads(json.dumps(content)))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_command_prints_a_schema(name: SchemaName, tmp_path: Path, capsys) -> None:
    status, out, _ = vice(capsys, "schema", name.value)
    assert status == 0
    printed = json.loads(out)
    Draft202012Validator.check_schema(printed)
    assert printed["title"].startswith("torchvice: ")
    assert vice(capsys, "schema", name.value, "--out", tmp_path / "one.json")[0] == 0
    assert json.loads((tmp_path / "one.json").read_text()) == printed


def test_the_docs_name_every_schema() -> None:
    page = (Path(__file__).parents[2] / "docs" / "project.md").read_text(encoding="utf-8")
    named = page.partition("prints the JSON Schema of")[2].partition(".\n")[0].partition("An editor")[0]
    assert re.findall(r"`([a-z-]+)`", named) == [*(name.value for name in SchemaName)]


def test_an_unknown_schema_lists_those_that_are_there(capsys) -> None:
    status, _, err = vice(capsys, "schema", "table")
    assert status == 2
    assert "class-map" in err


def test_what_is_written_is_valid(tmp_path: Path, capsys) -> None:
    planted(60).save(tmp_path / "table")
    assert vice(capsys, "measure", tmp_path / "table", "--replicates", 200, "--no-figures")[0] == 0
    assert _valid(SchemaName.manifest, json.loads((tmp_path / "table" / "manifest.json").read_text()))
    measures = json.loads((tmp_path / "table" / "measures.json").read_text())
    assert _valid(SchemaName.measures, measures)
    assert not _valid(SchemaName.measures, {**measures, "images": -1})
    assert _valid(SchemaName.settings, load_settings("demo").model_dump(mode="json"))


def test_a_file_may_name_its_schema(tmp_path: Path) -> None:
    named = {"$schema": "class-map.schema.json", "cat": 1, "dog": [0, 2]}
    assert _valid(SchemaName.class_map, named)
    file = tmp_path / "map.json"
    file.write_text(json.dumps(named))
    assert read_class_map(file, ["cat", "dog"], 3) == [[1], [0, 2]]
    settings = tmp_path / "mine.yaml"
    settings.write_text("$schema: settings.schema.json\n" + (PRESETS / "demo.yaml").read_text(encoding="utf-8"))
    assert load_settings(settings).model == load_settings("demo").model
    (tmp_path / "dataset.yaml").write_text("$schema: dataset.schema.json\nnames: [cat]\n")
    description = read_description(tmp_path)
    assert description is not None
    assert description.names == ("cat",)
    study = tmp_path / "study.yaml"
    text = (PRESETS / "studies" / "digits.yaml").read_text(encoding="utf-8")
    study.write_text("$schema: study.schema.json\n" + text)
    plans = [load_study(str(path), folder=tmp_path / "out") for path in (study, "digits")]
    assert [run.key for run in plans[0].runs] == [run.key for run in plans[1].runs]
    for name, content in (
        (SchemaName.settings, load_settings("demo").model_dump(mode="json")),
        (SchemaName.study, yaml.safe_load(text)),
    ):
        assert _valid(name, {**content, "$schema": "x.json"})


def test_presets_are_valid() -> None:
    for file in PRESETS.glob("*.yaml"):
        assert _valid(SchemaName.settings, read_yaml(file, "The file")), file.name
    for file in (PRESETS / "studies").glob("*.yaml"):
        assert _valid(SchemaName.study, read_yaml(file, "The file")), file.name
    for file in ready_class_maps().values():
        assert _valid(SchemaName.class_map, read_yaml(file, "The file")), file.name


def test_settings_and_studies_with_a_wrong_name_or_type_are_not() -> None:
    assert not _valid(SchemaName.settings, {"trainer": {"epoch": 3}})
    assert not _valid(SchemaName.settings, {"trainer": {"epochs": "many"}})
    assert not _valid(SchemaName.study, {"base": "demo", "axis": {}})
    assert not _valid(SchemaName.study, {"base": "demo", "axes": []})
    assert _valid(SchemaName.study, {"axes": {"network": {"a": {"checkpoint": "runs/a-s{seed}"}}}})  # without a base


DATASETS = [
    ({"names": ["cat", "dog"]}, True),
    ({"names": {"cat": 10, "dog": 20}, "void": 200, "background": [0, 1]}, True),
    ({"names": {"cat": [255, 0, 0], "dog": "#008040"}, "void": None}, True),
    ({"names": {"cat": 300}}, True),
    ({"names": ["cat"], "splits": {"train": "list.txt"}, "images": "."}, True),
    ({}, False),
    ({"names": []}, False),
    ({"names": ["cat", "cat"]}, False),
    ({"names": ["cat", 7]}, False),
    ({"names": {"cat": -1}}, False),
    ({"names": {"cat": 70000}}, False),
    ({"names": {"cat": [255, 0, 300]}}, False),
    ({"names": {"cat": "#12345g"}}, False),
    ({"names": ["cat"], "voids": 3}, False),
    ({"names": ["cat"], "images": 3}, False),
    ({"names": ["cat"], "splits": ["list.txt"]}, False),
]


@pytest.mark.parametrize(("content", "good"), DATASETS)
def test_dataset_yaml_is_valid_where_it_is_read(content: dict[str, Any], good: bool, tmp_path: Path) -> None:
    (tmp_path / "list.txt").touch()
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(content))
    assert _valid(SchemaName.dataset, content) is good
    if good:
        assert read_description(tmp_path) is not None
    else:
        with pytest.raises(ViceError):
            read_description(tmp_path)


def test_the_example_of_the_docs_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8"), re.DOTALL)
    contents = [content for block in blocks if "names" in (content := yaml.safe_load(block))]
    assert contents
    assert all(_valid(SchemaName.dataset, content) for content in contents)


@pytest.mark.parametrize(
    ("content", "good"),
    [({"cat": 3, "dog": [1, 2]}, True), ({"cat": -1}, False), ({"cat": []}, False), ({"cat": "3"}, False), ({}, False)],
)
def test_class_maps_are_valid_where_they_are_read(content: dict[str, Any], good: bool, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(content))
    assert _valid(SchemaName.class_map, content) is good
    if good:
        assert read_class_map(tmp_path / "map.yaml", ["cat", "dog"], 5) == [[3], [1, 2]]
    else:
        with pytest.raises(ViceError):
            read_class_map(tmp_path / "map.yaml", ["cat", "dog"], 5)


def test_prompts() -> None:
    assert _valid(SchemaName.prompts, {"cat": "a photo of a cat.", "dog": ["a dog.", "a puppy."]})
    assert _valid(SchemaName.prompts, {"templates": ["a photo of a {}."]})
    assert not _valid(SchemaName.prompts, {"cat": " "})
    assert not _valid(SchemaName.prompts, {"cat": 3})
