"""Masks with a palette: indices are labels, unless a program chose their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_files import drawn, write_image
from PIL import Image

from torchvice.data import FolderDataset, from_items, open_dataset, open_images, read_mask
from torchvice.data.images import read_grey_mask, voc_palette
from torchvice.data.pixels import mask_pixels
from torchvice.errors import ViceError
from ways_out import tried

WHITE_FIRST, BLACK_FIRST = [255, 255, 255, 0, 0, 0], [0, 0, 0, 255, 255, 255]


def palette(indices: np.ndarray, colours: list[int] | bytes) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(colours)
    return picture


def white_first(mask: np.ndarray) -> Image.Image:
    """A mask of 0 and 255 as Pillow quantizes it."""
    picture = Image.fromarray(mask).quantize(2)
    assert (picture.getpalette() or [])[:3] == [255, 255, 255]
    return picture


def folder(
    root: Path, masks: list[Image.Image], suffix: str = "png", classes: list[str] | None = None, **how: str
) -> FolderDataset:
    for place, mask in enumerate(masks):
        write_image(root / "photos" / f"{place}.png", place)
        (root / "masks").mkdir(exist_ok=True)
        mask.save(root / "masks" / f"{place}.{suffix}")
    return open_images(root / "photos", root / "masks", classes=classes, **how)


def labels_of(dataset: FolderDataset) -> list[np.ndarray]:
    return [np.asarray(dataset.mask(index)) for index in range(len(dataset.records))]


# ---- GIF


@pytest.mark.parametrize("values", [(0, 2), (0, 255), (255,), (0, 1, 255)])
def test_a_gif_in_grey_has_the_values_that_were_saved(tmp_path: Path, values: tuple[int, ...]) -> None:
    mask = np.resize(np.array(values, np.uint8), (8, 12))
    Image.fromarray(mask).save(tmp_path / "m.gif")
    for read in (read_mask, read_grey_mask, lambda path: mask_pixels(Image.open(path), "The mask")):
        np.testing.assert_array_equal(read(tmp_path / "m.gif"), mask)


def test_a_gif_in_colours_is_written_again_as_png(tmp_path: Path) -> None:
    mask = palette(drawn(2), voc_palette())
    mask.save(tmp_path / "m.gif")
    assert np.unique(np.array(Image.open(tmp_path / "m.gif"))).tolist() == [0, 1]  # renumbered

    def right() -> np.ndarray:
        mask.save(tmp_path / "m.png")
        return read_mask(tmp_path / "m.png")

    for read in (read_mask, read_grey_mask, lambda path: mask_pixels(Image.open(path), "The mask of `a`")):
        says = "Write the labels themselves as PNG. A PNG that is made of the GIF has its wrong numbers."
        np.testing.assert_array_equal(tried(lambda read=read: read(tmp_path / "m.gif"), says, right), drawn(2))
    with pytest.raises(ViceError) as told:
        read_mask(tmp_path / "m.gif")
    assert told.value.message == (
        f"The mask {tmp_path / 'm.gif'} must be a PNG or a grey GIF, but is a GIF in colours, whose palette programs "
        "renumber."
    )


def test_gifs_of_labels_keep_their_classes(tmp_path: Path) -> None:
    masks = [Image.fromarray(drawn(value)) for value in (1, 2)]
    dataset = folder(tmp_path, masks, "gif", ["cat", "dog"])
    assert dataset.targets.tolist() == [[1, 0], [0, 1]]


def test_gifs_of_one_object(tmp_path: Path) -> None:
    masks = [drawn(), drawn() * 0 + 255, drawn() * 0]
    dataset = folder(tmp_path, [Image.fromarray(mask) for mask in masks], "gif")
    for found, mask in zip(labels_of(dataset), masks, strict=True):
        np.testing.assert_array_equal(found, mask // 255)


# ---- black and white


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_palette_that_begins_with_white_is_read_as_black_and_white(tmp_path: Path, suffix: str) -> None:
    masks = [drawn(), 255 - drawn(), drawn() * 0 + 255]
    dataset = folder(tmp_path, [white_first(mask) for mask in masks], suffix)
    for found, mask in zip(labels_of(dataset), masks, strict=True):
        np.testing.assert_array_equal(found, mask // 255)


def test_greys_without_order_are_read_as_greys() -> None:
    trimap = np.resize(np.array([0, 128, 255], np.uint8), (8, 12))
    quantized = Image.fromarray(trimap).quantize(3)
    assert (quantized.getpalette() or [])[:3] == [255, 255, 255]
    np.testing.assert_array_equal(mask_pixels(quantized, "The mask"), trimap)


@pytest.mark.parametrize("colours", [BLACK_FIRST, voc_palette(), [*WHITE_FIRST, 255, 0, 0], [9, 0, 0, 255, 255, 255]])
def test_other_palettes_have_their_indices(tmp_path: Path, colours: list[int] | bytes) -> None:
    picture = palette(drawn(1), colours)
    picture.save(tmp_path / "m.png")
    for read in (read_mask, read_grey_mask, lambda path: read_grey_mask(path, labels=True)):
        np.testing.assert_array_equal(read(tmp_path / "m.png"), drawn(1))
    np.testing.assert_array_equal(mask_pixels(picture, "The mask"), drawn(1))


def test_all_of_a_palette_that_begins_with_white_is_one_tone(tmp_path: Path) -> None:
    palette(drawn() * 0 + 1, WHITE_FIRST).save(tmp_path / "m.png")
    assert not read_grey_mask(tmp_path / "m.png").any()


# ---- black and white where 255 is void

UNORDERED = "its palette is grey and does not begin with black: which index is the background is not known."
SAVE = "Save the labels themselves in grey of 8 bits: 0 background, c + 1 class c, 255 void."


def test_white_does_not_become_void_among_labels(tmp_path: Path) -> None:
    def given(mask: Image.Image) -> FolderDataset:
        return folder(tmp_path, [Image.fromarray(drawn(2)), mask], classes=["cat", "dog"])

    right = tried(lambda: given(white_first(drawn())), SAVE, lambda: given(Image.fromarray(drawn(1))))
    assert right.targets.tolist() == [[0, 1], [1, 0]]


def test_one_bit_does_not_become_void_among_labels(tmp_path: Path) -> None:
    Image.fromarray(drawn()).convert("1").save(tmp_path / "m.png")
    assert read_grey_mask(tmp_path / "m.png").max() == 255
    with pytest.raises(ViceError, match="must be a palette PNG or a grey one of 8 or 16 bits, but is 1 bit of grey"):
        read_grey_mask(tmp_path / "m.png", labels=True)
    Image.new("1", (12, 8)).save(tmp_path / "m.png")
    assert not read_grey_mask(tmp_path / "m.png", labels=True).any()


def test_the_layout_of_voc_does_not_guess(tmp_path: Path) -> None:
    for place in ("JPEGImages", "SegmentationClass"):
        (tmp_path / place).mkdir()
    write_image(tmp_path / "JPEGImages/a.png")
    (tmp_path / "val.txt").write_text("a\n")
    (tmp_path / "classes.txt").write_text("polyp\n")
    mask = tmp_path / "SegmentationClass/a.png"
    white_first(drawn()).save(mask)
    with pytest.raises(ViceError) as told:
        open_dataset(tmp_path)
    assert told.value.message == f"The mask {mask} must hold labels, but {UNORDERED}"
    Image.fromarray(drawn(1)).save(mask)
    np.testing.assert_array_equal(open_dataset(tmp_path).mask(0), drawn(1))


def test_named_values_that_make_white_void(tmp_path: Path) -> None:
    white = white_first(drawn())
    assert labels_of(folder(tmp_path / "a", [white], mask_values="object=0,background=255"))[0].sum() == (8 * 12) - 12
    with pytest.raises(ViceError, match=UNORDERED):
        labels_of(folder(tmp_path / "b", [white], mask_values="object=1,void=255"))


# ---- Python objects


def items(*masks: Image.Image) -> list[tuple[np.ndarray, Image.Image]]:
    return [(np.random.default_rng(n).integers(0, 256, (8, 12, 3), dtype=np.uint8), m) for n, m in enumerate(masks)]


@pytest.mark.parametrize("as_given", [list, iter])
def test_pictures_whose_palette_begins_with_white(as_given: Callable[[Any], Any]) -> None:
    masks = [drawn(), 255 - drawn()]
    dataset = from_items(as_given(items(*map(white_first, masks))))
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(dataset.mask(index), mask // 255)


@pytest.mark.parametrize("as_given", [list, iter])
@pytest.mark.parametrize("odd", [white_first(drawn()), Image.fromarray(drawn()).convert("1")])
def test_pictures_of_two_tones_are_no_labels(as_given: Callable[[Any], Any], odd: Image.Image) -> None:
    labels = Image.fromarray(drawn(2))
    with pytest.raises(ViceError) as told:
        from_items(as_given(items(labels, odd)), ["cat", "dog"])
    assert told.value.message == (
        "Masks must hold labels, of which 255 is void, but 1 of them, such as that of `1`, has 1 bit a pixel or a grey "
        "palette that does not begin with black."
    )
    assert told.value.way_out == f"{SAVE} If white is the one object of all masks, say so: mask_values='object=255'."
    saved = from_items(as_given(items(labels, Image.fromarray(drawn(1)))), ["cat", "dog"])
    assert saved.targets.tolist() == [[0, 1], [1, 0]]
    one = from_items(as_given(items(odd, odd)), ["cat"], mask_values="object=255")
    np.testing.assert_array_equal(one.mask(1), drawn(1))
