"""How numbers and p-values are written, on the terminal, on the page and in sentences."""

from __future__ import annotations

import math

__all__ = ["decimals", "decimals_between", "interval_text", "p_text"]

ZERO = 1e-12  # what is smaller is rounding


def decimals(value: float, digits: int = 3, sign: str = "") -> str:
    """Format with `digits` decimals; what is not 0 never reads as 0, but has two significant digits.

    Args:
        value: finite.
        digits: number of decimals.
        sign: "+" writes the sign of positive numbers, too.

    Example:
        >>> decimals(0.62181), decimals(0.00042, 2), decimals(-0.0), decimals(0.5, 2, "+")
        ('0.622', '0.00042', '0.000', '+0.50')
    """
    value = 0.0 if abs(value) < ZERO else value
    text = f"{value:{sign}.{digits}f}"
    return text if not value or text.strip("+-0.") else f"{value:{sign}.2g}"


def decimals_between(first: float, second: float, digits: int = 3) -> int:
    """The number of decimals, at least `digits`, with which two numbers read as different.

    Their distance is two units of the last decimal or more.

    Example:
        >>> decimals_between(0.62, 0.71, 2), decimals_between(0.0131, 0.0142, 2), decimals_between(0.5, 0.5, 2)
        (2, 4, 2)
    """
    distance = abs(first - second)
    return digits if not ZERO < distance < math.inf else max(digits, math.ceil(-math.log10(distance / 2)))


def interval_text(low: float, high: float, digits: int = 3, sign: str = "") -> str:
    """Format the ends of an interval, so that they read as different unless they are equal; see `decimals`.

    Example:
        >>> interval_text(0.621, 0.714, 2), interval_text(0.0131, 0.0142, 2), interval_text(-0.0002, 0.0001, 2, "+")
        ('0.62 to 0.71', '0.0131 to 0.0142', '-0.0002 to +0.0001')
    """
    digits = decimals_between(low, high, digits)
    return f"{decimals(low, digits, sign)} to {decimals(high, digits, sign)}"


def p_text(p: float, at_floor: bool = False) -> str:
    """Format a p-value; at the smallest value that the replicates or permutations allow, it is an upper bound.

    Example:
        >>> p_text(0.0213), p_text(0.0002), p_text(2 / 2001, at_floor=True), p_text(float("nan"))
        ('0.021', 'below 0.001', '<= 0.001', '–')
    """
    if math.isnan(p):
        return "–"
    if at_floor:
        return f"<= {math.ceil(p * 1e4 - 1e-6) / 1e4:.4g}"
    return f"{p:.3f}" if p >= 0.0005 else "below 0.001"
