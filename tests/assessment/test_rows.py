"""Rows of the table: maps of any scale keep their shape in float16."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice.assessment.rows import in_float16


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e-3, 1.0, 1e4, 1e6, 1e30])
def test_a_map_of_any_scale_keeps_its_shape(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32) * np.float32(scale)
    kept = in_float16(values).astype(float)
    assert np.isfinite(kept).all()
    share = np.abs(kept).max() / np.abs(values).max()
    np.testing.assert_allclose(kept, values * share, rtol=0, atol=1e-3 * np.abs(kept).max())


@pytest.mark.parametrize("values", [[[0.0, 0.0]], [[1.5, -0.25]], [[0.01, 3e4]]])
def test_a_map_that_float16_holds_is_stored_as_it_is(values: list[list[float]]) -> None:
    np.testing.assert_array_equal(in_float16(np.array(values)), np.array(values, np.float16))


def test_what_is_not_finite_stays_and_does_not_change_the_rest() -> None:
    kept = in_float16(np.array([[np.nan, np.inf, 2e6, -1e6]]))
    assert np.isnan(kept[0, 0])
    assert np.isposinf(kept[0, 1])
    assert kept[0, 2] == pytest.approx(-2 * kept[0, 3], rel=1e-3)


def test_no_map_at_all_is_an_empty_map() -> None:
    assert in_float16(np.zeros((0, 4))).shape == (0, 4)
