"""Zero-shot classifiers: prompts, and logits that are those of open_clip and transformers on random weights."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from command import vice
from torchvice import Explainer, assess
from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.views import views_of
from torchvice.data import open_dataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.explain import METHODS
from torchvice.models.named import model_by_name, source_of
from torchvice.models.prompts import ClassNames, Prompts, read_prompts
from torchvice.models.zero_shot import ZeroShot, zero_shot

CLASSES = ("cat", "sea_lion", "dog")
TEMPLATES = ["a photo of a {}.", "a drawing of a {}"]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def refusal(function, *arguments, **keywords):
    with pytest.raises(ViceError) as refused:
        function(*arguments, **keywords)
    return f"{refused.value.message} {refused.value.way_out}"


def prompts_file(path, content):
    (path / "prompts.yaml").write_text(json.dumps(content))
    return path / "prompts.yaml"


def test_prompts_are_templates_or_texts_of_each_class(tmp_path):
    assert read_prompts(None, CLASSES).texts == (
        ("a photo of a cat.",),
        ("a photo of a sea lion.",),
        ("a photo of a dog.",),
    )
    both = read_prompts(prompts_file(tmp_path, {"templates": TEMPLATES}), CLASSES)
    assert both.texts[1] == ("a photo of a sea lion.", "a drawing of a sea lion")
    assert both.origin == "prompts.yaml"
    own = {"dog": ["a dog", "a puppy"], "cat": "a cat", "sea_lion": "{} is no template here"}
    assert read_prompts(prompts_file(tmp_path, own), CLASSES).texts == (
        ("a cat",), ("{} is no template here",), ("a dog", "a puppy")
    )  # fmt: skip
    # A class may be called templates.
    assert Prompts.of(["templates"], {"templates": "files to copy"}).texts == (("files to copy",),)
    assert Prompts.of(CLASSES, "a {}").texts[0] == ("a cat",)
    assert Prompts.of(CLASSES).sha256 != Prompts.of(CLASSES, "a {}").sha256


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"cat": "a cat", "dog": "a dog"}, "1 of 3 have none: ['sea_lion']. Add them, or give `templates`"),
        ({"cat": "a", "dog": "b", "sea lion": "c"}, "name `sea lion`, which is no class of the data. Did you mean"),
        ({"cat": "a", "dog": "b", "sea_lion": 3}, "must be a text or a list of texts, but is 3"),
        ({"cat": "a", "dog": "b", "sea_lion": ["", "x"]}, "but one is ''"),
        ({"templates": ["a photo"]}, "A template must hold {}, but is 'a photo'. For example 'a photo of a {}.'"),
        ({"templates": []}, "must be a text or a list of texts, but is []"),
        ({"templates": TEMPLATES, "cat": "a cat"}, "both are given. Leave `templates` out"),
        (["a photo of a {}."], "must map classes to prompts, but is a list"),
        (None, "must map classes to prompts, but is empty"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(content, expected, tmp_path):
    assert expected in refusal(read_prompts, prompts_file(tmp_path, content), CLASSES)


def test_what_needs_prompts_and_what_takes_none(tmp_path, monkeypatch):
    assert source_of("open_clip:ViT-B-32") == ("open_clip", "ViT-B-32")
    assert "there are none" in refusal(Prompts.of, [])
    names = ClassNames(CLASSES, prompts_file(tmp_path, {"templates": TEMPLATES}))
    message = refusal(model_by_name, "torchvision:resnet18", tmp_path / "w.pth", names=names)
    assert "torchvision:resnet18 has a classifier of its own. Leave --prompts out" in message
    assert "needs a local file of weights" in refusal(model_by_name, "open_clip:ViT-B-32")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    (tmp_path / "w.pth").write_bytes(b"")
    assert "pip install open_clip_torch" in refusal(model_by_name, "open_clip:ViT-B-32", tmp_path / "w.pth")
    assert "but the model is a Linear" in refusal(zero_shot, nn.Linear(2, 2), len, CLASSES)


def made_of(texts, scale):
    """A classifier with a tower of positive features, and any number of classes."""
    tower = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels = ((48, 48), (0.5,) * 3, (0.5,) * 3)
    names = Prompts.of([str(i) for i in range(len(texts))])
    return ZeroShot(tower, texts / texts.norm(dim=1, keepdim=True), torch.tensor(scale), None, pixels, names).eval()


def test_logits_that_look_like_per_cent_are_logits(tmp_path):
    # CLIP's are 100 times a cosine, mostly of 0.1 to 0.4.
    write_digits(tmp_path / "digits", train=2, val=12, test=2, size=48)
    model = made_of(torch.rand(10, 8, generator=torch.Generator().manual_seed(0)), 100.0)
    data, how = open_dataset(tmp_path / "digits", "val"), {"controls": False, "device": "cpu", "progress": False}
    assert views_of(model, ["strict"], MapSettings(device="cpu"))["strict"].map_settings.outputs == "logits"
    odds = assess(model, data, **how)  # images of several labels: the log-odds of the softmax
    assert odds.manifest["map_settings"]["outputs"] == "softmax"
    samples = assess(model, data, outputs="logits", **how)
    expected = torch.tensor(samples.images.logits).double().softmax(1).logit().numpy()
    np.testing.assert_allclose(odds.images.logits, expected, rtol=1e-3, atol=1e-4)
    assert 20 < samples.images.logits.max() <= 100
    assert samples.images.logits.min() > 0
    assert samples.manifest["map_settings"]["outputs"] == "logits"
    assert samples.manifest["map_settings"]["view_size"] == 48


def test_logits_are_scale_times_cosine():
    texts = torch.eye(8)[:2]
    model = made_of(texts, 3.0)
    features = model.tower(IMAGES)
    expected = 3 * features[:, :2] / features.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(model(IMAGES), expected)
    half = model.half()(IMAGES.half())
    torch.testing.assert_close(half.float(), expected, rtol=1e-2, atol=1e-2)


SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def open_clip():
    return pytest.importorskip("open_clip")


def of_open_clip(open_clip, name="ViT-B-32", **settings):
    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained_text=False, **{**SMALL, **settings}).eval()


@pytest.mark.slow
@pytest.mark.parametrize("bias", [None, -10.0])
@pytest.mark.parametrize("vision", [{}, {"layers": [1, 1, 1, 1], "patch_size": None}, {"pool_type": "avg"}])
def test_logits_are_those_of_open_clip(open_clip, bias, vision):
    model = of_open_clip(open_clip, vision_cfg={**SMALL["vision_cfg"], **vision}, init_logit_bias=bias)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    made = zero_shot(model, tokenizer, CLASSES, TEMPLATES)
    with torch.no_grad():
        names = ["cat", "sea lion", "dog"]
        weights = open_clip.build_zero_shot_classifier(model, tokenizer, names, TEMPLATES)
        expected = model.logit_scale.exp() * model.encode_image(IMAGES, normalize=True) @ weights + (bias or 0)
        torch.testing.assert_close(made(IMAGES), expected, rtol=1e-4, atol=1e-4)
    assert made.biased == (bias is not None)
    assert made.pretrained_cfg["mean"] == model.visual.preprocess_cfg["mean"]
    assert Explainer(made)(IMAGES, [[0], [2]]).status == ("ok", "ok")
    if vision.get("pool_type") == "avg":
        rollout = Explainer(made, "rollout")(IMAGES, [[0], [2]]).maps
        assert rollout.flatten(1).sum(1).max() < 1  # a part of the mean over patches is of the class token


@pytest.mark.slow
def test_every_method_works_on_open_clip_or_says_why_not(open_clip):
    made = zero_shot(of_open_clip(open_clip), open_clip.get_tokenizer("ViT-B-32"), CLASSES)
    refused = {}
    for method in METHODS:
        try:
            assert len(Explainer(made, method)(IMAGES, [[0], [1, 2]]).maps) == 3
        except ViceError as error:
            refused[method] = error.message
    assert set(refused) == {"cam", "transformer_attribution"}
    assert "needs" in refused["cam"]
    assert "for which there is no relevance rule" in refused["transformer_attribution"]


@pytest.mark.slow
def test_open_clip_on_the_command_line(open_clip, tmp_path, capsys):
    weights = tmp_path / "clip.pth"
    torch.save(of_open_clip(open_clip).state_dict(), weights)
    write_digits(tmp_path / "digits", train=2, val=6, test=2, size=48)
    given = ["assess", "--data", tmp_path / "digits", "--controls", "none", "--device", "cpu", "--weights", weights]
    given += [f"--argument={name}={json.dumps(value)}" for name, value in SMALL.items()]
    given += ["--model", "open_clip:ViT-B-32", "--method", "generic_attention"]
    status, said, error = vice(capsys, *given, "--out", tmp_path / "t")
    assert status == 0, error
    assert "Prompts: the template 'a photo of a {}.'." in said
    assert "open_clip:ViT-B-32-quickgelu" in said
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    assert manifest["made_by"]["network"] == "open_clip:ViT-B-32"
    settings = manifest["map_settings"]
    assert (settings["view_size"], settings["outputs"]) == (64, "softmax")
    assert settings["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    file = prompts_file(tmp_path, {"templates": ["the digit {}", "{}"]})
    assert vice(capsys, *given, "--out", tmp_path / "p", "--prompts", file)[0] == 0
    status, _, error = vice(capsys, *given, "--out", tmp_path / "t", "--prompts", file)
    assert status == 2  # a table of other prompts is not gone on with
    assert vice(capsys, *given[:-4], "--model", "open_clip:ViT-B-3", "--out", tmp_path / "n")[0] == 2
    # The same in Python.
    data = open_dataset(tmp_path / "digits", "val")
    made = zero_shot(of_open_clip(open_clip), open_clip.get_tokenizer("ViT-B-32"), data.classes, ["the digit {}", "{}"])
    samples = assess(made, data, method="generic_attention", controls=False, device="cpu", progress=False)
    assert (
        samples.manifest["model"]["weights_sha256"]
        == json.loads((tmp_path / "p" / "manifest.json").read_text())["model"]["weights_sha256"]
    )


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


def tokenizer_of(transformers, **settings):
    """A tokenizer of single letters, whose last token ends a text."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = {letter: number for number, letter in enumerate(" abcdefghijklmnopqrstuvwxyz.")}
    words = {"<pad>": 28, "<unk>": 29, "<end>": 30}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({**letters, **words}, "<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    made.post_processor = tokenizers.processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 30)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", **settings
    )


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SIZES, "vocab_size": 31, "max_position_embeddings": 40, "eos_token_id": 30, "pad_token_id": 28}
VISION = {**SIZES, "image_size": 64, "patch_size": 16}
PROCESSED = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 64, "width": 64}}


def of_transformers(t, kind):
    torch.manual_seed(0)
    if kind == "clip":
        model = t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16))
    else:
        model = t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=VISION))
        with torch.no_grad():
            model.logit_bias.fill_(-3.0)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_logits_are_those_of_transformers(transformers, kind, tmp_path):
    model, tokenizer = of_transformers(transformers, kind), tokenizer_of(transformers)
    made = zero_shot(model, tokenizer, CLASSES, mean=(0.5,) * 3, std=(0.5,) * 3)
    fill = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 40}
    inputs = tokenizer(
        ["a photo of a cat.", "a photo of a sea lion.", "a photo of a dog."], return_tensors="pt", **fill
    )
    mask = {"attention_mask": inputs["attention_mask"]} if kind == "clip" else {}
    with torch.no_grad():
        expected = model(pixel_values=IMAGES, input_ids=inputs["input_ids"], **mask).logits_per_image
        torch.testing.assert_close(made(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert made.biased == (kind == "siglip")
    for method in ("gradcam", "layercam", "scorecam", "rollout", "generic_attention"):
        if kind == "siglip" and method in ("rollout", "generic_attention"):  # its pooling attends itself
            assert "pooling of tokens is not known" in refusal(Explainer(made, method), IMAGES, [[0], [1]])
            continue
        explainer = Explainer(made, method)
        assert explainer(IMAGES, [[0], [1]]).maps.shape == (2, 4, 4)
        assert explainer.site.prefix_tokens == (1 if kind == "clip" else 0)
    long = refusal(zero_shot, model, tokenizer, CLASSES, "{}" + 60 * "a", mean=(0.5,) * 3, std=(0.5,) * 3)
    assert "must have at most 40 tokens, but one has 64" in long
    assert "mean and std of its images" in refusal(zero_shot, model, tokenizer, CLASSES)
    same = refusal(zero_shot, model, tokenizer, ["a b", "a_b"], mean=(0.5,) * 3, std=(0.5,) * 3)
    assert "'a photo of a a b.' and 'a photo of a a b.' are the same to the model" in same


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_folder_of_transformers_is_a_zero_shot_classifier(transformers, kind, tmp_path, capsys):
    model = of_transformers(transformers, kind)
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    write_digits(tmp_path / "digits", train=2, val=4, test=2, size=48)
    given = ["assess", "--data", tmp_path / "digits", "--controls", "none", "--device", "cpu"]
    given += ["--model", f"transformers:{folder}", "--out", tmp_path / "t"]
    status, _, error = vice(capsys, *given)
    assert status == 2
    assert "must hold the tokenizer of" in error
    tokenizer_of(transformers).save_pretrained(folder)
    status, _, error = vice(capsys, *given)
    assert status == 2
    assert "Give --mean and --std." in error
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSED))
    status, said, error = vice(capsys, *given, "--prompts", prompts_file(tmp_path, {"templates": TEMPLATES}))
    assert status == 0, error
    assert "Prompts: prompts.yaml." in said
    assert ("A zero-shot classifier without a bias compares" in said + error) == (kind == "clip")
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    assert (manifest["map_settings"]["mean"], manifest["map_settings"]["std"]) == ([0.5] * 3, [0.25] * 3)
    assert manifest["made_by"]["prompts"] == "prompts.yaml"
