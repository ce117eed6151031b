"""`vice assess` and `vice data check` of images without lists: folders with masks, sub-folders, a COCO file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from command import vice
from torchvice import Samples
from torchvice.commands.tables import dataset_of

SIZES = ("--view-size", 32, "--crop", 32, "--controls", "none", "--without", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """photos/, masks/ (0 and 255), sorted/cat and sorted/dog, instances.json, and weights of one and two outputs."""
    root = tmp_path_factory.mktemp("folders")
    annotations, images = [], []
    for number, name in enumerate("abcd"):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        mask = np.zeros((32, 40), np.uint8)
        mask[4:16, 10:24] = 255
        for file, content in (
            (f"photos/{name}.png", pixels),
            (f"masks/{name}_mask.png", mask),
            (f"sorted/{('cat', 'dog')[number % 2]}/{name}.png", pixels),
        ):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / file)
        images.append({"id": number, "file_name": f"{name}.png", "height": 32, "width": 40})
        corners = [[10, 4, 24, 4, 24, 16, 10, 16]]
        annotations.append(
            {"id": number, "image_id": number, "category_id": number % 2, "iscrowd": 0, "segmentation": corners}
        )
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    for outputs in (1, 2):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=outputs).state_dict(), root / f"{outputs}.pth")
    return root


def assessed(capsys, here: Path, outputs: int, *given) -> tuple[int, str, str]:
    network = ("--model", "test_resnet", "--weights", here / f"{outputs}.pth", "--outputs", "logits")
    return vice(capsys, "assess", *network, *given, *SIZES)


def test_photographs_and_masks(here, tmp_path, capsys):
    given = ("--images", here / "photos", "--masks", here / "masks", "--classes", "polyp")
    status, said, err = assessed(capsys, here, 1, *given, "--out", tmp_path / "t")
    assert status == 0, err
    assert "4 masks are called NAME_mask, such as" in said
    assert "Masks hold only 0 and 255: 255 is the class `polyp`, 0 is background." in said
    manifest = json.loads((tmp_path / "t/manifest.json").read_text())
    assert manifest["classes"] == ["polyp"]
    assert manifest["dataset"]["chosen"] == {
        "images": str(here / "photos"),
        "masks": str(here / "masks"),
        "object_value": "255",
    }
    assert vice(capsys, "report", tmp_path / "t", "--replicates", 0)[0] == 0
    assert "data:image/" in (tmp_path / "t/report.html").read_text()  # the folders are opened again
    status, said, _ = vice(capsys, "data", "check", *given)
    assert status == 0
    assert "4 masks read" in said
    assert "255 is the class `polyp`" in said


def test_the_values_of_masks_are_named(here, tmp_path, capsys):
    (tmp_path / "trimaps").mkdir()
    for name in "abcd":
        mask = np.asarray(Image.open(here / "masks" / f"{name}_mask.png"))
        Image.fromarray(np.where(mask > 0, 1, 2).astype(np.uint8)).save(tmp_path / "trimaps" / f"{name}.png")
    given = ("--images", here / "photos", "--masks", tmp_path / "trimaps", "--classes", "pet")
    for said in (assessed(capsys, here, 1, *given)[2], vice(capsys, "data", "check", *given)[2]):
        assert "they look like trimaps. Say what the values mean: --mask-values object=1,b" in " ".join(said.split())
    given = (*given, "--mask-values", "object=1,background=2,void=3")
    status, said, err = assessed(capsys, here, 1, *given, "--out", tmp_path / "t")
    assert status == 0, err
    assert "In masks, 1 is the class `pet`, 2 is background, 3 is void" in " ".join(said.split())
    dataset = dataset_of(Samples.load(tmp_path / "t"))  # opened again, for the page
    assert np.unique(dataset.mask(0)).tolist() == [0, 1]
    assert vice(capsys, "data", "check", *given)[0] == 0
    status, said, err = vice(capsys, "measure", tmp_path / "t", "--replicates", 0, "--no-figures")
    assert status == 0, err
    assert "Every image shows `pet`: mAP is 1 whatever the model answers." in " ".join(said.split())


def test_the_folder_of_a_table_is_called_as_the_images(here, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said, err = assessed(capsys, here, 1, "--images", here / "photos", "--masks", here / "masks")
    assert status == 0, err
    assert "runs/test_resnet_1/assess/photos: 4 images assessed." in said


@pytest.mark.parametrize("option", ["--images", "--data"])
def test_sub_folders_are_exclusive_classes(here, tmp_path, capsys, option):
    status, said, err = assessed(capsys, here, 2, option, here / "sorted", "--out", tmp_path / "t")
    assert status == 0, err
    assert "Every sub-folder is a class: each image has one label of 2." in said
    assert "There are no masks: only classification and calibration are measured." in said
    assert json.loads((tmp_path / "t/manifest.json").read_text())["targets"] == "exclusive"
    status, said, err = vice(capsys, "measure", tmp_path / "t", "--replicates", 0, "--no-figures")
    assert status == 0, err


def test_a_coco_file(here, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    given = ("--images", here / "photos", "--coco", here / "instances.json")
    status, said, err = assessed(capsys, here, 2, *given, "--out", tmp_path / "t")
    assert status == 0, err
    assert "into a temporary folder" in said
    assert json.loads((tmp_path / "t/manifest.json").read_text())["classes"] == ["cat", "dog"]
    status, said, err = vice(capsys, "report", tmp_path / "t", "--replicates", 0)
    assert status == 0, err  # the masks are drawn again
    assert vice(capsys, "data", "check", *given)[0] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--masks", "masks"), "--masks goes with --images, which is not given."),
        (("--images", "photos", "--data", "sorted"), "Give one dataset: --data sorted and --images photos"),
        (("--images", "photos", "--masks", "masks", "--split", "val"), "--split names a list, but --images has none."),
        (("--images", "photos"), "need labels, but neither masks nor a COCO file are given"),
        (("--images", "photos", "--masks", "mask"), "but mask is not there. Did you mean `masks`?"),
    ],
)
def test_options_that_do_not_go_together(here, capsys, monkeypatch, given, message):
    monkeypatch.chdir(here)
    status, _, err = assessed(capsys, here, 1, *given)
    assert status == 2
    assert message in " ".join(err.split())


def test_the_check_refuses_the_same(here, capsys, monkeypatch):
    monkeypatch.chdir(here)
    assert "Give the folder of a dataset" in vice(capsys, "data", "check")[2]
    assert "Give one dataset" in vice(capsys, "data", "check", "sorted", "--images", "photos")[2]
    assert "--coco goes with --images" in vice(capsys, "data", "check", "--coco", "instances.json")[2]
    status, _, err = vice(capsys, "data", "check", "--images", "photos", "--masks", "masks", "--classes", "a,b")
    assert status == 2
    assert "hold only 0 and 255, which is one class, but 2 are given: a, b." in " ".join(err.split())
