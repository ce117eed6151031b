"""`--transform FILE.py:FUNCTION` of `vice assess` and `vice explain`."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from command import vice
from small_networks import moving_resnet
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits

FILE = """
from torchvision import transforms

end = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
mine = transforms.Compose([transforms.Resize(72), transforms.CenterCrop(64), *end])
flipped = transforms.Compose([transforms.RandomHorizontalFlip(), *mine.transforms])
number = 3


def by_function(image):
    return mine(image)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("transformed")
    write_digits(root / "set", train=2, val=4, test=2, size=48)
    torch.save(moving_resnet().state_dict(), root / "w.pth")
    return root


@pytest.fixture
def here(root, monkeypatch):
    """set, w.pth and mine.py in the working directory."""
    monkeypatch.chdir(root)
    (root / "mine.py").write_text(FILE)
    return root


NETWORK = ("--model", "test_resnet", "--weights", "w.pth", "--data", "set", "--device", "cpu")
ALONE = ("--protocol", "strict", "--controls", "none", "--without", "none")


def test_both_commands_take_it_and_the_table_knows_its_file(here, capsys):
    given = (*NETWORK, "--transform", "mine.py:by_function")
    status, _, err = vice(capsys, "assess", *given, *ALONE, "--out", "t")
    assert status == 0, err
    manifest = json.loads((here / "t/manifest.json").read_text())
    assert manifest["map_settings"]["transform"] == {
        "name": "mine.py:by_function",
        "view": "short72-crop64",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "sha256": hashlib.sha256(FILE.encode()).hexdigest(),
    }
    status, _, err = vice(capsys, "explain", *given, "--maps", "m")
    assert status == 0, err
    data = VocDataset(here / "set", "val")
    plane = np.load(here / f"m/{data.records[0].image_id}.npz")["maps"]
    assert plane.shape[1:] == data.image(0).shape[:2]
    edges = [plane[:, :2], plane[:, -2:], plane[..., :2], plane[..., -2:]]  # 4 of 72 pixels and more are cut off
    assert not any(edge.any() for edge in edges)
    status, _, err = vice(capsys, "assess", *given, *ALONE, "--out", "t")
    assert status == 0, err
    (here / "mine.py").write_text(FILE.replace("number = 3", "number = 4"))
    for command in (("assess", *given, *ALONE, "--out", "t"), ("explain", *given, "--maps", "m")):
        status, _, err = vice(capsys, *command)
        assert status == 2
        assert "made with other settings" in err
    status, _, err = vice(capsys, "measure", "t", "--replicates", 0, "--no-figures")
    assert status == 0, err
    status, _, err = vice(capsys, "report", "t", "--replicates", 0)
    assert status == 0, err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--transform", "mine.py"), "must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, but is 'mine.py'"),
        (("--transform", "mine.py:my"), "mine.py must have a function `my`, but has none. Known: "),
        (("--transform", "other.py:mine"), "The file of the transform"),
        (("--transform", "mine.py:number"), "mine.py:number must be a function, but is a int"),
        (
            ("--transform", "mine.py:flipped"),
            "mine.py:flipped must do the same with an image each time",
        ),
        (("--transform", "mine.py:mine", "--view-size", 96), "gives 64 pixels, but `view_size` is 96"),
        (("--transform", "mine.py:mine", "--protocol", "paper"), "must be for the protocol strict"),
    ],
)
def test_what_is_refused(here, capsys, given, message):
    for command in (("assess", *NETWORK, "--out", "t", "--controls", "none"), ("explain", *NETWORK, "--maps", "m")):
        status, _, err = vice(capsys, *command, *given)
        assert status == 2
        assert message in " ".join(err.split())
