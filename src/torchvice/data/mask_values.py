"""What the values of masks mean where no file says it: one class of two values, or the classes that are given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torchvice.data.images import VOID, present_values, read_grey_mask
from torchvice.errors import ViceError, brief

__all__ = ["ONE_CLASS", "MaskValues", "found_values", "mask_values", "values_from"]

ONE_CLASS = "object"  # the name of the one class of masks without a list of classes
CHUNK = 64  # masks that are read at once; reading ends with the first chunk that decides


@dataclass(frozen=True)
class MaskValues:
    """What a mask's values mean.

    Attributes:
        classes: (C,) names.
        object_value: the value of the one object in masks of 0, this value and void; None: masks hold labels.
        note: a sentence that says so, or "".
    """

    classes: tuple[str, ...]
    object_value: int | None = None
    note: str = ""

    def read(self, path: Path, label: int = 1) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers; `label` is that of the one object.

        Raises:
            ViceError: see `torchvice.data.read_mask`; or another value in masks of one object.
        """
        return self.labels_of(read_grey_mask(path), f"The mask {path}", label)

    def labels_of(self, mask: np.ndarray, name: str, label: int = 1) -> np.ndarray:
        """Return the labels of a mask's values, of any shape; `name` is for messages.

        Raises:
            ViceError: another value in masks of one object.
        """
        if self.object_value is None:
            return mask
        strange = mask[(mask != 0) & (mask != self.object_value) & (mask != VOID)]
        if strange.size:
            raise ViceError(f"{name} must hold 0 and {self.object_value} only, but holds {int(strange[0])}.")
        labels = np.where(mask == self.object_value, label, mask)
        return labels.astype(np.uint8 if label < VOID else np.int32)

    def labels_in(self, found: Iterable[int], name: str) -> list[int]:
        """Return the labels of classes among the values of a mask.

        Raises:
            ViceError: see `torchvice.data.check_mask` and `labels_of`.
        """
        values = self.labels_of(np.array(sorted(found), dtype=np.int64), name)
        outside = values[((values < 0) | (values > len(self.classes))) & (values != VOID)]
        if outside.size:
            raise ViceError(
                f"{name} must hold 0 to {len(self.classes)} and {VOID}, but holds {int(outside[0])}.",
                "Give the names of all classes, in the order of their labels: classes=[...].",
            )
        return [int(value) for value in values if value not in (0, VOID)]


def mask_values(masks: Sequence[Path], classes: Sequence[str] | None, where: str) -> MaskValues:
    """Tell masks of one class and two values, 0 and 255 or 0 and 1, from masks of labels.

    Masks that cannot be read are passed over: they are reported where they are read.

    Args:
        masks: the files.
        classes: C names; None: not known.
        where: the folder or dataset, for messages.

    Raises:
        ViceError: masks without an object; several classes, and masks that hold 0 and 255 only; no classes, and masks
            that hold more than two values.
    """
    return values_from(found_values(masks), classes, where)


def values_from(drawn: Iterable[Set[int]], classes: Sequence[str] | None, where: str) -> MaskValues:
    """Tell what masks mean from the values of each, see `mask_values`."""
    drawn = list(drawn)
    found = set().union(*drawn)
    objects = found - {0}
    _refuse_mixed(drawn, classes, where)
    if found and found <= {0, VOID} and classes and len(classes) > 1:
        raise ViceError(
            f"The masks of {where} hold only 0 and {VOID}, which is one class, but {len(classes)} are given: "
            f"{', '.join(classes)}.",
            f"Give its one name, such as --classes {classes[0]}, or masks with the value c + 1 for class c.",
        )
    if found in ({0}, {VOID}) or (classes is None and len(found) == 1):
        raise ViceError(
            f"The masks of {where} must hold an object and the background, but hold only {min(found)}.",
            f"Draw the object as {VOID} (or 1) and the background as 0.",
        )
    if found == {0, VOID} or (classes is None and found == {0, 1}):
        name = ONE_CLASS if classes is None else classes[0]
        note = f"Masks hold only 0 and {max(found)}: {max(found)} is the class `{name}`, 0 is background."
        note += " Another name: --classes NAME (classes=['NAME'])." if classes is None else ""
        return MaskValues((name,), max(found), note)
    if classes is None and found:
        raise ViceError(
            f"Masks without a list of classes must hold two values, 0 and 255, but those of {where} hold "
            f"{brief(sorted(objects))[1:-1]} and {'0' if 0 in found else 'no 0'}.",
            "Name the classes in the order of their values, 1, 2 and so on: --classes a,b,c (classes=['a', 'b', 'c']), "
            "or one name per line in classes.txt next to the folder.",
        )
    return MaskValues(tuple(classes or (ONE_CLASS,)))


def _refuse_mixed(drawn: Sequence[Set[int]], classes: Sequence[str] | None, where: str) -> None:
    """Refuse masks of one class of which some hold 0 and 255 and the others 0 and 1, and none 1 and 255."""
    objects = set().union(*drawn) - {0, VOID}
    if len(objects) != 1 or len(classes or (ONE_CLASS,)) != 1 or any(len(each - {0}) > 1 for each in drawn):
        return
    value = next(iter(objects))
    counts = {name: sum(name in each for each in drawn) for name in (value, VOID)}
    if all(counts.values()):
        raise ViceError(
            f"The masks of {where} must draw the object with one value, but {counts[value]} hold {value} and "
            f"{counts[VOID]} hold {VOID}.",
            f"Write {VOID} in all of them, or {value}.",
        )


def found_values(masks: Sequence[Path]) -> list[set[int]]:
    """The values of each mask, of all while they are 0, 255 and one more; else of the first that hold others."""
    found: list[set[int]] = []

    def values(path: Path) -> set[int]:
        try:
            return set(present_values(read_grey_mask(path)).tolist())
        except ViceError:
            return set()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(masks), CHUNK):
            found.extend(pool.map(values, masks[start : start + CHUNK]))
            if len(set().union(*found) - {0, VOID}) > 1:
                break
    return found
