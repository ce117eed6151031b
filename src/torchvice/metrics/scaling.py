"""Temperature and vector scaling: calibrate a finished model, fitted on one split and applied to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array
from torchvice.metrics.losses import log_softmax, logits_and_targets, one_label, sigmoid

__all__ = ["LogitScaling", "fit_temperature", "fit_vector"]

LEAST_SLOPE, GREATEST_SLOPE = 0.01, 100.0
GREATEST_BIAS = 100.0
NEAR = 1e-3  # a slope this near to its bound, relatively, is at it; residuals this small are none


@dataclass(frozen=True)
class LogitScaling:
    """A scaling of logits: slope * z + bias.

    `slope` and `bias` have one value for all classes (a temperature is 1 / slope) or C. `exclusive`: whether
    probabilities are a softmax. `bounded`: the classes whose likelihood has no maximum, so that a bound or the solver
    ended the fit (0 where one slope is for all). `unfitted`: the classes that could not be fitted and keep the slope of
    the common temperature. `n`: the number of images of the fit.
    """

    slope: tuple[float, ...]
    bias: tuple[float, ...]
    exclusive: bool
    n: int
    bounded: tuple[int, ...] = ()
    unfitted: tuple[int, ...] = ()

    @property
    def temperature(self) -> float:
        """1 / slope, if all classes share one slope.

        Raises:
            ViceError: the scaling has one slope per class.
        """
        if len(self.slope) > 1:
            raise ViceError(f"A vector scaling has no temperature, but {len(self.slope)} slopes.")
        return 1 / self.slope[0]

    def apply(self, logits: ArrayLike) -> np.ndarray:
        """Scale logits (N, C); returns float64.

        Raises:
            ViceError: not (N, C), or another C than the fit's.

        Example:
            >>> LogitScaling((0.5,), (0.0,), False, 10).apply([[2.0, 4.0]]).tolist()
            [[1.0, 2.0]]
        """
        values = as_array("logits", logits, 2)
        if len(self.slope) not in (1, values.shape[1]):
            raise ViceError(f"`logits` must be (N, {len(self.slope)}) as in the fit, but has shape {values.shape}.")
        return np.asarray(self.slope) * values + np.asarray(self.bias)

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists for JSON."""
        lists = {name: list(getattr(self, name)) for name in ("slope", "bias", "bounded", "unfitted")}
        return {**lists, "exclusive": self.exclusive, "n": self.n}


def fit_temperature(logits: ArrayLike, targets: ArrayLike, exclusive: bool = False) -> LogitScaling:
    """One temperature for all logits: that of the least negative log-likelihood.

    Fit it on one split and report on another: on its own split it is optimistic.

    Args:
        logits: (N, C), finite.
        targets: (N, C), 0 or 1; one label in every row where exclusive.
        exclusive: one softmax over the classes, else a sigmoid for each.

    Returns:
        LogitScaling of one slope 1 / T, T in [0.01, 100], and no bias. The likelihood has one maximum only. Where it
        has none, T ends at a bound and `bounded` says so: at 0.01 where the logits part true from false without an
        error, at 100 where they say nothing or the reverse. Logits that cannot say anything (all 0; of a softmax, all
        of a row equal) keep T = 1.

    Raises:
        ViceError: no image, infinite logits, or what the losses refuse.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.

    Example:
        >>> round(fit_temperature([[4.0], [4.0], [4.0], [-4.0]], [[1], [1], [0], [0]]).temperature, 2)
        3.64
    """
    values, truth = _checked(logits, targets, exclusive)
    if exclusive:
        # Only differences count. Beside a true logit that is not 0, what the other classes have left is rounded off.
        values = values - (values * truth).sum(axis=1, keepdims=True)

    def decline(log_slope: float) -> float:
        # Of the likelihood: from below 0 to above it, as the loss is convex in the slope.
        scaled = np.exp(log_slope) * values
        p = np.exp(log_softmax(scaled)) if exclusive else sigmoid(scaled)
        return float((values * (p - truth)).sum())

    from scipy.optimize import brentq

    ends = float(np.log(LEAST_SLOPE)), float(np.log(GREATEST_SLOPE))
    at_least, at_greatest = decline(ends[0]), decline(ends[1])
    if not values.any():
        slope, bounded = 1.0, False
    elif at_least >= 0:
        slope, bounded = LEAST_SLOPE, True
    elif at_greatest <= 0:
        slope, bounded = GREATEST_SLOPE, True
    else:
        slope, bounded = float(np.exp(brentq(decline, *ends, xtol=1e-10))), False
    return LogitScaling((slope,), (0.0,), exclusive, len(values), (0,) if bounded else ())


def fit_vector(logits: ArrayLike, targets: ArrayLike, exclusive: bool = False) -> LogitScaling:
    """A slope and a bias for each class, of the least negative log-likelihood.

    For sigmoids this is Platt's scaling of each class on its own; for a softmax vector scaling, whose biases are
    given the mean 0, as only their differences matter. Slopes stay above 0: no class reverses its order of images.

    Args:
        logits: (N, C), finite.
        targets: (N, C), 0 or 1; one label in every row where exclusive.
        exclusive: one softmax over the classes, else a sigmoid for each.

    Returns:
        LogitScaling of C slopes in [0.01, 100] and C biases in [-100, 100]. Classes whose likelihood has no maximum
        keep the common temperature and the bias 0 and are named in `unfitted`: those without positives, and of
        sigmoids those without negatives, or whose logits part true from false without an error (a step would fit them
        best). `bounded` names the sigmoids with the order reversed, and the classes of a softmax that are parted.

    Raises:
        ViceError: no image, infinite logits, or what the losses refuse.

    References:
        Platt, Probabilistic outputs for support vector machines, 1999; Guo et al., ICML 2017.

    Example:
        >>> fit = fit_vector([[1.0], [1.0], [-1.0], [-1.0], [-1.0]], [[1], [0], [1], [0], [0]])
        >>> sigmoid(fit.apply([[1.0], [-1.0]])).round(3).ravel().tolist()
        [0.5, 0.333]
    """
    values, truth = _checked(logits, targets, exclusive)
    n, classes = values.shape
    start = fit_temperature(values, truth, exclusive).slope[0]
    unfitted = truth.sum(axis=0) == 0 if exclusive else _parted(values, truth)
    slope, bias = np.full(classes, start), np.zeros(classes)
    free = np.flatnonzero(~unfitted)
    if exclusive:
        slope[free], bias[free] = _fit_softmax(values, truth, free, start)
    else:
        for c in free:
            slope[c], bias[c] = _fit_class(values[:, c], truth[:, c], start)
    at_bound = (slope <= LEAST_SLOPE * (1 + NEAR)) | (slope >= GREATEST_SLOPE * (1 - NEAR))
    at_bound |= np.abs(bias) >= GREATEST_BIAS * (1 - NEAR)
    if exclusive:
        at_bound |= np.abs(np.exp(log_softmax(slope * values + bias)) - truth).max(axis=0) < NEAR
    if exclusive:
        bias -= bias.mean()
    bounded = np.flatnonzero(at_bound & ~unfitted).tolist()
    left = tuple(np.flatnonzero(unfitted).tolist())
    return LogitScaling(tuple(slope.tolist()), tuple(bias.tolist()), exclusive, n, tuple(bounded), left)


def _parted(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(C,) whether logits vary and no true image has a lower one than a false image, or one of the two is missing."""
    least_true, greatest_false = (
        np.where(truth == 1, values, np.inf).min(0),
        np.where(truth == 0, values, -np.inf).max(0),
    )
    # Where all images have the same logit, only the bias can be fitted.
    varies = (values != values[0]).any(axis=0) | ~np.isfinite(least_true - greatest_false)
    return varies & (greatest_false <= least_true)


def _checked(logits: ArrayLike, targets: ArrayLike, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    values, truth = logits_and_targets(logits, targets)
    if exclusive:
        one_label(values, truth)
    if not len(values):
        raise ViceError("A scaling is fitted on at least one image, but none came.")
    if not np.isfinite(values).all():
        raise ViceError("`logits` must be finite to be scaled, but hold infinity.")
    return values, truth


def _least(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], classes: int, start: float) -> np.ndarray:
    """(2, classes) slopes and biases of the least loss inside the bounds; the losses are convex."""
    from scipy.optimize import minimize

    bounds = [(LEAST_SLOPE, GREATEST_SLOPE)] * classes + [(-GREATEST_BIAS, GREATEST_BIAS)] * classes
    first = np.concatenate([np.full(classes, start), np.zeros(classes)])
    options = {"maxiter": 2000, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x).reshape(2, classes)


def _fit_class(z: np.ndarray, y: np.ndarray, start: float) -> tuple[float, float]:
    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = parameters[0] * z + parameters[1]
        residual = sigmoid(scaled) - y
        value = np.logaddexp(0, np.where(y == 1, -scaled, scaled)).mean()
        return float(value), np.array([(residual * z).mean(), residual.mean()])

    slope, bias = _least(loss, 1, start).ravel().tolist()
    return slope, bias


def _fit_softmax(values: np.ndarray, truth: np.ndarray, free: np.ndarray, start: float) -> np.ndarray:
    scaled = start * values

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, bias = parameters.reshape(2, -1)
        scaled[:, free] = slope * values[:, free] + bias
        log_said = log_softmax(scaled)
        residual = (np.exp(log_said) - truth)[:, free] / len(values)
        gradient = np.concatenate([(residual * values[:, free]).sum(axis=0), residual.sum(axis=0)])
        return float(-(log_said * truth).sum() / len(values)), gradient

    return _least(loss, len(free), start)
