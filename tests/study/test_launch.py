"""Launchers other than the local one: Ray with a killed worker, SLURM by submitit on one machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from torchvice.study import load_study, run_study


def kill_one_worker(study: Path, killed: list[int]) -> None:
    """Kill the parent of the first job that has begun to train: the worker that waits for it."""
    end = time.monotonic() + 240
    while time.monotonic() < end and not killed:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            mine = [w for w in words if w.startswith(os.fsencode(str(study)))]
            if b"torchvice.study.job" in words and mine and (Path(os.fsdecode(mine[0])) / "config.yaml").is_file():
                os.kill(parent, signal.SIGKILL)
                killed.append(parent)
                return
        time.sleep(0.05)


@pytest.mark.slow
def test_ray_with_a_worker_killed_in_the_middle(study_file) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    study = load_study(study_file(), where={"launcher": "ray", "jobs": 2, "cpus": 1})
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_worker, args=(study.folder, killed))
    killer.start()
    found = run_study(study)
    killer.join()
    assert len(killed) == 1
    assert not found.failed
    assert [row["status"] for row in found.rows] == ["finished"] * 4
    assert [row["run"] for row in found.rows] == [run.folder.name for run in study.runs]


@pytest.mark.slow
def test_slurm_by_submitit(study_file) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    study = load_study(study_file(seeds=[1]), where={"launcher": "slurm", "cpus": 1, "slurm": {"cluster": "local"}})
    found = run_study(study)
    assert not found.failed
    assert [row["status"] for row in found.rows] == ["finished"] * 2
