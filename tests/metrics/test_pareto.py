"""The Pareto front against a loop, residuals against numpy's least squares."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice.metrics.pareto import on_front, residuals_given, spline_columns


def test_the_front_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (200, 9)).astype(float), rng.integers(0, 6, (200, 9)).astype(float)
    x[0, 3] = np.nan
    for row, (a, b) in enumerate(zip(x, y, strict=True)):
        for i in range(9):
            beaten = any(a[k] >= a[i] and b[k] >= b[i] and (a[k] > a[i] or b[k] > b[i]) for k in range(9))
            assert on_front(x, y)[row, i] == (not beaten and not np.isnan(a[i])), (row, i)


@pytest.mark.parametrize("models", [8, 60])
def test_residuals_are_those_of_least_squares(models: int) -> None:
    rng = np.random.default_rng(models)
    x, y = rng.random((5, models)), rng.random((5, models))
    left, line = residuals_given(x, y)
    middle, spread = x[0].mean(), x[0].std()
    knots = np.quantile((x[0] - middle) / spread, (0.05, 0.35, 0.65, 0.95)) if models >= 30 else None
    for row in range(5):
        design = spline_columns((x[row] - middle) / spread, knots)
        factors = np.linalg.lstsq(design, y[row], rcond=None)[0]
        assert left[row] == pytest.approx(y[row] - design @ factors, abs=1e-8)
    assert line + left[0] == pytest.approx(y[0])
    assert left.sum(axis=1) == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_spline_is_straight_beyond_its_outer_knots_and_smooth_within() -> None:
    knots = np.array([-1.0, -0.2, 0.3, 1.2])
    columns = spline_columns(np.array([2.0, 3.0, 4.0, -5.0, -4.0, -3.0]), knots)
    assert np.diff(columns[:3], 2, axis=0) == pytest.approx(np.zeros((1, 4)), abs=1e-9)
    assert np.diff(columns[3:], 2, axis=0) == pytest.approx(np.zeros((1, 4)), abs=1e-9)
    near = spline_columns(knots[:, None] + np.array([-1e-5, 0, 1e-5]), knots)
    assert np.abs(np.diff(near, 2, axis=1)).max() < 1e-8  # no corner at a knot


def test_a_straight_relation_leaves_nothing() -> None:
    x = np.linspace(0, 1, 40)[None]
    assert residuals_given(x, 0.3 - 0.2 * x)[0] == pytest.approx(np.zeros((1, 40)), abs=1e-9)
