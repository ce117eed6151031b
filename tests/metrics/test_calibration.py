"""calibration: ECE-ML of both protocols, and why the published one does not reach 0."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import reference
from torchvice.errors import ViceError
from torchvice.interop import read_table
from torchvice.metrics import confidence, multilabel_ece, multilabel_reliability, reliability, sample_accuracy, sigmoid
from torchvice.metrics.multilabel import sample_precision

ORIGINAL = np.load(reference.FILES / "D_metrics.npz")
with open(reference.FILES / "D_metrics.csv", newline="") as file:
    TABLE = {row["set"]: float(row["ece"] or "nan") for row in csv.DictReader(file)}

# Away from the edges of the bins, which are float32 numbers in src and exact fractions in the loop.
PROBABILITIES = hnp.arrays(np.float64, (8, 3), elements=st.floats(0.001, 0.999).map(lambda p: round(p, 3) + 1e-4))
TARGETS = hnp.arrays(np.uint8, (8, 3), elements=st.integers(0, 1))


@pytest.mark.parametrize("name", TABLE)
def test_numbers_of_the_original(name: str) -> None:
    found = multilabel_reliability(ORIGINAL[f"{name}/prob"], ORIGINAL[f"{name}/target"])
    assert found.ece == pytest.approx(TABLE[name], abs=1e-5, nan_ok=True)
    assert found.count.tolist() == ORIGINAL[f"{name}/bin_count"].tolist()
    published = np.where(found.count > 0, ORIGINAL[f"{name}/bin_accuracy"], np.nan)
    shown = ~np.isnan(found.accuracy)
    assert found.accuracy[shown] == pytest.approx(published[shown], abs=1e-5)


def test_bins_of_the_original_chain() -> None:
    table = read_table(reference.FILES / "E2E_miou_loss_table.csv")
    published = json.loads((reference.FILES / "E2E_test_resnet.json").read_text())["ece"]
    targets, predicted = np.zeros((48, 20)), np.zeros((48, 20))
    for row in range(48):
        targets[row, table.label[row]] = 1  # type: ignore[index]
        predicted[row, table.prediction[row]] = 1  # type: ignore[index]
    found = reliability(table.confidence, sample_accuracy(predicted, targets))  # type: ignore[arg-type]
    assert found.ece == pytest.approx(published["ml_ece"], abs=1e-5)
    assert found.count.tolist() == published["counts"]
    assert np.nan_to_num(found.accuracy) == pytest.approx(published["bins"], abs=1e-5)


def test_ece_by_hand() -> None:
    # Image 1: confidence (.9 + .7) / 2 = .8, label sets {0, 1} against {0}: accuracy 1/2, precision 1/2.
    # Image 2: confidence .4 without a prediction, accuracy 0, and the likeliest class is true: precision 1.
    p, y = [[0.9, 0.7, 0.1], [0.4, 0.2, 0.1]], [[1, 0, 0], [1, 0, 0]]
    assert multilabel_ece(p, y) == pytest.approx((abs(0.8 - 0.5) + abs(0.4 - 0.0)) / 2)
    assert multilabel_ece(p, y, protocol="strict") == pytest.approx((abs(0.8 - 0.5) + abs(0.4 - 1.0)) / 2)
    # In one bin the gaps cancel: mean confidence .6 against mean accuracy .25 and mean precision .75.
    assert multilabel_ece(p, y, bins=1) == pytest.approx(0.35)
    assert multilabel_ece(p, y, bins=1, protocol="strict") == pytest.approx(0.15)


@settings(deadline=None)
@given(PROBABILITIES, TARGETS, st.integers(1, 20))
def test_ece_is_the_plain_loop(p: np.ndarray, y: np.ndarray, bins: int) -> None:
    sure = [reference.confidence(row) for row in p]
    edges = {round(c * bins, 2) for c in sure}
    if any(edge == int(edge) for edge in edges):
        return  # too near to an edge for the loop
    right = [reference.jaccard(row, true) for row, true in zip(p, y, strict=True)]
    if not any(math.isnan(value) for value in right):
        assert multilabel_ece(p, y, bins) == pytest.approx(reference.ece(sure, right, bins, False), abs=1e-9)
    right = [reference.precision(row, true) for row, true in zip(p, y, strict=True)]
    assert multilabel_ece(p, y, bins, "strict") == pytest.approx(reference.ece(sure, right, bins, True), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(PROBABILITIES, TARGETS, st.permutations(range(8)))
def test_ece_hangs_on_no_order_and_keeps_its_bounds(p: np.ndarray, y: np.ndarray, rows: list[int]) -> None:
    found = multilabel_reliability(p, y, protocol="strict")
    assert 0 <= found.ece <= 1
    assert found.count.sum() == found.n == 8
    assert found.outside == 0
    assert multilabel_ece(p[rows], y[rows], protocol="strict") == pytest.approx(found.ece)
    # Every image twice is as well calibrated; merging bins can only let gaps cancel.
    assert multilabel_ece(np.tile(p, (2, 1)), np.tile(y, (2, 1)), protocol="strict") == pytest.approx(found.ece)
    assert multilabel_ece(p, y, 1, "strict") <= found.ece + 1e-12


def calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A model of 20 classes, of which an image shows 1.3, whose every probability is the chance of its label."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-6, 1.5, (n, 20))
    likely = rng.random(logits.shape) < 0.09
    logits[likely] = rng.normal(1, 2, int(likely.sum()))
    p = sigmoid(logits)
    return p, rng.random(p.shape) < p


def test_a_calibrated_model_reaches_0_under_strict_and_not_as_published() -> None:
    p, y = calibrated(60_000, seed=2022)
    assert multilabel_ece(p, y, protocol="strict") < 0.01
    # As published an image with neither label nor prediction has no number; without those images:
    defined = y.any(1) | (p > 0.5).any(1)
    assert multilabel_ece(p[defined], y[defined]) == pytest.approx(0.1, abs=0.01)
    # The confidence is the expectation of the precision, not of the Jaccard index.
    sure = confidence(p)
    assert sure.mean() == pytest.approx(sample_precision(p, y).mean(), abs=0.005)
    assert sure[defined].mean() > sample_accuracy(p[defined] > 0.5, y[defined]).mean() + 0.05


def test_noise_of_the_bins_is_there_at_the_size_of_voc() -> None:
    # Binning makes a gap of every fluctuation: 1449 calibrated images give 2 to 3 %, 60000 give 0.5 %.
    p, y = calibrated(1449, seed=1)
    assert 0.01 < multilabel_ece(p, y, protocol="strict") < 0.04


def test_reliability_by_hand() -> None:
    # Bins (0, .5] and (.5, 1]: .5 belongs to the lower one, with .2; 0 to none as published, to the first under strict.
    found = reliability([0.0, 0.2, 0.5, 0.6], [1.0, 0.0, 1.0, 0.5], bins=2)
    assert found.count.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.35, 0.6])
    assert found.accuracy.tolist() == pytest.approx([0.5, 0.5])
    assert (found.n, found.outside) == (4, 1)
    # Weighted by count / N with all four images in N: (2 * .15 + 1 * .1) / 4.
    assert found.ece == pytest.approx(0.1)
    strict = reliability([0.0, 0.2, 0.5, 0.6], [1.0, 0.0, 1.0, 0.5], bins=2, protocol="strict")
    assert (strict.count.tolist(), strict.outside) == ([3, 1], 0)
    assert strict.ece == pytest.approx((3 * abs(0.7 / 3 - 2 / 3) + 0.1) / 4)


def test_an_image_without_accuracy() -> None:
    found = reliability([0.2, 0.9, 0.95], [np.nan, 1.0, 0.5], bins=2)
    assert np.isnan(found.accuracy).tolist() == [True, False]
    assert math.isnan(found.ece)
    strict = reliability([0.2, 0.9, 0.95], [np.nan, 1.0, 0.5], bins=2, protocol="strict")
    assert (strict.n, strict.count.tolist()) == (2, [0, 2])
    assert strict.ece == pytest.approx(0.925 - 0.75)
    assert math.isnan(multilabel_ece([[0.1]], [[0]]))
    assert multilabel_ece([[0.1]], [[0]], protocol="strict") == pytest.approx(0.1)


def test_empty_bins_and_no_image() -> None:
    found = reliability([0.95], [1.0])
    assert np.isnan(found.confidence[:19]).all()
    assert found.ece == pytest.approx(0.05)
    for protocol in ("paper", "strict"):
        nothing = reliability([], [], protocol=protocol)
        assert math.isnan(nothing.ece)
        assert (nothing.n, nothing.count.sum()) == (0, 0)


def test_one_half_is_predicted_in_the_published_confidence_only() -> None:
    # Confidence (.5 + .9) / 2 = .7 as published, .9 under strict; the decision is p > .5 in both.
    p, y = [[0.5, 0.9]], [[0, 1]]
    assert multilabel_ece(p, y) == pytest.approx(0.3)
    assert multilabel_ece(p, y, protocol="strict") == pytest.approx(0.1)


def test_tensors_serve_and_inputs_stay() -> None:
    p, y = np.array([[0.75, 0.25], [0.5, 0.625]]), np.array([[1, 0], [0, 1]])
    p.setflags(write=False)
    y.setflags(write=False)
    for protocol in ("paper", "strict"):
        expected = multilabel_ece(p, y, protocol=protocol)
        tensor = torch.tensor(p.tolist(), dtype=torch.bfloat16, requires_grad=True)
        assert multilabel_ece(tensor, torch.tensor(y.tolist()), protocol=protocol) == expected


def test_wrong_arguments() -> None:
    with pytest.raises(ViceError, match=r"must lie in \[0, 1\].*") as error:
        multilabel_ece([[2.5]], [[1]])
    assert "sigmoid" in error.value.way_out
    with pytest.raises(ViceError, match="`bins` must be at least 1"):
        multilabel_ece([[0.5]], [[1]], bins=0)
    with pytest.raises(ViceError, match="`confidence` 1, `accuracy` 2"):
        reliability([0.5], [1.0, 0.0])
    with pytest.raises(ViceError, match="`protocol` must be"):
        multilabel_ece([[0.5]], [[1]], protocol="loose")  # type: ignore[arg-type]
