"""The library that lets a command's writing calls fail: its build, its settings and what it counted."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["KINDS", "Call", "State", "arm", "built"]

# How a call fails; the numbers are those of shim.c.
KINDS = {
    "ENOSPC": 1,  # this call alone
    "EIO": 2,
    "short": 3,  # half of what was to be written is, as a system may do at any time
    "SIGKILL": 4,  # after half of what was to be written, else before the call
    "full": 5,  # ENOSPC from this call on, until space is freed by hand
}
RECORDS = 16384


class Call(ctypes.Structure):
    """One call that writes: its process, its name, the bytes to be written and the path below the folder."""

    _fields_ = [
        ("pid", ctypes.c_int32),
        ("call", ctypes.c_char * 12),
        ("bytes", ctypes.c_int64),
        ("path", ctypes.c_char * 232),
    ]


class _State(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("target", ctypes.c_int64),
        ("kind", ctypes.c_int32),
        ("fired", ctypes.c_int32),
        ("folder", ctypes.c_char * 496),
        ("records", Call * RECORDS),
    ]


def built(folder: Path) -> Path | None:
    """Compile shim.c into a folder; None without a C compiler."""
    compiler = next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-O2", "-Wall", "-fPIC", "-shared", "-o", library, source, "-ldl"], check=True)
    return library


class State:
    """The settings and counts that the library and this process share, in the file that CRASH_STATE names."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_State))
        self._state = _State.from_buffer(self._map)

    @staticmethod
    def create(path: str | os.PathLike[str]) -> None:
        """Make the file, which the library maps when a process starts."""
        with open(path, "wb") as file:
            file.truncate(ctypes.sizeof(_State))

    def set(self, folder: Path, kind: str | None = None, target: int = 0) -> None:
        """Count from 0 below a folder; let call `target` fail, from 1, if a kind of KINDS is given."""
        state = self._state
        state.count = state.fired = 0
        state.target, state.kind = target, 0 if kind is None else KINDS[kind]
        state.folder = os.fsencode(folder.resolve())

    @property
    def fired(self) -> bool:
        """Whether a call failed."""
        return bool(self._state.fired)

    @property
    def calls(self) -> list[tuple[str, str, int]]:
        """What was called since `set`: name, path below the folder, bytes."""
        found = self._state.records[: min(self._state.count, RECORDS)]
        return [(call.call.decode(), os.fsdecode(call.path), call.bytes) for call in found]


def arm(on: bool = True) -> None:
    """Let this process and those that it starts count, if the library is loaded."""
    os.environ.pop("CRASH_WAIT", None)
    ctypes.CDLL(None).crash_arm(int(on))
