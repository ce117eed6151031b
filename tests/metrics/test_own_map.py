"""Energy, pointing game and Otsu's threshold: by hand, against plain loops, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from tables import own_counts
from torchvice.errors import ViceError
from torchvice.metrics.own_map import otsu_threshold, own_maps


def test_by_hand() -> None:
    # Object: the left column. Void: the last pixel, whose 1.0 would be the highest.
    mask = np.array([[3, 0, 0], [3, 0, 255]])
    plane = np.array([[0.5, 0.25, 0.0], [0.25, 0.5, 1.0]])
    found = own_maps(plane[None], [2], mask)
    assert found.energy_inside.tolist() == [0.75]
    assert found.energy_outside.tolist() == [0.75]
    assert found.pointing.tolist() == [0.5]  # two pixels of 0.5, one of them inside
    # Otsu: {0, 1/4, 1/4} against {1/2, 1/2, 1}, means 1/6 and 2/3: 3 3 (1/2)^2 = 2.25; {.., 1/2, 1/2} against {1}:
    # 5 1 (7/10)^2 = 2.45 is better. So 1.0 alone is above, and it is void.
    assert otsu_threshold(plane) == pytest.approx(0.5 + 0.5 / 256)
    assert found.otsu_predicted.tolist() == [0.0]
    assert found.otsu_intersection.tolist() == [0.0]


@pytest.mark.parametrize("seed", range(6))
def test_against_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 1, 2, 2, 255], (7, 5))
    maps = (rng.integers(-2, 9, (2, 7, 5)) / 8 if seed % 2 else rng.random((2, 7, 5))).astype(np.float32)
    found = own_maps(maps, [1, 0], mask)
    for row, label in enumerate((2, 1)):
        for name, value in own_counts(maps[row].astype(float).tolist(), mask.tolist(), label).items():
            assert getattr(found, name)[row] == pytest.approx(value, rel=1e-6), name


def test_a_stack_of_planes_says_the_same() -> None:
    rng = np.random.default_rng(0)
    mask, maps = rng.choice([0, 1, 2], (6, 6)), rng.random((2, 6, 6))
    stack = np.stack([mask == 1, mask == 2])
    for name, column in vars(own_maps(maps, [0, 1], mask)).items():
        np.testing.assert_array_equal(getattr(own_maps(maps, [0, 1], stack), name), column)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_constant_map_points_by_chance(level: float) -> None:
    mask = np.array([[1, 0, 0, 255]])
    found = own_maps(np.full((1, 1, 4), level), [0], mask)
    assert found.pointing[0] == pytest.approx(1 / 3)
    assert found.energy_inside[0] == pytest.approx(level)
    assert found.energy_outside[0] == pytest.approx(2 * level)
    assert np.isnan([found.otsu_predicted[0], found.otsu_intersection[0]]).all()


def test_negative_values_are_no_energy() -> None:
    found = own_maps([[[-1.0, -1.0]]], [0], np.array([[1, 0]]))
    assert (found.energy_inside[0], found.energy_outside[0], found.pointing[0]) == (0, 0, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_undefined(value: float) -> None:
    found = own_maps([[[value, 0.5]], [[0.2, 0.5]]], [0, 1], np.array([[1, 2]]))
    assert all(np.isnan(column[0]) and np.isfinite(column[1]) for column in vars(found).values())


def test_edges() -> None:
    assert len(own_maps(np.zeros((0, 2, 2)), [], np.zeros((2, 2), int)).pointing) == 0
    void = own_maps([[[0.1, 0.9]]], [0], np.array([[255, 255]]))
    assert all(np.isnan(column[0]) for column in vars(void).values())
    assert own_maps([[[0.1, 0.9]]], [0], np.array([[0, 0]])).pointing[0] == 0
    assert np.isnan(otsu_threshold([]))
    with pytest.raises(ViceError, match="mask's size"):
        own_maps(np.zeros((1, 2, 3)), [0], np.zeros((2, 2), int))


def test_otsu_splits_two_heaps_and_follows_shift_and_scale() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 4000), rng.normal(10, 1, 1000)])
    threshold = otsu_threshold(values)
    assert 3 < threshold < 7
    assert (values > threshold).sum() == 1000
    assert otsu_threshold(4 * values + 3) == pytest.approx(4 * threshold + 3, abs=0.1)


def test_rounding_makes_no_peak() -> None:
    # As a constant map comes back from resizing in float32.
    plane = np.ones((1, 2, 4), np.float32)
    plane[0, 1, ::2] -= np.float32(2**-24)
    found = own_maps(plane, [0], np.array([[1, 0, 0, 0], [0, 0, 0, 1]]))
    assert found.pointing[0] == 0.25
    assert np.isnan(found.otsu_predicted[0])
