"""Comparison of models: p-values, their correction, and the difference of two models over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.resampling import MOST_UNDEFINED, Interval
from torchvice.metrics.weighted import finite_column

__all__ = ["MatchedWeights", "SeedDifference", "holm", "matched_weights", "paired_p", "seed_difference"]

LEAST_SEEDS = 3


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's correction: adjust p-values so that the probability of any false claim is at most alpha.

    The smallest is multiplied by the number of tests m, the next by m - 1, and so on. None is below its predecessor.

    Args:
        p: (m,) in [0, 1]; NaN for an undefined test, which stays NaN and is not counted.

    Returns:
        (m,) in [0, 1], for comparison with alpha.

    Raises:
        ViceError: a value outside [0, 1].

    References:
        Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
        statsmodels' multipletests(method="holm").

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    values = as_array("p", p, 1)
    if ((values < 0) | (values > 1)).any():
        raise ViceError(f"`p` must be in [0, 1], but holds {values[(values < 0) | (values > 1)][0]:g}.")
    adjusted = np.full(len(values), np.nan)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN sorts last
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def paired_p(replicates: ArrayLike) -> float:
    """Two-sided bootstrap p-value for no difference: how many replicates lie on the other side of 0.

    Args:
        replicates: (B,) difference of two models in each replicate, both on the same draws of images.

    Returns:
        2 (1 + min(replicates <= 0, replicates >= 0)) / (B + 1), at most 1; NaN without replicates, or if more than 5 %
        of them are NaN.

    References:
        Davison, Hinkley: Bootstrap methods and their application, 1997, chapter 4.

    Example:
        >>> paired_p(np.linspace(-0.1, 0.9, 99))
        0.22
    """
    drawn = as_array("replicates", replicates, 1)
    known = drawn[~np.isnan(drawn)]
    if not len(known) or len(drawn) - len(known) > MOST_UNDEFINED * len(drawn):
        return float("nan")
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (1 + smaller) / (len(known) + 1))


@dataclass(frozen=True)
class SeedDifference:
    """The difference of two models trained with several seeds each.

    Attributes:
        difference: mean of a minus mean of b.
        error: its standard error, from seeds and images.
        degrees: degrees of freedom; infinite if the seeds do not vary.
        p: two-sided p-value for no difference; NaN if the error is 0.
        interval: confidence interval of the difference.
        seeds: number of seeds of a and of b.
    """

    difference: float
    error: float
    degrees: float
    p: float
    interval: Interval
    seeds: tuple[int, int]


def seed_difference(
    a: ArrayLike,
    b: ArrayLike,
    image_variance_a: float = 0.0,
    image_variance_b: float = 0.0,
    level: float = 0.95,
) -> SeedDifference:
    """Welch's t-test on the means over seeds, plus the variance from the choice of images.

    All seeds are measured on the same images, so more seeds do not reduce the variance from the images.
    error^2 = s_a^2 / k_a + s_b^2 / k_b + the two image variances. Degrees of freedom follow Welch and Satterthwaite,
    with the image variances taken as known.

    Args:
        a, b: (k_a,) and (k_b,) the measure for every seed of each model, at least three.
        image_variance_a, image_variance_b: bootstrap variance, over images, of each mean. For models on the same
            images, give the variance of the paired difference and 0.
        level: confidence level, in (0, 1).

    Raises:
        ViceError: fewer than three seeds, a value that is not finite, a negative variance, or a level outside (0, 1).

    References:
        Welch: The generalization of Student's problem, Biometrika 1947. scipy.stats.ttest_ind(equal_var=False) for
        image variances of 0.

    Example:
        >>> result = seed_difference([0.40, 0.42, 0.41], [0.30, 0.33, 0.30], image_variance_a=0.0004)
        >>> round(result.difference, 2), round(result.error, 4), round(result.p, 4)
        (0.1, 0.0231, 0.0001)
    """
    first, second = finite_column("a", a), finite_column("b", b)
    seeds = len(first), len(second)
    if min(seeds) < LEAST_SEEDS:
        raise ViceError(
            f"A claim about two models needs at least {LEAST_SEEDS} seeds of each, but there are "
            f"{seeds[0]} and {seeds[1]}.",
            "Train more seeds, or report the difference as one between these runs, not between the models.",
        )
    if not (image_variance_a >= 0 and image_variance_b >= 0):
        raise ViceError(f"Variances must be 0 or more, but are {image_variance_a:g} and {image_variance_b:g}.")
    if not 0 < level < 1:
        raise ViceError(f"`level` must be between 0 and 1, but is {level:g}.", "95 % is 0.95.")
    # Equal numbers have variance 0, also if the mean is rounded.
    own = np.array([column.var(ddof=1) / len(column) if np.ptp(column) else 0.0 for column in (first, second)])
    variance = float(own.sum()) + image_variance_a + image_variance_b
    spread = float((own**2 / (np.array(seeds) - 1)).sum())
    degrees = variance**2 / spread if spread > 0 else float("inf")
    return _t_test(float(first.mean() - second.mean()), float(np.sqrt(variance)), degrees, level, seeds)


def _t_test(difference: float, error: float, degrees: float, level: float, seeds: tuple[int, int]) -> SeedDifference:
    """The t-test of a difference, or the normal test for infinite degrees of freedom."""
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    tail = 1 - (1 - level) / 2
    if np.isinf(degrees):
        reach = float(ndtri(tail)) * error
        p = float(2 * ndtr(-abs(difference) / error)) if error > 0 else float("nan")
    else:
        reach, p = float(stdtrit(degrees, tail)) * error, float(2 * stdtr(degrees, -abs(difference) / error))
    limits = Interval(difference - reach, difference + reach, level, "welch")
    return SeedDifference(difference, error, degrees, p, limits, seeds)


@dataclass(frozen=True)
class MatchedWeights:
    """Weights under which the pairs of two models have the same distribution of log-likelihood.

    Attributes:
        a, b: (P_a,) and (P_b,) in [0, 1], the share of each pair that has a partner in the other model.
        unmatched: share of the pairs without a partner, in [0, 1]; the same for both models.
    """

    a: np.ndarray
    b: np.ndarray
    unmatched: float


def matched_weights(logit_a: ArrayLike, logit_b: ArrayLike, bins: int = 10) -> MatchedWeights:
    """Weight the true pairs of two models to the same distribution over quantiles of log-likelihood.

    A more accurate model has pairs of higher likelihood, where consistency may differ. Matching compares two models
    where both have pairs. The pooled logits, whose ranks are those of the log-likelihood, are cut into `bins` of equal
    count. If a bin holds the share s of one model's pairs and the share r of the other's, a pair of the first has the
    weight min(s, r) / s. Multiply the bootstrap's weights by these weights.

    Args:
        logit_a, logit_b: (P_a,) and (P_b,) logits of the true pairs of each model.
        bins: number of quantiles of the pooled logits.

    Raises:
        ViceError: a model without pairs, a logit that is not finite, or fewer than one bin.

    Example:
        >>> weights = matched_weights([0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], bins=2)
        >>> weights.a.round(3).tolist(), weights.b.round(3).tolist(), weights.unmatched
        ([0.333, 0.333, 0.333, 1.0], [1.0, 0.333, 0.333, 0.333], 0.5)
    """
    first, second = finite_column("logit_a", logit_a), finite_column("logit_b", logit_b)
    if not len(first) or not len(second):
        raise ViceError(f"Matching needs pairs of both models, but there are {len(first)} and {len(second)}.")
    if bins < 1:
        raise ViceError(f"`bins` must be 1 or more, but is {bins}.")
    edges = np.quantile(np.concatenate([first, second]), np.arange(1, bins) / bins)
    places = [np.searchsorted(edges, logit, side="left") for logit in (first, second)]  # right-closed
    shares = np.stack([np.bincount(place, minlength=bins) / len(place) for place in places])
    common = shares.min(axis=0)
    weights = [common[place] / share[place] for place, share in zip(places, shares, strict=True)]
    return MatchedWeights(weights[0], weights[1], max(0.0, 1 - float(common.sum())))
