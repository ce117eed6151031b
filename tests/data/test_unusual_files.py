"""Files of a new user: other spellings, several frames, rotated images, links, and labels that fit nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, write_grey, write_image
from PIL import Image
from test_mask_forms import square, voc

from torchvice.data import check_files, from_items, open_dataset, open_images
from torchvice.data.check import survey
from torchvice.data.description import is_no_object
from torchvice.data.images import read_image, read_mask
from torchvice.data.items import ItemDataset
from torchvice.data.layout import Layout
from torchvice.errors import ViceError


@pytest.mark.parametrize(
    "name",
    [
        *("background", "Background", "__BACKGROUND__", "back ground", "BG", "bg_0", "background (0)", "0: background"),
        *("Hintergrund", "arrière-plan", "arrie\u0300re-plan", "Fondo", "sfondo", "fundo", "achtergrond", "bakgrund"),
        *("tło", "фон", "背景", "배경", "arka plan", "no object", "Ignore region", "unlabelled", "none"),
    ],
)
def test_the_background_in_any_spelling_is_no_class(name: str) -> None:
    assert is_no_object(name)


@pytest.mark.parametrize(
    "name", ["dog on a background", "fondant", "bgr8 board", "nonesuch", "voidwalker", "person", "7"]
)
def test_other_names_are_classes(name: str) -> None:
    assert not is_no_object(name)


def test_a_folder_called_background_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "Hintergrund"):
        write_image(tmp_path / "photos" / name / "a.png")
    with pytest.raises(ViceError, match=r"must have sub-folders of objects only, but has 'Hintergrund'"):
        open_images(tmp_path / "photos")
    (tmp_path / "photos/Hintergrund").rename(tmp_path / "photos/nobody")
    assert open_images(tmp_path / "photos").classes == ("cat", "nobody")


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")])
def test_several_frames_are_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    frames = [Image.fromarray(drawn(value)) for value in (50, 150, 250)]
    frames[0].save(tmp_path / f"m.{suffix}", kind, save_all=True, append_images=frames[1:])
    for read in (read_image, read_mask):
        with pytest.raises(ViceError, match="must be one picture, but holds 3 frames or pages"):
            read(tmp_path / f"m.{suffix}")
    frames[0].save(tmp_path / f"m.{suffix}", kind)
    assert read_image(tmp_path / f"m.{suffix}").shape == (*SIZE, 3)


@pytest.mark.parametrize("name", ["Classes.txt", "CLASSES.TXT", "class_names.txt"])
def test_a_list_of_classes_in_another_spelling_is_not_passed_over(tmp_path: Path, name: str) -> None:
    voc(tmp_path, square(1), square(2), classes="")
    (tmp_path / name).write_text("red\nblue\n")
    with pytest.raises(ViceError, match=f"must be called classes.txt, but .* has {name}"):
        open_dataset(tmp_path)
    (tmp_path / name).rename(tmp_path / "classes.txt")
    assert open_dataset(tmp_path).classes == ("red", "blue")


@pytest.mark.parametrize("name", ["labels.txt", "labelmap.txt", "Names.txt", "categories.txt"])
def test_a_file_that_may_name_the_classes_is_neither_passed_over_nor_a_list_of_images(
    tmp_path: Path, name: str
) -> None:
    voc(tmp_path, square(1), square(2), classes="")
    (tmp_path / name).write_text("red\nblue\n")
    with pytest.raises(
        ViceError, match=rf"must be called classes.txt, but .* has {name}\.\s+Write the names .* one a line"
    ):
        open_dataset(tmp_path)
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    found = open_dataset(tmp_path)
    assert found.classes == ("red", "blue")
    assert Path(name).stem not in Layout(tmp_path).splits()


@pytest.mark.parametrize("name", ["dataset.yml", "Dataset.yaml"])
def test_a_description_in_another_spelling_is_not_passed_over(tmp_path: Path, name: str) -> None:
    voc(tmp_path, square(1), square(2), classes="blue\nred\n")
    (tmp_path / name).write_text("names: {red: 2, blue: 1}\n")
    with pytest.raises(ViceError, match=f"must be called dataset.yaml, but .* has {name}"):
        open_dataset(tmp_path)
    (tmp_path / name).rename(tmp_path / "dataset.yaml")
    assert open_dataset(tmp_path).classes == ("red", "blue")


def test_labels_of_other_images_are_said(tmp_path: Path) -> None:
    voc(tmp_path, square(1), square(1))
    np.save(tmp_path / "cls_labels.npy", {"0.png": np.ones(1), "1.png": np.ones(1)}, allow_pickle=True)
    said = f"{tmp_path / 'cls_labels.npy'} is not used: it has labels of none of these images."
    assert said in open_dataset(tmp_path).notes
    assert said in survey(tmp_path)[0].notes
    assert said not in open_dataset(tmp_path, labels="masks").notes


def test_images_without_any_label_are_broken(tmp_path: Path) -> None:
    voc(tmp_path, square(1), square(1))
    np.save(tmp_path / "cls_labels.npy", {"0": np.zeros(1), "1": np.zeros(1)}, allow_pickle=True)
    (problem,) = survey(tmp_path)[0].broken
    assert problem.sentence == (
        "An assessment needs images with labels, but none of the 2 has one (labels: cls_labels.npy)."
    )


def test_a_broken_link_names_its_target(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png"])
    (tmp_path / "masks/c.png").symlink_to("nothing.png")
    with pytest.raises(ViceError, match=r"c\.png is a link to .*nothing\.png, which does not exist") as told:
        open_images(tmp_path / "photos", tmp_path / "masks")
    assert "Did you mean" not in str(told.value)


def test_an_orientation_is_said_and_blamed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photos(tmp_path, ["a.png", "b.png", "c.png"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "photos/b.jpg", exif=exif)
    (said,) = check_files(open_images(tmp_path / "photos", tmp_path / "masks"))
    assert said.startswith("1 image has an EXIF orientation, which is not applied: see that the mask lies")
    assert "`b`" in said
    write_grey(tmp_path / "masks/b.png", drawn(255, SIZE[::-1]))
    with pytest.raises(ViceError, match="12 x 8 pixels for an image of 8 x 12, whose EXIF orientation is not applied"):
        check_files(open_images(tmp_path / "photos", tmp_path / "masks"))


def test_masks_with_the_suffix_of_the_image_in_their_name(tmp_path: Path) -> None:
    photos(tmp_path, ["a.jpg.png", "b.jpg.png", "c.png"])
    dataset = open_images(tmp_path / "photos", tmp_path / "masks")
    assert [record.mask.name for record in dataset.records] == ["a.jpg.png", "b.jpg.png", "c.png"]
    assert dataset.notes[0].startswith("2 masks are called NAME.jpg")


def test_an_image_beside_the_folders_of_classes_is_named(tmp_path: Path) -> None:
    for name in ("cat/a", "dog/b", "loose"):
        write_image(tmp_path / "photos" / f"{name}.png")
    with pytest.raises(ViceError, match=r"while images lie beside them, such as loose\.png") as told:
        open_images(tmp_path / "photos")
    assert "move the images beside them elsewhere" in told.value.way_out
    (tmp_path / "photos/loose.png").unlink()
    assert open_images(tmp_path / "photos").classes == ("cat", "dog")


# ---- COCO


def coco(root: Path, segmentation: object, **more: object) -> Path:
    pytest.importorskip("pycocotools")
    write_image(root / "photos/a.png")
    entry = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": segmentation} | more
    content = {
        "images": [{"id": 1, "file_name": "sub\\a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{name: value for name, value in entry.items() if value is not None}],
    }
    (root / "c.json").write_text(json.dumps(content))
    return root


BOX = [2, 2, 6, 2, 6, 5, 2, 5]


def test_paths_of_windows(tmp_path: Path) -> None:
    root = coco(tmp_path, [BOX])
    assert (open_images(root / "photos", coco=root / "c.json").mask(0) == 1).sum() == 4 * 3
    other = voc(tmp_path / "voc", square(1))
    (other / "val.txt").write_text("JPEGImages\\0.png SegmentationClass\\0.png\r\n")
    assert [record.image_id for record in open_dataset(other).records] == ["0"]


@pytest.mark.parametrize(
    ("segmentation", "more", "message", "way_out"),
    [
        (
            [[value / 12 for value in BOX]],
            {},
            "must be in pixels, but all of them lie between 0 and 1",
            "Multiply x by",
        ),
        ([BOX], {"iscrowd": 1}, "has only crowds, which are void", "Give `iscrowd` 0"),
        (
            None,
            {"bbox": [2, 2, 4, 3]},
            "`segmentation` is wrong",
            "A box may be drawn as the polygon of its four corners",
        ),
        ([], {"bbox": [2, 2, 4, 3]}, "`segmentation` is wrong", "A box may be drawn as the polygon"),
        ([BOX], {"image_id": "1"}, "`image_id` is wrong", "Ids must be integers, without quotation marks"),
    ],
)
def test_annotations_that_draw_nothing(
    tmp_path: Path, segmentation: object, more: dict[str, object], message: str, way_out: str
) -> None:
    root = coco(tmp_path, segmentation, **more)
    with pytest.raises(ViceError, match=message) as told:
        open_images(root / "photos", coco=root / "c.json")
    assert way_out in told.value.way_out


def test_the_way_out_of_a_missing_image_is_of_its_folders(tmp_path: Path) -> None:
    root = coco(tmp_path, [BOX])
    (root / "photos/a.png").rename(root / "photos/b.png")
    with pytest.raises(ViceError, match="does not exist") as told:
        open_images(root / "photos", coco=root / "c.json")
    assert told.value.way_out == f"List them all: vice data check --images {root / 'photos'} --coco {root / 'c.json'}"


# ---- Python objects


def items(**parts: object) -> ItemDataset:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    return from_items([{"image": pixels} | parts], parts.pop("classes", None))


def test_items_that_cannot_be_used_have_a_way_out() -> None:
    with pytest.raises(ViceError, match="must hold 0, 1, 255, but hold -1") as told:
        from_items([(np.zeros((*SIZE, 3), np.uint8), drawn(1).astype(np.int64) - 1)], ["cat"])
    assert told.value.way_out == "Write void as 255, and the background as 0."
    with pytest.raises(ViceError, match="has neither: its keys are image, seg") as told:
        items(seg=drawn(1))
    assert "keys={'mask': ..., 'labels': ...}" in told.value.way_out
    with pytest.raises(ViceError, match="must be a PIL image or an array") as told:
        items(image="photos/a.jpg", mask=drawn(1))
    assert told.value.way_out == "Open files first: PIL.Image.open(path)."


def test_a_path_is_not_suggested_in_its_own_place(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png"])
    (tmp_path / "masks/c.png").mkdir()
    with pytest.raises(ViceError, match=r"c\.png is a folder") as told:
        read_mask(tmp_path / "masks/c.png")
    assert str(tmp_path / "masks/c.png") not in told.value.way_out
