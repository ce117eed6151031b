"""`--plugin FILE` of `vice assess` and `vice explain`."""

from __future__ import annotations

import json

import pytest
import torch

from command import vice
from small_networks import moving_resnet
from torchvice.data.digits import write_digits
from torchvice.explain import METHODS

FILE = """
import torchvice.explain

@torchvice.explain.method("of_option", cost="1 forward")
def of_option(scene):
    result = scene.run_network(gradients=False)
    scene.targets_of(result.outputs)
    return result.outputs, result.activations.mean(1)[[image for image, _ in scene.pairs]]
"""


@pytest.fixture
def plugin(tmp_path):
    before = dict(METHODS)
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    yield path
    METHODS.clear()
    METHODS.update(before)


def test_the_list_holds_it_in_any_order_of_options(plugin, capsys):
    for options in (("--plugin", plugin, "--list-methods"), ("--list-methods", "--plugin", plugin)):
        status, told, _ = vice(capsys, "explain", *options)
        assert status == 0
        assert "of_option" in told
        assert "gradcam" in told
    METHODS.pop("of_option")
    status, told, _ = vice(capsys, "explain", "--list-methods")
    assert status == 0
    assert "of_option" not in told


def test_it_is_assessed_as_the_method_and_in_addition(plugin, tmp_path, capsys):
    write_digits(tmp_path / "set", train=2, val=4, test=2, size=48)
    torch.save(moving_resnet().state_dict(), tmp_path / "w.pth")
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", tmp_path / "set")
    given = (*given, "--protocol", "strict", "--view-size", 64, "--controls", "none", "--without", "none")
    for more in (("--method", "of_option"), ("--also", "of_option")):
        out = tmp_path / more[0]
        status, _, said = vice(capsys, *given, "--plugin", plugin, *more, "--out", out)
        assert status == 0, said
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["explanations"]["strict:of_option"]["plugin"]["file"] == "mine.py"


def test_a_broken_file_ends_with_one_sentence(tmp_path, capsys):
    (tmp_path / "bad.py").write_text("import nothing_there\n")
    for command in (("assess",), ("explain", tmp_path, "--maps", tmp_path), ("explain", "--list-methods")):
        status, _, said = vice(capsys, *command, "--plugin", tmp_path / "bad.py")
        assert status == 2
        assert "ModuleNotFoundError" in said
        assert "Traceback" not in said
