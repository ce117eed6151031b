"""Random datasets: items are read more than once, and must be the same each time."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from torchvice.errors import ViceError

__all__ = ["Repeats"]

ITEMS = 16  # that are read again at the start
READINGS = 32  # of them together


class Repeats:
    """What items were at their first reading, as digests; a later reading that differs is refused.

    A transform that flips an image with probability p is not noticed after r readings of n items in
    (p^r + (1 - p)^r)^n of all cases.
    """

    def __init__(self) -> None:
        self._first: dict[int, tuple[int, int]] = {}

    def check(self, index: int, image: np.ndarray, mask: np.ndarray | None, name: str) -> None:
        """Compare a reading with the first one; `name` of the item is for messages.

        Raises:
            ViceError: another image or mask.
        """
        now = _digest(image), 0 if mask is None else _digest(mask)
        first = self._first.setdefault(index, now)
        if now != first:
            what = "image" if now[0] != first[0] else "mask"
            raise ViceError(
                f"The dataset must give the same {what} each time, but that of `{name}` changes.",
                "Leave out random transforms: crops, flips, colours.",
            )

    @staticmethod
    def read_again(length: int, read: Callable[[int], object]) -> None:
        """Call `read`, which checks, several times with the index of each of some items, spread over all of them."""
        count = min(ITEMS, length)
        for place in range(count):
            for _ in range(READINGS // count):
                read(place * length // count)


def _digest(plane: np.ndarray) -> int:
    """The CRC-32 of an array, its type and its shape: a tenth of the time of decoding."""
    return zlib.crc32(np.ascontiguousarray(plane).tobytes(), zlib.crc32(f"{plane.dtype} {plane.shape}".encode()))
