"""Read and write pickled dictionaries of arrays; reading a file never runs code."""

from __future__ import annotations

import io
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
    """Replaces numpy.dtype while a pickle is read: numbers, text, and `O` for arrays of objects."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufc]\d{1,2}|[SU]\d{1,9}|O8?", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Replaces an array while a pickle is read; its content is checked before numpy gets it."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Make an array of a list of objects, or of bytes that fit its type and shape (not copied, therefore read-only)."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError(f"an array has the shape {shape!r}")
    if isinstance(dtype, _Dtype) and order in ("C", "F"):
        if dtype.dtype.hasobject and type(content) is list and len(content) == math.prod(shape):
            objects = np.empty(len(content), dtype=object)
            for place, value in enumerate(content):
                objects[place] = value
            return objects.reshape(shape, order=order)
        numeric = not dtype.dtype.hasobject and type(content) is bytes
        if numeric and len(content) == math.prod(shape) * dtype.dtype.itemsize:
            return np.ndarray(shape, dtype.dtype, content, order=order)
    raise pickle.UnpicklingError("the content of an array does not fit its type and shape")


def _of_buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """Make an array as protocol 5 of pickle writes it; `axes`: of one that is contiguous after a transposition."""
    plain = bytes(content) if type(content) in (bytes, bytearray) else content
    if axes is None:
        return _array(plain, dtype, shape, order)
    array = _array(plain, dtype, shape, "C")
    if not isinstance(axes, tuple) or sorted(axes) != list(range(array.ndim)):
        raise pickle.UnpicklingError(f"an array of {array.ndim} axes has them in the order {axes!r}")
    return array.transpose(axes)


def _latin1(text: Any, encoding: Any) -> bytes:
    """Decode bytes as protocol 2 of pickle writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


# The types of torch's storages that numpy has as well.
_STORAGES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Bool": "b1",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
}


def _storage(content: Any) -> np.ndarray:
    """Read the values of a tensor from the file inside the pickle that torch writes them to: five pickles and bytes."""
    if type(content) is not bytes:
        raise pickle.UnpicklingError("the values of a tensor are not bytes")
    file = io.BytesIO(content)
    *_, (code, numel), _keys = (_Storages(file).load() for _ in range(5))
    if int.from_bytes(file.read(8), "little") != numel:
        raise pickle.UnpicklingError("the values of a tensor do not fit its size")
    return _array(file.read(), _Dtype(code), (numel,), "C")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """Make an array of a tensor: a view of `storage` in steps of values, checked to lie inside it."""
    whole = [offset, *shape, *strides]
    values = isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous
    if not values or len(shape) != len(strides) or any(type(number) is not int for number in whole):
        raise pickle.UnpicklingError("a tensor in it is not made of values, a shape and strides")
    last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if min(whole) < 0 or math.prod(shape) > storage.size or (math.prod(shape) and last >= storage.size):
        raise pickle.UnpicklingError("a tensor in it does not lie inside its values")
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _key(key: Any) -> Any:
    """A key of a dictionary or an entry of a set: text, bytes or a number.

    Tuples within tuples take an endless time to hash: a few hundred bytes of them would never be read.
    """
    if key is None or isinstance(key, str | bytes | int | float | np.generic):
        return key
    raise pickle.UnpicklingError(f"a key in it must be text or a number, but is a {type(key).__name__}")


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


class _ArraysOnly(pickle._Unpickler):
    """Unpickles dicts, lists, strings, numbers, arrays and torch's tensors (as arrays); refuses every other name.

    Python's own unpickler is used, and numpy's constructors are replaced: in their C versions a damaged or forged
    stream can crash the process.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    STAND_INS: ClassVar[Mapping[tuple[str, str], Any]] = {
        (module, name): stand_in
        for core in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            (f"{core}.multiarray", "_reconstruct", _Array),
            (f"{core}.multiarray", "scalar", lambda dtype, content: _array(content, dtype, (), "C")[()]),
            (f"{core}.numeric", "_frombuffer", _of_buffer),
            ("numpy", "ndarray", None),  # only ever an argument of _reconstruct
            ("numpy", "dtype", _Dtype),
            ("_codecs", "encode", _latin1),
            ("__builtin__", "bytes", lambda: b""),  # protocol 2 again
            ("torch.storage", "_load_from_bytes", _storage),
            ("torch._utils", "_rebuild_tensor_v2", _tensor),
            ("torch._utils", "_rebuild_parameter", lambda tensor, *_: tensor),
            ("collections", "OrderedDict", _dictionary),  # a tensor's hooks
        )
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which data never needs")
        return self.STAND_INS[module, name]

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError("it sets the state of something that is not an array")
        self.stack[-1].__setstate__(state)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def set_items(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    def dictionary(self) -> None:
        items = self.pop_mark()
        self.append(_dictionary(zip(items[::2], items[1::2], strict=True)))

    def add_items(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(map(_key, items))

    def frozen_set(self) -> None:
        self.append(frozenset(map(_key, self.pop_mark())))

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: build,
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: set_items,
        pickle.DICT[0]: dictionary,
        pickle.ADDITEMS[0]: add_items,
        pickle.FROZENSET[0]: frozen_set,
    }


class _Storages(_ArraysOnly):
    """Reads which storage a file of torch holds: its type and its number of values."""

    def find_class(self, module: str, name: str) -> Any:
        kind = name.removesuffix("Storage")
        if module in ("torch", "torch.cuda") and kind != name:
            if kind not in _STORAGES:
                raise pickle.UnpicklingError(
                    f"it holds a tensor of type {kind}, which numpy lacks (convert it with .float().numpy())"
                )
            return _STORAGES[kind]
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        return pid[1], pid[4]  # "storage", type, key, device, number of values, view


class _Mapping:
    """Replaces a mapping of another library, which is called with a dictionary or gets one as its state."""

    def __init__(self, *args: Any) -> None:
        self.content: Any = args[0] if args else {}

    def __setstate__(self, state: Any) -> None:
        inside = state[1] if isinstance(state, tuple) and len(state) == 2 else state
        contents = [value for value in (inside or {}).values() if isinstance(value, dict | _Mapping)]
        if len(contents) != 1:
            raise pickle.UnpicklingError("a mapping in it must hold one dictionary")
        self.content = contents[0]

    def __new__(cls, *_: Any) -> _Mapping:
        made = super().__new__(cls)
        made.content = {}
        return made


class _Tuple:
    """Replaces a named tuple by a tuple."""

    def __new__(cls, *values: Any) -> Any:
        return tuple(values)


def _named_tuple(*_: Any) -> type[_Tuple]:
    """Make the class of a named tuple, which dill writes as its name and fields."""
    return _Tuple


def _array_in_parts(make: Any, args: Any, state: Any, *_: Any) -> _Array:
    """Make an array of numpy's parts, as JAX and dill write it."""
    if make is not _Array:
        raise pickle.UnpicklingError("an array in it is not a numpy array")
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
    """Also reads classes of other libraries by name, as dicts, tuples and arrays; imports none of them."""

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
    """Put arrays, dicts and tuples in place of their replacements; shared objects are converted once."""
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
    """Read the dictionary that `np.save(path, dict)` wrote, with an unpickler that allows arrays and nothing else.

    The arrays are read-only.

    Raises:
        ViceError: the file is missing, damaged, not a dictionary, or a pickle of anything but arrays.
    """
    path = existing_file(path, what)
    try:
        with open(path, "rb") as file:
            content = _object_payload(file)
    except Exception as error:  # a damaged pickle may raise anything
        reason = str(error) if isinstance(error, pickle.UnpicklingError | ValueError) else f"it is damaged ({error!r})"
        raise ViceError(
            f"{what} {path} must be a dictionary of arrays saved by numpy, but cannot be read: {reason}.",
            "Write it again with np.save(path, {...}).",
        ) from None
    if not isinstance(content, dict):
        raise ViceError(f"{what} {path} must hold a dictionary, but holds a {type(content).__name__}.")
    return content


def read_pickle(
    path: str | os.PathLike[str], what: str = "The pickle", kind: Callable[[str, str], str | None] = lambda *_: None
) -> Any:
    """Read a pickle of arrays and containers, with an unpickler that allows nothing else.

    Args:
        path: the file.
        what: the name of the file in messages.
        kind: maps (module, name) of a class in the pickle to how it is read: `mapping` (as a dictionary), `tuple` (of a
            named tuple), `named tuple` (dill's maker of such a class) or `array` (of JAX or dill, made of numpy's
            parts); None refuses it. The class is never imported.

    Raises:
        ViceError: the file is missing, damaged, or a pickle of anything else.
    """
    path = existing_file(path, what)
    try:
        with open(path, "rb") as file:
            return _settled(_Containers(file, kind).load(), {})
    except Exception as error:  # see read_npy_dict
        reason = str(error) if isinstance(error, pickle.UnpicklingError | ValueError) else f"it is damaged ({error!r})"
        raise ViceError(f"{what} {path} must be a pickle of arrays, but cannot be read: {reason}.") from None


def write_npy_dict(path: str | os.PathLike[str], content: Mapping[Any, Any]) -> Path:
    """Write a dictionary of arrays for `np.load(path, allow_pickle=True).item()`, as the original scripts read it."""
    with atomic(path, sync=False) as part, open(part, "wb") as file:  # of maps there is a file an image
        np.save(file, np.array(dict(content), dtype=object), allow_pickle=True)
    return Path(path)
