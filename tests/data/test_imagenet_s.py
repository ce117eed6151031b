"""ImageNet-S: masks with the class in red and green, folders of WordNet ids, all of them or some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, write_image
from PIL import Image

from torchvice.data import open_images
from torchvice.data.check import survey
from torchvice.data.open import image_layout
from torchvice.errors import ViceError

# In the order of their names, which gives the ids 1, 2, 3 and 4.
FOLDERS = ("n01443537", "n02085620", "n02123045", "n04612504")


def coded(ids: np.ndarray) -> Image.Image:
    """The form of ImageNet-S: (id % 256, id // 256, 0)."""
    return Image.fromarray(np.dstack([ids % 256, ids // 256, np.zeros_like(ids)]).astype(np.uint8))


def ids_of(place: int) -> np.ndarray:
    """(H, W): a square of a class, ignored pixels in a corner, the rest other."""
    ids = np.where(drawn(1) > 0, place, 0)
    ids[0, :3] = 1000
    return ids


def written(root: Path, ids: dict[str, int], images: int = 2) -> Path:
    for folder, place in ids.items():
        for number in range(images):
            name = f"{folder}/ILSVRC2012_val_{number:08d}"
            write_image(root / "validation" / f"{name}.JPEG", number)
            (root / "validation-segmentation" / folder).mkdir(parents=True, exist_ok=True)
            coded(ids_of(place)).save(root / "validation-segmentation" / f"{name}.png")
    return root


def opened(root: Path, **options):
    return open_images(root / "validation", root / "validation-segmentation", **options)


def expected(label: int) -> np.ndarray:
    mask = drawn(label)
    mask[0, :3] = 255
    return mask


def test_the_form_is_noticed_and_said(tmp_path: Path) -> None:
    dataset = opened(written(tmp_path, {name: place for place, name in enumerate(FOLDERS, 1)}))
    assert dataset.classes == FOLDERS
    assert dataset.exclusive
    assert dataset.targets.argmax(1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for index in range(8):
        assert np.array_equal(dataset.mask(index), expected(index // 2 + 1))
    assert dataset.notes[-1] == (
        "Masks are those of ImageNet-S: R + 256 G is the class, 0 is background, 1000 is void."
    )
    (found,) = survey(image_layout(tmp_path / "validation", tmp_path / "validation-segmentation"))
    assert (found.masks, found.broken, found.disagreements) == (8, (), ())


def test_some_of_the_folders_have_their_own_ids(tmp_path: Path) -> None:
    """Of ImageNet-S-919, whose ids exceed 255: 300 is (44, 1, 0)."""
    dataset = opened(written(tmp_path, dict(zip(FOLDERS, (2, 44, 300, 919), strict=True))))
    for index in range(8):
        assert np.array_equal(dataset.mask(index), expected(index // 2 + 1))
    assert np.array_equal(opened(tmp_path, classes=FOLDERS[::-1]).mask(0), expected(4))


def test_other_classes_in_a_mask_are_labels_or_background(tmp_path: Path) -> None:
    root = written(tmp_path, dict(zip(FOLDERS, (2, 44, 300, 919), strict=True)), images=3)
    mask = ids_of(300)
    mask[7, 0], mask[7, 1] = 44, 500
    coded(mask).save(root / "validation-segmentation" / FOLDERS[2] / "ILSVRC2012_val_00000002.png")
    label = expected(3)
    label[7, 0] = 2
    assert np.array_equal(opened(root).mask(8), label)


def test_a_mask_without_the_class_of_its_folder_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, {name: place for place, name in enumerate(FOLDERS, 1)})
    coded(ids_of(3)).save(root / "validation-segmentation" / FOLDERS[0] / "ILSVRC2012_val_00000001.png")
    with pytest.raises(
        ViceError, match="must hold the class of its folder `n01443537`, but holds only other ids, such"
    ):
        opened(root).mask(1)
    coded(np.zeros(SIZE, int)).save(root / "validation-segmentation" / FOLDERS[0] / "ILSVRC2012_val_00000001.png")
    assert not opened(root).mask(1).any()


def test_ids_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    root = written(tmp_path, dict(zip(FOLDERS, (2, 300, 44, 919), strict=True)))
    with pytest.raises(ViceError, match="are 300 in n02085620 and 44 in n02123045"):
        opened(root)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """ImageNet-S links to the folders of ImageNet; a link to a folder above is no second copy."""
    root = written(tmp_path / "whole", dict(zip(FOLDERS, (1, 2, 3, 4), strict=True)))
    (tmp_path / "part").mkdir()
    for name in FOLDERS[1:3]:
        (tmp_path / "part" / name).symlink_to(root / "validation" / name)
    dataset = open_images(tmp_path / "part", root / "validation-segmentation")
    assert dataset.classes == FOLDERS[1:3]
    assert np.array_equal(dataset.mask(2), expected(2))
    (root / "validation" / FOLDERS[0] / "up").symlink_to(root / "validation")
    assert len(opened(root)) == 8


def test_more_classes_than_8_bits_can_tell_apart(tmp_path: Path) -> None:
    names = [f"n{number:08d}" for number in range(255)]
    root = written(tmp_path, {name: place for place, name in enumerate(names, 1)}, images=1)
    mask = drawn(1).astype(np.int32) * 255
    mask[0, :3] = 65535
    assert np.array_equal(opened(root).mask(254), mask)
    (tmp_path / "part").mkdir()
    for name in names[200:]:
        (tmp_path / "part" / name).symlink_to(root / "validation" / name)
    dataset = open_images(tmp_path / "part", root / "validation-segmentation")
    assert np.array_equal(dataset.mask(54), expected(55))
