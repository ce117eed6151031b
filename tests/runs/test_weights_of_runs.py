"""Weights that torchvice trained, given as a file: they are shown the images of their training."""

from __future__ import annotations

import pytest
import timm
import torch

from torchvice.assessment import MapSettings
from torchvice.config import load_settings
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.models.encoder_files import Normalisation, save_encoder
from torchvice.models.weights import read_state_dict
from torchvice.runs.subject import subject_from_weights
from ways_out import tried

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.4, 0.4)
CODE = "import timm\n\ndef build():\n    return timm.create_model('test_resnet', num_classes=10)\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=4, test=2, size=48)
    return VocDataset(root, "val")


@pytest.fixture
def checkpoint(data, tmp_path):
    """Write best.ckpt as a training does, of a network and settings."""

    def write(*overrides, name="test_resnet", classes=data.classes, **arguments):
        given = ["transform={mean: [0.1, 0.2, 0.3], std: [0.4, 0.4, 0.4], crop: 64, interpolation: bicubic}"]
        settings = load_settings("demo", [*given, f"model={{name: {name}, arguments: {arguments}}}", *overrides])
        tensors = timm.create_model(name, num_classes=len(classes), **arguments).state_dict()
        written = {"classes": list(classes), "settings": settings.model_dump(mode="json")}
        torch.save(
            {"state_dict": {f"model.{n}": v for n, v in tensors.items()}, "torchvice": written}, tmp_path / "best.ckpt"
        )
        return tmp_path / "best.ckpt"

    return write


def test_a_checkpoint_of_a_run_is_shown_the_images_of_its_run(data, checkpoint, tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    for name in ("test_resnet", f"{tmp_path / 'mine.py'}:build"):
        subject = subject_from_weights(name, checkpoint("assess.view_size=null"), data, tmp_path / "t")
        made = subject.settings
        assert (made.mean, made.std, made.crop, made.interpolation) == (MEAN, STD, 64, "bicubic")
        assert made.view_size is None  # the network's own, as in the RUN
        said = "Input: crop 64, interpolation bicubic, mean 0.1,0.2,0.3, std 0.4, as best.ckpt was trained with."
        assert subject.notes == (said,)
    subject = subject_from_weights("test_resnet", checkpoint("assess.view_size=72"), data, tmp_path / "t")
    assert subject.settings.view_size == 72


def test_what_the_user_gives_replaces_it(data, checkpoint, tmp_path):
    given = MapSettings(mean=(0.5,) * 3, std=(0.5,) * 3, crop=32, view_size=96, interpolation="bilinear")
    subject = subject_from_weights("test_resnet", checkpoint(), data, tmp_path / "t", settings=given)
    made = subject.settings
    assert (made.mean, made.std, made.crop, made.view_size) == ((0.5,) * 3, (0.5,) * 3, 32, 96)
    assert (made.interpolation, subject.notes) == ("bilinear", ())


def test_files_without_a_training_have_the_input_of_their_source(data, tmp_path):
    model = timm.create_model("test_resnet", num_classes=10)
    torch.save({"state_dict": model.state_dict(), "torchvice": {"settings": []}}, tmp_path / "w.pth")
    subject = subject_from_weights("test_resnet", tmp_path / "w.pth", data, tmp_path / "t")
    assert (subject.settings.mean, subject.settings.crop, subject.notes) == (None, None, ())


def test_metadata_of_safetensors_say_mean_and_std(data, tmp_path):
    model = timm.create_model("test_resnet", num_classes=10)
    path = tmp_path / "w.safetensors"
    save_encoder(path, model.state_dict(), "dino by vice pretrain", Normalisation(MEAN, STD))
    subject = subject_from_weights("test_resnet", path, data, tmp_path / "t")
    assert (subject.settings.mean, subject.settings.std, subject.settings.crop) == (MEAN, STD, None)
    assert subject.notes == ("Input: mean 0.1,0.2,0.3, std 0.4, as w.safetensors was trained with.",)
    found = read_state_dict(path, {name: value.shape for name, value in model.state_dict().items()})
    assert found.trained.normalisation == Normalisation(MEAN, STD)


def test_outputs_of_a_run_go_to_the_classes_of_their_names(data, checkpoint, tmp_path):
    turned = tuple(reversed(data.classes))
    subject = subject_from_weights("test_resnet", checkpoint(classes=turned), data, tmp_path / "t")
    assert subject.settings.class_map == [[9 - i] for i in range(10)]
    assert "Outputs are assigned to the classes by the names in best.ckpt." in subject.notes
    others = tuple(f"c{i}" for i in range(10))
    subject = subject_from_weights("test_resnet", checkpoint(classes=others), data, tmp_path / "t")
    assert subject.settings.class_map is None
    assert "best.ckpt has other names than the classes: outputs are taken in their order." in subject.notes
    mixed = (data.classes[1], "c", *data.classes[2:])
    with pytest.raises(ViceError, match=f"best.ckpt names output 0 `{data.classes[1]}`, but this is class 1"):
        subject_from_weights("test_resnet", checkpoint(classes=mixed), data, tmp_path / "t")


def test_another_network_with_the_same_tensors_is_refused(data, checkpoint, tmp_path):
    def subject(name="test_vit", **arguments):
        return subject_from_weights(name, path, data, tmp_path / "t", arguments=arguments)

    path = checkpoint(name="test_vit", num_heads=4, proj_drop_rate=0.1)
    option = "Give --argument num_heads=4."
    made = tried(subject, option, lambda: subject(num_heads=4))
    assert made.model.blocks[0].attn.num_heads == 4
    assert subject(num_heads=2).model.blocks[0].attn.num_heads == 2  # as given

    path = checkpoint(name="tf_efficientnet_b0")
    tried(lambda: subject("efficientnet_b0"), "Give --model tf_efficientnet_b0.", lambda: subject("tf_efficientnet_b0"))
