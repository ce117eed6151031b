"""Launchers of a study: local processes, Ray or SLURM. Each run is a separate process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.study.plan import LaunchSettings

__all__ = ["lacking_launcher", "run_jobs"]

LOG = "job/log.txt"
_PACKAGES = {"ray": "Ray", "slurm": "submitit"}  # by launcher


def run_jobs(folders: Sequence[Path], where: LaunchSettings) -> Iterator[tuple[Path, str]]:
    """Run the jobs of some RUNs; yield each when it ends, with "" or the reason of its failure.

    Raises:
        ViceError: the launcher is not installed, has no cluster or cannot start.
    """
    if lacking := lacking_launcher(where):
        raise lacking
    yield from {"local": _local, "ray": _ray, "slurm": _slurm}[where.launcher](folders, where)


def lacking_launcher(where: LaunchSettings) -> ViceError | None:
    """Return the error of a launcher whose package is not installed, or of SLURM without a cluster, else None."""
    package = _PACKAGES.get(where.launcher)
    if package is not None and importlib.util.find_spec(package.lower()) is None:
        message = f"The launcher {where.launcher} needs {package}, which is not installed."
        return ViceError(message, f"pip install 'torchvice[{where.launcher}]'")
    on_cluster = where.launcher == "slurm" and where.slurm.get("cluster", "slurm") == "slurm"
    if on_cluster and shutil.which("srun") is None:
        return ViceError(
            "The launcher slurm needs SLURM, but its program `srun` is not found on this machine.",
            "Start the study on a machine of the cluster, or on this one: --launcher local.",
        )
    return None


def threads(where: LaunchSettings) -> int:
    """Return the threads of each run: `where.cpus`, or an equal share of the CPU cores, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return where.cpus or max(1, cores // where.jobs)


def start_job(folder: Path, count: int) -> subprocess.Popen[bytes]:
    """Start a process that runs one job with `count` threads and ends when this process ends."""
    source = str(Path(__file__).parents[2])  # the same torchvice, installed or not
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {f"{name}_NUM_THREADS": str(count) for name in ("OMP", "MKL", "OPENBLAS")}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, **settings}
    log = folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        program = [sys.executable, "-m", "torchvice.study.job", str(folder), "--with-parent"]
        return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment)


def do_job(folder: str, count: int) -> str:
    """Run a job to its end; returns "" or the reason of its failure."""
    process = start_job(Path(folder), count)
    try:
        return ending(process.wait())
    finally:
        end(process)


def ending(status: int) -> str:
    """Describe the exit status of a process; "" for 0.

    Example:
        >>> ending(0), ending(1), ending(-9)
        ('', 'its process ended with status 1', 'its process was ended by signal 9')
    """
    if status == 0:
        return ""
    return f"its process was ended by signal {-status}" if status < 0 else f"its process ended with status {status}"


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process of a job if it is still running."""
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _local(folders: Sequence[Path], where: LaunchSettings) -> Iterator[tuple[Path, str]]:
    """Run `jobs` processes at a time on this machine."""
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


def _ray(folders: Sequence[Path], where: LaunchSettings) -> Iterator[tuple[Path, str]]:
    """Run tasks on the Ray cluster of RAY_ADDRESS or of this machine; without a cluster, start one here.

    A task whose worker dies is started again on another worker and resumes the run.
    """
    import ray

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


def _slurm(folders: Sequence[Path], where: LaunchSettings) -> Iterator[tuple[Path, str]]:
    """Submit SLURM jobs with submitit; `cluster: local` in `where.slurm` selects submitit's local executor."""
    import submitit

    parameters = dict(where.slurm)
    cluster = parameters.pop("cluster", "slurm")
    count = threads(where)
    try:
        executor = submitit.AutoExecutor(folder=folders[0].parent.parent / "slurm", cluster=cluster)
        defaults: dict[str, Any] = {"cpus_per_task": count, "gpus_per_node": int(where.gpus), "timeout_min": 1440}
        executor.update_parameters(**{**defaults, **parameters})
        jobs = {executor.submit(do_job, str(folder.resolve()), count): folder for folder in folders}
    except (RuntimeError, NameError, ValueError, TypeError, FileNotFoundError) as error:
        raise ViceError(f"SLURM refused the runs: {' '.join(str(error).split())}") from None
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
    """Return the result of a job, or say that it was lost."""
    try:
        return str(result())
    except Exception as error:  # schedulers raise different types for lost jobs
        return f"its job was lost: {' '.join(str(error).split())[:300]}"
