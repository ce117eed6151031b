"""TIFF with an orientation: images and masks are read as stored, whatever Pillow makes of it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, photos, write_grey
from PIL import Image, ImageOps

from torchvice.data import check_files, open_images
from torchvice.data.images import is_rotated, read_grey_mask, read_image, read_mask, stored_size
from torchvice.errors import ViceError

ORIENTATION = 0x0112
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def tagged(path: Path, pixels: np.ndarray, orientation: int, compression: str | None = None) -> Path:
    Image.fromarray(pixels).save(path, tiffinfo={ORIENTATION: orientation}, compression=compression)
    return path


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_sizes_are_those_stored(tmp_path: Path, orientation: int, compression: str | None) -> None:
    image = tagged(tmp_path / "a.tif", PIXELS, orientation, compression)
    mask = tagged(tmp_path / "m.tif", drawn(7), orientation, compression)
    np.testing.assert_array_equal(read_image(image), PIXELS)
    np.testing.assert_array_equal(read_mask(mask), drawn(7))
    np.testing.assert_array_equal(read_grey_mask(mask), drawn(7))
    assert stored_size(image) == stored_size(mask) == SIZE
    assert is_rotated(image) == (orientation != 1)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])  # without a turn, so that the sizes are those of Pillow itself
def test_a_pillow_that_does_not_turn_images_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    image = tagged(tmp_path / "a.tif", PIXELS, orientation)
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda *args, **kwargs: None)
    np.testing.assert_array_equal(read_image(image), PIXELS)


def test_the_mask_of_a_turned_image_lies_on_its_pixels(tmp_path: Path) -> None:
    photos(tmp_path, ["a.png", "b.png"])
    tagged(tmp_path / "photos/c.tif", PIXELS, 6)
    (tmp_path / "photos/c.jpg").unlink()
    write_grey(tmp_path / "masks/c.png", drawn())
    dataset = open_images(tmp_path / "photos", tmp_path / "masks")
    (said,) = check_files(dataset)
    assert said.startswith("1 image has an EXIF orientation, which is not applied")
    np.testing.assert_array_equal(dataset.image(2), PIXELS)
    np.testing.assert_array_equal(dataset.mask(2), drawn(1))


def test_a_further_page_without_a_size_is_damage(tmp_path: Path) -> None:
    image = tagged(tmp_path / "a.tif", PIXELS, 1)
    content = bytearray(image.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, len(content))  # where the next page begins
    image.write_bytes(content + bytes(6))  # a page of no entries
    with pytest.raises(ViceError, match=r"The image .*a\.tif is damaged or truncated: Missing dimensions\."):
        read_image(image)
