"""ViceError, and the checks of arguments: the one writer of messages."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ViceError",
    "as_array",
    "as_vice_error",
    "brief",
    "did_you_mean",
    "not_utf8_error",
    "same_length",
    "to_numpy",
]


class ViceError(ValueError):
    """A mistake of the caller's, told in one sentence and a way out.

    Args:
        message: what was expected and what came, one sentence.
        way_out: what to do about it, one sentence; may be empty.

    Example:
        >>> print(ViceError("`targets` must be (N, 20), but has shape (8, 21).", "Drop the background."))
        `targets` must be (N, 20), but has shape (8, 21).
            Drop the background.
    """

    def __init__(self, message: str, way_out: str = "") -> None:
        super().__init__(f"{message}\n    {way_out}" if way_out else message)
        self.message = message
        self.way_out = way_out

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.way_out)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The way out for an unknown name: the nearest known one, else the list of all.

    Example:
        >>> did_you_mean("optimiser", ["model", "optimizer"])
        'Did you mean `optimizer`?'
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known: {', '.join(known)}."


def brief(value: Any) -> str:
    """The repr of a value from a foreign file, cut where it is long: messages are read by people.

    Example:
        >>> brief(list(range(100)))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]'
    """
    import reprlib

    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, 120, 120, 40
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 12
    return short.repr(value)


def as_vice_error(error: Exception) -> ViceError | None:
    """An error that is nobody's bug as a sentence: a full disk, a file that cannot be used, a name that is no UTF-8.

    Returns:
        ViceError, which stays what it is; None for every other error.

    Example:
        >>> print(as_vice_error(OSError(28, "No space left on device")))
        The disk must have room for what is written, but is full.
            Make room and run the same command again: what was finished is kept.
        >>> as_vice_error(ZeroDivisionError())
    """
    if isinstance(error, ViceError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return not_utf8_error(error)
    if isinstance(error, OSError) and error.filename is not None:
        return ViceError(f"{error.filename} cannot be used: {error.strerror}.")
    # torch and pyarrow say so in errors of other kinds.
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return ViceError(
            "The disk must have room for what is written, but is full.",
            "Make room and run the same command again: what was finished is kept.",
        )
    return None


def not_utf8_error(error: UnicodeEncodeError) -> ViceError:
    """What to say of a text that cannot be written: the name of a file, as a rule, one byte of which is no UTF-8.

    Example:
        >>> try:
        ...     "a\\udcff.jpg".encode()
        ... except UnicodeEncodeError as error:
        ...     print(not_utf8_error(error))
        What is written must be UTF-8, but 'a\\udcff.jpg' is not.
            Rename the file or folder that is called so.
    """
    line = next(line for line in error.object.splitlines() if any("\ud800" <= letter <= "\udfff" for letter in line))
    said = f"What is written must be UTF-8, but {line[:200]!a} is not."
    return ViceError(said, "Rename the file or folder that is called so.")


def to_numpy(value: Any) -> Any:
    """A torch tensor as a numpy array, on the CPU and without its graph; anything else as it is.

    torch is not imported for it. numpy has no bfloat16, so that half precisions become float32.
    """
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()


def as_array(name: str, value: Any, ndim: int, dtype: Any = float) -> np.ndarray:
    """`value` (numpy, torch or nested lists) as an array of `ndim` dimensions; the input is never written to.

    Raises:
        ViceError: not numbers, or another number of dimensions.
    """
    import numpy as np

    try:
        array = np.asarray(to_numpy(value), dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's, for a list of tensors with a graph
        raise ViceError(f"`{name}` must be an array of numbers with {ndim} dimensions: {error}.") from None
    if array.ndim != ndim:
        raise ViceError(f"`{name}` must have {ndim} dimensions, but has shape {array.shape}.")
    return array


def same_length(**arrays: Any) -> int:
    """The common first length of the arrays.

    Raises:
        ViceError: they differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise ViceError(f"The arguments must have one length, but have {said} rows.")
    return next(iter(lengths.values()))
