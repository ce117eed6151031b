"""The file of a study: its runs, their keys, and one sentence for every mistake."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from simulated import simulated
from torchvice.config import IMAGENET_MEAN, IMAGENET_STD, load_settings
from torchvice.errors import ViceError
from torchvice.measures.protocols import measure
from torchvice.models.build import build_model
from torchvice.study import check_study, load_study, study_names
from torchvice.study.identity import key_of
from torchvice.study.job import row_of
from torchvice.study.plan import AssessmentRequest, LaunchSettings, study_schema
from torchvice.study.run import not_comparable


def recipes(study):
    return [(*run.levels.values(), run.seed) for run in study.runs]


def test_a_grid_is_every_combination_with_every_seed(study_file) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0], "optimizer.lr": [0.001, 0.003, 0.01]}
    study = load_study(study_file(axes=axes))
    wanted = itertools.product(["0.05", "0.0"], ["0.001", "0.003", "0.01"], [1, 2])
    assert recipes(study) == list(wanted)
    run = study.runs[-1]
    assert (run.settings.optimizer.weight_decay, run.settings.optimizer.lr, run.settings.seed) == (0.0, 0.01, 2)
    assert len({run.folder for run in study.runs}) == 12
    assert all(run.folder.parent == study.folder / "runs" for run in study.runs)


def test_one_at_a_time_goes_around_the_base_once(study_file) -> None:
    axes = {
        "optimizer.weight_decay": [0.0, 0.05, 0.5],  # 0.05 is the base's
        "look": {"jitter": {"transform.jitter": [0.3, 0.3, 0.3, 0.1]}},  # the base is no level of it
    }
    study = load_study(study_file(axes=axes, one_at_a_time=True, seeds=[7]))
    assert recipes(study) == [
        ("0.05", "base", 7),
        ("0.0", "base", 7),
        ("0.5", "base", 7),
        ("0.05", "jitter", 7),
    ]
    assert study.axes == {"optimizer.weight_decay": ("0.05", "0.0", "0.5"), "look": ("base", "jitter")}


DECAY_AND_LOOK = {
    "optimizer.weight_decay": [0.0, 0.05],  # 0.05 is the base's
    "look": {"jitter": {"transform.jitter": [0.3, 0.3, 0.3, 0.1]}},  # the base is no level of it
}


def test_a_study_around_a_base_is_made_anew_at_each_level_of_across(study_file) -> None:
    axes = {**DECAY_AND_LOOK, "transform.flip": [True, False]}
    study = load_study(study_file(axes=axes, one_at_a_time=True, across=["transform.flip"], seeds=[7]))
    assert recipes(study) == [
        ("0.05", "base", "false", 7),
        ("0.0", "base", "false", 7),
        ("0.05", "jitter", "false", 7),
        ("0.05", "base", "true", 7),
        ("0.0", "base", "true", 7),
        ("0.05", "jitter", "true", 7),
    ]
    last = study.runs[-1].settings
    assert (last.transform.flip, last.transform.jitter) == (True, (0.3, 0.3, 0.3, 0.1))
    # The runs are those of the same settings however a study asks for them.
    grid = load_study(study_file(axes=axes | {"look": {"base": {}, **DECAY_AND_LOOK["look"]}}, seeds=[7]))
    assert {run.folder for run in study.runs} < {run.folder for run in grid.runs}


def test_a_further_axis_level_or_seed_leaves_the_runs_that_were_there(study_file) -> None:
    around = {"one_at_a_time": True}
    before = {run.folder for run in load_study(study_file(**around)).runs}
    axes = {"optimizer.weight_decay": [0.0, 0.05, 0.1], "transform.flip": [True]}
    after = {run.folder for run in load_study(study_file(axes=axes, seeds=[1, 2, 3], **around)).runs}
    assert before < after
    assert len(after) == 4 * 3
    # Where and how fast a run runs does not make it another one; what it learns does.
    same = load_study(study_file(**around), ["trainer.accelerator=cpu", "data.workers=1"])
    assert {run.folder for run in same.runs} == before
    other = load_study(study_file(**around), ["trainer.epochs=2"])
    assert not {run.folder for run in other.runs} & before


def test_a_default_written_out_is_the_same_run(study_file) -> None:
    plain = load_study(study_file())
    said = load_study(study_file(), ["optimizer.momentum=0.9", "model.linear_probe=false"])
    assert [run.key for run in plain.runs] == [run.key for run in said.runs]


def test_the_key_tells_settings_apart_where_a_file_of_weights_states_the_input(study_file) -> None:
    """`null` is what the file states; the network's own values are others."""
    settings = {"model.name": "vit_tiny_patch16_224", "model.weights": "encoder.safetensors"}
    for name in ("mean", "std"):
        for value in ([0.5, 0.5, 0.5], list(IMAGENET_MEAN), list(IMAGENET_STD)):
            axes = {f"transform.{name}": [None, value]}
            study = load_study(study_file(axes=axes, seeds=[1], settings=settings))
            assert len({run.key for run in study.runs}) == 2
    # Other keys stay as they were.
    plain = ["model.name=vit_tiny_patch16_224", "model.weights=encoder.safetensors"]
    assert key_of(load_settings("demo", plain)) == "0e52167db9"
    assert key_of(load_settings("demo", [*plain, "transform.mean=[0.1,0.2,0.3]"])) == "9f8ea497a8"
    plain = load_study(study_file(axes={}, seeds=[1], settings={"model.name": "vit_tiny_patch16_224"}))
    said = {"model.name": "vit_tiny_patch16_224", "transform": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    assert plain.runs[0].key == load_study(study_file(axes={}, seeds=[1], settings=said)).runs[0].key


def test_machines_that_enlarge_the_batch_are_part_of_the_key(study_file) -> None:
    study = load_study(study_file(axes={"trainer.num_nodes": [1, 2]}, seeds=[1]))
    assert len({run.key for run in study.runs}) == 2


def test_in_a_grid_a_level_may_be_called_base(study_file) -> None:
    study = load_study(study_file(axes={"size": {"base": {"trainer.epochs": 2}, "large": {"trainer.epochs": 9}}}))
    assert [run.settings.trainer.epochs for run in study.runs] == [2, 2, 9, 9]


def test_no_axis_has_the_name_of_a_column(study_file) -> None:
    made = simulated(40, seed=1)
    for quality in ("ji", "recall"):
        row = row_of(measure(made, quality=quality, replicates=100), made, {"train": 1.0, "assess": 1.0})
        for column in ("run", "seed", "status", *row):
            with pytest.raises(ViceError, match="must not"):
                load_study(study_file(axes={column: {"a": {"trainer.epochs": 2}, "b": {}}}))


TWO = {"trainer.epochs": 2}
MISTAKES = {
    "an axis that is not a setting": ({"axes": {"optimizer.weight_decai": [0, 1]}}, "optimizer.weight_decay"),
    "a value of another type": ({"axes": {"trainer.epochs": [1, "many"]}}, "trainer.epochs"),
    "a value twice": ({"axes": {"trainer.epochs": [1, 1]}}, "occurs twice"),
    "two levels that are one": ({"axes": {"trainer.epochs": {"a": TWO, "b": TWO}}}, "a and b"),
    "1 and 1.0": ({"axes": {"optimizer.lr": [1, 1.0]}}, "must differ"),
    "a name that leads out": ({"name": "../outside"}, "must be the name of one folder, without slashes, but is"),
    "a level without settings": ({"axes": {"x": {"a": 3}}}, "must be settings"),
    "an axis without levels": ({"axes": {"x": []}}, "has no levels"),
    "not a list": ({"axes": {"trainer.epochs": 3}}, "list of values"),
    "a seed twice": ({"seeds": [1, 1]}, "seeds"),
    "a seed as an axis": ({"axes": {"seed": [1, 2]}}, "seeds: [1, 2, 3]"),
    "no seeds": ({"seeds": []}, "small.yaml must name at least one seed, but is []"),
    "the study as its base": ({"base": "small.yaml"}, "file of settings, but is this study itself"),
    "an unknown method": ({"measure": {"method": "camm"}}, "small.yaml must be a known one, but is 'camm'"),
    "an unknown further method": ({"measure": {"also": ["gradcamm"]}}, "small.yaml must name a method"),
    "an unknown quality": ({"measure": {"quality": "recal"}}, "small.yaml must be a known one, but is 'recal'"),
    "an unknown replacement": ({"measure": {"without": "objcet"}}, "small.yaml must be one or more of object"),
    "a seed below 0": ({"seeds": [-1]}, "seed"),
    "an unknown part": ({"axis": {}}, "axes"),
    "an unknown part of measure": ({"measure": {"alsoo": []}}, "also"),
    "an unknown launcher": ({"where": {"launcher": "moon"}}, "launcher"),
    "an unknown base": ({"base": "demoo"}, "demo"),
    "across an unknown axis": ({"one_at_a_time": True, "across": ["flip"]}, "`flip` is not an axis"),
    "across in a grid": ({"across": ["optimizer.weight_decay"]}, "one_at_a_time"),
    "compared with the base of a grid": ({"compare": "base"}, "one_at_a_time"),
    "across and around by one setting": (
        {"one_at_a_time": True, "across": ["a"], "axes": {"a": {"x": TWO}, "trainer.epochs": [1, 3]}},
        "`trainer.epochs`",
    ),
    "a number and its text": ({"axes": {"optimizer.lr": [0.1, "0.1"]}}, "0.1 occurs twice"),
    "another level called base": (
        {"one_at_a_time": True, "axes": {"length": {"base": TWO, "long": {"trainer.epochs": 9}}}},
        "The level `base` of the axis `length` must have the settings of the base",
    ),
    "a column as an axis": ({"axes": {"loss": ["multilabel", "cross_entropy"]}}, "must not be called `loss`"),
    "the start of columns as an axis": ({"axes": {"vice_low": {"a": TWO, "b": {}}}}, "must not be called `vice_low`"),
    "across an axis twice": (
        {"one_at_a_time": True, "across": ["optimizer.weight_decay"] * 2},
        "`across` of",
    ),
    "two axes of one setting in a section": (
        {"axes": {"long": {"x": {"trainer": {"epochs": 2, "clip": 1.0}}, "y": {}}, "trainer.epochs": [1, 9]}},
        "both set `trainer.epochs`",
    ),
    "two axes of one setting": (
        {"axes": {"trainer.epochs": [1, 2], "long": {"yes": {"trainer.epochs": 9}}}},
        "both set `trainer.epochs`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_raises_one_sentence_before_anything_is_written(name, study_file, tmp_path) -> None:
    changes, word = MISTAKES[name]
    with pytest.raises(ViceError) as told:
        load_study(study_file(**changes))
    assert word in str(told.value)
    assert not (tmp_path / "study").exists()


def test_what_cannot_run_raises_before_anything_runs(study_file, tmp_path, monkeypatch) -> None:
    for changes, word in (
        ({"axes": {"model.name": ["test_resnet", "test_resnett"]}}, "test_resnett"),
        ({"settings": {"model.arguments": {"colour": 3}}}, "colour"),
        ({"settings": {"data.root": str(tmp_path / "none")}}, "The dataset must be a folder, but .*none is not"),
        ({"measure": {"also": ["gradcamm"]}}, "gradcam"),
        ({"measure": {"faithfulness": ["rode"]}}, "road"),
        ({"measure": {"without": ["objcet"]}}, "object"),
    ):
        with pytest.raises(ViceError, match=word):
            check_study(load_study(study_file(**changes)))
    other = build_model("test_vit", 3)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    for file, word in (("none.pth", "none.pth"), ("other.pth", "must match test_resnet")):
        study = load_study(study_file(axes={"model.weights": [None, str(tmp_path / file)]}))
        check_study(study, files=False)
        with pytest.raises(ViceError, match=word):
            check_study(study)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    study = load_study(study_file(measure={"also": ["saliency"]}))
    check_study(study, files=False)
    with pytest.raises(ViceError, match="needs captum"):
        check_study(study)
    assert not (tmp_path / "study").exists()


def test_levels_on_other_images_are_said_before_anything_runs(study_file, digits, tmp_path) -> None:
    splits = {"data.eval_split": ["test", "val"], "optimizer.weight_decay": [0.05, 0.0]}
    (line,) = not_comparable(load_study(study_file(axes=splits)))
    where = f"test of {digits} and val of {digits}"
    assert line == f"Levels of data.eval_split will not be compared: {where} have no image in common."
    assert not_comparable(load_study(study_file())) == []
    copied = shutil.copytree(digits, tmp_path / "copied")
    (copied / "both.txt").write_text((copied / "val.txt").read_text() + (copied / "test.txt").read_text())
    overlapping = {"settings": {"data.root": str(copied)}, "axes": {"data.eval_split": ["test", "both"]}}
    assert not_comparable(load_study(study_file(**overlapping))) == []


def test_data_are_read_as_every_run_says(study_file, digits, tmp_path) -> None:
    data = shutil.copytree(digits, tmp_path / "data")
    for name in ("cls_labels.npy", "classes.txt"):
        (data / name).unlink()
    (data / "VOC2012/SegmentationClass").rename(data / "VOC2012/Mine")
    shutil.rmtree(data / "VOC2012/SegmentationClassAug")
    classes = [f"digit {number}" for number in range(10)]
    settings = {"data.root": str(data), "data.masks": "Mine", "data.classes": classes}
    assert check_study(load_study(study_file(settings=settings)))
    levels = {"data": {"own": {}, "other": {"data.root": str(digits), "data.masks": None, "data.classes": None}}}
    study = load_study(study_file(settings=settings, axes=levels))
    assert check_study(study)
    assert not_comparable(study) == []
    with pytest.raises(ViceError, match="Mine"):  # a level reads the same folder in another way
        check_study(load_study(study_file(axes={"data.masks": [None, "Mine"]})))
    with pytest.raises(ViceError, match="exclusive"):  # the images have several digits
        check_study(load_study(study_file(axes={"data.exclusive": [False, True]})))


def test_the_docs_name_every_field_of_a_study(tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "s.yaml").write_text(example)
    assert load_study(tmp_path / "s.yaml", folder=tmp_path / "study").name == "my-study"
    for fields in (study_schema()["properties"], AssessmentRequest.model_fields, LaunchSettings.model_fields):
        missing = [name for name in fields if not re.search(rf"\b{name}\b", example)]
        assert missing in ([], ["slurm"])
    assert "`where.slurm` has its parameters" in page


def test_a_single_name_needs_no_list(study_file) -> None:
    measure = {"without": "none", "controls": "none", "also": "gradcam", "faithfulness": "road"}
    request = load_study(study_file(measure=measure)).request
    assert (request.without, request.also, request.faithfulness) == (("none",), ("gradcam",), ("road",))
    assert request.extras.without is None
    assert request.extras.controls == ()
    with pytest.raises(ViceError, match=r"`measure.without` of .*small.yaml must be a list, but is 3"):
        load_study(study_file(measure={"without": 3}))
    kinds = [kind["type"] for kind in study_schema()["$defs"]["AssessmentRequest"]["properties"]["without"]["anyOf"]]
    assert kinds == ["string", "array"]


@pytest.mark.parametrize("name", study_names())
def test_the_studies_that_come_with_torchvice_are_valid(name) -> None:
    study = load_study(name)
    assert study.needs
    assert len({run.key for run in study.runs}) == len(study.runs)
    assert len(study.seeds) >= 3
