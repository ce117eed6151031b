"""bands: what a calibrated model shows, against labels drawn one by one and measured by the measures themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

import predictions
from torchvice.errors import ViceError
from torchvice.metrics import bands, classwise_ece, null_band, sigmoid, softmax
from torchvice.metrics.calibration_errors import event_reliability
from variants import slow_but

UNITS = ["image", "cell", "class", "top"]
TAILS = [0.025, 0.5, 0.975]


def measured(p: np.ndarray, y: np.ndarray, unit: str, equal_mass: bool) -> float:
    if unit == "class":
        return classwise_ece(p, y, equal_mass=equal_mass).value
    return event_reliability(p, y, 20, unit, equal_mass=equal_mass).ece  # type: ignore[arg-type]


def drawn_and_measured(p: np.ndarray, unit: str, equal_mass: bool, exclusive: bool, rounds: int) -> np.ndarray:
    rng, found = np.random.default_rng(99), []
    for _ in range(rounds):
        if exclusive:
            y = np.stack([rng.multinomial(1, row / row.sum()) for row in p])
        else:
            y = (rng.random(p.shape) < p).astype(int)
        found.append(measured(p, y, unit, equal_mass))
    return np.array(found)


def assert_same_law(p: np.ndarray, unit: str, equal_mass: bool, exclusive: bool, rounds: int) -> None:
    band = null_band(p, 20, unit, equal_mass=equal_mass, exclusive=exclusive, simulations=4000)  # type: ignore[arg-type]
    loop = drawn_and_measured(p, unit, equal_mass, exclusive, rounds)
    # As many of the loop's errors lie below each end as the band says, up to four standard errors.
    for end, tail in zip((band.low, band.median, band.high), TAILS, strict=True):
        assert abs((loop <= end).mean() - tail) < 4 * math.sqrt(tail * (1 - tail) * (1 / rounds + 1 / 4000)) + 0.005


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_the_band_of_labels_drawn_one_by_one(unit: str, exclusive: bool) -> None:
    p = softmax(predictions.exclusive(150, 0)[0]) if exclusive else sigmoid(predictions.multilabel(150, 0, 8)[0])
    assert_same_law(p, unit, False, exclusive, 250)


@pytest.mark.slow
@pytest.mark.parametrize("equal_mass", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_the_band_at_the_size_of_voc(unit: str, exclusive: bool, equal_mass: bool) -> None:
    logits = predictions.exclusive(1449, 1, 20)[0] if exclusive else predictions.multilabel(1449, 1)[0]
    assert_same_law((softmax if exclusive else sigmoid)(logits), unit, equal_mass, exclusive, 800)


def assert_level(rounds: int, n: int, exclusive: bool) -> None:
    inside = dict.fromkeys(UNITS, 0)
    for seed in range(rounds):
        logits, y = predictions.exclusive(n, seed) if exclusive else predictions.multilabel(n, seed)
        p = (softmax if exclusive else sigmoid)(logits)
        for unit in UNITS:
            band = null_band(p, 20, unit, exclusive=exclusive, simulations=300, seed=seed)  # type: ignore[arg-type]
            inside[unit] += band.low <= measured(p, y, unit, False) <= band.high
    reach = 4 * math.sqrt(0.95 * 0.05 / rounds) + 0.01
    for unit in UNITS:
        assert inside[unit] / rounds == pytest.approx(0.95, abs=reach), unit


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_calibrated_model_lies_in_its_band_nineteen_times_in_twenty(exclusive: bool) -> None:
    assert_level(60, 150, exclusive)


@pytest.mark.slow
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_calibrated_model_lies_in_its_band_in_a_long_simulation(exclusive: bool) -> None:
    assert_level(500, 500, exclusive)


def test_a_model_that_is_too_sure_lies_above_its_band() -> None:
    logits, y = predictions.multilabel(1449, 2)
    p = sigmoid(2 * logits)
    for unit in UNITS:
        assert measured(p, y, unit, False) > null_band(p, 20, unit, simulations=200).high  # type: ignore[arg-type]


def test_binning_alone_makes_the_error_that_the_band_shows() -> None:
    # Upward bias of binned ECE: the median of a calibrated model is the greater, the more bins and the fewer images.
    p = sigmoid(predictions.multilabel(1449, 3)[0])
    medians = [null_band(p, bins, simulations=300).median for bins in (5, 20, 80)]
    assert medians == sorted(medians)
    assert 0.02 < medians[1] < 0.035
    assert null_band(p[:300], 20, simulations=300).median > 1.8 * medians[1]


def test_by_hand() -> None:
    # One image of one class, p = .5: the label is drawn 0 or 1, a gap of .5 in either case.
    band = null_band([[0.5]], simulations=50)
    assert (band.low, band.median, band.high) == (0.5, 0.5, 0.5)
    # The outcome of its bin, the tenth of twenty, is 0 as often as 1; all other bins are empty.
    assert (band.bin_low[9], band.bin_high[9]) == (0, 1)
    assert np.isnan(np.delete(band.bin_low, 9)).all()
    # Of two classes that exclude each other one is true: of the two cells of the bin always half; else 0, 1 or 2.
    assert null_band([[0.5, 0.5]], unit="cell", exclusive=True).high == 0
    assert null_band([[0.5, 0.5]], unit="cell").high == 0.5
    # Certain labels have no noise.
    band = null_band([[1.0, 0.0]], unit="cell")
    assert (band.low, band.high, band.bin_low[19], band.bin_high[0]) == (0, 0, 1, 0)


@pytest.mark.parametrize("n", [40, 400])  # labels one by one, and their number
def test_bins_have_the_quantiles_of_the_binomial(n: int) -> None:
    band = null_band(np.full((n, 1), 0.3), unit="cell", simulations=20_000)
    low, high = binom.ppf([0.025, 0.975], n, 0.3) / n
    assert abs(band.bin_low[5] - low) <= 1.01 / n
    assert abs(band.bin_high[5] - high) <= 1.01 / n
    error = abs(binom.rvs(n, 0.3, size=20_000, random_state=0) / n - 0.3)
    assert band.median == pytest.approx(np.median(error), abs=1.01 / n)


def test_shapes_seeds_and_inputs() -> None:
    p = sigmoid(predictions.multilabel(40, 4, 3)[0])
    p.setflags(write=False)
    band = null_band(p, 10, "class", simulations=50)
    assert band.bin_low.shape == band.bin_high.shape == (3, 10)
    assert null_band(p, 10, simulations=50, seed=1) != null_band(p, 10, simulations=50, seed=2)
    first, second = (null_band(p, 10, "cell", simulations=50, seed=5) for _ in range(2))
    assert (first.low, first.median, first.high) == (second.low, second.median, second.high)
    np.testing.assert_array_equal(first.bin_low, second.bin_low)
    narrow = null_band(p, 10, "cell", simulations=50, seed=5, level=0.5)
    assert first.low < narrow.low <= narrow.median == first.median <= narrow.high < first.high


@pytest.mark.parametrize("unit", UNITS)
def test_without_images_and_without_chance(unit: str) -> None:
    nothing = null_band(np.zeros((0, 3)), 4, unit)  # type: ignore[arg-type]
    assert math.isnan(nothing.median)
    assert np.isnan(nothing.bin_low).all()
    for equal_mass in (False, True):
        none = null_band(np.zeros((5, 3)), 4, unit, equal_mass=equal_mass, simulations=10)  # type: ignore[arg-type]
        assert (none.low, none.high) == (0, 0)


def test_wrong_arguments() -> None:
    with pytest.raises(ViceError, match="must lie in"):
        null_band([[1.5]])
    with pytest.raises(ViceError, match="`unit`"):
        null_band([[0.5]], unit="pixel")  # type: ignore[arg-type]
    with pytest.raises(ViceError, match="`simulations`"):
        null_band([[0.5]], simulations=0)
    with pytest.raises(ViceError, match="`level`"):
        null_band([[0.5]], level=95)
    with pytest.raises(ViceError, match="`bins`"):
        null_band([[0.5]], bins=0)
    with pytest.raises(ViceError, match="the sum 1, but row 1 has"):
        null_band([[0.5, 0.5], [0.5, 0.4]], exclusive=True)


@pytest.mark.parametrize(
    ("unit", "equal_mass"),
    slow_but([("cell", False), ("cell", True), ("class", False), ("class", True)], ("cell", True), ("class", False)),
)
def test_of_many_images_sums_are_drawn_in_place_of_classes(
    unit: str, equal_mass: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = softmax(np.random.default_rng(5).normal(0, 3, (1500, 120)))
    given = {"unit": unit, "equal_mass": equal_mass, "exclusive": True, "simulations": 3000}
    monkeypatch.setattr(bands, "MOST_DRAWS", 1500 * 3000)
    one_by_one = null_band(p, seed=1, **given)  # type: ignore[arg-type]
    monkeypatch.setattr(bands, "MOST_DRAWS", 1500 * 3000 - 1)
    sums = null_band(p, seed=1, **given)  # type: ignore[arg-type]
    assert sums.median != one_by_one.median
    width = one_by_one.high - one_by_one.low
    for end in ("low", "median", "high"):
        assert getattr(sums, end) == pytest.approx(getattr(one_by_one, end), abs=0.1 * width)


def test_few_classes_depend_on_each_other_and_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    p = softmax(np.random.default_rng(5).normal(0, 3, (200, 4)))
    expected = null_band(p, unit="class", exclusive=True)
    monkeypatch.setattr(bands, "MOST_DRAWS", 0)
    assert null_band(p, unit="class", exclusive=True).median == expected.median
