"""Each way out that a study names, done."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from command import vice
from torchvice.errors import ViceError
from torchvice.study import check_study, estimate, launch, load_study
from torchvice.study.plan import LaunchSettings
from torchvice.study.run import check_disk
from ways_out import tried

Write = Callable[..., Path]
DECAY, FLIP = {"optimizer.weight_decay": [0.0, 0.05]}, {"transform.flip": [True, False]}


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ({"across": [*FLIP], "axes": {**DECAY, **FLIP}}, "Add one_at_a_time: true.", {"one_at_a_time": True}),
        ({"compare": "base"}, "Add one_at_a_time: true.", {"one_at_a_time": True}),
        (
            {"axes": {**DECAY, **FLIP}, "across": ["transform.flips"], "one_at_a_time": True},
            "Did you mean `transform.flip`?",
            {"across": ["transform.flip"]},
        ),
        ({"axes": {**DECAY, "transform.flip": []}}, "List its values,", {"axes": {**DECAY, **FLIP}}),
        ({"axes": {**DECAY, "transform.flip": []}}, "or leave out the axis.", {"axes": DECAY}),
        ({"axes": {**DECAY, "seed": [1, 2, 3]}}, "seeds: [1, 2, 3].", {"axes": DECAY, "seeds": [1, 2, 3]}),
        ({"axs": 3}, "Did you mean `axes`?", {"axs": None, "axes": DECAY}),
        ({"measure": {"replicate": 100}}, "Did you mean `replicates`?", {"measure": {"replicates": 100}}),
        ({"where": {"job": 2}}, "Did you mean `jobs`?", {"where": {"jobs": 2}}),
        ({"base": None}, "For example base: demo.", {"base": "demo"}),
        ({"base": "small.yaml"}, "For example base: demo.", {"base": "demo"}),
        ({"seeds": []}, "List some,", {"seeds": [1, 2, 3]}),
        ({"seeds": []}, "or leave out `seeds`: then the base's is taken.", {"seeds": None}),
        ({"measure": {"method": "gradcamm"}}, "Did you mean `gradcam`?", {"measure": {"method": "gradcam"}}),
        ({"measure": {"quality": "recal"}}, "Did you mean `recall`?", {"measure": {"quality": "recall"}}),
        ({"measure": {"also": "shuffled"}}, "Use measure.controls.", {"measure": {"controls": "all"}}),
        (
            {"axes": {"optimizer.weight_decay": {0.05: None, 0.1: 0.1}}},
            "For an axis of one setting write optimizer.weight_decay: [value, value].",
            {"axes": {"optimizer.weight_decay": [0.05, 0.1]}},
        ),
    ],
)
def test_the_file_is_written_as_it_is_said(
    wrong: dict[str, Any], says: str, right: dict[str, Any], study_file: Write
) -> None:
    def loaded(changes: dict[str, Any]) -> Any:
        path = study_file(**changes)
        lines = [line for line in path.read_text().splitlines() if not line.endswith(": null")]
        path.write_text("\n".join(lines))
        return load_study(path)

    found = tried(lambda: loaded(wrong), says, lambda: loaded({**wrong, **right}))
    assert found.runs


def test_a_wrong_name_has_its_key_and_file_and_no_option_of_another_command(study_file: Write) -> None:
    for key, value in (("method", "gradcamm"), ("quality", "recal"), ("also", "gradcamm"), ("faithfulness", "rode")):
        with pytest.raises(ViceError) as told:
            load_study(study_file(measure={key: value}))
        assert re.match(rf"`measure.{key}` of \S+small.yaml must ", told.value.message), told.value.message
        assert "--" not in told.value.way_out


LOOK = {"look": {"flip": {"transform.flip": True, "optimizer.weight_decay": 0.5}}}


@pytest.mark.parametrize(
    ("says", "right"),
    [
        (
            "Merge them into one axis",
            {"axes": {"look": {**LOOK["look"], "light": {"optimizer.weight_decay": 0.0}}}},
        ),
        ("set one_at_a_time: true and leave both out of `across`", {"one_at_a_time": True}),
    ],
)
def test_axes_of_one_setting_are_merged_or_taken_one_at_a_time(
    says: str, right: dict[str, Any], study_file: Write
) -> None:
    wrong = {"axes": {**DECAY, **LOOK}}
    found = tried(lambda: load_study(study_file(**wrong)), says, lambda: load_study(study_file(**{**wrong, **right})))
    assert len(found.runs) >= 2


def test_the_disk_has_room_after_some_is_freed_or_in_another_folder(
    study_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = study_file()
    usage = shutil.disk_usage("/")
    room = {str(tmp_path / "study"): 0, str(tmp_path / "other"): 10**12}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=room[str(path)]))

    def checked(folder: Path | None = None) -> None:
        study = load_study(file, folder=folder)
        check_disk(study, estimate(study, check_study(study, files=False)))

    tried(checked, "choose another --folder.", lambda: checked(tmp_path / "other"))

    def freed() -> None:
        room[str(tmp_path / "study")] = 10**12
        checked()

    tried(checked, "Free some space,", freed)


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        (
            {"protocols": ["paper"], "quality": "recall"},
            "Add strict to measure.protocols,",
            {"protocols": ["paper", "strict"], "quality": "recall"},
        ),
        ({"protocols": ["paper"], "quality": "recall"}, "or leave out measure.quality.", {"protocols": ["paper"]}),
        ({"quality": "road"}, "Add it: faithfulness: [road].", {"quality": "road", "faithfulness": ["road"]}),
    ],
)
def test_the_quality_is_assessed(wrong: dict[str, Any], says: str, right: dict[str, Any], study_file: Write) -> None:
    def checked(measure: dict[str, Any]) -> Any:
        return check_study(load_study(study_file(measure=measure)), files=False)

    assert tried(lambda: checked(wrong), says, lambda: checked(right))


def extra_of(says: str) -> list[str]:
    """The packages that the extra of a `pip install` brings."""
    (name,) = re.findall(r"pip install 'torchvice\[(\w+)\]'", says)
    needed = [line for line in requires("torchvice") or [] if re.search(rf"extra == ['\"]{name}['\"]", line)]
    return [re.split(r"[^\w-]", line)[0] for line in needed]


def test_ray_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, says = LaunchSettings(launcher="ray"), "pip install 'torchvice[ray]'"
    assert extra_of(says) == ["ray"]

    class Remote(SimpleNamespace):
        def options(self, **_: Any) -> Remote:
            return self

    def installed() -> list[tuple[Path, str]]:
        ray = SimpleNamespace(is_initialized=lambda: True, get=lambda value: value, __spec__=object())
        ray.remote = lambda work: Remote(remote=lambda folder, count: folder)
        ray.wait = lambda waiting, num_returns: (waiting[:1], waiting[1:])
        monkeypatch.setitem(sys.modules, "ray", ray)
        return list(launch.run_jobs([tmp_path], where))

    monkeypatch.setitem(sys.modules, "ray", None)
    found = tried(lambda: list(launch.run_jobs([tmp_path], where)), says, installed)
    assert [folder for folder, _ in found] == [tmp_path]


def test_submitit_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    where, says = LaunchSettings(launcher="slurm", cpus=1, slurm={"cluster": "debug"}), "pip install 'torchvice[slurm]'"
    assert extra_of(says) == ["submitit"]
    monkeypatch.setattr(launch, "do_job", lambda folder, count: folder)
    run = tmp_path / "study" / "runs" / "one"
    run.mkdir(parents=True)

    def installed() -> list[tuple[Path, str]]:
        monkeypatch.setitem(sys.modules, "submitit", submitit)
        return list(launch.run_jobs([run], where))

    monkeypatch.setitem(sys.modules, "submitit", None)
    found = tried(lambda: list(launch.run_jobs([run], where)), says, installed)
    assert [folder for folder, _ in found] == [run]


def test_only_ray_gives_a_share_of_a_gpu(study_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(launcher: str, gpus: float) -> Any:
        return load_study(study_file(where={"launcher": launcher}), where={"gpus": gpus}).where.gpus

    assert tried(lambda: planned("slurm", 0.5), "--launcher ray", lambda: planned("ray", 0.5)) == 0.5
    assert tried(lambda: planned("slurm", 1.5), "Give --gpus 1 or more.", lambda: planned("slurm", 2)) == 2
    for wrong in (1.5, float("nan"), float("inf")):
        assert tried(lambda wrong=wrong: planned("ray", wrong), "Such as --gpus 2.", lambda: planned("ray", 2)) == 2
    status, _, err = vice(capsys, "study", study_file(), "--dry-run", "--launcher", "slurm", "--gpus", 0.5)
    says = "`where.gpus` (--gpus) must be a whole number with the launcher slurm, but is 0.5."
    assert (status, says in " ".join(err.split())) == (2, True)


def test_slurm_is_started_where_it_is(
    study_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(__spec__=object()))
    monkeypatch.setenv("PATH", str(tmp_path))  # no program at all

    def checked(launcher: str = "slurm", **slurm: str) -> Any:
        study = load_study(study_file(), where={"launcher": launcher, "slurm": slurm})
        return check_study(study)

    says = "Start the study on a machine of the cluster, or on this one: --launcher local."
    assert tried(checked, says, lambda: checked("local"))
    assert checked(cluster="local")  # submitit's executor without a cluster
    status, out, _ = vice(capsys, "study", study_file(), "--dry-run", "--launcher", "slurm")
    assert status == 0
    needed = "needs: start the study on a machine of the cluster, or on this one: --launcher local"
    assert f"{needed} (the launcher slurm needs SLURM, but its program `srun` is not found on this machine)" in out
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    assert checked()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        study = tried(
            lambda wrong=wrong: load_study("digits", folder=wrong),
            "--folder DIR",
            lambda: load_study("digits", folder=tmp_path / "new"),
        )
        assert study.folder == tmp_path / "new"


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit"), ("local", None)])
def test_a_dry_run_says_that_the_launcher_is_not_installed(
    launcher: str, package: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out, _ = vice(capsys, "study", "digits", "--dry-run", "--launcher", launcher)
    assert status == 0
    assert (f"needs: pip install 'torchvice[{launcher}]'" in out) == (package is not None)
