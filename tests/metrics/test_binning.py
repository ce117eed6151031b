"""binning: where an edge belongs, and bins of equal mass and of equal count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference
from torchvice.errors import ViceError
from torchvice.metrics import parallel
from torchvice.metrics.binning import (
    equal_count_means,
    equal_mass_edges,
    equal_mass_index,
    equal_width_edges,
    equal_width_index,
)

VICE = np.load(reference.FILES / "E_vice.npz")


def test_edges_are_the_original_float32_ones() -> None:
    edges = equal_width_edges(20)
    assert edges.dtype == np.float64
    assert np.array_equal(edges[1:], np.load(reference.FILES / "D_metrics.npz")["bin_upper"].astype(float))
    assert (edges[0], edges[-1]) == (0.0, 1.0)
    # float32 has 0.44999999 and 0.45000002 about 0.45; the upper one takes in 0.45 of either precision.
    assert edges[9] > 0.45 > float(np.float32(0.45))
    assert equal_width_index([0.45, np.float32(0.45)], edges, first_takes_zero=False).tolist() == [8, 8]


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 14, 15, 20, 50, 100, 300])
def test_edges_are_those_of_torch(bins: int) -> None:
    assert np.array_equal(equal_width_edges(bins), torch.linspace(0, 1, bins + 1).double().numpy())


def test_every_edge_closes_the_bin_below_it() -> None:
    edges = equal_width_edges(20)
    assert equal_width_index(edges, edges, first_takes_zero=False).tolist() == list(range(-1, 20))
    assert equal_width_index(edges, edges, first_takes_zero=True).tolist() == [0, *range(20)]
    assert equal_width_index(np.nextafter(edges[:-1], 1), edges, first_takes_zero=False).tolist() == list(range(20))


def test_what_lies_outside_is_in_no_bin() -> None:
    outside = [-1e-9, 1 + 1e-9, np.nan, np.inf, -np.inf]
    for takes_zero in (False, True):
        assert equal_width_index(outside, equal_width_edges(3), takes_zero).tolist() == [-1] * 5


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 40))
def test_index_is_the_bin_that_holds_the_value(values: list[float], bins: int) -> None:
    edges = equal_width_edges(bins)
    for value, index in zip(values, equal_width_index(values, edges, first_takes_zero=False).tolist(), strict=True):
        assert (value == 0) if index == -1 else edges[index] < value <= edges[index + 1]


def test_means_by_hand() -> None:
    # Sorted by loss: (1, .9) (2, .5) (3, .4) (4, .2) (5, 0). Two bins: three images, then two.
    loss, quality = [5.0, 3.0, 1.0, 4.0, 2.0], [0.0, 0.4, 0.9, 0.2, 0.5]
    low, high = equal_count_means(loss, quality, 2)
    assert low.tolist() == pytest.approx([2.0, 4.5])
    assert high.tolist() == pytest.approx([0.6, 0.1])


def test_means_are_the_original_ones() -> None:
    for name in {key.split("/")[0] for key in VICE.files} - {"n48_bins300"}:
        loss, quality = VICE[f"{name}/loss"], VICE[f"{name}/miou"]
        means = equal_count_means(loss, quality, len(VICE[f"{name}/bin_loss"]))
        for found, published in zip(means, (VICE[f"{name}/bin_loss"], VICE[f"{name}/bin_miou"]), strict=True):
            assert found == pytest.approx(published, abs=1e-12, nan_ok=True), name


def test_bins_without_an_image_are_nan() -> None:
    loss, quality = equal_count_means([2.0, 1.0], [0.2, 0.1], 3)
    assert loss.tolist()[:2] == [1.0, 2.0]
    assert quality.tolist()[:2] == [0.1, 0.2]
    assert np.isnan([loss[2], quality[2]]).all()
    assert np.isnan(equal_count_means([], [], 2)).all()


def test_ties_keep_their_order_and_nan_its_bin() -> None:
    loss, quality = equal_count_means([1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.3, np.nan], 2)
    assert loss.tolist() == [1.0, 1.0]
    assert quality[0] == pytest.approx(0.15)
    assert np.isnan(quality[1])


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 12))
def test_bins_hold_equally_many_and_all_of_them(rows: list[tuple[float, float]], bins: int) -> None:
    loss, quality = (np.array(column) for column in zip(*rows, strict=True))
    counts = np.array([len(loss) // bins + (b < len(loss) % bins) for b in range(bins)])
    low, high = equal_count_means(loss, quality, bins)
    full = counts > 0
    assert (low[full] * counts[full]).sum() == pytest.approx(loss.sum(), abs=1e-9)
    assert (high[full] * counts[full]).sum() == pytest.approx(quality.sum(), abs=1e-9)
    assert (np.diff(low[full]) >= -1e-12).all()
    assert np.isnan(low[~full]).all()


def test_tensors_serve_and_inputs_stay() -> None:
    loss, quality = torch.tensor([2.0, 1.0], requires_grad=True), torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    assert [means.tolist() for means in equal_count_means(loss, quality, 2)] == [[1.0, 2.0], [0.25, 0.5]]
    values = np.array([0.0, 0.3])
    values.setflags(write=False)
    assert equal_width_index(values, equal_width_edges(2), first_takes_zero=True).tolist() == [0, 0]
    assert equal_width_index(torch.tensor([0.3, 0.9]), equal_width_edges(2), first_takes_zero=True).tolist() == [0, 1]


def test_wrong_arguments() -> None:
    with pytest.raises(ViceError, match="`bins` must be at least 1, but is 0"):
        equal_width_edges(0)
    with pytest.raises(ViceError, match="`bins` must be at least 1, but is -3"):
        equal_count_means([1.0], [0.5], -3)
    with pytest.raises(ViceError, match="`loss` 2, `quality` 1"):
        equal_count_means([1.0, 2.0], [0.5], 1)
    with pytest.raises(ViceError, match="`quality` must have 1 dimensions"):
        equal_count_means([1.0], [[0.5]], 1)


def test_equal_mass_by_hand() -> None:
    edges = equal_mass_edges([4.0, 1.0, 3.0, 2.0], 2)
    assert edges.tolist() == [1.0, 2.5, 4.0]
    assert equal_mass_index([1.0, 2.0, 2.5, 3.0, 4.0], edges).tolist() == [0, 0, 0, 1, 1]


@given(st.lists(st.integers(0, 8).map(lambda level: level / 8), min_size=1, max_size=40), st.integers(1, 12))
def test_equal_values_are_never_parted_and_all_have_a_bin(values: list[float], bins: int) -> None:
    edges = equal_mass_edges(values, bins)
    index = equal_mass_index(values, edges)
    assert 1 <= len(edges) - 1 <= bins
    assert (np.diff(edges) > 0).all() or len(set(values)) == 1
    assert ((index >= 0) & (index < len(edges) - 1)).all()
    assert len({(v, i) for v, i in zip(values, index.tolist(), strict=True)}) == len(set(values))
    # In order of the values.
    assert (np.diff(index[np.argsort(values, kind="stable")]) >= 0).all()


def test_equal_mass_without_values_and_of_one_value() -> None:
    assert equal_mass_edges([], 5).tolist() == [0.0, 1.0]
    with pytest.raises(ViceError, match="1 of 2 are NaN"):
        equal_mass_edges([0.3, np.nan], 5)
    assert equal_mass_index([0.3, 0.3], equal_mass_edges([0.3, 0.3], 5)).tolist() == [0, 0]
    with pytest.raises(ViceError, match="`bins` must be at least 1"):
        equal_mass_edges([0.5], 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 30))
def test_edges_of_equal_mass_are_numpys_quantiles_to_the_last_bit(values: list[float], bins: int) -> None:
    expected = np.unique(np.quantile(values, np.arange(bins + 1) / bins))
    found = equal_mass_edges(values, bins)
    np.testing.assert_array_equal(found, expected if len(expected) > 1 else np.repeat(expected, 2))


def test_many_values_are_placed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(1000).round(2)
    mass, width = equal_mass_edges(values, 7), equal_width_edges(10)
    whole = equal_mass_index(values, mass), equal_width_index(values, width, first_takes_zero=True)
    monkeypatch.setattr(parallel, "BLOCK", 90)
    np.testing.assert_array_equal(equal_mass_index(values, mass), whole[0])
    np.testing.assert_array_equal(equal_width_index(values, width, first_takes_zero=True), whole[1])
