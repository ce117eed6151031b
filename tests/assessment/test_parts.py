"""Several processes that make one table: each image once, whose is whose, and a kill that the next start makes good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch

import torchvice
from command import assess_command, table_by
from torchvice import Samples, ViceError
from torchvice.assessment import Part
from torchvice.assessment.parts import detected_part, in_processes
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits

IMAGES = 13  # of three processes, uneven


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts") / "digits"
    write_digits(root, train=2, val=2, test=IMAGES, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


def assess(model, dataset, out, **more):
    options = {"view_size": 64, "crop": 64, "batch_size": 4, "shard_size": 4, "controls": True, **more}
    return torchvice.assess(model, dataset, out=out, **options)


@pytest.fixture(scope="module")
def alone(model, dataset, tmp_path_factory):
    return assess(model, dataset, tmp_path_factory.mktemp("alone") / "t", also=("mirror",))


def same_rows(found: Samples, wanted: Samples) -> None:
    """The same rows, each once, whatever their order; batches differ, and with them the last digits."""
    keys = {"images": ("image_id", "view"), "regions": ("explanation", "image_id", "label")}
    for part, names in keys.items():
        sides = [getattr(samples, part) for samples in (found, wanted)]
        orders = [np.lexsort([getattr(side, name).astype(str) for name in names]) for side in sides]
        for column, value in vars(sides[1]).items():
            mine, other = vars(sides[0])[column][orders[0]], value[orders[1]]
            if other.dtype.kind in "fiu":
                off = np.abs(mine.astype(float) - other.astype(float))
                if part == "images":  # logits
                    assert np.nanmax(off, initial=0) <= 1e-5, column
                else:  # a pixel may change its bin: of all pixels
                    assert np.nansum(off) <= 1e-4 * np.nansum(np.abs(other.astype(float))), column
                assert (np.isnan(mine.astype(float)) == np.isnan(other.astype(float))).all(), column
            else:
                assert (mine == other).all(), column
    assert len(found.maps.map) == len(wanted.maps.map)


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 14))])
def test_parts_in_any_order_make_the_table_of_one_process(model, dataset, alone, tmp_path, count) -> None:
    for index in reversed(range(count)):
        got = assess(model, dataset, tmp_path, also=("mirror",), part=Part(index, count))
        assert got.manifest["finished"] is (index == 0)
    same_rows(Samples.load(tmp_path), alone)
    assert got.manifest["explanations"] == alone.manifest["explanations"]
    order = list(dict.fromkeys(Samples.load(tmp_path).images.image_id.tolist()))
    assert order == [record.image_id for record in dataset.records]
    assert len(got.images.image_id) == len(alone.images.image_id)


def test_what_a_part_left_the_next_start_makes(model, dataset, alone, tmp_path) -> None:
    assess(model, dataset, tmp_path, part=Part(1, 3))
    assert not Samples.load(tmp_path).manifest["finished"]
    assess(model, dataset, tmp_path, part=Part(0, 2))  # by another number of processes
    assess(model, dataset, tmp_path)
    for index in range(2):  # and added to in parts
        got = assess(model, dataset, tmp_path, also=("mirror",), part=Part(index, 2))
        assert ("strict:mirror" in got.manifest["explanations"]) is (index == 1)
    same_rows(Samples.load(tmp_path), alone)


@pytest.mark.parametrize(
    ("here", "other"),
    [({}, {"interpolation": "bicubic"}), ({"mean": (0.5,) * 3}, {"mean": (0.4,) * 3}), ({}, {"outputs": "softmax"})],
)
def test_parts_that_run_at_once_show_images_in_one_way(model, dataset, tmp_path, here, other) -> None:
    """Before the first shard there is no table to compare with: only the locks tell that the other part differs."""
    refused = []

    def second(*_: int) -> None:
        if not refused:
            with pytest.raises(ViceError, match="already running") as found:
                assess(model, dataset, tmp_path, part=Part(1, 2), controls=(), **{"outputs": "logits", **here, **other})
            refused.append(found.value)

    assess(model, dataset, tmp_path, part=Part(0, 2), progress=second, controls=(), **{"outputs": "logits", **here})
    assert refused


@pytest.mark.parametrize(("images", "size", "count"), [(1, 4, 3), (13, 4, 2), (600, 128, 2), (1449, 128, 7), (0, 4, 2)])
def test_every_image_is_one_parts_and_shards_are_even(images, size, count) -> None:
    parts = [Part(index, count).images(images, size) for index in range(count)]
    assert sorted(i for part in parts for run in part for i in run) == list(range(images))
    assert all(len(run) <= size for part in parts for run in part)
    if images >= count:
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [Part(i, count).shards(range(12)) for i in range(count)] == [list(range(i, 12, count)) for i in range(count)]


def test_a_part_is_read_from_text_and_from_the_launchers(monkeypatch) -> None:
    assert Part.parse("3/4") == Part(2, 4)
    for wrong in ("4", "0/4", "5/4", "a/b", "1/0", ""):
        with pytest.raises(ViceError):
            Part.parse(wrong)
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert detected_part() is None
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("GROUP_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert detected_part() == Part(2, 3)


def test_a_part_that_fails_is_told() -> None:
    code = "import sys\nif sys.argv[-1] == '2/2': sys.exit('no luck')"
    assert in_processes([sys.executable, "-c", code], 2) == ["Part 2/2 ended with status 1: no luck"]


def test_a_part_of_the_command_takes_the_options_of_the_whole() -> None:
    program = [sys.executable, "-m", "torchvice.cli", "assess", "nowhere", "--processes", "2"]
    for sentence in in_processes(program, 2):
        assert "nowhere" in sentence  # the first error is that of the path
        assert "--processes" not in sentence


def test_threads_of_the_processes_sleep_while_idle_unless_the_user_sets_otherwise(monkeypatch) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    code = f"import os, sys\nsys.exit(' '.join(os.environ.get(name, 'unset') for name in {names!r}))"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(6), raising=False)
    (part, _) = in_processes([sys.executable, "-c", code], 2)
    assert part == "Part 1/2 ended with status 1: 3 3 3 PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    (part, _) = in_processes([sys.executable, "-c", code], 2)
    assert part == "Part 1/2 ended with status 1: 5 unset unset ACTIVE"


@pytest.fixture(scope="module")
def command(dataset, model, tmp_path_factory):
    return assess_command(model, dataset.root, tmp_path_factory.mktemp("weights") / "w.pth", "--also", "mirror")


@pytest.fixture(scope="module")
def by_command(command, tmp_path_factory):
    """The table that one process makes: with the mean and deviation that timm names, unlike `alone`."""
    return table_by(command, tmp_path_factory.mktemp("command") / "t")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_of_the_command_and_one_that_was_killed(command, by_command, tmp_path, count) -> None:
    killed = subprocess.Popen([*command, "--out", str(tmp_path), "--shard", f"1/{count}"], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("manifest.json")) and killed.poll() is None:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    whole = [*command, "--out", str(tmp_path), "--processes", str(count)]
    assert "ended with status" not in subprocess.run(whole, check=True, capture_output=True, text=True).stdout
    found = Samples.load(tmp_path)
    assert found.manifest["finished"]
    same_rows(found, by_command)


@pytest.mark.slow
def test_torchrun_is_recognised(command, by_command, tmp_path) -> None:
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--standalone", "-m"]
    subprocess.run([*runner, *command[2:], "--out", str(tmp_path)], check=True, capture_output=True)
    found = Samples.load(tmp_path)
    assert found.manifest["finished"]
    same_rows(found, by_command)
