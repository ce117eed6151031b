"""Torch's tensors in .npy dictionaries, as IRN and others save them, are read as arrays, and no code runs."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchvice.errors import ViceError
from torchvice.files import read_npy_dict
from torchvice.files.unpickle import _ArraysOnly
from torchvice.interop import read_maps

STACK = torch.arange(24.0).reshape(2, 3, 4)


def save(path: Path, content: dict[Any, Any]) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


TENSORS = {
    "contiguous": STACK,
    "part of another": torch.arange(96.0).reshape(4, 8, 3)[1::2, 2:6],
    "transposed": STACK.transpose(1, 2),
    "half": STACK.half(),
    "double": STACK.double(),
    "integers": torch.tensor([-3, 7]),
    "small": torch.tensor([250, 3], dtype=torch.uint8),
    "truth": torch.tensor([True, False]),
    "number": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_is_the_array_that_torch_makes_of_it(tmp_path: Path, kind: str) -> None:
    expected = TENSORS[kind].detach().numpy()
    array = read_npy_dict(save(tmp_path / "a.npy", {"x": TENSORS[kind], "y": np.ones(2)}))["x"]
    assert type(array) is np.ndarray
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_the_file_that_irn_writes(tmp_path: Path) -> None:
    content = {"keys": torch.tensor([3, 7]), "cam": STACK[:, :1, :2], "high_res": STACK.numpy()}
    classes, maps = read_maps(save(tmp_path / "a.npy", content))
    assert classes.tolist() == [3, 7]
    np.testing.assert_array_equal(np.stack(maps), STACK.numpy())


def test_a_type_that_numpy_lacks_is_refused_with_a_way_out_that_works(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npy", {0: STACK[0].bfloat16()})
    with pytest.raises(ViceError, match=r"a tensor of type BFloat16, which numpy lacks .*\.float\(\)\.numpy\(\)"):
        read_maps(file)
    save(file, {0: STACK[0].bfloat16().float().numpy()})
    np.testing.assert_array_equal(read_maps(file)[1][0], STACK[0].numpy())


class Forged:
    """Pickled as a call of torch's function with other arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.function, self.arguments


class Runs:
    def __reduce__(self) -> tuple[Any, Any]:
        return os.mkdir, (str(Runs.place),)

    place = Path()


REBUILD = torch._utils._rebuild_tensor_v2
STORAGE = torch.arange(6.0)._typed_storage()
VIEW = torch.arange(6.0)[::2]
FORGED = {
    "beyond the end": (REBUILD, STORAGE, 4, (3,), (1,)),
    "long strides": (REBUILD, STORAGE, 0, (2, 2), (5, 2)),
    "far strides": (REBUILD, STORAGE, 0, (2,), (2**62,)),
    "backwards": (REBUILD, STORAGE, 3, (2,), (-4,)),
    "before the start": (REBUILD, STORAGE, -1, (2,), (1,)),
    "larger than its values": (REBUILD, STORAGE, 0, (10**6, 10**6), (0, 0)),
    "no numbers": (REBUILD, STORAGE, 0, ("a",), (1,)),
    "a tensor for values": (REBUILD, VIEW, 0, (3,), (1,)),
    "text for values": (REBUILD, "abc", 0, (3,), (1,)),
    "no bytes": (torch.storage._load_from_bytes, "abc"),
    "too few bytes": (torch.storage._load_from_bytes, b"\x80\x02]q\x00."),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_tensor_is_refused(tmp_path: Path, kind: str) -> None:
    function, *arguments = FORGED[kind]
    more = (False, {}) if function is REBUILD else ()
    with pytest.raises(ViceError, match="must be a dictionary of arrays saved by numpy, but cannot be read"):
        read_npy_dict(save(tmp_path / "a.npy", {0: Forged(function, *arguments, *more)}))


def test_code_inside_the_values_of_a_tensor_does_not_run(tmp_path: Path) -> None:
    Runs.place = tmp_path / "ran"
    content = pickle.dumps(Runs()) * 5
    file = save(tmp_path / "a.npy", {0: Forged(torch.storage._load_from_bytes, content)})
    with pytest.raises(ViceError, match=r"it asks for (posix|nt)\.mkdir, which data never needs"):
        read_npy_dict(file)
    assert not Runs.place.exists()


class _Nested:
    """Pickles 60 tuples, each of which holds the one before it twice, as the key of a dictionary or in a set."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def stream(self) -> bytes:
        tuples = b"K\x01q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60)) + b"h\x3c"
        made = {
            "a key": b"}" + tuples + b"N" + b"s",
            "keys": b"}(" + tuples + b"N" + b"u",
            "dict": b"(" + tuples + b"N" + b"d",
            "a set": b"\x8f(" + tuples + b"\x90",
            "a frozenset": b"(" + tuples + b"\x91",
        }[self.kind]
        return b"\x80\x04" + made + b"."


@pytest.mark.parametrize("kind", ["a key", "keys", "dict", "a set", "a frozenset"])
def test_tuples_within_tuples_are_never_hashed(kind: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="a key in it must be text or a number, but is a tuple"):
        _ArraysOnly(io.BytesIO(_Nested(kind).stream())).load()


def test_keys_beyond_the_integers_of_numpy_are_refused(tmp_path: Path) -> None:
    for key in (1 << 70, 1 << 63, -(1 << 40)):
        with pytest.raises(ViceError, match="must map class indices to maps, but has the key"):
            read_maps(save(tmp_path / "maps.npy", {key: np.zeros((2, 2))}))
