"""Each way out that the options of a command name, done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from small_networks import moving_resnet
from torchvice.cli.app import app
from torchvice.cli.demo import _own
from torchvice.cli.folders import opened_data
from torchvice.cli.foreign_maps import _normalisation
from torchvice.cli.subject import arguments_of, chosen_settings, chosen_subject
from torchvice.commands.tables import load_samples
from torchvice.config import load_settings
from torchvice.data.digits import write_digits
from torchvice.files import read_json
from torchvice.interop import write_maps
from torchvice.models.build import build_model
from torchvice.training.run import train
from ways_out import tried


def command(*words: Any) -> None:
    typer.main.get_command(app).main([str(word) for word in words], standalone_mode=False)


def chosen(name: str, **given: Any) -> dict[str, Any]:
    """The values of a command's options by their names, as the command has them."""
    parsed: Any = typer.main.get_command(app)
    context = parsed.commands[name].make_context(name, ["out"] if name == "explain" else [], resilient_parsing=True)
    values = {**{parameter.name: parameter.get_default(context) for parameter in parsed.commands[name].params}, **given}
    lists = ("argument", "choice", "also", "plugin")
    return {name: [] if value is None and name in lists else value for name, value in values.items()}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in `set`, weights of a test_resnet for them, a trained RUN, and photos with their masks."""
    root = tmp_path_factory.mktemp("here")
    write_digits(root / "set", train=4, val=2, test=4, size=48)
    torch.save(moving_resnet().state_dict(), root / "w.pth")
    small = ["trainer.epochs=1", "transform.crop=32", "model.name=test_resnet", "model.arguments={}", "data.workers=0"]
    small += [f"data.root={root / 'set'}", f"work_dir={root}", "trainer.batch_size=2", "trainer.accelerator=cpu"]
    train(load_settings("demo", [*small, "session_name=run"]), progress=False)
    for folder in ("photos", "masks"):
        (root / folder).mkdir()
        for name in "abc":
            pixels = np.zeros((32, 32, 3) if folder == "photos" else (32, 32), np.uint8)
            pixels[8:20, 8:20] = 255
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


# ---- demo, folders and maps of another tool


def test_the_demo_has_data_and_a_network() -> None:
    data = Path("set")
    for given in ({"model": "resnet50"}, {"weights": Path("w.pth")}):
        own = tried(
            lambda given=given: _own(**{"data": None, "model": None, "weights": None, "shortcut": None, **given}),
            "Give your dataset: --data DIR.",
            lambda given=given: _own(data, "resnet50", given.get("weights"), None),
        )
        assert own.root == data
    own = tried(
        lambda: _own(data, None, None, None),
        "For example --model resnet50.",
        lambda: _own(data, "resnet50", None, None),
    )
    assert own.network == "resnet50"
    for right in ((data, "resnet50", None, None), (None, None, None, 3)):
        tried(lambda: _own(data, "resnet50", None, 3), "Remove one.", lambda right=right: _own(*right))


def test_images_without_lists_have_no_split(here: Path) -> None:
    folders = {"images": here / "photos", "masks": here / "masks", "coco": None, "mask_values": None, "classes": None}
    found = tried(
        lambda: opened_data(folders, here / "photos", "val"),
        "Remove --split.",
        lambda: opened_data(folders, here / "photos", None),
    )
    assert len(found) == 3


FOREIGN = {"maps": Path("maps"), "scores": Path("s.csv"), "data": Path("set")}


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ({"data": None}, "--images DIR in place of --data.", {"images": Path("photos")}),
        ({"model": "resnet50"}, "Leave it out.", {"model": None}),
        ({"run": Path("run")}, "Leave it out.", {"run": None}),
        ({"choice": ["mirror=true"]}, "Leave it out.", {"choice": []}),
        ({"protocol": "paper"}, "Leave --protocol out.", {"protocol": None}),
    ],
)
def test_maps_of_another_tool_take_the_options_that_are_left(
    wrong: dict[str, Any], says: str, right: dict[str, Any]
) -> None:
    given = chosen("assess", **{**FOREIGN, **wrong})
    assert tried(lambda: _normalisation(given), says, lambda: _normalisation({**given, **right})) == "max"


def test_the_option_that_is_missing_is_the_one_that_is_said() -> None:
    given = chosen("assess", **{**FOREIGN, "scores": None})
    tried(lambda: _normalisation(given), "Give --scores FILE", lambda: _normalisation({**given, "scores": Path("s")}))


def test_the_mean_iou_of_maps_is_that_of_evaluate(tmp_path: Path) -> None:
    given = chosen("assess", **{**FOREIGN, "protocol": "paper"})
    (tmp_path / "list.txt").write_text("a")
    mask = np.array([[1, 0], [0, 2]], np.uint8)
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    write_maps(tmp_path / "maps" / "a.npz", [0, 1], np.stack([mask == 1, mask == 2]).astype(float))
    words = ("evaluate", "--list", tmp_path / "list.txt", "--predictions", tmp_path / "maps", "--classes", 2)
    words += ("--ground-truth", tmp_path / "masks", "--type", "npz", "--json", tmp_path / "found.json", "--workers", 1)
    says = "The published mean IoU of maps: vice evaluate."
    tried(lambda: _normalisation(given), says, lambda: command(*words, "--curve"))
    found = read_json(tmp_path / "found.json", "The result")
    assert (found["protocol"], found["best_mean_iou"]) == ("paper", pytest.approx(1, abs=1e-6))
    for wrong in ((), ("--threshold", 0.3, "--curve")):
        tried(
            lambda wrong=wrong: command(*words, *wrong), "To see all 60: --curve.", lambda: command(*words, "--curve")
        )
    assert len(read_json(tmp_path / "found.json", "The result")["thresholds"]) == 60


def test_label_maps_have_no_threshold(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a")
    Image.fromarray(np.array([[1, 0], [0, 2]], np.uint8)).save(tmp_path / "a.png")
    words = ("evaluate", "--list", tmp_path / "list.txt", "--predictions", tmp_path, "--ground-truth", tmp_path)
    words += ("--type", "png", "--classes", 2, "--workers", 1, "--json", tmp_path / "found.json")
    for wrong in (("--threshold", 0.3), ("--curve",)):
        tried(lambda wrong=wrong: command(*words, *wrong), "Leave it out.", lambda: command(*words))
    assert (tmp_path / "found.json").is_file()


def test_numbers_that_cannot_be_written_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "found.json")

    (tmp_path / "list.txt").write_text("a")
    Image.fromarray(np.array([[1, 0], [0, 2]], np.uint8)).save(tmp_path / "a.png")
    words = ("evaluate", "--list", tmp_path / "list.txt", "--predictions", tmp_path, "--ground-truth", tmp_path)
    monkeypatch.setattr("torchvice.files.write_json", refuse)
    with pytest.raises(PermissionError):
        command(*words, "--type", "png", "--classes", 2, "--workers", 1, "--json", tmp_path / "found.json")
    assert "1 images, paper: mIoU 1.0000." in capsys.readouterr().out


# ---- a run, or a network and data


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ({"protocol": "paper", "view_size": 64}, "(--protocol strict)", {"protocol": "strict"}),
        ({"protocol": "paper", "view_size": 64}, "or leave --view-size out.", {"view_size": None}),
        ({"protocol": "paper", "view_size": 64}, "For paper: --crop SIDE.", {"view_size": None, "crop": 64}),
        ({"protocol": "paper", "interpolation": "bicubic"}, "(--protocol strict)", {"protocol": "strict"}),
        ({"protocol": "paper", "interpolation": "bicubic"}, "leave --interpolation out.", {"interpolation": None}),
        ({"protocol": "strict", "crop": 64}, "(--protocol paper)", {"protocol": "paper"}),
        ({"protocol": "strict", "crop": 64}, "or leave --crop out.", {"crop": None}),
        ({"protocol": "strict", "crop": 64}, "For strict: --view-size SIDE.", {"crop": None, "view_size": 64}),
    ],
)
def test_a_size_is_of_the_protocol_that_is_made(wrong: dict[str, Any], says: str, right: dict[str, Any]) -> None:
    given = chosen("explain", **wrong)
    found = tried(lambda: chosen_settings(given), says, lambda: chosen_settings({**given, **right}))
    assert (found.view_size, found.crop) == tuple({**wrong, **right}.get(name) for name in ("view_size", "crop"))


def test_a_run_has_its_own_network_and_data(here: Path) -> None:
    def subject(**given: Any) -> Any:
        values = chosen("assess", **given)
        return chosen_subject(values, chosen_settings(values), None)

    own = {"model": "test_resnet", "weights": here / "w.pth", "data": here / "set"}
    for right in ({"run": here / "run"}, own):
        found = tried(lambda: subject(run=here / "run", **own), "Remove one.", lambda right=right: subject(**right))
        assert len(found.dataset) > 0
    found = tried(
        lambda: subject(model="test_resnet", data=here / "set", checkpoint="last"),
        "Give --weights FILE.",
        lambda: subject(**own),
    )
    assert len(found.dataset) > 0
    photos = {"images": here / "photos", "masks": here / "masks", "weights": here / "one.pth"}
    torch.save(build_model("test_resnet", 1).state_dict(), here / "one.pth")
    found = tried(
        lambda: subject(model="test_resnet", weights=here / "one.pth"),
        "Images without lists: --images DIR in place of --data.",
        lambda: subject(model="test_resnet", **photos),
    )
    assert len(found.dataset) == 3


def test_an_argument_has_a_name_and_a_value() -> None:
    for wrong in ("img_size", "=384", "img-size=384"):
        found = tried(
            lambda wrong=wrong: arguments_of([wrong]),
            "For example --argument img_size=384.",
            lambda: arguments_of(["img_size=384"]),
        )
    assert found == {"img_size": 384}


def test_arguments_to_inspect_are_of_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(build_model("resnet18", 3, arguments={"channels": [8, 16, 32, 64]}).state_dict(), tmp_path / "w.pth")
    words = ("weights", "inspect", tmp_path / "w.pth", "-o", "model.arguments.channels=[8,16,32,64]")
    tried(lambda: command(*words), "Name it: --model resnet18.", lambda: command(*words, "--model", "resnet18"))
    assert "matched: 100.0% of the parameters of resnet18" in capsys.readouterr().out


def test_a_run_is_assessed_first(here: Path) -> None:
    words = ("assess", here / "run", "--controls", "none", "--without", "none", "--protocol", "strict")

    def assessed() -> Any:
        command(*words)
        return load_samples(here / "run")

    says = f"Assess it first: vice assess {here / 'run'}"
    assert len(tried(lambda: load_samples(here / "run"), says, assessed).images) == 4
