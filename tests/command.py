"""The command `vice`, run in this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from torchvice.cli.app import main
from torchvice.samples import Samples


def status_of(*arguments: Any) -> int:
    """Exit status of a command."""
    with mock.patch.object(sys, "argv", ["vice", *map(str, arguments)]):
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def assess_command(model: torch.nn.Module, data: Path, weights: Path, *options: str) -> list[str]:
    """The command, in a process of its own, that assesses the weights of a `test_resnet`; they are written first."""
    torch.save(model.state_dict(), weights)
    return [
        *(sys.executable, "-m", "torchvice.cli", "assess", "--model", "test_resnet", "--weights", str(weights)),
        *("--data", str(data), "--split", "test", "--view-size", "64", "--crop", "64", *options),
    ]


def table_by(command: list[str], out: Path) -> Samples:
    """The table that a command writes."""
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    return Samples.load(out)


def vice(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = status_of(*arguments)
    told = capsys.readouterr()
    return status, told.out, told.err
