"""Mistakes in a study of checkpoints: one sentence before anything runs, and ways out that work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from given_checkpoints import FILE, MEASURE, Write, state

from command import vice
from torchvice.errors import ViceError
from torchvice.models.build import build_model
from torchvice.study import check_study, load_study
from ways_out import tried

WRONG: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "a missing file": ({"checkpoint": "own-9.pth"}, "Did you mean `own-3.pth`?", {"checkpoint": "own-3.pth"}),
    "no file at all": ({"checkpoint": "zzz"}, "checkpoint: pretrained.", {"checkpoint": "own-3.pth"}),
    "a folder": ({"checkpoint": "digits"}, "Name the file of its weights.", {"checkpoint": "own-1.pth"}),
    "an unknown network": (
        {"checkpoint": "own-1.pth", "model.name": "test_resnett"},
        "Did you mean `test_resnet`",
        {"model.name": "test_resnet"},
    ),
    "weights that do not fit": (
        {"checkpoint": "own-1.pth", "model.name": "test_vit"},
        "Expected: head.weight.",
        {"model.name": "test_resnet"},
    ),
    "weights of a wider network": (
        {"checkpoint": "wide.pth"},
        "Check model.name and the network's arguments, model.arguments.NAME: VALUE.",
        {"model.arguments.channels": [32, 48, 48, 160]},
    ),
    "another number of classes": (
        {"checkpoint": "three.pth"},
        "Say which outputs mean which class: class_map: FILE beside checkpoint.",
        {"class_map": "some.yaml"},
    ),
    "several sets of weights": (
        {"checkpoint": "two.pth"},
        "Choose one: weights_key: net beside checkpoint; or save it by itself.",
        {"weights_key": "net"},
    ),
    "a setting of training": (
        {"checkpoint": "own-1.pth", "optimizer.lr": 0.1},
        "Leave out one of the two.",
        {"optimizer.lr": None},
    ),
    "a list": ({"checkpoint": ["own-1.pth"]}, "{1: first.ckpt, 2: second.ckpt}", {"checkpoint": {1: "own-1.pth"}}),
    "a wrong axis in a name": (
        {"checkpoint": "own-{sed}.pth"},
        "Did you mean `seed`?",
        {"checkpoint": "own-{seed}.pth"},
    ),
    "a class map alone": ({"class_map": "some.yaml"}, "Name it: checkpoint: FILE.", {"checkpoint": "three.pth"}),
    "pretrained weights of torchvision": (
        {"checkpoint": "pretrained", "model.name": "torchvision:resnet18"},
        "Name the file of its weights: checkpoint: FILE.",
        {"checkpoint": "own-1.pth", "model.name": "test_resnet"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence_with_a_way_out_before_anything_runs(
    name: str, write: Write, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, says, right = WRONG[name]
    classes = (here / "bare" / "classes.txt").read_text().split()
    (here / "some.yaml").write_text(yaml.safe_dump({each: at % 3 for at, each in enumerate(classes)}))
    wide = build_model("test_resnet", 10, arguments={"channels": [32, 48, 48, 160]})
    torch.save(wide.state_dict(), here / "wide.pth")

    def checked(level: dict[str, Any]) -> Any:
        level = {key: value for key, value in level.items() if value is not None}
        return check_study(load_study(write({"network": {"a": level}}, seeds=[1])))

    tried(lambda: checked(wrong), says, lambda: checked({**wrong, **right}))
    status, _, said = vice(capsys, "study", write({"network": {"a": wrong}}, seeds=[1]))
    assert status == 2
    assert "Traceback" not in said
    assert "vice assess" not in said  # these words are of another command
    assert not (here / "runs").exists() or not list((here / "runs").rglob("*.parquet"))


def test_a_dry_run_says_that_it_reads_no_weights(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    line = "Whether weights fit their networks is seen when the runs start."
    wrong = write({"network": {"a": {"checkpoint": "own-1.pth", "model.name": "test_vit"}}})
    status, out, _ = vice(capsys, "study", wrong, "--dry-run")
    assert (status, line in out) == (0, True)
    status, out, _ = vice(capsys, "study", "digits", "--dry-run")
    assert (status, line in out) == (0, False)


def test_code_is_not_named_by_a_file_of_settings(write: Write, here: Path) -> None:
    (here / "nets.py").write_text("raise RuntimeError('it ran')\n")
    with pytest.raises(ViceError, match=r"must not name code that runs, but the network of the run network a is nets"):
        load_study(write({"network": {"a": {"checkpoint": "own-1.pth", "model.name": "nets.py:build"}}}))


def test_an_unpickled_object_is_refused(write: Write, here: Path) -> None:
    torch.save({"state_dict": state(1), "made": Path("x")}, here / "own-1.pth")
    with pytest.raises(ViceError, match=r"The run the base cannot be assessed: .* must hold tensors only"):
        check_study(load_study(write(settings={"checkpoint": "own-1.pth"})))


def test_a_checkpoint_is_named_once(write: Write, here: Path) -> None:
    shutil.copy(here / "own-1.pth", here / "copy.pth")
    for second, what in (("own-1.pth", "own-1.pth is"), ("copy.pth", "own-1.pth and copy.pth are")):
        axes = {"network": {"a": {"checkpoint": "own-1.pth"}, "b": {"checkpoint": {2: second}}}}
        with pytest.raises(ViceError, match=f"{what} the same for network a and network b, seed 2"):
            load_study(write(axes))


def test_without_a_base_everything_is_named(write: Write, here: Path) -> None:
    def loaded(**settings: Any) -> Any:
        file = write()
        file.write_text(yaml.safe_dump({"settings": settings}))
        return load_study(file)

    data = {"data.root": "bare", "data.eval_split": "test"}
    tried(loaded, "For example base: demo.", lambda: load_study(write(base="demo", settings={"trainer.epochs": 1})))
    given = {"checkpoint": "own-1.pth", **data}
    tried(lambda: loaded(**given), "Add model.name beside it.", lambda: loaded(**given, **FILE))
    tried(lambda: loaded(checkpoint="own-1.pth"), "data.root: FOLDER", lambda: loaded(**given, **FILE))
    tried(lambda: loaded(**given, **FILE, loss="auto"), "Leave out one", lambda: loaded(**given, **FILE))
    (run,) = loaded(**given, **{"model.name": "test_resnet"}).runs
    assert run.settings.transform.crop is None  # as the network's source states it


def test_the_classes_of_a_run_are_those_of_the_data(write: Write, here: Path, study_file: Callable[..., Path]) -> None:
    trained = load_study(study_file(seeds=[1], axes={}, measure=MEASURE, settings={"data.root": "digits"}))
    run = trained.runs[0]
    (run.folder / "checkpoints").mkdir(parents=True)
    torch.save(state(1), run.folder / "checkpoints" / "best.ckpt")
    classes = (here / "bare" / "classes.txt").read_text().split()
    for names, said in ((classes[:3], "has 3 classes"), ([*classes[::-1]], "Class 0 of the RUN")):
        content = run.settings.model_dump(mode="json")
        content["data"]["classes"] = names
        (run.folder / "config.yaml").write_text(yaml.safe_dump(content))
        file = write()
        data = {"data.root": "bare", "data.eval_split": "test"}
        file.write_text(yaml.safe_dump({"settings": {"checkpoint": str(run.folder), **data}}))
        with pytest.raises(ViceError, match=said):
            check_study(load_study(file))


def test_the_network_and_the_input_of_a_run_are_its_own(
    write: Write, here: Path, study_file: Callable[..., Path]
) -> None:
    run = load_study(study_file(seeds=[1], axes={}, settings={"data.root": "digits"})).runs[0]
    (run.folder / "checkpoints").mkdir(parents=True)
    torch.save(state(1), run.folder / "checkpoints" / "best.ckpt")
    (run.folder / "config.yaml").write_text(yaml.safe_dump(run.settings.model_dump(mode="json")))
    given = {"checkpoint": str(run.folder)}

    def loaded(level: dict[str, Any], **settings: Any) -> Any:
        file = write()
        data = {"data.root": "bare", "data.eval_split": "test"}
        file.write_text(yaml.safe_dump({"settings": {**data, **settings}, "axes": {"network": {"a": level}}}))
        return load_study(file)

    for more in ({"transform": {"crop": 64}}, {"model.name": "test_vit"}, {"class_map": "m.yaml"}):
        tried(lambda more=more: loaded({**given, **more}), "Leave it out.", lambda: loaded(given))
        if "class_map" not in more and "transform" not in more:
            tried(lambda more=more: loaded(given, **more), "Leave it out.", lambda: loaded(given))
    assert loaded({**given, "assess.batch_size": 4}).runs[0].key == loaded(given).runs[0].key
