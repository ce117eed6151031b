"""Quadrants: whether the label is found, and whether the map lies on the object, by fixed cut-offs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.pairs import Pairs
from torchvice.measures.qualities import IOU_CUTOFF, QUALITIES

__all__ = ["PROBABILITY_CUTOFF", "QUADRANTS", "Quadrants", "quadrants_by", "quadrants_of"]

# In the order in which a reader wants them: first where right and wrong reasons part.
QUADRANTS = {
    "right_elsewhere": "right, looking elsewhere",
    "wrong_there": "wrong, though looking at the object",
    "both_good": "right, looking at the object",
    "both_bad": "wrong, looking elsewhere",
}
PROBABILITY_CUTOFF = 0.5  # from where on a label is predicted


@dataclass(frozen=True)
class Quadrants:
    """The quadrant of each pair.

    `name` (P,) a key of QUADRANTS, empty where the quality is undefined; `strength` (P,) in [0, 1], how far inside: the
    smaller of the distances of probability and quality from their cut-offs, each as a share of the way to its end (0 or
    1), and 0 without a quadrant; `probability` and `iou`, the cut-offs; `by` the quality that decides. Of exclusive
    targets the likeliest class is predicted: `probability` is None, and its distance is that from the next class.
    """

    name: np.ndarray
    strength: np.ndarray
    probability: float | None
    iou: float
    by: str = "ji"

    def strongest(self, quadrant: str) -> np.ndarray:
        """The pairs (rows) of a quadrant, the strongest first, equal ones in the pairs' order.

        Raises:
            ViceError: no such quadrant.
        """
        if quadrant not in QUADRANTS:
            raise ViceError(f"A quadrant must be one of {', '.join(QUADRANTS)}, but is {quadrant!r}.")
        rows = np.flatnonzero(self.name == quadrant)
        return rows[np.argsort(-self.strength[rows], kind="stable")]

    def to_json(self) -> dict[str, Any]:
        """Cut-offs, number of pairs per quadrant, and number of pairs in none, whose quality is undefined."""
        counts = {quadrant: int((self.name == quadrant).sum()) for quadrant in QUADRANTS}
        cutoffs = {"probability": self.probability, "iou": self.iou}
        return {"by": self.by, "cutoffs": cutoffs, "counts": counts, "undefined": int((self.name == "").sum())}


def quadrants_of(pairs: Pairs, probability: float = PROBABILITY_CUTOFF, iou: float = IOU_CUTOFF) -> Quadrants:
    """Sort the true pairs into four quadrants by cut-offs that do not move with the data.

    Args:
        pairs: from `true_pairs`; a pair is right where its probability is above `probability`, or, of exclusive
            targets, where its class is the likeliest, and there where its quality is at least `iou`.
        probability: its cut-off, above 0 and below 1.
        iou: the cut-off of the quality, above 0 and below 1; each of QUALITIES has its own.

    Raises:
        ViceError: a cut-off outside (0, 1).

    Example:
        >>> from torchvice.measures.pairs import Pairs
        >>> a = np.array
        >>> pairs = Pairs(a(["x", "y"]), a([0, 0]), a([3.0, 2.0]), a([[.9], [.1]]), a([.2, .2]), a([.9, .1]), 0)
        >>> quadrants_of(pairs).name.tolist()
        ['both_good', 'right_elsewhere']
    """
    for name, value in (("probability", probability), ("iou", iou)):
        if not 0 < value < 1:
            raise ViceError(f"`{name}` must be above 0 and below 1, but is {value}.")
    lead, p = pairs.lead, pairs.probability
    right, there = p > probability if lead is None else pairs.predicted, pairs.quality >= iou
    name = np.array(["both_bad", "wrong_there", "right_elsewhere", "both_good"], dtype=object)[2 * right + there]
    strength = np.minimum(_margin(p, probability) if lead is None else np.abs(lead), _margin(pairs.quality, iou))
    undefined = np.isnan(pairs.quality)
    name[undefined], strength[undefined] = "", 0.0
    return Quadrants(name, strength, probability if lead is None else None, iou)


def quadrants_by(pairs: Pairs, name: str, quality: np.ndarray) -> Quadrants:
    """The quadrants by a named quality, at its cut-off; by the IoU itself where the quality knows no object.

    Args:
        pairs: from `true_pairs`.
        name: one of QUALITIES.
        quality: (P,) its values, NaN where undefined.
    """
    if not QUALITIES[name].says_where:
        return quadrants_of(pairs)
    return replace(quadrants_of(replace(pairs, quality=quality), iou=QUALITIES[name].cutoff), by=name)


def _margin(values: np.ndarray, cutoff: float) -> np.ndarray:
    """The distance from the cut-off as a share of the way to 0 or to 1."""
    return np.where(values >= cutoff, (values - cutoff) / (1 - cutoff), (cutoff - values) / cutoff)
