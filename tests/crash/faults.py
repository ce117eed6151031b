"""Writing calls of this process that fail: the functions of `os`, and files opened for writing, are replaced."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["Faults", "in_child"]

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
BY_PATH = ("unlink", "mkdir", "rmdir", "replace", "rename")  # the last argument is the path that is written


class Faults:
    """Count the writing calls below a folder inside `with`, and let one of them fail.

    Args:
        folder: whose files are watched.
        target: the number of the call that fails, from 1; 0: none.
        kind: "ENOSPC", "EIO", "short" (half of what was to be written is) or "SIGKILL".

    Attributes:
        calls: (name, path) of each call.
    """

    def __init__(self, folder: Path, target: int = 0, kind: str = "ENOSPC") -> None:
        self.folder, self.target, self.kind = os.path.realpath(folder), target, kind
        self.calls: list[tuple[str, str]] = []

    def __enter__(self) -> Faults:
        self._patches = ExitStack()
        real = {name: getattr(os, name) for name in (*BY_PATH, "open", "fsync")}
        for name in BY_PATH:
            self._patches.enter_context(mock.patch.object(os, name, self._by_path(name, real[name])))
        self._patches.enter_context(mock.patch.object(os, "open", self._os_open(real["open"])))
        self._patches.enter_context(mock.patch.object(os, "fsync", self._fsync(real["fsync"])))
        for module in (io, builtins):
            self._patches.enter_context(mock.patch.object(module, "open", self._opened))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def next(self, name: str, path: Any) -> bool:
        """Count a call; whether only half of it is to be done.

        Raises:
            OSError: it is the one that fails.
        """
        whole = os.path.realpath(os.fspath(path))
        if not whole.startswith(self.folder):
            return False
        self.calls.append((name, os.path.relpath(whole, self.folder)))
        if len(self.calls) != self.target:
            return False
        if self.kind in ERRORS:
            number = ERRORS[self.kind]
            raise OSError(number, os.strerror(number), *([] if name in ("write", "fsync") else [str(path)]))
        if self.kind == "SIGKILL" and name != "write":
            os.kill(os.getpid(), signal.SIGKILL)
        return name == "write"

    def _by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.next("rename" if name == "replace" else name, arguments[1 if name in ("replace", "rename") else 0])
            return real(*arguments, **more)

        return call

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.next("open", path)
            return real(path, flags, *arguments, **more)

        return call

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(file: int) -> None:
            self.next("fsync", os.readlink(f"/proc/self/fd/{file}"))
            real(file)

        return call

    def _opened(self, path: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **more: Any) -> Any:
        watched = not isinstance(path, int) and os.path.realpath(os.fspath(path)).startswith(self.folder)
        if not watched or not set(mode) & set("wax+"):
            return _OPEN(path, mode, buffering, *arguments, **more)
        self.next("open", path)
        raw = _Raw(path, mode.replace("b", "").replace("t", ""))
        raw.faults, raw.path = self, path
        whole: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, *arguments, **more)


_OPEN = open


class _Raw(io.FileIO):
    faults: Faults
    path: Any

    def write(self, content: Any) -> int:
        if not self.faults.next("write", self.path):
            return super().write(content)
        view = memoryview(content).cast("B")
        done = super().write(view[: max(1, len(view) // 2)])
        if self.faults.kind == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def in_child(work: Callable[[], object]) -> int:
    """Do the work in a forked process; returns its status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def first_of_its_process() -> Iterator[None]:
    """Inside the block, the folders count as not yet cleared of what killed processes left."""
    with mock.patch("torchvice.files.writing._cleared", set()):
        yield
