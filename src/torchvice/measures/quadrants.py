"""Quadrants: is the label found, and does the map lie on the object? Four answers, with cut-offs that are fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.pairs import Pairs
from torchvice.metrics import sigmoid

__all__ = ["IOU_CUTOFF", "PROBABILITY_CUTOFF", "QUADRANTS", "Quadrants", "quadrants_of"]

# In the order in which a reader wants them: first where right and wrong reasons part.
QUADRANTS = {
    "right_elsewhere": "right, looking elsewhere",
    "wrong_there": "wrong, though looking at the object",
    "both_good": "right, looking at the object",
    "both_bad": "wrong, looking elsewhere",
}
PROBABILITY_CUTOFF = 0.5  # from where on a label is predicted
# The loosest of the three (0.3, 0.5, 0.7) that MaxBoxAccV2 asks of a localisation (Choe et al., CVPR 2020).
IOU_CUTOFF = 0.3


@dataclass(frozen=True)
class Quadrants:
    """Where each pair belongs.

    `name` (P,) a key of QUADRANTS; `strength` (P,) in [0, 1], how far inside: the smaller of the distances of
    probability and quality from their cut-offs, each as a share of the way to its end; `probability` and `iou`, the
    cut-offs, `iou` of the quality, whichever it is.
    """

    name: np.ndarray
    strength: np.ndarray
    probability: float
    iou: float

    def strongest(self, quadrant: str) -> np.ndarray:
        """The pairs (rows) of a quadrant, the strongest first, equal ones in the pairs' order.

        Raises:
            ViceError: no such quadrant.
        """
        if quadrant not in QUADRANTS:
            raise ViceError(f"A quadrant must be one of {', '.join(QUADRANTS)}, but is {quadrant!r}.")
        rows = np.flatnonzero(self.name == quadrant)
        return rows[np.argsort(-self.strength[rows], kind="stable")]

    def to_json(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """The cut-offs, and how many pairs each quadrant holds."""
        counts = {quadrant: int((self.name == quadrant).sum()) for quadrant in QUADRANTS}
        return {"cutoffs": {"probability": self.probability, "iou": self.iou}, "counts": counts}


def quadrants_of(
    pairs: Pairs,
    probability: float = PROBABILITY_CUTOFF,
    iou: float = IOU_CUTOFF,
    ends: tuple[float, float] = (0.0, 1.0),
) -> Quadrants:
    """Sort the true pairs into four quadrants by cut-offs that do not move with the data.

    Args:
        pairs: from `true_pairs`; a pair is right where its probability is above `probability`, and there where its
            quality is at least `iou`.
        probability: its cut-off, above 0 and below 1.
        iou: the cut-off of the quality, within `ends`; each of QUALITIES has its own.
        ends: the worst and the best quality; where one lies beyond, its strength is 1.

    Raises:
        ViceError: a cut-off that is not within its ends.

    Example:
        >>> from torchvice.measures.pairs import Pairs
        >>> a = np.array
        >>> pairs = Pairs(a(["x", "y"]), a([0, 0]), a([3.0, 2.0]), a([[.9], [.1]]), a([.2, .2]), a([.9, .1]), 0)
        >>> quadrants_of(pairs).name.tolist()
        ['both_good', 'right_elsewhere']
    """
    for name, value, (low, high) in (("probability", probability, (0.0, 1.0)), ("iou", iou, ends)):
        if not low < value < high:
            raise ViceError(f"`{name}` must be above {low:g} and below {high:g}, but is {value}.")
    p = sigmoid(pairs.logit.astype(float))
    right, there = p > probability, pairs.quality >= iou
    name = np.array(["both_bad", "wrong_there", "right_elsewhere", "both_good"], dtype=object)[2 * right + there]
    strength = np.minimum(_margin(p, probability, (0.0, 1.0)), _margin(pairs.quality, iou, ends))
    return Quadrants(name, strength, probability, iou)


def _margin(values: np.ndarray, cutoff: float, ends: tuple[float, float]) -> np.ndarray:
    """The distance from the cut-off as a share of the way to the end on that side, at most 1."""
    low, high = ends
    return np.minimum(
        np.where(values >= cutoff, (values - cutoff) / (high - cutoff), (cutoff - values) / (cutoff - low)), 1.0
    )
