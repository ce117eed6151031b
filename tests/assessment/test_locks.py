"""Two processes in the folder of one table or of maps: no row twice, none lost, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import timm
import torch

import torchvice
from command import assess_command, table_by
from torchvice import Samples, ViceError
from torchvice.assessment import Part
from torchvice.assessment.map_files import write_map_files
from torchvice.assessment.parts import WHOLE
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits

IMAGES = 13


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("locks") / "digits"
    write_digits(root, train=2, val=IMAGES, test=2, size=48)
    return root


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


def assess(model, digits, out, **more):
    options = {"view_size": 64, "crop": 64, "batch_size": 4, "shard_size": 4, **more}
    return torchvice.assess(model, VocDataset(digits, "val"), out=out, **options)


@pytest.fixture(scope="module")
def alone(model, digits, tmp_path_factory):
    return assess(model, digits, tmp_path_factory.mktemp("alone") / "t")


def keys(samples, of=None):
    """The keys of all rows, in order; or of those explanations that another table has."""
    images, regions = samples.images, samples.regions
    rows = zip(regions.explanation, regions.image_id, map(str, regions.label), strict=True)
    known = set(regions.explanation if of is None else of.regions.explanation)
    return sorted([*zip(images.image_id, images.view, strict=True), *(row for row in rows if row[0] in known)])


REFUSED = [
    (WHOLE, {}, WHOLE, {}),
    pytest.param(WHOLE, {}, WHOLE, {"also": ["mirror"]}, marks=pytest.mark.slow),
    pytest.param(WHOLE, {"also": ["mirror"]}, WHOLE, {"also": ["scale0.75"]}, marks=pytest.mark.slow),
    (WHOLE, {}, Part(0, 2), {}),
    pytest.param(Part(1, 2), {}, WHOLE, {}, marks=pytest.mark.slow),
    (Part(0, 2), {}, Part(0, 2), {}),
    pytest.param(Part(0, 2), {}, Part(2, 3), {}, marks=pytest.mark.slow),
    pytest.param(Part(0, 2), {"also": ["mirror"]}, Part(1, 2), {"also": ["scale0.75"]}, marks=pytest.mark.slow),
    (Part(0, 2), {}, Part(1, 2), {"shard_size": 3}),
    pytest.param(Part(0, 2), {}, Part(1, 2), {"protocols": ["strict"]}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("first", "options", "second", "others"), REFUSED)
def test_a_second_process_is_refused_by_a_sentence(
    model, digits, alone, tmp_path, first, options, second, others
) -> None:
    caught = []

    def meanwhile(done, total) -> None:
        if done and not caught:
            with pytest.raises(ViceError) as refused:
                assess(model, digits, tmp_path, part=second, **others)
            caught.append(refused.value)

    assess(model, digits, tmp_path, part=first, progress=meanwhile, **options)
    what = "An assessment" if first == WHOLE else f"Part {first.index + 1}/{first.count} of an assessment"
    assert caught[0].message.startswith(f"{what} in {tmp_path} is already running: process {os.getpid()} on ")
    assert "run the same command again" in caught[0].way_out
    again = assess(model, digits, tmp_path, **options)
    assert keys(again, alone) == keys(alone)
    assert len(set(keys(again))) == len(keys(again))
    assert not again.manifest["adding"]
    assert not list(tmp_path.glob("*.lock"))


def test_the_other_parts_of_the_request_run_at_the_same_time(model, digits, alone, tmp_path) -> None:
    ran = []

    def meanwhile(done, total) -> None:
        if done and not ran:
            ran.append(True)
            assess(model, digits, tmp_path, part=Part(1, 2))

    assess(model, digits, tmp_path, part=Part(0, 2), progress=meanwhile)
    assert keys(Samples.load(tmp_path)) == keys(alone)
    assert Samples.load(tmp_path).manifest["finished"]


def test_maps_of_two_processes_in_one_folder(model, digits, tmp_path) -> None:
    caught = []

    def write(method="cam", progress=None):
        return write_map_files(model, VocDataset(digits, "val"), tmp_path, method=method, crop=64, progress=progress)

    def meanwhile(done, total) -> None:
        if not caught:
            for method in ("cam", "gradcam"):
                with pytest.raises(ViceError, match="is already running: process") as refused:
                    write(method)
                caught.append(refused.value)

    assert write(progress=meanwhile) == IMAGES
    assert len(caught) == 2
    assert write() == 0
    assert len(list(tmp_path.iterdir())) == IMAGES + 1


@pytest.fixture(scope="module")
def command(model, tmp_path_factory):
    digits, weights = (tmp_path_factory.mktemp("command") / name for name in ("digits", "w.pth"))
    write_digits(digits, train=2, val=2, test=60, size=48)
    return assess_command(model, digits, weights, "--controls", "cheap")


@pytest.fixture(scope="module")
def by_command(command, tmp_path_factory):
    return table_by(command, tmp_path_factory.mktemp("command") / "t")


def until(condition) -> None:
    """Wait, at most five minutes: other work may keep the machine busy."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened for five minutes")


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


WHOLE_TABLE: tuple[str, ...] = ()
TWO, THREE, HALF, MIRROR = ("--processes", "2"), ("--processes", "3"), ("--shard", "1/2"), ("--also", "mirror")
PAIRS = [
    *((WHOLE_TABLE, other) for other in (WHOLE_TABLE, TWO, HALF, MIRROR)),
    *((TWO, other) for other in (TWO, THREE, HALF)),
    *((MIRROR, other) for other in (MIRROR, ("--also", "scale0.75"))),
]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_commands_at_once_give_every_row_once(command, by_command, tmp_path, first, second, killed) -> None:
    out = [*command, "--out", str(tmp_path)]
    pair = [
        subprocess.Popen([*out, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for more in (first, second)
    ]
    if killed:
        until(lambda: list(tmp_path.glob("assess-*.lock")) or pair[0].poll() is not None)
        time.sleep(0.3)
        pair[0].kill()
    for process in pair:
        _, errors = process.communicate(timeout=1200)
        assert process.returncode in ((0, 2, -signal.SIGKILL) if killed else (0, 2)), errors
        assert "Traceback" not in errors
        assert process.returncode != 2 or "is already running: process" in errors
    assert killed or 0 in [process.returncode for process in pair]
    also = [text for more in (first, second) if "--also" in more for text in more]
    subprocess.run([*out, *also], check=True, capture_output=True)
    table = Samples.load(tmp_path)
    assert table.manifest["finished"]
    assert not table.manifest["adding"]
    assert keys(table, by_command) == keys(by_command)
    assert len(set(keys(table))) == len(keys(table))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the children in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_a_killed_command_end_with_it(command, by_command, tmp_path, how) -> None:
    out = [*command, "--out", str(tmp_path), "--processes", "2"]
    parent = subprocess.Popen(out, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: list(tmp_path.glob("assess-*.lock")))
    parts = children(parent.pid)
    assert len(parts) == 2
    parent.send_signal(how)
    parent.wait()
    subprocess.run(out, check=True, capture_output=True)  # at once
    assert not any(map(runs, parts))
    assert keys(Samples.load(tmp_path)) == keys(by_command)
