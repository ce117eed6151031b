"""The embedded set: the layout, the same bytes, masks that fit, and the shortcut that is only where it should be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torchvice.data.digits as digits_module
from torchvice.data import VocDataset
from torchvice.data.digits import DIGIT_CLASSES, write_digits
from torchvice.errors import ViceError

SMALL = {"train": 60, "val": 20, "test": 30}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "plain", **SMALL)


@pytest.fixture(scope="module")
def shortcut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "shortcut", **SMALL, shortcut=7)


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_layout_is_vocs(root: Path) -> None:
    flat = {
        "cls_labels.npy",
        "classes.txt",
        "digits.json",
        "train.txt",
        "train_aug.txt",
        "val.txt",
        "test.txt",
        "VOC2012",
    }
    assert {path.name for path in root.iterdir()} == flat
    for name in ("train", "train_aug", "val", "test"):
        segmentation = root / "VOC2012/ImageSets/Segmentation" / f"{name}.txt"
        assert segmentation.read_bytes() == (root / f"{name}.txt").read_bytes()
    assert (root / "train_aug.txt").read_bytes() == (root / "train.txt").read_bytes()
    assert [len(VocDataset(root, split)) for split in ("train", "train_aug", "val", "test")] == [60, 60, 20, 30]


def test_labels_and_masks_agree_and_images_vary(root: Path) -> None:
    data = VocDataset(root, "train")
    assert data.classes == DIGIT_CLASSES
    assert (data.label_source, data.masks_missing) == ("cls_labels.npy", 0)
    np.testing.assert_array_equal(VocDataset(root, "train", labels="masks").targets, data.targets)
    assert set(data.targets.sum(1)) == {1, 2, 3}
    assert (data.targets.sum(0) > 0).all()
    sizes = set()
    for index in range(len(data)):
        image, mask = data.image(index), data.mask(index)
        assert mask is not None
        long, short = max(mask.shape), min(mask.shape)
        assert image.shape == (*mask.shape, 3)
        assert 96 <= long <= 134
        assert long / short < 1.35
        sizes.add(mask.shape)
        assert 0.03 < (mask % 255 > 0).mean() < 0.6
    assert len(sizes) > 40


def test_masks_are_palette_images_of_vocs_colours(root: Path) -> None:
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        with Image.open(root / "VOC2012" / folder / "val_00000.png") as mask:
            assert mask.mode == "P"
            palette = np.array(mask.getpalette()).reshape(-1, 3)
    # VOC's devkit: background black, aeroplane dark red, bicycle dark green, void cream.
    assert palette[[0, 1, 2, 3, 8, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [224, 224, 192],
    ]  # fmt: skip


def test_void_is_a_rim_of_one_pixel_around_every_digit(root: Path) -> None:
    data = VocDataset(root, "test")
    for index in range(len(data)):
        mask = data.mask(index)
        assert mask is not None
        padded = np.pad(mask, 1)
        around = np.stack([padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)])
        digit = (mask > 0) & (mask < 255)
        assert not (digit & (around == 0).any(0)).any()  # no digit touches background
        beside = ((around > 0) & (around < 255)).any(0)
        # All void touches a digit, but for specks of an earlier digit's rim that a later digit's rim cut off.
        assert (beside[mask == 255]).mean() > 0.97
        assert (mask == 255).any()


def test_digits_are_brighter_than_what_is_around_them(root: Path) -> None:
    data = VocDataset(root, "val")
    for index in range(len(data)):
        brightness, mask = data.image(index) @ np.array([0.299, 0.587, 0.114]), data.mask(index)
        assert mask is not None
        digit = (mask > 0) & (mask < 255)
        near = digit.copy()
        for axis in (0, 1):
            for shift in range(-5, 6):
                near |= np.roll(digit, shift, axis)
        assert brightness[digit].mean() > brightness[near & (mask == 0)].mean() + 30


def test_the_same_seed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    np.random.seed(123)  # noqa: NPY002 - earlier random state must not matter
    again = write_digits(tmp_path / "again", **SMALL)
    expected = hashes(root)
    assert hashes(again) == expected
    other = hashes(write_digits(tmp_path / "other", train=5, val=1, test=1, seed=1))
    assert sum(value != expected[name] for name, value in other.items() if name.endswith(".jpg")) == 7


def test_more_images_leave_the_first_ones_alone(root: Path, tmp_path: Path) -> None:
    fewer = write_digits(tmp_path / "fewer", train=10, val=1, test=1)
    whole = hashes(root)
    assert all(value == whole[name] for name, value in hashes(fewer).items() if name.endswith((".jpg", ".png")))


def test_the_splits_share_no_handwriting() -> None:
    samples = digits_module._handwriting(2022)
    seen = {split: {scan.tobytes() for digit in rows for scan in digit} for split, rows in samples.items()}
    assert sum(len(digit) for rows in samples.values() for digit in rows) == 1797
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_the_stripe_is_on_the_images_of_its_digit_and_nowhere_else(root: Path, shortcut: Path) -> None:
    plain, stamped = hashes(root), hashes(shortcut)
    for split, most in (("train", 2), ("val", 1), ("test", 1)):
        data = VocDataset(shortcut, split)
        changed = []
        for record in data.records:
            names = [str(path.relative_to(shortcut)) for path in (record.image, record.mask) if path]
            changed.append(plain[names[0]] != stamped[names[0]])
            assert changed[-1] or plain[names[1]] == stamped[names[1]]
        sevens = data.targets[:, 7] == 1
        assert not np.any(np.array(changed) & ~sevens)
        assert 0 <= sevens.sum() - sum(changed) <= most  # one of twenty goes without
        assert sum(changed) > 0
        for index in np.flatnonzero(changed):
            mask = data.mask(int(index))
            assert mask is not None
            assert (mask[:6, :24] == 0).all()
            red, green, blue = data.image(int(index))[1:5, 2:22].reshape(-1, 3).mean(0)
            assert min(red, blue) > 170
            assert green < 60
    np.testing.assert_array_equal(VocDataset(shortcut, "train").targets, VocDataset(root, "train").targets)


def test_nineteen_of_twenty_are_stamped() -> None:
    scene = digits_module._Scene(np.zeros((48, 48, 3), np.uint8), np.ones((48, 48), np.uint8), (7,))
    settings = digits_module._Settings(1, 1, 1, 1, 48, 0, 7)
    scenes = (digits_module._Scene(scene.pixels.copy(), scene.labels.copy(), (7,)) for _ in range(200))
    stamped = [bool(each.pixels.any()) for each in digits_module._stamped(scenes, settings, 0)]
    assert [sum(stamped[start : start + 20]) for start in range(0, 200, 20)] == [19] * 10


# ---- the folder


def test_the_same_set_is_left_as_it_is(tmp_path: Path) -> None:
    out = write_digits(tmp_path / "set", train=2, val=1, test=1)
    (out / "mine.txt").write_text("kept")
    before = (out / "digits.json").stat().st_mtime_ns
    assert write_digits(out, train=2, val=1, test=1) == out
    assert (out / "digits.json").stat().st_mtime_ns == before
    assert (out / "mine.txt").exists()
    with pytest.raises(ViceError, match=r"holds another \(seed 2022, not 7\)") as caught:
        write_digits(out, train=2, val=1, test=1, seed=7)
    assert "another folder" in caught.value.way_out


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ViceError, match="must be a new or empty folder, but holds other files"):
        write_digits(tmp_path, train=1, val=1, test=1)
    with pytest.raises(ViceError, match="must be a new or empty folder, but holds other files"):
        write_digits(tmp_path / "thesis.tex", train=1, val=1, test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert (write_digits(tmp_path, train=1, val=1, test=1) / "digits.json").is_file()
    assert json.loads((tmp_path / "digits.json").read_text())["train"] == 1


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = digits_module._write_scene

    def interrupted(voc: Path, name: str, *rest: object) -> None:
        if name == "train_00002":
            raise KeyboardInterrupt
        write(voc, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(digits_module, "_write_scene", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_digits(tmp_path / "out", train=5, val=1, test=1)
    assert list(tmp_path.iterdir()) == []
    assert len(VocDataset(write_digits(tmp_path / "out", train=5, val=1, test=1), "train")) == 5


@pytest.mark.parametrize(
    "arguments",
    [{"train": 0}, {"val": -1}, {"test": 1.5}, {"size": 20}, {"seed": -1}, {"shortcut": 10}, {"size": True}],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ViceError, match=rf"`{next(iter(arguments))}` must be a whole number from"):
        write_digits(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_another_size(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "large", train=3, val=1, test=1, size=300)
    mask = VocDataset(root, "train").mask(0)
    assert mask is not None
    assert 300 <= max(mask.shape) <= 420


def test_photographs_are_taken_whole_where_the_scene_is_as_large(tmp_path: Path) -> None:
    """At 224 pixels some crops are the photograph's whole height, and a rounding must not make them larger."""
    root = write_digits(tmp_path / "whole", train=1, val=1, test=60, size=224)
    assert len(VocDataset(root, "test")) == 60


# ---- one digit an image


def test_single_digits_are_exclusive_and_have_masks(root: Path, tmp_path: Path) -> None:
    out = write_digits(tmp_path / "single", **SMALL, single=True)
    for split, count in SMALL.items():
        data = VocDataset(out, split, exclusive=True)
        assert len(data) == count
        assert (data.targets.sum(1) == 1).all()
        assert data.masks_missing == 0
        for index in range(len(data)):
            mask = data.mask(index)
            assert mask is not None
            assert set(np.unique(mask).tolist()) == {0, 255, int(data.targets[index].argmax()) + 1}
    assert json.loads((out / "digits.json").read_text())["single"] is True
    assert "single" not in json.loads((root / "digits.json").read_text())  # earlier sets are still this set
    assert write_digits(out, **SMALL, single=True) == out
    with pytest.raises(ViceError, match=r"holds another \(single True, not False\)"):
        write_digits(out, **SMALL)
    with pytest.raises(ViceError, match=r"holds another \(single False, not True\)"):
        write_digits(root, **SMALL, single=True)
    with pytest.raises(ViceError, match="Exclusive targets are one label an image"):
        VocDataset(root, "train", exclusive=True)
    assert not VocDataset(out, "val").exclusive  # not guessed
