"""Masks are found by the names of their images; whatever fits two is refused, and what fits none is counted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bare_files import drawn, photos, write_grey, write_image
from PIL import Image

from torchvice.data import open_dataset, open_images
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


def in_another_format(root: Path, suffix: str, names: str = "abc") -> None:
    (root / "masks").mkdir(exist_ok=True)
    for name in names:
        path = root / "masks" / f"{name}{suffix}"
        writers = {".npy": lambda p: np.save(p, drawn()[None]), ".npz": lambda p: np.savez(p, mask=drawn())}
        writers.get(suffix, lambda p: p.write_bytes(b"{}"))(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_masks_in_files_of_arrays_are_refused_with_a_way_out_that_works(tmp_path: Path, suffix: str) -> None:
    root = photos(tmp_path, [])
    in_another_format(root, suffix)
    with pytest.raises(
        ViceError, match=rf"images have none that is read: .*a\{suffix}, .* have other suffixes"
    ) as told:
        opened(root)
    assert told.value.way_out.startswith("Masks are read from .png, .bmp, .tif, .tiff and .gif files. Save each as PNG")
    code = told.value.way_out.partition("Save each as PNG: ")[2].rstrip(".")
    for name in "abc":
        exec(code.replace(f"a{suffix}", f"{name}{suffix}").replace("a.png", f"{name}.png"), {"Image": Image, "np": np})
    assert np.array_equal(opened(root).mask(2), drawn(1))


@pytest.mark.parametrize("suffix", [".mat", ".json", ".txt", ".nii.gz", "_mask.npy"])
def test_the_suffix_that_is_not_read_is_named(tmp_path: Path, suffix: str) -> None:
    root = photos(tmp_path, [])
    in_another_format(root, suffix)
    with pytest.raises(ViceError, match=f"3 of the 3 images have none that is read: .*a{suffix}") as told:
        opened(root)
    assert "Name a mask like its image" not in told.value.way_out
    assert ("--coco FILE" in told.value.way_out) == (suffix == ".json")
    root = photos(tmp_path / "together", [])  # one folder for both
    in_another_format(root, suffix)
    for file in (root / "masks").iterdir():
        file.rename(root / "photos" / file.name)
    with pytest.raises(ViceError, match="images have none that is read"):
        open_images(root / "photos", root / "photos")


def test_a_mask_of_another_format_among_others_is_named(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png"])
    assert not [note for note in opened(root).notes if "called like" in note]
    in_another_format(root, ".npy", "c")
    in_another_format(root, ".txt", "a")  # of an image that has a mask
    notes = opened(root).notes
    assert any(note.startswith(f"1 file called like a mask is not read: {root}/masks/c.npy. Masks") for note in notes)


def test_images_of_another_format_are_named(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png", "c.png"])
    for image in (root / "photos").iterdir():
        image.rename(image.with_suffix(".heic"))
    with pytest.raises(ViceError, match=r"but .*photos holds other files: 3 \.heic") as told:
        opened(root)
    assert "Save the images in one of these formats" in told.value.way_out


def test_an_image_of_another_format_among_others_is_named(tmp_path: Path) -> None:
    root = photos(tmp_path, ["a.png", "b.png", "c.png"])
    (root / "photos/d.heic").write_bytes(b"heic")
    (root / "photos/notes.txt").write_text("by hand")
    read = ".jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp"
    said = f"1 image is left out for the format: {root}/photos/d.heic. Read are {read}."
    assert said in opened(root).notes
    (root / "photos/cat").mkdir()
    (root / "photos/d.heic").rename(root / "photos/cat/d.heic")
    for file in (root / "photos").glob("*.jpg"):
        file.rename(root / "photos/cat" / file.name)
    assert said.replace("photos/", "photos/cat/") in open_images(root / "photos").notes


def test_masks_of_another_format_in_vocs_layout_are_named(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg", seed)
    write_grey(tmp_path / "SegmentationClass/a.png", drawn(1))
    np.save(tmp_path / "SegmentationClass/b.npy", drawn(1))
    (tmp_path / "val.txt").write_text("a\nb\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(ViceError, match=r"1 missing \(not read, as masks must be \.png: .*SegmentationClass/b\.npy\)"):
        open_dataset(tmp_path)
    np.save(tmp_path / "cls_labels.npy", np.array({"a": [1], "b": [1]}, dtype=object), allow_pickle=True)
    assert "SegmentationClass/b.npy" in open_dataset(tmp_path).mask_source
