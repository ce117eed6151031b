"""Which cases to show: the pairs that belong most strongly to each quadrant."""

from __future__ import annotations

from dataclasses import dataclass

from torchvice.errors import ViceError
from torchvice.measures.pairs import Pairs
from torchvice.measures.quadrants import QUADRANTS, quadrants_of

__all__ = ["Choice", "chosen_cases"]

# On a sheet the agreements come first, so that the disagreements can be read against them.
ORDER = ("both_good", "right_elsewhere", "wrong_there", "both_bad")


@dataclass(frozen=True)
class Choice:
    """A pair to show: its `row` in the Pairs, and the `kind` of agreement it is an example of."""

    row: int
    kind: str


def chosen_cases(pairs: Pairs, each: int = 2) -> list[Choice]:
    """Return the strongest pairs of every quadrant, at most one per image; empty quadrants are left out.

    Args:
        pairs: from `true_pairs`.
        each: how many of every quadrant.

    Raises:
        ViceError: `each` below 1.

    Example:
        >>> from numpy import array as a
        >>> from torchvice.measures.pairs import Pairs
        >>> pairs = Pairs(a(["x", "y"]), a([0, 0]), a([3.0, 2.0]), a([[.9], [.1]]), a([.2, .2]), a([.9, .1]), 0)
        >>> [(choice.row, choice.kind) for choice in chosen_cases(pairs, 1)]
        [(0, 'right, looking at the object'), (1, 'right, looking elsewhere')]
    """
    if each < 1:
        raise ViceError(f"`each` must be at least 1, but is {each}.")
    quadrants = quadrants_of(pairs)
    chosen: list[Choice] = []
    shown: set[str] = set()
    for quadrant in ORDER:
        found = 0
        for row in quadrants.strongest(quadrant).tolist():
            if found < each and pairs.image_id[row] not in shown:
                chosen.append(Choice(row, QUADRANTS[quadrant]))
                shown.add(pairs.image_id[row])
                found += 1
    return chosen
