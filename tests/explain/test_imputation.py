"""Imputation: by hand, against pytorch-grad-cam's, and what a solution of the system must satisfy."""

from __future__ import annotations

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.explain.imputation import impute


def test_by_hand() -> None:
    # The middle of 3 x 3: sides weigh 1/6, corners 1/12.
    image = np.array([[[1.0, 2, 3], [4, -99, 6], [7, 8, 9]]])
    missing = np.zeros((3, 3), bool)
    missing[1, 1] = True
    expected = (2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 9) / 12
    assert impute(image, missing)[0, 1, 1] == pytest.approx(expected)
    assert image[0, 1, 1] == -99  # the argument is as it was
    # A row of two missing pixels between 0 and 3 is a straight line.
    line = impute(np.array([[[0.0, 5, 5, 3]]]), np.array([[False, True, True, False]]))
    np.testing.assert_allclose(line[0, 0], [0, 1, 2, 3])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_as_pytorch_grad_cam_has_it(share: float) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    image, missing = rng.normal(size=(3, 17, 23)), rng.random((17, 23)) < share
    missing[:5, :7] = True  # a hole that reaches the corner
    theirs = road.NoisyLinearImputer(noise=0)(torch.tensor(image).float(), torch.tensor(~missing).float())
    np.testing.assert_allclose(impute(image, missing), theirs, atol=1e-5)


def test_filled_pixels_lie_between_the_others_and_noise_is_added_only_to_them() -> None:
    rng = np.random.default_rng(1)
    image, missing = rng.random((2, 9, 9)).astype(np.float32), rng.random((9, 9)) < 0.7
    filled, noise = impute(image, missing), rng.normal(size=image.shape)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[:, ~missing], image[:, ~missing])
    for channel in range(2):
        there = image[channel, ~missing]
        assert filled[channel].min() >= there.min() - 1e-6
        assert filled[channel].max() <= there.max() + 1e-6
    shaken = impute(image, missing, noise)
    np.testing.assert_allclose(shaken[:, missing], (filled + noise)[:, missing], atol=1e-6)
    np.testing.assert_array_equal(shaken[:, ~missing], image[:, ~missing])


def test_nothing_missing_and_nothing_left() -> None:
    image = np.ones((1, 2, 2))
    np.testing.assert_array_equal(impute(image, np.zeros((2, 2), bool), 1.0), image)
    with pytest.raises(ViceError, match="none is left"):
        impute(image, np.ones((2, 2), bool))
