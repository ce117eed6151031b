"""Read YAML as plain values: no name twice, no tags, no document that expands to more than was written."""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from torchvice.errors import ViceError
from torchvice.files.reading import existing_file

__all__ = ["FLOAT", "parse_document", "parse_yaml", "read_yaml", "whole_match"]

MOST_NODES = 100_000
DEEPEST = 100  # nodes in each other: for each that is open, PyYAML looks a thousand characters ahead
FLOAT = r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan"


class _Loader(yaml.SafeLoader):
    """Plain values as in YAML 1.2: 1e-2 is a number; `on`, `no` and 12:30 are text; no name twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as PyYAML has it)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _expanded(node, {}) > MOST_NODES:
            raise yaml.YAMLError(f"its aliases expand to more than {MOST_NODES} entries")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                raise yaml.MarkedYAMLError(problem=f"`{name}` occurs twice", problem_mark=key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many nodes a node has where aliases are written out."""
    if id(node) not in sizes:
        sizes[id(node)] = MOST_NODES + 1  # of a node that holds itself
        parts = node.value if isinstance(node.value, list) else []
        inner = [part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,))]
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in inner)
    return sizes[id(node)]


def whole_match(pattern: str) -> re.Pattern[str]:
    """A pattern that matches a whole text."""
    return re.compile(f"(?:{pattern})$")


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),  # no leading zeros: 0010 is a name, not eight or ten
    ("float", FLOAT, "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", whole_match(_pattern), [*_first, ""])


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text into plain values.

    Args:
        text: one document.
        where: names the text in a message.

    Raises:
        ViceError: not YAML, or a name twice, with the line; too deep, or larger than it is written.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where += f", line {mark.line + 1}," if mark else ""
        raise ViceError(f"{where} must be YAML, but is not: {error.problem or error.context}.") from None
    except RecursionError:
        raise ViceError(f"{where} must be YAML, but is nested too deeply.") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ViceError(f"{where} must be YAML, but is not: {' '.join(str(error).split())}.") from None


def parse_document(text: str, where: str) -> Any:
    """Parse the YAML or JSON text of a file; its key `$schema`, by which an editor finds the schema, is passed over.

    Args:
        text: one document.
        where: names the text in a message.

    Raises:
        ViceError: as `parse_yaml`.
    """
    content = parse_yaml(text, where)
    if isinstance(content, dict) and isinstance(content.get("$schema"), str):
        del content["$schema"]
    return content


def read_yaml(path: str | os.PathLike[str], what: str) -> Any:
    """Read a YAML file in UTF-8 as plain values, without `$schema`; `what` names it in a message.

    Raises:
        ViceError: no such file; as `parse_yaml`.
    """
    path = existing_file(path, what)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ViceError(f"{what} {path} must be YAML in UTF-8, but is not: {error}.") from None
    return parse_document(text, f"{what} {path}")
