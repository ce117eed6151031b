"""calibration_overview: every number is that of its own function, and what is undefined says why."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import predictions
from torchvice.errors import ViceError
from torchvice.metrics import (
    brier_score,
    calibration_summary,
    classwise_ece,
    debiased_error,
    maximum_calibration_error,
    multilabel_ece,
    negative_log_likelihood,
    null_band,
    sigmoid,
    smooth_ece,
    softmax,
    top_one_accuracy,
)
from torchvice.metrics.calibration_errors import calibration_events, event_reliability


def numbers(found: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


@pytest.mark.parametrize("exclusive", [False, True])
def test_every_number_is_that_of_its_function(exclusive: bool) -> None:
    z, y = predictions.exclusive(200, 0) if exclusive else predictions.multilabel(200, 0)
    found = calibration_summary(z, y, exclusive=exclusive, bins=15, simulations=50, seed=3)
    p, unit = (softmax(z), "top") if exclusive else (sigmoid(z), "image")
    events = calibration_events(p, y, unit)
    error = debiased_error(*events, 15)
    expected = {
        "n": 200,
        "ece": event_reliability(p, y, 15, unit).ece,
        "ece_equal_mass": event_reliability(p, y, 15, unit, equal_mass=True).ece,
        "mce": maximum_calibration_error(event_reliability(p, y, 15, unit)),
        "smooth_ece": smooth_ece(*events),
        "ece_l2_squared": error.squared,
        "ece_l2": error.root,
        "ece_l2_left_out": 0,
        "ece_pooled": event_reliability(p, y, 15, "cell").ece,
        "ece_pooled_equal_mass": event_reliability(p, y, 15, "cell", equal_mass=True).ece,
        "smooth_ece_pooled": smooth_ece(p.ravel(), y.ravel()),
        "ece_classwise": classwise_ece(p, y, 15).value,
        "ece_classwise_equal_mass": classwise_ece(p, y, 15, equal_mass=True).value,
        "classes_without_positives": classwise_ece(p, y, 15).without_positives,
        "brier": brier_score(p, y, exclusive),
        "nll": negative_log_likelihood(z, y, exclusive),
    }
    if exclusive:
        expected["top_one_accuracy"] = top_one_accuracy(z, y)
    assert numbers(found) == pytest.approx(expected)
    assert found["ece_by_class"] == pytest.approx(classwise_ece(p, y, 15).by_class)
    assert found["undefined"] == {}
    assert found["intervals"]["ece_l2_squared"]["high"] == pytest.approx(error.high)
    assert found["intervals"]["ece_l2"]["high"] == pytest.approx(math.sqrt(error.high))
    for name, (of, mass) in {
        "ece": (unit, False),
        "ece_equal_mass": (unit, True),
        "ece_classwise": ("class", False),
    }.items():
        band = null_band(p, 15, of, equal_mass=mass, exclusive=exclusive, simulations=50, seed=3)  # type: ignore[arg-type]
        stated = found["null_bands"][name]
        assert (stated["low"], stated["median"], stated["high"]) == (band.low, band.median, band.high)
        assert "independent" in stated["assumption"]
    json.dumps(found, allow_nan=False)


def test_paper_is_the_published_number_without_a_band() -> None:
    z, y = predictions.multilabel(100, 1)
    y[:, 0] = 1  # every image has a label
    single = z.astype(np.float32)
    found = calibration_summary(single, y, protocol="paper", simulations=20)
    assert found["ece"] == multilabel_ece(sigmoid(single), y)
    assert set(found["null_bands"]) == {"ece_equal_mass", "ece_pooled", "ece_classwise"}
    found = calibration_summary([[-2.0]], [[0]], protocol="paper", simulations=0)
    assert math.isnan(found["ece"])
    assert "neither label nor prediction" in found["undefined"]["ece"]
    assert found["null_bands"] == {}


@pytest.mark.parametrize("exclusive", [False, True])
def test_without_images_everything_is_undefined_with_a_reason(exclusive: bool) -> None:
    found = calibration_summary(np.zeros((0, 3)), np.zeros((0, 3)), exclusive=exclusive)
    undefined = {name for name, value in numbers(found).items() if math.isnan(value)}
    assert undefined == set(numbers(found)) - {"n", "ece_l2_left_out", "classes_without_positives"}
    assert found["undefined"] == dict.fromkeys(undefined, "There is no image.")


def test_one_image_infinite_losses_and_gaps_that_do_not_vary() -> None:
    found = calibration_summary([[3.0, -1.0]], [[1, 0]], simulations=10)
    assert set(found["undefined"]) == {"ece_l2", "ece_l2_squared"}
    found = calibration_summary([[math.inf], [-math.inf]], [[0], [0]], simulations=10)
    assert "infinite" in found["undefined"]["nll"]
    found = calibration_summary([[1.0]] * 30, [[1]] * 30, simulations=10)
    assert set(found["undefined"]) == {"intervals.ece_l2", "intervals.ece_l2_squared"}
    assert found["ece_l2"] == pytest.approx(1 - float(sigmoid([1.0])[0]))


def test_inputs_stay_tensors_serve_and_mistakes_are_told() -> None:
    z, y = predictions.multilabel(30, 2, 3)
    z.setflags(write=False)
    y.setflags(write=False)
    found = calibration_summary(z, y, simulations=20)
    again = calibration_summary(torch.tensor(z.tolist(), dtype=torch.float64), torch.tensor(y.tolist()), simulations=20)
    assert again == found
    with pytest.raises(ViceError, match="one label in every row"):
        calibration_summary(z, np.zeros_like(y), exclusive=True)
    with pytest.raises(ViceError, match="`protocol`"):
        calibration_summary(z, y, protocol="loose")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="`bins`"):
        calibration_summary(z, y, bins=0)
