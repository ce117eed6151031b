"""Masks of one object whose values mean something else than 0 and 255: trimaps, white of 16 bits, grey edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, sorted_photos, write_grey, write_image
from PIL import Image, ImageFilter

from torchvice.data import open_images
from torchvice.data.items import from_items
from torchvice.data.named_values import TRIMAP, named_values, suggestion
from torchvice.errors import ViceError

ALL = ["a.png", "b.png", "c.png"]


def opened(root: Path, **options):
    return open_images(root / "photos", root / "masks", **options)


def option(error: ViceError) -> str:
    """The value of --mask-values that a way out names."""
    return error.way_out.partition("--mask-values ")[2].split()[0].rstrip(".")


def trimap() -> np.ndarray:
    """(H, W): 1 the object, 3 its border, 2 the background."""
    mask = np.full(SIZE, 2, np.uint8)
    mask[1:6, 2:8] = 3
    mask[2:5, 3:7] = 1
    return mask


def of_trimap(label: int) -> np.ndarray:
    return np.array([0, label, 0, 255], np.uint8)[trimap()]


def ramp(size: int, most: int = 255) -> np.ndarray:
    """(size, size): an edge from 0 to `most` that holds every value in between."""
    line = np.clip(np.arange(size) * 3.0 - 40, 0, most)
    return np.clip(line[None] + np.arange(size)[:, None] % 3, 0, most).astype(np.uint8)


def of_size(root: Path, size: int) -> None:
    for name in "abc":
        write_image(root / "photos" / f"{name}.jpg", size=(size, size))


@pytest.mark.parametrize("most", [255, 100])
@pytest.mark.parametrize("classes", [None, ["cat"]])
def test_soft_edges_of_every_value_are_refused_with_a_way_out_that_works(tmp_path: Path, most: int, classes) -> None:
    root, mask = photos(tmp_path, []), ramp(120, most)
    assert len(np.unique(mask)) == most + 1
    of_size(root, 120)
    for name in ALL:
        write_grey(root / "masks" / name, mask)
    with pytest.raises(ViceError) as told:
        opened(root, classes=classes)
    if most == 100 and classes is None:  # these may be classes: their names come first, and the option is not known
        assert told.value.way_out.startswith("Name the classes in the order of their values")
        return
    assert option(told.value) == f"background=0-{most // 2},object={most // 2 + 1}-255"
    assert np.array_equal(opened(root, classes=classes, mask_values=option(told.value)).mask(0), mask > most // 2)
    items = [(image, mask) for image in np.zeros((3, 120, 120, 3), np.uint8)]
    with pytest.raises(ViceError) as told:
        from_items(items, classes=classes)
    assert option(told.value).rstrip(".") == f"background=0-{most // 2},object={most // 2 + 1}-255"


def test_classes_in_order_with_void_are_no_soft_edges(tmp_path: Path) -> None:
    root = photos(tmp_path, [])
    of_size(root, 33)
    for value, name in enumerate(ALL):
        write_grey(root / "masks" / name, np.array([[0, 1 + value, 255, *range(2, 32)]], np.uint8).repeat(8, 0))
    with pytest.raises(ViceError) as told:
        opened(root)
    assert told.value.way_out.startswith("Name the classes in the order of their values")
    assert "--mask-values" not in told.value.way_out


def test_trimaps_of_class_folders_are_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    for name in ("cat/0", "cat/1", "dog/0"):
        write_grey(root / "masks" / f"{name}.png", trimap())
    with pytest.raises(ViceError, match="hold 1, 2, 3 and no 0: they look like trimaps") as told:
        opened(root)
    dataset = opened(root, mask_values=option(told.value))
    assert np.array_equal(dataset.mask(0), of_trimap(1))
    assert np.array_equal(dataset.mask(2), of_trimap(2))
    assert dataset.notes[-1] == (
        "In masks, 1 is the class of the folder, 2 is background, 3 is void, as --mask-values says."
    )
    assert dataset.chosen["mask_values"] == TRIMAP


@pytest.mark.parametrize("classes", [None, ["cat"]])
def test_trimaps_of_one_folder_are_refused_with_a_way_out_that_works(tmp_path: Path, classes) -> None:
    root = photos(tmp_path, [])
    for name in ALL:
        write_grey(root / "masks" / name, trimap())
    with pytest.raises(ViceError) as told:
        opened(root, classes=classes)
    assert option(told.value) == TRIMAP
    dataset = opened(root, classes=classes, mask_values=TRIMAP)
    assert np.array_equal(dataset.mask(1), of_trimap(1))
    assert dataset.targets.tolist() == [[1]] * 3
    labels = opened(root, classes=["a", "b", "c"])  # they may be labels
    assert any("No mask holds 0: no pixel is background." in note for note in labels.notes)


def test_white_of_16_bits_is_the_object(tmp_path: Path) -> None:
    root = photos(tmp_path, [])
    for name in ALL:
        write_grey(root / "masks" / name, drawn(255).astype(np.uint16) * 257)
    for classes in (None, ["polyp"]):
        dataset = opened(root, classes=classes)
        assert np.array_equal(dataset.mask(0), drawn(1))
        assert any("Masks hold only 0 and 65535: 65535 is the class" in note for note in dataset.notes)
    with pytest.raises(ViceError, match="hold only 0 and 65535, which is one class, but 2 are given"):
        opened(root, classes=["a", "b"])


@pytest.mark.parametrize("classes", [None, ["polyp"]])
def test_two_other_values_have_a_way_out(tmp_path: Path, classes) -> None:
    root = photos(tmp_path, ALL, 7)
    with pytest.raises(ViceError) as told:
        opened(root, classes=classes)
    assert option(told.value) == "object=7"
    assert np.array_equal(opened(root, classes=classes, mask_values="object=7").mask(0), drawn(1))


def soft() -> np.ndarray:
    """(H, W) uint8: a square of 255 whose edges are grey, and which is the same again when cut at 127."""
    return np.asarray(Image.fromarray(drawn(255)).filter(ImageFilter.GaussianBlur(0.5)))


@pytest.mark.parametrize("classes", [None, ["polyp"]])
def test_grey_edges_have_a_threshold(tmp_path: Path, classes) -> None:
    root = photos(tmp_path, [])
    assert len(np.unique(soft())) > 4
    for name in ALL:
        write_grey(root / "masks" / name, soft())
    with pytest.raises(ViceError) as told:
        opened(root, classes=classes)
    assert option(told.value) == "background=0-127,object=128-255"
    dataset = opened(root, classes=classes, mask_values=option(told.value))
    assert np.array_equal(dataset.mask(0), (soft() > 127).astype(np.uint8))


def test_grey_edges_in_class_folders_have_a_threshold(tmp_path: Path) -> None:
    root = sorted_photos(tmp_path)
    for name in ("cat/0", "cat/1", "dog/0"):
        write_grey(root / "masks" / f"{name}.png", soft())
    with pytest.raises(ViceError, match=r"must hold 0, 1, 2, 255, but 3 of 3 hold other values, such as") as told:
        opened(root)
    dataset = opened(root, mask_values=option(told.value))
    assert np.array_equal(dataset.mask(2), np.where(soft() > 127, 2, 0))


def test_items_take_the_option_too() -> None:
    items = [(np.full((*SIZE, 3), n, np.uint8), trimap()) for n in range(3)]
    with pytest.raises(ViceError) as told:
        from_items(items)
    assert f"mask_values='{TRIMAP}'" in told.value.way_out
    dataset = from_items(items, ["pet"], mask_values=TRIMAP)
    assert (dataset.classes, dataset.targets.tolist()) == (("pet",), [[1]] * 3)
    assert np.array_equal(dataset.mask(0), of_trimap(1))


def test_values_without_a_meaning_are_refused(tmp_path: Path) -> None:
    root = photos(tmp_path, ALL, 7)
    write_grey(root / "masks/b.png", drawn(9))
    with pytest.raises(ViceError, match=r"b\.png must hold values that --mask-values object=7 names, but holds 9"):
        opened(root, mask_values="object=7")
    with pytest.raises(ViceError, match="is for masks of one class, but 2 are given"):
        opened(root, mask_values="object=7", classes=["a", "b"])
    with pytest.raises(ViceError, match="goes with --masks, which is not given"):
        open_images(root / "photos", mask_values="object=7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "must be object, background or void with a value or a range, but has '1'"),
        ("cat=1", "but has 'cat=1'"),
        ("object=9-3", "but has 'object=9-3'"),
        ("object=70000", "but has 'object=70000'"),
        ("background=3", "must name the value of the object"),
        ("object=1-9,void=9", "must give 9 one meaning, but has object and void"),
        ("", "but has ''"),
    ],
)
def test_other_forms_are_refused(text: str, message: str) -> None:
    with pytest.raises(ViceError) as told:
        named_values(text)
    assert message in told.value.message


def test_every_suggestion_can_be_read() -> None:
    for found in ({1, 2, 3}, {0, 7}, {3, 9}, {0, 4, 200, 255}, {0, 300, 65535}, {5}):
        assert named_values(suggestion(found).removeprefix("--mask-values ")).ranges
