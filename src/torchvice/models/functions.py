"""A network from a function that the user names: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION. Its code runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from torchvice.errors import ViceError, did_you_mean, reason_of
from torchvice.files import existing_file, sha256
from torchvice.models.named import NamedModel, near_source

__all__ = ["found_in_code", "model_of_function", "remember_module"]

# By resolved path of a file that was run: the digest of its content, and its module.
_ran: dict[Path, tuple[str, ModuleType]] = {}


def model_of_function(
    text: str, weights: str | os.PathLike[str] | None, arguments: Mapping[str, Any], key: str | None
) -> NamedModel:
    """Call the function, and load the weights if a file is given; else the function loads its own.

    Args:
        text: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION; a class of modules or a module itself will do, too.
        weights: local file of a state_dict, or None.
        arguments: passed to the function.
        key: which of several sets of weights.

    Raises:
        ViceError: no such file, module or function; arguments that it does not take; an error in its code; or
            something else than a torch.nn.Module.
    """
    from torchvice.models.build import load_weights

    place, _, name = text.rpartition(":")
    with _searched_first(Path(place).parent if place.endswith(".py") else Path.cwd()):
        function, source = _imported(place, name, text, "network")
        model = _called(text, function, arguments)
    trained = None if weights is None else load_weights(model, weights, key).trained
    made_by = {"network": f"{Path(place).name if place.endswith('.py') else place}:{name}"}
    if source is not None:
        made_by["code_sha256"] = sha256(source)
    label = Path(place).stem if place.endswith(".py") else place
    return NamedModel(model, f"{label}_{name}", None, made_by, trained=trained)


def found_in_code(text: str, what: str) -> tuple[Any, Path | None]:
    """Return what FILE.py:NAME or PACKAGE.MODULE:NAME stands for, and the file of its code. The code runs.

    Args:
        text: of the user.
        what: what it should be, for messages.

    Raises:
        ViceError: another form; no such file, module or name; or an error in the code.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise ViceError(f"The {what} must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, but is {text!r}.")
    with _searched_first(Path(place).parent if place.endswith(".py") else Path.cwd()):
        return _imported(place, name, text, what)


def _imported(place: str, name: str, text: str, what: str) -> tuple[Any, Path | None]:
    module = _from_file(place, what) if place.endswith(".py") else _from_package(place, text, what)
    source = getattr(module, "__file__", None)
    return _found(module, name, place, what), Path(source) if source and Path(source).is_file() else None


@contextlib.contextmanager
def _searched_first(folder: Path) -> Iterator[None]:
    """Import from this folder first, as Python does for a script, inside the block."""
    path = str(folder.resolve())
    sys.path.insert(0, path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have changed the path itself
            sys.path.remove(path)


def _from_file(place: str, what: str) -> ModuleType:
    """Run a file as a module of its own name, so that its classes can be copied and pickled."""
    path = existing_file(place, f"The file of the {what}")
    digest = sha256(path)
    if (before := _ran.get(path.resolve())) is not None and before[0] == digest:
        return before[1]
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"_vice_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _raised(str(path), error) from error
    remember_module(path, digest, module)
    return module


def remember_module(path: Path, digest: str, module: ModuleType) -> None:
    """Keep the module of a file that was run, so that the same content is not run again under another option."""
    _ran[path.resolve()] = digest, module


def _from_package(place: str, text: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise _raised(place, error) from error  # a module that the user's code imports
        way_out = "Run the command where Python finds it, install it, or give FILE.py:FUNCTION."
        if near := near_source(place):
            way_out = f"Did you mean `{near}:{text.partition(':')[2]}`?"
        raise ViceError(f"The {what} {text} needs the module `{place}`, which Python does not find.", way_out) from None
    except (Exception, SystemExit) as error:
        raise _raised(place, error) from error


def _found(module: ModuleType, name: str, place: str, what: str) -> Any:
    if not hasattr(module, name):
        own = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        write = "Write one that returns the network." if what == "network" else f"Write the {what} there."
        way_out = did_you_mean(name, own) if own else write
        raise ViceError(f"{place} must have a function `{name}`, but has none.", way_out)
    return getattr(module, name)


def _called(text: str, function: Any, arguments: Mapping[str, Any]) -> nn.Module:
    """The network that the function returns."""
    if isinstance(function, nn.Module):
        if arguments:
            raise ViceError(f"{text} is a network already, and takes no `{next(iter(arguments))}`.", "Leave it out.")
        return function
    if not callable(function):
        raise ViceError(f"{text} must be a function, but is a {type(function).__name__}.", "Name one that builds it.")
    _check_arguments(text, function, arguments)
    try:
        model = function(**arguments)
    except ViceError:
        raise
    except (Exception, SystemExit) as error:
        raise _raised(text, error) from error
    if not isinstance(model, nn.Module):
        raise ViceError(
            f"{text} must return a torch.nn.Module, but returns a {type(model).__name__}.",
            "Let it return the network alone, with its weights loaded or with --weights FILE.",
        )
    return model


def _check_arguments(text: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions in C have none
        return
    try:
        signature.bind(**arguments)
    except TypeError:
        parameters = signature.parameters
        named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        placed_only = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY]
        unknown = [name for name in arguments if name not in (*named, *placed_only)]
        if unknown:
            own = did_you_mean(unknown[0], named) if named else "Leave it out."
            raise ViceError(f"{text} takes no argument `{unknown[0]}`.", own) from None
        placed = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
        if placed:
            way_out = f"Let it take `{placed[0]}` by its name, without a / behind it."
            raise ViceError(
                f"{text} must take `{placed[0]}` by its name, but takes it by its place.", way_out
            ) from None
        missing = [
            p.name
            for p in parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in arguments
        ]
        needed = ", ".join(f"`{name}`" for name in missing)
        way_out = f"Give --argument {missing[0]}=VALUE." if missing else ""
        raise ViceError(f"{text} must be called with {needed}, but these are not given.", way_out) from None


def _raised(what: str, error: BaseException) -> ViceError:
    """The sentence for an error in the user's code, with the line where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f", line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    if isinstance(error, SyntaxError):
        where = f", line {error.lineno} of {Path(error.filename or '?').name}"
    reason = reason_of(error, "no message")
    return ViceError(
        f"The code of {what} must run without an error, but raises {type(error).__name__}: {reason}{where}.",
        "Run it by itself first.",
    )
