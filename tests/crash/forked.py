"""Commands in processes that are forked from one that has imported torch, where a start would take seconds."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

__all__ = ["Ended", "Forked", "forks_only", "imported", "run"]


# Modules that import what the commands need.
COMMANDS = ("assessment.many", "assessment.outputs", "assessment.views", "cli.app", "commands.assess_models")
COMMANDS += ("commands.draw", "commands.rank", "commands.report", "report.figures", "report.ranking.page")
COMMANDS += ("report.study.page", "study.run", "training.callback", "training.pretrain", "training.run")
COMMANDS += ("assessment.behaviour", "models.listed", "models.started", "runs.subject")


class Ended(NamedTuple):
    """How a command ended: its status, negative for a signal, and what it printed."""

    status: int
    out: str
    err: str


def imported() -> None:
    """Import what the commands import, and use one thread: a pool of threads does not survive a fork."""
    import torch

    torch.set_num_threads(1)
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch.utils.tensorboard
    import torchmetrics  # noqa: F401

    for name in COMMANDS:
        importlib.import_module(f"torchvice.{name}")
    if importlib.util.find_spec("lightly"):
        import torchvice.training.selfsupervised  # noqa: F401
    gc.collect()
    gc.freeze()  # else each child copies all of this memory when it collects


class Forked:
    """`subprocess.Popen` of `python -m MODULE ...`, forked from this process; it has the part of it that we use."""

    def __init__(
        self,
        program: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        assert list(program[:2]) == [sys.executable, "-m"]
        ends = os.pipe() if stdin == subprocess.PIPE else None
        self._err = tempfile.TemporaryFile() if stderr == subprocess.PIPE else None  # noqa: SIM115 - closed by its end
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            files = {0: ends[0] if ends else stdin, 1: stdout, 2: self._err or stderr}
            _become(program[2], list(program[3:]), env, files, before)
        self.stdin = None
        if ends:
            os.close(ends[0])
            self.stdin = os.fdopen(ends[1], "wb")

    def poll(self) -> int | None:
        """The status, or None while it runs."""
        return self._waited(os.WNOHANG)

    def wait(self) -> int:
        """The status, once it has ended."""
        status = self._waited(0)
        assert status is not None
        return status

    def communicate(self) -> tuple[None, str]:
        """Nothing, and what it wrote to standard error."""
        self.wait()
        assert self._err is not None
        self._err.seek(0)
        return None, self._err.read().decode()

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def _waited(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become(
    module: str,
    arguments: list[str],
    env: Mapping[str, str] | None,
    files: Mapping[int, Any],
    before: Callable[[], None] | None,
) -> None:
    """Be the command in a child that was just forked, and end as a process of its own would."""
    status = 1
    try:
        for number, given in files.items():
            own = os.open(os.devnull, os.O_RDWR) if given in (None, subprocess.DEVNULL) else given
            os.dup2(own if isinstance(own, int) else own.fileno(), number)
        os.closerange(3, 256)  # the state of the library is a mapping
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        atexit._clear()  # what the process that it was forked from had to do at its end
        if before is not None:
            before()
        sys.argv = [module, *arguments]
        status = _status_of(module)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)


def _status_of(module: str) -> int:
    try:
        importlib.import_module("torchvice.cli.app" if module == "torchvice.cli" else module).main()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def forks_only() -> Iterator[None]:
    """Inside the block, commands fork the processes of `--processes` and the runs of a study, in place of starting."""
    with (
        mock.patch("torchvice.assessment.parts.subprocess.Popen", Forked),
        mock.patch("torchvice.study.launch.subprocess.Popen", Forked),
    ):
        yield


def run(
    command: Sequence[str | os.PathLike[str]],
    folder: Path,
    before: Callable[[], None] | None = None,
    seconds: float = 300,
) -> Ended:
    """Run `vice` with these arguments in a forked process; its output is kept in files outside of what is watched."""
    with open(folder / "out.txt", "w+b") as out, open(folder / "err.txt", "w+b") as err:
        program = [sys.executable, "-m", "torchvice.cli", *map(str, command)]
        process = Forked(program, stdout=out, stderr=err, before=before)
        end = time.monotonic() + seconds
        while process.poll() is None:
            if time.monotonic() > end:
                process.kill()
                raise TimeoutError(f"vice {' '.join(map(str, command))} did not end within {seconds:g} s")
            time.sleep(0.005)
        out.seek(0)
        err.seek(0)
        return Ended(process.wait(), out.read().decode(), err.read().decode())
