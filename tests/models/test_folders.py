"""Folders of transformers: what is read of them, and what is refused. Without the package, only the refusals."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from command import vice
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.models.folders import _pixels, _side
from torchvice.models.named import model_by_name


def folder_of(path, **files):
    """A folder with a config.json and empty files, whatever they would hold."""
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content))
    return path


def refusal(path, **arguments):
    with pytest.raises(ViceError) as refused:
        model_by_name(f"transformers:{path}", None, arguments)
    return f"{refused.value.message} {refused.value.way_out}"


def test_folders_that_lack_something_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "config.json does not exist" in refusal(folder_of(tmp_path / "a"))
    assert "as safetensors, and holds none but pytorch_model.bin. Save it" in refusal(
        folder_of(tmp_path / "b", config__json={}, pytorch_model__bin={})
    )
    assert "`auto_map` in config.json" in refusal(
        folder_of(tmp_path / "c", config__json={"auto_map": {}}, model__safetensors={})
    )
    complete = folder_of(tmp_path / "d", config__json={}, model__safetensors={})
    assert "needs the package transformers, which is not installed. Install it" in refusal(complete)
    assert "must name a folder" in refusal(complete / "config.json")


@pytest.mark.parametrize(
    ("said", "side", "mean", "std"),
    [
        ({"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 64, 0.5, 0.25),
        ({"size": 48, "do_normalize": False}, 48, 0.0, 1.0),
        (
            {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}, "do_center_crop": True}
            | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5},
            64,
            0.25,  # (2 p - 0.5) / 0.5 = (p - 0.25) / 0.25
            0.25,
        ),
    ],
)
def test_preprocessing_is_that_of_the_folder(said, side, mean, std, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert _pixels(tmp_path, {"image_size": 32}) == (side, (pytest.approx(mean),) * 3, (pytest.approx(std),) * 3)


def test_preprocessing_that_is_not_stated_is_not_guessed(tmp_path):
    assert _pixels(tmp_path, {"image_size": 32}) == (32, None, None)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"rescale_offset": True, "image_mean": [0.5]}))
    assert _pixels(tmp_path, {}) == (None, None, None)
    assert (_side([24, 32]), _side("64"), _side({"longest_edge": 9})) == (32, None, None)


def test_channels_in_another_order_are_refused(tmp_path):
    said = {"size": {"shortest_edge": 64}, "do_flip_channel_order": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ViceError, match="must take red, green and blue in this order"):
        _pixels(tmp_path, {})
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, "do_flip_channel_order": False}))
    assert _pixels(tmp_path, {}) == (64, None, None)


CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def saved(tmp_path):
    """A small ViT of transformers, saved with the names of its outputs in another order than the digits."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    names = CLASSES[::-1]
    config = t.ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=64, patch_size=16,
        num_labels=10, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    model = t.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    said = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(said))
    return tmp_path / "vit", model


@pytest.mark.slow
def test_a_folder_of_transformers_is_assessed(saved, tmp_path, capsys):
    folder, model = saved
    named = model_by_name(f"transformers:{folder}")
    assert (named.outputs, named.size, named.mean, named.names) == (10, 64, (0.5,) * 3, tuple(CLASSES[::-1]))
    for name, value in model.state_dict().items():
        assert torch.equal(value, named.model.state_dict()[name])
    data = tmp_path / "digits"
    write_digits(data, train=2, val=6, test=2, size=48)
    given = ("assess", "--data", data, "--out", tmp_path / "t", "--controls", "none", "--device", "cpu")
    status, said, error = vice(capsys, *given, "--model", f"transformers:{folder}", "--method", "rollout")
    assert status == 0, error
    assert "Outputs are assigned to the classes by the names in config.json." in said
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    made_by = {"network": "transformers:vit", "architecture": "ViTForImageClassification"}
    assert manifest["made_by"] == {"command": "assess", **made_by}
    assert manifest["model"]["class_map"] == [[9 - c] for c in range(10)]
    settings = manifest["map_settings"]
    assert (settings["view_size"], settings["mean"], settings["method"]) == (64, [0.5] * 3, "rollout")
    both = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    # transformers 5 writes the settings of a processor's parts into one file.
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": both, "processor_class": "P"}))
    named = model_by_name(f"transformers:{folder}")
    assert (named.size, named.mean, named.std) == (64, (0.5,) * 3, (0.5,) * 3)
    (folder / "processor_config.json").unlink()
    status, _, error = vice(capsys, *given, "--model", f"transformers:{folder}")
    assert status == 2
    assert "Give --mean and --std." in error


@pytest.mark.slow
def test_a_folder_without_a_classifier_is_refused(saved, tmp_path):
    t = pytest.importorskip("transformers")
    folder, model = saved
    model.vit.save_pretrained(tmp_path / "backbone")
    assert "must hold all weights of ViTForImageClassification, but lacks `classifier." in refusal(
        tmp_path / "backbone"
    )
    t.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert "must hold an image classifier of transformers" in refusal(tmp_path / "text")
