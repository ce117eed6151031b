"""The other explanations of a table: controls that a result must beat, further methods, and the same one again."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.consistency import ConsistencyData, vice_statistic
from torchvice.measures.inference import Inference, plain_interval
from torchvice.measures.pairs import Pairs, true_pairs
from torchvice.measures.qualities import quality_of
from torchvice.measures.sheet import Sheet
from torchvice.metrics import pair_vice
from torchvice.samples import Samples

__all__ = ["put_other_explanations", "short_name"]

SECTIONS = {"control": "controls", "method": "methods", "retest": "retests"}


def put_other_explanations(sheet: Sheet, samples: Samples, subject: ConsistencyData, inference: Inference) -> None:
    """VICE of every other explanation with the same logits, and how far the result lies above it, into the sheet.

    Controls are scored class by class: with identical maps every tie would go to the lowest class.
    """
    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS.values()}
    headline = _Scored(subject.pairs, subject.name, subject.quality, inference)
    for explanation, settings in samples.manifest["explanations"].items():
        section = SECTIONS.get(settings.get("role", ""))
        if section is None:
            continue
        pairs = true_pairs(samples, explanation)
        try:
            other = _Scored(pairs, subject.name, quality_of(pairs, subject.name), inference)
        except ViceError as error:
            sheet.undefined[f"{section}.{short_name(explanation)}"] = error.message
            continue
        row = {**other.row(), **headline.above(other, inference)}
        if section == "controls":
            row["beaten"] = None if row["low"] is None else row["low"] > 0
        else:
            row["agreement"] = _agreement(headline, other)
        found[section][short_name(explanation)] = row
    sheet.parts |= found
    _mark(sheet, found["controls"])


def short_name(explanation: str) -> str:
    """An explanation's id without its protocol.

    Example:
        >>> short_name("strict:random_weights")
        'random_weights'
    """
    return explanation.partition(":")[2] or explanation


class _Scored:
    """VICE of some pairs, its replicates, and the mean quality."""

    def __init__(self, pairs: Pairs, name: str, quality: np.ndarray, inference: Inference) -> None:
        self.pairs, self.quality = pairs, quality
        try:
            self.value = pair_vice(pairs.logit, quality).value
        except ViceError:  # a control may be the same everywhere
            self.value = float("nan")
        self.replicates = np.zeros(0)
        if np.isfinite(self.value):
            self.replicates = inference.replicates(*vice_statistic(pairs, name, quality))
        self.limits = inference.interval(self.value, self.replicates)

    def row(self) -> dict[str, Any]:
        limits = None if self.limits is None else plain_interval(self.limits)
        known = self.quality[~np.isnan(self.quality)]
        return {
            "pairs": len(known),
            "vice": self.value if np.isfinite(self.value) else None,
            "vice_low": limits and limits["low"],
            "vice_high": limits and limits["high"],
            "ji": float(known.mean()) if len(known) else None,
        }

    def above(self, other: _Scored, inference: Inference) -> dict[str, Any]:
        """The paired difference from another, with its interval: both are resampled together."""
        difference = self.value - other.value
        if not np.isfinite(difference):
            return {"difference": None, "low": None, "high": None}
        limits = None
        if len(self.replicates) and len(other.replicates):
            limits = inference.interval(difference, self.replicates - other.replicates)
        plain = None if limits is None else plain_interval(limits)
        return {"difference": difference, "low": plain and plain["low"], "high": plain and plain["high"]}


def _agreement(first: _Scored, second: _Scored) -> float | None:
    """Spearman correlation of the two qualities over the pairs that both have."""
    keys = [dict(zip(_keys(scored.pairs), scored.quality.tolist(), strict=True)) for scored in (first, second)]
    common = [key for key in keys[0] if key in keys[1]]
    try:
        return pair_vice([keys[0][key] for key in common], [keys[1][key] for key in common]).value
    except ViceError:
        return None


def _keys(pairs: Pairs) -> list[tuple[str, int]]:
    return list(zip(pairs.image_id.tolist(), pairs.class_index.tolist(), strict=True))


def _mark(sheet: Sheet, controls: dict[str, dict[str, Any]]) -> None:
    """Say beside VICE which controls it does not beat."""
    lost = [name for name, row in controls.items() if row["beaten"] is False]
    if lost:
        one = len(lost) == 1
        sheet.notes["controls"] = (
            f"VICE is not shown to be above the control{'' if one else 's'} {', '.join(lost)}: the lower limit of the "
            f"paired difference is not above 0, so that much consistency may come without looking at the object."
        )
