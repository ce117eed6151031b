"""vice export fiftyone: every part of the dataset against the table, the data, and FiftyOne's format as documented."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from command import status_of as vice
from tables import Scene, scenes, table_of
from torchvice.errors import ViceError
from torchvice.fiftyone import write_fiftyone
from torchvice.fiftyone.pictures import HEATMAP_SIDE, heatmap
from torchvice.fiftyone.sample import layers_of
from torchvice.measures import quadrants_of, true_pairs
from torchvice.report import cases_of
from torchvice.samples import Samples

CLASSES = ["dining table", "猫", "🐱"]
FIELDS = {"dining table": "map_dining_table", "猫": "map_猫", "🐱": "map_3"}


def named(scene: Scene, number: int) -> Scene:
    """A scene under a name that is awkward on purpose; a line of a list has no spaces."""
    import dataclasses

    return dataclasses.replace(scene, image_id=f"夏天🐶#{number:02d}.v1")


def dataset_of_scenes(root: Path, made: list[Scene]) -> None:
    """The scenes' pictures, with palette masks as VOC has them, under `root`."""
    voc = root / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for number, scene in enumerate(made):
        Image.fromarray(np.full((60, 80, 3), number, np.uint8)).save(voc / "JPEGImages" / f"{scene.image_id}.png")
        if scene.mask is not None:
            mask = Image.fromarray(pixels_of(scene), mode="P")
            mask.putpalette(np.random.default_rng(0).integers(0, 255, 768, np.uint8).tobytes())
            mask.save(voc / "SegmentationClass" / f"{scene.image_id}.png")
    ids = "\n".join(scene.image_id for scene in made)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text(ids, encoding="utf-8")
    np.save(root / "cls_labels.npy", {s.image_id: np.array(s.targets) for s in made}, allow_pickle=True)


def pixels_of(scene: Scene) -> np.ndarray:
    return np.kron(np.array(scene.mask), np.ones((20, 20))).astype(np.uint8)


def sized(samples: Samples) -> Samples:
    """The table, with its images as large as their pictures."""
    samples.images.height[:], samples.images.width[:] = 60, 80
    return samples


class Home:
    """A working directory with a dataset of twelve scenes, two without a mask, and the table of a model on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenes = [named(scene, number) for number, scene in enumerate(scenes(12))]
        dataset_of_scenes(folder / "my data", self.scenes)
        self.table = sized(table_of(self.scenes, classes=CLASSES, dataset={"root": "my data", "split": "val"}))
        self.table.images.ji[::3] = 0.25
        self.table.save(folder / "run")

    def export(self, out: str = "out", **how: Any) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
        """The folder, metadata.json and the samples."""
        assert write_fiftyone("run", out, **how) == 12
        return self.folder / out, *read(self.folder / out)


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    texts = [(folder / name).read_text(encoding="utf-8") for name in ("metadata.json", "samples.json")]
    metadata, samples = (json.loads(text, parse_constant=refuse) for text in texts)
    assert list(samples) == ["samples"]
    return metadata, samples["samples"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path)


def truths(sample: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {label["label"]: label for label in sample["ground_truth"]["classifications"]}


def test_every_image_is_a_sample_with_its_labels_and_the_models(home: Home) -> None:
    _, metadata, samples = home.export()
    assert [sample["image_id"] for sample in samples] == sorted(scene.image_id for scene in home.scenes)
    by_id = {scene.image_id: scene for scene in home.scenes}
    for sample in samples:
        scene = by_id[sample["image_id"]]
        assert sample["ground_truth"]["_cls"] == sample["predictions"]["_cls"] == "Classifications"
        assert list(truths(sample)) == [CLASSES[c] for c in scene.true()]
        # A sigmoid is above a half where its logit is above 0.
        said = {CLASSES[c]: 1 / (1 + math.exp(-z)) for c, z in enumerate(scene.logits["strict"]) if z > 0}
        found = {label["label"]: label["confidence"] for label in sample["predictions"]["classifications"]}
        assert found == pytest.approx(said)
        for label in sample["predictions"]["classifications"]:
            assert label["correct"] == (label["label"] in truths(sample))
            assert label["_cls"] == "Classification"
        assert sample["_media_type"] == "image"
        assert (sample["metadata"]["width"], sample["metadata"]["height"]) == (80, 60)
        assert (home.folder / "out" / sample["filepath"]).stat().st_size == sample["metadata"]["size_bytes"]
    assert metadata["classes"] == {"ground_truth": CLASSES, "predictions": CLASSES}


def test_loss_ji_iou_and_quadrant_are_the_tables(home: Home) -> None:
    _, _, samples = home.export()
    by_id = {scene.image_id: scene for scene in home.scenes}
    images = home.table.of_view("warp")
    pairs = true_pairs(home.table)
    quadrant = dict(zip(zip(pairs.image_id, pairs.class_index, strict=True), quadrants_of(pairs).name, strict=True))
    quality = dict(zip(zip(pairs.image_id, pairs.class_index, strict=True), pairs.quality, strict=True))
    assert len(quality) > 8
    for row, sample in enumerate(samples):
        scene = by_id[sample["image_id"]]
        signed = [z if y else -z for z, y in zip(scene.logits["strict"], scene.targets, strict=True)]
        losses = [math.log(1 + math.exp(-z)) for z in signed]
        assert sample["loss"] == pytest.approx(sum(losses) / 3)
        assert sample["ji"] == (None if np.isnan(images.ji[row]) else images.ji[row])
        judged = []
        for c in scene.true():
            label, key = truths(sample)[CLASSES[c]], (scene.image_id, c)
            assert label["loss"] == pytest.approx(losses[c])
            assert label["probability"] == pytest.approx(math.exp(-losses[c]))
            assert label["quadrant"] == quadrant.get(key)
            assert (label["iou"] is None) == (key not in quality)
            if key in quality:
                judged.append(quality[key])
                assert label["iou"] == pytest.approx(quality[key])
                assert label["area"] == pytest.approx((np.array(scene.mask) == c + 1).sum() / (60 * 80))
        assert sample["map_iou"] == (pytest.approx(np.mean(judged)) if judged else None)
        assert set(sample["tags"]) == {"val", *(quadrant[key] for key in quadrant if key[0] == scene.image_id)}


def test_a_heatmap_is_the_tables_map_enlarged(home: Home) -> None:
    folder, metadata, samples = home.export()
    by_id = {scene.image_id: scene for scene in home.scenes}
    seen = 0
    for sample in samples:
        scene = by_id[sample["image_id"]]
        kept = {} if scene.mask is None else scene.maps["strict"]  # the table has no map of an image without a mask
        for c, name in enumerate(CLASSES):
            document = sample[FIELDS[name]]
            assert (document is None) == (c not in kept)
            if document is None:
                continue
            plane = torch.tensor(kept[c]).half().float().clamp(min=0)[None, None]
            full = functional.interpolate(plane, (60, 80), mode="bilinear", align_corners=False)[0, 0].numpy()
            pixels = np.array(Image.open(folder / document["map_path"]))
            assert np.abs(pixels / 255 - full / full.max()).max() <= 0.5 / 255 + 1e-6
            assert document["_cls"] == "Heatmap"
            assert (document["label"], document["status"]) == (name, "ok")
            assert document["iou"] == truths(sample)[name]["iou"]
            seen += 1
    assert seen == len(home.table.maps.where(home.table.maps.explanation == "strict:cam")) > 10
    kinds = {field["name"]: field["embedded_doc_type"] for field in metadata["sample_fields"]}
    assert {name for name, kind in kinds.items() if kind == "fiftyone.core.labels.Heatmap"} == set(FIELDS.values())


def test_a_heatmap_is_no_larger_than_it_need_be() -> None:
    assert heatmap(np.ones((2, 2)), (3000, 1500)).shape == (HEATMAP_SIDE, HEATMAP_SIDE // 2)
    assert heatmap(np.full((2, 2), -1.0), (4, 4)).tolist() == np.zeros((4, 4)).tolist()


def test_masks_are_the_datas_values_in_grey(home: Home) -> None:
    folder, metadata, samples = home.export()
    by_id = {scene.image_id: scene for scene in home.scenes}
    for sample in samples:
        scene, document = by_id[sample["image_id"]], sample["segmentation"]
        assert (document is None) == (scene.mask is None)
        if document is not None:
            picture = Image.open(folder / document["mask_path"])
            assert picture.mode == "L"
            assert (np.array(picture) == pixels_of(scene)).all()
            assert document["_cls"] == "Segmentation"
    assert metadata["mask_targets"] == {
        "segmentation": {"1": CLASSES[0], "2": CLASSES[1], "3": CLASSES[2], "255": "void"}
    }


def test_every_key_of_a_sample_is_declared(home: Home) -> None:
    _, metadata, samples = home.export()
    declared = {field["db_field"]: field for field in metadata["sample_fields"]}
    assert {key for sample in samples for key in sample} <= declared.keys()
    for sample in samples:
        for key, value in sample.items():
            if isinstance(value, dict) and "_cls" in value:
                inner = {field["db_field"]: field for field in declared[key]["fields"]}
                assert value.keys() - {"_cls"} <= inner.keys()
                assert declared[key]["embedded_doc_type"].endswith(f".{value['_cls']}")
                for label in value.get("classifications", []):
                    known = {field["db_field"] for field in inner["classifications"]["fields"]}
                    assert label.keys() - {"_cls"} <= known


def test_ids_are_all_different_and_hang_on_the_table(home: Home) -> None:
    def ids(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node["$oid"]] if "$oid" in node else [i for value in node.values() for i in ids(value)]
        return [i for value in node for i in ids(value)] if isinstance(node, list) else []

    _, _, samples = home.export()
    found = ids(samples)
    assert len(set(found)) == len(found) > 40
    assert all(len(i) == 24 and int(i, 16) >= 0 for i in found)
    assert ids(home.export("again")[2]) == found
    other = sized(
        table_of(home.scenes, classes=CLASSES, dataset={"root": "my data", "split": "val"}, model={"type": "O"})
    )
    other.save(home.folder / "other")
    write_fiftyone("other", "third")
    assert not set(ids(read(home.folder / "third")[1])) & set(found)


def test_the_manifest_and_the_views_come_along(home: Home) -> None:
    _, metadata, _ = home.export()
    info = metadata["info"]
    assert info["model"] == {"type": "Toy"}
    assert info["protocol"] == "strict"
    assert [entry["id"] for entry in info["explanations"]] == ["paper:cam", "strict:cam"]
    assert info["quadrants"]["counts"] == cases_of(home.table).counts()
    views = {view["name"]: [json.loads(stage) for stage in view["view_stages"]] for view in metadata["saved_views"]}
    assert len(views) == 5
    filtered, ordered = views["right, looking elsewhere"]
    assert filtered["_cls"] == "fiftyone.core.stages.FilterLabels"
    assert dict(filtered["kwargs"])["filter"] == {"$eq": ["$$this.quadrant", "right_elsewhere"]}
    assert dict(ordered["kwargs"])["field_or_expr"] == {"$max": "$ground_truth.classifications.strength"}


def test_pictures_are_copied_linked_or_only_named(home: Home) -> None:
    stored = home.folder / "my data" / "VOC2012" / "JPEGImages"
    folder, _, samples = home.export()
    for sample in samples:
        assert (folder / sample["filepath"]).read_bytes() == (stored / f"{sample['image_id']}.png").read_bytes()
        assert not (folder / sample["filepath"]).is_symlink()
    folder, _, samples = home.export("linked", media="link")
    assert all((folder / s["filepath"]).readlink() == stored / f"{s['image_id']}.png" for s in samples)
    folder, metadata, samples = home.export("named", media="reference", masks=False)
    assert all(sample["filepath"] == str(stored / f"{sample['image_id']}.png") for sample in samples)
    assert not any("segmentation" in sample for sample in samples)
    assert "segmentation" not in [field["name"] for field in metadata["sample_fields"]]
    assert metadata["mask_targets"] == {}
    assert {path.parent.name for path in folder.rglob("*.*")} == {"named", *FIELDS.values()}


def test_a_further_explanation_has_fields_of_its_own(home: Home) -> None:
    folder, _, samples = home.export(explanations=["paper:cam"])
    by_id = {scene.image_id: scene for scene in home.scenes}
    for sample in samples:
        maps = by_id[sample["image_id"]].maps["paper"] if sample["segmentation"] else {}
        for c in range(3):
            document = sample[f"map_paper_cam_{['dining_table', '猫', '3'][c]}"]
            assert (document is None) == (c not in maps)
            if document is not None:
                pixels = np.array(Image.open(folder / document["map_path"]))
                assert (pixels == heatmap(np.float16(maps[c]), (60, 80))).all()
                assert document["iou"] is None  # pairs are strict's


def test_a_table_of_exclusive_targets_has_single_labels_and_one_field_of_maps(home: Home) -> None:
    import dataclasses

    made = [
        dataclasses.replace(s, targets=tuple(int(c == s.true()[0]) for c in range(3)), maps={
            name: {s.true()[0]: maps[s.true()[0]]} for name, maps in s.maps.items()
        })
        for s in home.scenes
    ]  # fmt: skip
    manifest = {"classes": CLASSES, "dataset": {"root": "my data", "split": "val"}, "targets": "exclusive"}
    sized(table_of(made, **manifest)).save(home.folder / "single")
    write_fiftyone("single", "out")
    metadata, samples = read(home.folder / "out")
    by_id = {scene.image_id: scene for scene in made}
    for sample in samples:
        z, c = np.array(by_id[sample["image_id"]].logits["strict"]), by_id[sample["image_id"]].true()[0]
        p = np.exp(z) / np.exp(z).sum()
        truth, said = sample["ground_truth"], sample["predictions"]
        assert truth["_cls"] == said["_cls"] == "Classification"
        assert (truth["label"], said["label"]) == (CLASSES[c], CLASSES[int(z.argmax())])
        assert truth["loss"] == pytest.approx(-math.log(p[c])) == pytest.approx(sample["loss"])
        assert said["confidence"] == pytest.approx(p.max())
        assert sample["map"] is None if sample["segmentation"] is None else sample["map"]["label"] == CLASSES[c]
    stages = [json.loads(stage) for stage in metadata["saved_views"][0]["view_stages"]]
    assert dict(stages[0]["kwargs"])["filter"] == {"$eq": ["$ground_truth.quadrant", "right_elsewhere"]}
    assert dict(stages[1]["kwargs"])["field_or_expr"] == "ground_truth.strength"


def test_a_table_of_paper_alone_has_no_quadrants(home: Home) -> None:
    manifest = {"classes": CLASSES, "dataset": {"root": "my data", "split": "val"}}
    sized(table_of(home.scenes, ("paper",), **manifest)).save(home.folder / "paper")
    write_fiftyone("paper", "out")
    metadata, samples = read(home.folder / "out")
    assert [view["name"] for view in metadata["saved_views"]] == ["highest loss"]
    assert {label["quadrant"] for sample in samples for label in truths(sample).values()} == {None}
    assert {tag for sample in samples for tag in sample["tags"]} == {"val"}
    assert any(sample["map_猫"] for sample in samples)


def test_names_that_look_alike_have_fields_of_their_own() -> None:
    made = scenes(12, classes=4)
    table = table_of(made, classes=["a b", "A_b", "iou", "..."])
    fields = layers_of(table, cases_of(table), [])[0].fields
    assert fields == {0: "map_a_b", 1: "map_A_b_2", 2: "map_iou_3", 3: "map_4"}  # map_iou is a number's


def test_a_map_that_is_not_a_number_has_no_picture(home: Home) -> None:
    row = int(np.flatnonzero(home.table.maps.explanation == "strict:cam")[0])
    home.table.maps.map[row][0, 0] = np.nan
    home.table.save(home.folder / "broken")
    write_fiftyone("broken", "out")
    _, samples = read(home.folder / "out")
    at = str(home.table.maps.image_id[row]), FIELDS[CLASSES[int(home.table.maps.label[row]) - 1]]
    document = next(sample[at[1]] for sample in samples if sample["image_id"] == at[0])
    assert document["map_path"] is None
    assert not (home.folder / "out" / "fields" / at[1] / f"{at[0]}.png").exists()


BOX = (
    "<annotation><object><name>{name}</name><bndbox>"
    "<xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object></annotation>"
)


def test_boxes_take_the_masks_place(home: Home) -> None:
    voc = home.folder / "my data" / "VOC2012"
    for mask in (voc / "SegmentationClass").iterdir():
        mask.unlink()
    (voc / "Annotations").mkdir()
    scene = home.scenes[0]
    text = BOX.format(21, 11, 60, 40, name=CLASSES[scene.true()[0]])  # VOC counts pixels from 1, both ends included
    (voc / "Annotations" / f"{scene.image_id}.xml").write_text(text, encoding="utf-8")
    manifest = {"classes": CLASSES, "dataset": {"root": "my data", "split": "val", "regions": "boxes"}}
    sized(table_of(home.scenes, **manifest)).save(home.folder / "boxed")
    write_fiftyone("boxed", "out")
    metadata, samples = read(home.folder / "out")
    sample = next(sample for sample in samples if sample["image_id"] == scene.image_id)
    (box,) = sample["boxes"]["detections"]
    assert box["label"] == CLASSES[scene.true()[0]]
    assert box["bounding_box"] == pytest.approx([20 / 80, 10 / 60, 40 / 80, 30 / 60])
    assert "segmentation" not in sample
    assert sum(sample["boxes"] is not None for sample in samples) == 1
    assert "boxes" in [field["name"] for field in metadata["sample_fields"]]


def test_nothing_is_left_of_an_export_that_fails(home: Home) -> None:
    last = sorted(scene.image_id for scene in home.scenes if scene.mask is not None)[-1]
    (home.folder / "my data" / "VOC2012" / "SegmentationClass" / f"{last}.png").write_bytes(b"\x89PNG")
    before = sorted(os.listdir(home.folder))
    with pytest.raises(ViceError, match="must be an image"):
        write_fiftyone("run", "deep/er/out")
    assert sorted(os.listdir(home.folder)) == sorted([*before, "deep"])
    assert not list((home.folder / "deep" / "er").iterdir())


def test_the_command_takes_an_empty_folder_and_refuses_a_full_one(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.folder / "my 数据 🐱").mkdir()
    assert vice("export", "fiftyone", "run", "--out", "my 数据 🐱", "--media", "link", "--no-masks") == 0
    assert "12 samples written" in capsys.readouterr().out
    assert len(read(home.folder / "my 数据 🐱")[1]) == 12
    assert vice("export", "fiftyone", "run", "--out", "my 数据 🐱") == 2
    assert "must be new or empty" in capsys.readouterr().err
    assert not [name for name in os.listdir(home.folder) if name.endswith(".part")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--explanation", "strict:cams"], "Did you mean `strict:cam`?"),
        (["nowhere"], "there is nothing at nowhere"),
        (["elsewhere"], "images of the table are not in"),
        (["fewer"], "must be in the dataset"),
    ],
)
def test_a_mistake_is_a_sentence(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    table_of(home.scenes, classes=CLASSES, dataset={"root": "gone", "split": "val"}).save(home.folder / "elsewhere")
    more = [*home.scenes, *scenes(1)]
    table_of(more, classes=CLASSES, dataset={"root": "my data", "split": "val"}).save(home.folder / "fewer")
    assert vice("export", "fiftyone", *arguments, "--out", "out") == 2
    assert words in capsys.readouterr().err
    assert not (home.folder / "out").exists()


def test_a_medium_that_is_none_is_refused(home: Home) -> None:
    with pytest.raises(ViceError, match="`media` must be one of copy, link, reference"):
        home.export(media="links")
