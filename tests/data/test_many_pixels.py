"""Images with more pixels than Pillow opens are not called damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bare_files import drawn, write_grey, write_image
from PIL import Image

from torchvice.data import FolderDataset, check_files, open_images, survey
from torchvice.data.images import read_image, read_mask, stored_size
from torchvice.data.open import image_layout, open_any_images
from torchvice.errors import ViceError
from ways_out import tried

WIDE = (10, 60)
WAY_OUT = "Cut the image and its mask into tiles, or reduce both to the same size."


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow opens 200 pixels, and warns from 100."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


def pair(root: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    return write_image(root / "photos/a.png", size=size), write_grey(root / "masks/a.png", drawn(255, size))


def test_the_message_says_how_many(tmp_path: Path) -> None:
    image, mask = pair(tmp_path, WIDE)
    for read in (read_image, stored_size):
        with pytest.raises(ViceError) as told:
            read(image)
        assert told.value.message == f"The image {image} must have at most 200 pixels, but has more."
        assert told.value.way_out == WAY_OUT
    with pytest.raises(ViceError, match=rf"The mask {mask} must have at most 200 pixels, but has more\."):
        read_mask(mask)


def opened(root: Path) -> FolderDataset:
    dataset = open_images(root / "photos", root / "masks", classes=["cat"])
    check_files(dataset)
    return dataset


def test_the_check_says_so(tmp_path: Path) -> None:
    write_image(tmp_path / "photos/b.png")
    write_grey(tmp_path / "masks/b.png", drawn())
    image, mask = pair(tmp_path, (8, 12))
    dataset = open_images(tmp_path / "photos", tmp_path / "masks")
    pair(tmp_path, WIDE)
    with pytest.raises(ViceError) as told:
        check_files(dataset)
    assert f"1 of the 2 images of photos are not: {image} (more than 200 pixels)." in told.value.message
    (found,) = survey(image_layout(tmp_path / "photos", tmp_path / "masks"))
    assert {problem.way_out for problem in found.broken} == {WAY_OUT}
    assert mask.is_file()


def test_an_image_is_reduced_with_its_mask(tmp_path: Path) -> None:
    def right() -> FolderDataset:
        for path in pair(tmp_path, WIDE):
            path.unlink()
        pair(tmp_path, (5, 20))
        return opened(tmp_path)

    def wrong() -> np.ndarray:
        return read_image(pair(tmp_path, WIDE)[0])

    assert tried(wrong, WAY_OUT, right).image(0).shape == (5, 20, 3)


def test_images_without_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "photos/a.png", size=WIDE)

    def cut() -> tuple[str, ...]:
        for place in range(2):
            write_image(tmp_path / f"photos/a{place}.png", size=(5, 20))
        (tmp_path / "photos/a.png").unlink()
        return check_files(open_any_images(tmp_path / "photos"))

    says = "cut too large ones into tiles, or remove them."
    assert tried(lambda: check_files(open_any_images(tmp_path / "photos")), says, cut) == ()
