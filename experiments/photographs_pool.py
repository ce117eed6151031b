"""Processes that train and assess networks in turn, several at a time on one device, until a deadline.

A process lives for many runs: torch and Lightning are imported once, and every photograph is decoded once. What a run
does is `torchvice.study.job.run_job`, so a run that is killed resumes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from torchvice.errors import as_vice_error
from torchvice.files import write_json, write_text
from torchvice.files.process import end_with_parent, keep_freed_memory
from torchvice.study.job import FAILED

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """Work in one folder: `what` is "run" or "pretrain"; `after`, the folder of the task that it waits for."""

    what: str
    folder: Path
    after: Path | None = None


@dataclass
class _Worker:
    """A process, the end of its pipe, and what it works on since when."""

    process: Any
    pipe: connection.Connection
    task: Task | None = None
    since: float = 0.0


@dataclass
class Pool:
    """At most `jobs` processes. `until`: a time of `time.monotonic()`; None: none.

    Near the deadline no task begins that would hardly end before it; at the deadline the processes are ended.
    """

    jobs: int
    until: float | None = None
    workers: list[_Worker] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, str, float]]:
        """Yield every task that ends, with "" or the reason of its failure, and its seconds."""
        waiting, ended = list(tasks), set[Path]()
        try:
            while True:
                self._hand_out(waiting, ended, {task.folder for task in tasks})
                busy = [worker for worker in self.workers if worker.task]
                if not busy or self._left() <= 0:
                    return
                ready = connection.wait([worker.pipe for worker in busy], max(0.05, min(self._left(), 5.0)))
                for worker in busy:
                    if worker.pipe in ready:
                        task, spent = worker.task, time.monotonic() - worker.since
                        assert task is not None
                        reason = self._answer(worker)
                        ended.add(task.folder)
                        self.seconds += [] if reason else [spent]
                        yield task, reason, spent
        finally:
            self._end()

    def _left(self) -> float:
        return float("inf") if self.until is None else self.until - time.monotonic()

    def _hand_out(self, waiting: list[Task], ended: set[Path], known: set[Path]) -> None:
        """Give tasks to idle processes, in order; a task waits for the one that it comes after."""
        needed = 0.8 * statistics.median(self.seconds) if self.seconds else 0.0
        self.workers = [worker for worker in self.workers if worker.task or worker.process.is_alive()]
        for task in list(waiting):
            if self._left() < needed:
                return
            idle = next((worker for worker in self.workers if worker.task is None), None)
            if idle is None and len(self.workers) >= self.jobs:
                return
            if task.after in known and task.after not in ended:
                continue
            waiting.remove(task)
            idle = idle or self._start()
            idle.task, idle.since = task, time.monotonic()
            idle.pipe.send(task)

    def _start(self) -> _Worker:
        mine, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_work, args=(theirs,))
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, mine))
        return self.workers[-1]

    def _answer(self, worker: _Worker) -> str:
        """What an ended task says; a process that died is replaced when the next task begins."""
        task, worker.task = worker.task, None
        try:
            return str(worker.pipe.recv())
        except (EOFError, OSError):
            self.workers.remove(worker)
            worker.process.join(10)
            reason = f"its process ended with status {worker.process.exitcode}"
            assert task is not None
            task.folder.mkdir(parents=True, exist_ok=True)
            write_json(task.folder / FAILED, {"reason": reason})
            return reason

    def _end(self) -> None:
        for worker in self.workers:
            if worker.task is None:
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
            else:
                _kill(worker.process)
        for worker in self.workers:
            worker.process.join(10)
            if worker.process.is_alive():
                _kill(worker.process)
        self.workers.clear()


def _kill(process: Any) -> None:
    """End a process together with those that it started, such as its loaders: they would hold its output open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _work(pipe: connection.Connection) -> None:
    """Do the tasks that come through a pipe, until None comes."""
    os.setsid()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    end_with_parent()
    keep_freed_memory()
    import torch

    torch.set_num_threads(1)
    _decode_once()
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while (task := pipe.recv()) is not None:
            pipe.send(_done(task))


def _done(task: Task) -> str:
    """Do a task; its output goes to job/log.txt. Returns "" or the reason of its failure, which failed.json holds."""
    log = task.folder / "job" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            DO[task.what](task.folder)
            return ""
        except Exception as error:  # no failure may stop the others
            sentence = as_vice_error(error)
            if sentence is None:
                traceback.print_exc()
            reason = " ".join(str(sentence or f"{type(error).__name__}: {error}").split())[:1000]
            print(f"{task.folder.name}: {reason}", file=sys.stderr)
            write_json(task.folder / FAILED, {"reason": reason})
            return reason
        finally:
            _free()


def _free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _run(folder: Path) -> None:
    from torchvice.study.job import run_job

    run_job(folder)


def _pretrain(folder: Path) -> None:
    from torchvice.config import load_settings
    from torchvice.training.pretrain import MANIFEST, pretrain

    settings = load_settings(folder / "job" / "settings.yaml")
    scheme = (folder / "job" / "scheme.txt").read_text().strip()
    pretrain(settings, scheme, folder=folder, resume=(folder / MANIFEST).is_file())


DO: dict[str, Callable[[Path], None]] = {"run": _run, "pretrain": _pretrain}


def prepare_pretraining(folder: Path, settings: str, scheme: str) -> None:
    """Write what `_pretrain` reads."""
    (folder / FAILED).unlink(missing_ok=True)
    write_text(folder / "job" / "settings.yaml", settings)
    write_text(folder / "job" / "scheme.txt", scheme + "\n")


def _decode_once() -> None:
    """Keep every photograph that this process has decoded: half a megabyte each at most, for all its trainings."""
    from torchvice.data import unlabelled, voc

    read, pixels = voc.read_image, dict[str, Any]()

    def remembered(path: Any, least: Any = None) -> Any:
        name = os.fspath(path)
        if name not in pixels:
            pixels[name] = read(path)
            pixels[name].flags.writeable = False
        if least is not None:
            least(pixels[name].shape[:2])  # draws the box of a resized crop; the whole image will do
        return pixels[name]

    voc.read_image = unlabelled.read_image = remembered  # type: ignore[assignment]
