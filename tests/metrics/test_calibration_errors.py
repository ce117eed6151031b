"""calibration_errors: cells, classes, top labels, equal mass, the largest gap; and the proper scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

import predictions
import reference
from torchvice.errors import ViceError
from torchvice.metrics import (
    brier_score,
    classwise_ece,
    maximum_calibration_error,
    multilabel_ece,
    negative_log_likelihood,
    sigmoid,
    softmax,
)
from torchvice.metrics.calibration_errors import calibration_events, event_reliability

# Two images of two classes, for the hand.
P, Y = [[0.9, 0.2], [0.6, 0.1]], [[1, 0], [0, 0]]


def test_by_hand() -> None:
    # Image: both are predicted in class 0 alone: gaps .9 - 1 and .6 - 0 in bins of their own: (.1 + .6) / 2.
    assert event_reliability(P, Y).ece == pytest.approx(0.35)
    # Cell: gaps -.1, .2, .6, .1 in four bins: 1 / 4 of the sum of their sizes.
    assert event_reliability(P, Y, unit="cell").ece == pytest.approx(0.25)
    # In one bin the gaps cancel: (-.1 + .2 + .6 + .1) / 4.
    assert event_reliability(P, Y, 1, "cell").ece == pytest.approx(0.2)
    # Class 0: (.1 + .6) / 2; class 1, without a positive: (.2 + .1) / 2.
    found = classwise_ece(P, Y)
    assert found.by_class.tolist() == pytest.approx([0.35, 0.15])
    assert (found.value, found.without_positives, found.positives.tolist()) == (pytest.approx(0.25), 1, [1, 0])
    assert event_reliability(P, Y, unit="top").ece == pytest.approx(0.35)
    assert maximum_calibration_error(event_reliability(P, Y, unit="cell")) == pytest.approx(0.6)


def test_equal_mass_by_hand() -> None:
    # The median of .1 .2 .6 .9 is .4: bins [.1, .4] and (.4, .9], gaps .15 - 0 and .75 - .5.
    found = event_reliability(P, Y, 2, "cell", equal_mass=True)
    assert found.edges.tolist() == pytest.approx([0.1, 0.4, 0.9])
    assert found.count.tolist() == [2, 2]
    assert found.ece == pytest.approx((0.15 + 0.25) / 2)
    # By class two bins part the two images: as in bins of equal width.
    assert classwise_ece(P, Y, 2, equal_mass=True).by_class.tolist() == pytest.approx([0.35, 0.15])


def test_the_image_is_the_event_of_the_headline() -> None:
    logits, y = predictions.multilabel(300, 0)
    p = sigmoid(1.5 * logits)
    assert event_reliability(p, y).ece == multilabel_ece(p, y, protocol="strict")


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_cells_against_torchmetrics_and_netcal(bins: int) -> None:
    logits, y = predictions.multilabel(200, 1)
    p = sigmoid(1.5 * logits)
    found = event_reliability(p, y, bins, "cell")
    probability, true = torch.tensor(p).flatten(), torch.tensor(y).flatten()
    assert found.ece == pytest.approx(float(binary_calibration_error(probability, true, bins, "l1")), abs=1e-6)
    largest = maximum_calibration_error(found)
    assert largest == pytest.approx(float(binary_calibration_error(probability, true, bins, "max")), abs=1e-6)
    netcal = pytest.importorskip("netcal.metrics")
    assert found.ece == pytest.approx(netcal.ECE(bins).measure(p.ravel(), y.ravel()), abs=1e-6)
    assert largest == pytest.approx(netcal.MCE(bins).measure(p.ravel(), y.ravel()), abs=1e-6)


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_top_label_against_torchmetrics_and_netcal(bins: int) -> None:
    logits, y = predictions.exclusive(400, 2)
    p, label = softmax(2 * logits), y.argmax(1)
    found = event_reliability(p, y, bins, "top").ece
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(label), 5, bins, "l1")
    assert found == pytest.approx(float(theirs), abs=1e-6)
    assert found == pytest.approx(pytest.importorskip("netcal.metrics").ECE(bins).measure(p, label), abs=1e-6)


@pytest.mark.parametrize("bins", [1, 7, 20])
def test_equal_mass_against_scikit_learn(bins: int) -> None:
    logits, y = predictions.multilabel(200, 3)
    p = sigmoid(1.5 * logits)
    found = event_reliability(p, y, bins, "cell", equal_mass=True)
    right, sure = calibration_curve(y.ravel(), p.ravel(), n_bins=bins, strategy="quantile")
    assert found.accuracy == pytest.approx(right)
    assert found.confidence == pytest.approx(sure)
    assert found.count.max() - found.count.min() <= 1


def test_classwise_is_the_plain_loop() -> None:
    logits, y = predictions.multilabel(80, 4, classes=6)
    p = sigmoid(1.5 * logits)
    loop = [reference.ece(p[:, c].tolist(), y[:, c].tolist(), 20, takes_zero=True) for c in range(6)]
    found = classwise_ece(p, y)
    assert found.by_class == pytest.approx(loop)
    assert found.value == pytest.approx(reference.mean(loop))
    one = [event_reliability(p[:, [c]], y[:, [c]], unit="cell", equal_mass=True).ece for c in range(6)]
    assert classwise_ece(p, y, equal_mass=True).by_class == pytest.approx(one)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_no_order_matters_and_copies_change_nothing(equal_mass: bool) -> None:
    logits, y = predictions.multilabel(60, 5, classes=4)
    p = sigmoid(logits).round(1)  # ties, on the edges too
    rows = np.random.default_rng(0).permutation(60)
    for unit in ("image", "cell", "top"):
        found = event_reliability(p, y, 10, unit, equal_mass=equal_mass)
        assert found.count.sum() == found.n
        assert 0 <= found.ece <= maximum_calibration_error(found) <= 1
        shuffled = event_reliability(p[rows], y[rows], 10, unit, equal_mass=equal_mass).ece
        assert shuffled == pytest.approx(found.ece)
    found = classwise_ece(p, y, 10, equal_mass=equal_mass).value
    assert classwise_ece(p[rows], y[rows], 10, equal_mass=equal_mass).value == pytest.approx(found)
    assert classwise_ece(np.tile(p, (3, 1)), np.tile(y, (3, 1)), 10).value == pytest.approx(
        classwise_ece(p, y, 10).value
    )


def test_equal_values_share_a_bin() -> None:
    p, y = np.full((8, 1), 0.25), np.array([[1], [0], [0], [0]] * 2)
    found = event_reliability(p, y, 4, "cell", equal_mass=True)
    assert (found.count.tolist(), found.ece) == ([8], 0.0)
    p[:4] = 0.0  # half of the values are 0: the lower quartiles coincide
    found = event_reliability(p, y, 4, "cell", equal_mass=True)
    assert found.count.sum() == 8
    assert found.ece == pytest.approx((4 * 0.25 + 4 * 0.0) / 8)


def test_what_is_certain_and_true_is_perfect() -> None:
    y = np.eye(3, dtype=int)
    for equal_mass in (False, True):
        assert event_reliability(y, y, unit="cell", equal_mass=equal_mass).ece == 0
        assert classwise_ece(y, y, equal_mass=equal_mass).value == 0
        assert event_reliability(1 - y, y, unit="cell", equal_mass=equal_mass).ece == 1
    assert brier_score(y, y) == brier_score(y, y, exclusive=True) == 0
    assert (brier_score(1 - y, y), brier_score(y[[1, 2, 0]], y, exclusive=True)) == (1, 2)


def test_without_images() -> None:
    p, y = np.zeros((0, 3)), np.zeros((0, 3))
    for unit in ("image", "cell", "top"):
        for equal_mass in (False, True):
            found = event_reliability(p, y, unit=unit, equal_mass=equal_mass)
            assert math.isnan(found.ece)
            assert math.isnan(maximum_calibration_error(found))
    assert np.isnan(classwise_ece(p, y).by_class).all()
    assert math.isnan(brier_score(p, y))
    assert math.isnan(negative_log_likelihood(p, y))


def test_wrong_arguments() -> None:
    with pytest.raises(ViceError, match="`unit` must be"):
        calibration_events(P, Y, "pixel")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="must lie in"):
        classwise_ece([[2.0]], [[1]])
    for equal_mass in (False, True):
        with pytest.raises(ViceError, match="`bins` must be at least 1"):
            event_reliability(P, Y, 0, equal_mass=equal_mass)
        with pytest.raises(ViceError, match="`bins` must be at least 1"):
            classwise_ece(P, Y, 0, equal_mass=equal_mass)
    with pytest.raises(ViceError, match="one label in every row"):
        brier_score(P, [[1, 1], [1, 0]], exclusive=True)


def test_scores_by_hand() -> None:
    # Squares .01 .04 .36 .01: the mean of four cells; of two rows .05 + .37 the mean.
    assert brier_score(P, Y) == pytest.approx(0.42 / 4)
    assert brier_score([[0.8, 0.2], [0.3, 0.7]], [[1, 0], [1, 0]], exclusive=True) == pytest.approx((0.08 + 0.98) / 2)
    assert negative_log_likelihood([[0.0, 0.0]], [[1, 0]]) == pytest.approx(math.log(2))
    assert negative_log_likelihood([[0.0, math.log(3)]], [[1, 0]], exclusive=True) == pytest.approx(math.log(4))


def test_scores_against_scikit_learn() -> None:
    logits, y = predictions.multilabel(100, 6, classes=5)
    p = sigmoid(logits)
    assert brier_score(p, y) == pytest.approx(brier_score_loss(y.ravel(), p.ravel()))
    assert negative_log_likelihood(logits, y) == pytest.approx(log_loss(y.ravel(), p.ravel()))
    logits, y = predictions.exclusive(100, 7)
    p = softmax(logits)
    assert brier_score(p, y, exclusive=True) == pytest.approx(brier_score_loss(y.argmax(1), p, scale_by_half=False))
    assert negative_log_likelihood(logits, y, exclusive=True) == pytest.approx(log_loss(y.argmax(1), p))


@pytest.mark.parametrize("unit", ["image", "cell", "top"])
def test_the_outcome_of_a_calibrated_model_is_what_it_promises(unit: str) -> None:
    logits, y = predictions.multilabel(4000, 8)
    sure, right = calibration_events(sigmoid(logits), y, unit)  # type: ignore[arg-type]
    noise = (right - sure).std() / math.sqrt(len(sure))
    assert abs((right - sure).mean()) < 4 * noise


def test_inputs_stay_and_tensors_serve() -> None:
    p, y = np.array(P), np.array(Y)
    p.setflags(write=False)
    y.setflags(write=False)
    for equal_mass in (False, True):
        expected = classwise_ece(p, y, equal_mass=equal_mass).value
        assert (
            classwise_ece(torch.tensor(P, dtype=torch.float64), torch.tensor(Y), equal_mass=equal_mass).value
            == expected
        )
    assert event_reliability(torch.tensor(P, dtype=torch.float64), torch.tensor(Y), unit="cell").ece == pytest.approx(
        0.25
    )
