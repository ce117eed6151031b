"""ECE-ML of weighted images: the same as of repeated rows."""

from __future__ import annotations

import numpy as np

from torchvice.metrics import multilabel_ece
from torchvice.metrics.weighted_ece import MultilabelEce


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    probabilities = np.round(rng.random((60, 4)), 1)  # on the bins' edges, 0 and 1 among them
    targets = (rng.random((60, 4)) < 0.4).astype(int)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=30)
    statistic = MultilabelEce(probabilities, targets, bins=10)
    for value, weight in zip(statistic(weights), weights, strict=True):
        rows = np.repeat(np.arange(60), weight)
        assert abs(value - multilabel_ece(probabilities[rows], targets[rows], 10, "strict")) < 1e-12
    assert abs(statistic.value - multilabel_ece(probabilities, targets, 10, "strict")) < 1e-12


def test_without_images_it_is_undefined() -> None:
    assert np.isnan(MultilabelEce([[0.5]], [[0]])(np.array([[0]]))).all()
    assert np.isnan(MultilabelEce(np.zeros((0, 2)), np.zeros((0, 2)))(np.zeros((1, 0)))).all()
