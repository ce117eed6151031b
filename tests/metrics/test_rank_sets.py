"""Confidence sets of ranks against a plain loop over pairs, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics import rank_sets as module
from torchvice.metrics.rank_sets import RankSets, rank_sets, reach
from ways_out import tried


def world(models: int = 12, images: int = 80, replicates: int = 400, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Means of correlated columns, their bootstrap replicates, and their influence."""
    rng = np.random.default_rng(seed)
    columns = np.linspace(0, 1.5, models)[:, None] + rng.normal(size=images) + rng.normal(size=(models, images))
    weights = rng.multinomial(images, np.full(images, 1 / images), replicates)
    return columns.mean(axis=1), columns @ weights.T / images, (columns - columns.mean(axis=1, keepdims=True)) / images


def by_loops(
    values: np.ndarray,
    replicates: np.ndarray,
    influence: np.ndarray,
    linear: np.ndarray | None = None,
    level: float = 0.95,
) -> RankSets:
    """The same by loops over ordered pairs, in float64."""
    m, freedom = len(values), influence.shape[1] - 1

    def error_of(j: int, k: int) -> float:
        squared = ((influence[j] - influence[k]) ** 2).sum()
        if linear is not None:
            of_both = [np.var(drawn[j] - drawn[k], ddof=1) for drawn in (replicates, linear)]
            squared += max(0.0, of_both[0] - of_both[1])
        return float(np.sqrt(squared))

    error = {(j, k): error_of(j, k) for j in range(m) for k in range(m) if j != k}
    t = {(j, k): (values[j] - values[k]) / error[j, k] for j, k in error}
    z = {pair: np.sign(v) * np.sqrt(freedom * np.log(1 + v * v / freedom)) for pair, v in t.items()}
    away = replicates - replicates.mean(axis=1, keepdims=True)
    drawn = {(j, k): (away[j] - away[k]) / error[j, k] for j, k in error}
    better: set[tuple[int, int]] = set()
    steps = 0
    while True:
        left = [drawn[pair] for pair in error if pair not in better]
        critical = float(np.quantile(np.max(left, axis=0), level))
        steps += 1
        more = {pair for pair in error if z[pair] > critical}
        if more == better or (steps > 1 and len(more) == len(better)):
            break
        better = more
    alone = [
        float(np.quantile(np.max([np.abs(drawn[j, k]) for k in range(m) if k != j], axis=0), level)) for j in range(m)
    ]
    return RankSets(
        rank=np.array([1 + sum(values[k] > values[j] for k in range(m)) for j in range(m)]),
        low=np.array([1 + sum((k, j) in better for k in range(m)) for j in range(m)]),
        high=np.array([m - sum((j, k) in better for k in range(m)) for j in range(m)]),
        alone_low=np.array([1 + sum(z[k, j] > alone[j] for k in range(m) if k != j) for j in range(m)]),
        alone_high=np.array([m - sum(z[j, k] > alone[j] for k in range(m) if k != j) for j in range(m)]),
        critical=critical,
        steps=steps,
        pairs=len(better),
        level=level,
    )


@pytest.mark.parametrize("chooses", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_sets_are_those_of_a_loop_over_pairs(seed: int, chooses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 500)  # many blocks, of which the last is not full
    values, replicates, influence = world(seed=seed)
    linear = replicates if chooses else None
    if chooses:  # some models vary by more than their influence, some by less
        replicates = replicates * np.linspace(0.8, 1.5, len(values))[:, None]
    found = rank_sets(values, replicates, influence, threads=2, linear=linear)
    expected = by_loops(values, replicates, influence, linear)
    for name in ("rank", "low", "high", "alone_low", "alone_high"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    assert found.pairs == expected.pairs > 0
    assert found.critical == pytest.approx(expected.critical, rel=1e-5)


def test_later_steps_tell_more_apart_and_never_less() -> None:
    values, replicates, influence = world(20, 120)
    found = rank_sets(values, replicates, influence)
    assert found.steps > 1
    one = float(np.quantile(module._largest(*_studentised(replicates, influence), 1).max(axis=0), 0.95))
    assert found.critical < one


def _studentised(replicates: np.ndarray, influence: np.ndarray) -> tuple[np.ndarray, ...]:
    away = (replicates - replicates.mean(axis=1, keepdims=True)).astype(np.float32)
    errors = module.standard_errors(replicates, influence)
    inverse = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0).astype(np.float32)
    return away, inverse, inverse


def test_the_order_of_the_models_does_not_matter_and_neither_do_shift_and_scale() -> None:
    values, replicates, influence = world()
    found, order = rank_sets(values, replicates, influence), np.random.default_rng(3).permutation(len(values))
    turned = rank_sets(3 * values[order] - 7, 3 * replicates[order] - 7, 3 * influence[order])
    assert turned.low.tolist() == found.low[order].tolist()
    assert turned.high.tolist() == found.high[order].tolist()
    assert (found.low <= found.rank).all()
    assert (found.rank <= found.high).all()
    # A set for one model is no wider than the set that holds with all others.
    assert (found.alone_low >= found.low).all()
    assert (found.alone_high <= found.high).all()


def test_equal_models_are_never_told_apart_and_constant_differences_always() -> None:
    values, replicates, influence = world(3)
    twice = [np.vstack([part[:, None] if part.ndim == 1 else part] * 2) for part in (values, replicates, influence)]
    found = rank_sets(twice[0][:, 0], twice[1], twice[2])
    assert found.rank[:3].tolist() == found.rank[3:].tolist()
    assert found.low[:3].tolist() == found.low[3:].tolist()
    assert (found.high - found.low >= 1).all()
    apart = rank_sets([1.0, 0.0], np.array([[1.0], [0.0]]) * np.ones((2, 200)), np.zeros((2, 50)))
    assert (apart.low.tolist(), apart.high.tolist()) == ([1, 2], [1, 2])
    rounding = rank_sets([1.0, 1.0 + 1e-15], np.ones((2, 200)), np.zeros((2, 50)))
    assert (rounding.low.tolist(), rounding.high.tolist()) == ([1, 1], [2, 2])


def test_the_best_k() -> None:
    values, replicates, influence = world()
    found = rank_sets(values, replicates, influence)
    assert found.among(12).all()
    assert found.among(1)[np.argmax(values)]
    assert found.among(3).sum() >= 3
    assert not (found.surely_among(3) & ~found.among(3)).any()
    assert tried(lambda: found.among(0), "Give 1", lambda: found.among(1)).any()


def test_sets_of_equal_models_cover_together() -> None:
    # The hardest case: 30 equal means. 200 samples: 95 % less three standard errors are 0.904.
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = rng.normal(size=60) + rng.normal(size=(30, 60))
        weights = rng.multinomial(60, np.full(60, 1 / 60), 400)
        centred = (columns - columns.mean(axis=1, keepdims=True)) / 60
        covered += rank_sets(columns.mean(axis=1), columns @ weights.T / 60, centred, threads=1).pairs == 0
    assert 0.904 <= covered / 200 <= 0.99


def test_what_a_choice_adds_to_the_variance_is_counted() -> None:
    # 12 equal models: the mean of a column, and 0.1 (a standard error) more where that of another column is above 0.
    # The influence does not know of the choice. No bootstrap is exact for such a jump: below 95 %, but near it.
    covered = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns, choosers = rng.normal(size=(2, 12, 100))
        weights = np.vstack([np.ones(100), rng.multinomial(100, np.full(100, 0.01), 400)]) / 100
        means = columns @ weights.T
        values = means + 0.1 * (choosers @ weights.T > 0)
        influence = (columns - columns.mean(axis=1, keepdims=True)) / 100
        linear = values[:, :1] + means[:, 1:] - means[:, :1]
        exact = rank_sets(values[:, 0], values[:, 1:], influence, threads=1, linear=linear)
        covered += exact.pairs == 0, rank_sets(values[:, 0], linear, influence, threads=1).pairs == 0
    assert covered[0] / 200 >= 0.9
    assert covered[1] / 200 < 0.85


def test_wrong_arguments_are_refused() -> None:
    values, replicates, influence = world()
    with pytest.raises(ViceError, match="two models or more"):
        rank_sets(values[:1], replicates[:1])
    with pytest.raises(ViceError, match=r"but `values` has shape \(12,\) and `replicates` \(3, 400\)"):
        rank_sets(values, replicates[:3])
    with pytest.raises(ViceError, match="one row for each of 12 models"):
        rank_sets(values, replicates, influence[:3])
    with pytest.raises(ViceError, match=r"`linear` must have 400 columns like `replicates`, but has shape \(12, 9\)"):
        rank_sets(values, replicates, influence, linear=replicates[:, :9])
    tried(
        lambda: rank_sets(values, replicates, influence, level=95),
        "0.95",
        lambda: rank_sets(values, replicates, influence, level=0.95),
    )


def test_simultaneous_intervals_reach_as_far_as_the_maximum() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(40, 20_000)) * np.linspace(1, 5, 40)[:, None] + 3
    critical, errors = reach(drawn)
    # Of 40 independent normal numbers the largest has the quantile Phi^-1((1 + 0.95^(1/40)) / 2) = 3.22.
    assert critical == pytest.approx(3.22, abs=0.05)
    assert errors == pytest.approx(np.linspace(1, 5, 40), rel=0.02)
    inside = (np.abs(drawn - drawn.mean(axis=1, keepdims=True)) <= critical * errors[:, None]).all(axis=0)
    assert inside.mean() == pytest.approx(0.95, abs=1e-3)
    assert reach(np.full((2, 100), 0.1)) == (0.0, pytest.approx([0, 0]))
