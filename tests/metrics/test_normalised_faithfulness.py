"""Normalised faithfulness: by hand, where it is undefined, and why raw areas are not compared."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics import normalised_faithfulness


def test_by_hand() -> None:
    # 0.2 of the 0.8 that there are; the same curve upside down, where the blank image has the higher p.
    found = normalised_faithfulness([0.7, 0.3, 0.5], [0.5, 0.5, 0.5], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1])
    np.testing.assert_allclose(found, [0.25, 0.25, 0])


def test_undefined_is_nan_and_stays_where_it_is() -> None:
    found = normalised_faithfulness([0.5] * 4 + [np.nan], [0.4] * 5, [0.50, 0.46, 0.55, np.nan, 0.9], [0.5] * 5)
    assert np.isnan(found).tolist() == [True, True, False, True, True]
    assert not np.isnan(normalised_faithfulness([0.5], [0.4], [0.46], [0.5], floor=0.01)).any()
    assert normalised_faithfulness([], [], [], []).shape == (0,)


def test_wrong_arguments() -> None:
    with pytest.raises(ViceError, match="one length"):
        normalised_faithfulness([0.5], [0.4, 0.4], [0.9], [0.1])
    with pytest.raises(ViceError, match="floor"):
        normalised_faithfulness([0.5], [0.4], [0.9], [0.1], floor=0)


def test_raw_areas_follow_p_and_normalised_ones_do_not() -> None:
    """Maps that have nothing to do with the image: their order is a random one, as are those of the reference."""
    rng = np.random.default_rng(0)
    n, steps, orders = 4000, 20, 3
    p_full, p_blank = rng.uniform(0, 1, n), rng.uniform(0, 0.4, n)

    def areas() -> np.ndarray:
        """Of curves that rise from p_blank to p_full along a random way."""
        ways = np.sort(rng.random((n, steps - 1)) ** rng.uniform(0.3, 3, (n, 1)), axis=1)
        curve = np.hstack([np.zeros((n, 1)), ways, np.ones((n, 1))])
        return p_blank + (p_full - p_blank) * (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2

    raw, chance = areas(), np.mean([areas() for _ in range(orders)], axis=0)
    normalised = normalised_faithfulness(raw, chance, p_full, p_blank)
    defined = ~np.isnan(normalised)
    assert np.corrcoef(raw, p_full)[0, 1] > 0.5
    # 95 % of uncorrelated samples of this size lie within 0.032.
    assert abs(np.corrcoef(normalised[defined], p_full[defined])[0, 1]) < 0.05
    assert 0.8 < defined.mean() < 1
