"""Functions of rows, block by block, and the number of threads."""

from __future__ import annotations

import os

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics import confidence, cross_entropy, multilabel, parallel, sample_accuracy, sample_loss, sigmoid
from torchvice.metrics.losses import log_softmax, softmax
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import Mean, Spearman

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
