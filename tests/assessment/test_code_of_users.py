"""An error in the user's network, dataset or iterable is one sentence that quotes it, and the command exits with 2."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import torchvice
from command import vice
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.families import MapSite

HOW = {"view_size": 32, "crop": 32, "device": "cpu", "protocols": ["strict"], "progress": False}


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


class Own:
    """Three images with both of two classes."""

    classes = ("a", "b")

    def __init__(self):
        self.records = [SimpleNamespace(image_id=str(i)) for i in range(3)]
        self.targets = np.ones((3, 2), np.uint8)

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3)).astype(np.uint8)

    def mask(self, index):
        return np.repeat([[0, 1, 2, 0]], 32, 0).repeat(8, 1)


def refusal(data, model=None, **how):
    with pytest.raises(ViceError) as refused:
        torchvice.assess(model or Small(), data, **(HOW | how))
    return refused.value


class RefusesBatches(Small):
    def forward(self, images):
        if len(images) > 1:
            raise KeyError("only one\nimage at a time.")
        return super().forward(images)


@pytest.mark.parametrize("layer", [None, "0"])
def test_a_forward_that_raises_only_on_batches_is_quoted_and_its_way_out_works(layer, tmp_path):
    error = refusal(Own(), RefusesBatches(), layer=layer, out=tmp_path / "a")
    assert error.message.startswith(
        "RefusesBatches must run on images (3, 3, 32, 32), but raises KeyError: 'only one\\nimage at a time.' (line "
    )
    assert "batch_size=1" in error.way_out
    samples = torchvice.assess(
        RefusesBatches(), Own(), layer=layer, out=tmp_path / "b", batch_size=1, outputs="logits", **HOW
    )
    assert len(samples.images.logits) == 3


def test_the_command_says_it_and_exits_with_2(tmp_path, capsys):
    write_digits(tmp_path / "digits", train=2, val=4, test=2, size=48)
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Sequential):\n    def forward(self, x):\n        if x.std() < 0.9:\n"
        "            raise TypeError('no photographs')\n        return super().forward(x)\n\n\ndef build():\n"
        "    return Net(torch.nn.Conv2d(3, 10, 4, 4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    arguments = ("--model", f"{tmp_path / 'mine.py'}:build", "--layer", "0", "--data", tmp_path / "digits")
    status, _, err = vice(capsys, "assess", *arguments, "--split", "val", "--out", tmp_path / "out", "--view-size", 48)
    assert status == 2
    assert "but raises TypeError: no photographs (line 7 of mine.py)" in err


def test_out_of_memory_and_full_disks_are_left_to_those_who_know_them():
    class Large(Small):
        def forward(self, images):
            raise self.error

    model = Large()
    site = MapSite("0")
    model.error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        Explainer(model, "gradcam", site=site)(torch.zeros(1, 3, 32, 32), [[0]])
    model.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        Explainer(model, "gradcam", site=site)(torch.zeros(1, 3, 32, 32), [[0]])


def changed(**what):
    data = Own()
    for name, value in what.items():
        setattr(data, name, value)
    return data


def fails(*_):
    raise RuntimeError("torn")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"image": fails}, "give the image of `0`, but raises RuntimeError: torn (line "),
        ({"mask": fails}, "give the mask of `0` or None, but raises RuntimeError: torn (line "),
        ({"image": lambda i: np.zeros((32, 32, 3), np.float32)}, "(H, W, 3) of uint8, but gives float32 of shape (32,"),
        ({"image": lambda i: np.zeros((3, 32, 32), np.uint8)}, "but gives uint8 of shape (3, 32, 32)"),
        ({"targets": np.ones(3)}, "must be (3, 2), images and classes, of 0 and 1, but has shape (3,)"),
        ({"targets": np.full((3, 2), 0.4)}, "of 0 and 1, but holds 0.4"),
        ({"records": ["a", "b", "c"]}, "must have an `image_id` (text), but record 0 is 'a'"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_refused(what, message, tmp_path):
    assert message in refusal(changed(**what), out=tmp_path).message


class Items:
    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == self.bad:
            raise RuntimeError("torn")
        return np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8)


def one_by_one():
    yield Items(None)[0]
    raise RuntimeError("torn")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items(0), "The dataset must give item 0, but raises RuntimeError: torn (line "),
        (Items(2), "The dataset must give item 2, but raises RuntimeError: torn (line "),
        (one_by_one(), "The dataset must give its items, but raises RuntimeError: torn (line "),
    ],
)
def test_items_that_cannot_be_read_are_refused(items, message, tmp_path):
    assert refusal(items, out=tmp_path, classes=["a", "b"]).message.startswith(message)


def test_a_reshape_that_raises_is_quoted():
    site = MapSite("0", reshape=lambda tensor: tensor.nothing)
    with pytest.raises(ViceError, match=r"`reshape` must turn the .* of `0` into .*, but raises AttributeError"):
        Explainer(Small(), "gradcam", site=site)(torch.zeros(1, 3, 32, 32), [[0]])
