"""Localisation without a threshold: values by hand, plain loops over pixels, scikit-learn, properties and edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from torchvice.errors import ViceError
from torchvice.explain import normalise
from torchvice.metrics.localisation import (
    RESCALINGS,
    histogram_iou,
    iou_area,
    pixel_average_precision,
    renormalised_iou,
)
from torchvice.metrics.overlap import own_histograms

BINS = 256


def drawn(count: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps on multiples of 1/256, each with its maximum at 1, and boolean objects."""
    rng = np.random.default_rng(seed)
    maps, objects = [], []
    for _ in range(count):
        values = rng.integers(20, BINS, (9, 11)) / BINS
        values.flat[rng.integers(99)] = 1.0
        maps.append(values)
        objects.append(rng.random((9, 11)) < 0.3)
    return maps, objects


def histograms(maps: list[np.ndarray], objects: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    parts = [own_histograms([m], [0], o.astype(int), BINS) for m, o in zip(maps, objects, strict=True)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def test_pixel_average_precision_by_hand() -> None:
    # From the top: bin 2 holds 1 object pixel and no other (precision 1), bin 1 holds 1 and 2 (precision 2 / 4).
    assert pixel_average_precision([[0, 1, 1]], [[5, 2, 0]]) == pytest.approx((1 + 0.5) / 2)


def test_pixel_average_precision_is_that_of_scikit_learn_over_all_pixels() -> None:
    maps, objects = drawn(7)
    scores, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([o.ravel() for o in objects])
    expected = average_precision_score(truth, np.minimum(np.floor(scores * BINS), BINS - 1))
    assert pixel_average_precision(*histograms(maps, objects)) == pytest.approx(expected, abs=1e-12)


def test_a_map_that_says_nothing_scores_the_share_of_the_objects() -> None:
    assert pixel_average_precision([[0, 3]], [[0, 9]]) == pytest.approx(0.25)


def test_iou_is_that_of_the_pixels() -> None:
    maps, objects = drawn(4)
    found = histogram_iou(*histograms(maps, objects))
    for row, (values, inside) in enumerate(zip(maps, objects, strict=True)):
        for b in (0, 1, 100, 255):
            predicted = values * BINS >= b if b < 255 else values * BINS >= 255
            assert found[row, b] == pytest.approx((predicted & inside).sum() / (predicted | inside).sum())


def test_area_is_the_mean_over_thresholds_and_one_for_the_perfect_map_alone() -> None:
    maps, objects = drawn(3)
    found = histograms(maps, objects)
    assert iou_area(*found) == pytest.approx(histogram_iou(*found).mean())
    perfect = [o.astype(float) for o in objects]
    inside, outside = histograms(perfect, objects)
    # The lowest of the bins takes everything for foreground.
    share = np.mean([o.mean() for o in objects])
    assert iou_area(inside, outside) == pytest.approx((BINS - 1 + share) / BINS)


@pytest.mark.parametrize("how", RESCALINGS)
def test_another_normalisation_is_that_of_the_pixels(how: str) -> None:
    maps, objects = drawn(5, seed=3)
    thresholds = np.arange(0.05, 1, 0.1)
    found = renormalised_iou(*histograms(maps, objects), how, thresholds)
    for row, (values, inside) in enumerate(zip(maps, objects, strict=True)):
        low = values.min() if how == "minmax" else 0.0
        top = values.max() if how != "percentile" else np.sort(values, axis=None)[int(np.ceil(0.99 * values.size)) - 1]
        for t, threshold in enumerate(thresholds):
            # A bin of slack on either side: the histogram knows no more.
            near = [((v := values - shift / BINS - low) > threshold * (top - low), v)[0] for shift in (-1, 0, 1)]
            iou = [(predicted & inside).sum() / (predicted | inside).sum() for predicted in near]
            assert min(iou) - 1e-12 <= found[row, t] <= max(iou) + 1e-12


def test_the_maps_own_normalisation_is_the_histogram_itself() -> None:
    maps, objects = drawn(3)
    inside, outside = histograms(maps, objects)
    at = np.arange(0, BINS, 16) / BINS
    assert renormalised_iou(inside, outside, "max", at) == pytest.approx(histogram_iou(inside, outside)[:, ::16])


@pytest.mark.parametrize("how", RESCALINGS)
def test_at_threshold_0_the_lowest_values_are_no_foreground(how: str) -> None:
    # 0 outside of a square that is a quarter of the image; the object is the upper half of the square.
    values, inside = np.zeros((8, 8)), np.zeros((8, 8), bool)
    values[:4, :4], inside[:2, :4] = np.arange(1, 17).reshape(4, 4) / 16, True
    found = renormalised_iou(*histograms([values], [inside]), how, [0.0, 0.4, 0.9])[0]
    assert found[0] == 8 / 16
    scaled = normalised(values, how)
    assert found == pytest.approx([iou_of(scaled > t, inside) for t in (0.0, 0.4, 0.9)])


def normalised(values: np.ndarray, how: str) -> np.ndarray:
    plane = torch.from_numpy(values.astype(np.float32))[None]
    return normalise(plane, how)[0].numpy()


def iou_of(predicted: np.ndarray, inside: np.ndarray) -> float:
    return float((predicted & inside).sum() / (predicted | inside).sum())


def test_minmax_takes_the_bin_of_the_minimum_for_the_minimum() -> None:
    values = np.full((10, 10), 0.5)
    values[:3, :], values[0, 0] = 0.75, 1.0
    inside = values > 0.6
    found = renormalised_iou(*histograms([values], [inside]), "minmax", [0.0, 0.3, 0.8])[0]
    assert found == pytest.approx([iou_of(normalised(values, "minmax") > t, inside) for t in (0.0, 0.3, 0.8)])
    assert found[0] == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_has_no_foreground_under_minmax(value: float) -> None:
    values, inside = np.full((6, 5), value), np.zeros((6, 5), bool)
    inside[:3] = True
    thresholds = np.arange(100) / 100
    found = renormalised_iou(*histograms([values], [inside]), "minmax", thresholds)[0]
    expected = [iou_of(normalised(values, "minmax") > t, inside) for t in thresholds]
    assert found.tolist() == expected == [0.0] * 100
    by_maximum = renormalised_iou(*histograms([values], [inside]), "max", thresholds)[0]
    assert by_maximum.tolist() == [0.5 * value] * 100


def test_a_sparse_map_is_divided_by_its_maximum_where_the_percentile_is_0() -> None:
    values, inside = np.zeros((100, 100)), np.zeros((100, 100), bool)
    values[50:57, 50:57] = np.linspace(77, 256, 49).astype(int).reshape(7, 7) / 256  # 0.5 % of the pixels
    inside[50:57, 50:57] = True
    thresholds = np.arange(0, 100, 10) / 100
    found = renormalised_iou(*histograms([values], [inside]), "percentile", thresholds)[0]
    expected = [iou_of(normalised(values, "percentile") > t, inside) for t in thresholds]
    assert found == pytest.approx(expected, abs=2 / 49)  # a bin more or less
    assert found[0] == 1
    assert found[-1] < 0.2
    assert found.tolist() == renormalised_iou(*histograms([values], [inside]), "max", thresholds)[0].tolist()


def test_edges() -> None:
    nothing = np.zeros((0, BINS))
    assert np.isnan(pixel_average_precision(nothing, nothing))
    assert np.isnan(iou_area(nothing, nothing))
    assert renormalised_iou(nothing, nothing, "minmax", [0.5]).shape == (0, 1)
    assert np.isnan(histogram_iou([[0, 0]], [[1, 2]])).all()
    assert np.isnan(renormalised_iou([[0, 0], [0, 0]], [[1, 2], [0, 0]], "minmax", [0.0, 0.5])).all()
    assert np.isnan(iou_area([[0, 0]], [[1, 2]]))
    with pytest.raises(ViceError, match="of one shape"):
        histogram_iou([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ViceError, match="negative"):
        histogram_iou([[1, -2]], [[1, 2]])
    with pytest.raises(ViceError, match="`how` must be one of"):
        renormalised_iou([[1, 2]], [[1, 2]], "sum", [0.5])
