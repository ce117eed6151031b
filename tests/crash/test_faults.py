"""Every writing call of the files' own functions, of an assessment and of what is added to it fails once.

The calls of this process alone, by replaced functions; tests/crash/test_whole_commands.py does it for whole commands.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import torchvice
from crash.faults import Faults, first_of_its_process, in_child
from torchvice import Samples
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.errors import as_vice_error
from torchvice.files import atomic_folder, write_json, write_text
from torchvice.models.pretraining import save_encoder

KINDS = ("ENOSPC", "EIO", "short", "SIGKILL")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def disturbed(attempt: Callable[[], None], kind: str, folder: Path) -> bool:
    """Whether work of which one call fails ends well, in spite of it; if not, it ends in a sentence about its file."""
    if kind == "SIGKILL":
        assert in_child(attempt) == -signal.SIGKILL
        return False
    if kind == "short":
        attempt()
        return True
    try:
        attempt()
    except OSError as error:
        sentence = as_vice_error(error)
    else:
        return True
    assert sentence is not None
    assert str(folder) in sentence.message
    assert ".part" not in sentence.message
    assert "finished work is kept" in sentence.way_out
    return False


def text(folder: Path) -> None:
    write_text(folder / "new" / "a.txt", "new words" * 4000)


def numbers(folder: Path) -> None:
    write_json(folder / "a.json", {"a": list(range(4000))})


def pictures(folder: Path) -> None:
    with atomic_folder(folder / "all") as part:
        for name in ("a", "b"):
            (part / name).write_bytes(b"pixels" * 5000)


def weights(folder: Path) -> None:
    save_encoder(folder / "a.safetensors", {"layer.weight": torch.ones(40, 40)}, "plain")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [text, numbers, pictures, weights])
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, write, kind: str) -> None:
    def begun(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if write is numbers:  # a file that is replaced
            write_json(folder / "a.json", {"before": 1})
        return folder

    whole = begun("whole")
    before = files_of(whole)
    with Faults(whole) as counted:
        write(whole)
    after = files_of(whole)
    assert {"open", "write", "rename"} <= {name for name, _ in counted.calls}
    assert "fsync" in {name for name, _ in counted.calls} or write is pictures
    for number in range(1, len(counted.calls) + 1):
        folder = begun(f"{number}")
        faults = Faults(folder, number, kind)

        def attempt(folder=folder, faults=faults) -> None:
            with faults, first_of_its_process():
                write(folder)

        if disturbed(attempt, kind, folder):  # what failed is the clearing away
            assert files_of(folder) == after
        found = {name: content for name, content in files_of(folder).items() if ".part" not in name}
        assert found in (before, after)
        if found != after:
            with first_of_its_process():
                write(folder)
        assert {name: content for name, content in files_of(folder).items() if ".part" not in name} == after


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults") / "digits"
    write_digits(root, train=2, val=2, test=3, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


def assess(model, dataset, out, **more):
    options = {"view_size": 64, "batch_size": 1, "shard_size": 2, "protocols": ("strict",), "workers": 0}
    options |= {"controls": False, "without": None, **more}
    return torchvice.assess(model, dataset, out=out, **options)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A pool of threads does not survive a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


ADDED = {"also": ("mirror",), "without": ["object"]}


@pytest.mark.parametrize("adds", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_assessment_goes_on_after_any_call_failed(model, dataset, tmp_path: Path, adds: bool) -> None:
    """A sample of its calls: each is of another kind than its neighbours, and all kinds come round."""

    if adds:
        assess(model, dataset, tmp_path / "begun")

    def begun(name: str) -> Path:
        if adds:
            shutil.copytree(tmp_path / "begun", tmp_path / name)
        return tmp_path / name

    def complete(folder: Path):
        return assess(model, dataset, folder, **(ADDED if adds else {}))

    whole = begun("whole")
    with Faults(whole) as counted:
        complete(whole)
    expected, stride = files_of(whole), 7
    assert len(counted.calls) > 50
    names = [name for name, _ in counted.calls]  # a power failure leaves no file whose content is not on the disk
    assert all(before == "fsync" for before, name in itertools.pairwise(names) if name == "rename")
    for turn, number in enumerate(range(1 + adds, len(counted.calls) + 1, stride)):
        folder, kind = begun(f"{number}"), KINDS[turn % len(KINDS)]
        faults = Faults(folder, number, kind)

        def attempt(folder=folder, faults=faults) -> None:
            with faults, first_of_its_process(), one_thread():
                complete(folder)

        disturbed(attempt, kind, folder)
        with first_of_its_process():
            found = complete(folder)
        assert files_of(folder) == expected, (number, kind, counted.calls[number - 1])
        assert np.isfinite(found.images.logits).all()


def test_a_table_to_which_measurements_are_added_says_that_it_is_not_finished(model, dataset, tmp_path: Path) -> None:
    assert "table" not in torchvice.measure(assess(model, dataset, tmp_path / "t"), replicates=0).notes
    shutil.copytree(tmp_path / "t", tmp_path / "counted")
    with Faults(tmp_path / "counted") as counted:
        assess(model, dataset, tmp_path / "counted", without=["object"])
    amended = [n for n, (name, path) in enumerate(counted.calls, 1) if name == "rename" and path.startswith("regions")]
    assert len(amended) == 2
    with Faults(tmp_path / "t", amended[1], "EIO"), pytest.raises(OSError, match="Input/output"):
        assess(model, dataset, tmp_path / "t", without=["object"])
    half = Samples.load(tmp_path / "t")
    assert 0 < np.isfinite(half.regions.without_object).sum() < len(half.regions.label)
    assert "some images alone" in torchvice.measure(half, replicates=0).notes["table"]
    whole = assess(model, dataset, tmp_path / "t", without=["object"])
    assert "table" not in torchvice.measure(whole, replicates=0).notes
    assert files_of(tmp_path / "t") == files_of(tmp_path / "counted")
