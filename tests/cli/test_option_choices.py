"""The values of options are those that the library takes, which the command line does not import at its top."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import EnumMeta
from typing import Any, get_args

import pytest
import typer
from rich.markup import render

import torchvice
from command import vice
from torchvice.assessment.controls import CONTROL_SETS
from torchvice.assessment.map_files import write_map_files
from torchvice.assessment.outputs import Outputs
from torchvice.cli import assess as cli_assess
from torchvice.cli import explain as cli_explain
from torchvice.cli import export as cli_export
from torchvice.cli import numbers as cli_numbers
from torchvice.cli import study as cli_study
from torchvice.cli.app import app
from torchvice.commands.evaluate import KINDS
from torchvice.fiftyone import MEDIA
from torchvice.metrics.multilabel import Protocol
from torchvice.study.plan import LaunchSettings


def values(function: Any, argument: str) -> set[str]:
    """The texts in the Literal of an argument."""
    return set(re.findall(r"[\"'](\w+)[\"']", str(inspect.signature(function).parameters[argument].annotation)))


CHOICES: dict[EnumMeta, set[str]] = {
    cli_assess.ProtocolChoice: {*get_args(Protocol), "both"},
    cli_assess.Targets: values(torchvice.assess, "targets"),
    cli_assess.OutputsChoice: set(get_args(Outputs)),
    cli_assess.Controls: set(CONTROL_SETS),
    cli_explain.MapFormat: values(write_map_files, "file_format"),
    cli_explain.OneProtocol: set(get_args(Protocol)),
    cli_export.Media: set(MEDIA),
    cli_numbers.PredictionType: set(KINDS),
    cli_study.Launcher: set(get_args(LaunchSettings.model_fields["launcher"].annotation)),
}


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.__name__)
def test_an_option_has_the_values_of_the_library(choice: EnumMeta) -> None:
    assert CHOICES[choice]
    assert {member.value for member in choice} == CHOICES[choice]  # type: ignore[var-annotated]


def commands(command: Any, name: str = "vice") -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {inner}")


def test_no_help_loses_words_that_are_taken_for_markup() -> None:
    found = dict(commands(typer.main.get_command(app)))
    texts = [(name, option.help) for name, one in found.items() for option in one.params if getattr(option, "help", "")]
    assert len(texts) > 100
    assert [text for text in texts if render(text[1]).plain != text[1]] == []


def test_what_is_missing_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    tried = 0
    for name, command in commands(typer.main.get_command(app)):
        required = [param for param in command.params if param.required]
        if not required:
            continue
        status, out, err = vice(capsys, *name.split()[1:])
        said = " ".join(err.replace("│", " ").split())
        assert (status, out) == (2, ""), name
        assert any(" ".join(param.help.split())[:30] in said for param in required), (name, said)
        tried += 1
    assert tried > 10
