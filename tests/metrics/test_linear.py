"""Linear replicates: the derivative of every statistic, and how near such replicates are to exact ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from torchvice.measures.inference import Inference
from torchvice.metrics.interventions import ForegroundSensitivity, Median
from torchvice.metrics.joint import JointSpearman
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import (
    HeldOutSpearman,
    Mean,
    Pearson,
    Ratio,
    Spearman,
    WeightedStatistic,
    WithinSpearman,
)
from torchvice.metrics.weighted_scores import MeanAveragePrecision, MultilabelEce

Columns = dict[str, np.ndarray]


def columns(rows: int, seed: int = 0) -> Columns:
    """Columns with ties, and some connection between them, as pairs have."""
    rng = np.random.default_rng(seed)
    area, a = rng.random(rows).round(2), rng.normal(size=rows).round(1)
    b = (0.5 * a + rng.normal(size=rows) + area).round(1)
    iou = np.stack([0.1 * b + 0.5 + 0.02 * rng.normal(size=rows) - 1e-3 * (t - 3) ** 2 for t in range(8)], axis=1)
    found = {"a": a, "b": b, "area": area, "iou": np.clip(iou, 0, 1), "group": rng.integers(0, 4, rows)}
    found |= {"labels": rng.integers(1, 4, rows), "extent": rng.random(rows), "fold": np.arange(rows) % 5}
    return found | {
        "image": np.arange(rows) // 2,
        "scores": rng.random((rows, 5)),
        "shown": rng.random((rows, 5)) < 0.3,
    }


def of_pairs(image: str | None) -> Callable[[Columns], WeightedStatistic]:
    def made(c: Columns) -> WeightedStatistic:
        given = (c["a"], c["b"], c["group"], c["area"], c["labels"], c["extent"])
        return JointSpearman(*given, None if image is None else c[image])

    return made


STATISTICS: dict[str, Callable[[Columns], WeightedStatistic]] = {
    "ratio": lambda c: Ratio(c["a"], c["area"] + 1),
    "mean": lambda c: Mean(c["b"]),
    "pearson": lambda c: Pearson(c["a"], c["b"]),
    "spearman": lambda c: Spearman(c["a"], c["b"]),
    "within": lambda c: WithinSpearman(c["a"], c["b"], c["group"]),
    "within one group": lambda c: WithinSpearman(c["a"], c["b"], np.zeros(len(c["a"]))),
    "held out": lambda c: HeldOutSpearman(c["a"], c["iou"], c["fold"]),
    "partial": lambda c: PartialSpearman(c["a"], c["b"], c["area"], c["labels"]),
    "joint": of_pairs(None),
    "joint of images": of_pairs("image"),
    "foreground": lambda c: ForegroundSensitivity(c["a"] > 0.5, c["b"] > 0.8),
    "foreground above one half": lambda c: ForegroundSensitivity(c["a"] > -1, c["b"] > -1),
    "ece": lambda c: MultilabelEce(c["scores"], c["shown"].astype(int)),
    "map": lambda c: MeanAveragePrecision(c["scores"].round(2), c["shown"].astype(int)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_the_derivative_is_the_limit_of_small_changes(name: str) -> None:
    statistic = STATISTICS[name](columns(600))
    found = statistic.linear()
    assert found is not None
    value, change = found
    assert value == pytest.approx(statistic.value, abs=1e-12)
    assert change.shape == (statistic.rows,)
    assert abs(change.sum()) < 1e-12 * np.abs(change).sum() + 1e-13
    rows, step = np.random.default_rng(1).choice(statistic.rows, 25, replace=False), 1e-4
    weights = np.ones((50, statistic.rows))
    weights[np.arange(25), rows] += step
    weights[25 + np.arange(25), rows] -= step
    above, below = np.split(statistic(weights), 2)
    np.testing.assert_allclose((above - below) / (2 * step), change[rows], rtol=0, atol=1e-7 * np.abs(change).max())


@pytest.mark.parametrize("name", [*STATISTICS, "median"])
def test_linear_replicates_are_near_the_exact_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {**STATISTICS, "median": lambda c: Median(c["iou"][:, 0])}[name]
    statistic = made(columns(4000, seed=2))
    sampling = Resampling(statistic.rows, 400)
    exact = sampling.replicates_of(statistic)
    monkeypatch.setattr(type(statistic), "most_work", 0)
    assert sampling.linear(statistic)
    linear = sampling.replicates_of(statistic)
    assert np.corrcoef(linear, exact)[0, 1] > 0.97
    assert linear.std() == pytest.approx(exact.std(), rel=0.06)
    # 95 % intervals of the same width at the same place: within a tenth of it.
    ends, exact_ends = (np.quantile(drawn, [0.025, 0.975]) for drawn in (linear, exact))
    assert np.abs(ends - exact_ends).max() < 0.1 * np.ptp(exact_ends)


def test_size_alone_decides_and_the_method_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    c = columns(300)
    inference = Inference([str(image) for image in range(300)], 200)
    names, statistic = np.array([str(image) for image in range(300)], dtype=object), Spearman(c["a"], c["b"])
    monkeypatch.setattr(Spearman, "most_work", 300 * 200)
    exact = inference.replicates(statistic, names)
    monkeypatch.setattr(Spearman, "most_work", 300 * 200 - 1)
    linear = inference.replicates(statistic, names)
    assert (exact.linear, linear.linear) == (False, True)
    assert not np.array_equal(exact.values, linear.values)
    methods = [inference.interval(statistic.value, drawn) for drawn in (exact, linear, exact - linear, linear - exact)]
    said = [found and found.method for found in methods]
    assert said == ["percentile", *["percentile, linear replicates"] * 3]


def test_no_spread_has_no_derivative_and_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spearman, "most_work", 0)
    for a, b in (([1.0, 1.0, 1.0], [0.1, 0.3, 0.2]), ([0.1, 0.3, 0.2], [2.0, 2.0, 2.0])):
        assert Spearman(a, b).linear() is None
        assert np.isnan(Resampling(3, 100).replicates_of(Spearman(a, b))).all()


def test_a_function_of_weights_without_a_derivative_is_computed_exactly() -> None:
    sampling = Resampling(10, 100)
    assert not sampling.linear(lambda weights: weights.sum(axis=1))
