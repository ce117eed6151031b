"""Faithfulness of a map, normalised by the model's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, same_length

__all__ = ["normalised_faithfulness"]


def normalised_faithfulness(auc: Any, auc_random: Any, p_full: Any, p_blank: Any, floor: float = 0.05) -> np.ndarray:
    """Normalise a faithfulness score: (AUC - AUC_random) / (p_full - p_blank).

    It is the gain of the map's pixel order over a random order, as a share of the possible range. An AUC averages p
    along a curve from p_blank to p_full, so it rises with p whatever the map is. Raw AUCs of different images or
    models therefore compare their p, not their maps.

    Args:
        auc: (P,) insertion or deletion, in [0, 1].
        auc_random: (P,) its mean over random orders.
        p_full: (P,) probability on the whole image.
        p_blank: (P,) probability at the other end of the curve, where insertion begins or deletion ends.
        floor: smallest |p_full - p_blank| for which the score is defined.

    Returns:
        (P,) float64; 0 for a map that is no better than a random order. Higher is better for insertion, lower for
        deletion. It is in [-1, 1] if the curve stays between its ends. NaN where |p_full - p_blank| < floor, or where
        an argument is NaN.

    Raises:
        ViceError: lengths differ, or a floor that is not above 0.

    Example:
        >>> normalised_faithfulness([0.7, 0.7], [0.5, 0.5], [0.9, 0.52], [0.1, 0.5])
        array([0.25,  nan])
    """
    if not floor > 0:
        raise ViceError(f"`floor` must be above 0, but is {floor}.")
    given = {"auc": auc, "auc_random": auc_random, "p_full": p_full, "p_blank": p_blank}
    arrays = {name: as_array(name, value, 1, np.float64) for name, value in given.items()}
    same_length(**arrays)
    span = arrays["p_full"] - arrays["p_blank"]
    gain = arrays["auc"] - arrays["auc_random"]
    return np.divide(gain, span, out=np.full(len(span), np.nan), where=np.abs(span) >= floor)
