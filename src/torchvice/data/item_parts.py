"""The parts of an item: image, mask, labels and id, of a dictionary by their keys, of a pair by their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchvice.errors import ViceError, brief, did_you_mean

__all__ = ["FORMS", "KEYS", "Parts", "checked_keys", "parts_of"]

KEYS = {
    "image": ("image", "img", "pixel_values"),
    "mask": ("mask", "segmentation", "segmentation_mask", "annotation", "semantic_mask", "seg_map"),
    "labels": ("labels", "label"),
    "id": ("id", "image_id", "name", "file_name"),
}
FORMS = "An item is (image, mask), or a dictionary with image, mask, labels and id, of which image is needed."


@dataclass(frozen=True)
class Parts:
    """What an item holds, as it is given or as arrays; None: it has no such part."""

    image: Any
    mask: Any = None
    labels: Any = None
    image_id: Any = None
    two_tones: bool = False  # of the mask


def checked_keys(keys: Mapping[str, str]) -> dict[str, str]:
    """Check the names of the parts whose keys a user gives.

    Raises:
        ViceError: another name.
    """
    for name in keys:
        if name not in KEYS:
            raise ViceError(
                f"`keys` must name image, mask, labels or id, but names {name!r}.", did_you_mean(name, KEYS)
            )
    return dict(keys)


def parts_of(item: Any, keys: Mapping[str, str]) -> Parts:
    """The parts of an item: of a dictionary by their keys, of a pair by their place and shape.

    Raises:
        ViceError: no pair or dictionary, no image, or two keys of one part.
    """
    if isinstance(item, Mapping):
        held = {part: _value(item, part, keys) for part in KEYS}
        if held["mask"] is None and _is_picture(held["labels"]):
            held["mask"], held["labels"] = held["labels"], None
        if held["image"] is None:
            raise ViceError(f"An item must have `image`, but has {', '.join(map(str, item))}.",
                            "Say which key it is: torchvice.data.from_items(..., keys={'image': ...}).")  # fmt: skip
        return Parts(held["image"], held["mask"], held["labels"], held["id"])
    if isinstance(item, (tuple, list)) and len(item) in (1, 2):
        second = item[1] if len(item) == 2 else None
        return Parts(item[0], second) if _is_picture(second) else Parts(item[0], labels=second)
    raise ViceError(f"An item must be a pair or a dictionary, but is {brief(type(item).__name__)}.", FORMS)


def _value(item: Mapping[str, Any], part: str, keys: Mapping[str, str]) -> Any:
    """The value of a part of a dictionary, None without it; refuse two that could be it."""
    if part in keys:
        if keys[part] not in item:
            raise ViceError(f"An item has no {keys[part]!r}.", did_you_mean(keys[part], map(str, item)))
        return item[keys[part]]
    known = [name for name in KEYS[part] if item.get(name) is not None]
    if len(known) > 1 and part != "id":
        raise ViceError(
            f"An item must have one {part}, but has {' and '.join(known)}.",
            f"Choose one: torchvice.data.from_items(..., keys={{{part!r}: {known[0]!r}}}).",
        )
    return item[known[0]] if known else None


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getpixel") or getattr(value, "ndim", 0) >= 2
