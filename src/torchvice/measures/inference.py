"""Intervals from resampled images. All use the same resamplings, so that differences are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.metrics.resampling import Interval, Resampling, interval

__all__ = ["LEVEL", "Inference", "ends_of", "plain_interval"]

LEVEL = 0.95
LINEAR = "percentile, linear replicates"
Statistic = Callable[[np.ndarray], np.ndarray]


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
        self._known: dict[tuple[int, str], tuple[Any, np.ndarray]] = {}

    def clusters(self, image_id: np.ndarray) -> np.ndarray:
        """Return the index of the image of every row, (P,)."""
        return np.array([self.row_of[name] for name in image_id.tolist()], dtype=np.int64)

    def replicates(self, statistic: Statistic, image_id: np.ndarray) -> np.ndarray:
        """(B,) the statistic over each resampling of the images; empty without resamplings.

        Args:
            statistic: from weights (b, P) to (b,) values, see `torchvice.metrics.weighted`.
            image_id: (P,) the image of each row that the statistic knows.
        """
        if self.resampling is None:
            return np.zeros(0)
        return self.resampling.replicates_of(statistic, self.clusters(image_id))

    def interval_of(self, value: float, statistic: Statistic, image_id: np.ndarray) -> Interval | None:
        """The percentile interval of a value by the replicates of its statistic; it says if these are linear."""
        found = self.interval(value, self.replicates(statistic, image_id))
        return replace(found, method=LINEAR) if found is not None and self.linear(statistic) else found

    def linear(self, statistic: Statistic) -> bool:
        """Whether the replicates of a statistic are linear, see `torchvice.metrics.resampling.Resampling.linear`."""
        return self.resampling is not None and self.resampling.linear(statistic)

    def once(self, rows: Any, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What `compute` returns for the number `name` of these very rows, computed the first time only."""
        key = id(rows), name
        if key not in self._known:
            self._known[key] = rows, compute()  # with the rows, so that no other object gets their id
        return self._known[key][1]

    def interval(self, value: float, replicates: np.ndarray) -> Interval | None:
        """The percentile interval of a value; None without resamplings or where the value is undefined."""
        if not len(replicates) or not np.isfinite(value):
            return None
        return interval(value, replicates, LEVEL)


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
