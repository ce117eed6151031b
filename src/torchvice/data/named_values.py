"""What the values of the masks of one object mean where the user says it: object=1,background=2,void=3."""

from __future__ import annotations

import itertools
import re
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError, brief
from torchvice.metrics.overlap import VOID

__all__ = ["TRIMAP", "NamedValues", "named_values", "suggestion"]

MEANINGS = ("object", "background", "void")
TRIMAP = "object=1,background=2,void=3"  # Oxford-IIIT Pet: 1 the animal, 2 the background, 3 its border
LARGEST = (1 << 16) - 1
_PART = re.compile(r"\s*(\w+)\s*=\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?")


@dataclass(frozen=True)
class NamedValues:
    """The meaning of values of masks.

    Attributes:
        text: as the user wrote it.
        ranges: (meaning, first value, last value) each; no two overlap.
    """

    text: str
    ranges: tuple[tuple[str, int, int], ...]

    def meaning_of(self, value: int) -> str | None:
        """The meaning of a value; None where nobody names it."""
        return next((meaning for meaning, first, last in self.ranges if first <= value <= last), None)

    @property
    def meanings(self) -> dict[int, str]:
        """The meaning of every value that is named.

        Example:
            >>> named_values("object=1-2,void=3").meanings
            {1: 'object', 2: 'object', 3: 'void', 0: 'background'}
        """
        return {value: meaning for meaning, first, last in self.ranges for value in range(first, last + 1)}

    def labels_of(self, mask: np.ndarray, name: str, label: int, void: int = VOID) -> np.ndarray:
        """Return the labels of a mask's values: `label` for the object, 0 and `void`; `name` is for messages.

        Raises:
            ViceError: a value without a meaning.
        """
        labels = np.full(mask.shape, -1, np.int32)
        for meaning, first, last in self.ranges:
            labels[(mask >= first) & (mask <= last)] = {"object": label, "background": 0, "void": void}[meaning]
        if (labels < 0).any():
            raise ViceError(
                f"{name} must hold values that --mask-values {self.text} names, but holds {int(mask[labels < 0][0])}.",
                "Add the value, or a range such as background=0-127.",
            )
        return labels.astype(np.uint8) if void == VOID else labels

    def note(self, what: str) -> str:
        """A sentence that says what the values mean; `what` the object is."""
        named = {"object": what, "background": "background", "void": "void"}
        said = [f"{first if first == last else f'{first} to {last}'} is {named[m]}" for m, first, last in self.ranges]
        return f"In masks, {', '.join(said)}, as --mask-values says."


def named_values(text: str) -> NamedValues:
    """Read what values mean: MEANING=VALUE or MEANING=FIRST-LAST, separated by commas.

    A meaning is `object`, `background` or `void`, and may occur more than once. Without a background, 0 is background.

    Raises:
        ViceError: another form, no object, or a value of two meanings.

    Example:
        >>> named_values("object=255").ranges
        (('object', 255, 255), ('background', 0, 0))
    """
    ranges: list[tuple[str, int, int]] = []
    for part in str(text).split(","):
        match = _PART.fullmatch(part)
        first, last = (int(match[2]), int(match[3] or match[2])) if match else (0, -1)
        if match is None or match[1] not in MEANINGS or not first <= last <= LARGEST:
            raise ViceError(
                f"--mask-values must be object, background or void with a value or a range, but has {brief(part)}.",
                f"For example {TRIMAP}, or background=0-127,object=128-255.",
            )
        ranges.append((match[1], first, last))
    if not any(meaning == "object" for meaning, _, _ in ranges):
        raise ViceError(f"--mask-values must name the value of the object, but is {brief(text)}.", "Add object=VALUE.")
    if not any(meaning == "background" or first == 0 for meaning, first, _ in ranges):
        ranges.append(("background", 0, 0))
    ordered = sorted(ranges, key=lambda one: one[1])
    for before, after in itertools.pairwise(ordered):
        if after[1] <= before[2]:
            raise ViceError(f"--mask-values must give {after[1]} one meaning, but has {before[0]} and {after[0]}.")
    return NamedValues(str(text), tuple(ranges))


def suggestion(found: Set[int]) -> str:
    """The option that would fit the values of masks of one object: a trimap, two values, or edges in grey.

    Example:
        >>> suggestion({0, 7}), suggestion({0, 31, 200, 255})
        ('--mask-values object=7', '--mask-values background=0-127,object=128-255')
        >>> suggestion({0, 20, 50, 80, 100})
        '--mask-values background=0-50,object=51-255'
    """
    if {1, 2} <= found <= {1, 2, 3}:
        return f"--mask-values {TRIMAP}"
    objects = found - {0}
    if len(objects) == 1:
        return f"--mask-values object={max(objects)}"
    if len(found) == 2:
        return f"--mask-values background={min(found)},object={max(found)}"
    top = VOID if max(found) <= VOID else LARGEST
    half = (top if max(found) > top // 2 else max(found)) // 2  # edges of 0 to 100 have no value above 127
    return f"--mask-values background=0-{half},object={half + 1}-{top}"
