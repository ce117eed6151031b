"""A failed write names its target, and no id of an image leads out of a folder."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from torchvice.assessment.map_files import _path
from torchvice.errors import ViceError, as_vice_error
from torchvice.files.writing import atomic, atomic_folder, check_writable
from ways_out import tried


def test_a_read_only_file_system_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    target = tmp_path / "table.json"
    with pytest.raises(OSError, match="Read-only") as caught, atomic(target) as part:
        raise OSError(errno.EROFS, "Read-only file system", str(part))
    assert caught.value.filename == str(target)


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_a_read_only_folder_is_named_before_any_library_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    def refuse(self: Path, *args: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    target = tmp_path / "table"
    with monkeypatch.context() as patch:
        patch.setattr(Path, make, refuse)
        if make == "mkdir":  # the folder above exists
            patch.setattr("torchvice.files.writing._part", lambda folder, name: folder / ".x.part")
        writing = atomic_folder if make == "mkdir" else atomic
        with pytest.raises(OSError, match="Read-only") as caught, writing(target):
            raise AssertionError("the block must not begin")
    error = as_vice_error(caught.value)
    assert error is not None
    assert error.message == f"{target} cannot be used: Read-only file system."
    assert error.way_out == "Choose another place: this one is read-only."
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_temporary_folder_has_the_name_that_it_was_to_get(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output") as caught, atomic_folder(tmp_path / "d") as part:
        raise OSError(errno.EIO, "Input/output error", str(part / "a" / "b.jpg"))
    assert caught.value.filename == str(tmp_path / "d" / "a" / "b.jpg")
    with pytest.raises(OSError, match="Input/output") as caught, atomic_folder(tmp_path / "d"):
        raise OSError(errno.EIO, "Input/output error", "/elsewhere")
    assert caught.value.filename == "/elsewhere"


# A write of Python names no file, and torch's writer raises a RuntimeError that does not name the disk.
FULL = [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 576 vs 534")]


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("writing", [atomic, atomic_folder])
def test_a_full_disk_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing, error) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100, 0))
    with pytest.raises(OSError, match="No space left") as caught, writing(tmp_path / "a.ckpt"):
        raise type(error)(*error.args)
    sentence = as_vice_error(caught.value)
    assert sentence is not None
    assert sentence.message == f"The disk is full: {tmp_path / 'a.ckpt'} cannot be written."
    assert "finished work is kept" in sentence.way_out
    with pytest.raises(ViceError, match="Other"), writing(tmp_path / "a.ckpt"):
        raise ViceError("Other.")


def test_another_error_stays_what_it_is_where_there_is_room(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), atomic(tmp_path / "a.ckpt"):
        raise RuntimeError("size mismatch, 576 and 534")
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.ckpt"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


# What torch's writer raises for a disk that fails: of the opening, of a write, of the end.
OF_TORCH = {
    "[enforce fail at inline_container.cc:747] . open file failed with strerror: Input/output error": "Input/output",
    "[enforce fail at inline_container.cc:747] . open file failed with strerror: No space left on device": "full",
    "[enforce fail at inline_container.cc:664] . unexpected pos 576 vs 534": "could not be written completely",
    "PytorchStreamWriter failed writing file data/0: file write failed": "could not be written completely",
    "basic_ios::clear: iostream error": "could not be written completely",
}


@pytest.mark.parametrize(("said", "reason"), OF_TORCH.items())
def test_torch_s_errors_of_writing_name_the_target(tmp_path: Path, said: str, reason: str) -> None:
    with pytest.raises(OSError) as caught, atomic(tmp_path / "a.ckpt"):
        raise RuntimeError(said)
    sentence = as_vice_error(caught.value)
    assert sentence is not None
    assert reason in sentence.message
    assert str(tmp_path / "a.ckpt") in sentence.message
    assert "finished work is kept" in sentence.way_out


def test_an_open_file_that_cannot_be_written_gets_the_name_of_its_target(tmp_path: Path) -> None:
    error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output") as caught, atomic(tmp_path / "a.json"):
        raise error
    sentence = as_vice_error(caught.value)
    assert sentence is not None
    assert sentence.message == f"{tmp_path / 'a.json'} cannot be used: Input/output error."
    unnamed = as_vice_error(OSError(errno.EIO, "Input/output error"))  # of a file that we do not write
    assert unnamed is not None
    assert unnamed.message == "A file cannot be read or written: Input/output error."
    assert (
        unnamed.way_out == sentence.way_out == "Check the disk and run the same command again; finished work is kept."
    )


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_fsync_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    synced = []

    def refuse(file: int) -> None:
        synced.append(file)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with atomic(tmp_path / "a") as part:
        part.write_text("a")
    with atomic(tmp_path / "b", sync=False) as part:
        part.write_text("b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]
    assert len(synced) == 1


@pytest.mark.parametrize("image_id", ["../a", "b/../../a", "/a"])
def test_maps_stay_in_their_folder(tmp_path: Path, image_id: str) -> None:
    with pytest.raises(ViceError, match="An image id must be a path inside the folder of the maps"):
        _path(tmp_path, image_id, ".npz")
    assert _path(tmp_path, "b/a", ".npz") == tmp_path / "b/a.npz"


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    tried(
        lambda: check_writable(tmp_path / "folder", "--json", "numbers.json"),
        f"Give --json {tmp_path / 'folder' / 'numbers.json'}.",
        lambda: check_writable(tmp_path / "folder" / "numbers.json", "--json"),
    )
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        tried(
            lambda wrong=wrong: check_writable(wrong, "--figures", folder=True),
            "Give another path.",
            lambda: check_writable(tmp_path / "new" / "folder", "--figures", folder=True),
        )
    check_writable(tmp_path / "file", "--json")  # it is replaced
    check_writable(None, "--json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError) as caught:
        check_writable(tmp_path / "new" / "numbers.json", "--json")
    assert "new/numbers.json cannot be used: Permission denied." in str(as_vice_error(caught.value))
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows does not tell")
def test_a_read_only_disk_is_told_from_a_folder_that_is_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "ranks.csv", "--csv")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(OSError, match="Read-only") as caught:
        check_writable(tmp_path / "ranks.csv", "--csv")
    assert caught.value.errno == errno.EROFS
