"""Maps with a value that is not finite: a miss, but for the normalisation of `paper` for convolutional networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchvice.assessment.finished import Finished
from torchvice.explain import Choices
from torchvice.explain.choices import paper_choices
from torchvice.metrics.overlap import competing_overlap

SIZE = (20, 30)


@pytest.mark.parametrize(
    ("choices", "view", "passes", "predicted"),
    [
        (Choices(), "warp24", 1, 0),
        (paper_choices(False), "warp24", 1, 0),
        (paper_choices(True), "whole", 2, SIZE[0] * SIZE[1]),
    ],
    ids=["strict", "paper, others", "paper, convolutional"],
)
def test_what_they_predict(choices, view, passes, predicted):
    made = Finished()
    made.choices, made.side, made.settings = choices, 24, {"view": view}
    low = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    low[0, 2, 3] = float("nan")
    full = made.finished([low] * passes, SIZE)
    counts = competing_overlap(full, [0], np.zeros(SIZE, np.uint8), [0.1, 0.5])
    assert counts.predicted[1].tolist() == [predicted] * 2
