"""What the messages name is there: every option, command, setting, name of the library, extra and page."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from torchvice.cli.app import app
from torchvice.config.settings import _paths

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "torchvice").rglob("*.py"))
GAP = "…"  # stands for the value in an f-string


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
    return ""


def _said(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of every string of a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) not in skipped and (text := _text(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", text


SAID = [pair for path in SOURCES for pair in _said(path)]


def _found(pattern: str) -> list[tuple[str, str]]:
    sentences = [(place, text) for place, text in SAID if not re.fullmatch(r"[\w.]+", text)]
    rows = [(place, match) for place, text in sentences for match in re.findall(pattern, text)]
    assert rows, pattern
    return rows


def _commands(group: Any = None, path: str = "") -> dict[str, Any]:
    """Every command by its words."""
    group = group or typer.main.get_command(app)
    if not hasattr(group, "commands"):
        return {path: group}
    inner = [_commands(command, f"{path} {name}".strip()) for name, command in group.commands.items()]
    return {words: command for commands in inner for words, command in commands.items()} | {path: group}


COMMANDS = _commands()
PARAMETERS = [parameter for command in COMMANDS.values() for parameter in command.params]
OPTIONS = {option for parameter in PARAMETERS for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(("place", "option"), _found(r"(?<![\w-])--[a-z][a-z-]*"))
def test_an_option_is_there(place: str, option: str) -> None:
    # `python -m torchvice.study.job`, `hf download` and browsers have options of their own.
    foreign = {"--help"} | ({"--revision"} if "hub.py" in place else set())
    assert option in OPTIONS | foreign or place.startswith(("src/torchvice/study/", "src/torchvice/report/pdf.py")), (
        place
    )


@pytest.mark.parametrize(("place", "words"), _found(r"\bvice (?!downloads)([a-z]+(?: [a-z]+)?)"))
def test_a_command_is_there(place: str, words: str) -> None:
    said = words.split()
    assert said[0] in COMMANDS or " ".join(said) in COMMANDS, place
    if said[0] in ("data", "weights", "export"):
        assert " ".join(said) in COMMANDS, place


@pytest.mark.parametrize(("place", "path"), _found(rf"-o ([\w.{GAP}]+)="))
def test_a_setting_is_there(place: str, path: str) -> None:
    known = set(_paths())
    free = "model.arguments."
    pattern = re.escape(path).replace(GAP, "[\\w.]+")
    assert path.startswith(free) or any(re.fullmatch(pattern, name) for name in known), place


@pytest.mark.parametrize(("place", "name"), _found(r"(?<!@)\b(torchvice(?:\.\w+)+)"))
def test_a_name_of_the_library_is_there(place: str, name: str) -> None:
    module, found = name, None
    while found is None:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module = module.rpartition(".")[0]
    for part in filter(None, name.removeprefix(module).split(".")):
        found = getattr(found, part)  # raises where it is missing


@pytest.mark.parametrize(("place", "extra"), _found(r"torchvice\[(\w+)\]"))
def test_an_extra_is_there(place: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"], place


@pytest.mark.parametrize(("place", "page"), _found(r"docs/[\w/-]+\.md"))
def test_a_page_is_there(place: str, page: str) -> None:
    assert (ROOT / page).is_file(), place
