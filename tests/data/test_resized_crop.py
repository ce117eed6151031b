"""Random boxes, against torchvision's, and what becomes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from torchvice.data import open_images
from torchvice.data.images import read_image
from torchvice.data.resized_crop import random_box, resized_box
from torchvice.data.transforms import LabelledImages, TrainTransform, ValidationTransform, normalise
from torchvice.data.warping import warp
from torchvice.errors import ViceError

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (10, 200), (200, 10), (1, 1)])
def test_the_boxes_are_those_of_torchvision(size: tuple[int, int]) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        left, top, right, bottom = random_box(size, (0.35, 1.0), (3 / 4, 4 / 3))
        torch.manual_seed(seed)
        expected = RandomResizedCrop.get_params(torch.zeros(3, *size), [0.35, 1.0], [3 / 4, 4 / 3])
        assert (top, left, bottom - top, right - left) == expected


def test_a_box_is_resized_alone() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:15, 10:20] = 200
    assert (resized_box(image, (10, 5, 20, 15), 4, "bicubic") == 200).all()
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resized_box(image, (0, 0, 30, 20), 8, "bicubic"), warp(image, 8, "bicubic"))


def test_training_shows_boxes_and_validation_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    whole = normalise(warp(image, 16, "bicubic"), **HALF)
    look = ValidationTransform(16, view="resized_crop", interpolation="bicubic", **HALF)
    assert torch.equal(look(image), whole)
    augment = TrainTransform(16, view="resized_crop", area=(0.35, 0.6), flip=False, interpolation="bicubic", **HALF)
    torch.manual_seed(0)
    shown = augment(image)
    torch.manual_seed(0)
    box = random_box((40, 60), (0.35, 0.6), (3 / 4, 4 / 3))
    assert 0.3 < (box[2] - box[0]) * (box[3] - box[1]) / 2400 < 0.65
    assert torch.equal(shown, normalise(resized_box(image, box, 16, "bicubic"), **HALF))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resize": (32, 64)}, "`resize` must be None in the view `resized_crop`"),
        ({"area": (0.0, 1.0)}, "`area` must be"),
        ({"area": (0.5, 1.1)}, "`area` must be"),
        ({"ratio": (2.0, 1.0)}, "`ratio` "),
        ({"interpolation": "cubic"}, "`interpolation` must be one of"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ViceError, match=said.replace("(", r"\(")):
        TrainTransform(16, view="resized_crop", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "decoded"), [((60, 48), (60, 48)), ((640, 480), (160, 120))])
def test_a_large_jpeg_is_decoded_no_larger_than_a_box_needs_it(
    size: tuple[int, int], decoded: tuple[int, int], tmp_path: Path
) -> None:
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(*size, 1)
    Image.fromarray(np.repeat(ramp, 3, 2).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones(size, np.uint8)).save(tmp_path / "masks" / "a.png")
    data: Any = open_images(tmp_path, tmp_path / "masks", classes=["thing"])
    seen: list[tuple[int, ...]] = []
    reads = data.reduced_image
    data.reduced_image = lambda index, least: seen.append((image := reads(index, least)).shape[:2]) or image
    augment = TrainTransform(24, view="resized_crop", area=(0.35, 0.6), flip=False, **HALF)
    torch.manual_seed(4)
    shown, _ = LabelledImages(data, augment)[0]
    torch.manual_seed(4)
    whole = augment(data.image(0))  # of the same box
    assert seen[0][0] <= size[0]
    assert (seen[0] == size) == (size == decoded)
    assert min(seen[0]) >= 24
    if size == decoded:
        assert torch.equal(shown, whole)  # where nothing is reduced, nothing is lost
    else:
        assert 0 < (shown - whole).abs().mean() < 0.02


def test_validation_and_assessment_read_whole_images(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((640, 480, 3), np.uint8)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (640, 480, 3)
    assert read_image(tmp_path / "a.jpg", lambda size: (150, 100)).shape == (160, 120, 3)
    assert read_image(tmp_path / "a.jpg", lambda size: size).shape == (640, 480, 3)
