"""Checkpoints that a study names: assessed and compared without training, beside trained runs or alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from given_checkpoints import MEASURE, Write, state
from safetensors.torch import save_file

from command import vice
from torchvice.commands.report import write_report
from torchvice.errors import ViceError
from torchvice.files import read_json
from torchvice.study import Study, check_study, estimate, load_study, run_study
from torchvice.study.job import finished, prepare, run_job
from torchvice.study.table import table_rows

TIMES = {"run", "train_seconds", "assess_seconds", "origin", "checkpoint_path", "seed"}


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row."""
    return {name: value for name, value in row.items() if name not in TIMES}


def done(study: Study, lines: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a study whose missing runs are done in this process."""
    for run in study.runs:
        if finished(run, study.request) is None:
            run_job(prepare(run, study.request))
    return run_study(study, say=(lines if lines is not None else []).append).rows


FORMS = {
    "lightning": {"checkpoint": "lightning-{seed}.ckpt"},
    "own": {"checkpoint": {1: "own-1.pth", 3: "own-3.pth"}},
    "one": {"checkpoint": "one.safetensors", "assess.view_size": 56},
}


def test_seeds_come_from_the_name_or_a_mapping_and_one_file_is_one_run(write: Write) -> None:
    study = load_study(write({"network": FORMS}, seeds=[1, 2]))
    assert [(run.levels["network"], run.seed, run.given and run.given.checkpoint) for run in study.runs] == [
        ("lightning", 1, "lightning-1.ckpt"),
        ("lightning", 2, "lightning-2.ckpt"),
        ("own", 1, "own-1.pth"),
        ("own", 3, "own-3.pth"),
        ("one", None, "one.safetensors"),
    ]
    assert study.seeds == (1, 2, 3)
    assert [run.settings.assess.view_size for run in study.runs] == [48, 48, 48, 48, 56]
    assert not (study.folder / "checkpoints.json").exists()


def test_a_name_may_hold_the_levels_of_all_axes(write: Write, here: Path) -> None:
    for decay in ("0.0", "0.5"):
        torch.save(state(int(float(decay) * 10)), here / f"net-{decay}.pth")
    axes = {"decay": {"0.0": None, "0.5": None}, "view": {"small": {"assess.view_size": 48}}}
    study = load_study(write(axes, settings={"checkpoint": "net-{decay}.pth"}))
    assert [(run.levels["decay"], run.given and run.given.checkpoint) for run in study.runs] == [
        ("0.0", "net-0.0.pth"),
        ("0.5", "net-0.5.pth"),
    ]


def test_the_key_is_of_the_contents_and_of_what_is_shown(write: Write, here: Path) -> None:
    def key(**changes: Any) -> str:
        (run,) = load_study(write(settings={"checkpoint": "own-1.pth", **changes})).runs
        return run.key

    before = key()
    assert key(**{"assess.batch_size": 4, "data.workers": 1}) == before
    (here / "own-1.pth").rename(here / "moved.pth")
    assert key(checkpoint="moved.pth") == before
    others = [key(checkpoint="own-2.pth"), key(**{"checkpoint": "moved.pth", "assess.view_size": 64})]
    others += [key(checkpoint="moved.pth", class_map="map.yaml"), key(checkpoint="moved.pth", weights_key="ema")]
    assert len({before, *others}) == 5


def test_a_file_of_any_form_without_any_training_split(write: Write) -> None:
    study = load_study(write({"network": {"a": {"checkpoint": "lightning-1.ckpt"}, "b": {"checkpoint": "own-1.pth"}}}))
    rows = done(study)
    assert [(row["status"], row["origin"], row["checkpoint_path"]) for row in rows] == [
        ("finished", "given", "lightning-1.ckpt"),
        ("finished", "given", "own-1.pth"),
    ]
    assert {row["train_seconds"] for row in rows} == {None}
    # The same tensors under the names of another framework, in another format.
    other = load_study(write(settings={"checkpoint": "one.safetensors"}), folder="runs/other")
    (run,) = other.runs
    assert measured(run_job(prepare(run, other.request))).items() <= measured(rows[0]).items()
    assert read_json(study.folder / "study.json")["given"] == 2


def test_a_run_that_was_trained_elsewhere_has_its_network_its_input_and_its_numbers(
    write: Write, here: Path, study_file: Callable[..., Path]
) -> None:
    trained = load_study(study_file(seeds=[5], axes={}, measure=MEASURE, settings={"data.root": "digits"}))
    (run,) = trained.runs
    row = run_job(prepare(run, trained.request))
    (here / "run").symlink_to(run.folder)
    settings = {"checkpoint": "run", "data.root": "bare", "data.eval_split": "test"}
    file = write()
    file.write_text(yaml.safe_dump({"settings": settings, "measure": MEASURE}))
    study = load_study(file)
    (given,) = study.runs
    assert given.seed == 5
    assert given.settings.model == run.settings.model
    assert measured(run_job(prepare(given, study.request))) == measured(row)
    # The same checkpoint by its file is the same run; `last` may be another.
    file.write_text(yaml.safe_dump({"settings": {**settings, "checkpoint": "run/checkpoints/best.ckpt"}}))
    assert load_study(file).runs[0].key == given.key


def test_a_changed_file_is_another_run_and_one_that_is_gone_keeps_its_row(write: Write, here: Path) -> None:
    file = write({"network": {"a": {"checkpoint": "own-1.pth"}, "b": {"checkpoint": "own-2.pth"}}})
    lines: list[str] = []
    first = done(load_study(file), lines)
    assert not any("has changed" in line for line in lines)
    (here / "own-2.pth").unlink()
    torch.save(state(9), here / "own-1.pth")
    second = done(load_study(file), lines)
    assert "own-1.pth has changed since the last start: what it gives is assessed again, as another run." in lines
    assert second[1] == first[1]
    assert second[0]["run"] != first[0]["run"]
    assert second[0]["vice"] != first[0]["vice"]
    assert (here / "runs/study/runs" / first[0]["run"] / "measures.json").is_file()
    # What is not assessed and gone stops the study before anything runs.
    with pytest.raises(ViceError, match=r"lightning-9.ckpt does not exist"):
        load_study(write(settings={"checkpoint": "lightning-9.ckpt"}))


def test_a_checkpoint_that_changes_between_plan_and_job_fails(write: Write, here: Path) -> None:
    study = load_study(write(settings={"checkpoint": "own-1.pth"}))
    folder = prepare(study.runs[0], study.request)
    torch.save(state(9), here / "own-1.pth")
    with pytest.raises(ViceError, match=r"own-1\.pth has changed since the study was started"):
        run_job(folder)


def test_timm_s_weights_come_from_the_cache(write: Write, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    snapshot = here / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file(state(0, outputs=1000), snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (here / "map.yaml").write_text(yaml.safe_dump({str(digit): digit for digit in range(10)}))
    names = (here / "bare" / "classes.txt").read_text().split()
    (here / "map.yaml").write_text(yaml.safe_dump({name: 7 * at for at, name in enumerate(names)}))
    study = load_study(write(settings={"checkpoint": "pretrained", "class_map": "map.yaml"}))
    check_study(study)
    (run,) = study.runs
    assert run.given
    assert run.given.digest == "timm test_resnet.r160_in1k"
    row = run_job(prepare(run, study.request))
    assert row["images"] == 24
    manifest = read_json(run.folder / "assess/test/manifest.json")
    assert manifest["made_by"]["pretrained"] == "test_resnet.r160_in1k"
    assert manifest["model"]["class_map"][3] == [21]


def command(file: Path, *more: Any) -> list[str]:
    return [sys.executable, "-m", "torchvice.cli", "study", str(file), *map(str, more)]


@pytest.mark.slow
def test_trained_and_given_runs_stand_side_by_side_and_one_that_fails_is_a_row(
    write: Write, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Finite weights, and logits that are not: found in the assessment.
    broken = {name: value * 1e30 if value.ndim > 3 else value for name, value in state(1).items()}
    axes = {
        "network": {
            "trained": {},
            "given": {"checkpoint": "lightning-{seed}.ckpt"},
            "broken": {"checkpoint": "broken.pth"},
        }
    }
    settings = {"data.root": "digits", "trainer.epochs": 1, "trainer.batch_size": 8, "model.arguments": {}}
    torch.save(broken, here / "broken.pth")
    file = write(axes, base="demo", seeds=[1, 2, 3], settings=settings)
    status, out, err = vice(capsys, "study", file, "--jobs", 2)
    assert status == 1, out + err  # the progress bar is on standard error
    rows = pq.read_table("runs/study/table.parquet").to_pylist()
    assert [(row["network"], row["origin"], row["status"]) for row in rows] == [
        *[("trained", "trained", "finished")] * 3,
        *[("given", "given", "finished")] * 3,
        ("broken", "given", "failed"),
    ]
    assert "NaN" in rows[-1]["reason"]
    assert {row["first"] + row["second"] for row in pq.read_table("runs/study/comparisons.parquet").to_pylist()} == {
        "trainedgiven"
    }
    page = write_report([here / "runs/study"]).read_text()
    assert "4 of 7 runs are given checkpoints, not trained here." in page
    made = {path: path.stat().st_mtime_ns for path in (here / "runs/study/runs").glob("*/study.json")}
    assert len(made) == 6
    torch.save(state(7), here / "broken.pth")
    assert vice(capsys, "study", file)[0] == 0
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert len(estimate(load_study(file)).finished) == 7


@pytest.mark.slow
def test_killed_while_it_assesses_it_ends_with_the_same_rows(write: Write, here: Path) -> None:
    file = write({"network": {name: FORMS[name] for name in ("lightning", "one")}}, seeds=[1, 2])
    whole = subprocess.run(command(file, "--folder", "whole"), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    process = subprocess.Popen(command(file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    folder = here / "runs/study/runs"
    while process.poll() is None and not list(folder.glob("*/study.json")):  # in the second run, or between the two
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*/study.json")}
    assert 1 <= len(done) < 3
    last = subprocess.run(command(file), capture_output=True, text=True)
    assert last.returncode == 0, last.stdout + last.stderr
    assert done == {path: path.stat().st_mtime_ns for path in done}
    wanted, found = (pq.read_table(here / name / "table.parquet").to_pylist() for name in ("whole", "runs/study"))
    assert [measured(row) for row in found] == [measured(row) for row in wanted]
    assert [row["run"] for row in found] == [row["run"] for row in wanted]
    # A second start of a finished study does nothing.
    rows = table_rows(load_study(file))
    assert rows == run_study(load_study(file), say=lambda line: pytest.fail(line)).rows
