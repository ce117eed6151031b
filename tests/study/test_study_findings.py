"""What a study says of its runs when they cannot all be compared, and what it leaves of an earlier start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.files import write_json, write_text
from torchvice.samples import Samples
from torchvice.study import estimate, load_study, run_study
from torchvice.study.description import write_description
from torchvice.study.job import STATE
from torchvice.study.run import _remove_comparisons_of_another_quality, study_result
from torchvice.study.table import compare_levels, sentences_of, write_table

SEEDS = [1, 2, 3]


def finish(run, request, seconds: float = 30.0, **state) -> None:
    """The state of a finished run, as `run_job` leaves it."""
    row = {"vice": 0.1, "mean_average_precision": 0.5, "ece_ml": 0.1, "reason": None, "images": 40}
    row |= {"train_seconds": seconds, "assess_seconds": 10.0}
    write_json(run.folder / STATE, {"asked": request.model_dump(mode="json"), "row": row, **state})


def table(seed: int, prefix: str = "", **contents) -> Samples:
    """A table of 40 images whose ids start with `prefix`."""
    made = simulated(40, seed=seed)
    images, regions, maps = (
        replace(rows, image_id=np.array([f"{prefix}{name}" for name in rows.image_id], dtype=object))
        for rows in (made.images, made.regions, made.maps)
    )
    manifest = {**made.manifest, "contents": contents} if contents else made.manifest
    return Samples(manifest, images, regions, maps)


def test_an_axis_that_cannot_be_compared_leaves_the_others_their_differences(study_file, monkeypatch) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0], "data.eval_split": ["test", "val"]}
    study = load_study(study_file(axes=axes, one_at_a_time=True, seeds=SEEDS))
    for run in study.runs:
        finish(run, study.request)
    places = {run.folder: place for place, run in enumerate(study.runs)}
    monkeypatch.setattr(
        "torchvice.commands.tables.load_samples",
        lambda folder, split: table(places[folder], "" if split == "test" else "val-"),
    )
    found = study_result(study)
    rows = pq.read_table(study.folder / "comparisons.parquet").to_pylist()
    assert {row["axis"]: row["p_holm"] is None for row in rows} == {
        "optimizer.weight_decay": False,
        "data.eval_split": True,
    }
    none = "No claim, because: Models are compared on the same images, but these tables have none in common."
    assert found.sentences[-1] == none


def test_runs_of_data_that_changed_between_them_are_not_compared(study_file, monkeypatch) -> None:
    study = load_study(study_file(seeds=SEEDS))
    for run in study.runs:
        finish(run, study.request)
    later = {run.folder for run in study.runs[3:]}
    digests = {True: "new", False: "old"}
    monkeypatch.setattr(
        "torchvice.commands.tables.load_samples",
        lambda folder, split: table(1, ids="same", images=digests[folder in later], masks="same", targets="same"),
    )
    (row,) = compare_levels(study)
    assert row["p_holm"] is None
    names = [study.runs[at].folder.name for at in (0, 3)]
    root = study.runs[0].settings.data.root
    assert row["reason"] == (
        f"The data in {root} have changed: {names[0]} and {names[1]} were assessed on other files."
    )
    digests[True] = "old"
    assert all(row["p_holm"] is not None or row["reason"] for row in compare_levels(study))
    assert not any("have changed" in (row["reason"] or "") for row in compare_levels(study))


def test_comparisons_of_an_earlier_start_do_not_stay_beside_other_rows(study_file) -> None:
    study = load_study(study_file(seeds=SEEDS))
    row = {"axis": "optimizer.weight_decay", "first": "0.05", "second": "0.0", "measure": "vice", "p_holm": 0.01}
    files = write_table([row], study.folder / "comparisons")
    finish(study.runs[0], study.request)
    found = study_result(study)
    assert found.sentences == ["optimizer.weight_decay: no two levels are finished."]
    assert not any(file.exists() for file in files)
    write_table([row], study.folder / "comparisons")
    write_description(study)
    _remove_comparisons_of_another_quality(study)
    assert all(file.exists() for file in files)
    request = {"replicates": 100, "controls": "none", "protocols": ["strict"], "quality": "recall"}
    _remove_comparisons_of_another_quality(load_study(study_file(seeds=SEEDS, measure=request)))
    assert not any(file.exists() for file in files)


def test_a_file_of_weights_that_changed_is_no_start_of_further_seeds(study_file, tmp_path, monkeypatch) -> None:
    weights = tmp_path / "encoder.pth"
    weights.write_bytes(b"first")
    monkeypatch.setattr("torchvice.study.run.check_study", lambda study, files: {})
    path = study_file(axes={}, seeds=[1], settings={"model.weights": str(weights)})
    study = load_study(path)
    finish(study.runs[0], study.request)
    write_text(study.runs[0].folder / "config.yaml", "")
    run_study(study)
    weights.write_bytes(b"second one")
    for _ in range(2):  # and again at the next start
        with pytest.raises(ViceError, match=r"encoder\.pth has changed since the last start, but the training of .*"):
            run_study(load_study(path))
    weights.write_bytes(b"first")
    assert [row["status"] for row in run_study(load_study(path)).rows] == ["finished"]


def test_without_the_base_the_finished_levels_are_not_denied(study_file) -> None:
    axes = {"optimizer.weight_decay": [0.05, 0.0, 0.5]}
    study = load_study(study_file(axes=axes, one_at_a_time=True, compare="base"))
    for run in study.runs:
        if run.levels["optimizer.weight_decay"] != study.base["optimizer.weight_decay"]:
            finish(run, study.request)
    assert sentences_of(study, compare_levels(study)) == [
        "optimizer.weight_decay: no comparison with the base's level, 0.05: it and another level must be finished."
    ]


def test_the_estimate_counts_no_part_of_a_training_as_the_whole(study_file) -> None:
    study = load_study(study_file())
    finish(study.runs[0], study.request, seconds=2.0, resumed=True)
    assert estimate(study).seconds is None
    finish(study.runs[1], study.request, resumed=False)
    assert estimate(study).seconds == pytest.approx(2 * 40)


def test_the_estimate_is_at_least_the_longest_run(study_file) -> None:
    study = load_study(study_file(), where={"jobs": 8})
    for run in study.runs[:3]:
        finish(run, study.request)
    assert estimate(study).seconds == pytest.approx(40)
