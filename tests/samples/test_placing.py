"""Maps of a centre crop lie in the middle of the image wherever they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchvice.data.transforms import uncrop
from torchvice.interop import bilinear
from torchvice.samples.placing import whole_map


@pytest.mark.parametrize("size", [(64, 64), (157, 169), (90, 41), (33, 200), (20, 20)])
@pytest.mark.parametrize("side", [64, 47])
def test_a_crop_lies_where_it_was_counted(size: tuple[int, int], side: int) -> None:
    low = np.random.default_rng(0).random((5, 5))
    expected = uncrop(torch.from_numpy(bilinear(low[None], (side, side))[0]), size).numpy()
    np.testing.assert_allclose(whole_map(low, f"crop{side}", size, size), expected, atol=1e-5)


def test_the_coarse_map_of_a_crop_shows_the_same() -> None:
    low = np.random.default_rng(1).random((6, 6))
    fine = whole_map(low, "crop96", (200, 300), (200, 300))
    coarse = whole_map(low, "crop96", (200, 300))
    assert coarse.shape == (50, 75)
    # What the page makes of it: enlarged again, with an edge that is at most a cell wide.
    drawn = bilinear(coarse[None], (200, 300))[0]
    assert np.corrcoef(drawn.ravel(), fine.ravel())[0, 1] > 0.97
    assert drawn[:40].max() == drawn[:, :90].max() == 0


def test_other_views_show_the_whole_image() -> None:
    low = np.random.default_rng(2).random((4, 7))
    for view in ("warp224", "whole", ""):
        assert whole_map(low, view, (50, 60)) is low
        np.testing.assert_allclose(
            whole_map(low, view, (50, 60), (50, 60)), bilinear(low[None], (50, 60))[0], atol=1e-5
        )
