"""Functions of rows, block by block, and the number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics import confidence, cross_entropy, multilabel, parallel, sample_accuracy, sample_loss, sigmoid
from torchvice.metrics.bands import null_band
from torchvice.metrics.localisation import iou_area, pixel_average_precision, renormalised_iou
from torchvice.metrics.losses import log_softmax, softmax
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.smoothing import smooth_ece
from torchvice.metrics.weighted import Mean, Spearman
from torchvice.metrics.weighted_scores import MeanAveragePrecision
from torchvice.samples.true_labels import TrueLabels

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (101, 7)).astype(np.float32)
SHOWN = (np.arange(7) == RNG.integers(0, 7, (101, 1))).astype(np.uint8)


@pytest.mark.parametrize(
    ("function", "arrays"),
    [
        (sigmoid, (LOGITS,)),
        (softmax, (LOGITS,)),
        (log_softmax, (LOGITS,)),
        (sample_loss, (LOGITS, SHOWN)),
        (cross_entropy, (LOGITS, SHOWN)),
        (confidence, (sigmoid(LOGITS),)),
        (sample_accuracy, (LOGITS > 0, SHOWN)),
        (multilabel.sample_f1, (LOGITS > 0, SHOWN)),
        (multilabel.sample_precision, (sigmoid(LOGITS), SHOWN)),
    ],
)
def test_blocks_give_the_same_bits(function, arrays, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    whole = function(*arrays)
    for block in (7, 50, 700):  # one row, seven, a hundred
        monkeypatch.setattr(parallel, "BLOCK", block)
        found = function(*arrays)
        assert found.dtype == whole.dtype
        assert found.tobytes() == whole.tobytes()


COUNTS = RNG.integers(0, 9, (60, 12)), RNG.integers(1, 9, (60, 12))
SURE = softmax(LOGITS)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: iou_area(*COUNTS),
        lambda: pixel_average_precision(*COUNTS),
        lambda: renormalised_iou(*COUNTS, "percentile", [0.2, 0.5]),
        lambda: smooth_ece(SURE.ravel(), SHOWN.ravel()),
        lambda: null_band(SURE, unit="cell", exclusive=True, simulations=400_000 // len(SURE)).median,
        lambda: TrueLabels.of(LOGITS, SHOWN, SURE, SURE > 0.5, exclusive=True).margin,
        lambda: MeanAveragePrecision(SURE, SHOWN).linear()[1],
    ],
)
def test_sums_of_blocks_are_those_of_all(compute: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvice.metrics.bands.MOST_DRAWS", 10)  # so that bins are drawn, not classes
    whole = compute()
    for block in (7, 50, 700):
        monkeypatch.setattr(parallel, "BLOCK", block)
        np.testing.assert_allclose(compute(), whole, rtol=1e-12)


def test_precision_and_recall_add_up_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for choice in ({"threshold": 0.5}, {"threshold": None, "top_k": 3}):
        whole = multilabel.precision_recall(sigmoid(LOGITS), SHOWN, **choice)
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "BLOCK", 50)
            assert multilabel.precision_recall(sigmoid(LOGITS), SHOWN, **choice) == whole


def test_an_error_names_the_row_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BLOCK", 50)
    wrong = SHOWN.copy()
    wrong[73] = 0
    with pytest.raises(ViceError, match="row 73 has 0"):
        cross_entropy(LOGITS, wrong)


def test_threads_are_those_of_this_process_or_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    here = len(os.sched_getaffinity(0))
    assert parallel.threads() == min(here, 8)
    for chosen, expected in (("1", 1), ("1000", min(here, 8)), ("two", min(here, 8)), ("0", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
        assert parallel.threads() == expected


@pytest.mark.parametrize("statistic", [Mean(RNG.random(900)), Spearman(RNG.random(900).round(1), RNG.random(900))])
def test_replicates_do_not_depend_on_the_number_of_threads(statistic, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    found = []
    for count in (1, 3):
        monkeypatch.setattr("torchvice.metrics.resampling.threads", lambda count=count: count)
        found.append(Resampling(900, 501).replicates_of(statistic))
    assert found[0].tobytes() == found[1].tobytes()
