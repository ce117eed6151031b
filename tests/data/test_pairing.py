"""Masks are found by the names of their images; whatever fits two is refused, and what fits none is counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bare_files import drawn, photos, write_grey, write_image

from torchvice.data import open_images
from torchvice.errors import ViceError


def opened(root: Path):
    return open_images(root / "photos", root / "masks")


@pytest.mark.parametrize(
    "form",
    [
        *("{}.png", "{}_mask.png", "{}-mask.png", "{}.mask.png", "{}_seg.png", "{}-seg.png", "{}_gt.png"),
        *("{}_label.png", "mask_{}.png", "{}_Segmentation.PNG", "{}_masks.tif", "{}.gif", "{}_ground_truth.bmp"),
    ],
)
def test_a_mask_is_found_by_its_name_and_the_form_is_told_once(tmp_path: Path, form: str) -> None:
    names = [form.format(name) for name in "abc"]
    dataset = opened(photos(tmp_path, names))
    assert [record.mask.name for record in dataset.records] == names
    told = [note for note in dataset.notes if "are called" in note]
    if Path(form).stem == "{}":
        assert not told
    else:
        called = Path(form).stem.format("NAME")
        assert told == [f"3 masks are called {called}, such as {tmp_path}/masks/{names[0]} of {tmp_path}/photos/a.jpg."]


def test_an_image_with_two_masks_is_refused_unless_they_are_copies(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png", "c.png", "a_mask.png"])
    assert len(opened(root)) == 3  # a.png and a_mask.png are the same file
    write_grey(root / "masks/a_mask.png", drawn(255).T.copy())
    with pytest.raises(ViceError, match=r"must have one mask, but .*a\.jpg has .*a\.png and .*a_mask\.png\."):
        opened(root)


def test_a_mask_of_two_images_is_refused(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a_mask.png", "b.png", "c.png"])
    write_image(root / "photos/a_mask.jpg", 7)
    with pytest.raises(ViceError, match=r"A mask must have one image, but .*a_mask.png fits .*a_mask.jpg and .*a.jpg"):
        opened(root)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png", "c.png"])
    write_image(root / "photos/a.png", 7)
    with pytest.raises(ViceError, match="A mask must have one image"):
        opened(root)


def test_images_without_a_mask_are_left_out_and_named(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png"])
    dataset = opened(root)
    assert [record.image_id for record in dataset.records] == ["a"]
    assert "2 images without a mask are left out: b, c." in dataset.notes


def test_masks_without_an_image_are_named(tmp_path: Path) -> None:
    dataset = opened(photos(tmp_path, ["a.png", "b.png", "c.png", "x.png"]))
    assert f"1 mask without an image is not read: {tmp_path}/masks/x.png." in dataset.notes


def test_names_that_do_not_fit_are_refused_with_examples_of_both(tmp_path: Path) -> None:
    for masks in (["a.png", "b.png", "cc.png"], ["aa.png", "bb.png", "cc.png"]):
        root = photos(tmp_path / str(len(masks[0])), masks)
        with pytest.raises(
            ViceError, match=r"Every image must have a mask, but .*c\.jpg.* ha(s|ve) no image .*cc\.png"
        ):
            opened(root)
    for name in ("a", "b", "c"):  # the way out works
        for old in (root / "masks").glob(f"{name}{name}.png"):
            old.rename(root / "masks" / f"{name}_label.png")
    assert len(opened(root)) == 3


def test_an_empty_folder_of_masks_is_told(tmp_path: Path) -> None:
    root = photos(tmp_path, [])
    (root / "masks").mkdir()
    with pytest.raises(ViceError, match=re.escape(f"{root}/masks holds no mask for any of them")):
        opened(root)


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "all" / f"{name}.png", seed)
        write_grey(tmp_path / "all" / f"{name}_mask.png", drawn())
    dataset = open_images(tmp_path / "all", tmp_path / "all")
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert [record.mask.name for record in dataset.records] == ["a_mask.png", "b_mask.png"]


def test_trees_of_folders_are_paired_by_the_path(tmp_path: Path) -> None:
    for seed, name in enumerate(("x/0", "x/1", "y/0")):
        write_image(tmp_path / "photos" / f"{name}.jpg", seed)
        write_grey(tmp_path / "masks" / f"{name}_gt.png", drawn())
    dataset = open_images(tmp_path / "photos", tmp_path / "masks", classes=["polyp"])  # no sub-folder is called so
    assert [record.image_id for record in dataset.records] == ["x/0", "x/1", "y/0"]
    assert dataset.classes == ("polyp",)
    assert "Images are in sub-folders, which are no classes: classes are those of the masks." in dataset.notes


def test_masks_inside_the_folder_of_images(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png", "c.png"])
    (root / "masks").rename(root / "photos" / "masks")
    (root / "photos/._a.jpg").write_bytes(b"left by macOS")
    assert len(open_images(root / "photos", root / "photos" / "masks")) == 3
