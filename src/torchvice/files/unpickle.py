"""Read and write pickled dictionaries of arrays; nothing that is read can run code."""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.lib import format as npy_format

from torchvice.errors import ViceError
from torchvice.files.reading import existing_file
from torchvice.files.writing import atomic

__all__ = ["read_npy_dict", "read_pickle", "write_npy_dict"]


class _Dtype:
    """Stands for numpy.dtype while a pickle is read: numbers, text, and `O` for arrays of objects."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufc]\d{1,2}|[SU]\d{1,9}|O8?", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array while a pickle is read; its content is checked before numpy sees it."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of bytes that fit it (read-only: they are not copied), or of a list of objects."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError(f"an array has the shape {shape!r}")
    if isinstance(dtype, _Dtype) and order in ("C", "F"):
        if dtype.dtype.hasobject and type(content) is list and len(content) == math.prod(shape):
            objects = np.empty(len(content), dtype=object)
            for place, value in enumerate(content):
                objects[place] = value
            return objects.reshape(shape, order=order)
        plain = not dtype.dtype.hasobject and type(content) is bytes
        if plain and len(content) == math.prod(shape) * dtype.dtype.itemsize:
            return np.ndarray(shape, dtype.dtype, content, order=order)
    raise pickle.UnpicklingError("the content of an array does not fit its type and shape")


def _latin1(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


class _ArraysOnly(pickle._Unpickler):
    """Unpickles dicts, lists, strings, numbers and arrays; every other name is refused.

    The unpickler is the one written in Python, and numpy's constructors are stood for: a damaged or forged stream can
    crash the process in the ones written in C.
    """

    stack: list[Any]

    STAND_INS: ClassVar[Mapping[tuple[str, str], Any]] = {
        (module, name): stand_in
        for core in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            (f"{core}.multiarray", "_reconstruct", _Array),
            (f"{core}.multiarray", "scalar", lambda dtype, content: _array(content, dtype, (), "C")[()]),
            ("numpy", "ndarray", None),  # only ever an argument of _reconstruct
            ("numpy", "dtype", _Dtype),
            ("_codecs", "encode", _latin1),
            ("__builtin__", "bytes", lambda: b""),  # protocol 2 again
        )
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data never needs")
        return self.STAND_INS[module, name]

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError("it sets the state of something that is no array")
        self.stack[-1].__setstate__(state)

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: build}


class _Mapping:
    """Stands for a mapping of another library: called with a dictionary, or given one as its state."""

    def __init__(self, *args: Any) -> None:
        self.content: Any = args[0] if args else {}

    def __setstate__(self, state: Any) -> None:
        inside = state[1] if isinstance(state, tuple) and len(state) == 2 else state
        found = [value for value in (inside or {}).values() if isinstance(value, dict | _Mapping)]
        if len(found) != 1:
            raise pickle.UnpicklingError("a mapping in it has no one content")
        self.content = found[0]

    def __new__(cls, *_: Any) -> _Mapping:
        made = super().__new__(cls)
        made.content = {}
        return made


class _Tuple:
    """Stands for a named tuple, which becomes a plain one."""

    def __new__(cls, *values: Any) -> Any:
        return tuple(values)


def _named_tuple(*_: Any) -> type[_Tuple]:
    """How dill writes a named tuple's class: by its name and fields."""
    return _Tuple


def _array_in_parts(make: Any, args: Any, state: Any, *_: Any) -> _Array:
    """How JAX and dill write an array: as numpy's, taken apart."""
    if make is not _Array:
        raise pickle.UnpicklingError("an array in it is not made of numpy's")
    array = _Array()
    array.__setstate__(state)
    return array


_KINDS: Mapping[str, Any] = {
    "mapping": _Mapping,
    "tuple": _Tuple,
    "named tuple": _named_tuple,
    "array": _array_in_parts,
}


class _Containers(_ArraysOnly):
    """Admits classes of other libraries by name as well, stood for by plain containers; none of them is imported."""

    def __init__(self, file: BinaryIO, kind: Callable[[str, str], str | None]) -> None:
        super().__init__(file)
        self._kind = kind

    def find_class(self, module: str, name: str) -> Any:
        kind = self._kind(module, name)
        return super().find_class(module, name) if kind is None else _KINDS[kind]

    def build(self) -> None:
        if isinstance(self.stack[-2], _Mapping):
            state = self.stack.pop()
            self.stack[-1].__setstate__(state)
        else:
            super().build()

    dispatch: ClassVar[dict[int, Any]] = {**_ArraysOnly.dispatch, pickle.BUILD[0]: build}


def _settled(value: Any, done: dict[int, Any]) -> Any:
    """`value` with the arrays in place of what stood for them; what is shared is done once."""
    if id(value) not in done:
        if isinstance(value, _Mapping):
            done[id(value)] = _settled(value.content, done)
        elif isinstance(value, _Array):
            array = value.value
            if array.dtype.hasobject:
                flat = [_settled(entry, done) for entry in array.ravel(order="K")]
                array = _array(flat, _Dtype("O"), array.shape, "F" if np.isfortran(array) else "C")
            done[id(value)] = array
        elif isinstance(value, dict):
            done[id(value)] = {key: _settled(entry, done) for key, entry in value.items()}
        elif isinstance(value, list | tuple):
            done[id(value)] = type(value)(_settled(entry, done) for entry in value)
        elif isinstance(value, _Dtype):
            raise pickle.UnpicklingError("it holds a data type, not an array")
        else:
            return value
    return done[id(value)]


def _object_payload(file: BinaryIO) -> Any:
    version = npy_format.read_magic(file)
    reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if not dtype.hasobject:
        raise pickle.UnpicklingError(f"it holds an array of {dtype} and shape {shape}, not a dictionary")
    loaded = _ArraysOnly(file).load()
    content = _settled(loaded, {})
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def read_npy_dict(path: str | os.PathLike[str], what: str = "The .npy file") -> dict[Any, Any]:
    """The dictionary of a legacy `np.save(path, dict)`, through an unpickler that admits arrays and nothing else.

    The arrays are read-only.

    Raises:
        ViceError: no such file, damaged, not a dictionary, or a pickle that asks for anything but arrays.
    """
    path = existing_file(path, what)
    try:
        with open(path, "rb") as file:
            content = _object_payload(file)
    except Exception as error:  # a damaged pickle is a program gone wrong: there is no telling what it raises
        said = str(error) if isinstance(error, pickle.UnpicklingError | ValueError) else f"it is damaged ({error!r})"
        raise ViceError(
            f"{what} {path} must be a dictionary of arrays saved by numpy, but cannot be read: {said}.",
            "Write it anew with np.save(path, {...}), or use .npz.",
        ) from None
    if not isinstance(content, dict):
        raise ViceError(f"{what} {path} must hold a dictionary, but holds a {type(content).__name__}.")
    return content


def read_pickle(
    path: str | os.PathLike[str], what: str = "The pickle", kind: Callable[[str, str], str | None] = lambda *_: None
) -> Any:
    """What a pickle of arrays and containers holds, through an unpickler that makes nothing else.

    Args:
        path: the file.
        what: what to call it.
        kind: from (module, name) of a class in the pickle to what stands for it: `mapping` (a dictionary), `tuple` (of
            a named tuple), `named tuple` (dill's maker of such a class) or `array` (JAX's or dill's, of numpy's parts);
            None refuses it. The class is never imported.

    Raises:
        ViceError: no such file, damaged, or a pickle that asks for anything else.
    """
    path = existing_file(path, what)
    try:
        with open(path, "rb") as file:
            return _settled(_Containers(file, kind).load(), {})
    except Exception as error:  # see read_npy_dict
        said = str(error) if isinstance(error, pickle.UnpicklingError | ValueError) else f"it is damaged ({error!r})"
        raise ViceError(f"{what} {path} must be a pickle of arrays, but cannot be read: {said}.") from None


def write_npy_dict(path: str | os.PathLike[str], content: Mapping[Any, Any]) -> Path:
    """Write a dictionary of arrays the way the original scripts read it, `np.load(path, allow_pickle=True).item()`."""
    with atomic(path) as part, open(part, "wb") as file:
        np.save(file, np.array(dict(content), dtype=object), allow_pickle=True)
    return Path(path)
