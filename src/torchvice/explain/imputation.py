"""Imputation: fill removed pixels in from their neighbours, so that the removed region has no visible shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError

__all__ = ["impute"]

# Of the eight neighbours, those that share a side weigh 1/6, those that share a corner 1/12.
WEIGHTS = {(dy, dx): (1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx}


def impute(image: np.ndarray, missing: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
    """Noisy linear imputation: replace every missing pixel by the weighted mean of its neighbours, plus noise.

    Neighbours may be missing too, so that this is a sparse linear system; it is solved exactly. At the border, the
    weights of the existing neighbours are scaled to sum to 1.

    Args:
        image: (D, H, W) floats; values at missing pixels are not used.
        missing: (H, W) booleans; at least one pixel must be False.
        noise: added at missing pixels, (D, H, W) or one number.

    Returns:
        (D, H, W), in the image's dtype.

    Raises:
        ViceError: every pixel is missing.

    References:
        Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022.

    Example:
        >>> impute(np.array([[[1.0, 9.0, 2.0]]]), np.array([[False, True, False]]))
        array([[[1. , 1.5, 2. ]]])
    """
    from scipy.sparse.linalg import splu

    if missing.all():
        raise ViceError("At least one pixel must be present to fill in the missing ones, but none is left.")
    filled = np.array(image)
    y, x = np.nonzero(missing)
    if not len(y):
        return filled
    system, right = _linear_system(image, missing, y, x)
    # The system is symmetric and its diagonal dominates: no pivoting, and an order that keeps the factors sparse.
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled[:, y, x] = factors.solve(right).T + (noise if np.isscalar(noise) else np.asarray(noise)[:, y, x])
    return filled


def _linear_system(image: np.ndarray, missing: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[Any, np.ndarray]:
    """The sparse matrix (M, M) and the right-hand sides (M, D) whose solution is the M missing pixels at (y, x)."""
    from scipy.sparse import csc_array

    # Missing pixels are numbered from 0; present pixels are -1, and the frame around the image is -2.
    number = np.full((missing.shape[0] + 2, missing.shape[1] + 2), -2, np.int64)
    number[1:-1, 1:-1] = np.where(missing, np.cumsum(missing).reshape(missing.shape) - 1, -1)
    framed = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    total, right = np.zeros(len(y)), np.zeros((len(y), len(image)))
    rows, columns, values = [], [], []
    for (dy, dx), weight in WEIGHTS.items():
        neighbour = number[y + 1 + dy, x + 1 + dx]
        total += weight * (neighbour > -2)
        known, unknown = np.flatnonzero(neighbour == -1), np.flatnonzero(neighbour >= 0)
        right[known] += weight * framed[:, y[known] + 1 + dy, x[known] + 1 + dx].T
        rows.append(unknown)
        columns.append(neighbour[unknown])
        values.append(np.full(len(unknown), -weight))
    diagonal = np.arange(len(y))
    indices = np.concatenate([diagonal, *rows]), np.concatenate([diagonal, *columns])
    return csc_array((np.concatenate([total, *values]), indices), shape=(len(y), len(y))), right
