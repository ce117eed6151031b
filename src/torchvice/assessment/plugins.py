"""Plugins: files of the user's own that register methods; running them is what the user asks for."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from torchvice.errors import ViceError
from torchvice.explain.methods import METHODS, plugin_named
from torchvice.files import existing_file
from torchvice.models.functions import remember_module

__all__ = ["load_plugin"]

EXAMPLE = 'Put @torchvice.explain.method("mine") above a function from a torchvice.explain.Scene to outputs and maps.'

# By resolved path: the digest of what was loaded, and the names of its methods.
_loaded: dict[Path, tuple[str, list[str]]] = {}


def load_plugin(path: str | os.PathLike[str]) -> list[str]:
    """Run a Python file that registers methods; returns their names.

    A file that was loaded before is not run again unless its content has changed; its methods then replace the earlier
    ones. Only the file itself is part of its digest, not what it imports.

    Args:
        path: a Python file that calls `torchvice.explain.method`.

    Raises:
        ViceError: no such file, one that fails, that registers no method, or a name that is taken.
    """
    path = existing_file(path, "The plugin")
    home = path.resolve()
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    before = _loaded.get(home)
    if before is not None and before[0] == digest:
        return before[1]
    _forget(home)
    known = set(METHODS)
    try:
        with plugin_named(path.name, digest):
            module = _run(path, source)
    except BaseException as error:
        for name in set(METHODS) - known:
            del METHODS[name]
        if isinstance(error, Exception | SystemExit):
            raise _failed(path, error) from None
        raise
    names = [name for name in METHODS if name not in known]
    if not names:
        raise ViceError(f"The plugin {path} must register a method, but registers none.", EXAMPLE)
    _loaded[home] = digest, names
    remember_module(path, digest, module)
    return names


def _forget(home: Path) -> None:
    """Remove the methods of an earlier content of a file."""
    for name in _loaded.pop(home, ("", []))[1]:
        METHODS.pop(name, None)


def _run(path: Path, source: bytes) -> ModuleType:
    module = ModuleType(f"torchvice_plugin_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look it up there
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def _failed(path: Path, error: BaseException) -> ViceError:
    """What went wrong in a plugin, with the line of the plugin."""
    if isinstance(error, ViceError):
        return ViceError(f"The plugin {path} cannot be loaded: {error.message}", error.way_out)
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line, reason = error.lineno, error.msg
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line, reason = (frames[-1].lineno if frames else None), str(error).strip().rstrip(".")
    where = "" if line is None else f" in line {line}"
    said = f": {reason.splitlines()[0]}" if reason else ""
    way_out = "Install it, or put it into the same file." if isinstance(error, ImportError) else "Correct the file."
    return ViceError(f"The plugin {path} fails{where}: {type(error).__name__}{said}.", way_out)
