"""Ctrl-C in a long command: what it says, and that the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from command import vice
from torchvice.data.digits import write_digits
from torchvice.samples import Samples, ShardFolder

KEPT = "Stopped. What is finished is kept: run the same command again to go on."
FEW = ("--controls", "none", "--without", "none", "--protocol", "strict", "--device", "cpu", "--split", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=1, val=1, test=4, size=48)
    return root


def stopped_at_the_first_shard(patch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    patch.setattr(ShardFolder, "append", stop)


@pytest.mark.parametrize("how", ["model", "models"])
def test_an_assessment_that_is_stopped_says_how_it_goes_on(
    how: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("test_resnet\n")
    network = tmp_path / "list.txt" if how == "models" else "test_resnet"
    out = tmp_path / "out"
    command = ("assess", f"--{how}", network, "--random-weights", 0, "--data", data, *FEW, "--out", out)
    with monkeypatch.context() as stop:
        stopped_at_the_first_shard(stop)
        status, _, err = vice(capsys, *command)
    assert (status, KEPT in " ".join(err.split())) == (130, True)
    assert vice(capsys, *command)[0] == 0
    table = out if how == "model" else next(path.parent for path in out.glob("*/manifest.json"))
    assert len(Samples.load(table).images) == 4


def test_before_anything_is_kept_nothing_is_promised(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvice.commands.assess.assess_subject", stop)
    out = tmp_path / "table"
    status, _, err = vice(
        capsys, "assess", "--model", "test_resnet", "--random-weights", 0, "--data", data, *FEW, "--out", out
    )
    assert status == 130
    assert "Stopped" not in err
