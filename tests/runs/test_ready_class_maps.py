"""The class maps that torchvice ships, and maps that leave classes out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import timm
import torch
from timm.data import ImageNetInfo

from command import vice
from torchvice import Samples, ViceError
from torchvice.commands.tables import dataset_of
from torchvice.data import VOC_CLASSES, VocDataset
from torchvice.data.digits import write_digits
from torchvice.runs.class_maps import read_class_map, ready_class_maps
from torchvice.runs.subject import _groups

SCRIPT = Path(__file__).parents[2] / "experiments" / "class_maps.py"


def script():
    spec = importlib.util.spec_from_file_location("class_maps_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_script_writes():
    made = script()
    assert sorted([*made.MAPS, *made.BY_ID]) == sorted(ready_class_maps())
    for name, path in ready_class_maps().items():
        assert path.read_text(encoding="utf-8") == made.text_of(name)


def test_outputs_are_those_of_wordnet():
    groups = dict(zip(VOC_CLASSES, read_class_map("imagenet-voc", VOC_CLASSES, 1000), strict=True))
    assert (groups["cat"], groups["dog"]) == ([281, 282, 283, 284, 285], list(range(151, 269)))
    assert (groups["horse"], groups["person"], len(groups["bird"])) == ([339], [], 59)
    outputs = [output for group in groups.values() for output in group]
    assert len(outputs) == len(set(outputs))
    made = script()
    coco = dict(zip(made.COCO_CLASSES, read_class_map("imagenet-coco", made.COCO_CLASSES, 1000), strict=True))
    assert sum(bool(group) for group in coco.values()) == 62
    assert (coco["zebra"], coco["kite"], coco["banana"]) == ([340], [], [954])
    twice = [output for group in coco.values() for output in group]
    assert len(twice) == len(set(twice))


def test_a_ready_map_serves_a_part_of_its_classes():
    assert read_class_map("imagenet-voc", ("dog", "toaster", "cat"), 1000)[1:] == [[], [281, 282, 283, 284, 285]]


def test_classes_that_are_wordnet_ids_have_their_outputs():
    ids = ImageNetInfo().label_names()
    assert read_class_map("imagenet-wordnet", ids, 1000) == [[c] for c in range(1000)]
    sunglass, notebook, goldfish = "n04355933", "n03832673", "n01443537"
    some = (sunglass, goldfish, "n99999999", notebook)
    assert read_class_map("imagenet-wordnet", some, 1000) == [[836], [1], [], [681]]
    assert read_class_map("imagenet-s", some, 1000) == [[836, 837], [1], [], [620, 681]]
    assert sum(map(bool, read_class_map("imagenet-s", ids, 1000))) == 995
    assert sorted(c for group in read_class_map("imagenet-s", ids, 1000) for c in group) == list(range(1000))


def test_class_folders_of_wordnet_ids_name_their_map():
    with pytest.raises(ViceError) as told:
        _groups(None, ("n01443537", "n02084071"), 1000, ())
    assert "--class-map imagenet-wordnet" in told.value.way_out
    assert _groups("imagenet-wordnet", ("n01443537", "n02084071"), 1000, ()) == ([[1], []], [])
    with pytest.raises(ViceError) as told:
        _groups(None, ("cat", "dog"), 1000, ())
    assert "wordnet" not in told.value.way_out


@pytest.mark.parametrize(
    ("name", "classes", "outputs", "message"),
    [
        (
            "imagenet-vok",
            VOC_CLASSES,
            1000,
            "must be a file or one of imagenet-coco, imagenet-s, imagenet-voc, imagenet-wordnet, but is 'imagenet-vok'",
        ),
        ("imagenet-voc", VOC_CLASSES, 20, "is for a model of ImageNet's 1000 outputs, but the model has 20"),
        ("imagenet-voc", ("zero", "one"), 1000, "names none of them"),
    ],
)
def test_what_does_not_fit_is_refused(name, classes, outputs, message):
    with pytest.raises(ViceError) as told:
        read_class_map(name, classes, outputs)
    assert message in told.value.message


def test_a_file_of_the_same_name_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("imagenet-voc").write_text("dog: 1\n")
    with pytest.raises(ViceError, match="one that torchvice ships, and a file here"):
        read_class_map("imagenet-voc", ("dog",), 1000)
    assert read_class_map("./imagenet-voc", ("dog",), 1000) == [[1]]


def test_classes_that_are_left_out_are_in_no_number(tmp_path, capsys):
    write_digits(tmp_path / "set", train=2, val=8, test=2, size=48)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=12).state_dict(), tmp_path / "w.pth")
    names = VocDataset(tmp_path / "set", "val").classes
    kept = {name: c + 2 for c, name in enumerate(names) if name not in ("one", "four")}
    (tmp_path / "map.json").write_text(json.dumps(kept))
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", tmp_path / "set")
    given = (*given, "--class-map", tmp_path / "map.json", "--view-size", 64, "--crop", 64, "--out", tmp_path / "t")
    status, told, said = vice(capsys, *given, "--controls", "cheap", "--without", "none")
    assert status == 0, said
    assert "that are not asked for: one, four." in " ".join(told.split())
    samples = Samples.load(tmp_path / "t")
    assert samples.classes == tuple(kept)
    assert samples.images.logits.shape[1] == 8
    assert samples.regions.label.max() <= 8
    opened = dataset_of(samples)
    assert (opened.classes, opened.all_classes) == (tuple(kept), names)
    status, told, said = vice(capsys, "measure", tmp_path / "t", "--replicates", 100, "--no-figures")
    assert status == 0, said
    assert "Not asked for, as the class map leaves them out: one, four." in " ".join(told.split())
    found = json.loads((tmp_path / "t" / "measures.json").read_text())
    assert [row["name"] for row in found["classes"]] == list(kept)
