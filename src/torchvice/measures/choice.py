"""Which cases to show: the pairs where performance and explanation agree best, and where they part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.pairs import Pairs

__all__ = ["KINDS", "Choice", "chosen_cases"]

KINDS = {
    "right, and the map fits": (1, 1),
    "right, but the map does not fit": (1, -1),
    "missed, though the map fits": (-1, 1),
    "missed, and the map does not fit": (-1, -1),
}


@dataclass(frozen=True)
class Choice:
    """A pair to show: `row` in the Pairs, and the `kind` of agreement that it is an example of."""

    row: int
    kind: str


def chosen_cases(pairs: Pairs, each: int = 2) -> list[Choice]:
    """The clearest pairs of every kind: the class is predicted or not, and its IoU is among the best or the worst.

    Pairs are ranked by the sum (or difference) of the ranks of logit and IoU, so that neither scale decides alone; of
    an image one pair is taken at most. A kind without examples is left out.

    Args:
        pairs: from `true_pairs`.
        each: how many of every kind.

    Raises:
        ViceError: `each` below 1.

    Example:
        >>> from torchvice.measures.pairs import Pairs
        >>> a = np.array
        >>> pairs = Pairs(a(["x", "y"]), a([0, 0]), a([3.0, 2.0]), a([[.9], [.1]]), a([.2, .2]), a([.9, .1]), 0)
        >>> [(choice.row, choice.kind) for choice in chosen_cases(pairs, 1)]
        [(0, 'right, and the map fits'), (1, 'right, but the map does not fit')]
    """
    if each < 1:
        raise ViceError(f"`each` must be at least 1, but is {each}.")
    if not len(pairs.logit):
        return []
    sure, sharp = _ranks(pairs.logit), _ranks(pairs.quality)
    good = pairs.quality >= np.median(pairs.quality)
    chosen, shown = [], set()
    for kind, (right, there) in KINDS.items():
        fits = ((pairs.logit > 0) == (right > 0)) & (good == (there > 0))
        order = np.argsort(-(right * sure + there * sharp), kind="stable")
        found = 0
        for row in order[fits[order]].tolist():
            if found < each and pairs.image_id[row] not in shown:
                chosen.append(Choice(row, kind))
                shown.add(pairs.image_id[row])
                found += 1
    return chosen


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, ties in the order of arrival."""
    return np.argsort(np.argsort(values, kind="stable")) / max(1, len(values) - 1)
