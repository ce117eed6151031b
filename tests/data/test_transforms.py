"""What a network is fed: against the original's preprocessing, and what random means."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from torchvice.data import VocDataset
from torchvice.data.transforms import LabelledImages, TrainTransform, ValidationTransform, center_crop, normalise
from torchvice.data.warping import warp, warp_all
from torchvice.errors import ViceError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}  # normalised values are the pixels
REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "C_preprocess.npz")


def numbered(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 whose pixel (y, x) is (y + 1, x + 1, 9): its place can be read off."""
    image = np.full((height, width, 3), 9, dtype=np.uint8)
    image[..., 0] = np.arange(1, height + 1)[:, None]
    image[..., 1] = np.arange(1, width + 1)
    return image


# ---- against the original implementation


@pytest.mark.parametrize("key", [key for key in REFERENCE.files if key.startswith("centercrop10/")])
def test_center_crop_takes_the_originals_pixels(key: str) -> None:
    height, width = map(int, key.split("/")[1].split("x"))
    source = torch.arange(1, height * width + 1).view(height, width)
    assert center_crop(source, 10).tolist() == REFERENCE[key].tolist()


@pytest.mark.parametrize("image_id", ["2099_000004", "2099_000006"])
def test_the_validation_input_is_the_originals(image_id: str) -> None:
    tensor = ValidationTransform(224)(REFERENCE[f"{image_id}/rgb"])
    np.testing.assert_allclose(tensor.numpy(), REFERENCE[f"{image_id}/crop224"], rtol=0, atol=1e-6)


# ---- normalise, crop, warp


def test_normalise_by_hand() -> None:
    # red: (51 / 255 - 0.485) / 0.229 = (0.2 - 0.485) / 0.229 = -1.244541...
    tensor = normalise(np.full((2, 3, 3), 51, dtype=np.uint8), MEAN, STD)
    assert tensor.shape == (3, 2, 3)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor[:, 0, 0].numpy(), (0.2 - np.array(MEAN)) / np.array(STD), rtol=1e-6)


def test_normalise_leaves_its_input_and_takes_mirrored_and_read_only_views() -> None:
    image = numbered(4, 5)
    image.flags.writeable = False
    mirrored = normalise(image[:, ::-1], **PLAIN)
    np.testing.assert_allclose(mirrored[1, 0].numpy(), [5, 4, 3, 2, 1], rtol=1e-6)
    mirrored.zero_()
    np.testing.assert_array_equal(image, numbered(4, 5))


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (4, 5, 4), (0, 5, 3)])
def test_normalise_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ViceError, match=r"must be \(H, W, 3\) uint8"):
        normalise(np.zeros(shape, dtype=np.uint8), MEAN, STD)


def test_normalise_refuses_other_types_and_a_zero_std() -> None:
    with pytest.raises(ViceError, match="type float64"):
        normalise(np.zeros((2, 2, 3)), MEAN, STD)
    with pytest.raises(ViceError, match="`std` must be above 0"):
        normalise(numbered(2, 2), MEAN, (0.2, 0.0, 0.2))
    with pytest.raises(ViceError, match="`mean` must be three numbers"):
        normalise(numbered(2, 2), (0.5,), STD)


def test_center_crop_keeps_leading_dimensions_and_type() -> None:
    tensor = torch.arange(2 * 3 * 5 * 4, dtype=torch.int16).view(2, 3, 5, 4)
    # Height 5 to 3 begins at round(1) = 1; width 4 to 6 is padded by round(1) = 1 on the left.
    cropped = center_crop(tensor, 3)
    assert cropped.dtype == torch.int16
    assert cropped.shape == (2, 3, 3, 3)
    assert torch.equal(cropped, tensor[..., 1:4, 0:3])
    assert torch.equal(center_crop(tensor, 6)[..., 0:5, 1:5], tensor)
    with pytest.raises(ViceError, match="size of 1 or more"):
        center_crop(tensor, 0)


def test_warp_is_pillows_and_leaves_its_input() -> None:
    image = np.random.default_rng(0).integers(0, 256, (13, 20, 3), dtype=np.uint8)
    kept = image.copy()
    expected = np.array(Image.fromarray(image).resize((9, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(warp(image, (6, 9)), expected)
    np.testing.assert_array_equal(warp(Image.fromarray(image), (6, 9)), expected)
    assert not np.array_equal(warp(image, (6, 9), "bicubic"), expected)
    assert warp(image[:, ::-1], 8).shape == (8, 8, 3)
    np.testing.assert_array_equal(warp(image, (13, 20)), image)
    np.testing.assert_array_equal(image, kept)
    with pytest.raises(ViceError, match="Did you mean `bilinear`"):
        warp(image, 8, "bilinaer")
    with pytest.raises(ViceError, match="at least 1 pixel"):
        warp(image, 0)


# ---- training


def test_a_random_crop_is_a_window_of_the_image() -> None:
    transform = TrainTransform(4, flip=False, **PLAIN)
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        rows, columns, blue = transform(numbered(7, 6)).round().int()
        top, left = int(rows[0, 0]), int(columns[0, 0])
        assert rows[:, 0].tolist() == list(range(top, top + 4))
        assert columns[0].tolist() == list(range(left, left + 4))
        assert (blue == 9).all()
        seen.add((top, left))
    assert seen == {(top, left) for top in range(1, 5) for left in range(1, 4)}


def test_a_small_image_lies_anywhere_in_zeros() -> None:
    transform = TrainTransform(5, flip=False)
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        tensor = transform(np.full((3, 4, 3), 255, dtype=np.uint8))
        inside = (tensor != 0).all(0)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert (len(rows), len(columns), int(inside.sum())) == (3, 4, 12)
        assert (tensor[:, ~inside] == 0).all()
        seen.add((int(rows[0]), int(columns[0])))
    assert seen == {(top, left) for top in range(3) for left in range(2)}


def test_one_side_cut_and_the_other_padded() -> None:
    torch.manual_seed(0)
    rows, _, blue = TrainTransform(5, flip=False, **PLAIN)(numbered(9, 2)).round().int()
    assert int((blue == 9).sum()) == 10
    assert len(set(rows[rows > 0].tolist())) == 5


def test_the_long_side_is_resized_to_any_length_of_the_range() -> None:
    transform = TrainTransform(12, resize=(8, 10), flip=False)
    lengths = set()
    for seed in range(60):
        torch.manual_seed(seed)
        inside = (transform(np.full((20, 40, 3), 255, dtype=np.uint8)) != 0).all(0)
        height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
        assert height == round(width / 2)
        lengths.add(width)
    assert lengths == {8, 9, 10}


def test_half_of_the_images_are_mirrored_when_asked() -> None:
    mirrored = 0
    for seed in range(400):
        torch.manual_seed(seed)
        columns = TrainTransform(6, **PLAIN)(numbered(6, 6))[1, 0].round().int().tolist()
        assert columns in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])
        mirrored += columns[0] == 6
    # Binomial(400, 1/2): four standard deviations are 40.
    assert 160 <= mirrored <= 240
    plain = TrainTransform(6, flip=False, **PLAIN)(numbered(6, 6))
    assert plain[1, 0].round().int().tolist() == [1, 2, 3, 4, 5, 6]


def test_jitter_changes_colours_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(60, 190, (6, 6, 3), dtype=np.uint8)
    kept = image.copy()
    torch.manual_seed(1)
    jittered = TrainTransform(6, flip=False, jitter=(0.3, 0.3, 0.3, 0.1), **PLAIN)(image)
    plain = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
    assert 1 < float((jittered - plain).abs().mean()) < 120
    assert torch.allclose(TrainTransform(6, flip=False, jitter=(0, 0, 0, 0), **PLAIN)(image), plain, atol=1e-3)
    np.testing.assert_array_equal(image, kept)


def test_the_same_seed_gives_the_same_input_and_numpy_has_no_say() -> None:
    transform = TrainTransform(16, resize=(12, 30), jitter=(0.3, 0.3, 0.3, 0.1))
    inputs = []
    for numpy_seed, seed in ((1, 5), (2, 5), (1, 6)):
        np.random.seed(numpy_seed)  # noqa: NPY002 - the global state is what must not matter
        torch.manual_seed(seed)
        inputs.append(transform(numbered(20, 25)))
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])


def test_the_view_warp_shows_the_whole_image() -> None:
    image = numbered(20, 30)
    expected = normalise(warp(image, 8), MEAN, STD)
    assert torch.equal(ValidationTransform(8, view="warp")(image), expected)
    assert torch.equal(TrainTransform(8, flip=False, view="warp")(image), expected)
    torch.manual_seed(0)
    both = {tuple(TrainTransform(8, view="warp")(image)[1, 0].tolist()) for _ in range(20)}
    assert both == {tuple(expected[1, 0].tolist()), tuple(expected[1, 0].flip(0).tolist())}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"crop": 0}, "`crop` must be at least 1"),
        ({"crop": 8, "view": "wrap"}, "Did you mean `warp`"),
        ({"crop": 8, "resize": (10, 9)}, "`resize` must be"),
        ({"crop": 8, "resize": (8, 9), "view": "warp"}, "`resize` must be None in the view `warp`"),
        ({"crop": 8, "jitter": (0.3, 0.3, 0.3)}, "`jitter` must be"),
        ({"crop": 8, "jitter": (0.3, 0.3, 0.3, 0.7)}, "`jitter` must be"),
        ({"crop": 8, "mean": (0.5,)}, "`mean` must be three numbers"),
        ({"crop": 8, "std": (1, 1, 0)}, "`std` must be above 0"),
    ],
)
def test_settings_that_are_wrong(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ViceError, match=said):
        TrainTransform(**arguments)  # type: ignore[arg-type]


def test_transforms_travel_to_workers() -> None:
    for transform in (TrainTransform(8, resize=(8, 12), jitter=(0.1, 0.1, 0.1, 0.1)), ValidationTransform(8)):
        assert pickle.loads(pickle.dumps(transform)) == transform


# ---- the dataset that torch sees


def test_labelled_images_in_a_loader(voc: Callable[..., Path]) -> None:
    data = VocDataset(voc(), "val")
    items = LabelledImages(data, ValidationTransform(6, view="warp"))
    assert len(items) == 3
    tensor, targets = items[1]
    assert tensor.shape == (3, 6, 6)
    assert targets.dtype == torch.float32
    assert targets.tolist() == [1, 0, 1]
    assert torch.equal(tensor, normalise(warp(data.image(1), 6), MEAN, STD))
    (inputs, labels), *rest = DataLoader(items, batch_size=3)
    assert not rest
    assert inputs.shape == (3, 3, 6, 6)
    assert labels.tolist() == data.targets.tolist()
    assert len(list(items)) == 3
    with pytest.raises(IndexError, match="must be 0 to 2"):
        items[-1]


def test_warping_side_by_side_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 20, 3), dtype=np.uint8) for height in (9, 16, 31)]
    sizes = [(16, 16), (16, 20), (7, 40)]
    for threads in (1, 3):
        found = warp_all(images, sizes, threads=threads)
        expected = [warp(image, size) for image, size in zip(images, sizes, strict=True)]
        assert all(map(np.array_equal, found, expected))
        assert found[1] is images[1]
