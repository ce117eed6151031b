"""The messages that docs/your-data.md quotes are those of a dataset with that mistake, word for word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bare_files import drawn, write_grey, write_image
from PIL import Image

from torchvice.data import open_dataset, open_images
from torchvice.data.images import voc_palette
from torchvice.errors import ViceError

PAGE = Path(__file__).parents[2] / "docs" / "your-data.md"
ROOT = Path("shapes")
SIZE = (40, 60)


def mask(value: int, shape: tuple[int, ...] = SIZE, path: str = "SegmentationClass/b.png") -> None:
    content = np.zeros(shape, np.uint8)
    content[3:20, 3:20] = value
    Image.fromarray(content).save(ROOT / path)


def write(name: str, text: str) -> None:
    (ROOT / name).write_text(text, encoding="utf-8")


def labels(length: int) -> None:
    content = {name: np.ones(length) for name in "ab"}
    np.save(ROOT / "cls_labels.npy", np.array(content, dtype=object), allow_pickle=True)


def one_class_of_255() -> None:
    write("classes.txt", "disc\n")
    labels(1)
    for name in "ab":
        mask(255, path=f"SegmentationClass/{name}.png")


def damaged() -> None:
    image = ROOT / "JPEGImages" / "b.jpg"
    image.write_bytes(image.read_bytes()[:300])


def other_folder() -> None:
    (ROOT / "SegmentationClass").rename(ROOT / "drawn")
    write("dataset.yaml", "names: {disc: 1, square: 2}\nmasks: drawn\n")
    mask(77, path="drawn/b.png")


def arrays() -> None:
    for name in "ab":
        Path(f"masks/{name}.png").unlink()
        np.save(f"masks/{name}.npy", drawn())


def coloured_gif() -> None:
    for value, name in enumerate("ab", 1):
        Path(f"masks/{name}.png").unlink()
        picture = Image.fromarray(drawn(value))
        picture.putpalette(voc_palette())
        picture.save(f"masks/{name}.gif")


def grey_palette() -> None:
    content = Image.fromarray(np.eye(*SIZE, dtype=np.uint8))
    content.putpalette([255, 255, 255, 0, 0, 0])
    content.save(ROOT / "SegmentationClass" / "b.png")


# Mistakes in photos/ and masks/, which `bare` writes first.
BARE: dict[str, Callable[[], object]] = {
    "an image with two masks": lambda: write_grey(Path("masks/a_mask.png"), drawn(254)),
    "a mask of two images": lambda: (
        Path("masks/a.png").rename("masks/a_mask.png"),
        write_image(Path("photos/a_mask.jpg")),
    ),
    "names that do not fit": lambda: Path("masks/b.png").rename("masks/bb.png"),
    "two classes for 0 and 255": lambda: None,
    "a GIF in colours": coloured_gif,
    "masks in another format": arrays,
    "an image in the place of its folder": lambda: None,
    "labels without names": lambda: [write_grey(Path(f"masks/{n}.png"), drawn(v)) for n, v in (("a", 1), ("b", 2))],
    "images without labels": lambda: None,
}
MISTAKES: dict[str, Callable[[], object]] = {
    "an unknown key": lambda: write("dataset.yaml", "names: {a: 1, b: 2}\nvoids: 3\n"),
    "one value for two classes": lambda: write("dataset.yaml", "names: {a: 1, b: 1}\n"),
    "a folder that does not exist": lambda: write("dataset.yaml", "names: {a: 1, b: 2}\nimages: nowhere\n"),
    "a value that the file does not name": other_folder,
    "an unknown list": lambda: None,
    "an image is missing": lambda: (ROOT / "JPEGImages" / "b.jpg").unlink(),
    "an image is damaged": damaged,
    "a mask that the list names is missing": lambda: write(
        "val.txt", "/JPEGImages/a.jpg /SegmentationClass/a.png\n/JPEGImages/b.jpg /Corrected/b.png\n"
    ),
    "masks of 0 and 255": one_class_of_255,
    "a name is in the list twice": lambda: write("val.txt", "a\nb\na\n"),
    "an RGB mask": lambda: mask(1, (*SIZE, 3)),
    "a grey palette": grey_palette,
    "a mask of the wrong size": lambda: mask(1, SIZE[::-1]),
    "a mask value without a class": lambda: mask(3),
    "labels of the wrong length": lambda: labels(20),
    "background as a class": lambda: write("classes.txt", "background\ndisc\n"),
}


def quoted() -> dict[str, str]:
    """{mistake: message} of the tables of the page."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {mistake: message for mistake, message in rows if mistake not in ("mistake", "---")}


def test_every_message_is_here() -> None:
    assert sorted(quoted()) == sorted([*MISTAKES, *BARE])


@pytest.mark.parametrize("mistake", BARE)
def test_a_mistake_in_a_folder_without_lists(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_image(Path(f"photos/{name}.jpg"))
        write_grey(Path(f"masks/{name}.png"), drawn())
    BARE[mistake]()
    classes = ["cat", "dog"] if mistake in ("two classes for 0 and 255", "a GIF in colours") else None
    images = "photos/a.jpg" if mistake == "an image in the place of its folder" else "photos"
    with pytest.raises(ViceError) as error:
        open_images(images, None if mistake == "images without labels" else "masks", classes=classes)
    assert " ".join(str(error.value).split()) == quoted()[mistake]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_with_the_message_of_the_page(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("JPEGImages", "SegmentationClass"):
        (ROOT / folder).mkdir(parents=True)
    write("classes.txt", "disc\nsquare\n")
    write("val.txt", "a\nb\n")
    for place, name in enumerate("ab", 1):
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(ROOT / "JPEGImages" / f"{name}.jpg")
        mask(place, path=f"SegmentationClass/{name}.png")
    MISTAKES[mistake]()
    with pytest.raises(ViceError) as error:  # noqa: PT012
        dataset = open_dataset(ROOT, "vall" if mistake == "an unknown list" else "val")
        for row in range(len(dataset.records)):
            dataset.image(row)
            dataset.mask(row)
    assert " ".join(str(error.value).split()) == quoted()[mistake]
