"""`vice weights`: the report of a file, its conversion, and a sentence for every mistake."""

import argparse
from pathlib import Path

import pytest
import torch

from command import vice
from torchvice.config import dump_settings, load_settings
from torchvice.models.build import build_model


def test_inspect_and_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = {n: v for n, v in build_model("resnet18", 1).state_dict().items() if not n.startswith("fc.")}
    twin = {f"module.encoder_k.{n}": v for n, v in encoder.items()}
    tensors = {f"module.encoder_q.{n}": v for n, v in encoder.items()} | twin
    torch.save({"state_dict": tensors, "args": argparse.Namespace(lr=0.03)}, tmp_path / "m.pth.tar")
    status, _, err = vice(capsys, "weights", "inspect", tmp_path / "m.pth.tar")
    assert (status, len(err.splitlines())) == (2, 2)
    assert "argparse.Namespace" in err
    assert "vice weights convert" in err
    status, out, _ = vice(capsys, "weights", "convert", tmp_path / "m.pth.tar", tmp_path / "m.safetensors")
    assert status == 0
    assert out.endswith(f"m.safetensors: {len(encoder)} tensors of moco_v2, {len(twin)} left.\n")
    status, out, _ = vice(capsys, "weights", "inspect", tmp_path / "m.safetensors")
    assert status == 0
    assert "moco_v2 (MoCo v2, the query encoder)" in out
    assert "matched: 100.0% of the parameters of resnet18" in out
    assert "new:     fc (2)" in out
    words = ("weights", "inspect", tmp_path / "m.safetensors", "--model", "resnet50")
    status, out, _ = vice(capsys, *words)
    assert status == 0
    assert "of the parameters of resnet50" in out
    assert "100.0%" not in out
    status, _, err = vice(capsys, "weights", "convert", tmp_path / "m.pth.tar", tmp_path / "m.pt")
    assert (status, "For example m.safetensors." in err) == (2, True)
    for wrong in (("--model", "resnet5O"), ("--scheme", "moko")):
        status, _, err = vice(capsys, "weights", "inspect", tmp_path / "m.safetensors", *wrong)
        assert status == 2
        assert "Did you mean" in err


def test_inspect_of_a_checkpoint_in_a_run_takes_the_network_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings("demo", ["model={name: resnet18, arguments: {channels: [8, 16, 32, 64]}}"])
    (tmp_path / "config.yaml").write_text(dump_settings(settings))
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    state = build_model("resnet18", 3, arguments={"channels": [8, 16, 32, 64]}).state_dict()
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}}, file)
    status, out, _ = vice(capsys, "weights", "inspect", file)
    assert status == 0
    assert "matched: 100.0% of the parameters of resnet18" in out
    status, out, _ = vice(capsys, "weights", "inspect", file, "--model", "resnet18")
    assert status == 0
    assert "matched: 100.0%" not in out


def test_inspect_builds_the_network_as_the_settings_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = {"channels": [8, 16, 32, 64]}
    file = tmp_path / "narrow.pth"
    torch.save(build_model("resnet18", 3, arguments=narrow).state_dict(), file)
    as_told = ("-o", "model.arguments.channels=[8, 16, 32, 64]")
    for words in (("--model", "resnet18", *as_told), ("-o", "model.name=resnet18", *as_told)):
        status, out, _ = vice(capsys, "weights", "inspect", file, *words)
        assert status == 0
        assert "matched: 100.0% of the parameters of resnet18" in out
    status, out, _ = vice(capsys, "weights", "inspect", file, "--model", "resnet18")
    assert status == 0
    assert "matched: 100.0%" not in out
    for words, said in (
        (as_told, "--model resnet18"),
        (("-o", "trainer.epochs=3"), "Only settings of the model"),
        (("-o", "model.argument=3"), "is not a setting"),
        (("--model", "resnet18", "-o", "model.arguments.chanels=[8]"), "takes no argument `chanels`"),
    ):
        status, _, err = vice(capsys, "weights", "inspect", file, *words)
        assert status == 2
        assert said in err


def test_a_scheme_that_the_file_does_not_show_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(build_model("test_vit", 3).state_dict(), tmp_path / "trained.pth")
    status, out, _ = vice(
        *(capsys, "weights", "convert", tmp_path / "trained.pth", tmp_path / "w.safetensors", "--scheme", "byol")
    )
    assert (status, "nothing in it shows byol" in " ".join(out.split())) == (0, True)
