"""Many different label counts, and a sensitivity that fails: the rest of the measurement stands."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import measure, true_pairs
from torchvice.metrics.partial import PartialSpearman


def test_more_than_fifty_label_counts_end_no_measurement() -> None:
    whole = simulated(150, classes=160)
    most = np.arange(len(whole.images))[:, None] + 4
    targets = np.where(np.arange(160) < most, whole.images.targets, 0)
    samples = replace(whole, images=replace(whole.images, targets=targets))
    pairs = true_pairs(samples)
    counts = np.unique(pairs.labels)
    assert len(counts) > 50
    found = measure(samples, replicates=100)
    merged = np.minimum(pairs.labels, counts[49])
    expected = PartialSpearman(pairs.logit, pairs.quality, pairs.area, merged).value
    assert found.sensitivities["partial_spearman"] == pytest.approx(expected)
    assert 0 < found.tests["sensitivities.partial_spearman"]["p"] <= 1


def test_a_sensitivity_that_fails_ends_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ViceError("No such sensitivity.", "None.")

    monkeypatch.setattr("torchvice.measures.consistency.partial_spearman", refuse)
    found = measure(simulated(40), replicates=100)
    assert found.undefined["sensitivities.partial_spearman"] == "No such sensitivity."
    assert math.isfinite(found.sensitivities["within_class"])
