"""`torchvice.rank` on folders: names, wildcards, tables that cannot be read, other images, processes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import torchvice
from simulated import simulated
from tables import scenes, table_of
from torchvice.commands.rank import tables_of
from torchvice.errors import ViceError
from torchvice.samples import Samples
from ways_out import tried


def table(dependence: float, seed: int = 0, images: int = 60, **manifest: object) -> Samples:
    samples = simulated(images, dependence=dependence, **manifest)
    noise = np.random.default_rng(seed).normal(size=samples.images.logits.shape)
    changed = dataclasses.replace(samples.images, logits=(samples.images.logits + noise).astype(np.float32))
    return Samples(samples.manifest, changed, samples.regions, samples.maps)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables: three RUNs with assess/val, and a folder of four tables."""
    folder = tmp_path_factory.mktemp("rank")
    for at in range(3):
        run = folder / "runs" / f"run{at}"
        table(at / 2, at).save(run / "assess" / "val")
        (run / "config.yaml").write_text("{}\n")
    for at in range(4):
        table(at / 3, 10 + at).save(folder / "many" / f"model{at}")
    return folder


def ranked(*paths: Path | str, **arguments: object) -> torchvice.measures.rank.Ranking:  # type: ignore[name-defined]
    return torchvice.rank(list(paths), **{"replicates": 100, **arguments})


def test_folders_wildcards_runs_and_tables_are_found(world: Path) -> None:
    many = {f"model{at}" for at in range(4)}
    assert set(tables_of([world / "many"])) == many
    assert set(tables_of([f"{world}/many/model[12]"])) == {"model1", "model2"}
    assert set(tables_of([f"{world}/runs/*"])) == {"run0", "run1", "run2"}
    assert set(tables_of([world])) == many | {"run0", "run1", "run2"}  # at any depth
    assert set(tables_of(sorted((world / "runs").glob("*/assess/val")))) == {"run0", "run1", "run2"}
    assert set(tables_of([world / "many" / "model0", world / "runs" / "run1"])) == {"model0", "run1"}


def test_the_same_ranking_by_folder_wildcard_and_from_memory(world: Path) -> None:
    by_folder = ranked(world / "many")
    assert by_folder.models[0]["name"] == "model3"
    assert ranked(f"{world}/many/*").models == by_folder.models
    loaded = {f"model{at}": Samples.load(world / "many" / f"model{at}") for at in range(4)}
    held = torchvice.rank(loaded, replicates=100)
    assert [{**row, "path": ""} for row in by_folder.models] == held.models
    assert by_folder.models[0]["path"] == str(world / "many" / "model3")
    tried(lambda: torchvice.rank([*loaded.values()]), "Give {'NAME': samples, ...}.", lambda: held)


def test_processes_change_nothing(tmp_path: Path) -> None:
    for at in range(18):
        table(at / 9, at, 40).save(tmp_path / f"m{at}")
    steps: list[tuple[int, int]] = []
    one = ranked(tmp_path, processes=1, progress=lambda done, total: steps.append((done, total)))
    assert ranked(tmp_path, processes=3) == one
    assert steps[-1] == (18, 18)
    tried(lambda: ranked(tmp_path, processes=0), "Give 1", lambda: ranked(tmp_path, processes=1))


def test_many_tables_in_memory_are_ranked_in_one_process_or_several() -> None:
    held = {f"m{at}": table(at / 8, at, 40) for at in range(16)}
    for samples in held.values():
        samples.of_protocol("strict")  # as torchvice.measure has asked for it
    here = torchvice.rank(held, replicates=100)
    assert len(here.models) == 16
    assert torchvice.rank(held, replicates=100, processes=2) == here


def test_one_process_reads_where_a_worker_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*_: object, **__: object) -> None:
        raise BrokenProcessPool

    for at in range(9):
        table(at / 9, at, 40).save(tmp_path / f"m{at}")
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", died)
    found = tried(
        lambda: ranked(tmp_path, processes=2), "Use --processes 1 (processes=1),", lambda: ranked(tmp_path, processes=1)
    )
    assert len(found.models) == 9


def test_a_table_that_cannot_be_read_is_a_row_with_its_reason(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    shutil.copytree(world / "many", folder)
    table(0.5, 20, finished=False, dataset={"root": "nowhere", "images": 90}).save(folder / "going")
    (folder / "model0" / "manifest.json").write_text("{")
    (folder / "model1" / "regions-00000.parquet").write_bytes(b"no table")
    (folder / "empty-run").mkdir()
    (folder / "empty-run" / "config.yaml").write_text("{}\n")
    found = ranked(folder)
    assert {row["name"] for row in found.models} == {"model2", "model3"}
    reasons = {row["name"]: row["reason"] for row in found.left_out}
    assert reasons["going"] == "The assessment is not finished: it has 60 of 90 images."
    assert "model0/manifest.json" in reasons["model0"]
    assert "regions-00000.parquet must be readable" in reasons["model1"]
    assert "was not assessed" in reasons["empty-run"]
    assert any(s.startswith("4 tables are left out: ") and "First reason: " in s for s in found.sentences)
    assert {row["path"] for row in found.left_out} == {str(folder / name) for name in reasons}


def test_other_images_classes_kinds_and_masks_are_refused(world: Path, tmp_path: Path) -> None:
    other = world / "many" / "model0"
    table(0.5, images=50).save(tmp_path / "fewer")
    one = table(0.5)
    only = r"those of model0 and fewer differ: only model0 has 10 of its 60 images \(.*image00050"
    with pytest.raises(ViceError, match=only):
        ranked(other, tmp_path / "fewer")
    tried(lambda: ranked(world / "many", tmp_path / "fewer"), "Leave fewer out", lambda: ranked(world / "many"))
    turned = [f"class{at}" for at in (1, 0, 2, 3)]
    Samples({**one.manifest, "classes": turned}, one.images, one.regions, one.maps).save(tmp_path / "classes")
    with pytest.raises(ViceError, match="Models must have the same classes, but those of model0 and classes differ"):
        ranked(other, tmp_path / "classes")
    exclusive = dataclasses.replace(one.images, targets=np.eye(4, dtype=np.uint8)[one.images.targets.argmax(axis=1)])
    Samples({**one.manifest, "targets": "exclusive"}, exclusive, one.regions, one.maps).save(tmp_path / "kind")
    with pytest.raises(ViceError, match="the same kind of targets"):
        ranked(other, tmp_path / "kind")
    held = {"ids": "1", "targets": "2", "masks": "3", "images": "4"}
    for name, masks in (("here", "3"), ("there", "9")):
        digests = np.array([f"{masks}{at:015x}" for at in range(60)], dtype=object)
        images = dataclasses.replace(one.images, mask_digest=digests)
        manifest = {**one.manifest, "contents": {**held, "masks": masks}}
        Samples(manifest, images, one.regions, one.maps).save(tmp_path / name)
    with pytest.raises(ViceError, match=r"the masks of here and there differ\. Changed: 60 of 60 images"):
        ranked(tmp_path / "here", tmp_path / "there")


def test_other_targets_and_masks_are_refused_under_paper() -> None:
    made = table_of(scenes(30, unmasked=0), ("paper",))
    turned = dataclasses.replace(made.images, targets=1 - made.images.targets)
    other = Samples(made.manifest, turned, made.regions, made.maps)
    how = {"protocol": "paper", "by": "ml_accuracy", "replicates": 100}
    with pytest.raises(ViceError, match="the targets of a and b differ"):
        torchvice.rank({"a": made, "b": other}, **how)
    digests = [np.array([f"{side}{at:015x}" for at in range(30)], dtype=object) for side in "ab"]
    images = [dataclasses.replace(made.images, mask_digest=column) for column in digests]
    a, b = (Samples(made.manifest, part, made.regions, made.maps) for part in images)
    with pytest.raises(ViceError, match="the masks of a and b differ"):
        torchvice.rank({"a": a, "b": b}, **how)
    assert (
        len(torchvice.rank({"a": a, "b": made}, **how).models) == 2
    )  # what earlier tables do not know is no difference


def test_paths_that_lead_nowhere_are_refused(world: Path, tmp_path: Path) -> None:
    tried(lambda: ranked(world / "manyy"), f"{world / 'many'}", lambda: ranked(world / "many"))
    tried(lambda: ranked(f"{world}/many/net*"), "ls", lambda: ranked(f"{world}/many/*"))
    twice = [world / "many", world / "many" / "model0"]
    tried(lambda: ranked(*twice), "Remove one", lambda: ranked(*twice[:1]))
    tried(lambda: ranked(world / "many" / "model0"), "Name more", lambda: ranked(world / "many"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ViceError, match=r"none of 1 could be read\. nothing: .*holds no table"):
        ranked(tmp_path / "nothing")


def test_a_manifest_that_lists_a_file_that_is_gone(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "many", tmp_path / "many")
    (tmp_path / "many" / "model2" / "images-00000.parquet").unlink()
    assert "must hold images-00000.parquet" in ranked(tmp_path / "many").left_out[0]["reason"]


def test_the_ranking_is_valid_by_its_schema(world: Path) -> None:
    from jsonschema import Draft202012Validator

    from torchvice.cli.schemas import SchemaName, schema_of

    validator = Draft202012Validator(schema_of(SchemaName.ranking))
    content = json.loads(json.dumps(ranked(world / "many", top=2).to_json()))
    validator.validate(content)
    assert not validator.is_valid({**content, "protocol": "both"})
    assert not validator.is_valid({**content, "models": [{**content["models"][0], "rank": 0}]})
