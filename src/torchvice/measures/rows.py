"""Rows of `Measures`: a control, another method, a stratum, a class, a fold. None stands for what is undefined."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLUMNS", "ClassRow", "Control", "Fold", "Method", "Stratum"]

# The name of every column, wherever rows are shown as a table; `quality` has the name of the quality that was chosen.
COLUMNS = {
    "name": "name",
    "by": "by",
    "stratum": "stratum",
    "fold": "fold",
    "threshold": "threshold",
    "pairs": "pairs",
    "average_precision": "AP",
    "quality": "quality",
    "vice": "VICE",
    "difference": "difference",
    "agreement": "agreement of quality",
    "beaten": "beaten",
}


@dataclass(frozen=True)
class _Scored:
    """VICE of other maps with the same logits: `pairs` that have a quality, their mean `quality`, `vice`.

    `difference`: VICE of the headline minus that of these maps, paired over resampled images. `low` and `high` are the
    ends of the 95 % intervals.
    """

    pairs: int
    vice: float | None
    vice_low: float | None
    vice_high: float | None
    quality: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True)
class Control(_Scored):
    """A control; `beaten`: whether the whole interval of the difference lies above 0."""

    beaten: bool | None


@dataclass(frozen=True)
class Method(_Scored):
    """Another explanation of the same images; `agreement`: Spearman's correlation of both qualities."""

    agreement: float | None


@dataclass(frozen=True)
class Stratum:
    """VICE of some pairs: `by` what they are divided ("area", "labels", "correctness"), and the `stratum` in words."""

    by: str
    stratum: str
    pairs: int
    quality: float | None
    vice: float | None
    vice_low: float | None
    vice_high: float | None


@dataclass(frozen=True)
class ClassRow:
    """A class: its average precision, and VICE and mean `quality` of its true pairs."""

    name: str
    average_precision: float | None
    pairs: int
    quality: float | None
    vice: float | None
    vice_low: float | None
    vice_high: float | None


@dataclass(frozen=True)
class Fold:
    """A fifth of the images: the `threshold` chosen on the other four, and the `pairs` measured at it."""

    fold: int
    threshold: float
    pairs: int
