"""A COCO file as it is: polygons, RLE and crowds, the same masks and labels as `vice data coco` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_files import write_image

from torchvice.data import open_images, survey
from torchvice.data.open import image_layout
from torchvice.errors import ViceError

pytest.importorskip("pycocotools")


def square(left: int, top: int, side: int) -> list[list[int]]:
    right, low = left + side, top + side
    return [[left, top, right, top, right, low, left, low]]


def content() -> dict[str, Any]:
    """Three images of 8 x 12: two squares, one in the other; a crowd as RLE; nothing."""
    images = [{"id": 5 - n, "file_name": f"{name}.jpg", "height": 8, "width": 12} for n, name in enumerate("abc")]
    annotations = [
        {"id": 1, "image_id": 5, "category_id": 7, "segmentation": square(1, 1, 5)},
        {"id": 2, "image_id": 5, "category_id": 3, "segmentation": square(2, 2, 2)},
        {
            "id": 3,
            "image_id": 4,
            "category_id": 7,
            "iscrowd": 1,
            "segmentation": {"size": [8, 12], "counts": [8, 4, 84]},
        },
    ]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def written(root: Path, held: dict[str, Any]) -> Path:
    for seed, name in enumerate("abc"):
        write_image(root / "photos" / f"{name}.jpg", seed)
    (root / "instances.json").write_text(json.dumps(held))
    return root


def opened(root: Path):
    return open_images(root / "photos", coco=root / "instances.json")


def test_masks_and_labels_by_hand(tmp_path: Path) -> None:
    dataset = opened(written(tmp_path, content()))
    assert dataset.classes == ("cat", "dog")  # by ascending id
    assert [record.image_id for record in dataset.records] == ["a", "b", "c"]
    assert dataset.targets.tolist() == [[1, 1], [0, 1], [0, 0]]  # a crowd is a label
    expected = np.zeros((8, 12), np.uint8)
    expected[1:6, 1:6] = 2
    expected[2:4, 2:4] = 1
    assert np.array_equal(dataset.mask(0), expected)
    crowd = np.zeros((8, 12), np.uint8)
    crowd[:4, 1] = 255
    assert np.array_equal(dataset.mask(1), crowd)
    assert not dataset.mask(2).any()
    assert dataset.chosen == {"images": f"{tmp_path}/photos", "coco": f"{tmp_path}/instances.json"}
    assert "into a temporary folder" in dataset.notes[0]


def test_the_temporary_folder_goes_with_the_dataset(tmp_path: Path) -> None:
    dataset = opened(written(tmp_path, content()))
    folder = dataset.records[0].mask.parent
    assert folder.is_dir()
    assert folder.name == "instances.json"  # so that messages name the file that masks come from
    del dataset
    assert not folder.exists()


def test_images_in_the_folders_that_the_file_names(tmp_path: Path) -> None:
    held = content()
    for entry in held["images"]:
        entry["file_name"] = f"val2017/{entry['file_name']}"
    root = written(tmp_path, held)
    assert len(opened(root)) == 3  # the images lie in the folder itself
    (root / "photos").rename(root / "val2017")
    assert len(open_images(root, coco=root / "instances.json")) == 3


def test_images_that_are_missing_or_not_listed_are_named(tmp_path: Path) -> None:
    root = written(tmp_path, content())
    write_image(root / "photos" / "z.jpg")
    assert any("1 image is not in" in note and "left out: z." in note for note in opened(root).notes)
    (root / "photos" / "b.jpg").unlink()
    with pytest.raises(ViceError, match=r"The image of `b` must be .*b\.jpg, but does not exist \(1 of the 3 images"):
        opened(root)
    (found,) = survey(image_layout(root / "photos", coco=root / "instances.json"))
    assert [problem.image_id for problem in found.broken] == ["b"]


def test_images_of_another_size_than_the_file_says_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path, content())
    write_image(root / "photos" / "a.jpg", 0, (12, 8))
    said = (
        r"instances\.json must state the size of every image, but gives .*a\.jpg as 12 x 8 \(width x height\), and "
        r"the image has 8 x 12; 1 of 3 images differ\.\n.*Give the images that were annotated"
    )
    with pytest.raises(ViceError, match=said):
        opened(root)
    with pytest.raises(ViceError, match=said):
        list(survey(image_layout(root / "photos", coco=root / "instances.json")))


def test_a_damaged_image_is_reported_with_all_others(tmp_path: Path) -> None:
    root = written(tmp_path, content())
    (root / "photos" / "a.jpg").write_bytes(b"no image")
    (found,) = survey(image_layout(root / "photos", coco=root / "instances.json"))
    assert "a.jpg" in found.broken[0].sentence


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, content())
    with pytest.raises(ViceError, match="a folder of masks is given too"):
        open_images(root / "photos", root, coco=root / "instances.json")
    with pytest.raises(ViceError, match=r"must be the categories of .* by ascending id, but are dog, cat"):
        open_images(root / "photos", coco=root / "instances.json", classes=["dog", "cat"])
    with pytest.raises(ViceError, match=r"The COCO file .*none\.json"):
        open_images(root / "photos", coco=root / "none.json")
    (root / "instances.json").write_text(json.dumps({"images": []}))
    with pytest.raises(ViceError, match="must have `annotations`"):
        opened(root)
