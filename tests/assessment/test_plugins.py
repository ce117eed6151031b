"""Plugins: files that register methods, what the manifest keeps of them, and files that cannot be used."""

from __future__ import annotations

import hashlib
import textwrap

import pytest
import torch

import torchvice
from small_networks import moving_resnet
from torchvice import Explainer, ViceError
from torchvice.assessment.plugins import load_plugin
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.explain import METHODS, method
from torchvice.models.functions import found_in_code

MEAN = """
    import torchvice.explain

    @torchvice.explain.method("mean_of_channels", needs="activations", cost="1 forward", any_layer=True)
    def mean_of_channels(scene):
        result = scene.run_network(gradients=False)
        scene.targets_of(result.outputs)
        return result.outputs, result.activations.mean(1)[[image for image, _ in scene.pairs]]
"""


@pytest.fixture(autouse=True)
def same_methods():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def written(path, text):
    path.write_text(textwrap.dedent(text))
    return path


def test_a_method_of_a_file_is_known_to_the_explainer(tmp_path):
    path = written(tmp_path / "mine.py", MEAN)
    assert load_plugin(path) == ["mean_of_channels"]
    explainer = Explainer(moving_resnet(), "mean_of_channels")
    images = torch.rand(2, 3, 64, 64)
    maps = explainer(images, [[0, 3], [1]]).maps
    held = explainer.activations(images).mean(1)
    assert torch.equal(maps, held[[0, 0, 1]])
    assert explainer.plugin == {"file": "mine.py", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert Explainer(moving_resnet(), "cam").plugin is None


def test_a_file_is_run_again_only_if_it_has_changed(tmp_path):
    path = written(tmp_path / "mine.py", MEAN)
    load_plugin(path)
    first = METHODS["mean_of_channels"]
    assert load_plugin(path) == ["mean_of_channels"]
    assert METHODS["mean_of_channels"] is first
    written(path, MEAN + "    # changed\n")
    load_plugin(path)
    assert METHODS["mean_of_channels"].plugin != first.plugin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must register a method, but registers none"),
        ("import nothing_there", "fails in line 1: ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = 1\nx.y", "fails in line 2: AttributeError"),
        ("def f(:", "fails in line 1: SyntaxError"),
        ("raise SystemExit(3)", "fails in line 1: SystemExit: 3"),
        (
            MEAN.replace("mean_of_channels", "cam"),
            "A method must have a new name, but 'cam' is taken",
        ),
        (MEAN.replace('"mean_of_channels"', '"a b"'), "must be letters, digits, _ and -"),
        (MEAN.replace("mean_of_channels", "mirror"), "'mirror' is taken"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_leave_nothing(tmp_path, text, message):
    before = dict(METHODS)
    with pytest.raises(ViceError) as told:
        load_plugin(written(tmp_path / "mine.py", text))
    assert message in told.value.message
    assert told.value.way_out
    assert before == METHODS


def test_a_file_that_fails_late_leaves_no_method(tmp_path):
    with pytest.raises(ViceError, match="fails in line 9: ZeroDivisionError"):
        load_plugin(written(tmp_path / "mine.py", textwrap.dedent(MEAN).strip() + "\n\n1 / 0\n"))
    assert "mean_of_channels" not in METHODS


def test_maps_of_another_number_are_refused():
    @method("wrong")
    def wrong(scene):
        result = scene.run_network(gradients=False)
        scene.targets_of(result.outputs)
        return result.outputs, torch.zeros(1, 7, 7)

    with pytest.raises(ViceError, match=r"must return maps \(2, h, w\), one for each pair, but returns shape"):
        Explainer(moving_resnet(), "wrong")(torch.rand(1, 3, 64, 64), [[0, 1]])


def test_a_table_resumes_with_the_same_file_only(tmp_path):
    write_digits(tmp_path / "set", train=2, val=2, test=4, size=48)
    data, model = VocDataset(tmp_path / "set", "test"), moving_resnet()
    path = written(tmp_path / "mine.py", MEAN)
    load_plugin(path)

    def assess(out, **more):
        sizes = {"view_size": 64, "crop": 64, "protocols": ("strict",)}
        return torchvice.assess(model, data, out=tmp_path / out, **sizes, **more)

    samples = assess("own", method="mean_of_channels")
    assert samples.manifest["explanations"]["strict:mean_of_channels"]["plugin"]["file"] == "mine.py"
    also = assess("also", also=["mean_of_channels"])
    assert "plugin" not in also.manifest["explanations"]["strict:cam"]
    assert "plugin" in also.manifest["explanations"]["strict:mean_of_channels"]
    written(path, MEAN + "    # changed\n")
    load_plugin(path)
    for out, more in (("own", {"method": "mean_of_channels"}), ("also", {"also": ["mean_of_channels"]})):
        with pytest.raises(ViceError, match="`sha256` of `plugin` of the explanation `strict:mean_of_channels`"):
            assess(out, **more)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}['depth']", "but raises KeyError: 'depth', line 6"),
        ("return None", "but raises TypeError: cannot unpack"),
        ("return scene.images, 3", "must return two tensors, outputs and maps, but returns one of type int"),
        ("return scene.images, scene.images[:, 0].numpy()", "maps, but returns one of type ndarray. torch.as_tensor"),
        ("return scene.run_network(False).outputs * 0, scene.images[:, 0]", "those of the first image differ: (1, "),
        ("return scene.images.numpy(), scene.images[:, 0]", "maps, but returns one of type ndarray. torch.as_tensor"),
    ],
)
def test_a_method_of_a_file_that_fails_is_one_sentence(tmp_path, body, message):
    start = MEAN[: MEAN.index("        result =")]
    load_plugin(written(tmp_path / "mine.py", f"{start}        {body}\n"))
    with pytest.raises(ViceError) as refused:
        Explainer(moving_resnet(), "mean_of_channels")(torch.rand(1, 3, 64, 64), [[0]])
    assert "The method 'mean_of_channels' of mine.py" in refused.value.message
    assert message in str(refused.value).replace("\n", " ").replace("    ", "")


def test_one_file_holds_a_method_a_network_and_a_transform(tmp_path):
    """The file runs once, whichever option names it first."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import timm, torchvice.explain\n"
        "@torchvice.explain.method('of_one_file')\n"
        "def mine(scene):\n    raise NotImplementedError\n"
        "def build():\n    return timm.create_model('test_resnet', num_classes=2)\n"
        "def transform(image):\n    return image\n"
    )
    try:
        assert load_plugin(file) == ["of_one_file"]
        build, source = found_in_code(f"{file}:build", "network")
        transform, _ = found_in_code(f"{file}:transform", "transform")
        assert build.__globals__ is transform.__globals__
        assert source == file
        file.write_text(file.read_text().replace("return image", "return image.convert('L')"))
        with pytest.raises(ViceError, match="'of_one_file' is taken"):  # another content is another file
            found_in_code(f"{file}:transform", "transform")
    finally:
        METHODS.pop("of_one_file", None)
