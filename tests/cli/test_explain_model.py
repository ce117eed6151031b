"""`vice explain --model ...`: the maps of any network and data that `vice assess` takes; images without labels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from command import vice
from small_networks import moving_resnet
from torchvice import ViceError
from torchvice.data import open_images
from torchvice.data.digits import write_digits
from torchvice.samples import Samples

PIXELS = ("--view-size", 64, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.4", "--device", "cpu")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """set (digits), w.pth of a test_resnet for them, and photos of three sizes without labels."""
    root = tmp_path_factory.mktemp("explained")
    write_digits(root / "set", train=2, val=6, test=2, size=48)
    torch.save(moving_resnet().state_dict(), root / "w.pth")
    (root / "photos" / "more").mkdir(parents=True)
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{seed}.png")
    return root


def explained(capsys, here, out, *given):
    network = ("--model", "test_resnet", "--weights", here / "w.pth", *PIXELS)
    return vice(capsys, "explain", *network, *given, "--maps", out)


def test_the_maps_are_those_of_the_table(here, tmp_path, capsys):
    network = ("--model", "test_resnet", "--weights", here / "w.pth", "--data", here / "set", *PIXELS)
    network += ("--method", "gradcam", "--layer", "layer3", "--choice", "mirror=true")
    alone = ("--protocol", "strict", "--controls", "none", "--without", "none")
    status, _, err = vice(capsys, "assess", *network, *alone, "--out", tmp_path / "own")
    assert status == 0, err
    status, said, err = vice(capsys, "explain", *network, "--format", "legacy", "--maps", tmp_path / "maps")
    assert status == 0, err
    assert "6 files written" in said
    own = Samples.load(tmp_path / "own").of_protocol("strict")
    rows = [[name, *map(float, row)] for name, row in zip(own.images.image_id, own.images.logits, strict=True)]
    with open(tmp_path / "s.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", *map(str, range(10))], *rows])
    foreign = (
        "--maps",
        tmp_path / "maps",
        "--scores",
        tmp_path / "s.csv",
        "--data",
        here / "set",
        "--controls",
        "none",
    )
    status, _, err = vice(capsys, "assess", *foreign, "--out", tmp_path / "read")
    assert status == 0, err
    read = Samples.load(tmp_path / "read").of_protocol("strict")
    for column in ("image_id", "label", "status", "mask_pixels", "predicted", "intersection", "energy_inside"):
        np.testing.assert_array_equal(getattr(own.regions, column), getattr(read.regions, column), column)


@pytest.mark.parametrize(
    ("command", "more"), [("explain", ("--maps", "m")), ("assess", ("--out", "t", "--controls", "none"))]
)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("--model", "test_resnet"),
            "Give a run folder, or --model, --weights and --data. Missing: --weights, --data.",
        ),
        (("--model", "test_resnet", "--weights", "w.pth"), "Missing: --data. Images without lists: --images DIR"),
        (("runs/x", "--model", "test_resnet"), "A run folder has its own model and classes, but --model is given too."),
        (("--model", "nonesuch", "--weights", "w.pth", "--data", "set"), "nonesuch"),
        (("--model", "test_resnet", "--weights", "w.pth", "--data", "set", "--mean", "0.5"), "must be three numbers"),
        (("--data", "set", "--images", "photos"), "Give one dataset: --data set and --images photos are both given."),
        (("--model", "test_resnet", "--weights", "w.pth", "--data", "set", "--output", "x"), "returns a single tensor"),
    ],
)
def test_both_commands_refuse_the_same_in_the_same_words(here, capsys, monkeypatch, command, more, given, message):
    monkeypatch.chdir(here)
    status, _, err = vice(capsys, command, *given, *more)
    assert status == 2
    assert message in " ".join(err.split())


def test_images_without_labels_have_the_map_of_their_likeliest_class(here, tmp_path, capsys):
    status, said, err = explained(capsys, here, tmp_path / "maps", "--images", here / "photos")
    assert status == 0, err
    assert "The images have no labels: the map is that of the likeliest class." in said
    assert "3 files written" in said
    shapes = {name: np.load(tmp_path / f"maps/{name}.npz")["maps"].shape for name in "012"}
    assert shapes == {"0": (1, 40, 56), "1": (1, 41, 56), "2": (1, 42, 56)}
    status, said, err = explained(capsys, here, tmp_path / "m", "--images", here / "photos", "--targets", "multilabel")
    assert status == 0, err
    assert "all classes with a logit above 0" in said


@pytest.mark.parametrize(
    ("given", "keys"), [(("--labels", "b,d"), [1, 3]), (("--choice", "labels=3,1"), [3, 1]), (("--labels", "d"), [3])]
)
def test_named_classes_have_maps_in_every_image(here, tmp_path, capsys, given, keys):
    named = ("--images", here / "photos", "--classes", ",".join("abcdefghij"))
    status, said, err = explained(capsys, here, tmp_path / "maps", *named, *given)
    assert status == 0, err
    assert "no labels" not in said
    assert [np.load(tmp_path / f"maps/{name}.npz")["keys"].tolist() for name in "012"] == [keys] * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--labels", "true"), "Images without labels have no true ones"),
        (("--labels", "predictd"), "`predictd` is no class. Did you mean `predicted`?"),
        (
            ("--labels", "cat"),
            "`cat` is no class. Name the outputs of the network, in their order: --classes NAME,NAME",
        ),
        (("--labels", "3", "--choice", "labels=predicted"), "--labels and --choice labels are both given"),
        (("--class-map", "imagenet-voc"), "images without labels have none. Give them: --classes cat,dog."),
        (("--classes", "a,b"), "must have an output for each of 2 classes, but has 10"),
        (("--classes", "a"), "must have one output, for the only class, but has 10"),
        (("--protocol", "paper"), "--view-size needs the protocol strict"),
        (("--split", "val"), "--split names a list, but --images has none."),
    ],
)
def test_what_images_without_labels_cannot_have(here, tmp_path, capsys, given, message):
    status, _, err = explained(capsys, here, tmp_path / "maps", "--images", here / "photos", *given)
    assert status == 2
    assert message in " ".join(err.split())
    assert not list(tmp_path.glob("maps/*.np*"))


def test_labelled_images_have_the_labels_that_are_named(here, tmp_path, capsys):
    given = ("--data", here / "set", "--labels", "seven,predicted"), ("--data", here / "set", "--labels", "seven,two")
    status, _, err = explained(capsys, here, tmp_path / "maps", *given[0])
    assert status == 2
    assert "`predicted` is no class" in err
    status, _, err = explained(capsys, here, tmp_path / "maps", *given[1])
    assert status == 0, err
    assert all(np.load(file)["keys"].tolist() == [7, 2] for file in (tmp_path / "maps").glob("*.npz"))


def test_an_assessment_still_needs_labels(here):
    with pytest.raises(ViceError, match="need labels, but neither masks nor a COCO file are given"):
        open_images(here / "photos")
