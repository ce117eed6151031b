"""Whole commands whose writing calls fail, and assessments that are killed at random; what must hold: every_call.py.

The slow tests take hours on a busy machine. TORCHVICE_CRASH_PART=1/20 cuts them to a part of the calls, and
TORCHVICE_KILLS=20 to so many kills.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crash.shim import KINDS, State, built

HERE = Path(__file__).parent
# What the test of `train` and of the assessment lets fail already.
OF_RUNS = r"/(checkpoints|logs|assess)/"
TABLES, PAGES = ("assess", "add", "amend", "models"), ("report", "folder", "measure", "rank", "page")
TRAININGS = ("train", "callback", "pretrain")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    if sys.platform != "linux":
        pytest.skip("the library counts the calls of Linux")
    found = built(tmp_path_factory.mktemp("shim"))
    if found is None:
        pytest.skip("no C compiler")
    return found


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE.parents[1] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, HERE / name, *arguments], env=environment, capture_output=True, text=True)


WRITES = """
import os, sys
folder = sys.argv[1]
with open(f"{folder}/a.part", "wb", buffering=0) as file:
    done = file.write(b"x" * 1000)
    os.fsync(file.fileno())
os.mkdir(f"{folder}/b")
os.replace(f"{folder}/a.part", f"{folder}/b/a")
os.unlink(f"{folder}/b/a")
print(done)
"""


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_the_library_lets_the_call_of_a_number_fail(library: Path, tmp_path: Path, kind: str | None) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    State.create(tmp_path / "state")
    state = State(tmp_path / "state")
    state.set(watched, kind, 2)
    environment = {**os.environ, "LD_PRELOAD": str(library), "CRASH_STATE": str(tmp_path / "state")}
    ended = subprocess.run([sys.executable, "-c", WRITES, watched], env=environment, capture_output=True, text=True)
    expected = [("open", "a.part"), ("write", "a.part"), ("fsync", "a.part")]
    expected += [("mkdir", "b"), ("rename", "b/a"), ("unlink", "b/a")]
    fails = kind in ("ENOSPC", "EIO", "SIGKILL")
    # The second write of a disk that is full fails, and this program makes one alone; then no folder can be made.
    made = expected[:2] if fails else expected[:3] if kind == "full" else expected
    assert [call[:2] for call in state.calls] == made
    assert state.fired is (kind is not None)
    if kind in (None, "short"):
        assert (ended.returncode, ended.stdout.strip()) == (0, "500" if kind else "1000")
    elif kind == "SIGKILL":
        assert ended.returncode == -9
        assert (watched / "a.part").stat().st_size == 500
    else:
        assert "Input/output error" in ended.stderr if kind == "EIO" else "No space left" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [*TABLES, *PAGES, *TRAININGS, "study"])
def test_a_command_goes_on_after_any_call_failed(library: Path, command: str) -> None:
    if command == "pretrain":
        pytest.importorskip("lightly", reason="the extra `pretrain` is not installed")
    cut = ["--part", os.environ.get("TORCHVICE_CRASH_PART", "1/1")]
    cut += ["--turns", "--skip", OF_RUNS] if command == "study" else []
    ended = program("every_call.py", command, *cut)
    assert " 0 problems" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


@pytest.mark.slow
def test_a_table_is_whole_after_random_kills(library: Path) -> None:
    ended = program("random_kills.py", "--kills", os.environ.get("TORCHVICE_KILLS", "1000"))
    assert '"problems": 0' in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0
