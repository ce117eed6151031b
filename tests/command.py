"""The command `vice`, run in this process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import typer

from torchvice.cli.app import app, main
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


def _options_of(words: list[str]) -> set[str]:
    """The options of the command that words begin with; of none, an empty set."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def options_not_there(arguments: Sequence[Any], text: str) -> set[str]:
    """Options that a refusal names, but that neither its command has nor one that it names."""
    named = [list(map(str, arguments)), *(words.split() for words in re.findall(r"\bvice ([a-z]+(?: [a-z]+)?)", text))]
    there = {"--help"}.union(*map(_options_of, named))
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - there


def vice(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command; what a refusal names must be there."""
    status = status_of(*arguments)
    told = capsys.readouterr()
    if status == 2:
        assert not options_not_there(arguments, told.err), told.err
    return status, told.out, told.err
