"""Files of the original implementation, in and out: its table of images, and maps as files."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, brief, same_length
from torchvice.files import atomic, existing_file, read_npy_dict, write_npy_dict, write_text

ROUNDING = 1e-6


@dataclass(frozen=True)
class LegacyTable:
    """The original's table, one row per image; a missing column is None.

    Attributes:
        name_image: (N,) image ids.
        loss: (N,) nats.
        confidence: (N,) in [0, 1].
        entropy: (N,) see `counts_entropy`; it is not the entropy of the probabilities.
        label: N int64 arrays, the classes 0..C-1 of each image.
        prediction: N int64 arrays, the classes that the model predicts.
        miou: (N,) JI score in [0, 1]; NaN where undefined.
        miou_exist: N float64 arrays, the IoU of each label in the score, to eight digits.
    """

    name_image: np.ndarray
    loss: np.ndarray | None = None
    confidence: np.ndarray | None = None
    entropy: np.ndarray | None = None
    label: list[np.ndarray] | None = None
    prediction: list[np.ndarray] | None = None
    miou: np.ndarray | None = None
    miou_exist: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.name_image)


def _number(cell: str) -> float:
    value = float(cell) if cell.strip() else float("nan")  # pandas writes NaN as an empty cell
    if np.isinf(value):
        raise ValueError
    return value


def _items(cell: str) -> list[str]:
    """Split `[ 2 13 16]` or `[0, 1, 2]` into its numbers, also across line breaks."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError
    return text[1:-1].replace(",", " ").split()


def _classes(cell: str) -> np.ndarray:
    return np.array([int(item.removesuffix(".")) for item in _items(cell)], dtype=np.int64)


def _fractions(cell: str) -> np.ndarray:
    return np.array([float(item) for item in _items(cell)], dtype=np.float64)


# Column: how a cell is read, and what it must be.
_CELLS: dict[str, tuple[Callable[[str], Any], str]] = {
    "name_image": (str.strip, "a name"),
    "loss": (_number, "a finite number"),
    "confidence": (_number, "a finite number"),
    "entropy": (_number, "a finite number"),
    "label": (_classes, "class indices such as [2 13]"),
    "prediction": (_classes, "class indices such as [2, 13]"),
    "miou": (_number, "a finite number"),
    "miou_exist": (_fractions, "numbers such as [0.09 0.02]"),
}


# Column: the highest value; the lowest is 0.
_MOST = {"loss": np.inf, "confidence": 1.0, "miou": 1.0, "miou_exist": 1.0}
_RANGES = {np.inf: "0 or more", 1.0: "in [0, 1]"}


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV that are not empty, each with the number of its first line."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            begins = 1
            for row in reader:
                if row:
                    yield begins, row
                begins = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise ViceError(
            f"The table {path} must be CSV in UTF-8, but cannot be read: {error}.", "Save it as CSV UTF-8."
        ) from None


def _value(name: str, cell: str, where: str) -> Any:
    """Read a cell of a column, `where` for the message; refuse what is of another kind or out of range."""
    read, expected = _CELLS[name]
    try:
        value = read(cell)
    except (ValueError, OverflowError):
        way_out = "Empty cells count as unknown." if read is _number else ""
        raise ViceError(f"{where} must be {expected}, but is {cell[:60]!r}.", way_out) from None
    most = _MOST.get(name)
    if most is not None and (np.less(value, -ROUNDING) | np.greater(value, most + ROUNDING)).any():
        way_out = "Divide per cent by 100." if most == 1 else "Change the sign of log-likelihoods."
        raise ViceError(f"{where} must be {_RANGES[most]}, but is {cell[:60]!r}.", way_out)
    return value


def read_table(path: str | os.PathLike[str]) -> LegacyTable:
    """Read the original's CSV: `name_image, loss, confidence, entropy, label, prediction[, miou, miou_exist]`.

    Columns may come in any order, and other columns are ignored. Empty cells of numbers are NaN.

    Raises:
        ViceError: the file is missing or not CSV, has no column `name_image` or no row, names an image twice, or has a
            row of another length or a wrong cell; the message names line and column.
    """
    path = existing_file(path, "The table")
    rows = _rows(path)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if "name_image" not in header or len(set(header)) < len(header):
        message = f"The table {path} must begin with the column names {', '.join(_CELLS)}, each once, but has "
        marks = [mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]]
        way_out = f"Separate the cells by commas, not by {marks[0]!r}." if marks else "Only name_image is required."
        raise ViceError(f"{message}{', '.join(header) or 'none'}.", way_out)
    columns: dict[str, Any] = {name: [] for name in header if name in _CELLS}
    seen: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise ViceError(
                f"Line {line} of {path} must have {len(header)} cells like the header, but has {len(row)}.",
                "If the file is incomplete, write it again.",
            )
        for name, cell in zip(header, row, strict=True):
            if name in _CELLS:
                columns[name].append(_value(name, cell, f"Line {line} of {path}, column {name},"))
        image = columns["name_image"][-1]
        if image in seen:
            raise ViceError(
                f"The table {path} must name every image once, but `{image}` is in lines {seen[image]} and {line}.",
                "Remove one of them, or name images with their folder.",
            )
        seen[image] = line
    if not seen:
        raise ViceError(f"The table {path} must hold at least one image, but has only column names.")
    for name in columns.keys() - {"label", "prediction", "miou_exist"}:
        columns[name] = np.array(columns[name])
    return LegacyTable(**columns)


def write_table(path: str | os.PathLike[str], table: LegacyTable) -> Path:
    """Write the table as the original does, completely or not at all; columns that are None are left out.

    Labels and IoUs are written as numpy prints arrays (eight digits), predictions as a list.

    Raises:
        ViceError: columns of unequal length.
    """
    columns = {field.name: getattr(table, field.name) for field in fields(table)}
    columns = {name: column for name, column in columns.items() if column is not None}
    same_length(**columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_cell(name, value) for name, value in zip(columns, row, strict=True)])
    return write_text(path, text.getvalue())


def _cell(name: str, value: Any) -> str:
    if name == "prediction":
        return str(np.asarray(value, dtype=np.int64).tolist())
    if name in ("label", "miou_exist"):
        array = np.asarray(value, dtype=np.int64 if name == "label" else np.float64)
        return np.array2string(array, max_line_width=75, precision=8, suppress_small=False, threshold=sys.maxsize)
    return "" if value != value else str(value)


def counts_entropy(probabilities: Any) -> np.ndarray:
    """Compute the original's column `entropy`, (N,) nats: of the counts of equal float32 values in a row.

    It is ln C unless values coincide, and does not measure the model's uncertainty. It is only used to write the
    original's table.

    Args:
        probabilities: (N, C).

    Raises:
        ViceError: not (N, C).

    Example:
        >>> counts_entropy([[0.1, 0.7], [0.5, 0.5]]).round(4)
        array([0.6931, 0.    ])
    """
    rows = np.sort(as_array("probabilities", probabilities, 2, np.float32), axis=1)
    entropy = np.zeros(len(rows))
    for place, row in enumerate(rows):
        _, counts = np.unique(row, return_counts=True)
        share = counts / len(row)
        entropy[place] = -(share * np.log(share)).sum() + 0.0  # turns -0.0 into 0.0
    return entropy


def write_legacy_maps(path: str | os.PathLike[str], classes: Any, maps: Any) -> Path:
    """Write maps as the original does: `np.save` of {class: (H, W) float32}.

    Args:
        path: ends in .npy.
        classes: (M,) class of each map, 0..C-1.
        maps: (M, H, W), at the size of the image.

    Raises:
        ViceError: unequal lengths, or a class that is negative or occurs twice.
    """
    classes, planes = _checked(classes, maps)
    return write_npy_dict(
        path, {int(key): plane.astype(np.float32) for key, plane in zip(classes, planes, strict=True)}
    )


def write_maps(
    path: str | os.PathLike[str],
    classes: Any,
    maps: Any,
    size: Sequence[int] | None = None,
    *,
    dtype: Any = np.float16,
) -> Path:
    """Write maps as a compressed .npz of `keys` (M,), `maps` (M, h, w) and the `size` (H, W) of the image.

    Reading enlarges them bilinearly to `size`. Scaling and shifting commute with that: to get maps in [0, 1] at full
    size, scale them by their range at full size before writing.

    Args:
        path: ends in .npz.
        classes: (M,) class of each map, 0..C-1.
        maps: (M, h, w), at any resolution.
        size: (H, W) of the image; None if the maps have that size.
        dtype: of the stored maps; float16 keeps three digits.

    Raises:
        ViceError: unequal lengths, a class that is negative or occurs twice, or values too large for `dtype`.
    """
    classes, planes = _checked(classes, maps)
    stack = np.stack(planes) if planes else np.zeros((0, 1, 1), np.float32)
    with np.errstate(over="ignore"):
        stored = stack.astype(dtype)
    if (np.isfinite(stack) & ~np.isfinite(stored)).any():
        raise ViceError(
            f"`maps` must fit into {np.dtype(dtype)}, but reach {np.abs(stack[np.isfinite(stack)]).max():g}.",
            "Scale them, or write them with dtype=numpy.float32.",
        )
    arrays: dict[str, Any] = {"keys": classes, "maps": stored}
    if size is not None:
        arrays["size"] = np.array(size, dtype=np.int64)
    with atomic(path, sync=False) as part, open(part, "wb") as file:  # a file an image: waiting for each is slow
        np.savez_compressed(file, **arrays)
    return Path(path)


def _checked(classes: Any, maps: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    classes = as_array("classes", classes, 1, np.int64)
    planes = [as_array("maps", plane, 2) for plane in maps]
    same_length(maps=planes, classes=classes)
    if len(set(classes.tolist())) < len(classes) or (classes < 0).any():
        raise ViceError(f"`classes` must be different and 0 or more, but is {classes.tolist()}.")
    if len({plane.shape for plane in planes}) > 1:
        raise ViceError(f"`maps` must have one size, but have {[plane.shape for plane in planes]}.")
    return classes, planes


def read_maps(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Read the maps of a file: the original's .npy dictionary, or an .npz of `write_maps`.

    Either may also hold `keys` (M,) and maps (M, H, W) as other tools write them, under one of the names `maps`,
    `cams`, `high_res` (IRN) and `attn_highres` (CLIP-ES), or else as `cam`, which these write at a lower resolution.

    Returns:
        (classes, maps): (M,) int64, and M arrays (H, W) of floats.

    Raises:
        ViceError: the file is missing, damaged, has other content, or is a pickle of anything but arrays.
    """
    path = Path(path)
    classes, planes, size = _from_dict(path) if path.suffix == ".npy" else _from_npz(path)
    for plane in planes:
        if not isinstance(plane, np.ndarray) or plane.ndim != 2 or plane.dtype.kind not in "fiub":
            kind = f"{plane.dtype} of shape {plane.shape}" if isinstance(plane, np.ndarray) else type(plane).__name__
            raise ViceError(f"The maps in {path} must be (H, W) numbers, but one is {kind}.")
    if len(set(classes.tolist())) < len(classes):
        raise ViceError(f"The maps in {path} must be of different classes, but are of {classes.tolist()}.")
    if size is None or not planes:
        return classes, planes
    return classes, list(bilinear(np.stack(planes), size))


def _from_dict(path: Path) -> tuple[np.ndarray, list[Any], None]:
    content = read_npy_dict(path, "The file of maps")
    if "keys" in content:
        keys, stack = _stacked(path, {name: np.asarray(value) for name, value in content.items() if name in STACKS})
        return keys, stack, None
    wrong = [
        key
        for key in content
        if not isinstance(key, int | np.integer) or isinstance(key, bool) or not -(2**31) <= key < 2**31
    ]
    if wrong:
        raise ViceError(
            f"The file of maps {path} must map class indices to maps, but has the key {brief(wrong[0])}.",
            "Save np.save(path, {class_index: map, ...}) with integers from 0 on.",
        )
    return np.array(list(content), dtype=np.int64), list(content.values()), None


def _from_npz(path: Path) -> tuple[np.ndarray, list[Any], tuple[int, int] | None]:
    existing_file(path, "The file of maps")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in STACKS}
            names = archive.files
    except Exception as error:  # zipfile and numpy raise anything, depending on where the damage is; also a password
        # numpy takes bytes of no known kind for a pickle, and advises to load it unsafely.
        reason = str(error).rstrip(".") or type(error).__name__
        reason = "it is another kind of file, or holds Python objects" if "allow_pickle" in reason else reason
        raise ViceError(
            f"The file of maps {path} must be an .npz archive of numbers, but cannot be read: {reason}.",
            "If it is damaged, write it again: np.savez(path, keys=..., maps=...).",
        ) from None
    keys, stack = _stacked(path, arrays, names)
    size = arrays.get("size")
    if size is not None and (size.shape != (2,) or size.dtype.kind not in "iu" or size.min() < 1):
        raise ViceError(f"`size` in {path} must be (H, W), but is {size.tolist()}.")
    return keys, stack, None if size is None else (int(size[0]), int(size[1]))


FULL_SIZE = ("maps", "cams", "high_res", "attn_highres")
STACKS = ("keys", *FULL_SIZE, "cam", "size")


def _stacked(
    path: Path, arrays: Mapping[str, np.ndarray], held: Sequence[str] = ()
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The keys and maps of a file that holds them under names."""
    names = [name for name in FULL_SIZE if name in arrays] or [name for name in ("cam",) if name in arrays]
    if len(names) != 1 or "keys" not in arrays:
        raise ViceError(
            f"The file of maps {path} must hold `keys` (M,) and `maps` (M, H, W), but holds "
            f"{', '.join(held or arrays) or 'nothing'}.",
            f"The maps may also be called {', '.join(FULL_SIZE[1:])} or cam; save one of these.",
        )
    keys, stack = arrays["keys"], arrays[names[0]]
    if stack.ndim != 3 or keys.shape != stack.shape[:1] or (keys.size and keys.dtype.kind not in "iu"):
        raise ViceError(
            f"The file of maps {path} must hold integer `keys` (M,) and `{names[0]}` (M, H, W), but they are "
            f"{keys.dtype} {keys.shape} and {stack.shape}."
        )
    return keys.astype(np.int64), list(stack)


def bilinear(maps: Any, size: tuple[int, int]) -> np.ndarray:
    """Enlarge (M, h, w) to (M, H, W) float32; pixel areas are aligned, like torch's `align_corners=False`.

    Example:
        >>> bilinear([[[0.0, 1.0]]], (1, 4))
        array([[[0.  , 0.25, 0.75, 1.  ]]], dtype=float32)
    """
    stack = as_array("maps", maps, 3, np.float32)
    for axis, length in ((1, size[0]), (2, size[1])):
        low, high, weight = _taps(stack.shape[axis], length)
        weight = weight.reshape((-1, 1) if axis == 1 else (-1,))
        stack = stack.take(low, axis=axis) * (1 - weight) + stack.take(high, axis=axis) * weight
    return stack


def _taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `size` pixels its two neighbours among `length`, and the weight of the second."""
    # float32 throughout, like torch: in float64 the weights would differ in the sixth digit.
    scale = np.float32(length) / np.float32(size)
    centre = scale * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    centre = np.maximum(centre, np.float32(0))
    low = np.minimum(centre.astype(np.intp), length - 1)
    return low, np.minimum(low + 1, length - 1), centre - low.astype(np.float32)
