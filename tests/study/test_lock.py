"""Lock files: one holder at a time, free after a kill, and stale without a heartbeat from another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from torchvice.errors import ViceError
from torchvice.study.lock import STALE, locked

HOLD = "import sys, time\nfrom torchvice.study.lock import locked\nwith locked(sys.argv[1], 'x'):\n    print('in', flush=True)\n    time.sleep(60)"  # noqa: E501


def test_two_processes_at_once_one_is_told_who_holds_it_and_a_kill_frees_it(tmp_path) -> None:
    path = tmp_path / "a" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ViceError, match=rf"The study is already running: process {holder.pid} on "):
            locked(path, "The study").__enter__()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with locked(path, "The study"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert path.read_text() == ""
    with locked(path, "The study"):
        pass


def test_a_holder_on_another_machine_counts_while_it_gives_signs_of_life(tmp_path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 5, "since": "today"}))
    with pytest.raises(ViceError, match="process 5 on elsewhere"):
        locked(path, "The study").__enter__()
    old = time.time() - STALE - 1
    os.utime(path, (old, old))
    with locked(path, "The study"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_waiting_ends_with_the_holder(tmp_path) -> None:
    path = tmp_path / "lock"
    code = HOLD.replace("60", "1.0")
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    start = time.monotonic()
    with locked(path, "The run", wait=True):
        assert time.monotonic() - start > 0.5
    holder.wait()
