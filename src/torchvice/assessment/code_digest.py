"""The digest of a function that has no file of its own: its code, its constants and the values that it holds."""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from torchvice.errors import to_numpy

__all__ = ["code_digest", "holds_functions"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), enum.Enum)


class _UnknownError(Exception):
    """A value of which neither code nor content can be read."""


def code_digest(function: Any) -> str | None:
    """The digest of a function or object that can be called: PYTHON:SHA-256, since bytecode depends on the version.

    It covers bytecode, constants, defaults, the values of closures, attributes of objects, and what of the function's
    own module it names: plain values and functions. Installed packages go by their names.

    Returns:
        None where a value cannot be read, such as an open file.

    Example:
        >>> def of(side):
        ...     return lambda image: image.resize((side, side))
        >>> code_digest(of(8)) == code_digest(of(8)), code_digest(of(8)) == code_digest(of(9))
        (True, False)
    """
    try:
        text = _text(function, ())
    except (_UnknownError, RecursionError):
        return None
    return f"{sys.version_info[0]}.{sys.version_info[1]}:{hashlib.sha256(text.encode()).hexdigest()}"


def holds_functions(value: Any, depth: int = 4) -> bool:
    """Whether functions of the user's are among the attributes of an object, as in torchvision's Lambda."""
    if isinstance(value, FunctionType):
        return not _is_installed(value.__module__)
    if depth == 0 or isinstance(value, (*_PLAIN, type, ModuleType)):
        return False
    inner = list(value.values()) if isinstance(value, Mapping) else list(getattr(value, "__dict__", {}).values())
    inner += list(value) if isinstance(value, tuple | list) else []
    inner += [value.func, *value.args, *value.keywords.values()] if isinstance(value, functools.partial) else []
    return any(holds_functions(one, depth - 1) for one in inner)


def _text(value: Any, above: tuple[int, ...]) -> str:
    """A text that is the same for the same content; `above` holds the ids of what the value is part of."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in above:
        return "itself"
    above = (*above, id(value))
    if isinstance(value, FunctionType):
        return _of_function(value, above)
    if isinstance(value, CodeType):
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_argcount
        return f"code {value.co_code.hex()} {names} {_text(value.co_consts, above)}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}[{','.join(_text(one, above) for one in value)}]"
    if isinstance(value, set | frozenset):
        return f"set{sorted(_text(one, above) for one in value)}"
    if isinstance(value, Mapping):
        return f"map[{','.join(f'{_text(k, above)}:{_text(v, above)}' for k, v in value.items())}]"
    if isinstance(value, np.ndarray) or hasattr(value, "detach"):
        array = np.ascontiguousarray(to_numpy(value))
        return f"array {array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    return _of_object(value, above)


def _of_function(function: FunctionType, above: tuple[int, ...]) -> str:
    if _is_installed(function.__module__):
        return f"{function.__module__}.{function.__qualname__}"
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = [function.__code__, function.__defaults__, function.__kwdefaults__, cells]
    named = _names_in(function.__code__)
    known = {name: function.__globals__[name] for name in named if name in function.__globals__}
    parts.append({name: one for name, one in known.items() if isinstance(one, (*_PLAIN, FunctionType, tuple))})
    return f"function {_text(parts, above)}"


def _names_in(code: CodeType) -> list[str]:
    """The names that code uses, and those of the functions and comprehensions inside it."""
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _names_in(one)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _of_object(value: Any, above: tuple[int, ...]) -> str:
    if isinstance(value, type | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, ModuleType | os.PathLike):
        return str(value) if isinstance(value, os.PathLike) else value.__name__
    if isinstance(value, MethodType):
        return f"method {_text([value.__func__, value.__self__], above)}"
    if isinstance(value, functools.partial):
        return f"partial {_text([value.func, value.args, value.keywords], above)}"
    kind = type(value)
    methods = {} if _is_installed(kind.__module__) else {n: f for n, f in vars(kind).items() if type(f) is FunctionType}
    if hasattr(value, "__dict__"):
        return f"{kind.__module__}.{kind.__qualname__} {_text([methods, vars(value)], above)}"
    if re.search(r" at 0x[0-9a-f]+", repr(value)):
        raise _UnknownError
    return f"{kind.__module__}.{kind.__qualname__} {value!r}"


def _is_installed(module: str | None) -> bool:
    """Whether a module belongs to a package that was installed, or to Python itself."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if module == "__main__" or file is None:
        return module in sys.builtin_module_names
    return "site-packages" in file or file.startswith(os.path.dirname(os.__file__))
