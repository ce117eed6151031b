"""Smooth ECE: a calibration error without bins, with an automatic bandwidth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.parallel import results_of, row_blocks

__all__ = ["smooth_ece"]

CELLS = 2**14  # cells of the grid on [0, 1]; a bandwidth of 0.001 spans 16
HALVINGS = 30  # of the search for the bandwidth


def smooth_ece(confidence: ArrayLike, accuracy: ArrayLike, bandwidth: float | None = None) -> float:
    """Smooth ECE: the mean absolute residual after kernel smoothing along the confidence.

    It is the integral over t in [0, 1] of |mean over i of r(i) K(t, confidence(i))|, where r is the residual of every
    event and K the Gaussian kernel of bandwidth s, reflected at 0 and 1. The bandwidth is the one that equals its
    smooth ECE. It is unique, because the error falls as the bandwidth grows.

    Args:
        confidence: (N,) in [0, 1].
        accuracy: (N,) outcomes in [0, 1].
        bandwidth: a fixed bandwidth instead, above 0.

    Returns:
        In [0, 1], 0 is perfect; NaN without events. Confidences are put on a grid of 2^14 cells.

    Raises:
        ViceError: lengths differ, values outside [0, 1] or NaN, or a bandwidth that is not above 0.

    References:
        Blasiok and Nakkiran, Smooth ECE: principled reliability diagrams via kernel smoothing, ICLR 2024.

    Example:
        >>> round(smooth_ece([0.3, 0.3], [1.0, 1.0]), 4)
        0.7
    """
    confidences, outcomes = as_array("confidence", confidence, 1), as_array("accuracy", accuracy, 1)
    n = same_length(confidence=confidences, accuracy=outcomes)
    for name, column in (("confidence", confidences), ("accuracy", outcomes)):
        if n and not (column.min() >= 0 and column.max() <= 1):  # NaN is neither
            raise ViceError(f"`{name}` must lie in [0, 1], but some values do not.")
    if bandwidth is not None and not bandwidth > 0:
        raise ViceError(f"`bandwidth` must be above 0 or None, but is {bandwidth:g}.")
    if not n:
        return float("nan")
    parts = results_of(lambda some: _spread(confidences[some], confidences[some] - outcomes[some]), row_blocks(n, 1))
    residuals = np.sum(parts, axis=0) / n
    # What is reflected at 0 and 1 is even, and repeats itself after 2: its waves are cosines.
    waves = np.fft.rfft(np.concatenate([residuals, residuals[::-1]]))
    if bandwidth is not None:
        return _smoothed(waves, bandwidth)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _smoothed(waves, middle) > middle else (low, middle)
    return (low + high) / 2


def _spread(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Put weights on the centres of the grid's cells, each divided between the two nearest."""
    position = np.clip(places * CELLS - 0.5, 0, CELLS - 1)
    left = np.minimum(position.astype(int), CELLS - 2)
    share = position - left
    on_left = np.bincount(left, weights * (1 - share), minlength=CELLS)
    return on_left + np.bincount(left + 1, weights * share, minlength=CELLS)


def _smoothed(waves: np.ndarray, bandwidth: float) -> float:
    # Cosines are eigenfunctions of the kernel: smoothing scales each by the Gaussian's transform.
    damped = waves * np.exp(-((np.pi * np.arange(CELLS + 1) * bandwidth) ** 2) / 2)
    return float(np.abs(np.fft.irfft(damped)[:CELLS]).sum())
