"""mAP of weighted images: the same as of repeated rows, by scikit-learn and by our own point estimate."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from torchvice.metrics import mean_average_precision
from torchvice.metrics.weighted_ap import MeanAveragePrecision


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 12, (40, 5)) / 12, (rng.random((40, 5)) < 0.3).astype(int)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=30)
    found = MeanAveragePrecision(scores, targets)(weights)
    for value, weight in zip(found, weights, strict=True):
        rows = np.repeat(np.arange(40), weight)
        expected = np.mean(
            [average_precision_score(targets[rows, c], scores[rows, c]) for c in range(5) if targets[rows, c].any()]
        )
        assert abs(value - expected) < 1e-12
        assert abs(value - mean_average_precision(scores[rows], targets[rows], "strict")) < 1e-12


def test_a_resampling_without_any_label_is_undefined() -> None:
    found = MeanAveragePrecision([[0.5], [0.2]], [[1], [0]])(np.array([[0, 2], [1, 1]]))
    assert np.isnan(found[0])
    assert found[1] == 1
    assert np.isnan(MeanAveragePrecision([[0.5]], [[0]])(np.array([[1]]))).all()
