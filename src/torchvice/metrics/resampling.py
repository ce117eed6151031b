"""Uncertainty by resampling images: bootstrap replicates, and the intervals made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.parallel import in_threads, matrix_products, threads
from torchvice.metrics.weighted import RankStatistic, WeightedStatistic

__all__ = [
    "FEWEST_IMAGES",
    "Interval",
    "Resampling",
    "Statistic",
    "interval",
    "reflected_interval",
    "too_undefined",
]

Statistic = Callable[[np.ndarray], np.ndarray]

DRAWS = 2**22  # images drawn from one random stream: the numbers depend on it, so it never changes
KEPT_DRAWS = 2**31  # bytes of draws that are kept, one for each image and replicate; more are drawn again each time
MEMORY = 2**26  # bytes that a block of replicates may take
BLOCK = 2**18  # rows times replicates of a block where memory is no limit: what stays in the cache
LINEAR_BLOCK = 2**18  # images times replicates of a block of linear replicates
WORTH_THREADS = 100  # blocks
KEPT = 2**27  # bytes of ranks and weights that statistics share
FEW_WEIGHTS = 2**24  # bytes of the weights of all replicates up to which they are among them
EXACT = 2**24  # float32 holds whole numbers up to here
MOST_UNDEFINED = 0.05  # share of replicates without a value beyond which there is no interval
FEWEST_IMAGES = 10  # of an interval; the replicates of two images are almost equal, whatever the truth is


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: the lower limit, NaN where it is undefined.
        high: the upper limit, likewise.
        level: the probability with which such intervals cover the true value.
        method: how it was made: "percentile", "reflected" or "jackknife"; ", linear replicates" may follow.
        undefined: replicates in which the measure had no value; beyond 5 % of them the limits are NaN.
        reason: why the limits are NaN, where the value is not.
    """

    low: float
    high: float
    level: float
    method: str
    undefined: int = 0
    reason: str = field(default="", repr=False)

    def to_json(self) -> dict[str, float | int | str | None]:
        """The fields, NaN as None."""
        low, high = (None if np.isnan(limit) else limit for limit in (self.low, self.high))
        return {"low": low, "high": high, "level": self.level, "method": self.method, "undefined": self.undefined}


class Resampling:
    """The same resamplings of N images for every statistic, so that differences are paired.

    Images are drawn with replacement, and all rows of an image come with it: pairs of one image are not independent.
    Two statistics, or two models on the same images, see the same draws; the difference of their replicates is the
    replicate of their difference.

    Args:
        images: N, at least one.
        replicates: B.
        seed: the draws depend on it and on N only; the first B of them are the same for a larger B.

    Raises:
        ViceError: no images, or no replicates.

    References:
        Efron, Tibshirani: An introduction to the bootstrap, 1993. Field, Welsh: Bootstrapping clustered data, JRSS B
        2007.

    Example:
        >>> values = np.array([0.2, 0.4, 0.9, 0.5])
        >>> means = Resampling(4, replicates=1000).replicates_of(lambda weights: weights @ values / weights.sum(1))
        >>> means.shape, round(float(means.std()), 2)
        ((1000,), 0.13)
    """

    def __init__(self, images: int, replicates: int = 2000, seed: int = 0) -> None:
        if images < 1 or replicates < 1:
            raise ViceError(f"`images` and `replicates` must be at least 1, but are {images} and {replicates}.")
        self.images, self.replicates, self.seed = int(images), int(replicates), int(seed)
        self._chunk = max(1, min(50, DRAWS // self.images))
        self._kept: dict[int, np.ndarray] = {}
        self._held: dict[tuple[Any, ...], tuple[np.ndarray, ...]] = {}
        self._requested: set[tuple[Any, ...]] = set()
        self._room = KEPT

    def counts(self, first: int, last: int, images: np.ndarray | None = None) -> np.ndarray:
        """Count how often images are drawn in the replicates from `first` to `last`: (last - first, N) uint8.

        Args:
            first, last: the replicates.
            images: (P,) the image of each column; None: each once, in order.
        """
        parts = []
        for index in range(first // self._chunk, -(-last // self._chunk)):
            begin = index * self._chunk
            part = self._drawn(index)[max(first - begin, 0) : last - begin]
            parts.append(part if images is None else np.take(part, images, axis=1))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _drawn(self, index: int) -> np.ndarray:
        """The replicates of one random stream. All streams are kept where they are small, else the latest."""
        kept = self._kept.get(index)
        if kept is None:
            rng = np.random.default_rng([self.seed, index])
            drawn = rng.integers(self.images, size=(self._chunk, self.images), dtype=np.uint32).astype(np.int64)
            drawn += np.arange(self._chunk)[:, None] * self.images
            # More than 255 draws of one image have a probability below 1e-500.
            counted = np.bincount(drawn.ravel(), minlength=self._chunk * self.images).astype(np.uint8)
            if self.replicates * self.images > KEPT_DRAWS:
                self._kept.clear()
            self._kept[index] = kept = counted.reshape(self._chunk, self.images)
        return kept

    def sums(self, first: int, last: int, columns: np.ndarray) -> np.ndarray:
        """Sum columns (N, k) over the images of the replicates from `first` to `last`: (last - first, k) float64."""
        with matrix_products().limit(limits=1):
            return self.counts(first, last).astype(np.float64) @ columns

    def replicates_of(
        self, statistic: Statistic, cluster: ArrayLike | None = None, *, linear: bool | None = None
    ) -> np.ndarray:
        """Compute the statistic in every replicate.

        Args:
            statistic: maps weights (b, P), how often each row counts, to (b,) values; NaN where it has none. Its
                optional attribute `width` is the number of floats that it needs for a row and replicate.
            cluster: (P,) the image, 0 to N - 1, that each row belongs to; None: row i is image i.
            linear: whether replicates are linear where the statistic has derivatives; None: as `linear` decides.

        Returns:
            (B,) float64, the same for any size of the blocks.

        Raises:
            ViceError: `cluster` holds a number outside 0 to N - 1.
        """
        rows = self._rows(cluster)
        if isinstance(statistic, WeightedStatistic) and (self.linear(statistic) if linear is None else linear):
            found = statistic.linear()
            if found is not None:
                return statistic.of_linear(self._linear_replicates(*found, rows))
        digest = b"" if rows is None else hashlib.sha256(rows.tobytes()).digest()

        def values_of(first: int, last: int) -> np.ndarray:
            block = (digest, first, last)
            if rows is not None and len(rows) * self.replicates <= FEW_WEIGHTS:
                (weights,) = self._shared(block, lambda: (self.counts(first, last, rows),))
            else:
                weights = self.counts(first, last, rows)
            if isinstance(statistic, RankStatistic) and statistic.rows:
                weighted, spread = self._shared((statistic.first, *block), lambda: self._ranks(statistic, weights))
                return statistic.finish(weights, weighted, spread)
            return statistic(weights)

        return self._in_blocks(values_of, self._step(statistic, self.images if rows is None else len(rows)))

    def _in_blocks(self, values_of: Callable[[int, int], np.ndarray], step: int) -> np.ndarray:
        """(B,) values of the replicates from `first` to `last`, block by block, in several threads."""
        values = np.empty(self.replicates)

        def compute(blocks: range) -> None:
            for first in blocks:
                last = min(first + step, self.replicates)
                values[first:last] = values_of(first, last)

        few = step * WORTH_THREADS > self.replicates  # blocks: threads would mostly wait for Python's lock
        count = 1 if few else threads()
        with matrix_products().limit(limits=1):
            compute(range(0, step, step))  # alone, since statistics prepare what all blocks need in their first call
            in_threads(compute, [range(step * own, self.replicates, step * count) for own in range(1, count + 1)])
        return values

    def linear(self, statistic: Statistic) -> bool:
        """Whether the replicates of a statistic are linear, because it would be too much work to compute each.

        A linear replicate is the value plus the sum over the images of derivative times (weight - 1): the infinitesimal
        jackknife with the same draws, so that differences stay paired, also those from exact replicates.

        References:
            Efron, Tibshirani: An introduction to the bootstrap, 1993, chapter 22.
        """
        if not isinstance(statistic, WeightedStatistic) or type(statistic).linear is WeightedStatistic.linear:
            return False
        return statistic.rows * statistic.passes * self.replicates > statistic.most_work

    def _linear_replicates(self, value: float, change: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        by_image = change if rows is None else np.bincount(rows, change, minlength=self.images)
        step = max(1, LINEAR_BLOCK // self.images)
        moved = self._in_blocks(lambda first, last: self.counts(first, last).astype(np.float64) @ by_image, step)
        return value + moved - float(by_image.sum())

    def _ranks(self, statistic: RankStatistic, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the statistic prepares for these weights, in few bytes."""
        ranks, spread = statistic.prepare(weights)
        return ranks.astype(np.float32) if ranks.itemsize > 4 and np.abs(ranks).max() < EXACT else ranks, spread

    def _shared(self, key: tuple[Any, ...], compute: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """The arrays that several statistics ask for; kept once they are requested again, while there is room."""
        if key in self._held:
            return self._held[key]
        arrays = compute()
        if key not in self._requested:
            self._requested.add(key)
        elif (size := sum(array.nbytes for array in arrays)) <= self._room:
            self._room -= size
            for array in arrays:
                array.setflags(write=False)  # they are of other statistics, too
            self._held[key] = arrays
        return arrays

    def _rows(self, cluster: ArrayLike | None) -> np.ndarray | None:
        if cluster is None:
            return None
        rows = as_array("cluster", cluster, 1, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.images:
            raise ViceError(
                f"`cluster` must name images from 0 to {self.images - 1}, but runs from {rows.min()} to {rows.max()}.",
                "np.unique(image_id, return_inverse=True) numbers the images.",
            )
        return rows

    def _step(self, statistic: Statistic, rows: int) -> int:
        """The replicates of a block: as many as fit into the cache, and in any case into memory."""
        width = getattr(statistic, "width", 8)
        most, cached = MEMORY // (8 * width * max(rows, 1)), BLOCK // max(rows, 1)
        return max(1, min(most, cached // self._chunk * self._chunk or cached))


def interval(value: float, replicates: ArrayLike, level: float = 0.95) -> Interval:
    """The percentile interval: the quantiles (1 - level) / 2 and (1 + level) / 2 of bootstrap replicates.

    Args:
        value: the measure on the data as they are.
        replicates: (B,) the measure in the replicates; NaN where it has no value, left out and counted.
        level: in (0, 1).

    Returns:
        Interval; its limits are NaN where `value` is, or where more than 5 % of the replicates have no value.

    Raises:
        ViceError: a level outside (0, 1).

    References:
        Efron, Tibshirani: An introduction to the bootstrap, 1993. scipy.stats.bootstrap gives the same limits from the
        same replicates.

    Example:
        >>> interval(0.5, np.linspace(0, 1, 101), level=0.5)
        Interval(low=0.25, high=0.75, level=0.5, method='percentile', undefined=0)
    """
    drawn = as_array("replicates", replicates, 1)
    if not 0 < level < 1:
        raise ViceError(f"`level` must be between 0 and 1, but is {level:g}.", "95 % is 0.95.")
    undefined, reason = int(np.isnan(drawn).sum()), too_undefined(drawn)
    if np.isnan(value) or not len(drawn) or reason:
        return Interval(np.nan, np.nan, level, "percentile", undefined, "" if np.isnan(value) else reason)
    low, high = np.quantile(drawn[~np.isnan(drawn)], np.array([(1 - level) / 2, (1 + level) / 2]))
    return Interval(float(low), float(high), level, "percentile", undefined)


def too_undefined(replicates: np.ndarray) -> str:
    """Why replicates give neither an interval nor a p-value: more than 5 % of them have no value; "" if they do.

    Example:
        >>> too_undefined(np.array([0.5, np.nan, 0.4])), too_undefined(np.array([0.5, 0.4]))
        ('1 of 3 replicates have no value.', '')
    """
    undefined = int(np.isnan(replicates).sum())
    much = undefined > MOST_UNDEFINED * len(replicates)
    return f"{undefined} of {len(replicates)} replicates have no value." if much else ""


def reflected_interval(value: float, replicates: ArrayLike, level: float = 0.95) -> Interval:
    """The reflected percentile interval of a correlation, on the scale of artanh: it corrects the bias of few rows.

    A correlation of ranks within small classes is a little too low, and that of a resample is lower again by as much.
    The percentile interval adds both, the reflected one takes the second from the first.

    Args:
        value, replicates, level: as in `interval`; correlations in [-1, 1].

    Returns:
        Interval, undefined as in `interval`.

    References:
        Davison, Hinkley: Bootstrap methods and their application, 1997: the basic bootstrap, after Fisher's
        transformation.

    Example:
        >>> found = reflected_interval(0.5, np.tanh(np.arctanh(0.5) + np.linspace(-0.3, 0.1, 101)), level=0.5)
        >>> [round(float(np.arctanh(end) - np.arctanh(0.5)), 6) for end in (found.low, found.high)]
        [0.0, 0.2]
    """
    most = 1 - 1e-12
    drawn = np.arctanh(np.clip(as_array("replicates", replicates, 1), -most, most))
    middle = np.arctanh(np.clip(value, -most, most))
    found = interval(float(middle), drawn, level)
    low, high = np.tanh(2 * middle - found.high), np.tanh(2 * middle - found.low)
    return Interval(float(low), float(high), level, "reflected", found.undefined, found.reason)
