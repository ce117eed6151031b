"""debiased: no bias under calibration, also for outcomes that are fractions; an interval that covers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

import predictions
from torchvice.errors import ViceError
from torchvice.metrics import debiased_error, sigmoid
from torchvice.metrics.binning import equal_mass_edges, equal_mass_index
from torchvice.metrics.calibration_errors import calibration_events, event_reliability
from torchvice.metrics.debiased import DebiasedError


def test_by_hand() -> None:
    # One bin (less than 20 events), gaps .5 .5 -.5 .3: mean .2; squares about it .09 .09 .49 .01, variance .68 / 3.
    found = debiased_error([0.5, 0.5, 0.5, 0.7], [1, 1, 0, 1])
    assert found.squared == pytest.approx(0.2**2 - 0.68 / 3 / 4)
    assert (found.n, found.bins, found.left_out) == (4, 1, 0)
    assert found.root == 0
    assert debiased_error([0.5, 0.5], [1, 1]).root == 0.5


def test_it_is_the_mean_product_of_the_gaps_of_two_events() -> None:
    rng = np.random.default_rng(0)
    sure, right = rng.random(60), rng.integers(0, 3, 60) / 2
    index = equal_mass_index(sure, equal_mass_edges(sure, 6))
    total = 0.0
    for b in range(6):
        gaps = (right - sure)[index == b].tolist()
        total += len(gaps) / 60 * np.mean([x * y for x, y in itertools.permutations(gaps, 2)])
    assert debiased_error(sure, right).squared == pytest.approx(total)


def test_without_the_noise_it_is_the_plain_squared_error() -> None:
    # torchmetrics' `l2` is the root of the same sum, undebiased; in equal bins, which those of mass are here, too.
    sure = (np.arange(400) % 20 + 0.5) / 20
    right = (np.random.default_rng(1).random(400) < sure**2).astype(float)
    theirs = float(binary_calibration_error(torch.tensor(sure), torch.tensor(right).int(), 20, "l2")) ** 2
    found = debiased_error(sure, right, 20)
    gap = right - sure
    noise = sum(0.05 * gap[sure == s].var(ddof=1) / 20 for s in np.unique(sure))
    assert found.bins == 20
    assert found.squared + noise == pytest.approx(theirs, abs=1e-6)


def test_the_interval_by_hand() -> None:
    # One bin of n events: with v = s2 / n the ends e solve (squared - e)^2 = z^2 (2 v^2 + 4 e v).
    right = np.repeat([1.0, 0.0], [13, 2])
    found = debiased_error(np.full(15, 0.5), right)
    v, z = (right - 0.5).var(ddof=1) / 15, 1.959964
    for end in (found.low, found.high):
        assert (found.squared - end) ** 2 == pytest.approx(z**2 * (2 * v**2 + 4 * end * v), rel=1e-5)
    assert found.low < found.squared < found.high
    wider = debiased_error(np.full(15, 0.5), right, level=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_edges() -> None:
    for sure, right in (([], []), ([0.3], [1.0])):
        found = debiased_error(sure, right)
        assert (math.isnan(found.squared), math.isnan(found.low), math.isnan(found.root)) == (True, True, True)
        assert (found.n, found.left_out) == (0, len(sure))
    # Nothing varies: an error of 0, whose uncertainty is unknown.
    found = debiased_error(np.ones(30), np.ones(30))
    assert (found.squared, math.isnan(found.low), math.isnan(found.high)) == (0, True, True)
    # 29 equal confidences and a lone one above them: the lone one is left out and counted.
    found = debiased_error([0.5] * 29 + [0.9], [1, 0] * 15, bins=3)
    assert (found.n, found.left_out) == (29, 1) or (found.n, found.left_out) == (30, 0)
    for arguments, message in ((([0.5], [1, 0]), "one length"), (([math.nan], [1]), "NaN")):
        with pytest.raises(ViceError, match=message):
            debiased_error(*arguments)
    with pytest.raises(ViceError, match="`level`"):
        debiased_error([0.5], [1], level=95)
    with pytest.raises(ViceError, match="`bins`"):
        debiased_error([0.5] * 2, [1, 0], bins=0)


def confidences(rng: np.random.Generator, n: int, kind: str) -> np.ndarray:
    return rng.uniform(0.3, 1, n) if kind == "even" else 1 / (1 + np.exp(-np.abs(rng.normal(4, 2, n))))


CHANCES = {
    "calibrated": lambda c: c,
    "a little": lambda c: np.clip(c - 0.03, 0, 1),
    "confident": lambda c: c - 0.15 * c**2,
    "at the end": lambda c: np.where(c > 0.9, c - 0.1, c),
}


def replicates(rounds: int, n: int, kind: str, chance: str, fractions: bool) -> tuple[list[DebiasedError], float]:
    """Errors of `rounds` samples, and the binned squared error of a million of events."""
    rng, chances = np.random.default_rng(7), CHANCES[chance]
    found = []
    for _ in range(rounds):
        sure = confidences(rng, n, kind)
        labels = rng.integers(1, 4, n) if fractions else 1
        found.append(debiased_error(sure, rng.binomial(labels, chances(sure)) / labels))
    sure = confidences(rng, 1_000_000, kind)
    index = equal_mass_index(sure, equal_mass_edges(sure, found[0].bins))
    gap = np.bincount(index, chances(sure) - sure) / np.bincount(index)
    return found, float((gap**2 * np.bincount(index)).sum() / 1_000_000)


def assert_unbiased_and_covered(found: list[DebiasedError], truth: float, tolerance: float) -> None:
    squared = np.array([error.squared for error in found])
    assert abs(squared.mean() - truth) < 4 * squared.std() / math.sqrt(len(found)) + 0.01 * truth
    covered = np.mean([error.low <= truth <= error.high for error in found])
    assert covered == pytest.approx(0.95, abs=tolerance)


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("chance", ["calibrated", "confident"])
def test_unbiased_and_covered_in_a_small_simulation(chance: str, fractions: bool) -> None:
    found, truth = replicates(400, 400, "even", chance, fractions)
    assert_unbiased_and_covered(found, truth, 0.045)  # four standard errors of 400 rounds


@pytest.mark.slow
@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("kind", ["even", "sharp"])
def test_unbiased_and_covered_at_the_size_of_voc(kind: str, chance: str, fractions: bool) -> None:
    found, truth = replicates(3000, 1449, kind, chance, fractions)
    assert_unbiased_and_covered(found, truth, 0.03)


def test_the_textbook_variance_is_too_much_for_fractions() -> None:
    # Three fair labels an image: outcomes vary by 1/12, a (1 - a) takes off 1/4 and calls a calibrated model negative.
    rng = np.random.default_rng(3)
    ours, textbook = [], []
    for _ in range(300):
        sure, right = np.full(300, 0.5), rng.binomial(3, 0.5, 300) / 3
        ours.append(debiased_error(sure, right, 1).squared)
        a = right.mean()
        textbook.append((a - 0.5) ** 2 - a * (1 - a) / 299)
    error = np.std(ours) / math.sqrt(300)
    assert abs(np.mean(ours)) < 4 * error
    assert np.mean(textbook) < -4 * error


def test_the_binned_error_of_a_calibrated_model_is_biased_upward_and_this_one_is_not() -> None:
    squared, plain = [], []
    for seed in range(60):
        logits, y = predictions.multilabel(300, seed)
        events = calibration_events(sigmoid(logits), y)
        squared.append(debiased_error(*events).squared)
        plain.append(event_reliability(sigmoid(logits), y).ece)
    assert abs(np.mean(squared)) < 4 * np.std(squared) / math.sqrt(60)
    assert np.mean(plain) > 0.04
