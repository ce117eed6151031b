"""Folders without lists: what masks of two values mean, sub-folders as classes, and the same rules in the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, sorted_photos, write_grey, write_image
from PIL import Image
from voc_files import write_mask

from torchvice.data import open_dataset, open_images, survey
from torchvice.data.check import check_files
from torchvice.data.open import image_layout, open_layout
from torchvice.errors import ViceError

ALL = ["a.png", "b.png", "c.png"]


def opened(root: Path, **options):
    return open_images(root / "photos", root / "masks", **options)


@pytest.mark.parametrize("value", [255, 1])
def test_masks_of_two_values_are_one_class_and_it_is_told(tmp_path: Path, value: int) -> None:
    dataset = opened(photos(tmp_path, ALL, value))
    assert dataset.classes == ("object",)
    assert np.array_equal(dataset.mask(0), drawn(1))
    assert dataset.targets.tolist() == [[1], [1], [1]]
    assert dataset.notes == (
        f"Masks hold only 0 and {value}: {value} is the class `object`, 0 is background. Another name: --classes NAME "
        "(classes=['NAME']).",
    )
    assert dataset.chosen == {
        "images": f"{tmp_path}/photos",
        "masks": f"{tmp_path}/masks",
        "object_value": str(value),
    }
    assert dataset.split == "photos"


def test_the_one_class_is_called_as_given(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    dataset = opened(root, classes=("polyp",))
    assert dataset.classes == ("polyp",)
    assert np.array_equal(dataset.mask(0), drawn(1))
    (root / "classes.txt").write_text("nodule\n")
    assert opened(root).classes == ("nodule",)
    assert opened(root).notes[0] == f"The names of the classes are read from {root}/classes.txt."


def test_an_image_whose_mask_is_empty_has_no_label(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    write_grey(root / "masks/b.png", drawn(0))
    assert opened(root).targets.ravel().tolist() == [1, 0, 1]


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_masks_of_0_and_255_in_the_forms_that_programs_write(tmp_path: Path, mode: str) -> None:
    root = photos(tmp_path, ALL)
    for name in ALL:
        Image.open(root / "masks" / name).convert(mode).save(root / "masks" / name)
    assert np.array_equal(opened(root).mask(2), drawn(1))


def test_colours_are_refused(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    for name in ALL:
        Image.fromarray(np.dstack([drawn(200), drawn(9), drawn(0)])).save(root / "masks" / name)
    with pytest.raises(ViceError, match=r"a\.png must be a palette PNG or a grey one of 8 or 16 bits, but is RGB"):
        opened(root)


def test_labels_need_the_names_of_the_classes(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    for value, name in enumerate(ALL, 1):
        write_mask(root / "masks" / name, drawn(value))
    with pytest.raises(ViceError, match=r"must hold two values, 0 and 255, but those of .* hold 1, 2, 3 and 0\."):
        opened(root)
    dataset = opened(root, classes=["cat", "dog", "cow"])
    assert dataset.targets.tolist() == np.eye(3, dtype=int).tolist()
    (root / "masks" / "classes.txt").write_text("cat\ndog\ncow\n")
    assert opened(root).classes == ("cat", "dog", "cow")
    with pytest.raises(ViceError, match="must hold 0 to 2 and 255, but holds 3"):
        opened(root, classes=["cat", "dog"])


def test_void_of_labels_stays_void(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL, 1)
    mask = drawn(1)
    mask[0, 0] = 255
    write_mask(root / "masks/a.png", mask)
    assert np.array_equal(opened(root, classes=["cat"]).mask(0), mask)
    with pytest.raises(ViceError, match="hold 1, 255 and 0"):
        opened(root)  # 255 may be void or the object


def test_two_classes_with_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"hold only 0 and 255, which is one class, but 2 are given: cat, dog\."):
        opened(photos(tmp_path, ALL), classes=["cat", "dog"])


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_object_or_without_background_are_refused(tmp_path: Path, value: int) -> None:
    root = photos(tmp_path, ALL)
    for name in ALL:
        write_grey(root / "masks" / name, np.full(SIZE, value, np.uint8))
    for classes in (None, ["polyp"]):
        with pytest.raises(ViceError, match=f"hold only {value}"):
            opened(root, classes=classes)


def test_masks_in_jpeg_are_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(ViceError, match=r"Masks must be PNG, BMP, GIF or TIFF, but .*a\.jpg is not") as error:
        opened(root)
    assert 'Image.open(mask).convert("L").point(lambda v: 255 * (v > 127)).save(new_mask)' in error.value.way_out
    for mask in (root / "masks").glob("*.jpg"):
        Image.open(mask).convert("L").point(lambda v: 255 * (v > 127)).save(mask.with_suffix(".png"))
    assert opened(root).classes == ("object",)


def test_the_check_has_the_rules_of_the_opening(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png"])
    (found,) = survey(image_layout(root / "photos", root / "masks"))
    dataset = opened(root)
    assert (found.split, found.images, found.masks, found.classes) == ("photos", 3, 2, ("object",))
    assert found.images_per_class == (2,)
    assert found.masks_missing == ("c",)
    assert (found.label_source, found.mask_source, found.notes) == (
        dataset.label_source,
        dataset.mask_source,
        dataset.notes,
    )
    write_grey(root / "masks/b.png", drawn(255, (4, 4)))
    (found,) = survey(image_layout(root / "photos", root / "masks"))
    assert "must be 8 x 12 (H x W) like its image" in found.broken[0].sentence


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    with pytest.raises(ViceError, match=r"The masks must be in a folder, but .*mask is not there") as error:
        open_images(root / "photos", root / "mask")
    assert f"`{root / 'masks'}`" in error.value.way_out
    with pytest.raises(ViceError, match="The images must be in a folder"):
        open_images(root / "nowhere", root / "masks")
    (root / "empty").mkdir()
    with pytest.raises(ViceError, match="must hold some"):
        open_images(root / "empty", root / "masks")
    with pytest.raises(ViceError, match=r"but 3 of the 3 images have none \(.*photos/a\.jpg"):
        open_images(root, root / "masks")


def test_a_file_in_the_place_of_a_folder_is_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    for given in (root / "photos/a.jpg", root / "photos/*.jpg"):
        with pytest.raises(ViceError, match="The images must be in a folder, but") as told:
            open_images(given, root / "masks")
        assert told.value.way_out == f"Give its folder, which is read as a whole: {root / 'photos'}."
    with pytest.raises(ViceError, match="The masks must be in a folder, but") as told:
        open_images(root / "photos", root / "masks/a.png")
    assert told.value.way_out == f"Give its folder, which is read as a whole: {root / 'masks'}."
    for name, way_out in (("all.zip", "Unpack it, and give the folder."), ("instances.json", "--coco")):
        (root / name).write_bytes(b"{}")
        with pytest.raises(ViceError) as told:
            open_images(root / "photos", root / name)
        assert way_out in told.value.way_out
    (root / "dataset.yaml").write_text("names: {cat: 1}\n")
    with pytest.raises(ViceError, match=r"must be a folder, but .*dataset\.yaml is not") as told:
        open_dataset(root / "dataset.yaml")
    assert told.value.way_out == f"Give its folder: {root}."


def test_sub_folders_are_classes_and_an_image_has_one(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    for dataset in (open_images(root / "photos"), open_dataset(root / "photos")):
        assert dataset.classes == ("cat", "dog")
        assert dataset.exclusive
        assert dataset.targets.tolist() == [[1, 0], [1, 0], [0, 1]]
        assert [record.image_id for record in dataset.records] == ["cat/0", "cat/1", "dog/0"]
        assert (dataset.label_source, dataset.masks_missing) == ("sub-folders", 3)
        assert dataset.notes[-1] == "There are no masks: only classification and calibration are measured."
        assert dataset.mask(0) is None
    assert open_images(root / "photos", classes=["dog", "cat"]).targets.tolist() == [[0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize("value", [255, 1, 7])
def test_masks_of_sub_folders_hold_the_class_of_the_folder(tmp_path: Path, value: int) -> None:
    root = sorted_photos(tmp_path, value)
    (root / "masks/cat/1.png").unlink()
    dataset = opened(root)
    assert np.array_equal(dataset.mask(0), drawn(1))
    assert dataset.mask(1) is None
    assert np.array_equal(dataset.mask(2), drawn(2))
    assert dataset.notes[-1].startswith(f"In masks, {value} is the class of the folder, and 0 is background.")
    if "--classes NAME" in dataset.notes[-1]:
        assert opened(root, classes=["pet"]).classes == ("pet",)
    assert ("--classes NAME" in dataset.notes[-1]) == (value != 7)
    assert (dataset.masks_missing, dataset.targets.sum()) == (1, 3)


def test_labels_in_masks_of_sub_folders_must_be_those_of_the_folders(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path, 1)
    write_grey(root / "masks/dog/0.png", drawn(2))
    assert np.array_equal(opened(root).mask(2), drawn(2))
    for name, value in (("cat/0", 2), ("dog/0", 1)):
        write_grey(root / f"masks/{name}.png", drawn(value))
    with pytest.raises(ViceError, match=r"cat/0\.png must hold 1, the label of its folder `cat`, but holds 2"):
        opened(root).mask(0)
    (found,) = survey(image_layout(root / "photos", root / "masks"))
    assert len(found.broken) == 2


def test_classes_that_are_not_the_sub_folders_are_refused(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    with pytest.raises(ViceError, match="it has no `dogs`") as error:
        open_images(root / "photos", classes=["cat", "dogs"])
    assert error.value.way_out == "Did you mean `dog`?"
    with pytest.raises(ViceError, match=r"must be all 2 sub-folders of .*, but lack dog"):
        open_images(root / "photos", classes=["cat"])


def test_parts_and_splits_of_a_dataset_are_no_classes(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL)
    (root / "photos").rename(root / "images")
    with pytest.raises(ViceError, match="its sub-folders are no classes") as error:
        open_images(root)
    assert f"--images {root / 'images'}" in error.value.way_out
    with pytest.raises(ViceError, match="no list of images is there") as error:
        open_dataset(root)
    assert "Images without lists: --images DIR --masks DIR." in error.value.way_out
    sorted_photos(tmp_path / "split")
    (tmp_path / "split/photos").rename(tmp_path / "split/val")
    with pytest.raises(ViceError) as error:
        open_images(tmp_path / "split")
    assert f"--images {tmp_path / 'split/val'}" in error.value.way_out


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    (root / "photos" / "fish").mkdir()
    with pytest.raises(ViceError, match="its sub-folders are no classes") as error:
        open_images(root / "photos")
    assert error.value.way_out.endswith(f"If they are classes, remove those without images: {root}/photos/fish.")
    for name in ("cat/0", "cat/1", "dog/0"):
        write_grey(root / "masks" / f"{name}.png", drawn())
    with pytest.raises(ViceError, match=r"must hold images to be a class, but .*fish holds none"):
        open_images(root / "photos", root / "masks")
    assert open_images(root / "photos", root / "masks", classes=["pet"]).classes == ("pet",)
    (root / "photos" / "fish").rmdir()
    assert open_images(root / "photos").classes == ("cat", "dog")


def test_lists_take_precedence_over_sub_folders(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path) / "photos"
    (root / "val.txt").write_text("a\n")
    assert open_layout(root).splits() == ["val"]


def test_a_folder_without_lists_has_one_split(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    with pytest.raises(ViceError, match=r"must be 'photos', the only split of .*, but is 'train'"):
        open_dataset(root / "photos", "train")
    assert len(open_dataset(root / "photos", "photos")) == 3
    with pytest.raises(ViceError, match="`labels` is 'masks'"):
        open_dataset(root / "photos", labels="masks")
    with pytest.raises(ViceError, match="has its masks already"):
        open_dataset(root / "photos", masks="masks")


def test_the_labels_of_images_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match="need labels, but neither masks nor a COCO file are given"):
        open_images(photos(tmp_path, ALL) / "photos")


def test_large_and_small_suffixes_and_other_formats(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.JPG", "b.tif", "c.bmp", "d.webp")):
        write_image(tmp_path / "photos" / name, seed)
        write_grey(tmp_path / "masks" / f"{name[0]}.png", drawn())
    dataset = opened(tmp_path)
    assert [dataset.image(i).shape for i in range(4)] == [(*SIZE, 3)] * 4


def test_masks_that_draw_one_class_with_two_values_are_refused(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png"], value=1)
    write_grey(tmp_path / "masks" / "c.png", drawn(255))  # all void, if 1 is the class
    with pytest.raises(ViceError, match="with one value, but 2 hold 1 and 1 hold 255"):
        opened(tmp_path, classes=["polyp"])
    rim = drawn(1)
    rim[0] = 255
    write_grey(tmp_path / "masks" / "a.png", rim)  # labels with a void rim: c may be void alone
    assert opened(tmp_path, classes=["polyp"]).targets[:, 0].tolist() == [1, 1, 0]


def test_images_in_sub_folders_beside_others_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png", "c.png"])
    for name in ("more/d.jpg", "more/deep/e.png", ".hidden/f.jpg"):
        write_image(tmp_path / "photos" / name)
    assert "2 images in sub-folders of" in " ".join(opened(tmp_path).notes)
    assert len(opened(tmp_path)) == 3


def test_a_wrong_size_names_the_check_of_these_folders(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png"])
    write_grey(tmp_path / "masks" / "c.png", drawn(size=(9, 12)))
    dataset = opened(tmp_path)
    with pytest.raises(ViceError) as caught:
        check_files(dataset)
    way_out = f"vice data check --images {tmp_path / 'photos'} --masks {tmp_path / 'masks'}"
    assert way_out in caught.value.way_out
