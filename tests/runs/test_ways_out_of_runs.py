"""What refusals of runs, class maps and networks of other makers say, done."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.data import ImageNetInfo

from command import status_of
from torchvice.assessment import MapSettings
from torchvice.config import dump_settings, load_settings
from torchvice.data import VOC_CLASSES
from torchvice.data.open import open_any_images
from torchvice.errors import ViceError
from torchvice.models.named import NO_PIXELS, NamedModel
from torchvice.runs import Run
from torchvice.runs.class_maps import read_class_map, ready_class_maps
from torchvice.runs.subject import _groups, _with_pixels, subject_from_weights
from torchvice.samples import Samples
from ways_out import tried

CLASSES = ("cat", "dog")


def in_words(pattern, refused):
    """What a pattern finds in the way out of a refusal."""
    with pytest.raises(ViceError) as told:
        refused()
    found = re.search(pattern, told.value.way_out)
    assert found, told.value.way_out
    return found[1]


def read(folder, content, name="map.yaml", classes=CLASSES, outputs=12):
    (folder / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_class_map(folder / name, classes, outputs)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_called_like_a_ready_class_map_is_given_with_its_folder(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet-voc").write_text("cat: 3\ndog: 4\n")

    def wrong():
        return read_class_map(kind("imagenet-voc"), CLASSES, 1000)

    path = in_words(r"For the file give its whole path: (\S+)\.$", wrong)
    found = tried(wrong, "For the file give its whole path: ", lambda: read_class_map(kind(path), CLASSES, 1000))
    assert found == [[3], [4]]


def test_a_misspelt_ready_class_map_is_the_one_that_is_suggested():
    name = in_words(r"Did you mean `(.*)`\?", lambda: read_class_map("imagenet_voc", CLASSES, 1000))
    found = tried(
        lambda: read_class_map("imagenet_voc", CLASSES, 1000),
        "Did you mean `imagenet-voc`?",
        lambda: read_class_map(name, CLASSES, 1000),
    )
    assert found[0] == [281, 282, 283, 284, 285]


def test_every_ready_class_map_that_is_known_is_read():
    classes = {"imagenet-coco": CLASSES, "imagenet-voc": CLASSES}
    for name in in_words(r"Known: (.*)\.", lambda: read_class_map("qqqqqq", CLASSES, 1000)).split(", "):
        asked = classes.get(name) or tuple(yaml.safe_load(ready_class_maps()[name].read_text()))[:2]
        groups = tried(
            lambda: read_class_map("qqqqqq", CLASSES, 1000),
            name,
            lambda name=name, asked=asked: read_class_map(name, asked, 1000),
        )
        assert all(groups)


def test_a_class_map_has_lines_as_the_example(tmp_path):
    line = in_words(r"Write lines such as `(.*)`\.", lambda: read(tmp_path, [1, 2]))
    found = tried(
        lambda: read(tmp_path, [1, 2]),
        "Write lines such as `dog: [151, 152]`.",
        lambda: read(tmp_path, f"{line}\ncat: 3\n", outputs=1000),
    )
    assert found == [[3], [151, 152]]


def test_a_network_of_other_outputs_has_a_class_map_of_its_own(tmp_path):
    says = "Write a class map of your own: --class-map FILE."
    found = tried(
        lambda: read_class_map("imagenet-voc", CLASSES, 12), says, lambda: read(tmp_path, {"cat": 3, "dog": [4, 5]})
    )
    assert found == [[3], [4, 5]]


def test_a_misspelt_class_is_the_one_that_is_suggested(tmp_path):
    name = in_words(r"Did you mean `(.*)`\?", lambda: read(tmp_path, {"dgo": 1}))
    found = tried(lambda: read(tmp_path, {"dgo": 1}), "Did you mean `dog`?", lambda: read(tmp_path, {name: 1}))
    assert found == [[], [1]]


def test_an_unknown_class_is_one_of_the_known_ones(tmp_path):
    known = in_words(r"Known: (.*)\.", lambda: read(tmp_path, {"qqqqq": 1})).split(", ")
    found = tried(
        lambda: read(tmp_path, {"qqqqq": 1}), "Known: cat, dog.", lambda: read(tmp_path, dict.fromkeys(known, 1))
    )
    assert found == [[1], [1]]


def test_an_empty_class_map_is_given_a_class(tmp_path):
    says = "Give the outputs of at least one class."
    assert tried(lambda: read(tmp_path, {}), says, lambda: read(tmp_path, {"dog": 1})) == [[], [1]]


def test_the_data_have_a_class_that_a_ready_class_map_names():
    def wrong():
        return read_class_map("imagenet-voc", ("toaster", "lamp"), 1000)

    names = in_words(r"It names (.*) \.\.\.", wrong).split(", ")
    assert set(names) <= set(VOC_CLASSES)
    found = tried(wrong, f"It names {', '.join(names)} ...", lambda: read_class_map("imagenet-voc", names, 1000))
    assert all(found)


@pytest.mark.parametrize("wrong", [12, -1, "first", True, [], 1.0])
def test_outputs_are_counted_from_0(tmp_path, wrong):
    found = tried(
        lambda: read(tmp_path, {"cat": wrong, "dog": 0}),
        "Count the outputs from 0.",
        lambda: read(tmp_path, {"cat": 11, "dog": 0}),
    )
    assert found == [[11], [0]]


CODE = """
import torch
from torch import nn

def build(outputs=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    return nn.Sequential(*layers)

def of_one_size():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 2))
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "net.py").write_text(CODE)
    return f"{tmp_path / 'net.py'}"


def images(folder, classes=None):
    """Two images that nothing labels."""
    (folder / "photos").mkdir(exist_ok=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg")
    return open_any_images(folder / "photos", classes=classes)


def test_a_class_map_of_images_without_labels_needs_names(tmp_path, code):
    data, file = images(tmp_path), tmp_path / "map.yaml"
    file.write_text("cat: 0\ndog: [1, 2]\n")

    def subject(dataset):
        return subject_from_weights(f"{code}:build", None, dataset, tmp_path / "t", file)

    names = in_words(r"Give them: --classes (\S+)\.$", lambda: subject(data)).split(",")
    right = tried(lambda: subject(data), "Give them: --classes cat,dog.", lambda: subject(images(tmp_path, names)))
    assert right.dataset.classes == CLASSES
    assert right.settings.class_map == [[0], [1, 2]]


def test_a_network_of_one_size_is_given_its_side(tmp_path, code):
    data, says = images(tmp_path), "Give --view-size SIDE if it takes images of one size."
    (tmp_path / "map.yaml").write_text("cat: 1\ndog: 0\n")

    def subject(dataset, class_map=None, **settings):
        name = f"{code}:of_one_size"
        return subject_from_weights(name, None, dataset, tmp_path / "t", class_map, MapSettings(**settings))

    assert tried(lambda: subject(data), says, lambda: subject(data, view_size=28)).dataset.classes == ("0", "1")
    named = images(tmp_path, CLASSES)
    right = tried(
        lambda: subject(named, tmp_path / "map.yaml"), says, lambda: subject(named, tmp_path / "map.yaml", view_size=28)
    )
    assert right.settings.class_map == [[1], [0]]


def test_a_folder_without_mean_and_std_is_given_both():
    named = NamedModel(torch.nn.Identity(), "net", 2, {}, 32, needs_pixels=NO_PIXELS)
    given = MapSettings(mean=(0.5,) * 3, std=(0.25,) * 3)
    right = tried(
        lambda: _with_pixels(MapSettings(), named, "transformers:net"),
        "Give --mean and --std.",
        lambda: _with_pixels(given, named, "transformers:net"),
    )
    assert (right.mean, right.std, right.view_size) == ((0.5,) * 3, (0.25,) * 3, 32)


def test_outputs_of_other_names_have_a_class_map(tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text("cat: 1\ndog: 0\n")
    says = "Say which outputs mean which class: --class-map FILE."
    groups, _ = tried(
        lambda: _groups(None, CLASSES, 2, ("dog", "tabby")),
        says,
        lambda: _groups(file, CLASSES, 2, ("dog", "tabby")),
    )
    assert groups == [[1], [0]]


def test_another_number_of_outputs_has_a_class_map(tmp_path, code):
    file, data = tmp_path / "map.yaml", images(tmp_path, CLASSES)
    file.write_text("cat: 1\ndog: [0, 2]\n")

    def subject(class_map=None):
        return subject_from_weights(f"{code}:build", None, data, tmp_path / "t", class_map)

    says = "Say which outputs mean which class: --class-map FILE."
    assert tried(subject, says, lambda: subject(file)).settings.class_map == [[1], [0, 2]]


def test_classes_called_by_wordnet_ids_have_a_ready_class_map(tmp_path, code):
    ids = ImageNetInfo().label_names()[281:283]
    data = images(tmp_path, ids)

    def subject(class_map=None):
        arguments = {"outputs": 1000}
        return subject_from_weights(f"{code}:build", None, data, tmp_path / "t", class_map, arguments=arguments)

    name = in_words(r"as ImageNet's: --class-map (\S+)\.$", subject)
    says = "For classes called by WordNet ids, as ImageNet's: --class-map imagenet-wordnet."
    assert tried(subject, says, lambda: subject(name)).settings.class_map == [[281], [282]]


def voc(root):
    """Two images of a cat and a dog in VOC's layout."""
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "val.txt").write_text("0\n1\n")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number}.jpg")
        Image.fromarray(np.full((32, 32), number + 1, np.uint8)).save(root / "SegmentationClass" / f"{number}.png")
    return root


def assess(code, root, out):
    """`vice assess --model ... --out FOLDER`; the ids of the table's images."""
    command = ["assess", "--model", f"{code}:build", "--argument", "outputs=2", "--data", root, "--split", "val"]
    command += ["--out", out, "--protocol", "strict", "--view-size", "32", "--controls", "none", "--outputs", "logits"]
    assert status_of(*command, "--method", "gradcam", "--processes", "1") == 0
    return sorted(set(Samples.load(out).images.image_id))


def test_a_folder_that_is_no_run_is_assessed_by_its_command(tmp_path, code):
    root, table = voc(tmp_path / "set"), tmp_path / "t"
    says = "for another checkpoint: vice assess --model ..."
    assert tried(lambda: Run(root), says, lambda: assess(code, root, table)) == ["0", "1"]
    says = "To resume or extend the table, repeat the command that made it: vice assess --model ... --out FOLDER."
    assert tried(lambda: Run(table), says, lambda: assess(code, root, table)) == ["0", "1"]


def test_a_checkpoint_is_best_last_or_a_file(tmp_path):
    settings = load_settings("demo", ["data={classes: [cat, dog]}"])
    (tmp_path / "config.yaml").write_text(dump_settings(settings))
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    for name in ("best", "last", "other"):
        (run.checkpoints / f"{name}.ckpt").write_bytes(b"")
    for right in ("best", "last", run.checkpoints / "other.ckpt"):
        found = tried(
            lambda: run.checkpoint("first"),
            "Give best, last or the path of a file.",
            lambda right=right: run.checkpoint(right),
        )
        assert found.is_file()


def test_a_run_is_made_and_resumed_by_the_words_of_refusals(tmp_path, capsys):
    root = voc(tmp_path / "set")
    (root / "train.txt").write_text("0\n1\n")
    given = [f"data.root={root}", "data={classes: [cat, dog], eval_split: val}", "data.workers=0"]
    given += ["model={name: test_resnet, arguments: null}", "transform.crop=32", f"work_dir={tmp_path / 'work'}"]
    given += ["trainer={epochs: 1, batch_size: 2, accelerator: cpu}"]

    def trained():
        assert status_of("train", "demo", *(part for each in given for part in ("-o", each))) == 0
        said = capsys.readouterr()
        return Run(re.search(r"Next: vice assess (\S+)", said.out + said.err)[1])

    run = tried(lambda: Run(root), "`vice train` makes one and prints its name", trained)
    assert run.checkpoint().is_file()
    shutil.rmtree(run.checkpoints)
    command = in_words(r"Finish the first epoch: vice (train .* --resume)\.$", run.checkpoint)
    assert command == f"train {run.folder} --resume"

    def resumed():
        assert status_of(*command.split()) == 0
        return run.checkpoint()

    assert tried(run.checkpoint, "Finish the first epoch: vice train ", resumed).is_file()


def test_classes_of_the_same_outputs_are_said(tmp_path):
    def said(content):
        (tmp_path / "map.yaml").write_text(yaml.safe_dump(content))
        return _groups(tmp_path / "map.yaml", ("cat", "dog", "cow"), 4, ())[1]

    assert said({"cat": 0, "dog": 1, "cow": 2}) == []
    assert said({"cat": [1, 2], "dog": [1]}) == []  # classes that are left out have no outputs in common
    same = "are read from the same output"
    assert said({"cat": 1, "dog": [1], "cow": 2}) == [f"`cat` and `dog` {same} 1: logits and maps are equal."]
    assert said({name: [2, 3] for name in ("cat", "dog", "cow")}) == [
        f"`cat`, `dog` and `cow` {same}s 2, 3: logits and maps are equal."
    ]
