"""Every way out of the refusals of networks of transformers and open_clip is done, with these packages."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from torch import nn

from torchvice import Explainer
from torchvice.errors import ViceError
from torchvice.explain.attention_blocks import attention_blocks
from torchvice.models.named import model_by_name
from torchvice.models.prompts import ClassNames
from torchvice.models.zero_shot import zero_shot
from ways_out import tried

pytestmark = pytest.mark.slow
HASH = "0123456789abcdef0123456789abcdef01234567"
NAMES = ClassNames(("cat", "dog"))
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VISION = {**SIZES, "image_size": 64, "patch_size": 16}
TEXT = {**SIZES, "vocab_size": 31, "max_position_embeddings": 40, "eos_token_id": 30, "pad_token_id": 28}
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def suggested(wrong, pattern=r"`(.+?)`"):
    """What the way out of a refusal names."""
    with pytest.raises(ViceError) as caught:
        wrong()
    found = re.search(pattern, caught.value.way_out)
    assert found is not None, caught.value.way_out
    return found[1]


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def open_clip():
    return pytest.importorskip("open_clip")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path / "home" / "hub"


def snapshot_of(cache, repository):
    """The folder of a repository in the cache, as the hub's client makes it."""
    place = cache / f"models--{repository.replace('/', '--')}"
    for folder in (place / "snapshots" / HASH, place / "refs"):
        folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(HASH)
    return place / "snapshots" / HASH


def vit_of(transformers):
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=2)).eval()


def clip_of(transformers):
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
    return transformers.CLIPModel(config).eval()


def tokenizer_of(transformers):
    """A tokenizer of single letters, whose last token ends a text."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = {letter: number for number, letter in enumerate(" abcdefghijklmnopqrstuvwxyz.")}
    words = {"<pad>": 28, "<unk>": 29, "<end>": 30}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({**letters, **words}, "<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    made.post_processor = tokenizers.processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 30)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


def image_processor_of(transformers):
    how = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    kind = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    return kind(**how)


def test_a_folder_that_is_missing_or_lacks_its_weights(transformers, tmp_path):
    model = vit_of(transformers)

    def by(path):
        return model_by_name(f"transformers:{path}").model(IMAGES).logits

    def save(path):
        model.save_pretrained(path)
        image_processor_of(transformers).save_pretrained(path)
        return by(path)

    says = "Save it with model.save_pretrained(FOLDER) and processor.save_pretrained(FOLDER)."
    expected = model(IMAGES).logits
    assert torch.equal(tried(lambda: by(tmp_path / "saved"), says, lambda: save(tmp_path / "saved")), expected)
    near = suggested(lambda: by(tmp_path / "saveed"))
    assert torch.equal(tried(lambda: by(tmp_path / "saveed"), "Did you mean", lambda: by(near)), expected)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}")
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert torch.equal(tried(lambda: by(tmp_path / "old"), says, lambda: save(tmp_path / "old")), expected)


def test_a_folder_of_something_else(transformers, tmp_path):
    def by(path):
        return model_by_name(f"transformers:{path}").outputs

    vit_of(transformers).save_pretrained(tmp_path / "classifier")
    vit_of(transformers).vit.save_pretrained(tmp_path / "backbone")
    says = "Give the folder of a classifier that was trained, not that of its backbone."
    assert tried(lambda: by(tmp_path / "backbone"), says, lambda: by(tmp_path / "classifier")) == 2
    config = transformers.BertConfig(**SIZES, vocab_size=31)
    transformers.BertModel(config).save_pretrained(tmp_path / "words")
    says = "Give the folder that save_pretrained of a classifier wrote."
    assert tried(lambda: by(tmp_path / "words"), says, lambda: by(tmp_path / "classifier")) == 2


class ViTForImageClassification(nn.Linear):
    """Of transformers by its name alone, as in a version whose attention cannot be read."""


def test_this_version_of_transformers_shows_its_attention(transformers):
    old = ViTForImageClassification(2, 2)
    found = tried(lambda: attention_blocks(old), "Update transformers.", lambda: attention_blocks(vit_of(transformers)))
    assert found.count == 2


def test_legrad_of_transformers_is_replaced_by_gradcam(transformers):
    model = vit_of(transformers)
    found = tried(
        lambda: Explainer(model, "legrad")(IMAGES, [[0]]),
        "Use method='gradcam'",
        lambda: Explainer(model, "gradcam")(IMAGES, [[0]]),
    )
    assert found.maps.shape == (1, 4, 4)


def test_a_repository_that_is_not_in_the_cache_is_given_as_a_folder(transformers, cache, tmp_path):
    vit_of(transformers).save_pretrained(tmp_path / "vit")
    says = "Or give --model transformers:FOLDER"
    found = tried(
        lambda: model_by_name("hf-hub:org/vit"), says, lambda: model_by_name(f"transformers:{tmp_path / 'vit'}")
    )
    assert found.outputs == 2


def test_transformers_is_installed(transformers, tmp_path, monkeypatch):
    vit_of(transformers).save_pretrained(tmp_path / "vit")

    def without():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "transformers", None)
            model_by_name(f"transformers:{tmp_path / 'vit'}")

    says = "Install it: pip install transformers."
    assert tried(without, says, lambda: model_by_name(f"transformers:{tmp_path / 'vit'}")).outputs == 2


def test_a_zero_shot_classifier_without_a_tokenizer(transformers, tmp_path):
    clip_of(transformers).save_pretrained(tmp_path / "clip")
    processor = transformers.CLIPProcessor(
        image_processor=image_processor_of(transformers), tokenizer=tokenizer_of(transformers)
    )

    def by():
        return model_by_name(f"transformers:{tmp_path / 'clip'}", names=NAMES)

    def save():
        processor.save_pretrained(tmp_path / "clip")
        return by()

    found = tried(by, "Save it with processor.save_pretrained(FOLDER).", save)
    assert (found.outputs, found.mean, found.std) == (2, (0.5,) * 3, (0.25,) * 3)


def test_the_processor_states_mean_and_std(transformers):
    model, tokenizer = clip_of(transformers), tokenizer_of(transformers)
    processor = transformers.CLIPProcessor(image_processor=image_processor_of(transformers), tokenizer=tokenizer)
    found = tried(
        lambda: zero_shot(model, tokenizer, NAMES.classes),
        "Give the processor of the model in place of its tokenizer",
        lambda: zero_shot(model, processor, NAMES.classes),
    )
    assert found.pretrained_cfg["mean"] == (0.5,) * 3


def test_prompts_of_a_classifier_are_those_of_a_zero_shot_classifier(transformers, tmp_path):
    vit_of(transformers).save_pretrained(tmp_path / "vit")
    clip_of(transformers).save_pretrained(tmp_path / "clip")
    tokenizer_of(transformers).save_pretrained(tmp_path / "clip")
    (tmp_path / "prompts.yaml").write_text(json.dumps({"templates": ["a {}."]}))
    names = ClassNames(NAMES.classes, tmp_path / "prompts.yaml")
    found = tried(
        lambda: model_by_name(f"transformers:{tmp_path / 'vit'}", names=names),
        "or give open_clip:NAME or transformers:FOLDER of a CLIPModel or SiglipModel.",
        lambda: model_by_name(f"transformers:{tmp_path / 'clip'}", names=names),
    )
    assert found.made_by["prompts"] == "prompts.yaml"


def weights_of(open_clip, path, name="ViT-B-32", **settings):
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained_text=False, **{**SMALL, **settings})
    torch.save(model.state_dict(), path)
    return path


def test_networks_of_open_clip(open_clip, tmp_path):
    path = weights_of(open_clip, tmp_path / "w.pth")

    def by(name="ViT-B-32", **arguments):
        return model_by_name(f"open_clip:{name}", path, SMALL | arguments, names=NAMES)

    near = suggested(lambda: by("ViT-B-3"))
    assert tried(lambda: by("ViT-B-3"), "Did you mean", lambda: by(near)).outputs == 2
    assert tried(lambda: by(pretrained="openai"), "Leave it out.", by).outputs == 2
    says = "Check --argument NAME=VALUE, and the name of the network."
    assert tried(lambda: by(embed_dimm=3), says, by).outputs == 2


def test_open_clip_is_installed(open_clip, tmp_path, monkeypatch):
    path = weights_of(open_clip, tmp_path / "w.pth")

    def without():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "open_clip", None)
            model_by_name("open_clip:ViT-B-32", path, SMALL, names=NAMES)

    says = "Install it: pip install open_clip_torch."
    assert tried(without, says, lambda: model_by_name("open_clip:ViT-B-32", path, SMALL, names=NAMES)).outputs == 2


NAME = "ViT-B-16-SigLIP"


def siglip(open_clip, folder):
    """A function that builds a small network whose tokenizer is that of a repository."""
    text = {"context_length": 64, "vocab_size": 31, "width": 32, "heads": 2, "layers": 1}
    settings = {"embed_dim": 16, "vision_cfg": SMALL["vision_cfg"], "text_cfg": text}
    path = weights_of(open_clip, folder / "w.pth", NAME, **settings)
    return lambda: model_by_name(f"open_clip:{NAME}", path, settings, names=NAMES)


def test_a_tokenizer_of_open_clip_is_downloaded(open_clip, transformers, cache, tmp_path):
    by = siglip(open_clip, tmp_path)

    def download():
        snapshot = snapshot_of(cache, f"timm/{NAME}")
        tokenizer_of(transformers).save_pretrained(snapshot)
        (snapshot / "config.json").write_text('{"model_type": "siglip"}')
        return by()

    assert tried(by, "Download it once: ", download).outputs == 2


def test_a_tokenizer_of_a_repository_without_config_json(open_clip, transformers, cache, tmp_path):
    by = siglip(open_clip, tmp_path)

    def download():
        snapshot = snapshot_of(cache, f"timm/{NAME}")
        tokenizer_of(transformers).save_pretrained(snapshot)
        missing = snapshot.parents[1] / ".no_exist" / HASH
        missing.mkdir(parents=True)
        (missing / "config.json").touch()
        return by()

    says = f"open_clip.get_tokenizer('{NAME}')"
    assert tried(by, says, download).outputs == 2


def test_a_repository_of_open_clip_is_given_by_its_name_and_file(open_clip, cache):
    snapshot = snapshot_of(cache, "org/clip")
    (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}}))
    weights_of(open_clip, snapshot / "open_clip_pytorch_model.bin")

    def wrong():
        return model_by_name("hf-hub:org/clip", names=NAMES)

    folder = suggested(wrong, r"with a file of (\S+)\.$")
    found = tried(
        wrong,
        "Give --model open_clip:NAME --weights FILE",
        lambda: model_by_name("open_clip:ViT-B-32", f"{folder}/open_clip_pytorch_model.bin", SMALL, names=NAMES),
    )
    assert found.outputs == 2
