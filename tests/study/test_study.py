"""Run a study: every run in a process, killed and resumed, failures reported, the table complete."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.files import read_json, write_json
from torchvice.files.lock import locked
from torchvice.measures import compare
from torchvice.measures.compare import COMPARED_OF_SEEDS, compare_groups, group_pairs
from torchvice.measures.protocols import measure
from torchvice.metrics.comparison import holm
from torchvice.report.study.recipes import read_study
from torchvice.report.study.text import facts_of_study
from torchvice.samples import Samples
from torchvice.study import check_study, estimate, load_study, run_study
from torchvice.study.description import write_description
from torchvice.study.job import STATE, failure, finished, prepare, row_of, run_job
from torchvice.study.run import study_result
from torchvice.study.table import compare_levels, sentences_of, table_rows, write_table

TIMES = {"train_seconds", "assess_seconds"}


def without_times(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def test_a_run_is_trained_and_assessed_once(study_file) -> None:
    study = load_study(study_file(seeds=[1], axes={}))
    (run,) = study.runs
    assert table_rows(study) == []
    assert (estimate(study).missing, estimate(study).seconds) == (study.runs, None)
    least = estimate(study, check_study(study))
    row = run_job(prepare(run, study.request))
    checkpoints = sum(path.stat().st_size for path in run.folder.glob("checkpoints/*.ckpt"))
    assert least.least
    assert 0.9 * checkpoints < least.bytes <= checkpoints
    assert finished(run, study.request) == row
    measures = read_json(run.folder / "measures.json")
    assert row["vice"] == measures["strict"]["vice"]
    assert row["vice_low"] == measures["intervals"]["strict.vice"]["low"]
    assert row["paper_vice"] is None  # not assessed
    assert row["controls"] is None  # none were assessed
    assert row["images"] == 24
    compared_row = compare(
        {"a": Samples.load(run.folder / "assess/test"), "b": Samples.load(run.folder / "assess/test")}
    )
    assert row["loss"] == pytest.approx(compared_row.models[0]["loss"])
    made = {
        path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file() and "job" not in path.parts
    }
    assert run_job(prepare(run, study.request)) == row
    assert made == {path: path.stat().st_mtime_ns for path in made}
    found = estimate(study)
    assert (found.finished, found.missing, found.seconds) == (study.runs, (), 0)
    # Another question of the same run is not answered by the row that is there.
    assert finished(run, study.request.model_copy(update={"replicates": 200})) is None


def fake(run, request, **row):
    """The state of a finished run, as `run_job` leaves it."""
    measured = {"vice": 0.1, "mean_average_precision": 0.5, "ece_ml": 0.1, **row}
    state = {
        "asked": request.model_dump(mode="json"),
        "row": measured | {"train_seconds": 30.0, "assess_seconds": 10.0},
    }
    write_json(run.folder / STATE, state)


def test_the_table_has_every_run_once_with_the_same_columns(study_file, tmp_path) -> None:
    study = load_study(study_file())
    fake(study.runs[0], study.request, vice=0.25, controls="above all", vice_gradcam=0.5)
    fake(study.runs[2], study.request, vice=None, controls="none")  # as earlier versions wrote it without controls
    rows = table_rows(study, {study.runs[3].folder.name: "no luck"})
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert rows[2]["reason"] == "no luck"
    assert [row["optimizer.weight_decay"] for row in rows] == ["0.05", "0.0", "0.0"]
    assert all(list(row) == list(rows[0]) for row in rows)
    files = write_table(rows, tmp_path / "t")
    assert pq.read_table(files[1]).to_pylist() == rows
    with open(files[0], newline="") as file:
        told = list(csv.DictReader(file))
    assert [row["run"] for row in told] == [run.folder.name for run in (study.runs[0], *study.runs[2:])]
    assert [row["vice"] for row in told] == ["0.25", "", ""]
    assert [row["controls"] for row in told] == ["above all", "", ""]
    found = estimate(load_study(study_file(), where={"jobs": 2}))
    assert found.seconds == pytest.approx(2 * 40 / 2)  # two runs are left, two at a time
    assert found.bytes is not None


def test_a_run_without_vice_says_why_in_the_table_and_the_findings(study_file) -> None:
    made = simulated(40, seed=1)
    flat = replace(made.regions, intersection=np.zeros_like(made.regions.intersection))
    samples = Samples(made.manifest, made.images, flat, made.maps)
    times = {"train": 1.0, "assess": 1.0}
    assert row_of(measure(made, replicates=0), made, times)["reason"] is None
    row = row_of(measure(samples, replicates=0), samples, times)
    why = "VICE (strict) is undefined: The quality of the maps must vary over the true pairs, but is 0 everywhere."
    assert (row["vice"], row["reason"]) == (None, why)
    recall = row_of(measure(samples, quality="recall", replicates=0), samples, times)["reason"]
    assert recall == "VICE with recall is undefined: The quality of the maps is 0 everywhere."
    study = load_study(study_file(seeds=[1]))
    names = [run.folder.name for run in study.runs]
    fake(study.runs[0], study.request, vice=None, reason=why)
    rows = table_rows(study, {names[1]: "no luck"})
    assert [row["reason"] for row in rows] == [why, "no luck"]
    assert list(rows[0])[-1] == "reason"
    found = study_result(study, {names[1]: "no luck"})
    assert found.sentences[-2:] == [f"{names[0]}: {why}", f"{names[1]} failed: no luck"]
    assert found.failed == {names[1]: "no luck"}


def test_the_folder_of_a_study_describes_it(study_file) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0, 0.5], "transform.flip": [True]}
    study = load_study(study_file(axes=axes, one_at_a_time=True, across=["transform.flip"], seeds=[1, 2, 3]))
    for run in study.runs[3:8]:  # none of the base's
        fake(run, study.request)
    write_table(table_rows(study), study.folder / "table")
    path = write_description(study)
    assert path == study.folder / "study.json"
    table = read_study(study.folder)
    assert table.axes == study.axes
    assert (table.base, table.one_at_a_time, table.planned, table.name) == (study.base, True, len(study.runs), "small")
    assert table.across == ("transform.flip",)
    assert ("Design", "one axis at a time around the base, at each level of transform.flip") in facts_of_study(table)
    assert list(table.rows[0]) == list(table_rows(study)[0])
    assert [recipe.name for recipe in table.recipes()] == ["optimizer.weight_decay 0.0", "optimizer.weight_decay 0.5"]


def test_levels_are_compared_with_the_other_axes_at_the_base(study_file, monkeypatch) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0, 0.5], "transform.flip": [False, True]}
    study = load_study(study_file(axes=axes, one_at_a_time=True, seeds=[1, 2, 3]))
    for run in study.runs[:-1]:
        fake(run, study.request)
    asked = []

    def noted(models, groups, **_):
        asked.append({name: sorted(members) for name, members in groups.items()})
        return []

    monkeypatch.setattr("torchvice.commands.tables.load_samples", lambda folder, split: None)
    monkeypatch.setattr("torchvice.study.table._check_same_files", lambda models, runs: None)
    monkeypatch.setattr(sys.modules[compare_groups.__module__], "compare_groups", noted)
    compare_levels(study)
    runs = {(run.levels["optimizer.weight_decay"], run.levels["transform.flip"], run.seed): run for run in study.runs}

    def names(decay, flip, seeds=(1, 2, 3)):
        return sorted(runs[decay, flip, seed].folder.name for seed in seeds)

    assert asked == [
        {decay: names(decay, "false") for decay in ("0.05", "0.0", "0.5")},
        {"false": names("0.05", "false"), "true": names("0.05", "true", (1, 2))},
    ]


def test_across_axes_are_matched_and_levels_are_compared_with_the_base(study_file, monkeypatch) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0, 0.5], "transform.flip": [False, True]}
    around = {"one_at_a_time": True, "across": ["transform.flip"], "compare": "base"}
    study = load_study(study_file(axes=axes, **around))
    assert len(study.runs) == 2 * 6
    for run in study.runs:
        fake(run, study.request)
    asked = []

    def noted(models, groups, *, against, **_):
        asked.append((list(groups), against))
        return [{"first": first, "second": second} for first, second in group_pairs(groups, against)]

    monkeypatch.setattr("torchvice.commands.tables.load_samples", lambda folder, split: None)
    monkeypatch.setattr("torchvice.study.table._check_same_files", lambda models, runs: None)
    monkeypatch.setattr(sys.modules[compare_groups.__module__], "compare_groups", noted)
    rows = compare_levels(study)
    assert asked == [(["0.05", "0.0", "0.5"], "0.05")] * 2 + [(["false", "true"], "false")] * 3
    assert [(r["others"], r["first"], r["second"]) for r in rows] == [
        ("transform.flip false", "0.0", "0.05"),
        ("transform.flip false", "0.5", "0.05"),
        ("transform.flip true", "0.0", "0.05"),
        ("transform.flip true", "0.5", "0.05"),
        ("optimizer.weight_decay 0.05", "true", "false"),
        ("optimizer.weight_decay 0.0", "true", "false"),
        ("optimizer.weight_decay 0.5", "true", "false"),
    ]


def test_in_a_grid_the_other_axes_are_matched(study_file, monkeypatch) -> None:
    study = load_study(study_file(axes={"optimizer.weight_decay": [0.05, 0.0], "transform.flip": [False, True]}))
    for run in study.runs:
        fake(run, study.request)
    monkeypatch.setattr("torchvice.commands.tables.load_samples", lambda folder, split: None)
    monkeypatch.setattr("torchvice.study.table._check_same_files", lambda models, runs: None)
    row = {"first": "a", "second": "b", "measure": "vice", "difference": 0.1, "low": 0.0, "high": 0.2, "p": 0.01}
    row |= {"p_holm": 0.02, "seeds_first": 2, "seeds_second": 2}
    monkeypatch.setattr(sys.modules[compare_groups.__module__], "compare_groups", lambda *_, **__: [row])
    rows = compare_levels(study)
    assert [(r["axis"], r["others"]) for r in rows] == [
        ("optimizer.weight_decay", "transform.flip false"),
        ("optimizer.weight_decay", "transform.flip true"),
        ("transform.flip", "optimizer.weight_decay 0.05"),
        ("transform.flip", "optimizer.weight_decay 0.0"),
    ]
    said = sentences_of(study, rows, {"x": "no luck"})
    assert said[0].startswith("optimizer.weight_decay (transform.flip false): established, VICE of a - b = +0.100")
    assert said[-1] == "x failed: no luck"
    assert "not established" in sentences_of(study, [{**rows[0], "p_holm": 0.05}])[0]


def test_a_study_too_large_for_the_disk_does_not_start(study_file, monkeypatch) -> None:
    study = load_study(study_file())
    found = estimate(study, check_study(study))
    assert found.least
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=found.bytes - 1))
    with pytest.raises(ViceError, match=r"4 runs need about \d+ MB, but the disk of .* has \d+ MB left"):
        run_study(study)
    assert not (study.folder / "runs").exists()


def test_a_second_study_in_the_same_folder_is_refused(study_file) -> None:
    study = load_study(study_file())
    with locked(study.folder / "lock", "x"), pytest.raises(ViceError, match="is already running"):
        run_study(study)


def command(file, *more):
    return [sys.executable, "-m", "torchvice.cli", "study", str(file), "--jobs", "2", *map(str, more)]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_rows_each_once(study_file, tmp_path) -> None:
    file = study_file(seeds=[1, 2, 3], settings={"trainer.epochs": 2})
    whole = subprocess.run(command(file, "--folder", tmp_path / "whole"), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    for seconds in (9, 14, 18, 25):  # in the imports, in training, in an assessment, between runs
        process = subprocess.Popen(command(file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last = subprocess.run(command(file), capture_output=True, text=True)
    assert last.returncode == 0, last.stdout + last.stderr
    wanted, found = (pq.read_table(tmp_path / name / "table.parquet").to_pylist() for name in ("whole", "study"))
    assert without_times(found) == without_times(wanted)
    assert len({row["run"] for row in found}) == len(found) == 6
    assert {row["status"] for row in found} == {"finished"}
    assert not list((tmp_path / "study").rglob("*.part*"))


@pytest.mark.slow
def test_a_failed_run_is_reported_and_only_added_runs_run(study_file, tmp_path) -> None:
    broken = {"optimizer.lr": [0.003, 1e30]}  # its loss does not stay finite
    lines: list[str] = []
    found = run_study(load_study(study_file(axes=broken, seeds=[1]), where={"jobs": 2}), say=lines.append)
    assert [row["status"] for row in found.rows] == ["finished", "failed"]
    (reason,) = found.failed.values()
    assert "finite" in reason
    assert any("failed" in line and "job/log.txt" in line for line in lines)
    run = load_study(study_file(axes=broken, seeds=[1])).runs[1]
    assert failure(run.folder) == reason
    # Three seeds of two decays: the run that is there stays, the failed one is not of this study any more.
    kept = (found.rows[0]["run"], (tmp_path / "study/runs" / found.rows[0]["run"] / STATE).stat().st_mtime_ns)
    study = load_study(study_file(seeds=[1, 2, 3], axes={"optimizer.weight_decay": [0.05, 0.0]}), where={"jobs": 2})
    lines.clear()
    found = run_study(study, say=lines.append)
    assert lines[0].startswith("Starting 5 of 6 runs")
    assert (tmp_path / "study/runs" / kept[0] / STATE).stat().st_mtime_ns == kept[1]
    assert len(found.rows) == 6
    assert not found.failed
    # The table of differences is that of `compare` with the levels as groups of seeds.
    models = {run.folder.name: Samples.load(run.folder / "assess/test") for run in study.runs}
    names = list(models)
    groups = {"0.05": names[:3], "0.0": names[3:]}
    (wanted,) = compare(models, groups=groups, replicates=100).seeds
    (vice,) = [row for row in found.comparisons if row["measure"] == "vice"]
    for name in ("first", "second", "difference", "low", "high", "p"):
        assert vice[name] == wanted[name], name
    assert vice["p_holm"] == holm([wanted["p"]])[0]
    assert {row["measure"] for row in found.comparisons} == set(COMPARED_OF_SEEDS)
    assert not any("Fatal" in (run.folder / "job/log.txt").read_text() for run in study.runs)
    assert {path.name for path in found.files} >= {"table.csv", "table.parquet", "comparisons.csv", "study.png"}
