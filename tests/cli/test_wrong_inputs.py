"""A wrong input of each kind ends in one sentence that names what came, and in a way out that works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torchvice
from command import vice
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError, as_vice_error
from torchvice.explain import Choices
from torchvice.models.probe import probe


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wrong") / "digits"
    write_digits(root, train=4, val=3, test=3, size=48)
    return root


def _evaluation(digits: Path, folder: Path) -> list[object]:
    lists = ["--list", digits / "val.txt", "--ground-truth", digits / "VOC2012/SegmentationClass"]
    return ["evaluate", *lists, "--predictions", folder, "--type", "npz"]


def test_an_error_before_the_first_step_has_no_empty_line_above(digits: Path, tmp_path: Path, capsys) -> None:
    for command in (["data", "check", tmp_path / "nowhere"], ["report", tmp_path], _evaluation(digits, tmp_path)):
        status, _, err = vice(capsys, *command)
        assert status == 2
        assert err.startswith("vice: ")


def test_a_dataset_that_is_not_there(tmp_path: Path, capsys) -> None:
    err = vice(capsys, "train", "demo", "-o", f"data.root={tmp_path / 'nowhere'}", "-o", f"work_dir={tmp_path}")[2]
    assert f"The dataset must be a folder, but {tmp_path / 'nowhere'} is not there." in err
    assert "vice data digits --out data/digits" in err
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is not." in vice(capsys, "data", "check", tmp_path / "file")[2]
    assert "but no list of images is there." in vice(capsys, "data", "check", tmp_path)[2]
    err = vice(capsys, "data", "digits", "--out", tmp_path / "file")[2]
    assert f"{tmp_path / 'file'} must be a new or empty folder, but is a file." in err


def test_a_threshold_or_the_curve(digits: Path, tmp_path: Path, capsys) -> None:
    command = _evaluation(digits, tmp_path)
    assert "must be given, but neither is." in vice(capsys, *command)[2]
    assert "must be given, but both are." in vice(capsys, *command, "--curve", "--threshold", 0.3)[2]
    err = vice(capsys, *command, "--threshold", 2)[2]
    assert "must be in [0, 1], like the maps, but is 2." in err
    assert "Give for example 0.3" in err


def test_bytes_that_are_no_archive_of_maps(digits: Path, tmp_path: Path, capsys) -> None:
    for name in (digits / "val.txt").read_text().split():
        (tmp_path / f"{name}.npz").write_bytes(bytes(range(256)))
    err = vice(capsys, *_evaluation(digits, tmp_path), "--curve")[2]
    assert "cannot be read: it is another kind of file, or holds Python objects.\n" in err
    assert "allow_pickle" not in err


def test_bytes_that_are_no_weights(tmp_path: Path, capsys) -> None:
    (tmp_path / "junk.pth").write_bytes(np.random.default_rng(0).bytes(3000))
    status, _, err = vice(capsys, "weights", "inspect", tmp_path / "junk.pth")
    assert (status, "the bytes are not those of a saved model" in err) == (2, True)
    assert "torch.save or safetensors" in err


def test_a_file_where_a_folder_is_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/inside"):
        with pytest.raises(OSError, match="file") as caught:
            folder.mkdir(parents=True)
        error = as_vice_error(caught.value)
        assert error is not None
        assert error.message == f"{folder} must be a folder, but is a file or lies in one."


def test_a_table_in_place_of_a_run(tmp_path: Path, capsys) -> None:
    assert "but " + str(tmp_path) + " has no such file." in vice(capsys, "assess", tmp_path)[2]
    (tmp_path / "manifest.json").write_text("{}")
    for command in (["assess", tmp_path], ["explain", tmp_path, "--maps", tmp_path / "maps"]):
        status, _, err = vice(capsys, *command)
        assert status == 2
        assert f"but {tmp_path} is the folder of a table." in err
        assert "--model ... --out FOLDER" in err


def test_choices_that_no_protocol_uses(digits: Path, tmp_path: Path) -> None:
    import timm

    model = timm.create_model("test_resnet", num_classes=10)
    data = VocDataset(digits, "val")
    scales = Choices(scales=(0.5, 1))
    with pytest.raises(ViceError, match="`scales` must be for the protocol strict, but only paper is made") as caught:
        torchvice.assess(model, data, out=tmp_path / "table", protocols=["paper"], choices=scales)
    assert "--protocol strict" in caught.value.way_out


def test_an_error_in_the_network_keeps_its_sentence_and_way_out() -> None:
    class Refusing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ViceError("Probabilities must lie in [0, 1], but are 7.", "Give logits.")

    with pytest.raises(ViceError) as caught:
        probe(Refusing(), (8, 8))
    assert str(caught.value) == "Probabilities must lie in [0, 1], but are 7.\n    Give logits."


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["data", "digits", "--out", "x", "--size", 10], "'--size': must be greater than or equal to 48, but is 10"),
        (["measure", "x", "--replicates", "many"], "'--replicates': must be a valid integer, but is many"),
        (["assess", "x", "--protocol", "other"], "'other' is not one of 'paper', 'strict', 'both'"),
    ],
)
def test_a_refused_option_says_what_came(command: list[object], message: str, capsys) -> None:
    status, _, err = vice(capsys, *command)
    assert status == 2
    assert "Input should" not in err
    said = " ".join(line.strip("│ ") for line in err.splitlines())
    if "in the range" in said or "valid integer range" in said:
        pytest.skip("an older typer: the sentences are click's")
    assert message in said


def test_a_path_that_is_nearly_there_is_suggested(digits: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "network.safetensors").touch()
    (tmp_path / "demo").mkdir()
    err = vice(capsys, "measure", tmp_path / "dmo")[2]
    assert f"there is nothing at {tmp_path / 'dmo'}." in err
    assert f"Did you mean `{tmp_path / 'demo'}`?" in err
    weights = tmp_path / "netwrk.safetensors"
    command = ["assess", "--model", "resnet18", "--weights", weights, "--data", digits, "--out", tmp_path / "out"]
    err = vice(capsys, *command)[2]
    assert f"Did you mean `{tmp_path / 'network.safetensors'}`?" in err
    assert "vice demo makes a first RUN" in vice(capsys, "measure", tmp_path / "quite different")[2]
    assert "Did you mean" not in vice(capsys, "measure", tmp_path / "no" / "such" / "folder")[2]
