"""Parameters of tests of which most variants are slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(values: Iterable[Any], *always: Any) -> list[Any]:
    """The values as parameters; all but those of `always` are slow tests.

    Raises:
        ValueError: a value of `always` is not among them.
    """
    values = list(values)
    if missing := [value for value in always if value not in values]:
        raise ValueError(f"no parameters: {missing}")
    return [value if value in always else _slow(value) for value in values]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else [value]), marks=pytest.mark.slow)
