"""Masks of other forms in VOC's layout: the message names what was found, and its way out works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from torchvice.cli.app import app
from torchvice.commands.evaluate import evaluate
from torchvice.data import open_dataset, open_images
from torchvice.data.check import survey
from torchvice.data.open import image_layout
from torchvice.errors import ViceError

SIZE = (20, 24)


def square(value: int, ground: int = 0, rim: int | None = None, kind: type = np.uint8) -> np.ndarray:
    mask = np.full(SIZE, ground, kind)
    mask[5:15, 5:17] = ground if rim is None else rim
    mask[6:14, 6:16] = value
    return mask


def soft() -> np.ndarray:
    return np.asarray(Image.fromarray(square(255)).filter(ImageFilter.GaussianBlur(2)))


def voc(root: Path, *masks: np.ndarray, classes: str = "polyp\n") -> Path:
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for place, mask in enumerate(masks):
        pixels = np.random.default_rng(place).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{place}.png")
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{place}.png")
    (root / "val.txt").write_text("".join(f"{place}\n" for place in range(len(masks))))
    if classes:
        (root / "classes.txt").write_text(classes)
    return root


def refused(root: Path) -> ViceError:
    """The error of opening; the check of the dataset says the same."""
    with pytest.raises(ViceError) as told:
        [open_dataset(root).mask(0)]
    assert told.value.message in {problem.sentence for problem in survey(root)[0].broken}
    assert told.value.way_out in {problem.way_out for problem in survey(root)[0].broken}
    return told.value


def described(root: Path, error: ViceError) -> np.ndarray:
    """The first mask with the dataset.yaml that the way out writes between its backquotes."""
    lines = re.findall(r"`((?:names|background|void): .+?)`", error.way_out)
    (root / "dataset.yaml").write_text("".join(f"{line}\n" for line in lines))
    mask = open_dataset(root).mask(0)
    assert mask is not None
    return mask


@pytest.mark.parametrize(
    ("mask", "message", "expected"),
    [
        (square(1, 2, 3), "must hold 0 to 1 and 255, but holds 2 and no 0: it looks like a trimap", square(1, 0, 255)),
        (square(1, 2), "holds 2 and no 0: it looks like a trimap", square(1)),
        (square(65535, kind=np.uint16), "must hold 0 to 1 and 255, but holds 65535", square(1)),
        (square(128), "must hold 0 to 1 and 255, but holds 128", square(1)),
        (square(255), "hold no class at all, only 0 .background. or 255 .void.", square(1)),
        (square(100, 0, 200), "must hold 0 to 1 and 255, but holds 100", square(1, 0, 2)),
    ],
)
def test_the_way_out_in_dataset_yaml_works(
    tmp_path: Path, mask: np.ndarray, message: str, expected: np.ndarray
) -> None:
    error = refused(voc(tmp_path, mask, mask))
    assert re.search(message, error.message)
    np.testing.assert_array_equal(described(tmp_path, error), expected)


def test_values_of_two_named_classes_are_not_taken_for_one_object(tmp_path: Path) -> None:
    error = refused(voc(tmp_path, square(127), square(127), classes="red\nblue\n"))
    assert "must hold 0 to 2 and 255, but holds 127" in error.message
    assert "the one object" not in error.way_out
    assert "`names: {a: 127, ...}`" in error.way_out
    masks = tmp_path / "SegmentationClass"
    Image.fromarray(square(255)).save(masks / "1.png")
    (found,) = survey(image_layout(tmp_path / "JPEGImages", masks, classes=["red", "blue"]))
    none = found.broken[-1]
    assert "hold no class at all" in none.sentence
    assert "--mask-values" not in none.way_out
    assert "dataset.yaml, such as `names: {red: 255, blue: 128}`" in none.way_out


@pytest.mark.parametrize("classes", ["polyp\n", ""])
def test_soft_edges(tmp_path: Path, classes: str) -> None:
    error = refused(voc(tmp_path, soft(), soft(), classes=classes))
    assert "more such values: its edges may be soft" in error.message
    found = re.search(r"--images DIR --masks (\S+) --mask-values (\S+)\.", error.way_out)
    assert found is not None
    dataset = open_images(tmp_path / "JPEGImages", found[1], mask_values=found[2])
    np.testing.assert_array_equal(dataset.mask(0), soft() > 127)


def test_trimaps_are_not_vocs_first_three_classes(tmp_path: Path) -> None:
    """Without classes.txt they would be an aeroplane on a bicycle, and nothing would be background."""
    error = refused(voc(tmp_path, square(1, 2, 3), square(1, 2), classes=""))
    assert error.message.startswith("Without classes.txt, the classes are VOC's, but the masks hold 1, 2, 3 and no 0")
    np.testing.assert_array_equal(described(tmp_path, error), square(1, 0, 255))
    # With their names they may be what they are: that is said.
    root = voc(tmp_path / "named", square(1, 2), square(1, 2), classes="road\nsky\n")
    assert "no 0: no pixel is background" in open_dataset(root).notes[-1]
    assert "no 0: no pixel is background" in survey(root)[0].notes[-1]


def test_one_object_of_two_values_is_said(tmp_path: Path) -> None:
    root = voc(tmp_path, square(1), square(255), square(1), square(255))
    assert open_dataset(root).notes == (
        "2 of the 4 masks read hold 255, which is void, where 2 hold 1, which is `polyp`. If 255 is the object there, "
        "write 1.",
    )
    assert not open_dataset(voc(tmp_path / "rims", square(1, 0, 255), square(255, 0, 1))).notes


def test_the_command_prints_the_way_out(tmp_path: Path) -> None:
    voc(tmp_path, square(1, 2, 3), square(1, 2, 3))
    done = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert said.count("`names: {object: 1}`, `background: 2`, `void: 3`") == 1  # once for both masks


def test_trimaps_are_no_ground_truth_of_voc(tmp_path: Path) -> None:
    voc(tmp_path, square(1, 2, 3), square(1, 2), classes="")
    (tmp_path / "maps").mkdir()
    for place in range(2):
        np.save(tmp_path / f"maps/{place}.npy", {0: square(1).astype(np.float32)}, allow_pickle=True)
    with pytest.raises(ViceError, match="the masks hold 1, 2, 3 and no 0: no pixel is background") as told:
        evaluate(["0", "1"], tmp_path / "maps", tmp_path / "SegmentationClass")
    described(tmp_path, told.value)
    assert evaluate(["0", "1"], tmp_path / "maps", tmp_path / "SegmentationClass").best_mean_iou > 0.999


def sorted_masks(root: Path, **masks: np.ndarray) -> Path:
    for name, mask in masks.items():
        for kind, pixels in (("photos", np.zeros((*SIZE, 3), np.uint8)), ("masks", mask)):
            (root / kind / name).mkdir(parents=True)
            Image.fromarray(pixels).save(root / kind / name / "0.png")
    return root


def test_masks_of_class_folders_with_two_values(tmp_path: Path) -> None:
    root = sorted_masks(tmp_path / "mixed", cat=square(1), dog=square(255))
    with pytest.raises(ViceError, match="must draw the object with one value, but 1 hold 1 and 1 hold 255"):
        open_images(root / "photos", root / "masks")
    root = sorted_masks(tmp_path / "rims", cat=square(255, 0, 128), dog=square(255, 0, 128))
    with pytest.raises(ViceError, match="must draw the object with one value, but hold 128 and 255") as told:
        open_images(root / "photos", root / "masks")
    named = re.search(r"mask_values='(\S+)'", told.value.way_out)
    assert named is not None
    dataset = open_images(root / "photos", root / "masks", mask_values=named[1])
    np.testing.assert_array_equal(dataset.mask(1), square(2, 0, 255))
    root = sorted_masks(tmp_path / "void", cat=square(1, 0, 255), dog=square(1, 0, 255))
    dataset = open_images(root / "photos", root / "masks")
    np.testing.assert_array_equal(dataset.mask(1), square(2, 0, 255))
    assert dataset.notes[1].startswith("In masks, 1 is the class of the folder, 255 is void, and 0 is background.")


def test_a_class_whose_masks_are_all_empty_is_named(tmp_path: Path) -> None:
    root = sorted_masks(tmp_path, cat=square(0), dog=square(1))
    assert open_images(root / "photos", root / "masks").notes[1].endswith(" All masks of cat are empty.")
