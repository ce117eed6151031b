"""files: whole or not at all, and no pickle that runs code or crashes the process."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchvice.errors import ViceError
from torchvice.files import (
    atomic,
    atomic_folder,
    check_folder_free,
    check_writable,
    existing_file,
    read_json,
    read_npy_dict,
    sha256,
    write_json,
    write_npy_dict,
    write_text,
    writing,
)


def test_atomic_makes_folders_and_keeps_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.npz"
    with atomic(target) as part:
        assert part.suffix == ".npz"
        assert part.parent == target.parent
        part.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")

    def half() -> None:
        with atomic(target) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_rename_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: Any) -> None:
    target = write_text(tmp_path / "a.txt", "old")

    def refuse(source: Path, place: Path) -> None:
        raise OSError(28, "No space left on device", str(place))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="No space left"):
            write_text(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "numbers.csv", tmp_path / "link.csv"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    nowhere = tmp_path / "nowhere.csv"
    nowhere.symlink_to(tmp_path / "real" / "made.csv")
    write_text(nowhere, "made")
    assert (tmp_path / "real" / "made.csv").read_text() == "made"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "nowhere.csv", "real"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable(pipe, "--json")
        write_json(pipe, {"a": 1})
        assert os.read(reader, 100) == b'{\n "a": 1\n}\n'
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert writing._is_special(Path("/dev/null"))  # before anything would replace those of the machine
    assert writing._is_special(Path("/dev/full"))
    write_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left") as full:
        write_text("/dev/full", "much")
    assert full.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_standard_output_is_written_to(tmp_path: Path) -> None:
    code = "import torchvice.files; print('before', flush=True); torchvice.files.write_text('/dev/stdout', 'text')"
    with (tmp_path / "said.txt").open("w") as said:
        subprocess.run([sys.executable, "-c", code], stdout=said, check=True)
    assert (tmp_path / "said.txt").read_text() == "before\ntext"


def test_a_folder_appears_whole_in_the_place_of_an_empty_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    for _ in range(2):
        with atomic_folder(target) as part:
            assert part.parent == target.parent
            (part / "a.txt").write_text("whole")
        assert [path.name for path in target.iterdir()] == ["a.txt"]
        assert list(target.parent.iterdir()) == [target]
        (target / "a.txt").unlink()


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    def half() -> None:
        with atomic_folder(tmp_path / "folder") as part:
            (part / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert not list(tmp_path.iterdir())


def test_a_full_folder_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "folder") as part:
        (part / "a.txt").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_is_strict(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"value": bad})
    assert not list(tmp_path.iterdir())


def test_json_keeps_every_digit(tmp_path: Path) -> None:
    content = {"value": 0.1 + 0.2, "ü": [1, None]}
    assert read_json(write_json(tmp_path / "a.json", content)) == content


@pytest.mark.parametrize(
    ("written", "said"),
    [("{", "must be JSON"), ("[1]", "must hold a JSON object, but holds a list"), ("\xff", "must be JSON")],
)
def test_other_json_is_refused(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(written.encode("latin-1"))
    with pytest.raises(ViceError, match=said):
        read_json(path, "The note")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"The list must be a file, but .*absent\.txt does not exist"):
        existing_file(tmp_path / "absent.txt", "The list")
    with pytest.raises(ViceError, match=r"The list must be a file, but .* is a folder"):
        existing_file(tmp_path, "The list")
    with pytest.raises(ViceError, match="does not exist"):
        read_npy_dict(tmp_path / "absent.npy")


def test_sha256_is_the_one_of_the_standard(tmp_path: Path) -> None:
    # FIPS 180-2, first example.
    path = write_text(tmp_path / "a", "abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


CONTENT = {
    3: np.arange(12, dtype=np.float32).reshape(3, 4),
    7: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "name": "ü",
    "list": [1, 2.5, (True, None)],
    "scalar": np.float64(3.5),
    "empty": np.zeros((0, 3)),
    "axes": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    "big endian": np.arange(3, dtype=">i2"),
    "words": np.array(["a", "bcd"]),
    "objects": np.array([[1], "x"], dtype=object),
}


def same(found: dict[Any, Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(b, np.ndarray):
            return a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and np.array_equal(a, b)
        return type(a) is type(b) and a == b

    return found.keys() == CONTENT.keys() and all(equal(found[key], value) for key, value in CONTENT.items())


def test_npy_dict_comes_back(tmp_path: Path) -> None:
    path = write_npy_dict(tmp_path / "a.npy", CONTENT)
    assert same(read_npy_dict(path))
    assert same(np.load(path, allow_pickle=True).item())  # as the original scripts read it


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_npy_dicts_of_every_protocol_and_older_numpy_are_read(tmp_path: Path, protocol: int) -> None:
    # numpy 1 wrote pickle protocol 3 and called its module numpy.core.
    stream = pickle.dumps(np.array(CONTENT, dtype=object), protocol=protocol)
    if protocol < 4:
        stream = stream.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        assert b"numpy._core" not in stream
    assert same(read_npy_dict(npy(tmp_path, stream)))


def npy(folder: Path, stream: bytes) -> Path:
    """A .npy file of an object array whose pickle is `stream`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path = folder / "a.npy"
    path.write_bytes(file.getvalue() + stream)
    return path


class Payload:
    """What a pickle can do: call any function while it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    content = np.array({1: Payload(os.mkdir, str(trace))}, dtype=object)
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    with pytest.raises(ViceError, match=r"it asks for posix\.mkdir, which data never needs"):
        read_npy_dict(tmp_path / "a.npy")
    assert not trace.exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert trace.exists()  # the payload is a live one


@pytest.mark.parametrize("function", [eval, getattr, np.load, np.fromfile, np.memmap])
def test_functions_of_python_and_numpy_are_refused(tmp_path: Path, function: Any) -> None:
    stream = pickle.dumps(np.array({1: Payload(function, "1")}, dtype=object), protocol=4)
    with pytest.raises(ViceError, match="which data never needs"):
        read_npy_dict(npy(tmp_path, stream))


def test_forged_arrays_are_refused(tmp_path: Path) -> None:
    whole = pickle.dumps(np.array({1: np.arange(4.0)}, dtype=object), protocol=2)
    short = whole.replace(b"K\x04\x85", b"K\x09\x85")  # a shape (9,) for four numbers
    assert short != whole
    with pytest.raises(ViceError, match="does not fit its type and shape"):
        read_npy_dict(npy(tmp_path, short))
    with pytest.raises(ViceError, match="not of numbers"):
        read_npy_dict(npy(tmp_path, whole.replace(b"f8", b"O9")))


def test_a_dictionary_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[Any, Any] = {}
    content[1] = [content]
    with pytest.raises(ViceError, match="cannot be read"):
        read_npy_dict(write_npy_dict(tmp_path / "a.npy", content))


def test_shared_parts_are_read_once(tmp_path: Path) -> None:
    nested: list[Any] = [1]
    for _ in range(60):  # 2^60 leaves, if every reference were followed
        nested = [nested, nested]
    assert read_npy_dict(write_npy_dict(tmp_path / "a.npy", {1: nested}))


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3.0))
    with pytest.raises(ViceError, match="holds an array of float64"):
        read_npy_dict(path)
    np.save(path, np.array([1, "x"], dtype=object), allow_pickle=True)
    with pytest.raises(ViceError, match="must hold a dictionary, but holds a ndarray"):
        read_npy_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ViceError, match="cannot be read"):
        read_npy_dict(path)
    path.write_bytes(b"")
    with pytest.raises(ViceError, match="cannot be read"):
        read_npy_dict(path)


@settings(max_examples=150, deadline=None)
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3))
def test_a_damaged_file_is_an_error_or_a_dictionary_and_never_a_crash(
    tmp_path_factory: Any, cut: float, flips: list[tuple[float, int]]
) -> None:
    stream = bytearray(pickle.dumps(np.array(CONTENT, dtype=object), protocol=4))
    stream = stream[: 1 + int(cut * (len(stream) - 1))]
    for place, value in flips:
        stream[int(place * (len(stream) - 1))] = value
    path = npy(tmp_path_factory.mktemp("damaged"), bytes(stream))
    with contextlib.suppress(ViceError):
        assert isinstance(read_npy_dict(path), dict)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    whole = write_npy_dict(tmp_path / "whole.npy", {3: np.arange(4.0)}).read_bytes()
    cut = tmp_path / "cut.npy"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(ViceError, match=r"cut\.npy"):
            read_npy_dict(cut)
    assert read_npy_dict(tmp_path / "whole.npy")[3].tolist() == [0, 1, 2, 3]


def test_a_folder_that_may_only_be_read_is_told_by_the_file_that_was_wanted(tmp_path: Path) -> None:
    def refused(path: Path) -> None:  # as open() has it; root, who may run this, can write anywhere
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with pytest.raises(PermissionError) as told, atomic(tmp_path / "measures.json") as part:
        refused(part)
    assert told.value.filename == str(tmp_path / "measures.json")
    with pytest.raises(PermissionError) as told, atomic(tmp_path / "measures.json"):
        refused(tmp_path / "another")
    assert told.value.filename == str(tmp_path / "another")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), atomic(tmp_path / "file" / "a.json"):
        pass


def test_half_a_character_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"must be UTF-8, but 'a.udcff.jpg' is not") as told:
        write_text(tmp_path / "list.txt", "b.jpg\n" + os.fsdecode(b"a\xff.jpg"))
    assert "Rename" in told.value.way_out
    assert not list(tmp_path.iterdir())
    path = write_json(tmp_path / os.fsdecode(b"a\xff.json"), {"id": os.fsdecode(b"a\xff")})
    assert read_json(path) == {"id": os.fsdecode(b"a\xff")}  # JSON has escapes for it


def test_a_file_of_a_similar_name_is_suggested_but_no_folder(tmp_path: Path) -> None:
    (tmp_path / "weights2").mkdir()
    (tmp_path / "weights").mkdir()
    for path in (tmp_path / "weights", tmp_path / "weights1"):
        with pytest.raises(ViceError) as caught:
            existing_file(path, "The weights")
        assert "weights2" not in caught.value.way_out
        assert caught.value.way_out
    (tmp_path / "weights.pth").write_bytes(b"")
    near = re.escape(f"Did you mean `{tmp_path / 'weights.pth'}`?")
    with pytest.raises(ViceError, match=near):
        existing_file(tmp_path / "weights", "The weights")


def test_a_relative_path_says_where_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ViceError, match=re.escape(f"it starts from {tmp_path}")):
        existing_file("nofile.yaml", "The class map")


@pytest.mark.parametrize(
    ("names", "free"),
    [
        ((), True),
        ((".DS_Store", "slurm-1.out", "run.log"), True),
        (("manifest.json", "photo.jpg"), True),
        (("assess-1-of-2-0a1b2c3d.lock",), True),
        (("photo.jpg", "run.log"), False),
        (("photos",), False),
    ],
)
def test_a_folder_for_output_holds_nothing_else(tmp_path: Path, names: tuple[str, ...], free: bool) -> None:
    out = tmp_path / "out"
    check_folder_free(out, ("manifest.json", "assess*.lock*"), "The table")
    out.mkdir()
    for name in names:
        (out / name).touch()
    refused = contextlib.nullcontext() if free else pytest.raises(ViceError, match=f"holds other things: {names[0]}")
    with refused:
        check_folder_free(out, ("manifest.json", "assess*.lock*"), "The table")
