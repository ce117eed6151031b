"""Two things at once, in processes without torch: the same result whatever happens to the copy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tables import scenes, table_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process is copied on Linux only")

BEGIN = """
import os, signal, sys, threading, time
from torchvice.metrics import beside
beside.threads = lambda: 2
own, done = os.getpid(), []
def here(): done.append(os.getpid())
def there(): return os.getpid()
def in_copy(): return os.getpid() != own
"""
END = """
found = beside.at_once(here, there)
assert done == [own], done
print("copy" if found != own else "here")
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("none is left")
"""


def printed(code: str, status: int = 0) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("", "copy"),
        ("beside.threads = lambda: 1", "here"),
        ("threading.Thread(target=time.sleep, args=(2,), daemon=True).start()", "here"),
        ("sys.modules['torch'] = os", "here"),
        ("def there():\n    os.kill(os.getpid(), signal.SIGKILL) if in_copy() else None\n    return own", "here"),
        ("def there():\n    os.close(2)\n    1 / 0 if in_copy() else None\n    return own", "here"),
        ("beside.PATIENCE = 0.2\ndef there():\n    time.sleep(50) if in_copy() else None\n    return own", "here"),
        ("def there():\n    return own if not in_copy() else lambda: 'cannot be pickled'", "here"),
    ],
)
def test_the_result_is_that_of_the_work_wherever_it_was_done(change: str, where: str) -> None:
    assert printed(BEGIN + change + END) == f"{where}\nnone is left\n"


def test_what_the_work_raises_is_raised_here_without_a_second_traceback() -> None:
    shown = printed(BEGIN + "def there(): 1 / 0" + END, status=1)
    assert shown.count("ZeroDivisionError") == 1
    assert shown.count("Traceback") == 1


def test_what_is_raised_here_ends_the_copy() -> None:
    code = (
        BEGIN + "def there(): time.sleep(50)\ndef here(): raise KeyError('here')\ntry:\n    beside.at_once(here, there)"
    )
    code += "\nexcept KeyError as error:\n    print(error)\nos.waitpid(-1, 0)"
    shown = printed(code, status=1)
    assert shown.startswith("'here'")
    assert "ChildProcessError" in shown


def test_a_large_result_comes_whole() -> None:
    code = BEGIN + "def there(): return os.getpid(), 'x' * 10**7\nfound = beside.at_once(here, there)\n"
    assert printed(code + "print(found[0] != own, len(found[1]))") == "True 10000000\n"


MEASURE = """
import json, sys
from torchvice.metrics import beside
beside.threads = lambda: int(sys.argv[2])
at_once, made = beside.at_once, []
fork = beside.os.fork
beside.os.fork = lambda: made.append(1) or fork()
from torchvice.measures import measure
from torchvice.samples import Samples
found = json.dumps(measure(Samples.load(sys.argv[1]), replicates=500).to_json(), sort_keys=True)
print(len(made), found)
"""


def test_a_measurement_is_the_same_in_one_process_and_in_two(tmp_path: Path) -> None:
    table_of(scenes(500)).save(tmp_path / "table")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # one thread in both: only the processes differ
    one, two = (
        subprocess.run(
            [sys.executable, "-c", MEASURE, tmp_path / "table", processes],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.partition(" ")
        for processes in "12"
    )
    assert (one[0], two[0]) == ("0", "1")
    assert one[2] == two[2]
