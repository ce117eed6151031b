"""Networks of one channel, of one logit and of several outputs, without a wrapper of the user's own."""

from __future__ import annotations

import types
import warnings
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from torch import nn

import torchvice
from command import vice
from torchvice import Explainer
from torchvice.assessment.outputs import refuse_probabilities
from torchvice.data import VocDataset
from torchvice.errors import ViceError
from torchvice.models.adapt import GREY, converted_channels, output_count, taking_rgb
from torchvice.runs.class_maps import read_class_map
from torchvice.runs.subject import _groups, subject_from_weights

IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
SIZES = {"view_size": 64, "crop": 64, "device": "cpu"}


def network(classes=2, **arguments):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=classes, **arguments).eval()
    nn.init.normal_(model.fc.weight, std=1)
    return model


class Around(nn.Module):
    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images):
        return self.change(self.network(images))


class FromRgb(nn.Module):
    """The wrapper that a user had to write."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images * torch.tensor(GREY).to(images).view(1, 3, 1, 1)).sum(1, keepdim=True))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folders in VOC's layout: `one` class, or `two` classes with one label an image."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for name, classes in {"one": ("red",), "two": ("red", "blue")}.items():
        root = folder / name
        for part in ("JPEGImages", "SegmentationClass"):
            (root / part).mkdir(parents=True)
        (root / "classes.txt").write_text("\n".join(classes) + "\n")
        (root / "val.txt").write_text("".join(f"im{i}\n" for i in range(8)))
        for i in range(8):
            image, mask = rng.integers(60, 120, (64, 64, 3)).astype(np.uint8), np.zeros((64, 64), np.uint8)
            mask[8:40, 8 + i : 40 + i] = i % len(classes) + 1
            image[mask > 0, 2 * (i % len(classes))] = 230
            Image.fromarray(image).save(root / "JPEGImages" / f"im{i}.png")
            Image.fromarray(mask).save(root / "SegmentationClass" / f"im{i}.png")
    return folder


def dataset(pictures, name):
    return VocDataset(pictures / name, "val")


@pytest.mark.parametrize("method", ["auto", "layercam"])
def test_a_network_of_one_channel_sees_the_grey_of_rgb_images(method):
    grey = network(in_chans=1)
    expected, found = Explainer(FromRgb(grey), method), Explainer(grey, method)
    assert found.site.layer == expected.site.layer.removeprefix("network.")
    torch.testing.assert_close(found(IMAGES, [[0], [1], [0, 1]]).maps, expected(IMAGES, [[0], [1], [0, 1]]).maps)
    assert grey(IMAGES[:, :1]).shape == (3, 2)  # the caller's network takes one channel as before
    assert not grey._forward_pre_hooks


def test_a_network_that_converts_images_itself_is_left_alone():
    for model in (network(), FromRgb(network(in_chans=1)), network(in_chans=4)):
        assert taking_rgb(model) is model
    grey = taking_rgb(network(in_chans=1))
    assert taking_rgb(grey) is grey
    assert (converted_channels(grey), converted_channels(network())) == (1, None)
    assert (output_count(grey), output_count(network(in_chans=4))) == (2, None)


def test_grey_is_said_kept_and_normalised_alike_in_all_channels(pictures, tmp_path):
    two = dataset(pictures, "two")
    grey = network(in_chans=1)
    with pytest.warns(UserWarning, match="takes one channel: images are converted to grey"):
        found = torchvice.assess(grey, two, out=tmp_path / "a", mean=[0.4], std=[0.2], controls=True, **SIZES)
    assert found.manifest["model"]["channels"] == 1
    assert found.manifest["model"]["grey"] == list(GREY)
    assert found.manifest["map_settings"]["mean"] == [0.4, 0.4, 0.4]
    values = np.asarray(Image.open(two.records[0].image)).astype(np.float32) @ np.array(GREY, np.float32) / 255
    with torch.no_grad():
        logits = grey(torch.tensor((values - 0.4) / 0.2)[None, None])[0]
    np.testing.assert_allclose(found.of_view("warp64").logits[0], logits, atol=1e-4)
    with pytest.raises(ViceError, match=r"`mean` must be one number for a network of one channel.*\s.*--mean NUMBER"):
        torchvice.assess(grey, two, out=tmp_path / "b", mean=[0.4, 0.5, 0.6], std=[0.2], **SIZES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usual = torchvice.assess(network(), two, out=tmp_path / "c", **SIZES)
    assert "channels" not in usual.manifest["model"]
    assert "output" not in usual.manifest["map_settings"]


@pytest.mark.parametrize("squeezed", [lambda z: z, lambda z: z[:, 0], lambda z: z.squeeze()])
def test_one_logit_an_image_is_a_class(squeezed, pictures, tmp_path):
    model = network(1)
    expected, found = Explainer(model), Explainer(Around(model, squeezed))
    assert (found.method, expected.method) == ("cam", "cam")
    for images in (IMAGES, IMAGES[:1]):
        a, b = (explainer(images, [[0]] * len(images)) for explainer in (expected, found))
        assert a.logits.shape == b.logits.shape == (len(images), 1)
        torch.testing.assert_close(a.maps, b.maps)
    table = torchvice.assess(Around(model, squeezed), dataset(pictures, "one"), out=tmp_path, outputs="logits", **SIZES)
    assert table.images.logits.shape == (16, 1)
    assert table.manifest["classes"] == ["red"]


def test_one_logit_for_two_classes_of_which_the_class_map_names_one(pictures, tmp_path):
    model, two = network(1), dataset(pictures, "two")
    settings = {"targets": "exclusive", **SIZES}
    with pytest.raises(ViceError, match=r"each of 2 classes, but has 1\.\s+Say which class its logit means.*\[0\]"):
        torchvice.assess(model, two, out=tmp_path / "a", **settings)
    tables = [
        torchvice.assess(model, two, out=tmp_path / str(i), class_map=groups, outputs="logits", **settings)
        for i, groups in enumerate(([[], [0]], [[0], []]))
    ]
    logits = [table.of_view("warp64").logits for table in tables]
    np.testing.assert_array_equal(logits[0], logits[1][:, ::-1])
    np.testing.assert_array_equal(logits[0][:, 0], -logits[0][:, 1])
    single = Explainer(model).logits(torch.stack([_shown(two.image(i)) for i in range(8)]))[:, 0].numpy()
    np.testing.assert_allclose(logits[0][:, 1], single / 2, atol=1e-5)
    np.testing.assert_allclose(  # the softmax is the network's sigmoid
        np.exp(logits[0][:, 1]) / np.exp(logits[0]).sum(1), 1 / (1 + np.exp(-single)), rtol=1e-5
    )
    assert tables[1].manifest["model"]["class_map"] == [[0], []]
    with pytest.raises(ViceError, match=r"names none for one of two\.\s+.*--targets exclusive"):
        torchvice.assess(model, two, out=tmp_path / "b", class_map=[[], [0]], **SIZES)
    with pytest.raises(ViceError, match=r"one logit, but it returns shape \(1, 2\)"):
        torchvice.assess(network(2), two, out=tmp_path / "c", class_map=[[], [0]], **settings)
    with pytest.raises(ViceError, match=r"classes 0 and 1 have the same: \[0\]"):
        torchvice.assess(model, two, out=tmp_path / "d", class_map=[[0], [0]], **settings)


def _shown(image):
    return (torch.tensor(image).permute(2, 0, 1) / 255 - 0.5) / 0.5


def test_one_logit_of_two_classes_means_both_and_otherwise_the_class_alone(tmp_path):
    path, weights = tmp_path / "map.yaml", tmp_path / "net.py"
    path.write_text(yaml.safe_dump({"blue": 0}))
    assert read_class_map(path, ["red", "blue"], 1) == [[], [0]]
    weights.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))\n"
    )

    def asked(targets):
        data = SimpleNamespace(classes=("red", "blue"), targets=np.array(targets), split="val")
        subject = subject_from_weights(f"{weights}:build", None, data, tmp_path / "out", path)
        return subject.dataset.classes, subject.settings.class_map

    assert asked([[1, 0], [0, 1]]) == (("red", "blue"), [[], [0]])
    assert asked([[1, 0], [1, 1]]) == (("blue",), [[0]])  # red is not the rest


def test_outputs_are_assigned_by_their_names_where_the_network_has_them():
    classes = ["cat", "dog"]
    assert _groups(None, classes, 2, ()) == (None, [])
    assert _groups(None, classes, 2, ("Cat", "Dog")) == (None, [])
    groups, notes = _groups(None, classes, 3, ("dog", "cow", "cat"))
    assert groups == [[2], [0]]
    assert "by the names" in notes[0]
    groups, notes = _groups(None, classes, 2, ("tabby", "poodle"))
    assert groups is None
    assert "in their order" in notes[0]
    with pytest.raises(ViceError, match=r"names output 0 `dog`.*this is class 1 of the data.*\s+.*--class-map FILE"):
        _groups(None, classes, 2, ("dog", "tabby"))
    with pytest.raises(ViceError, match="each of 2 classes, but has 3"):
        _groups(None, classes, 3, ("cow", "cat", "cat"))


def test_probabilities_of_one_logit_are_noticed():
    p = np.linspace(0.1, 0.9, 9)[:, None]
    for halves in (np.hstack([-p / 2, p / 2]), np.hstack([p / 2, -p / 2])):
        with pytest.raises(ViceError, match="look like probabilities"):
            refuse_probabilities(halves, True)
    z = np.linspace(-2, 2, 9)[:, None]
    refuse_probabilities(np.hstack([-z / 2, z / 2]), True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda z: {"main": z, "aux": -z}, "main"),
        (lambda z: types.SimpleNamespace(main=z, logits=-z), "main"),
        (lambda z: (-z, z), "1"),
    ],
)
def test_one_of_several_outputs_is_chosen(change, name, pictures, tmp_path):
    model = network()
    expected = Explainer(model)(IMAGES, [[0], [1], [0]])
    found = Explainer(Around(model, change), output=name)(IMAGES, [[0], [1], [0]])
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.maps, expected.maps)
    with pytest.raises(ViceError, match="must have an output 'nain'"):
        Explainer(Around(model, change), output="nain")
    with pytest.raises(ViceError, match=r"returns a single tensor\.\s+Leave --output out"):
        Explainer(model, output=name)
    two = dataset(pictures, "two")
    tables = [
        torchvice.assess(each, two, out=tmp_path / str(i), output=chosen, **SIZES)
        for i, (each, chosen) in enumerate([(model, None), (Around(model, change), name)])
    ]
    np.testing.assert_array_equal(tables[0].images.logits, tables[1].images.logits)
    assert tables[1].manifest["map_settings"]["output"] == name
    with pytest.raises(ViceError, match=r"`output` is '.*' in the table, but not set now"):
        torchvice.assess(model, two, out=tmp_path / "1", **SIZES)


class Lit(lightning.LightningModule):
    """A module as users of Lightning write it."""

    def __init__(self, in_chans=3):
        super().__init__()
        self.save_hyperparameters()
        self.net, self.loss = network(in_chans=in_chans), nn.CrossEntropyLoss()

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, _):
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_modules(pictures, tmp_path):
    lit, two = Lit(), dataset(pictures, "two")
    data = torch.utils.data.DataLoader(list(zip(IMAGES, (0, 1, 1), strict=True)), 3)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_steps=1, default_root_dir=tmp_path, enable_model_summary=False, **quiet).fit(lit, data)
    lit.eval()
    torch.testing.assert_close(
        Explainer(lit)(IMAGES, [[0], [1], [0]]).maps, Explainer(lit.net)(IMAGES, [[0], [1], [0]]).maps
    )
    a, b = (
        torchvice.assess(model, two, out=tmp_path / name, controls=True, **SIZES)
        for name, model in {"lit": lit, "net": lit.net}.items()
    )
    np.testing.assert_array_equal(a.images.logits, b.images.logits)
    np.testing.assert_array_equal(a.regions.predicted, b.regions.predicted)
    grey = Lit(in_chans=1)
    assert Explainer(grey)(IMAGES, [[0]] * 3).maps.shape[0] == 3


BUILD = """
import timm, torch

def grey():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=2, in_chans=1)

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = timm.create_model("test_resnet", num_classes=2)
    def forward(self, images):
        z = self.net(images)
        return {"main": z, "aux": z[:, :1]}

def binary():
    torch.manual_seed(0)
    return torch.nn.Sequential(timm.create_model("test_resnet", num_classes=1), torch.nn.Flatten(0))
"""


def test_the_command_takes_them(pictures, tmp_path, capsys):
    (tmp_path / "build.py").write_text(BUILD)
    (tmp_path / "map.yaml").write_text("blue: 0\n")
    folder = dataset(pictures, "two").root
    given = ("--data", folder, "--view-size", 64, "--crop", 64, "--controls", "none", "--device", "cpu")

    def run(name, *more):
        return vice(
            capsys, "assess", "--model", f"{tmp_path / 'build.py'}:{name}", *given, "--out", tmp_path / name, *more
        )

    status, said, _ = run("grey")
    assert status == 0
    assert "The network takes one channel: images are converted to grey." in said
    status, _, error = run("Two")
    assert status == 2
    assert "--output NAME" in error
    status, _, error = run("Two", "--output", "main")
    assert status == 0, error
    status, _, error = run("Two", "--output", "mian")
    assert status == 2
    assert "Did you mean `main`?" in error
    status, _, error = run("binary", "--targets", "exclusive")
    assert status == 2
    assert "--class-map FILE that names this class alone" in " ".join(error.split())
    status, _, error = run(
        "binary", "--targets", "exclusive", "--class-map", tmp_path / "map.yaml", "--outputs", "logits"
    )
    assert status == 0, error
