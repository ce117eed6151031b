"""What a dataset holds and what is wrong with it: counted by hand on three small scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from voc_files import SCENES, write_boxes, write_mask, write_xml

from torchvice.cli.app import app
from torchvice.data import VocDataset, check_files, survey
from torchvice.errors import ViceError

NAMES = list(SCENES)
Voc = Callable[..., Path]


def test_what_a_split_holds_by_hand(voc: Voc) -> None:
    root = voc()
    write_boxes(root / "VOC2012/Annotations" / f"{NAMES[0]}.xml", [("cat", (1, 1, 2, 2), 0), ("cat", (2, 2, 3, 3), 1)])
    steps: list[tuple[int, int]] = []
    (found,) = survey(root, progress=lambda done, total: steps.append((done, total)))
    assert (found.split, found.images, found.classes) == ("val", 3, ("cat", "dog", "cow"))
    assert found.images_per_class == (2, 1, 1)
    assert found.objects_per_class == (2, 0, 0)  # of the one annotation
    assert (found.height, found.width) == ((4, 5, 6), (4, 4, 7))
    # One void pixel in each of 5 x 7, 6 x 4 and 4 x 4.
    assert (found.masks, found.void_share) == (3, pytest.approx(3 / 75))
    assert (found.label_source, found.mask_source) == ("cls_labels.npy", "SegmentationClassAug")
    assert not found.broken + found.disagreements + found.masks_missing
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_image_of_two_splits_is_read_once_and_every_list_is_told(voc: Voc) -> None:
    root = voc()
    (root / "train.txt").write_text(f"{NAMES[0]}\n{NAMES[1]}\n")
    (root / "README.txt").write_text("These are scenes.\n")
    steps: list[tuple[int, int]] = []
    found = survey(root, progress=lambda done, total: steps.append((done, total)))
    assert [(one.split, one.images, one.images_per_class) for one in found] == [
        ("train", 2, (2, 0, 1)),
        ("val", 3, (2, 1, 1)),
    ]
    assert len(steps) == 3


def broken(root: Path) -> None:
    """Damages: image 1 is truncated, image 2's mask has another size, image 3 is gone, and one was never there."""
    base = root / "VOC2012"
    first = base / "JPEGImages" / f"{NAMES[0]}.jpg"
    first.write_bytes(first.read_bytes()[:-40])
    write_mask(base / "SegmentationClassAug" / f"{NAMES[1]}.png", np.zeros((3, 3), np.uint8))
    (base / "JPEGImages" / f"{NAMES[2]}.jpg").unlink()
    with (root / "val.txt").open("a") as file:
        file.write("absent\n")


def test_everything_that_is_broken_is_named(voc: Voc) -> None:
    root = voc()
    broken(root)
    (found,) = survey(root, "val")
    assert found.images == 4
    assert [(problem.kind, problem.image_id) for problem in found.broken] == [
        ("image", NAMES[2]),
        ("image", "absent"),
        ("image", NAMES[0]),
        ("mask", NAMES[1]),
    ]
    said = " ".join(problem.sentence for problem in found.broken)
    for word in (
        f"{NAMES[2]}.jpg (or .jpeg, .png)",
        "is damaged or truncated",
        "must be 6 x 4 (H x W)",
        "but is 3 x 3",
    ):
        assert word in said
    assert found.images_per_class is None  # no image is whole


@pytest.mark.parametrize(
    ("kind", "word"), [("mask", "must hold 0 to 3 and 255, but holds 4"), ("annotation", "has 'dogg'"), ("list", "twi")]
)
def test_each_kind_of_damage(voc: Voc, kind: str, word: str) -> None:
    root = voc()
    if kind == "mask":
        write_mask(root / "VOC2012/SegmentationClassAug" / f"{NAMES[1]}.png", np.full((6, 4), 4, np.uint8))
    elif kind == "annotation":
        write_xml(root / "VOC2012/Annotations" / f"{NAMES[1]}.xml", ["dogg"])
    else:
        (root / "val.txt").write_text(f"{NAMES[1]}\n{NAMES[1]}\n")
        word = "must name every image once"
    (found,) = survey(root)
    assert [problem.kind for problem in found.broken] == [kind]
    assert word in found.broken[0].sentence
    if kind == "list":
        assert (found.images, found.height, found.images_per_class) == (0, None, None)
        assert math.isnan(found.void_share)
    else:
        assert found.broken[0].image_id == NAMES[1]
        assert found.images_per_class == (1, 1, 0)  # the other two


def test_labels_that_disagree_with_masks(voc: Voc) -> None:
    root = voc()
    vectors = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    vectors[NAMES[0]] = np.array([0, 1, 1], np.float32)
    np.save(root / "cls_labels.npy", vectors, allow_pickle=True)
    (found,) = survey(root)
    assert [problem.sentence for problem in found.disagreements] == [
        f"`{NAMES[0]}` has in the labels only: dog, cow; in the mask only: cat. Void is 3% of its mask, and may "
        "hide objects."
    ]
    assert not found.broken


def test_labels_that_cannot_be_had_are_told_and_not_raised(voc: Voc) -> None:
    root = voc(masks=None, labels=False)
    (found,) = survey(root)
    assert [problem.kind for problem in found.broken] == ["labels"]
    assert found.masks_missing == tuple(NAMES)
    assert math.isnan(found.void_share)
    assert found.to_json()["void_share"] is None


def test_no_folder_no_list(tmp_path: Path) -> None:
    for root, split in ((tmp_path / "none", None), (tmp_path, None), (tmp_path, "val")):
        with pytest.raises(ViceError):
            survey(root, split)


# ---- the guard


def test_the_guard_passes_what_is_whole_and_what_has_no_masks(voc: Voc) -> None:
    check_files(VocDataset(voc(), "val"))
    check_files(VocDataset(voc("other/VOC2012", masks=None), "val"))


def test_the_guard_names_the_first_few_and_counts_all(voc: Voc) -> None:
    root = voc()
    base = root / "VOC2012"
    for copy in range(3):
        Image.new("RGB", (4, 4)).save(base / "JPEGImages" / f"more{copy}.png")
        (base / "SegmentationClassAug" / f"more{copy}.png").write_bytes(b"\x89PNG")
    Image.new("RGB", (9, 8)).save(base / "JPEGImages" / f"{NAMES[0]}.jpg")
    (root / "val.txt").write_text("\n".join([*NAMES, "more0", "more1", "more2"]))
    (root / "VOC2012/JPEGImages" / f"{NAMES[1]}.jpg").write_bytes(b"")
    labels = dict.fromkeys([*NAMES, "more0", "more1", "more2"], np.array([1, 0, 0]))
    np.save(root / "cls_labels.npy", labels, allow_pickle=True)
    with pytest.raises(ViceError) as caught:
        check_files(VocDataset(root, "val"))
    assert "5 of the 6 images of val are not: " in caught.value.message
    assert f"{NAMES[0]}.png (a mask of 5 x 7 pixels for an image of 8 x 9)" in caught.value.message
    assert f"{NAMES[1]}.jpg" in caught.value.message
    assert "SegmentationClassAug/more0.png and 2 more" in caught.value.message
    assert "more1" not in caught.value.message
    assert caught.value.way_out == f"List every problem: vice data check {root} --split val"


@pytest.mark.parametrize("command", ["train", "assess"])
def test_training_and_assessing_begin_with_the_guard(voc: Voc, tmp_path: Path, command: str) -> None:
    import timm
    import torch

    root = voc()
    write_mask(root / "VOC2012/SegmentationClassAug" / f"{NAMES[1]}.png", np.zeros((3, 3), np.uint8))
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    arguments = {
        "train": ["train", "demo", "-o", f"data.root={root}", "-o", "data.train_split=val", "-o", "model.arguments={}",
                  "-o", "data.eval_split=val", "-o", "model.name=test_resnet", "-o", f"work_dir={tmp_path / 'runs'}"],
        "assess": ["assess", "--model", "test_resnet", "--weights", str(tmp_path / "w.pth"), "--data", str(root),
                   "--out", str(tmp_path / "table")],
    }  # fmt: skip
    done = CliRunner().invoke(app, arguments[command])
    assert isinstance(done.exception, ViceError)
    assert "1 of the 3 images of val are not: " in done.exception.message
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "table").exists()


# ---- the command


def test_the_command_and_its_exit_status(voc: Voc, tmp_path: Path) -> None:
    root = voc()
    done = CliRunner().invoke(app, ["data", "check", str(root), "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    assert "3 images" in done.output
    assert "Nothing is broken" in done.output
    content = json.loads((tmp_path / "found.json").read_text())["splits"][0]
    assert content["images_per_class"] == {"cat": 2, "dog": 1, "cow": 1}
    assert content["objects_per_class"] is None
    (root / "VOC2012/SegmentationClassAug" / f"{NAMES[0]}.png").unlink()
    assert CliRunner().invoke(app, ["data", "check", str(root)]).exit_code == 0
    assert CliRunner().invoke(app, ["data", "check", str(root), "--strict"]).exit_code == 1
    broken(root)
    done = CliRunner().invoke(app, ["data", "check", str(root), "--split", "val", "--show", "1"])
    assert done.exit_code == 1
    assert "3 broken images:" in done.output
    assert "and 2 more" in done.output
    assert isinstance(CliRunner().invoke(app, ["data", "check", str(tmp_path / "no")]).exception, ViceError)


# ---- what the masks and names hide


def test_masks_of_0_and_255_hold_no_class(voc: Voc) -> None:
    root = voc()
    (root / "classes.txt").write_text("polyp\n")
    np.save(root / "cls_labels.npy", {name: np.ones(1) for name in NAMES}, allow_pickle=True)
    for name, (shape, _) in SCENES.items():
        mask = np.zeros(shape, np.uint8)
        mask[:2] = 255
        write_mask(root / "VOC2012/SegmentationClassAug" / f"{name}.png", mask)
    (found,) = survey(root)
    assert [problem.kind for problem in found.broken] == ["mask"]
    assert "hold no class at all" in found.broken[0].sentence
    with pytest.raises(ViceError, match="masks of val must hold classes") as caught:
        check_files(VocDataset(root, "val"))
    assert "names: {polyp: 255}" in caught.value.way_out
    (root / "dataset.yaml").write_text("names: {polyp: 255}\nimages: VOC2012/JPEGImages\n"
                                       "masks: VOC2012/SegmentationClassAug\n")  # fmt: skip
    (found,) = survey(root)
    assert not found.broken
    check_files(VocDataset(root, "val"))


def test_a_mask_of_void_alone_leaves_its_image_without_a_label(voc: Voc) -> None:
    root = voc(labels=False)
    write_mask(root / "VOC2012/SegmentationClassAug" / f"{NAMES[1]}.png", np.full((6, 4), 255, np.uint8))
    (found,) = survey(root)
    assert not found.broken
    assert found.notes == (f"1 mask holds void but no class, such as that of `{NAMES[1]}`.",)
    assert found.to_json()["notes"] == list(found.notes)


def test_images_with_an_orientation_are_named(voc: Voc) -> None:
    root = voc()
    assert not survey(root)[0].rotated
    exif = Image.Exif()
    exif[0x0112] = 3
    file = root / "VOC2012/JPEGImages" / f"{NAMES[2]}.jpg"
    with Image.open(file) as picture:
        picture.save(file, exif=exif)
    (found,) = survey(root)
    assert (found.rotated, found.broken) == ((NAMES[2],), ())
    done = CliRunner().invoke(app, ["data", "check", str(root)])
    assert done.exit_code == 0
    assert "1 images have an EXIF orientation" in done.output
    assert CliRunner().invoke(app, ["data", "check", str(root), "--strict"]).exit_code == 1


def test_masks_with_an_orientation_are_named(voc: Voc) -> None:
    root = voc()
    exif = Image.Exif()
    exif[0x0112] = 3
    file = root / "VOC2012/SegmentationClassAug" / f"{NAMES[1]}.png"
    with Image.open(file) as picture:
        picture.save(file, exif=exif)
    assert survey(root)[0].rotated == (NAMES[1],)


def test_the_survey_has_the_rules_of_the_dataset(voc: Voc) -> None:
    root = voc()
    (root / "classes.txt").write_text("".join(f"class {i}\n" for i in range(300)))
    (root / "cls_labels.npy").unlink()
    (found,) = survey(root)
    assert "has 8 bits and holds 255" in found.broken[0].sentence
    root = voc("other/VOC2012")
    (root / "val.txt").write_text("".join(f"JPEGImages/{name}.jpg Corrected/{name}.png\n" for name in NAMES))
    (found,) = survey(root)
    assert [problem.kind for problem in found.broken if problem.kind == "mask"] == ["mask"] * 3
    assert "Corrected" in found.broken[0].sentence


def test_hidden_files_are_no_splits(voc: Voc) -> None:
    root = voc()
    (root / "._val.txt").write_bytes(b"\0\x05\x16\x07\0\x02\xff")
    assert [found.split for found in survey(root)] == ["val"]
