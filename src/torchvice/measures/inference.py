"""Intervals from resampled images. All use the same resamplings, so that differences are paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

import numpy as np

from torchvice.metrics.resampling import FEWEST_IMAGES, Interval, Resampling, interval

__all__ = [
    "LEVEL",
    "Inference",
    "Replicates",
    "ends_of",
    "images_of",
    "number_or_none",
    "plain_interval",
    "too_few_images",
]

LEVEL = 0.95
LINEAR = ", linear replicates"  # in the method of an interval
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Replicates:
    """A number in every resampling: `values` (B,), NaN where undefined, and whether any part of it is `linear`.

    The difference of two is the paired difference. `reason`: why there are none, although images are resampled.
    """

    values: np.ndarray
    linear: bool = False
    reason: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def __sub__(self, other: Replicates) -> Replicates:
        if reason := self.reason or other.reason:
            return Replicates(np.zeros(0), reason=reason)
        return Replicates(self.values - other.values, self.linear or other.linear)


NO_REPLICATES = Replicates(np.zeros(0))


class Inference:
    """Resample the images of a table, or of several tables of the same images.

    Args:
        image_ids: (N,) the images that are resampled, each once.
        replicates: how many resamplings; 0: no intervals.
        seed: of the resamplings.
    """

    def __init__(self, image_ids: Sequence[str] | np.ndarray, replicates: int = 2000, seed: int = 0) -> None:
        self.row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self.resampling = Resampling(len(self.row_of), replicates, seed) if replicates and self.row_of else None
        self._known: dict[tuple[int, str], tuple[ref[Any], Replicates]] = {}

    def clusters(self, image_id: np.ndarray) -> np.ndarray:
        """Return the index of the image of every row, (P,)."""
        return np.fromiter(map(self.row_of.__getitem__, image_id.tolist()), np.int64, len(image_id))

    def replicates(self, statistic: Statistic, image_id: np.ndarray) -> Replicates:
        """The statistic over each resampling of the images; empty without resamplings, and with too few images.

        Args:
            statistic: from weights (b, P) to (b,) values, see `torchvice.metrics.weighted`.
            image_id: (P,) the image of each row that the statistic knows.
        """
        if self.resampling is None:
            return NO_REPLICATES
        cluster = self.clusters(image_id)
        if reason := too_few_images(images_of(cluster)):
            return Replicates(np.zeros(0), reason=reason)
        values = self.resampling.replicates_of(statistic, cluster)
        return Replicates(values, self.resampling.linear(statistic))

    def once(self, rows: Any, name: str, compute: Callable[[], Replicates]) -> Replicates:
        """What `compute` returns for the number `name` of these very rows, computed the first time only."""
        key = id(rows), name
        known = self._known.get(key)
        if known is None or known[0]() is not rows:  # another object may get the id of one that is gone
            self._known[key] = known = ref(rows), compute()
        return known[1]

    def known(self, rows: Any) -> dict[str, Replicates]:
        """By name, what `once` has computed for these very rows."""
        return {name: found for (_, name), (owner, found) in self._known.items() if owner() is rows}

    def learn(self, rows: Any, known: Mapping[str, Replicates]) -> None:
        """Take over what `known` of a copy of this has for the same rows."""
        self._known |= {(id(rows), name): (ref(rows), found) for name, found in known.items()}

    def interval(
        self, value: float, replicates: Replicates, made: Callable[..., Interval] = interval
    ) -> Interval | None:
        """The interval of a value, `made` of its replicates; None without these or where the value is undefined.

        Too few images have one without limits, and with the reason. Its method says if the replicates are linear, see
        `torchvice.metrics.resampling.Resampling.linear`.
        """
        if not np.isfinite(value) or not (len(replicates) or replicates.reason):
            return None
        if replicates.reason:
            return Interval(np.nan, np.nan, LEVEL, "percentile", reason=replicates.reason)
        found = made(value, replicates.values, LEVEL)
        return replace(found, method=found.method + LINEAR) if replicates.linear else found


def images_of(cluster: np.ndarray) -> int:
    """The number of different images among those of (P,) rows."""
    return int(np.count_nonzero(np.bincount(cluster)))


def too_few_images(images: int) -> str:
    """Why so few images give neither an interval nor a p-value; "" where they are enough.

    Example:
        >>> too_few_images(3), too_few_images(10)
        ('Too few images for intervals and tests: 3, and 10 are needed.', '')
    """
    if images >= FEWEST_IMAGES:
        return ""
    return f"Too few images for intervals and tests: {images}, and {FEWEST_IMAGES} are needed."


def plain_interval(found: Interval, **more: Any) -> dict[str, Any] | None:
    """Return an interval for JSON, {low, high, level, method} and `more`; None if it has no limits."""
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        return None
    plain: dict[str, Any] = {"low": found.low, "high": found.high, "level": found.level, "method": found.method}
    if found.undefined:
        plain["undefined_replicates"] = found.undefined
    return plain | more


def ends_of(found: Interval | None) -> tuple[float | None, float | None]:
    """The low and high end of an interval; None for both where it has no limits."""
    plain = None if found is None else plain_interval(found)
    return (None, None) if plain is None else (plain["low"], plain["high"])


def number_or_none(value: float) -> float | None:
    """The number, or None where it is undefined."""
    return float(value) if np.isfinite(value) else None
