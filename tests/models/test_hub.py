"""Networks of the Hugging Face hub, from a cache folder of its layout; nothing is downloaded."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from command import vice
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.models.named import model_by_name, source_of
from torchvice.models.prompts import ClassNames

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub"


def stored(cache, repository, files, commit=HASH):
    """A repository in the cache, as the hub's client stores it: blobs, and links to them in a snapshot."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    for folder in (snapshot, place / "blobs", place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    for name, content in files.items():
        blob = place / "blobs" / f"{commit}-{name}"
        if isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values()):
            save_file(content, blob)
        else:
            blob.write_text(json.dumps(content))
        (snapshot / name).symlink_to(blob)
    return snapshot


def of_timm(cache, **changed):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3, img_size=64)
    cfg = {"input_size": [3, 64, 64], "fixed_input_size": True, "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": cfg, "label_names": ["b", "a", "c"]}
    config |= changed
    return model, stored(cache, "org/small", {"config.json": config, "model.safetensors": model.state_dict()})


def refusal(text, *arguments, **keywords):
    with pytest.raises(ViceError) as refused:
        model_by_name(text, *arguments, **keywords)
    return f"{refused.value.message} {refused.value.way_out}"


def test_a_network_of_timm(cache):
    model, _ = of_timm(cache)
    named = model_by_name("hf-hub:org/small")
    assert source_of("hf_hub:org/small") == ("hf-hub", "org/small")
    assert (named.outputs, named.size, named.mean, named.std) == (3, 64, (0.5,) * 3, (0.25,) * 3)
    assert (named.names, named.label) == (("b", "a", "c"), "org_small")
    assert named.made_by == {"architecture": "test_vit", "network": "hf-hub:org/small", "revision": HASH}
    for name, value in model.state_dict().items():
        assert torch.equal(value, named.model.state_dict()[name])
    assert model_by_name(f"hf-hub:org/small@{HASH}").made_by["revision"] == HASH


def test_the_first_form_of_timms_description_states_mean_and_std_too(cache):
    model, _ = of_timm(cache)
    first = {"architecture": "test_vit", "input_size": [3, 64, 64], "mean": [0.4] * 3, "std": [0.2] * 3}
    first |= {"fixed_input_size": True, "num_classes": 3, "labels": ["x", "y", "z"]}
    stored(cache, "org/first", {"config.json": first, "model.safetensors": model.state_dict()})
    named = model_by_name("hf-hub:org/first")
    assert (named.outputs, named.size, named.mean, named.std) == (3, 64, (0.4,) * 3, (0.2,) * 3)
    assert named.names == ("x", "y", "z")


def test_the_size_that_the_network_is_built_with_is_that_of_its_images(cache):
    model = timm.create_model("test_vit", num_classes=3, img_size=96)
    cfg = {"input_size": [3, 64, 64], "fixed_input_size": True, "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": cfg}
    stored(cache, "org/large", {"config.json": config, "model.safetensors": model.state_dict()})
    assert model_by_name("hf-hub:org/large", None, {"img_size": 96}).size == 96
    config["model_args"] = {"img_size": 96}
    stored(cache, "org/large", {"config.json": config, "model.safetensors": model.state_dict()}, "f" * 40)
    assert model_by_name("hf-hub:org/large").size == 96


def test_what_is_not_in_the_cache_is_refused(cache, tmp_path):
    message = refusal("hf-hub:org/small")
    assert f"must be in the cache {cache}, but is not; vice downloads nothing." in message
    assert "Download it once: hf download org/small." in message
    _, snapshot = of_timm(cache)
    assert "at revision v2 must be in the cache" in refusal("hf-hub:org/small@v2")
    assert "hf download org/small --revision v2" in refusal("hf-hub:org/small@v2")
    assert "must be followed by ORG/NAME, but is followed by 'small'" in refusal("hf-hub:small")
    assert "has a classifier of its own" in refusal("hf-hub:org/small", names=ClassNames(("a",), tmp_path / "p.yaml"))
    (snapshot / "model.safetensors").unlink()
    assert "must hold model.safetensors or pytorch_model.bin, but holds neither" in refusal("hf-hub:org/small")
    of_timm(cache.parent / "other", num_classes=0)
    stored(cache, "org/none", {"config.json": {"architecture": "test_vit", "num_classes": 0}})
    assert "must state a number of classes, but it is 0" in refusal("hf-hub:org/none")
    stored(cache, "org/clip", {"open_clip_config.json": {"model_cfg": {}}})
    assert "Give --model open_clip:NAME --weights FILE" in refusal("hf-hub:org/clip")
    stored(cache, "org/other", {"config.json": {"layers": 3}})
    assert "must be a network of timm or transformers" in refusal("hf-hub:org/other")


def test_the_way_out_with_a_file_of_weights_works(cache, tmp_path):
    model, snapshot = of_timm(cache)
    (snapshot / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "own.pth")
    named = model_by_name("hf-hub:org/small", tmp_path / "own.pth")
    assert torch.equal(named.model.head.weight, model.head.weight)
    assert named.made_by["weights"] == "own.pth"


def test_on_the_command_line(cache, tmp_path, capsys):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10)
    config = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    stored(cache, "org/net", {"config.json": config, "model.safetensors": model.state_dict()})
    write_digits(tmp_path / "digits", train=2, val=4, test=2, size=48)
    given = ["assess", "--data", tmp_path / "digits", "--controls", "none", "--device", "cpu"]
    status, _, error = vice(capsys, *given, "--model", "hf-hub:org/net", "--out", tmp_path / "t")
    assert status == 0, error
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    assert (manifest["made_by"]["network"], manifest["made_by"]["revision"]) == ("hf-hub:org/net", HASH)
    assert manifest["map_settings"]["view_size"] == 64


@pytest.mark.slow
def test_a_classifier_of_transformers(cache, tmp_path):
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = t.ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=64, patch_size=16,
        id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1},
    )  # fmt: skip
    model = t.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "vit")
    said = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    files = {
        "config.json": json.loads((tmp_path / "vit" / "config.json").read_text()),
        "preprocessor_config.json": said,
    }
    stored(cache, "google/vit", {**files, "model.safetensors": model.state_dict()})
    named = model_by_name("hf-hub:google/vit")
    assert (named.outputs, named.size, named.mean, named.names) == (2, 64, (0.5,) * 3, ("a", "b"))
    assert named.made_by["network"] == "hf-hub:google/vit"
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(named.model(images).logits, model(images).logits)
