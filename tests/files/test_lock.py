"""The lock: one at a time, free after a kill, and a holder on another machine is taken for dead when it is silent."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torchvice.errors import ViceError
from torchvice.files import lock
from torchvice.files.lock import STALE, is_locked, locked

HOLD = "import sys, time\nfrom torchvice.files.lock import locked\nwith locked(sys.argv[1], 'x'):\n    print('in', flush=True)\n    time.sleep(60)"  # noqa: E501


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


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_age_of_a_holder_is_told_by_the_clock_of_the_file_system(tmp_path, monkeypatch, hours) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 5, "since": "today"}))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    with pytest.raises(ViceError, match="process 5 on elsewhere"):
        locked(path, "The study").__enter__()


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, as NFS without lockd."""

    def refuse(file, how) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_of_the_kernel_one_process_alone_holds_it(tmp_path, no_locks) -> None:
    path = tmp_path / "lock"
    with locked(path, "The table"):
        assert is_locked(path)
        with pytest.raises(ViceError, match=f"The table is already running: process {os.getpid()} on "):
            locked(path, "The table").__enter__()
    assert not is_locked(path)
    with locked(path, "The table"):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lock"]


def test_without_locks_of_the_kernel_a_dead_holder_loses_it(tmp_path, no_locks) -> None:
    path = tmp_path / "lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claim = tmp_path / "lock.held"
    claim.write_text(json.dumps({"host": platform.node(), "pid": dead.pid, "since": "today"}))
    with locked(path, "The table"):
        held = json.loads(claim.read_text())
        assert held["pid"] == os.getpid()
    claim.write_text(json.dumps(held))  # this process as it is
    with pytest.raises(ViceError, match="The table is already running"):
        locked(path, "The table").__enter__()
    claim.write_text(json.dumps(held | {"start": held["start"] - 1}))  # one that had the same id and is dead
    with locked(path, "The table"):
        pass
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 5, "since": "today"}))
    with pytest.raises(ViceError, match="The table is already running"):
        locked(path, "The table").__enter__()
    old = time.time() - STALE - 1
    os.utime(claim, (old, old))
    with locked(path, "The table"):
        pass


def test_whether_a_lock_is_held_can_be_asked_without_taking_it(tmp_path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    with locked(path, "The table"):
        assert is_locked(path)
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not is_locked(path)


def test_an_error_of_another_kind_is_not_hidden(tmp_path, monkeypatch) -> None:
    def broken(file, how) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "_flock", lambda file: broken(file, 0))
    with pytest.raises(OSError, match="Input/output"):
        locked(tmp_path / "lock", "The table").__enter__()


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


def test_a_read_only_folder_is_named_instead_of_the_lock(tmp_path, monkeypatch) -> None:
    def refused(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(lock, "open", refused, raising=False)
    with pytest.raises(OSError, match="Read-only") as caught:
        locked(tmp_path / "lock", "The table").__enter__()
    assert caught.value.filename == str(tmp_path)


def test_a_lock_that_cannot_be_written_names_its_folder(tmp_path, monkeypatch) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write of an open file raises it

    monkeypatch.setattr(lock, "_signature", full)
    with pytest.raises(OSError, match="No space left") as caught:
        locked(tmp_path / "lock", "The table").__enter__()
    assert caught.value.filename == str(tmp_path)
    assert not lock._open


def test_what_cannot_be_given_back_does_not_end_finished_work(tmp_path, monkeypatch) -> None:
    def refused(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "lock"
    with locked(path, "The table", keep=False):
        monkeypatch.setattr(Path, "unlink", refused)
    assert path.exists()
    monkeypatch.undo()
    with locked(path, "The table", keep=False):
        assert is_locked(path)
    assert not path.exists()
