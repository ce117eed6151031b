"""Statistics in one pass over any number of rows, added batch by batch and merged between processes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.binning import equal_width_edges, equal_width_index
from torchvice.metrics.calibration import Reliability, reliability_of_sums
from torchvice.metrics.multilabel import Protocol, checked_protocol

__all__ = ["BinnedCalibration", "CoMoments"]


class CoMoments:
    """Means, variances and covariance of two columns in one pass, merged without loss of precision.

    All sums are of deviations from the first row. For values such as 1e9 with deviations of 1e-3, a float64 mean keeps
    four digits of the deviation; the distance from the first row keeps all of them.

    Attributes:
        n: number of rows without NaN.
        undefined: number of rows with a NaN, which are only counted.
        mean: (2,) means of the columns, rounded to float64.
        moment: (2,) sums of squared deviations from the mean.
        comoment: sum of the products of both deviations.

    Deviations must lie between 1e-150 and 1e150, so that their squares fit into float64.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
        Pebay: Formulas for robust, one-pass parallel computation of covariances and arbitrary-order moments (2008).

    Example:
        >>> whole, part = CoMoments(), CoMoments()
        >>> whole.add([0.1, 0.4], [0.8, 0.5])
        >>> part.add([0.9], [0.1])
        >>> whole.merge(part)
        >>> whole.n, round(whole.correlation(), 3)
        (3, -0.998)
    """

    def __init__(self) -> None:
        self.n = 0
        self.undefined = 0
        self._origin = np.zeros(2)  # the first row
        self._offset = np.zeros(2)  # distance of the mean from the first row
        self.moment = np.zeros(2)
        self.comoment = 0.0

    @property
    def mean(self) -> np.ndarray:
        """Means, (2,); NaN without rows."""
        return self._origin + self._offset if self.n else np.full(2, np.nan)

    def add(self, first: ArrayLike, second: ArrayLike) -> None:
        """Add a batch of rows.

        Args:
            first, second: (N,) columns. A row with a NaN is counted in `undefined`.

        Raises:
            ViceError: lengths differ, or an infinite number; nothing is added.
        """
        a, b = as_array("first", first, 1), as_array("second", second, 1)
        same_length(first=a, second=b)
        if np.isinf(a).any() or np.isinf(b).any():
            raise ViceError("`first` and `second` must be finite, but hold infinity.")
        defined = ~(np.isnan(a) | np.isnan(b))
        batch = CoMoments()
        batch.undefined = len(a) - int(defined.sum())
        if batch.undefined:
            a, b = a[defined], b[defined]
        if len(a):
            batch.n = len(a)
            batch._origin = np.array([a[0], b[0]])
            a, b = a - a[0], b - b[0]
            batch._offset = np.array([a.mean(), b.mean()])
            a -= batch._offset[0]
            b -= batch._offset[1]
            batch.moment = np.array([a @ a, b @ b])
            batch.comoment = float(a @ b)
        self.merge(batch)

    def merge(self, other: CoMoments) -> None:
        """Add all rows of another pass."""
        self.undefined += other.undefined
        if not other.n:
            return
        if not self.n:
            self._origin = other._origin.copy()
        total = self.n + other.n
        # For similar values the difference of the origins is exact, and so is the distance of the means.
        other_offset = (other._origin - self._origin) + other._offset
        delta = other_offset - self._offset
        weight = self.n * other.n / total
        self.moment = self.moment + other.moment + delta**2 * weight
        self.comoment += other.comoment + float(delta[0] * delta[1]) * weight
        self._offset = self._offset + delta * (other.n / total)
        self.n = total

    def correlation(self) -> float:
        """Compute the Pearson correlation of the two columns, in [-1, 1].

        Raises:
            ViceError: fewer than three rows, or a column that does not vary.
        """
        if self.n < 3:
            raise ViceError(f"A correlation needs at least three rows, but {self.n} are defined.")
        for name, moment, mean in zip(("first", "second"), self.moment, self.mean, strict=True):
            if moment <= 0:
                raise ViceError(f"`{name}` must vary over the rows, but is {mean:g} everywhere.")
        value = self.comoment / (math.sqrt(self.moment[0]) * math.sqrt(self.moment[1]))
        return min(1.0, max(-1.0, value))

    def to_array(self) -> np.ndarray:
        """Return the whole state as (9,) float64, to send it to another process."""
        counts = [self.n, self.undefined]
        return np.array([*counts, *self._origin, *self._offset, *self.moment, self.comoment], dtype=float)

    @staticmethod
    def from_array(numbers: ArrayLike) -> CoMoments:
        """Restore the state from `to_array`.

        Raises:
            ViceError: not nine numbers.
        """
        values = as_array("numbers", numbers, 1)
        if len(values) != 9:
            raise ViceError(f"`numbers` must be the nine of `to_array`, but are {len(values)}.")
        result = CoMoments()
        result.n, result.undefined = int(values[0]), int(values[1])
        result._origin, result._offset, result.moment = values[2:4].copy(), values[4:6].copy(), values[6:8].copy()
        result.comoment = float(values[8])
        return result


class BinnedCalibration:
    """Reliability diagram in one pass: counts and sums of each bin.

    For rows in the same order the numbers equal those of `torchvice.metrics.reliability` to the last bit, whatever the
    batches. Merged passes agree up to rounding.

    Args:
        bins: number of equal-width bins of the confidence.
        protocol: `paper` or `strict`, as in `reliability`.

    Attributes:
        count: (B,) int64 number of rows in each bin.
        confidence, accuracy: (B,) sums over them.
        n: number of all rows; `strict` leaves out those of undefined accuracy.
        outside: number of rows in no bin.

    Example:
        >>> binned = BinnedCalibration(bins=1)
        >>> binned.add([0.9], [1.0])
        >>> binned.add([0.8], [0.5])
        >>> round(binned.reliability().ece, 3)
        0.1
    """

    def __init__(self, bins: int = 20, protocol: Protocol = "paper") -> None:
        self.protocol = checked_protocol(protocol)
        self.edges = equal_width_edges(bins)
        self.count = np.zeros(bins, np.int64)
        self.confidence = np.zeros(bins)
        self.accuracy = np.zeros(bins)
        self.n = 0
        self.outside = 0

    def add(self, confidence: ArrayLike, accuracy: ArrayLike) -> None:
        """Add a batch of rows.

        Args:
            confidence, accuracy: (N,) in [0, 1], as in `reliability`.

        Raises:
            ViceError: lengths differ.
        """
        confidences, outcomes = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
        same_length(confidence=confidences, accuracy=outcomes)
        strict = self.protocol == "strict"
        if strict:
            defined = ~np.isnan(outcomes)
            confidences, outcomes = confidences[defined], outcomes[defined]
        index = equal_width_index(confidences, self.edges, first_takes_zero=strict)
        inside = index >= 0
        self.count += np.bincount(index[inside], minlength=len(self.count))
        # Add row by row: the same additions in the same order, whatever the batches.
        np.add.at(self.confidence, index[inside], confidences[inside])
        np.add.at(self.accuracy, index[inside], outcomes[inside])
        self.n += len(confidences)
        self.outside += int((~inside).sum())

    def merge(self, other: BinnedCalibration) -> None:
        """Add all rows of another pass.

        Raises:
            ViceError: different bins or protocols.
        """
        if len(self.count) != len(other.count) or self.protocol != other.protocol:
            raise ViceError("Merged diagrams must have the same bins and protocol, but differ.")
        self.count += other.count
        self.confidence += other.confidence
        self.accuracy += other.accuracy
        self.n += other.n
        self.outside += other.outside

    def reliability(self) -> Reliability:
        """Return the diagram of all added rows; its `ece` is NaN without rows."""
        return reliability_of_sums(self.edges, self.count, self.confidence, self.accuracy, self.n, self.outside)
