"""Launchers: where the runs of a study run. Each run is a process of its own, whoever starts it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.study.plan import Where

__all__ = ["launched"]

LOG = "job/log.txt"


def launched(folders: Sequence[Path], where: Where) -> Iterator[tuple[Path, str]]:
    """Run the jobs of some RUNs; yields each with how it ended, "" or a reason, as soon as it has ended.

    Raises:
        ViceError: a launcher that is not installed or cannot start.
    """
    launcher = {"local": _local, "ray": _ray, "slurm": _slurm}[where.launcher]
    yield from launcher(folders, where)


def threads(where: Where) -> int:
    """Threads of each run: an equal share of the processor's cores, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return where.cpus or max(1, cores // where.jobs)


def start_job(folder: Path, count: int) -> subprocess.Popen[bytes]:
    """A process that does one job with `count` threads and ends with the one that started it."""
    source = str(Path(__file__).parents[2])  # the same torchvice, installed or not
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {f"{name}_NUM_THREADS": str(count) for name in ("OMP", "MKL", "OPENBLAS")}
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": path, **settings}
    log = folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        program = [sys.executable, "-m", "torchvice.study.job", str(folder), "--with-parent"]
        return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment)


def do_job(folder: str, count: int) -> str:
    """Start a job and wait for its end; returns "" or how it ended."""
    process = start_job(Path(folder), count)
    try:
        return ending(process.wait())
    finally:
        end(process)


def ending(status: int) -> str:
    """A process' status in words; "" for 0.

    Example:
        >>> ending(0), ending(1), ending(-9)
        ('', 'its process ended with status 1', 'its process was ended by signal 9')
    """
    if status == 0:
        return ""
    return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a job's process, if it has not ended."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _local(folders: Sequence[Path], where: Where) -> Iterator[tuple[Path, str]]:
    """`jobs` processes at a time on this machine."""
    waiting, count = list(folders), threads(where)
    running: dict[Path, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < where.jobs:
                folder = waiting.pop(0)
                running[folder] = start_job(folder, count)
            ended = [folder for folder, process in running.items() if process.poll() is not None]
            for folder in ended:
                process = running.pop(folder)
                end(process)
                yield folder, ending(process.returncode)
            if not ended:
                time.sleep(0.1)
    finally:
        for process in running.values():
            end(process)


def _ray(folders: Sequence[Path], where: Where) -> Iterator[tuple[Path, str]]:
    """Tasks of a Ray cluster: the one that RAY_ADDRESS names or runs here, else one of this machine.

    A task whose worker dies is started again elsewhere, and goes on where the run stood.
    """
    try:
        import ray
    except ImportError:
        raise ViceError("The launcher ray needs Ray.", "pip install 'torchvice[ray]' brings it.") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address="auto", log_to_driver=False)
        except ConnectionError:
            ray.init(num_cpus=where.jobs * threads(where), include_dashboard=False, log_to_driver=False)
    try:
        count = threads(where)
        task = ray.remote(do_job).options(num_cpus=count, num_gpus=where.gpus, max_retries=3)
        waiting = {task.remote(str(folder.resolve()), count): folder for folder in folders}
        while waiting:
            (ready, *_), _rest = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(ready), _outcome(lambda ready=ready: ray.get(ready))
    finally:
        if ours:
            ray.shutdown()


def _slurm(folders: Sequence[Path], where: Where) -> Iterator[tuple[Path, str]]:
    """Jobs of SLURM, by submitit; its own `local` executor where the settings say cluster: local."""
    try:
        import submitit
    except ImportError:
        raise ViceError("The launcher slurm needs submitit.", "pip install 'torchvice[slurm]' brings it.") from None
    chosen = dict(where.slurm)
    cluster = chosen.pop("cluster", "slurm")
    count = threads(where)
    try:
        executor = submitit.AutoExecutor(folder=folders[0].parent.parent / "slurm", cluster=cluster)
        given: dict[str, Any] = {"cpus_per_task": count, "gpus_per_node": int(where.gpus), "timeout_min": 1440}
        executor.update_parameters(**{**given, **chosen})
        jobs = {executor.submit(do_job, str(folder.resolve()), count): folder for folder in folders}
    except (RuntimeError, NameError, ValueError, TypeError, FileNotFoundError) as error:
        raise ViceError(f"SLURM cannot take the runs: {' '.join(str(error).split())}") from None
    try:
        while jobs:
            for job in [job for job in jobs if job.done()]:
                yield jobs.pop(job), _outcome(job.result)
            time.sleep(0.2 if cluster != "slurm" else 5.0)
    finally:
        for job in jobs:
            with contextlib.suppress(Exception):
                job.cancel(check=False)


def _outcome(result: Any) -> str:
    """What a job gave back, or in a sentence why it gave nothing."""
    try:
        return str(result())
    except Exception as error:  # whatever the scheduler raises for a job that was lost
        return f"its job was lost: {' '.join(str(error).split())[:300]}"
