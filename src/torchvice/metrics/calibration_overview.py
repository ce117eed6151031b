"""Every number of calibration of one set of predictions, with its null band or interval, under flat names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from torchvice.metrics.bands import null_band
from torchvice.metrics.calibration import multilabel_ece
from torchvice.metrics.calibration_errors import (
    calibration_events,
    classwise_ece,
    event_reliability,
    maximum_calibration_error,
)
from torchvice.metrics.debiased import debiased_error
from torchvice.metrics.losses import logits_and_targets, one_label, sigmoid, softmax
from torchvice.metrics.multilabel import Protocol, checked_protocol, top_one_accuracy
from torchvice.metrics.scoring import brier_score, negative_log_likelihood
from torchvice.metrics.smoothing import smooth_ece

__all__ = ["calibration_summary"]

LEVEL = 0.95
ASSUMPTION = "labels drawn from the probabilities, independent of each other"
BANDED = {
    "ece": ("image", False),
    "ece_equal_mass": ("image", True),
    "ece_pooled": ("cell", False),
    "ece_classwise": ("class", False),
}


def calibration_summary(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    exclusive: bool = False,
    bins: int = 20,
    protocol: Protocol = "strict",
    seed: int = 0,
    simulations: int = 1000,
) -> dict[str, Any]:
    """Compute every calibration error of one split, see docs/definitions.md, section Calibration.

    Args:
        logits, targets: (N, C), before sigmoid or softmax, and 0 or 1.
        exclusive: one label an image: probabilities are a softmax, and `ece` is that of the top label.
        bins: of every binned measure.
        protocol: of `ece` alone, unless exclusive.
        seed, simulations: of the null bands; 0 simulations for none.

    Returns:
        Numbers by name, NaN if undefined; `ece_by_class` (C,); `intervals` and `null_bands`, {name: {low, high,
        level, ...}}; `undefined`, {name: reason} of every name that is NaN.

    Raises:
        ViceError: shapes differ, other targets, NaN logits, an unknown protocol, or no bins.

    Example:
        >>> round(calibration_summary([[2.0, -2.0], [1.0, -1.0]], [[1, 0], [1, 0]], simulations=100)["ece"], 3)
        0.194
    """
    values, truth = logits_and_targets(logits, targets)
    if exclusive:
        one_label(values, truth)
    probabilities = softmax(values) if exclusive else sigmoid(values)
    published = checked_protocol(protocol) == "paper" and not exclusive
    found: dict[str, Any] = {"n": len(values), "nll": negative_log_likelihood(values, truth, exclusive)}
    if exclusive:
        found["top_one_accuracy"] = top_one_accuracy(values, truth)
    del values  # a gigabyte, of many images and classes
    _put_images(found, probabilities, truth, bins, exclusive)
    if published:  # from the logits as they came, in float32 where they are
        found["ece"] = multilabel_ece(sigmoid(logits), truth, bins, "paper")
    _put_cells(found, probabilities, truth, bins)
    found["brier"] = brier_score(probabilities, truth, exclusive)
    images = len(truth)
    del truth
    found["null_bands"] = {}
    for name, (unit, equal_mass) in BANDED.items() if simulations and images else ():
        if not (published and name == "ece"):
            found["null_bands"][name] = _band(probabilities, bins, unit, equal_mass, exclusive, simulations, seed)
    _put_reasons(found)
    return found


def _put_images(
    found: dict[str, Any], probabilities: np.ndarray, truth: np.ndarray, bins: int, exclusive: bool
) -> None:
    unit: Any = "top" if exclusive else "image"
    diagram = event_reliability(probabilities, truth, bins, unit)
    found["ece"] = diagram.ece
    found["mce"] = maximum_calibration_error(diagram)
    found["ece_equal_mass"] = event_reliability(probabilities, truth, bins, unit, equal_mass=True).ece
    events = calibration_events(probabilities, truth, unit)
    found["smooth_ece"] = smooth_ece(*events)
    error = debiased_error(*events, bins, LEVEL)
    found |= {"ece_l2_squared": error.squared, "ece_l2": error.root, "ece_l2_left_out": error.left_out}
    found["intervals"] = {}
    if not math.isnan(error.low):
        method = f"normal test inverted, {error.bins} bins of equal mass"
        for name, power in (("ece_l2_squared", 1.0), ("ece_l2", 0.5)):
            ends = {"low": error.low**power, "high": error.high**power}
            found["intervals"][name] = {**ends, "level": error.level, "method": method}


def _put_cells(found: dict[str, Any], probabilities: np.ndarray, truth: np.ndarray, bins: int) -> None:
    for ending, equal_mass in (("", False), ("_equal_mass", True)):
        found[f"ece_pooled{ending}"] = event_reliability(probabilities, truth, bins, "cell", equal_mass=equal_mass).ece
        classwise = classwise_ece(probabilities, truth, bins, equal_mass=equal_mass)
        found[f"ece_classwise{ending}"] = classwise.value
        if not equal_mass:
            found["ece_by_class"] = classwise.by_class.tolist()
            found["classes_without_positives"] = classwise.without_positives
    found["smooth_ece_pooled"] = smooth_ece(*calibration_events(probabilities, truth, "cell"))


def _band(
    probabilities: np.ndarray, bins: int, unit: Any, equal_mass: bool, exclusive: bool, simulations: int, seed: int
) -> dict[str, float | int | str]:
    unit = "top" if exclusive and unit == "image" else unit
    drawn: dict[str, Any] = {"exclusive": exclusive, "simulations": simulations, "level": LEVEL, "seed": seed}
    band = null_band(probabilities, bins, unit, equal_mass=equal_mass, **drawn)
    ends = {"low": band.low, "median": band.median, "high": band.high}
    return {**ends, "level": LEVEL, "simulations": simulations, "assumption": ASSUMPTION}


def _put_reasons(found: dict[str, Any]) -> None:
    if found["nll"] == math.inf:
        found["nll"] = math.nan
    undefined = [name for name, value in found.items() if isinstance(value, float) and math.isnan(value)]
    reasons = {
        "nll": "A true label has the probability 0: the log-likelihood is infinite.",
        "ece": "An image with neither label nor prediction has no accuracy (0/0).",
        "ece_l2": "Fewer than two images share a bin.",
        "ece_l2_squared": "Fewer than two images share a bin.",
    }
    default = "The measure is not defined for these images." if found["n"] else "There is no image."
    found["undefined"] = {name: reasons.get(name, default) if found["n"] else default for name in undefined}
    if found["n"]:
        for name in {"ece_l2", "ece_l2_squared"} - set(found["intervals"]) - set(undefined):
            found["undefined"][f"intervals.{name}"] = "The gaps of the images do not vary inside any bin."
