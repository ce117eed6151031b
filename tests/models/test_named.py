"""Networks by name: timm's, torchvision's, and functions of the user's own; the same weights give the same network."""

from __future__ import annotations

import json

import pytest
import timm
import torch
import torchvision

from command import vice
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.models.named import model_by_name, source_of

SIZES = ("--view-size", 64, "--crop", 64, "--controls", "none", "--without", "none", "--device", "cpu")
MINE = """
import timm, torch

def build(classes=10, seed=0):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=classes)

def needs(depth):
    return torch.nn.Linear(depth, 2)

def wrong():
    return "a network"

def fails():
    raise RuntimeError("out of order")

ready = build()
number = 3
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=6, test=2, size=48)
    return root


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def manifest_of(capsys, out, *given):
    status, said, error = vice(capsys, "assess", *given, "--out", out)
    assert status == 0, error
    return json.loads((out / "manifest.json").read_text()), said


def refusal(capsys, *given):
    status, _, said = vice(capsys, "assess", *given)
    assert status == 2
    return " ".join(said.split())


def test_timm_in_its_explicit_form_is_timm(data, tmp_path, capsys):
    torch.save(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "w.pth")
    given = ("--weights", tmp_path / "w.pth", "--data", data, *SIZES)
    made = [
        manifest_of(capsys, tmp_path / str(i), "--model", name, *given)[0]
        for i, name in enumerate(("test_resnet", "timm:test_resnet"))
    ]
    assert made[0] == made[1]
    assert made[0]["made_by"] == {"command": "assess", "network": "test_resnet", "weights": "w.pth"}


def test_torchvisions_network_has_torchvisions_preprocessing(data, tmp_path, capsys):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    named = model_by_name("torchvision:resnet18", tmp_path / "w.pth")
    assert (named.outputs, named.size, named.mean) == (10, 224, (0.485, 0.456, 0.406))
    assert all(torch.equal(a, b) for a, b in zip(named.model.parameters(), model.parameters(), strict=True))
    given = ("--model", "torchvision:resnet18", "--weights", tmp_path / "w.pth", "--data", data, *SIZES)
    manifest, _ = manifest_of(capsys, tmp_path / "t", *given)
    assert manifest["made_by"] == {"command": "assess", "network": "torchvision:resnet18", "weights": "w.pth"}
    assert manifest["map_settings"]["std"] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("name", "arguments", "side"),
    [
        ("squeezenet1_1", {}, 224),
        pytest.param("mobilenet_v3_small", {}, 224, marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_x0_5", {}, 224, marks=pytest.mark.slow),
        pytest.param("swin_v2_t", {}, 256, marks=pytest.mark.slow),
        pytest.param("vit_b_32", {"image_size": 64}, 64, marks=pytest.mark.slow),
        pytest.param("inception_v3", {"transform_input": True}, 299, marks=pytest.mark.slow),
    ],
)
def test_the_outputs_of_a_torchvision_file_are_read_from_its_classifier(name, arguments, side, tmp_path):
    quick = {"init_weights": False} if name == "inception_v3" else {}
    model = torchvision.models.get_model(name, num_classes=7, **quick, **arguments)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    named = model_by_name(f"torchvision:{name}", tmp_path / "w.pth", arguments)
    assert (named.outputs, named.size) == (7, side)
    assert named.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, named.model.state_dict()[n]) for n, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["timm", "hf-hub", "transformers"])
def test_a_source_without_a_name_is_refused(prefix):
    with pytest.raises(ViceError, match=f"must be named after `{prefix}:`, but nothing follows") as refused:
        source_of(f"{prefix}:")
    assert "timm:NAME" in refused.value.way_out


def test_torchvisions_old_names_of_densenet_are_known(tmp_path):
    import re

    model = torchvision.models.densenet121(num_classes=7)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value
        for name, value in model.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    named = model_by_name("torchvision:densenet121", tmp_path / "w.pth")
    assert all(torch.equal(value, named.model.state_dict()[n]) for n, value in model.state_dict().items())


def test_a_function_of_a_file_needs_no_weights(mine, data, tmp_path, capsys):
    given = ("--data", data, *SIZES)
    manifest, _ = manifest_of(capsys, tmp_path / "a", "--model", f"{mine}:build", *given)
    assert manifest["made_by"]["network"] == "mine.py:build"
    assert len(manifest["made_by"]["code_sha256"]) == 64
    assert "weights" not in manifest["made_by"]
    seeded, _ = manifest_of(capsys, tmp_path / "b", "--model", f"{mine}:build", "--argument", "seed=1", *given)
    assert seeded["made_by"]["arguments"] == {"seed": 1}
    assert seeded["model"]["weights_sha256"] != manifest["model"]["weights_sha256"]
    torch.save(model_by_name(f"{mine}:build", None, {"seed": 1}).model.state_dict(), tmp_path / "w.pth")
    with_file, _ = manifest_of(
        capsys, tmp_path / "c", "--model", f"{mine}:build", "--weights", tmp_path / "w.pth", *given
    )
    assert with_file["model"] == seeded["model"]
    assert with_file["made_by"]["weights"] == "w.pth"


def test_a_function_of_a_package_a_class_and_a_module(mine, tmp_path, monkeypatch):
    (tmp_path / "nets").mkdir()
    mine.rename(tmp_path / "nets" / "small.py")
    monkeypatch.chdir(tmp_path)
    assert model_by_name("nets.small:build").made_by["network"] == "nets.small:build"
    assert model_by_name("nets.small:ready").outputs is None
    assert isinstance(model_by_name("torch.nn:Identity").model, torch.nn.Identity)


def test_a_file_imports_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("WIDTH = 7\n")
    (tmp_path / "net.py").write_text(
        "import torch\nfrom beside_it import WIDTH\nbuild = lambda: torch.nn.Linear(WIDTH, 2)\n"
    )
    assert model_by_name(f"{tmp_path / 'net.py'}:build").model.in_features == 7


@pytest.mark.parametrize(
    ("name", "arguments", "message", "way_out"),
    [
        ("build_it", {}, "must have a function `build_it`", "`build`"),
        ("build", {"sed": 1}, "takes no argument `sed`", "`seed`"),
        ("needs", {}, "must be called with `depth`", "--argument depth=VALUE"),
        ("wrong", {}, "must return a torch.nn.Module, but returns a str", "--weights FILE"),
        ("fails", {}, "RuntimeError: out of order, line 15 of mine.py", "by itself"),
        ("ready", {"seed": 1}, "is a network already", "Leave it out"),
        ("number", {}, "must be a function, but is a int", "Name one"),
    ],
)
def test_functions_that_cannot_be_used_are_refused(name, arguments, message, way_out, mine):
    with pytest.raises(ViceError) as refused:
        model_by_name(f"{mine}:{name}", None, arguments)
    assert message in refused.value.message
    assert way_out in refused.value.way_out


@pytest.mark.parametrize(
    ("text", "message", "way_out"),
    [
        ("torchvison:resnet18", "module `torchvison`", "`torchvision:resnet18`"),
        ("torchvision:resnet81", "no classifier called 'resnet81'", "`resnet18`"),
        ("torchvision:test_resnet", "no classifier called", "timm's: `test_resnet`"),
        ("torchvision:inception_v3", "must be told whether it transforms", "transform_input=true"),
        ("vit_b_16", "must be a timm name", "`torchvision:vit_b_16`"),
        ("timm:resnet81", "must be a timm name", "resnet"),
        ("hf-hub:timm/resnet50.a1_in1k", "must be in the cache", "transformers:FOLDER"),
        ("http://a.b/c", "must be timm:NAME", "timm's"),
        ("no/such.py:build", "does not exist", ""),
        ("mine.py", "must name a function", "mine.py:build"),
        ("no.such.module:build", "needs the module `no.such.module`", "FILE.py:FUNCTION"),
        ("transformers:no/such", "must name a folder", "save_pretrained"),
    ],
)
def test_names_that_mean_nothing_are_refused(text, message, way_out, tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ViceError) as refused:
        model_by_name(text, tmp_path / "w.pth")
    assert message in refused.value.message
    assert way_out in refused.value.way_out


def test_the_command_says_what_is_missing(data, mine, tmp_path, capsys):
    assert "Missing: --weights." in refusal(capsys, "--model", "torchvision:resnet18", "--data", data)
    assert "Missing: --data." in refusal(capsys, "--model", f"{mine}:build")
    assert "Give --weights" in refusal(capsys, "--model", f"{mine}:build", "--data", data, "--weights-key", "ema")
    few = refusal(capsys, "--model", f"{mine}:build", "--argument", "classes=3", "--data", data)
    assert "must have an output for each of 10 classes, but has 3" in few
    assert "torchvision:resnet18 is" not in few


def test_a_source_is_part_of_the_name():
    assert source_of("C:/nets/mine.py:build") == ("function", "C:/nets/mine.py:build")
    assert source_of("transformers:runs/mine") == ("transformers", "runs/mine")
    assert source_of("resnet50.tv_in1k") == ("timm", "resnet50.tv_in1k")


def test_a_function_that_ends_the_program_is_refused(tmp_path):
    (tmp_path / "ends.py").write_text("import sys\ndef build():\n    sys.exit(3)\n")
    with pytest.raises(ViceError, match=r"raises SystemExit: 3, line 3 of ends.py"):
        model_by_name(f"{tmp_path / 'ends.py'}:build")
