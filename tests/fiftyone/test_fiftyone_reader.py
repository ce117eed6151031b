"""The exported dataset in FiftyOne itself: its own importer, documents, views and exporter, where it is installed.

MongoDB is stood for by mongomock, an imitation in memory, so that what runs here is FiftyOne's own code without its
database and without its app.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_fiftyone import CLASSES, FIELDS, Home, read

from torchvice.fiftyone import write_fiftyone

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("fiftyone") and importlib.util.find_spec("mongomock")),
    reason="fiftyone and mongomock are not installed",
)

PROGRAM = """
import json, sys
import mongoengine, mongomock, pymongo

STORE = mongomock.store.ServerStore()


class Client(mongomock.MongoClient):
    _closed = False

    def __init__(self, *names, appname=None, **how):
        super().__init__(*names, **{**how, "_store": STORE})


pymongo.MongoClient = Client
connect = mongoengine.connect
mongoengine.connect = lambda name, **how: connect(name, mongo_client_class=Client, **how)

import fiftyone as fo

dataset = fo.Dataset.from_dir(sys.argv[1], dataset_type=fo.types.FiftyOneDataset)

def types(some):
    # {path: its class, and that of the document it holds}
    schema = some.get_field_schema(flat=True)
    return {path: [type(f).__name__, getattr(f, "document_type", type(f)).__name__] for path, f in schema.items()}


kinds = {path: named[1] for path, named in types(dataset).items() if "." not in path}
native = fo.Dataset()
native.add_samples([sample.copy() for sample in dataset], dynamic=True)
views = {name: dataset.load_saved_view(name) for name in dataset.list_saved_views()}
first = next(sample for sample in dataset if sample.segmentation or "segmentation" not in kinds)
heat = next(sample[name] for sample in dataset for name in kinds if kinds[name] == "Heatmap" and sample[name])
found = {
    "kinds": kinds,
    "declared": types(dataset),
    "native": types(native),
    "files": all(fo.core.storage.isfile(sample.filepath) for sample in dataset),
    "loss": dataset.values("loss"),
    "ids": dataset.values("image_id"),
    "views": {name: len(view) for name, view in views.items()},
    "labels": {
        name: [label.quadrant for sample in view for label in sample.ground_truth.classifications]
        for name, view in views.items()
    },
    "mask": first.segmentation.get_mask().tolist(),
    "mask_path": first.segmentation.mask_path,
    "map": heat.get_map().tolist(),
    "map_path": heat.map_path,
    "targets": {str(key): value for key, value in dataset.mask_targets["segmentation"].items()},
    "tags": dataset.count_sample_tags(),
    "info": dataset.info,
}
with open(sys.argv[3], "w") as file:
    json.dump(found, file)
dataset.export(sys.argv[2], dataset_type=fo.types.FiftyOneDataset)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path)


def opened(folder: Path, again: Path) -> dict[str, Any]:
    """What FiftyOne says of the dataset; it exports it to `again`."""
    quiet = {"FIFTYONE_DATABASE_URI": "mongodb://localhost", "FIFTYONE_DO_NOT_TRACK": "1", "HOME": str(again.parent)}
    quiet |= {"FIFTYONE_DATABASE_VALIDATION": "false", "FIFTYONE_SHOW_PROGRESS_BARS": "false"}
    said = again.parent / "found.json"
    program = [sys.executable, "-c", PROGRAM, str(folder), str(again), str(said)]
    done = subprocess.run(program, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(said.read_text())
    return found


def without(node: Any, *names: str) -> Any:
    """A document without some keys and without what is null: FiftyOne leaves nulls out of labels."""
    if isinstance(node, dict):
        return {key: without(value, *names) for key, value in node.items() if key not in names and value is not None}
    return [without(value, *names) for value in node] if isinstance(node, list) else node


@pytest.mark.slow
def test_fiftyone_reads_the_dataset_and_writes_it_back(home: Home) -> None:
    folder, metadata, samples = home.export(explanations=["paper:cam"])
    found = opened(folder, home.folder / "again")
    assert {name for name, kind in found["kinds"].items() if kind == "Heatmap"} > set(FIELDS.values())
    assert found["kinds"]["ground_truth"] == found["kinds"]["predictions"] == "Classifications"
    assert found["kinds"]["segmentation"] == "Segmentation"
    # Of the same values FiftyOne itself would have declared the same fields.
    assert len(found["native"]) > 60
    assert found["native"] == {path: found["declared"][path] for path in found["native"]}
    assert found["files"]
    assert found["ids"] == [sample["image_id"] for sample in samples]
    assert found["loss"] == [sample["loss"] for sample in samples]
    assert found["mask"] == np.array(Image.open(found["mask_path"])).tolist()
    assert found["map"] == np.array(Image.open(found["map_path"])).tolist()
    assert found["targets"] == {"1": CLASSES[0], "2": CLASSES[1], "3": CLASSES[2], "255": "void"}
    assert found["info"] == metadata["info"]
    assert found["views"]["highest loss"] == 12
    for quadrant, words in metadata["info"]["quadrants"]["words"].items():
        assert set(found["labels"][words]) <= {quadrant}
        assert len(found["labels"][words]) == metadata["info"]["quadrants"]["counts"][quadrant]
        assert found["views"][words] == found["tags"].get(quadrant, 0)
    rewritten, back = read(home.folder / "again")
    moved = ("filepath", "map_path", "mask_path", "created_at", "last_modified_at", "_dataset_id")
    assert without(back, *moved) == without(samples, *moved)
    declared = [
        {field["name"]: without(field, "created_at") for field in m["sample_fields"]} for m in (metadata, rewritten)
    ]
    assert declared[0] == declared[1]


@pytest.mark.slow
def test_fiftyone_reads_references(home: Home) -> None:
    write_fiftyone("run", "out", media="reference")
    assert opened(home.folder / "out", home.folder / "again")["files"]
