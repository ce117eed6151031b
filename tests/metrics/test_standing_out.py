"""standing_out: classes with more events than the others predict; values by hand, invariances, level and power."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from torchvice.errors import ViceError
from torchvice.metrics.size_effect import size_effect
from torchvice.metrics.standing_out import MARGIN, ClassTest, classes_that_stand_out, holm_over_witnesses

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "verdict" / "classes.py"


def planted(classes: int = 10, pairs: int = 100, extra: float = 0.5, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Events at a rate of 0.1, in class 0 with a share `extra` of shortcut pairs; smaller objects have more events."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), pairs)
    size = np.exp(np.minimum(-2 + 0.8 * rng.normal(size=len(label)), 0))
    rate = 1 / (1 + np.exp(2.2 + 0.6 * (np.log(size) + 2)))
    return (rng.random(len(label)) < rate) | ((label == 0) & (rng.random(len(label)) < extra)), label, size


def of_counts(counts: list[int], pairs: int = 100, **options: Any) -> ClassTest:
    """The test of classes of equal sizes and equal numbers of pairs."""
    events = np.concatenate([np.arange(pairs) < count for count in counts])
    label = np.repeat(np.arange(len(counts)), pairs)
    return classes_that_stand_out(events, label, np.full(len(label), 0.1), len(counts), **options)


def test_the_planted_class_is_named_and_no_other() -> None:
    test = classes_that_stand_out(*planted(), 10)
    adjusted, named = holm_over_witnesses({"elsewhere": test, "again": test})
    assert np.flatnonzero(named).tolist() == [0]
    assert adjusted["elsewhere"][0] < 0.05 < adjusted["elsewhere"][1:].min()


def test_a_third_of_the_classes_is_named() -> None:
    test = of_counts([10, 9, 11, 10, 12, 8, 10, 9, 11, 10, 7, 13, 60, 55, 62, 70, 90, 58])
    _, named = holm_over_witnesses({"elsewhere": test, "again": test})
    assert np.flatnonzero(named).tolist() == [12, 13, 14, 15, 16, 17]


def test_counts_are_those_of_the_pairs() -> None:
    test = of_counts([3, 0, 100, 50])
    assert test.pairs.tolist() == [100] * 4
    assert test.events.tolist() == [3, 0, 100, 50]


def test_equal_classes_expect_their_common_share() -> None:
    # 20 classes with 10 events of 100: each expects 10 of 100 from the other 19.
    test = of_counts([10] * 20)
    assert test.expected == pytest.approx(10, abs=0.3)
    # A typical class can be no further from standing out: a tenth of the pairs would have to be added by chance.
    assert test.p_value.min() > 0.5


def test_with_many_large_equal_classes_the_p_value_is_nearly_the_binomial_one() -> None:
    # 80 classes of 5,000 pairs with 500 events leave the rate 0.1 and the smallest spread; the last has 30 pairs.
    counts, pairs = [500] * 80, 5000
    events = np.concatenate([*(np.arange(pairs) < count for count in counts), np.arange(30) < 11])
    label = np.repeat(np.arange(81), [pairs] * 80 + [30])
    test = classes_that_stand_out(events, label, np.full(len(label), 0.1), 81)
    # A spread of 0.1 logits makes it a little larger than with none.
    binomial = stats.binom.sf(10, 30, MARGIN + (1 - MARGIN) * 0.1)
    assert binomial < test.p_value[-1] < 1.3 * binomial


def test_small_objects_explain_what_would_stand_out_among_equal_sizes() -> None:
    # Events are those of size alone, from 5 % to 70 %; class 0 has the smallest objects and most events.
    rng = np.random.default_rng(3)
    label = np.repeat(np.arange(12), 150)
    log_size = -2 + 0.7 * rng.normal(size=len(label)) - 1.5 * (label == 0)
    events = rng.random(len(label)) < 1 / (1 + np.exp(2 + 1.2 * (log_size + 2)))
    size = np.minimum(np.exp(log_size), 1)
    given_size = classes_that_stand_out(events, label, size, 12)
    ignored = classes_that_stand_out(events, label, np.full(len(label), 0.1), 12)
    assert ignored.p_value[0] < 0.05 / 24 < 0.1 < given_size.p_value[0]
    assert given_size.expected[0] == pytest.approx(given_size.events[0], rel=0.25)


def test_the_size_effect_is_estimated_without_the_class() -> None:
    events, label, size = planted(6, extra=0.0)
    changed = np.where(label == 0, events | (size > np.median(size)), events)
    first, second = (size_effect(column, label, np.log(size), 6)[0] for column in (events, changed))
    difference = np.abs(first - second)
    assert difference[label == 0].max() == 0
    assert difference[label != 0].max() > 1


def test_of_many_classes_a_few_are_left_out_together() -> None:
    rng = np.random.default_rng(6)
    label, position = np.repeat(np.arange(300), 20), rng.normal(size=6000)
    events = rng.random(6000) < 1 / (1 + np.exp(1 + 0.8 * position))
    changed = np.where(label == 100, ~events, events)
    effects = [size_effect(column, label, position, 300)[0] for column in (events, changed)]
    same = np.abs(effects[0] - effects[1]) == 0
    assert np.unique(label[same]).tolist() == [20, 100, 180, 260]


def test_the_size_effect_is_a_logistic_regression() -> None:
    rng = np.random.default_rng(5)
    label, position = np.repeat(np.arange(40), 500), rng.normal(size=20_000)
    events = rng.random(20_000) < 1 / (1 + np.exp(1 + 0.8 * position))
    effect, _ = size_effect(events, label, position, 40)
    assert np.polyfit(position, effect, 1)[0] == pytest.approx(-0.8, abs=0.06)


def test_order_of_classes_and_of_pairs_does_not_matter() -> None:
    events, label, size = planted()
    test = classes_that_stand_out(events, label, size, 10)
    rows = np.random.default_rng(1).permutation(len(label))
    classes = np.random.default_rng(2).permutation(10)
    again = classes_that_stand_out(events[rows], classes[label[rows]], size[rows], 10)
    for name in ("pairs", "events", "expected", "p_value", "power"):
        np.testing.assert_allclose(getattr(again, name)[classes], getattr(test, name), rtol=1e-6)


def test_the_unit_of_size_does_not_matter() -> None:
    events, label, size = planted()
    test, halved = (classes_that_stand_out(events, label, factor * size, 10) for factor in (1, 0.5))
    np.testing.assert_allclose(halved.p_value, test.p_value, rtol=1e-6)


def test_a_class_without_pairs_changes_nothing() -> None:
    events, label, size = planted()
    test, wider = (classes_that_stand_out(events, label, size, number) for number in (10, 12))
    np.testing.assert_allclose(wider.p_value[:10], test.p_value, rtol=1e-9)
    assert np.isnan(wider.p_value[10:]).all()
    assert wider.expected[10:].tolist() == wider.power[10:].tolist() == [0, 0]


def test_more_events_mean_a_smaller_p_value() -> None:
    others = [8, 12, 10, 9, 11, 10, 13, 7]
    p = np.array([of_counts([count, *others]).p_value[0] for count in range(0, 101, 5)])
    assert (np.diff(p) <= 0).all()
    assert p[0] == 1
    assert p[-1] < 1e-3


def test_classes_that_differ_more_need_more_events() -> None:
    close, wide = of_counts([40, *[9, 10, 11] * 4]), of_counts([40, *[2, 10, 30] * 4])
    assert close.p_value[0] < 0.002 < 0.02 < wide.p_value[0]
    assert close.power[0] > wide.power[0]


def test_a_class_of_few_pairs_could_not_have_been_named() -> None:
    events, label, size = planted(10)
    small = np.r_[events, [True, True]], np.r_[label, [10, 10]], np.r_[size, [0.1, 0.1]]
    test = classes_that_stand_out(*small, 11)
    assert np.isnan(test.p_value).tolist() == [False] * 10 + [True]
    assert test.power[10] == 0
    # It takes no part in Holm's correction: ten classes and two witnesses are twenty tests.
    adjusted, _ = holm_over_witnesses({"a": test, "b": test})
    assert adjusted["a"][0] == pytest.approx(20 * test.p_value[0])


def test_power_grows_with_pairs_and_is_that_of_fresh_tables() -> None:
    few, many = (of_counts([pairs // 10] * 20, pairs).power[0] for pairs in (20, 100))
    assert few < many
    # Predicted power of one class at half, against the share of simulated tables that name it.
    rng, hits, predicted = np.random.default_rng(7), 0, []
    for _ in range(60):
        counts = rng.binomial(25, 0.1, 12)
        counts[0] = rng.binomial(25, 0.55)
        test = of_counts(counts.tolist(), 25, witnesses=1)
        hits += holm_over_witnesses({"a": test})[1][0]
        predicted.append(test.power[0])
    assert abs(hits / 60 - np.mean(predicted)) < 0.2


@pytest.mark.parametrize("happens", [True, False])
def test_nothing_stands_out_where_all_pairs_are_equal(happens: bool) -> None:
    test = of_counts([100 * happens] * 6)
    assert not (test.p_value < 0.5).any()
    assert np.isfinite(test.expected).all()


def test_empty_and_single() -> None:
    for rows in (0, 1):
        test = classes_that_stand_out([True] * rows, [0] * rows, [0.5] * rows, 2)
        assert np.isnan(test.p_value).all()
        assert test.power.tolist() == [0, 0]


def test_holm_by_hand() -> None:
    blank = np.zeros(2)
    tests = {
        "a": ClassTest(blank, blank, blank, np.array([0.01, np.nan]), blank),
        "b": ClassTest(blank, blank, blank, np.array([0.04, 0.02]), blank),
    }
    adjusted, named = holm_over_witnesses(tests)
    # Three tests: 3 x 0.01, 2 x 0.02, 1 x 0.04.
    np.testing.assert_allclose(adjusted["a"], [0.03, np.nan])
    np.testing.assert_allclose(adjusted["b"], [0.04, 0.04])
    assert named.tolist() == [True, True]
    assert holm_over_witnesses(tests, level=0.035)[1].tolist() == [True, False]


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ViceError, match=r"`classes` must be from 0 to 1, but holds 2\."):
        classes_that_stand_out([True], [2], [0.5], 2)
    with pytest.raises(ViceError, match=r"`sizes` must be in \(0, 1\], but holds 0\."):
        classes_that_stand_out([True], [0], [0.0], 2)
    with pytest.raises(ViceError, match=r"`sizes` must be in \(0, 1\], but holds nan\."):
        classes_that_stand_out([True], [0], [np.nan], 2)
    with pytest.raises(ViceError, match=r"`events` must be 0 or 1, but holds nan\."):
        classes_that_stand_out([np.nan], [0], [0.5], 2)
    with pytest.raises(ViceError, match="have one length"):
        classes_that_stand_out([True, False], [0], [0.5], 2)
    with pytest.raises(ViceError, match="An image must occur once in a class"):
        classes_that_stand_out([True, False], [0, 0], [0.5, 0.5], 2, images=[7, 7])
    with pytest.raises(ViceError, match="No witness found"):
        holm_over_witnesses({})


def test_an_image_may_have_several_classes() -> None:
    classes_that_stand_out([True, False], [0, 1], [0.5, 0.5], 2, images=[7, 7])


def test_the_inputs_are_not_changed() -> None:
    columns = planted(4, 20)
    before = [column.copy() for column in columns]
    classes_that_stand_out(*columns, 4)
    assert all((one == other).all() for one, other in zip(before, columns, strict=True))


def test_level_and_power_in_fifty_tables() -> None:
    worlds = runpy.run_path(str(BENCHMARK))
    world, rates = worlds["World"], worlds["rates"]
    alarms, _ = rates(world(10, 0.3, "t5"), 50, 1)
    _, named = rates(world(10, 0.3, "normal", shortcuts=1, strength=0.75), 25, 2)
    assert alarms <= 0.08  # the binomial test, which ignores size and spread, has 0.9 and more here
    assert named >= 0.9
    unadjusted, _ = rates(world(10, 0.3, "t5"), 50, 1, worlds["unadjusted_binomial"])
    assert unadjusted > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("number", [6, 20])
@pytest.mark.parametrize(("spread", "shape"), [(0.0, "normal"), (0.3, "t5"), (0.6, "t5"), (1.0, "normal")])
def test_level_in_worlds_without_shortcuts(number: int, spread: float, shape: str) -> None:
    worlds = runpy.run_path(str(BENCHMARK))
    alarms, _ = worlds["rates"](worlds["World"](number, spread, shape), 300, 11)
    assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
