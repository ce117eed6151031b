"""What refusals of tables on disk say, done: restored, deleted, or assessed again."""

from __future__ import annotations

import json
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import torchvice
from torchvice import Samples, ViceError
from torchvice.samples import ShardFolder
from ways_out import tried

HOW = {"view_size": 32, "crop": 32, "device": "cpu", "progress": False, "workers": 1, "shard_size": 2}
HOW |= {"method": "gradcam", "outputs": "logits", "controls": False, "protocols": ["strict"]}
WAY_OUT = "Restore the table's folder, or delete it and run vice assess again."
PARTS = ("images", "regions", "maps")


class Net(nn.Module):
    """Two convolutions, mean pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.b(self.a(x).relu()).relu().mean((2, 3)))


class Data:
    """Three images with the upper part of a and the lower part of b."""

    classes, targets = ("a", "b"), np.ones((3, 2), np.uint8)
    records = tuple(SimpleNamespace(image_id=str(i)) for i in range(3))

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3)).astype(np.uint8)

    def mask(self, index):
        return np.repeat([[0, 1, 2, 0]], 32, 0).repeat(8, 1)


def assessed(folder, **how):
    return torchvice.assess(Net(), Data(), out=folder, **{**HOW, **how})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a table of two shards, to which an explanation was added."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    assessed(folder)
    assessed(folder, also=["mirror"])
    return folder


@pytest.fixture
def table(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "t")


def restored(folder, whole):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    return Samples.load(folder)


def deleted(folder):
    shutil.rmtree(folder)
    return assessed(folder, also=["mirror"])


def edited(folder, change):
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def headline(manifest):
    return manifest["explanations"]["strict:gradcam"]


EDITS = {
    "a field that is gone": lambda m: m.pop("classes"),
    "a headline that is gone": lambda m: m["explanations"].pop("strict:gradcam"),
    "an added explanation that is not there": lambda m: m.update(added=["strict:x"]),
    "no classes": lambda m: m.update(classes=[]),
    "no role": lambda m: headline(m).pop("role"),
    "a method that is a number": lambda m: headline(m).update(method=3),
    "a class more": lambda m: m["classes"].append("more"),
    "a threshold less": lambda m: m["thresholds"].pop(),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_manifest_is_restored_or_the_table_assessed_again(table, whole, kind):
    edited(table, EDITS[kind])
    assert len(tried(lambda: Samples.load(table), WAY_OUT, lambda: restored(table, whole)).images) == 3
    edited(table, EDITS[kind])
    assert len(tried(lambda: Samples.load(table), WAY_OUT, lambda: deleted(table)).images) == 3


def replaced(folder, part, name, values):
    """A column of the first shard is another one, and the manifest does not know its digest."""
    edited(folder, lambda m: m.pop("files", None))
    file = folder / f"{part}-00000.parquet"
    content = pq.read_table(file)
    column = values(content[name].to_pylist())
    place = content.column_names.index(name)
    pq.write_table(content.set_column(place, name, pa.array(column, content[name].type)), file)


ROWS = {
    "a label beyond the classes": ("label", lambda labels: [9, *labels[1:]]),
    "an unknown image": ("image_id", lambda ids: ["nobody", *ids[1:]]),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_another_table_are_restored_or_assessed_again(table, whole, kind):
    replaced(table, "regions", *ROWS[kind])
    assert len(tried(lambda: Samples.load(table), WAY_OUT, lambda: restored(table, whole)).images) == 3
    replaced(table, "regions", *ROWS[kind])
    assert len(tried(lambda: Samples.load(table), WAY_OUT, lambda: deleted(table)).images) == 3


def test_a_folder_of_two_runs_is_deleted_and_assessed_again(table):
    edited(table, lambda m: m.pop("files"))
    for file in table.glob("*-00000*.parquet"):
        shutil.copy(file, table / file.name.replace("-00000", "-00007"))
    says = "Two runs wrote into this folder. Delete it and run vice assess again."
    assert len(tried(lambda: Samples.load(table), says, lambda: deleted(table)).images) == 3


def test_a_folder_without_a_table_is_assessed(tmp_path):
    says = "Run vice assess first."

    def right():
        assessed(tmp_path / "t")
        return Samples.load(tmp_path / "t")

    assert len(tried(lambda: Samples.load(tmp_path / "t"), says, right).images) == 3


def test_a_table_of_another_schema_is_assessed_again_in_another_folder_or_an_empty_one(table, tmp_path):
    edited(table, lambda m: m.update(schema=1))
    says = "Delete that folder, or name another one, and assess the model again with this version of torchvice."
    assert len(tried(lambda: Samples.load(table), says, lambda: assessed(tmp_path / "u")).images) == 3
    assert len(tried(lambda: Samples.load(table), says, lambda: deleted(table)).images) == 3


def test_a_table_without_a_shard_is_assessed_again(table):
    for file in table.glob("*.parquet"):
        file.unlink()
    found = tried(lambda: Samples.load(table), "Run vice assess again.", lambda: assessed(table))
    assert len(found.images) == 3


def same(found, expected):
    """Whether two tables hold the same rows, in any order."""
    for part, keys in (("images", ("image_id", "view")), ("regions", ("image_id", "explanation", "label"))):
        mine, other = getattr(found, part), getattr(expected, part)
        columns = "logits" if part == "images" else "intersection"
        rows = [
            sorted(
                (*map(str, key), *values.tolist())
                for *key, values in zip(*(getattr(one, name) for name in keys), getattr(one, columns), strict=True)
            )
            for one in (mine, other)
        ]
        assert rows[0] == rows[1]
    return True


FILES = [*(f"{part}-00000.parquet" for part in PARTS), *(f"{part}-00000-strict-mirror.parquet" for part in PARTS[1:])]


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_is_computed_again(table, whole, name):
    (table / name).unlink()
    with pytest.raises(ViceError) as told:
        Samples.load(table)
    says, steps = told.value.way_out, []
    asked = ", asking for mirror" if "mirror" in name else ""
    completing = re.match(rf"Delete (\S+) and run vice assess again{asked}: only this shard is computed again\.", says)
    assert completing or says == f"Run vice assess again{asked}: only what is missing is computed."

    def right():
        if completing:
            (table / completing[1]).unlink()
        return assessed(table, also=["mirror"], progress=lambda *step: steps.append(step))

    assert same(tried(lambda: Samples.load(table), says, right), Samples.load(whole))
    assert steps[0][0] > 1


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_shard_is_deleted_by_the_name_that_is_given(table, whole, name):
    content = (table / name).read_bytes()
    (table / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ViceError) as told:
        Samples.load(table)
    file, asked = re.fullmatch(
        r"Delete (\S+) and run vice assess again(?:, asking for (\w+))?: only this shard is computed again\.",
        told.value.way_out,
    ).groups()
    assert asked == ("mirror" if "mirror" in name else None)

    def right():
        (table / file).unlink()
        return assessed(table, also=["mirror"])

    found = tried(lambda: Samples.load(table), f"Delete {file} and run vice assess again", right)
    assert same(found, Samples.load(whole))


def test_a_misspelt_column_is_the_one_that_is_suggested(table):
    shards = ShardFolder(table)
    for part, wrong in (("images", "logit"), ("regions", "intersections")):
        with pytest.raises(ViceError) as told:
            list(shards.stream(part, [wrong]))
        name = re.search(r"Did you mean `(.*)`\?", told.value.way_out)[1]
        rows = tried(
            lambda part=part, wrong=wrong: list(shards.stream(part, [wrong])),
            f"Did you mean `{name}`?",
            lambda part=part, name=name: list(shards.stream(part, [name])),
        )
        assert sum(len(row[name]) for row in rows) > 0


def test_an_unknown_column_is_one_of_the_known_ones(table):
    shards = ShardFolder(table)
    rows = tried(
        lambda: list(shards.stream("images", ["qqqqqq"])),
        "Known: image_id",
        lambda: list(shards.stream("images", ["image_id"])),
    )
    assert sorted(name for row in rows for name in row["image_id"]) == ["0", "1", "2"]


def test_a_data_frame_is_made_once_pandas_is_installed(table, monkeypatch):
    samples = Samples.load(table)
    pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "pandas", None)

    def installed():
        monkeypatch.undo()
        return samples.to_pandas()

    assert len(tried(samples.to_pandas, "pip install pandas", installed)) == 3


def test_a_table_of_both_protocols_has_the_other_one(table, tmp_path):
    samples = Samples.load(table)
    with pytest.raises(ViceError) as told:
        samples.of_protocol("paper")
    assert re.search(r"--protocol (\w+)", told.value.way_out)[1] == "both"
    both = tried(
        lambda: samples.of_protocol("paper"),
        "Assess it with --protocol both, into another folder.",
        lambda: assessed(tmp_path / "u", protocols=["paper", "strict"]).of_protocol("paper"),
    )
    assert len(both.images) == 3


def test_a_manifest_that_was_cut_is_restored_or_made_again(table, tmp_path):
    whole = (table / "manifest.json").read_text()
    says = "Restore the table's folder, or delete it and run vice assess again."

    def wrong():
        (table / "manifest.json").write_text(whole[:500])
        return Samples.load(table)

    def restored():
        (table / "manifest.json").write_text(whole)
        return Samples.load(table)

    assert len(tried(wrong, says, restored).images) == 3
    assert len(tried(wrong, says, lambda: shutil.rmtree(table) or assessed(table)).images) == 3
