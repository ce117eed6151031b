"""Faithfulness of a map, freed from what the model is sure of anyway."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, same_length

__all__ = ["normalised_faithfulness"]


def normalised_faithfulness(auc: Any, auc_random: Any, p_full: Any, p_blank: Any, floor: float = 0.05) -> np.ndarray:
    """(AUC - AUC_random) / (p_full - p_blank): what a map's order gains over a random one, as a share of all there is.

    An AUC is an average of p along a curve from p_blank to p_full, so that it rises with p whatever the map says; raw
    AUCs of different images or models tell their p apart, not their maps.

    Args:
        auc: (P,) insertion or deletion, in [0, 1].
        auc_random: (P,) the mean of the same over random orders.
        p_full: (P,) probability on the whole image.
        p_blank: (P,) that at the other end of the curve: of what insertion begins with, or what deletion ends with.
        floor: where p_full and p_blank are nearer to each other there is nothing to share out.

    Returns:
        (P,) float64: 0 for a map that is no better than a random order. For insertion more is better, for deletion
        less. A curve that stays between its ends keeps it in [-1, 1]. NaN where |p_full - p_blank| < floor, or where
        an argument is NaN.

    Raises:
        ViceError: lengths that differ, or a floor that is not above 0.

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
