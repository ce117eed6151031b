"""Intervals cover what they promise, and Pearson's do not where losses are skewed: by simulation with known truth.

The logarithm of the loss is 1.6 z, the quality Phi(y), with z and y normal and correlated by -R.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from torchvice.metrics.association import pearson_is_reliable
from torchvice.metrics.comparison import paired_p
from torchvice.metrics.resampling import FEWEST_IMAGES, Resampling, interval
from torchvice.metrics.weighted import Pearson, Spearman, WeightedStatistic
from variants import slow_but

R, LOG_SD = 0.5, 1.6
TRUE_SPEARMAN = 6 / math.pi * math.asin(R / 2)
TRUE_LOG_PEARSON = R * math.sqrt(3 / math.pi)  # of a normal with a uniform: cov = R E[phi(y)]
# E[exp(s z) Phi(y)] = exp(s^2 / 2) Phi(-R s / sqrt 2), by shifting the mean of y.
TRUE_PEARSON = math.sqrt(12) * float(ndtr(R * LOG_SD / math.sqrt(2)) - 0.5) / math.sqrt(math.expm1(LOG_SD**2))


def sample(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses and qualities of images."""
    z, own = np.random.default_rng([seed, 77]).normal(size=(2, images))
    return np.exp(LOG_SD * z), ndtr(-R * z + math.sqrt(1 - R**2) * own)


def statistics(images: int, seed: int) -> dict[str, tuple[WeightedStatistic, float]]:
    loss, quality = sample(images, seed)
    return {
        "spearman": (Spearman(-loss, quality), TRUE_SPEARMAN),
        "log": (Pearson(-np.log(loss), quality), TRUE_LOG_PEARSON),
        "pearson": (Pearson(-loss, quality), TRUE_PEARSON),
    }


def coverage(images: int, rounds: int, replicates: int) -> dict[str, float]:
    """Share of samples whose 95 % interval holds the true value, of each statistic."""
    covered = dict.fromkeys(("spearman", "log", "pearson"), 0)
    for seed in range(rounds):
        draws = Resampling(images, replicates, seed)
        for name, (statistic, truth) in statistics(images, seed).items():
            found = interval(statistic.value, draws.replicates_of(statistic))
            covered[name] += found.low <= truth <= found.high
    return {name: count / rounds for name, count in covered.items()}


def test_truths_are_those_of_a_large_sample() -> None:
    for name, (statistic, truth) in statistics(400_000, 0).items():
        assert statistic.value == pytest.approx(truth, abs=0.02 if name == "pearson" else 0.005)


def test_intervals_in_small() -> None:
    found = coverage(200, 200, 300)
    assert found["spearman"] == pytest.approx(0.95, abs=0.045)
    assert found["log"] == pytest.approx(0.95, abs=0.045)
    assert found["pearson"] < 0.8


@pytest.mark.slow
def test_intervals_of_1449_images() -> None:
    found = coverage(1449, 1000, 500)
    assert found["spearman"] == pytest.approx(0.95, abs=0.02)
    assert found["log"] == pytest.approx(0.95, abs=0.02)
    assert found["pearson"] < 0.65


def test_linear_replicates_cover_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size at which they are not used; there it is the larger the better."""
    monkeypatch.setattr(WeightedStatistic, "most_work", 0)
    found = coverage(1449, 300, 300)
    assert found["spearman"] == pytest.approx(0.95, abs=0.035)
    assert found["log"] == pytest.approx(0.95, abs=0.035)


def test_such_losses_are_flagged() -> None:
    assert not any(pearson_is_reliable(sample(1449, seed)[0]) for seed in range(50))
    assert all(pearson_is_reliable(np.log(sample(1449, seed)[0])) for seed in range(50))


def false_claims(images: int, labels: int, rounds: int) -> tuple[float, float]:
    """How often something is found where nothing is: an interval of Spearman's without 0, and two models apart.

    A third of the variance of every column is that of the image.
    """
    alone, apart = 0, 0
    image = np.repeat(np.arange(images), labels)
    for seed in range(rounds):
        rng = np.random.default_rng([seed, images, labels])
        own, shared = rng.normal(size=(3, images * labels)), rng.normal(size=(3, images))[:, image]
        first, second, quality = math.sqrt(2 / 3) * own + math.sqrt(1 / 3) * shared
        draws = Resampling(images, 400, seed)
        one, other = (Spearman(column, quality) for column in (first, second))
        drawn = [draws.replicates_of(statistic, image) for statistic in (one, other)]
        found = interval(one.value, drawn[0])
        alone += not (np.isnan(found.low) or found.low <= 0 <= found.high)
        apart += paired_p(drawn[0] - drawn[1]) < 0.05
    return alone / rounds, apart / rounds


@pytest.mark.parametrize("labels", slow_but([3, 12], 3))
def test_few_images_would_establish_what_is_not_there(labels: int) -> None:
    assert min(false_claims(2, labels, 200)) > 0.15
    assert false_claims(3, labels, 200)[0] > 0.12
    assert max(false_claims(FEWEST_IMAGES, labels, 200)) < 0.14
    assert max(false_claims(20, labels, 200)) < 0.11
