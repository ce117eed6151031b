"""Images and masks as files: what is read, and what is refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchvice.data.images import FORMATS, check_mask, read_colours, read_image, read_mask, stored_size
from torchvice.errors import ViceError

LABELS = np.array([[0, 1, 2], [20, 254, 255]], dtype=np.uint8)


def test_a_palette_mask_gives_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(LABELS)
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == "P"
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_bits_gives_its_indices_too(tmp_path: Path, bits: int) -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3) % 2**bits
    picture = Image.fromarray(labels)
    picture.putpalette(bytes(range(3 * 2**bits)))
    picture.save(tmp_path / "mask.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), labels)


def test_a_grey_mask_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), LABELS)


def test_grey_with_16_bits_gives_int32(tmp_path: Path) -> None:
    labels = np.array([[0, 300, 65535]], dtype=np.uint16)
    Image.fromarray(labels).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.int32
    assert mask.tolist() == [[0, 300, 65535]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_of_colours_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (3, 2)).save(tmp_path / "mask.png")
    with pytest.raises(
        ViceError, match=rf"mask\.png must be a palette PNG or a grey one of 8 or 16 bits, but is {mode}"
    ):
        read_mask(tmp_path / "mask.png")


def _grey_png(bits: int, row: bytes, width: int) -> bytes:
    """A grey PNG of one row with `bits` a pixel, which Pillow itself does not write for 2 and 4."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(("bits", "row"), [(1, b"\x50"), (2, b"\x1b"), (4, b"\x01\x23")])
def test_grey_of_few_bits_is_refused_because_decoders_stretch_it(tmp_path: Path, bits: int, row: bytes) -> None:
    (tmp_path / "mask.png").write_bytes(_grey_png(bits, row, 4))
    with pytest.raises(ViceError, match=rf"but is {bits} bits? of grey"):
        read_mask(tmp_path / "mask.png")


def test_an_image_is_rgb_whatever_it_was(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (7, 5)).save(path)
        image = read_image(path)
        assert image.shape == (5, 7, 3)
        assert image.dtype == np.uint8
        assert stored_size(path) == (5, 7)


def test_an_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ViceError, match=r"deep\.png must have 8 bits per channel"):
        read_image(tmp_path / "deep.png")


def test_exif_orientation_is_left_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees"
    Image.new("RGB", (7, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (5, 7, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ViceError, match=rf"cut\.{suffix} is damaged or truncated") as caught:
        read_image(path)
    assert "download it again" in caught.value.way_out


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.jpg").write_bytes(content)
    for read in (read_image, read_mask):
        with pytest.raises(ViceError, match=r"text\.jpg must be an image"):
            read(tmp_path / "text.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"gone\.png does not exist"):
        read_mask(tmp_path / "gone.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_check_mask_gives_the_labels_without_background_and_void(dtype: type) -> None:
    mask = np.array([[0, 3, 255], [1, 3, 0]], dtype=dtype)
    assert check_mask(mask, 3, "m.png").tolist() == [1, 3]
    assert check_mask(mask * 0, 3, "m.png").tolist() == []
    with pytest.raises(ViceError, match=r"m\.png must hold 0 to 2 and 255, but holds 3\."):
        check_mask(mask, 2, "m.png")


def test_check_mask_refuses_the_value_beside_void() -> None:
    with pytest.raises(ViceError, match="but holds 254"):
        check_mask(np.array([[254, 255]], dtype=np.uint8), 20, "m.png")


def test_no_file_that_is_read_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "started"
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {trace}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    file = tmp_path / "x.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (read_image, read_mask, read_colours, stored_size):
        with pytest.raises(ViceError, match=r"x\.jpg must be an image \(JPEG, PNG, "):
            read(file)
    assert not trace.exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_named_is_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (3, 2), (250, 10, 10)).save(
        tmp_path / "x.jpg", kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert read_image(tmp_path / "x.jpg").shape == (2, 3, 3)
    assert read_image(tmp_path / "x.jpg")[0, 0, 0] > 200
    assert stored_size(tmp_path / "x.jpg") == (2, 3)
