"""The labels of items: one class index, class names, or zeros and ones; and masks of the object that they name."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from torchvice.data.images import VOID
from torchvice.data.mask_values import FULL
from torchvice.errors import ViceError, brief, did_you_mean, to_numpy

__all__ = ["class_indices_of", "first_names", "is_index", "is_named", "is_one", "object_of_label"]


def object_of_label(names: Sequence[str] | None, labels: Sequence[Any], drawn: Sequence[Set[int]]) -> int | None:
    """The one value that all masks draw, 1 or white, where each item has one label of several classes; else None."""
    objects = set().union(*drawn) - {0}
    value = min(objects - {VOID}, default=VOID)
    whole = objects <= {value, VOID} and value in (1, *FULL) and any(0 in found for found in drawn)
    return value if objects and whole and names and len(names) > 1 and all(map(is_one, labels)) else None


def is_one(labels: Any) -> bool:
    """Whether labels are one class: its index, or its name."""
    return is_index(labels) or isinstance(labels, str) or (is_named(labels) and len(labels) == 1)


def is_named(labels: Any) -> bool:
    """Whether labels are names of classes."""
    return isinstance(labels, str) or (
        isinstance(labels, (list, tuple)) and all(isinstance(one, str) for one in labels)
    )


def first_names(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def is_index(labels: Any) -> bool:
    """Whether labels are one class index."""
    labels = to_numpy(labels)
    return isinstance(labels, (int, np.integer)) or (isinstance(labels, np.ndarray) and labels.ndim == 0)


def class_indices_of(labels: Any, classes: Sequence[str], name: str) -> list[int]:
    """The class indices of labels: one index, names, or (C,) zeros and ones; `name` is for messages.

    Raises:
        ViceError: an unknown name, or another form.
    """
    if is_named(labels):
        names = [labels] if isinstance(labels, str) else list(labels)
        for one in names:
            if one not in classes:
                raise ViceError(f"{name} must be known classes, but have `{one}`.", did_you_mean(one, classes))
        return [list(classes).index(one) for one in names]
    array = np.asarray(to_numpy(labels))
    if array.ndim == 0 and array.dtype.kind in "iu" and 0 <= array < len(classes):
        return [int(array)]
    if array.shape == (len(classes),) and np.isin(array, (0, 1)).all():
        return np.flatnonzero(array).tolist()
    raise ViceError(
        f"{name} must be ({len(classes)},) zeros and ones, one class index, or class names, but are {brief(labels)}.",
        f"Classes: {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}.",
    )
