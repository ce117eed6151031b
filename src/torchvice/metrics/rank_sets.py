"""Confidence sets of ranks, and simultaneous intervals, from replicates that all models share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.parallel import processors
from torchvice.metrics.weighted import finite_column

__all__ = ["RankSets", "rank_sets", "reach", "standard_errors"]

TIED = 1e-10  # the share of both variances below which the difference of two models does not vary
EQUAL = 1e-9  # of the largest value: differences below it that do not vary are rounding
BLOCK = 2**16  # floats of a block of pairs and replicates: what stays in the cache
STEPS = 10  # at most; each one is valid by itself


@dataclass(frozen=True)
class RankSets:
    """Confidence sets of the ranks of m models; 1 is the best.

    Attributes:
        rank: (m,) ranks of the estimates; equal estimates share the best of their ranks.
        low, high: (m,) ends of the simultaneous sets: with probability `level` or more all of them hold the true rank.
        alone_low, alone_high: (m,) ends of the sets for one model that was chosen beforehand.
        critical: standard errors by which a difference must exceed 0, after the last step.
        steps: how often the critical value was computed.
        pairs: how many of the m (m - 1) / 2 pairs are told apart.
        level: confidence level, in (0, 1).
    """

    rank: np.ndarray
    low: np.ndarray
    high: np.ndarray
    alone_low: np.ndarray
    alone_high: np.ndarray
    critical: float
    steps: int
    pairs: int
    level: float

    def among(self, top: int) -> np.ndarray:
        """(m,) bool: the models that cannot be excluded from the best `top`: at `level` all true ones are among them.

        Raises:
            ViceError: `top` is below 1.
        """
        return self.low <= _checked_top(top)

    def surely_among(self, top: int) -> np.ndarray:
        """(m,) bool: the models whose whole set lies within the best `top`.

        Raises:
            ViceError: `top` is below 1.
        """
        return self.high <= _checked_top(top)


def _checked_top(top: int) -> int:
    if top < 1:
        raise ViceError(f"`top` must be 1 or more, but is {top}.", "Give 1 for the best model.")
    return top


def rank_sets(
    values: ArrayLike,
    replicates: ArrayLike,
    influence: ArrayLike | None = None,
    level: float = 0.95,
    threads: int | None = None,
    linear: ArrayLike | None = None,
) -> RankSets:
    """Confidence sets of ranks from a joint bootstrap: the models are ranked by `values`, higher is better.

    Two models are told apart where their difference, in standard errors, exceeds c. c is the quantile `level` of the
    largest studentised difference, over all pairs, of the replicates from their means: the sets hold with all models at
    once. Then come the steps: claims already made leave the maximum, which lowers c, until no claim is added. A model's
    rank is at least 1 + the number of models shown to be better, and at most m - the number shown to be worse. The sets
    of one model alone take the maximum over its own pairs, in one step.

    Of half a million differences the largest is one whose standard error came out small. Standard errors are therefore
    those of the influence of N images, without the noise of the replicates, and that they are estimated is counted by
    Student's t with N - 1 degrees of freedom: t becomes sqrt(f ln(1 + t^2 / f)) (Wallace 1959) before it is compared
    with c. The influence takes as fixed what the values choose from the data, such as thresholds. The variance is
    therefore larger by as much as that of the replicates exceeds that of their linear part, by the same draws. A
    difference that does not vary is told apart if it is more than rounding.

    Args:
        values: (m,) estimates.
        replicates: (m, B) the same draws of images for all models.
        influence: (m, N) derivative of each value by the weight of each image, of sum 0. None: standard errors are
            those of the replicates; with many models the sets are then too narrow.
        level: confidence level, in (0, 1).
        threads: that share the pairs; None: one for each processor. The result does not depend on it.
        linear: (m, B) what the replicates would be by `influence` alone. None: they are that.

    Raises:
        ViceError: fewer than two models, values that are not finite, or fewer than two replicates.

    References:
        Mogstad, Romano, Shaikh, Wilhelm: Inference for ranks with applications to mobility across neighbourhoods and
        academic achievement across countries, Review of Economic Studies 2024; the R package csranks, which draws from
        a normal distribution where this draws images. Romano, Wolf: Exact and approximate stepdown methods for multiple
        hypothesis testing, JASA 2005. Wallace: Bounds on normal approximations to Student's and the chi-square
        distributions, Annals of Mathematical Statistics 1959.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = rank_sets([0.9, 0.5, 0.52], [[0.9], [0.5], [0.52]] + 0.05 * rng.normal(size=(3, 999)))
        >>> found.rank.tolist(), found.low.tolist(), found.high.tolist()
        ([1, 3, 2], [1, 2, 2], [1, 3, 3])
    """
    if not 0 < level < 1:
        raise ViceError(f"`level` must be between 0 and 1, but is {level:g}.", "95 % is 0.95.")
    estimates, drawn = _checked(values, replicates)
    parts = _of_all("influence", influence, estimates)
    errors = standard_errors(drawn, parts, _of_all("linear", linear, estimates, drawn.shape[1]))
    freedom = (drawn if parts is None else parts).shape[1] - 1
    distance = _distances(estimates, errors, freedom)
    with np.errstate(divide="ignore"):
        inverse = np.where(errors > 0, 1 / errors, 0.0).astype(np.float32)
    moved = _centred(drawn).astype(np.float32)
    threads = threads or processors()
    largest = _largest(moved, inverse, inverse, threads)
    alone = np.quantile(largest, level, axis=1)
    better, critical, steps = _stepped_down(distance, moved, inverse, largest, level, threads)
    own_better, own_worse = distance > alone[:, None], distance < -alone[:, None]
    count = len(estimates)
    return RankSets(
        rank=1 + (estimates[:, None] < estimates).sum(axis=1),
        low=1 + better.sum(axis=0),
        high=count - better.sum(axis=1),
        alone_low=1 + own_worse.sum(axis=1),
        alone_high=count - own_better.sum(axis=1),
        critical=critical,
        steps=steps,
        pairs=int(better.sum()),
        level=level,
    )


def _checked(values: ArrayLike, replicates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The values (m,) and replicates (m, B) of two models or more.

    Raises:
        ViceError: fewer than two models or replicates, or other shapes.
    """
    estimates, drawn = finite_column("values", values), finite_column("replicates", replicates, 2)
    if len(estimates) < 2 or drawn.shape != (len(estimates), drawn.shape[1]) or drawn.shape[1] < 2:
        raise ViceError(
            "Ranks need two models or more, and the same number of replicates of each, two or more, but `values` has "
            f"shape {estimates.shape} and `replicates` {drawn.shape}."
        )
    return estimates, drawn


def _of_all(name: str, rows: ArrayLike | None, estimates: np.ndarray, width: int | None = None) -> np.ndarray | None:
    """Rows of all models (m, any width or the given one), or None.

    Raises:
        ViceError: another shape.
    """
    if rows is None:
        return None
    found = finite_column(name, rows, 2)
    if len(found) != len(estimates):
        raise ViceError(f"`{name}` must have one row for each of {len(estimates)} models, but has shape {found.shape}.")
    if width not in (None, found.shape[1]):
        raise ViceError(f"`{name}` must have {width} columns like `replicates`, but has shape {found.shape}.")
    return found


def _centred(drawn: np.ndarray) -> np.ndarray:
    return drawn - drawn.mean(axis=1, keepdims=True)


def standard_errors(
    replicates: np.ndarray, influence: np.ndarray | None = None, linear: np.ndarray | None = None
) -> np.ndarray:
    """(m, m) standard errors of the differences of m values; 0 where a difference does not vary.

    Args:
        replicates: (m, B) the same draws of images for all values.
        influence: (m, N) of the images; None: the standard errors are those of the replicates.
        linear: (m, B) linear replicates by the same draws; by as much as the variance of the replicates exceeds
            theirs, that of the influence is larger. None: by nothing.
    """
    if influence is None:
        squared, together = _squared_distances(_scaled(replicates))
    else:
        squared, together = _squared_distances(influence)
        if linear is not None:
            more = _squared_distances(_scaled(replicates))[0] - _squared_distances(_scaled(linear))[0]
            squared += np.maximum(more, 0)
    return np.sqrt(np.where(squared > TIED * together, squared, 0.0))


def _scaled(drawn: np.ndarray) -> np.ndarray:
    """Replicates whose products are their covariances."""
    scaled: np.ndarray = _centred(drawn) / np.sqrt(drawn.shape[1] - 1)
    return scaled


def _squared_distances(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, m) sums of the squared differences of two rows, and of the squares of both; from one product of matrices."""
    products = parts @ parts.T
    own = np.diag(products)
    together = own[:, None] + own
    return together - 2 * products, together


def _distances(estimates: np.ndarray, errors: np.ndarray, freedom: int) -> np.ndarray:
    """(m, m) differences in standard errors, as normal numbers; infinite where they do not vary and are no rounding."""
    difference = estimates[:, None] - estimates
    with np.errstate(divide="ignore", invalid="ignore"):
        certain = np.where(np.abs(difference) > EQUAL * np.abs(estimates).max(), np.sign(difference) * np.inf, 0.0)
        return np.where(errors > 0, _normal(difference / errors, freedom), certain)


def _stepped_down(
    distance: np.ndarray, moved: np.ndarray, inverse: np.ndarray, largest: np.ndarray, level: float, threads: int
) -> tuple[np.ndarray, float, int]:
    """Which models (m, m) are shown to be better than which, the last critical value, and the steps to it.

    Args:
        distance: (m, m) differences in standard errors.
        moved: (m, B) replicates less their means. inverse: (m, m) 1 / standard error, 0 where that is 0.
        largest: (m, B) what `_largest` finds with all pairs.
    """
    critical, steps = float(np.quantile(largest.max(axis=0), level)), 1
    better = distance > critical
    while steps < STEPS:
        # A claim that was made cannot be a false one any more, in the case that all before it are true.
        left = np.where(better, np.float32(0), inverse)
        critical = min(critical, float(np.quantile(_largest(moved, left, left.T, threads).max(axis=0), level)))
        steps, before = steps + 1, better.sum()
        better = distance > critical
        if better.sum() == before:
            break
    return better, critical, steps


def _normal(t: np.ndarray, freedom: int) -> np.ndarray:
    """Student's t as a standard normal number of the same tail, by Wallace's approximation."""
    found: np.ndarray = np.sign(t) * np.sqrt(freedom * np.log1p(t * t / freedom))
    return found


def _largest(moved: np.ndarray, up: np.ndarray, down: np.ndarray, threads: int) -> np.ndarray:
    """(m, B) float32: of each model the largest studentised difference in each replicate, over its pairs.

    `up[j, k]` studentises j - k, and `down[j, k]` k - j; 0 leaves a difference out. Each pair is looked at once, in
    blocks that stay in the cache: one subtraction, two products and the maxima.
    """
    count, replicates = moved.shape
    step = max(1, BLOCK // count)
    same = up is down
    largest = np.zeros((count, replicates), np.float32)

    def block(first: int) -> None:
        columns = slice(first, min(first + step, replicates))
        z = np.ascontiguousarray(moved[:, columns])
        most = np.zeros_like(z)
        room, other = np.empty_like(z), np.empty_like(z)
        for j in range(count - 1):
            part, rest = room[: count - j - 1], slice(j + 1, None)
            np.subtract(z[j], z[rest], out=part)
            if same:
                part *= up[j, rest, None]
                np.abs(part, out=part)
            else:
                below = np.multiply(part, -down[j, rest, None], out=other[: len(part)])
                part *= up[j, rest, None]
                np.maximum(part, below, out=part)
            np.maximum(most[rest], part, out=most[rest])
            np.maximum(most[j], part.max(axis=0), out=most[j])
        largest[:, columns] = most

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(block, range(0, replicates, step)))
    return largest


def reach(replicates: ArrayLike, level: float = 0.95) -> tuple[float, np.ndarray]:
    """How far simultaneous intervals of m values reach: `c` standard errors of each, with probability `level` for all.

    c is the quantile `level` of the largest studentised distance of the replicates from their means. Values that do
    not vary have the error 0 and do not count.

    Args:
        replicates: (m, B) the same draws for all.
        level: in (0, 1).

    Returns:
        c, and the standard errors (m,).

    References:
        Montiel Olea, Plagborg-Moller: Simultaneous confidence bands: theory, implementation, and an application to
        SVARs, Journal of Applied Econometrics 2019: the sup-t band.

    Example:
        >>> c, errors = reach(np.random.default_rng(0).normal(size=(20, 4000)))
        >>> round(c, 1), errors.shape
        (3.0, (20,))
    """
    drawn = as_array("replicates", replicates, 2, np.float64)
    away = drawn - drawn.mean(axis=1, keepdims=True)
    errors = away.std(axis=1, ddof=1)
    size = np.abs(drawn).max(axis=1, initial=0.0)
    errors = np.where(errors > TIED * size, errors, 0.0)
    varying = errors > 0
    if not varying.any():
        return 0.0, errors
    largest = np.zeros(drawn.shape[1])
    for row, error in zip(away[varying], errors[varying], strict=True):
        np.maximum(largest, np.abs(row) / error, out=largest)
    return float(np.quantile(largest, level)), errors
