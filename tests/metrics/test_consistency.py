"""consistency: VICE as published, VICE over true pairs, and the two divergences published with it."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import reference
from torchvice.errors import ViceError
from torchvice.metrics import js_divergence, kl_divergence, pair_vice, sample_loss, vice

ORIGINAL = np.load(reference.FILES / "E_vice.npz")
with open(reference.FILES / "E_vice.csv", newline="") as file:
    TABLE = {row["set"]: row for row in csv.DictReader(file)}
DEFINED = [name for name in TABLE if name not in ("miou_nan", "const_loss")]

LEVELS = st.integers(0, 50).map(lambda level: level / 50)
ROWS = st.lists(st.tuples(LEVELS, LEVELS), min_size=3, max_size=25)


def columns(rows: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.array(column) for column in zip(*rows, strict=True))
    assume(np.ptp(first) > 0 and np.ptp(second) > 0)
    return first, second


def test_vice_by_hand() -> None:
    # Deviations of the loss (-1, 0, 1), of the JI (1, -2, 1) / 6: their products sum to 0.
    assert vice([1.0, 2.0, 3.0], [0.5, 0.0, 0.5]).value == pytest.approx(0.0, abs=1e-15)
    # (-1, 0, 1) with (0.3, 0, -0.3): a falling line.
    assert vice([1.0, 2.0, 3.0], [0.8, 0.5, 0.2]).value == pytest.approx(1.0, abs=1e-15)
    # (-1, 0, 1) with (2, -1, -1) / 6: covariance -3/6, norms sqrt(2) and sqrt(6)/6, so VICE = 3 / sqrt(12).
    assert vice([1.0, 2.0, 3.0], [0.5, 0.0, 0.0]).value == pytest.approx(3 / math.sqrt(12), abs=1e-15)


@pytest.mark.parametrize("name", DEFINED)
def test_numbers_of_the_original(name: str) -> None:
    loss, ji = ORIGINAL[f"{name}/loss"], ORIGINAL[f"{name}/miou"]
    assert vice(loss, ji).value == pytest.approx(float(TABLE[name]["pearson"]), abs=1e-9)
    assert kl_divergence(loss, ji) == pytest.approx(float(TABLE[name]["KL"]), abs=1e-9)
    assert js_divergence(loss, ji) == pytest.approx(float(TABLE[name]["JS"]), abs=1e-9)


def test_where_the_original_had_no_number() -> None:
    loss, ji = ORIGINAL["miou_nan/loss"], ORIGINAL["miou_nan/miou"]
    lost = int(np.isnan(ji).sum())
    found = vice(loss, ji)
    assert math.isnan(found.value)
    assert (found.n, found.undefined) == (20 - lost, lost)
    assert math.isnan(kl_divergence(loss, ji))
    assert math.isnan(js_divergence(loss, ji))
    rest = vice(loss, ji, nan_policy="omit")
    kept = ~np.isnan(ji)
    assert (rest.value, rest.n, rest.undefined) == (vice(loss[kept], ji[kept]).value, 20 - lost, lost)
    # It correlated a constant and got the noise of rounding, -5e-16.
    with pytest.raises(ViceError, match="`loss` must vary over the images"):
        vice(ORIGINAL["const_loss/loss"], ORIGINAL["const_loss/miou"])


@settings(deadline=None)
@given(ROWS)
def test_vice_is_the_plain_loop_and_scipy(rows: list[tuple[float, float]]) -> None:
    loss, ji = columns(rows)
    found = vice(loss, ji).value
    assert -1 <= found <= 1
    assert found == pytest.approx(-reference.pearson(loss.tolist(), ji.tolist()), abs=1e-9)
    assert found == pytest.approx(scipy.stats.pearsonr(-loss, ji).statistic, abs=1e-9)


@settings(deadline=None)
@given(ROWS, st.floats(0.01, 100), st.floats(-5, 5), st.randoms(use_true_random=False))
def test_vice_is_blind_to_order_scale_and_shift(
    rows: list[tuple[float, float]], scale: float, shift: float, random: object
) -> None:
    loss, ji = columns(rows)
    found = vice(loss, ji).value
    order = list(range(len(loss)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert vice(loss[order], ji[order]).value == pytest.approx(found, abs=1e-9)
    assert vice(loss * scale + shift, ji).value == pytest.approx(found, abs=1e-6)
    assert vice(loss, 1 - ji).value == pytest.approx(-found, abs=1e-9)
    # Every image twice says the same.
    assert vice(np.tile(loss, 2), np.tile(ji, 2)).value == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_tiny_and_huge_losses_neither_vanish_nor_overflow(scale: float) -> None:
    loss = np.array([0.1, 0.4, 0.9])
    assert vice(loss * scale, [0.8, 0.5, 0.1]).value == pytest.approx(vice(loss, [0.8, 0.5, 0.1]).value, abs=1e-12)


@settings(deadline=None)
@given(ROWS)
def test_pair_vice_is_the_plain_loop_and_scipy(rows: list[tuple[float, float]]) -> None:
    logits, iou = columns(rows)
    found = pair_vice(logits, iou).value
    assert found == pytest.approx(reference.spearman(logits.tolist(), iou.tolist()), abs=1e-9)
    assert found == pytest.approx(scipy.stats.spearmanr(logits, iou).statistic, abs=1e-9)


def test_pair_vice_by_hand() -> None:
    # Ranks of the logits 1 2 3 4, of the IoUs 1.5 1.5 4 3 (a tie at 0, both missed). Deviations from 2.5:
    # (-1.5 -.5 .5 1.5) and (-1 -1 1.5 .5); products 1.5 + .5 + .75 + .75 = 3.5; squares 5 and 4.5.
    found = pair_vice([-2.0, 0.1, 0.5, 9.0], [0.0, 0.0, 0.7, 0.3])
    assert found.value == pytest.approx(3.5 / math.sqrt(5 * 4.5), abs=1e-15)
    assert (found.n, found.undefined) == (4, 0)


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_temperature_leaves_strict_vice_but_not_the_published_one(rows: list[tuple[float, float]], t: float) -> None:
    logits, iou = columns(rows)
    assert pair_vice(logits / t, iou).value == pair_vice(logits, iou).value
    # Any rising map of the logits serves, the log-likelihood as well.
    assert pair_vice(np.exp(logits), iou**2).value == pair_vice(logits, iou).value


def test_published_vice_changes_with_the_temperature() -> None:
    logits, targets = np.array([[4.0], [1.0], [-3.0], [0.5]]), np.ones((4, 1))
    quality = [0.5, 0.6, 0.1, 0.4]
    cold, hot = (vice(sample_loss(logits / t, targets), quality).value for t in (1.0, 5.0))
    assert abs(cold - hot) > 0.01
    assert pair_vice(logits[:, 0], quality).value == pair_vice(logits[:, 0] / 5, quality).value


def test_pairs_with_saturated_likelihoods_are_still_told_apart() -> None:
    # -softplus(-z) is -0.0 for both 800 and 900; the logits are not.
    assert pair_vice([800.0, 900.0, 1.0], [0.5, 0.9, 0.1]).value == 1.0


def test_pair_vice_leaves_nan_out_and_counts_it() -> None:
    found = pair_vice([1.0, np.nan, 2.0, 3.0, 4.0], [0.1, 0.2, np.nan, 0.3, 0.4])
    assert (found.value, found.n, found.undefined) == (1.0, 3, 2)


@pytest.mark.parametrize("measure", [vice, pair_vice])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [], "at least three .*, but 0 of 0 are defined"),
        ([1.0, 2.0], [0.1, 0.2], "at least three .*, but 2 of 2"),
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], "`quality` must vary over the .*, but is 0.5 everywhere"),
        ([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], "must vary"),
        ([1.0, 2.0, np.inf], [0.1, 0.2, 0.3], "must be finite, but hold infinity"),
        ([1.0, 2.0, 3.0], [0.1, 0.2], "must have one length"),
        ([[1.0, 2.0, 3.0]], [[0.1, 0.2, 0.3]], "must have 1 dimensions"),
    ],
)
def test_no_correlation_without_three_that_vary(measure: object, first: list, second: list, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ViceError, match=message):
        measure(first, second)  # type: ignore[operator]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ViceError, match="`nan_policy` must be 'propagate' or 'omit', but is 'drop'"):
        vice([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], nan_policy="drop")  # type: ignore[arg-type]


def test_tensors_serve_and_inputs_stay() -> None:
    loss = torch.tensor([0.125, 0.5, 1.0], dtype=torch.bfloat16, requires_grad=True)
    ji = np.array([0.75, 0.5, 0.125])
    ji.setflags(write=False)
    expected = vice([0.125, 0.5, 1.0], [0.75, 0.5, 0.125])
    assert vice(loss, ji) == expected
    assert vice(loss, torch.tensor(ji)) == expected
    assert pair_vice(loss, ji).value == -1.0
    assert kl_divergence(loss, ji) == kl_divergence([0.125, 0.5, 1.0], ji)


def test_divergences_by_hand() -> None:
    # Scaled to sum 1: (1/4, 3/4) against (1/2, 1/2): 1/4 ln 1/2 + 3/4 ln 3/2.
    assert kl_divergence([1.0, 3.0], [0.2, 0.2]) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    # Mixture before scaling: (2, 4)/6 from p (1, 3)/4 and q (3, 5)/8, so the mixture is (2, 4) / 6.
    p, q, m = (0.25, 0.75), (3 / 8, 5 / 8), (1 / 3, 2 / 3)
    bits = [sum(x * math.log2(x / y) for x, y in zip(v, m, strict=True)) for v in (p, q)]
    assert js_divergence([1.0, 3.0], [3.0, 5.0]) == pytest.approx(sum(bits) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.01, 1)), min_size=1, max_size=20), st.floats(0.1, 10))
def test_divergences_are_the_plain_loop_and_scipy(rows: list[tuple[float, float]], scale: float) -> None:
    loss, ji = (np.array(column) for column in zip(*rows, strict=True))
    assert kl_divergence(loss, ji) == pytest.approx(scipy.stats.entropy(loss, ji), abs=1e-9)
    assert kl_divergence(loss, ji) == pytest.approx(reference.relative_entropy(loss, ji), abs=1e-9)
    assert js_divergence(loss, ji) == pytest.approx(reference.published_js(loss, ji), abs=1e-9)
    assert kl_divergence(loss, ji) >= -1e-12
    assert kl_divergence(loss * scale, ji) == pytest.approx(kl_divergence(loss, ji), abs=1e-9)


def test_published_js_changes_with_the_unit_of_the_loss() -> None:
    # A true Jensen-Shannon divergence would not: the mixture is taken before scaling.
    loss, ji = np.array([1.0, 3.0, 2.0]), np.array([0.5, 0.1, 0.4])
    assert abs(js_divergence(loss, ji) - js_divergence(10 * loss, ji)) > 0.01


def test_divergences_do_not_measure_consistency() -> None:
    # High JI where the loss is low is perfect consistency, where the loss is high its opposite; KL and JS call the
    # opposite the closer one.
    loss, consistent, opposite = [0.2, 0.5, 0.8], [0.8, 0.5, 0.2], [0.2, 0.5, 0.8]
    assert vice(loss, consistent).value == pytest.approx(1.0)
    assert vice(loss, opposite).value == pytest.approx(-1.0)
    assert kl_divergence(loss, opposite) == 0.0 < kl_divergence(loss, consistent)
    assert js_divergence(loss, opposite) == 0.0 < js_divergence(loss, consistent)


def test_divergences_at_the_ends() -> None:
    assert kl_divergence([1.0, 1.0], [0.0, 0.5]) == math.inf
    assert kl_divergence([0.0, 1.0], [0.0, 0.5]) == 0.0
    assert js_divergence([1.0, 1.0], [0.0, 0.5]) < math.inf
    for measure in (kl_divergence, js_divergence):
        assert math.isnan(measure([], []))
        assert math.isnan(measure([1.0, np.nan], [0.5, 0.5]))
        assert math.isnan(measure([1.0, 2.0], [0.0, 0.0]))
        with pytest.raises(ViceError, match="must have one length"):
            measure([1.0], [0.5, 0.5])
