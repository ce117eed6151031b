"""`vice train`: trainings that stop, and what resumes them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command import vice
from torchvice.data.digits import write_digits
from torchvice.training.checkpoints import AtomicCheckpoints

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "digits"
    write_digits(root, train=8, val=4, test=4, size=48)
    return root


@pytest.fixture
def small(digits: Path, tmp_path: Path) -> list[Any]:
    """A training of two epochs that ends in tmp_path/demo."""
    settings = (f"data.root={digits}", f"work_dir={tmp_path}", "trainer.epochs=2", "trainer.batch_size=4")
    network = ("model.name=test_resnet", "model.arguments={}", "transform.crop=48")
    return ["train", "demo", *(word for setting in (*settings, *network) for word in ("-o", setting))]


def stopping_in_epoch_two(monkeypatch: pytest.MonkeyPatch, stop: BaseException) -> None:
    """Make the writing of the second epoch's checkpoint end with this error."""
    save = AtomicCheckpoints.save_checkpoint

    def stopped(self: AtomicCheckpoints, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if checkpoint["epoch"] == 1:
            raise stop
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", stopped)


def test_after_a_full_disk_the_same_command_resumes_with_resume(
    small: list[Any], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        stopping_in_epoch_two(full, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "best.ckpt"))
        status, _, err = vice(capsys, *small)
    assert status == 2
    expected = "Free some space and run the same command again with --resume; finished work is kept.\n"
    assert err.endswith(f"vice: The disk is full: best.ckpt cannot be written.\n    {expected}")
    status, out, err = vice(capsys, *small, "--resume")
    assert (status, "Resuming after epoch 1" in " ".join(err.split())) == (0, True)
    assert "demo: trained." in " ".join(out.split())
    assert torch.load(tmp_path / "demo/checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_before_a_run_has_started_the_same_command_is_run_again(
    small: list[Any], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as before:
        before.setattr("torchvice.training.run.write_text", full)
        status, _, err = vice(capsys, *small)
    assert (status, "run the same command again; finished work is kept." in err) == (2, True)
    assert not (tmp_path / "demo/config.yaml").exists()
    assert vice(capsys, *small)[0] == 0


def test_ctrl_c_says_what_resumes_the_training(
    small: list[Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stop:
        stopping_in_epoch_two(stop, KeyboardInterrupt())
        status, _, err = vice(capsys, *small)
    assert status == 130
    assert "Stopped. To resume, run the same command again with --resume." in err
    assert vice(capsys, *small, "--resume")[0] == 0


def test_arguments_of_a_preset_that_the_network_does_not_take_are_left_out(small: list[Any], capsys: Capture) -> None:
    of_the_preset = [
        *small,
        "-o",
        "model.arguments={channels: [16, 32, 64, 128]}",
        "-o",
        "model.name=test_efficientnet",
    ]
    status, _, err = vice(capsys, *of_the_preset)
    expected = "Leave out model.arguments.channels. If the preset gives it: -o 'model.arguments={}'."
    assert (status, err.splitlines()[-1].strip()) == (2, expected)
    assert vice(capsys, *of_the_preset, "-o", "model.arguments={}")[0] == 0


def test_a_run_resumes_by_its_folder(small: list[Any], tmp_path: Path, capsys: Capture) -> None:
    assert vice(capsys, *small)[0] == 0
    assert vice(capsys, "train", tmp_path / "demo", "--resume", "-o", "schedule.name=constant")[0] == 2
    status, _, err = vice(capsys, "train", tmp_path / "demo", "--resume")
    assert (status, "All 2 epochs are already trained." in " ".join(err.split())) == (0, True)


def test_a_run_whose_data_have_moved_is_assessed_and_explained(
    small: list[Any], digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(digits, tmp_path / "set")
    one = ("-o", f"data.root={tmp_path / 'set'}", "-o", "trainer.epochs=1")
    assert vice(capsys, *small, *one)[0] == 0
    cheap = ("--protocol", "strict", "--controls", "none", "--without", "none", "--device", "cpu")
    run = ("assess", tmp_path / "demo", *cheap)
    (tmp_path / "set").rename(tmp_path / "moved")
    status, _, err = vice(capsys, *run)
    assert (status, err.splitlines()[-1].strip()) == (2, "Say where they are: --data DIR.")
    moved = ("--data", tmp_path / "moved")
    assert vice(capsys, *run, *moved)[0] == 0
    assert (tmp_path / "demo/assess/test/manifest.json").is_file()
    assert vice(capsys, *run, *moved, "--split", "val")[0] == 0
    assert (tmp_path / "demo/assess/val/manifest.json").is_file()
    maps = ("--maps", tmp_path / "maps", "--device", "cpu")
    assert vice(capsys, "explain", tmp_path / "demo", *moved, *maps)[0] == 0
    status, _, err = vice(capsys, *run, *moved, "--class-map", "imagenet-voc")
    expected = "A run folder has its own model and classes, but --class-map is given too. Remove one."
    assert (status, expected in " ".join(err.split())) == (2, True)


@pytest.fixture
def sorted_digits(tmp_path: Path) -> Path:
    """Images of two classes in a folder of each split, one sub-folder for each class."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 4, "val": 2}.items():
        for value, name in enumerate(("dark", "light")):
            folder = tmp_path / "sorted" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(value * 120, 120 + value * 120, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "sorted"


def test_folders_of_splits_and_classes_are_trained_on_and_assessed(
    small: list[Any], sorted_digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    of_classes = [*small, "-o", f"data.root={sorted_digits}", "-o", "data.exclusive=true", "-o", "trainer.epochs=1"]
    status, _, err = vice(capsys, *of_classes)
    assert status == 2
    expected = f"`data.eval_split` must name a list in {sorted_digits} or {sorted_digits}/ImageSets/Segmentation"
    assert f"{expected}, but no list of images is there." in err
    assert "Training needs, in data.root, a list of each split" in err
    assert "-o data.eval_split=NAME" in err
    status, _, err = vice(capsys, *of_classes, "-o", f"data.root={sorted_digits / 'train'}")
    expected = (
        f"`data.selection_split` must be 'train', the only split of {sorted_digits / 'train'} (images without lists)"
    )
    assert (status, f"{expected}, but is 'val'." in err, "such as train/cat/a.jpg" in err) == (2, True, True)
    status, _, err = vice(capsys, *of_classes, "-o", "data.eval_split=val")
    assert (status, "train: 8 images, 2 classes" in err, "val: 4 images, 2 classes" in err) == (0, True, True)
    assert "Mind" not in err
    status, out, err = vice(capsys, "assess", tmp_path / "demo", "--controls", "none", "--without", "none")
    assert status == 0, err
    assert "4 images assessed" in " ".join(out.split())
    assert vice(capsys, "measure", tmp_path / "demo", "--no-figures", "--replicates", 0)[0] == 0
