"""A table on disk that is not what it was: told in a sentence, never measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tables import scenes, table_of
from torchvice import Samples, ViceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table_of(scenes(6)).save(tmp_path / "table")
    return tmp_path / "table"


def edited(folder: Path, change: Any) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


MANIFESTS = {
    "no classes": (lambda m: m.pop("classes"), "`classes`"),
    "classes that are no list": (lambda m: m.update(classes=3), "`classes`"),
    "no protocols": (lambda m: m.pop("protocols"), "`protocols`"),
    "another protocol": (lambda m: m["protocols"].update(mine={"view": "a", "explanation": "b"}), "`protocols.mine"),
    "no view": (lambda m: m["protocols"]["strict"].pop("view"), "`protocols.strict.view`"),
    "an explanation that is not there": (lambda m: m["explanations"].pop("strict:cam"), "names `strict:cam`"),
    "no role": (lambda m: m["explanations"]["strict:cam"].pop("role"), "`explanations.strict:cam` has no role"),
    "thresholds in words": (lambda m: m.update(thresholds=["a"]), "`thresholds"),
    "other targets": (lambda m: m.update(targets="both"), "`targets`"),
    "no model": (lambda m: m.pop("model"), "`model`"),
    "an added explanation that is a number": (lambda m: m.update(added=[float("nan")]), "`added.0`"),
    "an added explanation that is not there": (lambda m: m.update(added=["strict:x"]), "`added` names `strict:x`"),
    "a role that is a list": (lambda m: m["explanations"]["strict:cam"].update(role=[]), "cam.role` is of the wrong"),
    "a method that is a number": (lambda m: m["explanations"]["strict:cam"].update(method=3), "cam.method` is of the"),
    "interventions in a list": (
        lambda m: m["explanations"]["strict:cam"].update(interventions=["x"]),
        "interventions`",
    ),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_an_edited_manifest(folder: Path, kind: str) -> None:
    change, message = MANIFESTS[kind]
    edited(folder, change)
    with pytest.raises(ViceError, match=rf"The manifest .*manifest\.json is damaged: .*{message}"):
        Samples.load(folder)


def test_rows_of_another_table(folder: Path) -> None:
    edited(folder, lambda m: m["classes"].append("more"))
    with pytest.raises(ViceError, match="must have 4 `logits` a row, but has"):
        Samples.load(folder)


def test_fewer_thresholds_than_counts(folder: Path) -> None:
    edited(folder, lambda m: m["thresholds"].pop())
    with pytest.raises(ViceError, match="must have 3 `predicted` a row, but has"):
        Samples.load(folder)


def test_an_image_in_two_shards_is_refused(folder: Path) -> None:
    edited(folder, lambda m: m.pop("files"))
    for part in ("images", "regions", "maps"):
        shutil.copy(folder / f"{part}-00000.parquet", folder / f"{part}-00001.parquet")
    with pytest.raises(ViceError, match=r"must hold each image once, but holds `.*` 2 times .* and 12 rows too many"):
        Samples.load(folder)


@pytest.mark.parametrize("part", ["images", "regions"])
def test_a_column_of_another_type(folder: Path, part: str) -> None:
    edited(folder, lambda m: m.pop("files"))
    file = folder / f"{part}-00000.parquet"
    table = pq.read_table(file)
    for name, column in zip(table.column_names, table.columns, strict=True):
        other = pa.array([0] * len(table)) if pa.types.is_string(column.type) else pa.array(["x"] * len(table))
        changed = table.set_column(table.column_names.index(name), name, other)
        pq.write_table(changed, file, write_page_checksum=True)
        with pytest.raises(ViceError, match=rf"its column `{name}` is of type"):
            Samples.load(folder)


def test_a_null_is_no_number(folder: Path) -> None:
    edited(folder, lambda m: m.pop("files"))
    file = folder / "images-00000.parquet"
    table = pq.read_table(file)
    changed = table.set_column(0, "image_id", pa.array([None, *table["image_id"].to_pylist()[1:]], pa.string()))
    pq.write_table(changed, file, write_page_checksum=True)
    with pytest.raises(ViceError, match="its column `image_id` has 1 values that are null"):
        Samples.load(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": ' + "9" * 5000 + "}", '{"a": "\ud800"}', "\xff"])
def test_json_that_is_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ViceError, match=r"The manifest .* must "):
        Samples.load(folder)


def test_every_flipped_bit_of_a_finished_table_is_found(folder: Path) -> None:
    for file in sorted(folder.glob("*.parquet")):
        content = file.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 30)):
            file.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
            with pytest.raises(
                ViceError, match=rf"The shard .*{file.name} must be readable, but is not: it is not the fi"
            ):
                Samples.load(folder)
        file.write_bytes(content)
    assert len(Samples.load(folder).images) == 12


def test_a_file_that_is_gone_is_missed(folder: Path) -> None:
    (folder / "images-00000.parquet").rename(folder / "images-00001.parquet")
    with pytest.raises(ViceError, match=r"must hold images-00000\.parquet, which its manifest lists, but does not"):
        Samples.load(folder)
