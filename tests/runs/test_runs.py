"""A run is a folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchvice.config import dump_settings, load_settings
from torchvice.errors import ViceError
from torchvice.models.build import build_model, weights_hash
from torchvice.runs import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with two classes and no checkpoint, beside a dataset of one image."""
    settings = load_settings(
        "demo",
        [
            "model={name: test_resnet, arguments: null}",
            "data={classes: [cat, dog], eval_split: val}",
            f"data.root={tmp_path / 'set'}",
        ],
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_settings(settings))
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "set" / "VOC2012" / name).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "set" / "VOC2012" / "JPEGImages" / "a.jpg")
    mask = np.full((20, 30), 2, np.uint8)
    Image.fromarray(mask).save(tmp_path / "set" / "VOC2012" / "SegmentationClass" / "a.png")
    (tmp_path / "set" / "val.txt").write_text("a\n")
    return run


def test_paths_settings_and_classes(folder: Path) -> None:
    run = Run(folder)
    assert run.classes == ("cat", "dog")
    assert run.assess_dir() == run.assess_dir("val.txt") == run.assess_dir("lists/val") == folder / "assess" / "val"
    assert run.figures == folder / "figures"
    assert run.measures_json == folder / "measures.json"
    assert str(folder) in repr(run)


def test_data_that_are_not_there_are_told_with_the_way_to_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(str(tmp_path / "set"), "set"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = r"must be in .*elsewhere/set, but that is not there\.\n.*Change to the folder .* or say where .*: --data DIR"
    with pytest.raises(ViceError, match=said):
        Run(folder).dataset()
    assert len(Run(folder).dataset(root=tmp_path / "set").records) == 1
    monkeypatch.chdir(tmp_path)
    assert len(Run(folder).dataset().records) == 1
    (folder / "config.yaml").write_text(text.replace(str(tmp_path / "set"), str(tmp_path / "gone")))
    with pytest.raises(ViceError, match=r"gone, but that is not there\.\n.*Say where they are: --data DIR"):
        Run(folder).dataset()


def test_the_dataset_has_the_runs_classes(folder: Path) -> None:
    dataset = Run(folder).dataset()
    assert dataset.classes == ("cat", "dog")
    assert dataset.targets.tolist() == [[0, 1]]
    assert len(Run(folder).dataset("val", root=folder.parent / "set" / "VOC2012")) == 1
    with pytest.raises(ViceError):
        Run(folder).dataset("nothing")


def test_the_model_comes_from_the_checkpoint_in_eval_mode(folder: Path, tmp_path: Path) -> None:
    trained = build_model("test_resnet", 2)
    (folder / "checkpoints").mkdir()
    state = {f"model.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "best.ckpt")
    run = Run(folder)
    model = run.model()
    assert not any(module.training for module in model.modules())
    assert weights_hash(model) == weights_hash(trained)
    assert weights_hash(run.model(folder / "checkpoints" / "best.ckpt")) == weights_hash(trained)
    torch.save(build_model("test_resnet", 3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ViceError, match="another number of classes"):
        run.model(tmp_path / "other.pth")


def test_what_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"A run must be a folder with config\.yaml"):
        Run(tmp_path)
    with pytest.raises(ViceError, match=r"`best` must be a file.*\n.*--resume"):
        Run(folder).checkpoint()
    with pytest.raises(ViceError, match="but nowhere does not exist"):
        Run(folder).checkpoint("nowhere")
    (folder / "config.yaml").write_text("model: {name: test_resnet}\n")
    with pytest.raises(ViceError, match=r"has no data\.classes"):
        _ = Run(folder).classes
