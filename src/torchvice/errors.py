"""ViceError, and the checks of arguments: the one writer of messages."""

from __future__ import annotations

import contextlib
import difflib
import errno
import operator
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ViceError",
    "as_array",
    "as_numbers",
    "as_path",
    "as_vice_error",
    "as_whole",
    "brief",
    "check_kind",
    "did_you_mean",
    "errors_quoted",
    "names_and_values",
    "names_of",
    "not_utf8_error",
    "raised_by",
    "reason_of",
    "same_length",
    "to_numpy",
]


class ViceError(ValueError):
    """A mistake of the user: one sentence that says what is wrong, and a way out.

    Args:
        message: what was expected and what came instead, one sentence.
        way_out: how to fix it, one sentence; may be empty.

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


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Suggest the closest known name for an unknown one, or list all known names.

    Args:
        name: what was given; a key of a YAML file may be a number or null.
        known: names.

    Example:
        >>> did_you_mean("optimiser", ["model", "optimizer"])
        'Did you mean `optimizer`?'
    """
    name, known = str(name), list(known)
    same = [one for one in known if _folded(one) == _folded(name)]
    same += [one for one in known if _folded(one.rpartition(".")[2]) == _folded(name)]  # the last part of a path
    if same:
        return f"Did you mean `{same[0]}`?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known: {', '.join(known)}."


def near_path(path: Path, *, folder: bool | None = None) -> str:
    """Suggest a path of the same folder for one that does not exist or is of the other kind; "" without a similar one.

    Args:
        path: as given.
        folder: whether a folder is needed; False: a file; None: either.

    Example:
        >>> near_path(Path("no/such/folder"))
        ''
    """
    try:
        found = (entry.name for entry in os.scandir(path.parent) if folder in (None, entry.is_dir()))
        names = [name for name in found if not name.startswith(".") and name != path.name]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"Did you mean `{path.parent / close[0]}`?" if close else ""


_SYNONYMS = {"iou": "ji", "jaccard": "ji", "map": "meanaverageprecision"}


def names_and_values(
    texts: Sequence[str], kinds: Mapping[str, Callable[[str], Any]], what: str
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Part texts into names, each once, and the values of NAME=VALUE.

    Args:
        texts: such as "deletion" and "steps=10".
        kinds: by the name of a setting, what makes its value of a text.
        what: the argument that holds the texts, for messages.

    Raises:
        ViceError: an unknown setting, or a value that does not fit.

    Example:
        >>> names_and_values(["road", "steps=10"], {"steps": int}, "faithfulness")
        (('road',), {'steps': 10})
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name not in kinds:
            raise ViceError(f"Unknown setting of `{what}`: {name!r}.", did_you_mean(name, kinds))
        try:
            values |= {name: kinds[name](value)} if equals else {}
        except ValueError:
            raise ViceError(f"`{name}` must be a number, but is {value!r}.") from None
    return tuple(dict.fromkeys(text for text in texts if "=" not in text)), values


def _folded(name: str) -> str:
    """A name for comparison: in small letters, without separators, `pp` for `++`, and our word for a synonym."""
    section, dot, last = re.sub(r"[^a-z0-9.]", "", name.lower().replace("+", "p")).rpartition(".")
    return section + dot + _SYNONYMS.get(last, last)


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple, each once, in their order; a single text is one name, and not its letters.

    Example:
        >>> names_of("strict"), names_of(["paper", "strict", "paper"])
        (('strict',), ('paper', 'strict'))
    """
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


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


def reason_of(error: BaseException | str, empty: str | None = None) -> str:
    """The message of an error on one line of at most 300 characters, without its full stop, to be quoted in another.

    Args:
        error: the error, or its text.
        empty: what is returned for an error without a message; None: the name of its type.

    Example:
        >>> reason_of(ValueError("sizes differ:\\n  3 and 4."))
        'sizes differ: 3 and 4'
        >>> reason_of(KeyError())
        'KeyError'
    """
    text = " ".join(str(error).split())[:300].rstrip(".")
    return text or (type(error).__name__ if empty is None else empty)


def raised_by(error: BaseException) -> str:
    """The type of an error, its reason, and the line of code where it arose: what the user's code raised.

    Example:
        >>> raised_by(ValueError("sizes differ."))
        'ValueError: sizes differ'
    """
    reason = reason_of(error, "")
    said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return said + (f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else "")


@contextlib.contextmanager
def errors_quoted(what: str, way_out: str = "") -> Iterator[None]:
    """Turn an error of the user's code inside the block into a ViceError that quotes it.

    A ViceError, an error that `as_vice_error` knows, and a full GPU, on which batches are halved, pass as they are.

    Args:
        what: what the code must do; ", but raises ..." follows.
        way_out: see `ViceError`.

    Example:
        >>> with errors_quoted("The dataset must give image 3", "Read it by itself first."):
        ...     raise KeyError("cat")
        Traceback (most recent call last):
        torchvice.errors.ViceError: The dataset must give image 3, but raises KeyError: 'cat' (line 2 of ...).
            Read it by itself first.
    """
    try:
        yield
    except Exception as error:
        if as_vice_error(error) is not None or type(error).__name__ == "OutOfMemoryError":
            raise
        raise ViceError(f"{what}, but raises {raised_by(error)}.", way_out) from error


def as_vice_error(error: Exception, again: str = "run the same command again") -> ViceError | None:
    """Turn an error of the environment (full disk, unusable file, file name that is not UTF-8) into a ViceError.

    `again` is what resumes the work, in the ways out of a full disk and of full memory.

    Returns:
        ViceError, unchanged if `error` is one already; None for every other error.

    Example:
        >>> print(as_vice_error(OSError(28, "No space left on device")))
        The disk is full.
            Free some space and run the same command again; finished work is kept.
        >>> as_vice_error(ZeroDivisionError())
    """
    if isinstance(error, ViceError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return not_utf8_error(error)
    file = error.filename if isinstance(error, OSError) else None
    file = os.fsdecode(file) if isinstance(file, bytes) else file  # TensorBoard's
    # torch and pyarrow raise errors of other types for a full disk.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return ViceError(
            "The disk is full." if file is None else f"The disk is full: {file} cannot be written.",
            f"Free some space and {again}; finished work is kept.",
        )
    if isinstance(error, (FileExistsError, NotADirectoryError)) and file is not None:  # where a folder is to be made
        return ViceError(f"{file} must be a folder, but is a file or lies in one.", "Give another path.")
    if isinstance(error, OSError) and file is not None:
        return ViceError(
            f"{file} cannot be used: {error.strerror}.", _WAYS.get(error.errno or 0, "").format(again=again)
        )
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.EFBIG, errno.ESTALE):  # of an open file
        return ViceError(f"A file cannot be read or written: {error.strerror}.", _WAYS[errno.EIO].format(again=again))
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        ways = "Close other programs, or use smaller batches or fewer processes"
        return ViceError("The memory is full.", f"{ways}, and {again}; finished work is kept.")
    hidden = error.__context__
    if "combined_loader" in str(error) and isinstance(hidden, OSError):  # Lightning's, while it cleans up
        return as_vice_error(hidden, again)
    if "unable to open shared memory" in str(error) or getattr(error, "errno", None) in _WITHOUT_FILE:
        reason = error.strerror if isinstance(error, OSError) else "no shared memory"
        return ViceError(
            f"Several processes cannot work together here: {reason}.",
            "Is /dev/shm there, and writable? One process needs none of it: --processes 1 (training: -o "
            "data.workers=0).",
        )
    return None


_WAYS = {
    errno.EACCES: "Choose another place, or change its permissions.",
    errno.EPERM: "Choose another place, or change its permissions.",
    errno.EROFS: "Choose another place: this one is read-only.",
    errno.EISDIR: "Give the path of a file, not of a folder.",
    errno.ENOENT: "Check the path.",
    errno.EIO: "Check the disk and {again}; finished work is kept.",
}
_WITHOUT_FILE = (errno.EROFS, errno.ENOSYS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of locks, pipes and memory


def not_utf8_error(error: UnicodeEncodeError) -> ViceError:
    """Turn the error of a text that cannot be written, usually a file name that is not UTF-8, into a ViceError.

    Example:
        >>> try:
        ...     "a\\udcff.jpg".encode()
        ... except UnicodeEncodeError as error:
        ...     print(not_utf8_error(error))
        Text to be written must be UTF-8, but 'a\\udcff.jpg' is not.
            Rename the file or folder of this name.
    """
    lines = error.object.splitlines()
    surrogates = [line for line in lines if any("\ud800" <= letter <= "\udfff" for letter in line)]
    if not surrogates:
        letter = error.object[error.start : error.start + 1]
        return ViceError(
            f"Text to be written must be {error.encoding}, but holds {letter!a}.", "Set PYTHONIOENCODING=utf-8."
        )
    line = surrogates[0]
    message = f"Text to be written must be UTF-8, but {line[:200]!a} is not."
    return ViceError(message, "Rename the file or folder of this name.")


def to_numpy(value: Any) -> Any:
    """Convert a torch tensor to a numpy array on the CPU, detached from its graph; return anything else unchanged.

    torch is not imported. numpy has no bfloat16, so half precisions become float32.
    """
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()


def as_array(name: str, value: Any, ndim: int | None, dtype: Any = float) -> np.ndarray:
    """Convert `value` (numpy, torch or nested lists) to an array of `ndim` dimensions (None: any); it is not modified.

    Raises:
        ViceError: `value` does not hold numbers, or has another number of dimensions.
    """
    import numpy as np

    try:
        array = np.asarray(to_numpy(value), dtype=dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: tensors with a graph
        of_these = "" if ndim is None else f" with {ndim} dimensions"
        raise ViceError(f"`{name}` must be an array of numbers{of_these}: {error}.") from None
    if ndim is not None and array.ndim != ndim:
        raise ViceError(f"`{name}` must have {ndim} dimensions, but has shape {array.shape}.")
    return array


def as_numbers(name: str, values: Any, way_out: str = "") -> tuple[float, ...]:
    """Numbers of a list, a tuple, an array or a tensor as a tuple of floats.

    Raises:
        ViceError: a single number, a text, or anything else that holds no numbers.

    Example:
        >>> as_numbers("mean", [0, 1])
        (0.0, 1.0)
    """
    try:
        if isinstance(values, str | Mapping):
            raise TypeError
        return tuple(map(float, to_numpy(values)))
    except (TypeError, ValueError):
        raise ViceError(f"`{name}` must be a list of numbers, but is {brief(values)}.", way_out) from None


def as_path(name: str, value: Any) -> Path:
    """A path as a Path; a ViceError for anything else, as the None of an environment's variable that is not set."""
    check_kind(name, value, (str, os.PathLike), "a path")
    return Path(value)


def as_whole(name: str, value: Any, least: int | None = None, unit: str = "", way_out: str = "") -> int:
    """A whole number as an int, from Python, numpy or torch; also a float without a fraction.

    Raises:
        ViceError: anything else, or less than `least`, which is said in the unit.

    Example:
        >>> as_whole("batch_size", 8.0, 1)
        8
    """
    try:
        number = operator.index(int(value) if isinstance(value, float) and value.is_integer() else value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        what = "a whole number" if number is None else f"at least {least}"
        raise ViceError(f"`{name}` must be {what}{unit and f' ({unit})'}, but is {brief(value)}.", way_out)
    return number


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], what: str, way_out: str = "") -> None:
    """Check the type of an argument, which the message calls `what`.

    Raises:
        ViceError: another type.
    """
    if not isinstance(value, kind):
        raise ViceError(f"`{name}` must be {what}, but is {brief(value)}.", way_out)


def same_length(**arrays: Any) -> int:
    """Return the common length of the arrays, along their first dimension.

    Raises:
        ViceError: the lengths differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        rows = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise ViceError(f"The arguments must have one length, but have {rows} rows.")
    return next(iter(lengths.values()))
