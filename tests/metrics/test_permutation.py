"""permutation: exact p-values of tiny tables, standard errors against the jackknife, levels by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from torchvice.errors import ViceError
from torchvice.metrics import permutation
from torchvice.metrics.permutation import _rank_test, freedman_lane_p, permutation_p
from torchvice.metrics.weighted import Spearman

Sample = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def heavy(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns that share their scale, as images that are strange in every way do, and are not correlated."""
    a, b = rng.normal(size=(2, n)) * rng.lognormal(0, 0.8, n)
    return a, b


def fan(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """b spreads where a is far from its middle; neither Pearson's nor Spearman's correlation sees it."""
    a = rng.normal(size=n)
    return a, a**2 * rng.normal(size=n)


def plain_p(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, permutations: int) -> float:
    """The permutation test of textbooks: no standard error."""
    permuted = rng.permuted(np.tile(b - b.mean(), (permutations, 1)), axis=1)
    observed = abs((a - a.mean()) @ (b - b.mean()))
    return float(1 + (np.abs(permuted @ (a - a.mean())) >= observed).sum()) / (permutations + 1)


def rejected(sample: Sample, n: int, rounds: int, ranks: bool, plain: bool = False) -> float:
    """Share of samples without correlation in which the test at 5 % claims one."""
    count = 0
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        a, b = sample(rng, n)
        p = plain_p(a, b, rng, 199) if plain else permutation_p(a, b, ranks=ranks, permutations=199, seed=seed)
        count += p <= 0.05
    return count / rounds


def test_p_is_the_share_of_all_orders_that_are_as_extreme() -> None:
    # Six rows have 720 orders: the drawn share must be the counted one. DiCiccio and Romano's t is
    # sum(x y) / sqrt(sum((x y)^2)) of centred columns.
    a, b = np.array([1.0, 2.0, 4.0, 7.0, 8.0, 11.0]), np.array([1.0, 0.0, 3.0, 2.0, 9.0, 4.0])
    x, y = a - a.mean(), b - b.mean()
    ts = [abs(x @ y[list(o)]) / math.sqrt(((x * y[list(o)]) ** 2).sum()) for o in itertools.permutations(range(6))]
    exact = np.mean([t >= ts[0] * (1 - 1e-9) for t in ts])
    assert permutation_p(a, b, ranks=False, permutations=20_000) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_standard_error_of_ranks_is_that_of_the_jackknife(tied: bool, clustered: bool) -> None:
    rng = np.random.default_rng(2)
    image = np.sort(rng.integers(0, 700, 1000)) if clustered else np.arange(1000)
    _, image = np.unique(image, return_inverse=True)
    a = rng.normal(size=1000) + rng.normal(size=1000)[image]
    b = (
        a**2 + rng.normal(size=1000)[image]
    )  # the mean rank of b depends on a, so the effect of a row on the ranks of others counts
    if tied:
        a, b = np.round(a), np.maximum(b, 0)
    statistic, images = Spearman(a, b), int(image.max()) + 1
    without = np.concatenate([statistic((image != left_out)[None].astype(np.uint8)) for left_out in range(images)])
    error = math.sqrt((images - 1) * without.var())
    t = _rank_test(a, b, image)(np.arange(1000)[None])[0]
    assert t == pytest.approx(abs(statistic.value) / error, rel=0.02)


@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize("sample", [heavy, fan])
def test_dependence_without_correlation_is_rejected_as_often_as_promised(sample: Sample, ranks: bool) -> None:
    assert rejected(sample, 100, 300, ranks) <= 0.085


def test_the_plain_test_rejects_it_far_too_often() -> None:
    assert rejected(heavy, 100, 300, ranks=False, plain=True) > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize("sample", [heavy, fan])
def test_levels_with_many_rounds(sample: Sample, ranks: bool) -> None:
    assert rejected(sample, 300, 2000, ranks) == pytest.approx(0.05, abs=0.02)
    assert ranks or rejected(sample, 300, 2000, ranks, plain=True) > 0.3


@pytest.mark.parametrize("ranks", [False, True])
def test_pairs_of_one_image_are_no_independent_witnesses(ranks: bool) -> None:
    image = np.repeat(np.arange(40), 5)
    blind = informed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 40))[:, image] + 0.3 * rng.normal(size=(2, 200))
        blind += permutation_p(a, b, ranks=ranks, permutations=99, seed=seed) <= 0.05
        informed += permutation_p(a, b, image, ranks=ranks, permutations=99, seed=seed) <= 0.05
    assert informed <= 0.11 * 200
    assert blind > 0.25 * 200


def test_a_correlation_is_found_and_the_seed_decides() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=120)
    b = a + rng.normal(size=120)
    assert permutation_p(a, b, permutations=999) == 0.001
    noise = rng.normal(size=120)
    again = [permutation_p(a, noise, permutations=199, seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    # Without an association the p-value is near that of the t-test.
    expected = scipy.stats.spearmanr(a, noise).pvalue
    assert permutation_p(a, noise) == pytest.approx(expected, abs=0.05)
    # Rows in another order, and the columns exchanged, are the same data.
    order = rng.permutation(120)
    image = np.arange(120) // 3
    one, other = permutation_p(a, noise, image), permutation_p(noise[order], a[order], image[order])
    assert one == pytest.approx(other, abs=0.02)


def confounded(rng: np.random.Generator, n: int, shared: float) -> tuple[np.ndarray, ...]:
    area, labels, both = rng.lognormal(size=n), rng.integers(1, 4, n), rng.normal(size=n)
    size = -np.abs(scipy.stats.rankdata(area) / n - 0.5) * 4
    a, b = size + labels + shared * both + rng.normal(size=(2, n))
    return a, b, area, labels


@pytest.mark.parametrize(("n", "rounds"), [(120, 200), pytest.param(500, 2000, marks=pytest.mark.slow)])
def test_partial_p_holds_its_level_where_size_is_all_there_is(n: int, rounds: int) -> None:
    ps, plain = [], []
    for seed in range(rounds):
        a, b, area, labels = confounded(np.random.default_rng(seed), n, 0)
        ps.append(freedman_lane_p(a, b, area, labels, permutations=199, seed=seed))
        plain.append(permutation_p(a, b, permutations=99, seed=seed))
    assert np.mean(np.array(plain) <= 0.05) > 0.9
    assert np.mean(np.array(ps) <= 0.05) == pytest.approx(0.05, abs=0.02 if rounds > 1000 else 0.04)


def test_partial_p_finds_what_is_there() -> None:
    columns = confounded(np.random.default_rng(5), 300, 0.7)
    assert freedman_lane_p(*columns, permutations=199) == 0.005
    assert freedman_lane_p(*columns, cluster=np.arange(300) // 2, permutations=199) == 0.005


def test_edges() -> None:
    assert math.isnan(permutation_p([], []))
    assert math.isnan(permutation_p([1.0, 2.0], [1.0, 2.0]))
    assert math.isnan(permutation_p([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert math.isnan(permutation_p([1.0, 3.0, 2.0, 5.0], [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]))
    assert math.isnan(freedman_lane_p([1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [1, 2, 3], [1, 1, 1]))
    assert permutation_p([1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, 9.0], permutations=99) == permutation_p(
        [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], permutations=99
    )
    # Two thirds of all columns are one value: many permutations are the data themselves, and count.
    assert permutation_p([0.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0], permutations=99) > 0.01
    with pytest.raises(ViceError, match="needs permutations, but has 0"):
        permutation_p([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], permutations=0)
    with pytest.raises(ViceError, match="must have one length"):
        permutation_p([1.0, 2.0, 3.0], [1.0, 3.0])


@pytest.mark.parametrize("connection", [0.0, 0.03, 0.06])
def test_beyond_the_work_p_is_that_of_a_normal_distribution(connection: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    a, noise = heavy(rng, 2500)
    b, image, size = noise + connection * a, np.arange(2500) // 2, rng.random(2500)
    tests: list[Callable[[], float]] = [
        lambda: permutation_p(a, b, image, permutations=1999),
        lambda: permutation_p(a, b, image, ranks=False, permutations=1999),
        lambda: freedman_lane_p(a, b, size, np.ones(2500), image, permutations=1999),
    ]
    permuted = [test() for test in tests]
    assert permutation.permutes(2500, 1999)
    monkeypatch.setattr(permutation, "MOST_WORK", 2500 * 1999 - 1)
    assert not permutation.permutes(2500, 1999)
    # Three standard errors of a share of 1999 permutations, and a little for their law.
    for p, normal in zip(permuted, (test() for test in tests), strict=True):
        assert normal == pytest.approx(p, abs=0.015 + 3 * math.sqrt(p * (1 - p) / 1999))


def test_a_certain_p_stays_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "MOST_WORK", 0)
    a = np.arange(4000.0)
    assert 0 < permutation_p(a, a + np.cos(a)) < 1e-300
