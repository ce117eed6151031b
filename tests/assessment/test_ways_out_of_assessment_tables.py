"""What refusals of datasets, of their images and masks, and of tables that are resumed say, done."""

from __future__ import annotations

import contextlib
import re
import shutil
from types import SimpleNamespace

import numpy
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import torchvice
from simulated import simulated
from torchvice import ViceError
from torchvice.assessment.images import check_dataset, kind_of_targets
from torchvice.assessment.map_files import write_map_files
from torchvice.assessment.opened import opened
from torchvice.assessment.region import image_of, region_of
from torchvice.commands.cases import show_case
from torchvice.commands.draw import draw_cases
from torchvice.data import from_items
from torchvice.samples import Samples
from ways_out import tried

HOW = {"view_size": 32, "crop": 32, "device": "cpu", "protocols": ["strict"], "progress": False, "workers": 1}
HOW |= {"shard_size": 2, "method": "gradcam", "outputs": "logits", "controls": False}


class Net(nn.Module):
    """Two convolutions, mean pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.b(self.a(x).relu()).relu().mean((2, 3)))


class Data:
    """Images of 32 x 32 with the upper part of a and the lower part of b, and both labels unless others are given."""

    def __init__(self, *ids, classes=("a", "b"), targets=None):
        self.records, self.classes = [SimpleNamespace(image_id=name) for name in ids], classes
        self.targets = np.array([[1] * len(classes)] * len(ids) if targets is None else targets)

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3)).astype(np.uint8)

    def mask(self, index):
        return np.repeat([[0, 1, 2, 0]], 32, 0).repeat(8, 1)


def in_words(pattern, refused):
    """What a pattern finds in the way out of a refusal."""
    with pytest.raises(ViceError) as told:
        refused()
    found = re.search(pattern, told.value.way_out)
    assert found, told.value.way_out
    return found[1]


def test_items_and_folders_are_opened_first(tmp_path):
    def refused(given):
        return r"`dataset` must be a dataset with classes, targets, records, but is " + given

    items = [(np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), np.uint8))]
    right = from_items(items, classes=["a"])
    says = "torchvice.data.from_items(ITEMS, classes=[...])."
    assert tried(lambda: check_dataset(items), says, lambda: check_dataset(right)) is None
    with pytest.raises(ViceError, match=refused("of type list and has no classes")):
        write_map_files(Net(), items, tmp_path / "maps")
    with pytest.raises(ViceError, match=refused("'voc12'")):
        show_case(simulated(20), "voc12", "im0", "a")
    with pytest.raises(ViceError, match=refused("of type list")):
        draw_cases(simulated(20), items, tmp_path)


def test_an_empty_dataset_is_another_split_or_folder():
    says = "Choose another split (--split), or another folder of images."
    assert tried(lambda: check_dataset(Data()), says, lambda: check_dataset(Data("x"))) is None


def test_a_record_is_made_as_the_example():
    data = Data("x")
    data.records = ["cat_1"]
    code = in_words(r"For example (.*)\.", lambda: check_dataset(data))
    right = Data("x")
    right.records = [eval(code, {"types": __import__("types")})]
    says = "For example types.SimpleNamespace(image_id='cat_1')."
    assert tried(lambda: check_dataset(data), says, lambda: check_dataset(right)) is None
    assert right.records[0].image_id == "cat_1"


@pytest.mark.parametrize("targets", [[[1, -1]], [[1, 2]], [[1, 0.5]], [[1]], [1, 0]])
def test_targets_say_1_where_an_image_shows_the_class(targets):
    says = "1 says that the image shows the class."
    wrong, right = Data("x", targets=targets), Data("x", targets=[[1, 0]])
    assert tried(lambda: check_dataset(wrong), says, lambda: check_dataset(right)) is None


def test_the_second_of_two_images_is_removed():
    says = "Remove the second one from the list."
    wrong, right = Data("x", "y", "x"), Data("x", "y")
    assert tried(lambda: check_dataset(wrong), says, lambda: check_dataset(right)) is None


def test_one_class_is_multilabel_or_one_of_all():
    one = Data("x", classes=("a",))
    says = "Give the data of all classes, or assess the one class as multilabel (--targets multilabel)."
    several = Data("x", targets=[[1, 0]])
    named = in_words(r"--targets (\w+)", lambda: kind_of_targets(one, "exclusive"))

    def wrong():
        return kind_of_targets(one, "exclusive")

    assert tried(wrong, says, lambda: kind_of_targets(several, "exclusive")) == "exclusive"
    assert tried(wrong, says, lambda: kind_of_targets(one, named)) == "multilabel"


def test_images_with_several_labels_are_multilabel():
    both = Data("x")
    named = in_words(r"--targets (\w+)", lambda: kind_of_targets(both, "exclusive"))
    says = "Assess them as multilabel (--targets multilabel)."
    right = tried(lambda: kind_of_targets(both, "exclusive"), says, lambda: kind_of_targets(both, named))
    assert right == "multilabel"


def photos(root, classes=("cat", "dog"), masks=None):
    """Folders of images by class; with `masks`, masks of this value in a tree of the same names."""
    for name in classes:
        for number in range(2):
            (root / "photos" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{number}.jpg")
            if masks is not None:
                (root / "masks" / name).mkdir(parents=True, exist_ok=True)
                mask = np.zeros((24, 32), np.uint8)
                mask[4:12, 4:12] = masks
                Image.fromarray(mask).save(root / "masks" / name / f"{number}.png")
    return root


def test_data_are_a_dataset_or_a_folder_of_images(tmp_path):
    root = photos(tmp_path)
    says = "Give a dataset, or images='DIR'."
    assert len(tried(lambda: opened(None, {}), says, lambda: opened(Data("x"), {})).records) == 1
    assert len(tried(lambda: opened(None, {}), says, lambda: opened(None, {"images": root / "photos"})).records) == 4


def voc(root, value):
    """A folder in VOC's layout with two images of a cat, whose masks have this value."""
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    (root / "val.txt").write_text("0\n1\n")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.jpg")
        mask = np.zeros((24, 32), np.uint8)
        mask[4:12, 4:12] = value
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{number}.png")
    return root


def test_values_of_masks_are_named_in_the_description_or_beside_the_images(tmp_path):
    says = "Name the values in its dataset.yaml, or give images='DIR', masks='DIR'."
    root, values = voc(tmp_path / "voc", 7), "object=7"

    def wrong():
        return opened(root, {"mask_values": values})

    def described():
        (root / "dataset.yaml").write_text("names: {cat: 7}\n")
        return opened(root, {})

    assert (tried(wrong, says, described).mask(0) == 1).sum() == 64
    beside = photos(tmp_path / "beside", masks=7)
    given = {"images": beside / "photos", "masks": beside / "masks", "mask_values": values}
    assert (tried(wrong, says, lambda: opened(None, given)).mask(0) == 1).sum() == 64


def test_classes_of_a_dataset_object_are_left_out():
    data = Data("x")
    found = tried(lambda: opened(data, {"classes": ["a", "b"]}), "Leave them out.", lambda: opened(data, {}))
    assert found is data


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_picture_becomes_an_array_by_the_words_of_the_refusal(mode):
    wrong, image = Data("x"), Image.new(mode, (8, 6))
    wrong.image = lambda index: image
    code = in_words(r"Of a PIL image: (.*)\.$", lambda: image_of(wrong, 0))
    right = Data("x")
    right.image = lambda index: eval(code, {"np": numpy, "image": image})
    says = "Of a PIL image: np.asarray(image.convert('RGB'))."
    assert tried(lambda: image_of(wrong, 0), says, lambda: image_of(right, 0)).shape == (6, 8, 3)


def masked(mask, classes=2):
    data = Data("x", classes=tuple(map(str, range(classes))))
    data.mask = lambda index: mask
    return region_of(data, 0)


@pytest.mark.parametrize("classes", [2, 300])
@pytest.mark.parametrize("wrong", ["text", "label", "negative", "half"])
def test_labels_and_pixels_that_do_not_count_are_those_of_the_words(wrong, classes):
    masks = {"text": [["a"]], "label": [[classes + 1]], "negative": [[-1]], "half": [[0.5]]}
    void = int(in_words(r"pixels that do not count (\d+)\.", lambda: masked(np.array(masks[wrong]), classes)))
    says = f"Class c has the label c + 1, the background 0, and pixels that do not count {void}."
    right = np.array([[0, void, *(c + 1 for c in range(classes))]])
    region = tried(lambda: masked(np.array(masks[wrong]), classes), says, lambda: masked(right, classes))
    assert region.holds(0)
    assert region.holds(classes - 1)
    assert region.void == void


class StoppedError(Exception):
    """Ends an assessment."""


def assessed(folder, data=None, **how):
    return torchvice.assess(Net(), data or Data("x", "y", "z"), out=folder, **{**HOW, **how})


def killed(folder, after=1, data=None, **how):
    """An assessment that ended after so many steps."""

    def step(done, total):
        if done >= after:
            raise StoppedError

    with contextlib.suppress(StoppedError):
        assessed(folder, data, progress=step, **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a table of three images, in two shards."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    assessed(folder)
    return folder


@pytest.fixture
def table(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "t")


def deleted(folder, **how):
    shutil.rmtree(folder)
    return assessed(folder, **how)


def test_a_manifest_that_is_gone_is_restored_or_all_is_deleted(table):
    says = "Restore the manifest, or delete that folder to begin again."
    kept = (table / "manifest.json").read_text()

    def wrong():
        (table / "manifest.json").unlink(missing_ok=True)
        return assessed(table)

    def restored():
        (table / "manifest.json").write_text(kept)
        return assessed(table)

    assert len(tried(wrong, says, restored).images) == 3
    assert len(tried(wrong, says, lambda: deleted(table)).images) == 3


def test_other_settings_take_another_folder_or_the_place_of_the_first(table, tmp_path):
    says, other = "Delete that folder to start over, or write to another one.", {"view_size": 48}

    def wrong():
        return assessed(table, **other)

    for right in (lambda: assessed(tmp_path / "u", **other), lambda: deleted(table, **other)):
        assert tried(wrong, says, right).manifest["map_settings"]["view_size"] == 48


def test_other_targets_take_another_folder_or_are_restored(table, tmp_path):
    says = "Delete that folder to start over, write to another one, or restore them."
    other = Data("x", "y", "z", targets=[[1, 0], [1, 1], [0, 1]])

    def wrong():
        return assessed(table, other)

    assert len(tried(wrong, says, lambda: assessed(tmp_path / "u", other)).images) == 3
    assert len(tried(wrong, says, lambda: assessed(table)).images) == 3
    assert len(tried(wrong, says, lambda: deleted(table, data=other)).images) == 3


def test_a_table_that_needs_a_further_explanation_is_finished_with_it(tmp_path):
    says = "Request it again to finish the table, or delete that folder to start over."
    folder = tmp_path / "t"
    killed(folder, after=5, also=["mirror"])
    assert not Samples.load(folder).manifest["finished"]
    kept = shutil.copytree(folder, tmp_path / "kept")

    def wrong():
        return assessed(folder)

    found = tried(wrong, says, lambda: assessed(folder, also=["mirror"]))
    assert set(found.manifest["explanations"]) == {"strict:gradcam", "strict:mirror"}
    assert len(found.images) == 3
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert set(tried(wrong, says, lambda: deleted(folder)).manifest["explanations"]) == {"strict:gradcam"}


def test_a_table_that_needs_a_measure_is_finished_with_it(tmp_path):
    says = "Request it again to finish the table, or delete that folder to start over."
    folder, more = tmp_path / "t", {"faithfulness": ["deletion", "steps=2"]}
    killed(folder, after=3, **more)
    kept = shutil.copytree(folder, tmp_path / "kept")

    def wrong():
        return assessed(folder)

    found = tried(wrong, says, lambda: assessed(folder, **more))
    assert np.isfinite(found.regions.deletion[found.regions.status == "ok"]).all()
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert np.isnan(tried(wrong, says, lambda: deleted(folder)).regions.deletion).all()
