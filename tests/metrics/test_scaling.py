"""scaling: temperature and vector scaling against scikit-learn and netcal, on another split, and where nothing fits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import predictions
from torchvice.errors import ViceError
from torchvice.metrics import fit_temperature, fit_vector, negative_log_likelihood, null_band, sigmoid, softmax
from torchvice.metrics.calibration_errors import event_reliability as diagram
from torchvice.metrics.scaling import LogitScaling


def test_temperature_by_hand() -> None:
    # Logits +-4 that are right three times in four: the sigmoid must say 3/4, so that 4 / T = ln 3.
    fit = fit_temperature([[4.0], [4.0], [4.0], [-4.0]], [[1], [1], [0], [0]])
    assert fit.temperature == pytest.approx(4 / math.log(3))
    # The same of a softmax over two classes, whose logits differ by 4.
    fit = fit_temperature([[4.0, 0.0]] * 4, [[1, 0], [1, 0], [1, 0], [0, 1]], exclusive=True)
    assert fit.temperature == pytest.approx(4 / math.log(3))


def test_vector_by_hand() -> None:
    # Class 0 has two logits only: its sigmoid meets both shares, 1/2 and 1/3. Class 1 has one logit
    # for all: its bias meets the share of 1/5.
    z = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]
    fit = fit_vector(z, [[1, 1], [0, 0], [1, 0], [0, 0], [0, 0]])
    assert sigmoid(fit.apply(z)) == pytest.approx(np.array([[1 / 2, 1 / 5]] * 2 + [[1 / 3, 1 / 5]] * 3), abs=1e-5)
    assert (fit.bounded, fit.unfitted) == ((), ())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_temperature_of_the_maker_is_found(temperature: float, exclusive: bool) -> None:
    z, y = predictions.exclusive(4000, 1) if exclusive else predictions.multilabel(4000, 1)
    assert fit_temperature(temperature * z, y, exclusive).temperature == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("exclusive", [False, True])
def test_temperature_is_the_least_of_a_fine_grid(exclusive: bool) -> None:
    z, y = predictions.exclusive(200, 2) if exclusive else predictions.multilabel(200, 2)
    fit = fit_temperature(2 * z, y, exclusive)
    best = negative_log_likelihood(fit.apply(2 * z), y, exclusive)
    for t in fit.temperature * np.exp(np.linspace(-3, 3, 101)):
        assert best <= negative_log_likelihood(2 * z / t, y, exclusive) + 1e-12


def test_temperature_against_netcal() -> None:
    z, y = predictions.exclusive(1000, 3)
    theirs = pytest.importorskip("netcal.scaling").TemperatureScaling()
    torch.manual_seed(0)
    p = softmax(2 * z)
    theirs.fit(p, y.argmax(1))
    mine = softmax(fit_temperature(2 * z, y, exclusive=True).apply(2 * z))
    assert mine == pytest.approx(theirs.transform(p), abs=2e-3)


def test_slopes_and_biases_are_those_of_a_logistic_regression() -> None:
    z, y = predictions.multilabel(600, 4, 4)
    z = 2 * z + 1
    fit = fit_vector(z, y)
    for c in range(4):
        theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(z[:, [c]], y[:, c])
        assert fit.slope[c] == pytest.approx(theirs.coef_[0, 0], rel=1e-3)
        assert fit.bias[c] == pytest.approx(theirs.intercept_[0], abs=2e-3)


def test_vector_scaling_of_a_softmax_is_a_stationary_point() -> None:
    z, y = predictions.exclusive(800, 5)
    made = z * np.linspace(0.5, 2, 5) + np.linspace(-1, 1, 5)
    fit = fit_vector(made, y, exclusive=True)
    residual = softmax(fit.apply(made)) - y
    # The likelihood is concave: where both gradients vanish it is highest.
    assert np.abs(residual.mean(0)).max() < 1e-5
    assert np.abs((residual * made).mean(0)).max() < 1e-5
    assert np.mean(fit.bias) == pytest.approx(0)
    # It undoes what was done to the logits, up to chance.
    assert np.array(fit.slope) == pytest.approx(1 / np.linspace(0.5, 2, 5), rel=0.3)
    assert not fit.bounded


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
def test_fitted_on_one_split_it_calibrates_another(fit, exclusive: bool) -> None:
    def split(seed: int) -> tuple[np.ndarray, np.ndarray]:
        z, y = predictions.exclusive(3000, seed) if exclusive else predictions.multilabel(3000, seed)
        return 2.5 * z, y

    scaling = fit(*split(6), exclusive)
    z, y = split(7)
    assert negative_log_likelihood(scaling.apply(z), y, exclusive) < negative_log_likelihood(z, y, exclusive)
    say, unit = (softmax, "top") if exclusive else (sigmoid, "image")
    before, after = diagram(say(z), y, unit=unit), diagram(say(scaling.apply(z)), y, unit=unit)
    band = null_band(say(scaling.apply(z)), unit=unit, exclusive=exclusive, simulations=200)
    assert before.ece > 0.05
    assert after.ece < 1.3 * band.high


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.2, 5), st.booleans())
def test_a_fit_hangs_on_no_order_and_undoes_a_factor(seed: int, factor: float, exclusive: bool) -> None:
    z, y = predictions.exclusive(60, seed, 3) if exclusive else predictions.multilabel(60, seed, 10)
    fit = fit_temperature(z, y, exclusive)
    rows = np.random.default_rng(seed).permutation(60)
    assert fit_temperature(z[rows], y[rows], exclusive).temperature == pytest.approx(fit.temperature, rel=1e-6)
    if not fit.bounded:
        assert fit_temperature(factor * z, y, exclusive).temperature == pytest.approx(
            factor * fit.temperature, rel=1e-6
        )
    assert negative_log_likelihood(fit.apply(z), y, exclusive) <= negative_log_likelihood(z, y, exclusive) + 1e-12


@pytest.mark.parametrize("exclusive", [False, True])
def test_logits_that_part_all_and_that_reverse_all_end_at_the_bounds(exclusive: bool) -> None:
    y = np.eye(3, dtype=int)[[0, 1, 2, 0]]
    z = 2.0 * y - 1
    parted, reversed_ = fit_temperature(z, y, exclusive), fit_temperature(-z, y, exclusive)
    assert (parted.temperature, parted.bounded) == (pytest.approx(0.01), (0,))
    assert (reversed_.temperature, reversed_.bounded) == (pytest.approx(100), (0,))
    silent = fit_temperature(0 * z, y, exclusive)
    assert (silent.temperature, silent.bounded) == (1, ())


def test_classes_that_cannot_be_fitted_keep_the_common_temperature() -> None:
    z, y = predictions.multilabel(400, 8, 4)
    y[:, 0], y[:, 1] = 0, 1
    y[:, 2] = z[:, 2] > 0  # parted without an error
    fit = fit_vector(z, y)
    assert fit.unfitted == (0, 1, 2)
    common = fit_temperature(z, y).slope[0]
    assert fit.slope[:3] == (common,) * 3
    assert fit.bias[:3] == (0,) * 3
    alone = fit_vector(z[:, 3:], y[:, 3:])
    assert fit.slope[3] == pytest.approx(alone.slope[0], rel=1e-3)  # the start differs, the maximum does not


def test_a_reversed_class_ends_at_the_bound_and_not_below_it() -> None:
    z, y = predictions.multilabel(400, 9, 3)
    z[:, 1] *= -1
    fit = fit_vector(z, y)
    assert fit.bounded == (1,)
    assert fit.slope[1] == pytest.approx(0.01)
    assert sigmoid(fit.apply(z))[:, 1].mean() == pytest.approx(y[:, 1].mean(), abs=1e-4)


@pytest.mark.parametrize(
    "z",
    [
        [[30.0, 28.0], [28.0, 30.0]],
        [[3.0, 1.0], [0.2, 2.0]],
        [[3.0, 3.0], [1.0, 3.0]],  # of equal logits the likelihood rises to one half
    ],
)
@pytest.mark.parametrize("shift", [-40.0, 0.0, 40.0])
def test_a_softmax_without_an_error_ends_at_the_bound_wherever_its_logits_lie(
    z: list[list[float]], shift: float
) -> None:
    logits = np.column_stack([np.array(z), [0.1, 0.1]]) + shift
    fit = fit_temperature(logits, np.eye(3, dtype=int)[:2], exclusive=True)
    assert (fit.temperature, fit.bounded) == (pytest.approx(0.01), (0,))


def test_softmax_classes_without_images_and_parted_ones_are_named() -> None:
    z, y = predictions.exclusive(300, 10, 4)
    keep = y[:, 3] == 0
    fit = fit_vector(z[keep], y[keep], exclusive=True)
    assert (fit.unfitted, fit.bounded) == ((3,), ())
    assert np.isfinite(fit.apply(z)).all()
    one = fit_vector([[1.0, 0.0], [2.0, 1.0], [-1.0, 3.0]], [[1, 0]] * 3, exclusive=True)
    assert (one.unfitted, one.bounded) == ((1,), (0,))
    assert np.isfinite(one.slope + one.bias).all()


def test_json_holds_every_field() -> None:
    z, y = predictions.multilabel(100, 11, 3)
    for fit in (fit_temperature(z, y), fit_vector(z, y)):
        content = json.loads(json.dumps(fit.to_json()))
        assert LogitScaling(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}) == fit


def test_wrong_arguments() -> None:
    for fit in (fit_temperature, fit_vector):
        with pytest.raises(ViceError, match="at least one image"):
            fit(np.zeros((0, 2)), np.zeros((0, 2)))
        with pytest.raises(ViceError, match="finite"):
            fit([[math.inf]], [[1]])
        with pytest.raises(ViceError, match="one label in every row"):
            fit([[0.0, 1.0]], [[1, 1]], exclusive=True)
    vector = LogitScaling((1.0, 2.0), (0.0, 0.0), False, 5)
    with pytest.raises(ViceError, match=r"\(N, 2\) as in the fit"):
        vector.apply([[1.0, 2.0, 3.0]])
    with pytest.raises(ViceError, match="no temperature"):
        vector.temperature  # noqa: B018
