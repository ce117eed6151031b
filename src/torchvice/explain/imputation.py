"""Imputation: removed pixels filled in from those around them, so that their absence leaves no shape behind."""

from __future__ import annotations

import numpy as np

from torchvice.errors import ViceError

__all__ = ["impute"]

# Of the eight neighbours those by a side weigh 1/6, those by a corner 1/12.
WEIGHTS = {(dy, dx): (1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx}


def impute(image: np.ndarray, missing: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
    """Noisy linear imputation: every missing pixel becomes the weighted mean of its neighbours, plus noise.

    The neighbours may be missing themselves: a sparse linear system, solved exactly. Beyond the border there is no
    neighbour; the weights of the others are then scaled to sum to 1.

    Args:
        image: (D, H, W) floats; its values at the missing pixels are not used.
        missing: (H, W) booleans; at least one pixel must be there.
        noise: added at the missing pixels, (D, H, W) or one number.

    Returns:
        (D, H, W), of the image's type.

    Raises:
        ViceError: every pixel is missing.

    References:
        Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022.

    Example:
        >>> impute(np.array([[[1.0, 9.0, 2.0]]]), np.array([[False, True, False]]))
        array([[[1. , 1.5, 2. ]]])
    """
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    if missing.all():
        raise ViceError("Pixels are filled in from those that are left, but none is left.")
    filled = np.array(image)
    y, x = np.nonzero(missing)
    if not len(y):
        return filled
    # Unknowns are numbered from 0; a pixel that is there is -1, and the frame around the image -2.
    number = np.full((missing.shape[0] + 2, missing.shape[1] + 2), -2, np.int64)
    number[1:-1, 1:-1] = np.where(missing, np.cumsum(missing).reshape(missing.shape) - 1, -1)
    framed = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    total, right = np.zeros(len(y)), np.zeros((len(y), len(image)))
    rows, columns, values = [], [], []
    for (dy, dx), weight in WEIGHTS.items():
        other = number[y + 1 + dy, x + 1 + dx]
        total += weight * (other > -2)
        there, unknown = np.flatnonzero(other == -1), np.flatnonzero(other >= 0)
        right[there] += weight * framed[:, y[there] + 1 + dy, x[there] + 1 + dx].T
        rows.append(unknown)
        columns.append(other[unknown])
        values.append(np.full(len(unknown), -weight))
    every = np.arange(len(y))
    entries = (np.concatenate([total, *values]), (np.concatenate([every, *rows]), np.concatenate([every, *columns])))
    system = csc_array(entries, shape=(len(y), len(y)))
    # The system is symmetric and its diagonal dominates: no pivoting, and an order that keeps the factors sparse.
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled[:, y, x] = factors.solve(right).T + (noise if np.isscalar(noise) else np.asarray(noise)[:, y, x])
    return filled
