"""Rows of `Measures`: a control, another method, a stratum, a class, a fold. None stands for what is undefined."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["COLUMNS", "ClassRow", "Comparison", "Control", "Fold", "Method", "Stratum"]

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
    """A control. `beaten`: whether the whole intervals of both differences lie above 0.

    `vice_at_headline` and `difference_at_headline` are `vice` and `difference` with the maps of the control cut at the
    thresholds of the headline, instead of thresholds that the control chooses.
    """

    beaten: bool | None
    vice_at_headline: float | None = None
    difference_at_headline: float | None = None
    difference_at_headline_low: float | None = None
    difference_at_headline_high: float | None = None


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
    """A class: its average precision, and VICE and mean `quality` of its true pairs.

    `found`, how many of them the model predicts; `without_object` and `without_background`, the share of these that it
    still predicts on the image without the one or the other; None where the table does not hold it.
    """

    name: str
    average_precision: float | None
    pairs: int
    quality: float | None
    vice: float | None
    vice_low: float | None
    vice_high: float | None
    found: int | None = None
    without_object: float | None = None
    without_object_low: float | None = None
    without_object_high: float | None = None
    without_background: float | None = None
    without_background_low: float | None = None
    without_background_high: float | None = None


@dataclass(frozen=True)
class Fold:
    """A fifth of the images: the `threshold` chosen on the other four, and the `pairs` measured at it."""

    fold: int
    threshold: float
    pairs: int


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison; plain rows, NaN nowhere (None where undefined).

    `images`, how many all models have; `excluded` {reason: count}; `quality`, its name; `models`, a row each with
    `name`, the compared measures, `ece_ml`, and limits such as `vice_low`; `differences`, a row for each pair of
    models and measure: `first`, `second`, `measure`, `difference` (first - second), `low`, `high`, `p`, `p_holm`,
    `p_at_floor` (p_holm is an upper bound), and `reason` where there is no p; `matched`, VICE of two models whose pairs
    were given the same distribution of log-likelihood; `seeds`, the differences of groups, with the same columns;
    `agreement` of the models' order across explanations; `stands_out` {model: the classes that stand out, as in its
    verdict}; `testable` {model: the number of classes that could stand out}; `sentences`, what is established and what
    is not.
    """

    images: int
    quality: str
    excluded: dict[str, int]
    models: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    matched: list[dict[str, Any]]
    seeds: list[dict[str, Any]] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    stands_out: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    testable: dict[str, int] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields of `vice compare --json`."""
        return {"schema": 1, **{f.name: getattr(self, f.name) for f in fields(self)}}
