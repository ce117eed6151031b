"""interventions: shares worked out by hand, the published relative foreground sensitivity, and replicates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics.interventions import (
    ForegroundSensitivity,
    Median,
    median_fall,
    relative_foreground_sensitivity,
    share_lost,
    share_still_found,
)
from torchvice.metrics.shares import share_interval

NAN = math.nan
# Found: the first four. The third was not measured. Of the other three one is still found: 1/3.
BEFORE, AFTER = [2.0, 1.0, 3.0, 0.5, -1.0, 0.0], [0.5, -2.0, NAN, 0.0, 4.0, 4.0]


def test_shares_and_falls_by_hand() -> None:
    assert share_still_found(BEFORE, AFTER) == pytest.approx(1 / 3)
    assert share_lost(BEFORE, AFTER) == pytest.approx(2 / 3)
    assert median_fall(BEFORE, AFTER) == 1.5  # of 1.5, 3.0 and 0.5
    assert share_still_found([1.0, 2.0], [3.0, 0.1]) == 1.0
    for measure in (share_still_found, share_lost, median_fall):
        assert math.isnan(measure([], []))
        assert math.isnan(measure([-1.0], [2.0]))
        assert math.isnan(measure([1.0], [NAN]))
        with pytest.raises(ViceError, match="must have one length"):
            measure([1.0], [1.0, 2.0])


def published(fg_noise_accuracy: float, bg_noise_accuracy: float) -> float:
    """The formula of Moayeri et al., CVPR 2022, as they write it."""
    mean = 0.5 * (fg_noise_accuracy + bg_noise_accuracy)
    return (bg_noise_accuracy - fg_noise_accuracy) / (2 * min(mean, 1 - mean))


@pytest.mark.parametrize(("foreground", "background"), [(0.2, 0.8), (0.9, 0.7), (0.05, 0.1), (0.99, 0.5), (0.5, 0.5)])
def test_relative_foreground_sensitivity_is_the_published_one(foreground: float, background: float) -> None:
    value = relative_foreground_sensitivity(foreground, background)
    assert value == pytest.approx(published(foreground, background))
    # Positive: noise on the foreground costs more.
    assert np.sign(value) == np.sign(background - foreground)
    assert relative_foreground_sensitivity(background, foreground) == pytest.approx(-value)


def test_relative_foreground_sensitivity_at_the_ends() -> None:
    assert relative_foreground_sensitivity(0.0, 0.4) == 1.0
    assert relative_foreground_sensitivity(1.0, 0.4) == pytest.approx(-1.0)
    assert math.isnan(relative_foreground_sensitivity(0.0, 0.0))
    assert math.isnan(relative_foreground_sensitivity(1.0, 1.0))
    with pytest.raises(ViceError, match=r"`background_changed` must be in \[0, 1\], but is 1.2"):
        relative_foreground_sensitivity(0.5, 1.2)


@pytest.mark.parametrize("seed", range(40))
def test_weights_are_repetitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    foreground, background = rng.random((2, count)) < rng.random((2, 1))
    values, weights = rng.integers(-3, 4, count), rng.integers(0, 4 if seed % 8 else 1, count)
    repeated = np.repeat(np.arange(count), weights)
    sensitivity = ForegroundSensitivity(foreground, background)(weights[None])[0]
    median = Median(values.astype(float))(weights[None])[0]
    if not len(repeated):
        assert math.isnan(sensitivity)
        assert math.isnan(median)
        return
    expected = relative_foreground_sensitivity(foreground[repeated].mean(), background[repeated].mean())
    assert sensitivity == pytest.approx(expected, nan_ok=True)
    assert median == np.median(values[repeated])


def wilson(events: int, rows: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson 1927, by the roots of (p - share)^2 = z^2 p (1 - p) / rows."""
    share = events / rows
    low, high = sorted(np.roots([1 + z * z / rows, -(2 * share + z * z / rows), share * share]))
    return float(low), float(high)


def test_the_interval_of_a_share_is_wilsons_where_every_row_has_its_image() -> None:
    for events, rows in ((3, 10), (0, 12), (12, 12), (40, 97)):
        found = share_interval(np.arange(rows) < events, np.arange(rows))
        assert (found.low, found.high) == pytest.approx(wilson(events, rows), abs=1e-9)
        assert 0 <= found.low <= events / rows <= found.high <= 1
    nothing = share_interval([], [])
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)
    with pytest.raises(ViceError, match="`level` must be between 0 and 1"):
        share_interval([1], [0], level=1.0)


def test_rows_of_one_image_that_agree_count_once() -> None:
    events, image = np.arange(60) < 24, np.arange(60)
    one = share_interval(events, image)
    twice = share_interval(np.repeat(events, 3), np.repeat(image, 3))
    assert (twice.low, twice.high) == pytest.approx((one.low, one.high))
    certain = share_interval(np.ones(60), np.arange(60) // 4)  # 15 images
    assert (certain.low, certain.high) == pytest.approx(wilson(15, 15), abs=1e-9)


@pytest.mark.parametrize(("images", "share", "least"), [(10, 0.95, 0.93), (30, 0.1, 0.93), (200, 0.42, 0.93)])
def test_the_interval_of_a_share_covers(images: int, share: float, least: float) -> None:
    rng, covered, samples = np.random.default_rng(1), 0, 1500
    for _ in range(samples):
        image = np.repeat(np.arange(images), rng.integers(1, 4, images))
        common, own = rng.random(images) < share, rng.random(len(image)) < share
        events = np.where(rng.random(len(image)) < 0.5, common[image], own)  # pairs of an image agree
        found = share_interval(events, image)
        covered += found.low <= share <= found.high
    assert least <= covered / samples <= 0.99
