"""`vice demo --data`: all five steps on a dataset and a network of the user's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from command import vice
from torchvice.data.digits import write_digits
from torchvice.models.build import build_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "digits"
    write_digits(root, train=8, val=4, test=12, size=48)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "start.pth"
    torch.save(build_model("test_resnet", 7).state_dict(), file)
    return file


def test_all_steps_run_on_the_users_own_data(digits: Path, weights: Path, tmp_path: Path, capsys: Capture) -> None:
    small: list[Any] = ["-o", "trainer.epochs=1", "-o", "transform.crop=48", "-o", "data.workers=0"]
    command = ["demo", "--data", digits, "--model", "test_resnet", "--weights", weights, "--out", tmp_path / "own"]
    status, out, err = vice(capsys, *command, *small)
    assert status == 0, err
    assert "train is trained on, val chooses the checkpoint, test is measured" in out + err
    assert "mean 0.5, std 0.5, as timm states for test_resnet" in out + err
    held = json.loads((tmp_path / "own" / "assess" / "test" / "manifest.json").read_text())
    assert held["map_settings"]["view_size"] == 48
    assert (tmp_path / "own" / "report.html").is_file()
    assert json.loads((tmp_path / "own" / "measures.json").read_text())["classes"]


def test_a_training_that_diverges_is_started_again_in_another_folder(
    digits: Path, weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["demo", "--data", digits, "--model", "test_resnet", "--weights", weights, "--out", tmp_path / "own"]
    settings: list[Any] = ["-o", "trainer.epochs=1", "-o", "transform.crop=48", "-o", "data.workers=0"]
    rates = ["-o", "optimizer.lr=1e9", "-o", "optimizer.backbone_lr=1e9"]
    status, _, err = vice(capsys, *command, *settings, *rates)
    lower = "-o optimizer.lr=1e+08 -o optimizer.backbone_lr=1e+08"
    expected = f"Start again with a lower rate in another folder: {lower} --out {tmp_path / 'own'}-2."
    assert (status, err.splitlines()[-1].strip()) == (2, expected)


def test_without_a_test_split_it_says_what_the_numbers_flatter(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "set"
    shutil.copytree(digits, root)
    for file in root.rglob("test.txt"):
        file.unlink()
    command = ["demo", "--data", root, "--model", "test_resnet", "--weights", tmp_path / "none.pth"]
    _, out, err = vice(capsys, *command, "--out", tmp_path / "own")
    assert "val chooses the checkpoint, val is measured. The numbers flatter" in out + err


REFUSED = [
    (["--model", "resnet18"], "--model goes with --data"),
    (["--weights", "x.pth"], "--weights goes with --data"),
    (["--data", "DATA"], "--data needs a network, but --model is not given"),
    (["--data", "DATA", "--model", "resnet18", "--shortcut", "3"], "--shortcut plants a stripe"),
    (["--data", "DATA", "--model", "torchvision:resnet18"], "must be a timm name"),
    (["--data", "DATA", "--model", "resnet18", "-o", "data.train_split=learn"], "called 'learn', but"),
    (["--data", "NONE", "--model", "resnet18"], "must be a folder"),
    (["--data", "DATA", "--model", "test_resnet", "--weights", "no.pth"], "no.pth"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_what_does_not_fit_is_refused(
    given: list[str], said: str, digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    places = {"DATA": str(digits), "NONE": str(tmp_path / "none")}
    status, out, err = vice(capsys, "demo", "--out", tmp_path / "own", *(places.get(word, word) for word in given))
    assert (status, said in err) == (2, True), out + err
    assert not (tmp_path / "own" / "config.yaml").exists()
