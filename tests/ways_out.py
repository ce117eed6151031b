"""A refusal, and what its way out says, done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torchvice.errors import ViceError


def tried(wrong: Callable[[], object], says: str, right: Callable[[], Any]) -> Any:
    """What `right` gives, which does what the way out of `wrong` says.

    Args:
        wrong: ends in a `ViceError`.
        says: words of its way out, or of the message where the message is the way out.
        right: follows these words; it must not raise.

    Example:
        >>> def root(number: float) -> float:
        ...     if number < 0:
        ...         raise ViceError(f"A root is of a number from 0, but the number is {number}.", "Give abs(number).")
        ...     return number**0.5
        >>> tried(lambda: root(-4), "abs(number)", lambda: root(abs(-4)))
        2.0
    """
    with pytest.raises(ViceError) as caught:
        wrong()
    text = caught.value.way_out or caught.value.message
    assert says in text, text
    return right()
