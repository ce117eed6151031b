"""Maps as files: the likeliest class of exclusive targets, and folders that are resumed with other settings."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from torchvice import ViceError
from torchvice.assessment.map_files import write_map_files
from torchvice.data.bare_images import BareImages
from torchvice.explain import Choices

PIXELS = {"view_size": 64, "crop": 64, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Noise:
    """Images of noise with one of three labels each."""

    def __init__(self, exclusive):
        self.classes, self.targets, self.exclusive = ("a", "b", "c"), np.eye(3, dtype=np.uint8)[[0, 1, 2, 0]], exclusive
        self.records = [SimpleNamespace(image_id=f"{i}") for i in range(4)]

    def image(self, i):
        return np.random.default_rng(i).integers(0, 256, (48, 48, 3), dtype=np.uint8)

    def mask(self, i):
        return None


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3).eval()
    with torch.no_grad():
        network.fc.bias += 5  # so that every logit is above 0
    return network


def write(model, folder, exclusive=False, **more):
    return write_map_files(model, Noise(exclusive), folder, protocol="strict", **{**PIXELS, **more})


@pytest.mark.parametrize(("exclusive", "count"), [(False, 3), (True, 1)])
def test_predicted_labels_are_those_of_the_table(model, tmp_path, exclusive, count):
    assert write(model, tmp_path, exclusive, choices=Choices(labels="predicted"), outputs="logits") == 4
    assert [len(np.load(tmp_path / f"{i}.npz")["keys"]) for i in range(4)] == [count] * 4
    assert json.loads((tmp_path / "maps.json").read_text())["targets"] == ("exclusive" if exclusive else "multilabel")


@pytest.mark.parametrize(
    "other",
    [
        {"mean": (0.4, 0.5, 0.5)},
        {"std": (0.4, 0.5, 0.5)},
        {"class_map": [[0], [1], [2, 0]]},
        {"view_size": 32},
        {"exclusive": True},
        {"precision": "bfloat16"},
        {"channels_last": True},
        {"interpolation": "bicubic"},
    ],
)
def test_a_folder_with_maps_of_other_settings_is_refused(model, tmp_path, other):
    assert write(model, tmp_path) == 4
    before = (tmp_path / "maps.json").read_text()
    with pytest.raises(ViceError, match="were made with other settings"):
        write(model, tmp_path, **other)
    assert (tmp_path / "maps.json").read_text() == before
    (tmp_path / "0.npz").unlink()
    assert write(model, tmp_path, batch_size=2, device="cpu", crop=32, outputs="logits") == 1  # these change no map


def test_what_differs_is_named_weights_first(model, tmp_path):
    write(model, tmp_path)
    with pytest.raises(ViceError, match=r"were made with other settings: `view` .*\bin the table, but .* now") as told:
        write(model, tmp_path, view_size=32)
    assert "weights" not in told.value.message
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(ViceError, match=r"were made with other weights \('\w{8}' in the table, but '\w{8}' now\)\."):
        write(other, tmp_path)
    with pytest.raises(ViceError, match=r"with other weights \(.*\) and other settings: "):
        write(other, tmp_path, view_size=32)


def test_a_folder_of_an_earlier_version_is_resumed_as_before(model, tmp_path):
    write(model, tmp_path)
    note = tmp_path / "maps.json"
    held = json.loads(note.read_text())
    del held["targets"], held["map_settings"]
    note.write_text(json.dumps(held))
    (tmp_path / "0.npz").unlink()
    assert write(model, tmp_path, mean=(0.4, 0.5, 0.5)) == 1
    assert json.loads(note.read_text()) == held  # it does not claim to know
    with pytest.raises(ViceError, match="were made with other settings"):
        write(model, tmp_path, view_size=32)


def test_outputs_that_look_like_probabilities_write_no_file(model, tmp_path):
    ends = torch.nn.Sequential(model, torch.nn.Sigmoid())
    how = {"method": "gradcam", "layer": "0.layer4"}
    with pytest.raises(ViceError, match="must be logits, but all outputs of 4 rows"):
        write(ends, tmp_path, **how)
    assert not list(tmp_path.glob("*.npz"))
    assert write(ends, tmp_path, **how, outputs="probabilities") == 4
    with pytest.raises(ViceError, match="were made with other settings"):
        write(ends, tmp_path, **how, outputs="logits")


def test_a_dataset_class_of_ones_own_that_is_random_is_refused(model, tmp_path):
    class Flipped(Noise):
        random = np.random.default_rng(0)

        def image(self, i):
            return super().image(i)[:, :: self.random.choice([-1, 1])]

    with pytest.raises(ViceError, match=r"must give the same image each time, but that of `\d` changes"):
        write_map_files(model, Flipped(False), tmp_path / "m", protocol="strict", **PIXELS)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("protocol", "labels"), [("strict", "true"), ("strict", "both"), ("paper", "true")])
def test_images_without_labels_have_no_maps_of_true_ones(model, tmp_path, protocol, labels):
    images = Noise(False)
    images.targets, images.unlabelled = np.zeros((4, 3), np.uint8), True
    with pytest.raises(ViceError, match="Images without labels have no true ones") as caught:
        write_map_files(model, images, tmp_path / "m", protocol=protocol, choices=Choices(labels=labels), **PIXELS)
    assert not (tmp_path / "m").exists()
    followed = eval(f"dict({caught.value.way_out.split(': ')[1].rstrip('.')})", {"Choices": Choices, "dict": dict})
    assert write_map_files(model, images, tmp_path / "m", **followed, outputs="logits", **PIXELS) == 4
    assert [len(np.load(tmp_path / f"m/{i}.npz")["keys"]) for i in range(4)] == [1] * 4


def test_a_folder_holds_the_maps_of_several_lists_but_not_of_other_images_with_the_same_names(model, tmp_path):
    for name, seeds in (("one", (0, 1)), ("more", (0, 1, 2)), ("other", (0, 5, 2, 3))):
        (tmp_path / name).mkdir()
        for number, seed in enumerate(seeds):
            pixels = np.random.default_rng(seed).integers(0, 256, (48, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")

    def written(name):
        images = BareImages(tmp_path / name, ("a", "b", "c"))
        how = {"protocol": "strict", "choices": Choices(labels="predicted"), "outputs": "logits", **PIXELS}
        return write_map_files(model, images, tmp_path / "m", **how)

    assert [written("one"), written("more"), written("one")] == [2, 1, 0]
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with pytest.raises(ViceError, match=r"are of other images with the same names: 1, such as `1`\."):
        written("other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
