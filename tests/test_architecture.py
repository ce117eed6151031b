"""The rooms and their arrows: docs/architecture.md, held against the imports of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "torchvice"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)` \| .+? \|(.*)\|$", PAGE.split("## Rooms")[1].split("\n## ")[0], re.MULTILINE)
ALLOWED = {room.removesuffix(".py"): {name.strip() for name in imports.split(",")} - {""} for room, imports in ROWS}
HEAVY = {"torch", "torchvision", "torchmetrics", "lightning", "timm", "matplotlib", "sklearn", "pandas", "scipy"}
# The measures as torchmetrics' classes: with torch, and therefore imported by nobody at the top.
TORCH_METRICS = SOURCE / "metrics" / "modules.py"
# What `vice --help` and `vice measure` reach.
LIGHT = ("errors", "files", "config", "metrics", "samples", "interop", "measures", "report", "runs", "commands")
LIGHT += ("fiftyone", "cli")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path, at_the_top: bool = False) -> set[str]:
    """The full names that a module imports: also inside functions and for types, or only those of its loading."""
    found, nodes = set(), list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif not at_the_top:
            nodes += ast.iter_child_nodes(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def test_every_room_is_listed_and_every_listed_room_is_there() -> None:
    assert set(ALLOWED) == {room_of(path) for path in MODULES}
    known = {*ALLOWED, "anything"}
    assert all(there <= known for there in ALLOWED.values())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    room = room_of(path)
    there = {name.split(".")[1] for name in imported(path) if name.startswith("torchvice.")} - {room}
    if "anything" not in ALLOWED[room]:
        assert not there - ALLOWED[room], f"{room} may import {sorted(ALLOWED[room])}"


def test_no_arrow_is_listed_that_nothing_follows() -> None:
    followed: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for path in MODULES:
        followed[room_of(path)] |= {name.split(".")[1] for name in imported(path) if name.startswith("torchvice.")}
    for room, there in ALLOWED.items():
        assert there - {"anything"} <= followed[room], f"the arrows of {room}"


def test_nobody_imports_the_cli_and_only_doors_import_the_commands() -> None:
    for path in MODULES:
        there = {name.split(".")[1] for name in imported(path) if name.startswith("torchvice.")} - {room_of(path)}
        assert "cli" not in there, path.name
        if room_of(path) not in ("cli", "fiftyone", "study"):
            assert "commands" not in there, path.name


def test_metrics_are_pure_and_the_report_has_no_torch() -> None:
    for path in MODULES:
        packages = {name.split(".")[0] for name in imported(path)}
        if room_of(path) == "metrics" and path != TORCH_METRICS:
            assert not packages & {"PIL", "matplotlib", "torch", "pyarrow"}, path.name
        if room_of(path) == "report":
            assert "torch" not in packages, path.name


def test_light_rooms_load_nothing_heavy() -> None:
    for path in [SOURCE / "__init__.py", *(path for path in MODULES if room_of(path) in LIGHT)]:
        heavy = HEAVY & {name.split(".")[0] for name in imported(path, at_the_top=True)}
        assert not heavy or path == TORCH_METRICS, f"{path.relative_to(SOURCE)} loads {sorted(heavy)} at its top"


def test_the_metrics_with_torch_are_nobodys() -> None:
    for path in [SOURCE / "__init__.py", *MODULES]:
        there = [name for name in imported(path, at_the_top=True) if name.startswith("torchvice.metrics.modules")]
        assert not there, path.name


def test_a_room_that_is_a_file_is_listed_as_one() -> None:
    on_disk = {path.relative_to(SOURCE).parts[0] for path in MODULES}
    assert on_disk == {room for room, _ in ROWS}


def test_the_files_that_the_page_names_are_there() -> None:
    section = PAGE.split("## To add or change something")[1].split("\n## ")[0]
    named = {name for name in re.findall(r"`([\w./]+\.(?:py|yaml))`", section) if "COMMAND" not in name}
    assert len(named) > 15
    beside = {path.name for path in (SOURCE / "explain").iterdir()}  # named after their room
    assert {name for name in named if not (SOURCE / name).is_file() and name not in beside} == set()


def test_help_loads_no_numpy() -> None:
    program = (
        "import sys, torchvice.cli.app; print(sorted({'numpy', 'torch', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
