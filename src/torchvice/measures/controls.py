"""VICE of the other explanations of a table: controls, further methods, and retests of the same method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.consistency import CALLED, ConsistencyData, vice_replicates
from torchvice.measures.inference import NO_REPLICATES, Inference, ends_of
from torchvice.measures.pairs import Pairs, true_pairs
from torchvice.measures.qualities import quality_of
from torchvice.measures.rows import Control, Method
from torchvice.measures.sheet import Sheet
from torchvice.measures.wording import interval_text
from torchvice.metrics import pair_vice
from torchvice.metrics.weighted import Spearman
from torchvice.samples import Samples

__all__ = ["put_other_explanations", "short_name"]

AT_THRESHOLD = ("ji", "precision", "recall")  # the qualities that depend on a threshold
SECTIONS = {"control": "controls", "method": "methods", "retest": "retests"}


def put_other_explanations(sheet: Sheet, samples: Samples, subject: ConsistencyData, inference: Inference) -> None:
    """Put VICE of every other explanation with the same logits, and how far the headline lies above it.

    Controls are scored class by class: with identical maps every tie would go to the lowest class. Each is scored at
    thresholds that it chooses and at the headline's; VICE is above it where it is so at both. Differences are over the
    pairs that both have, and a note says how many are left out.
    """
    rows: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS.values()}
    headline = _Scored(subject.pairs, subject.name, subject.quality, inference)
    for explanation, settings in samples.manifest["explanations"].items():
        section = SECTIONS.get(settings.get("role", ""))
        if section is None:
            continue
        pairs, name = true_pairs(samples, explanation), short_name(explanation)
        try:
            other = _Scored(pairs, subject.name, quality_of(pairs, subject.name), inference)
            both = _of_common_pairs(headline, other, samples.thresholds, inference)
        except ViceError as error:
            sheet.undefined[f"{section}.{name}"] = error.message
            continue
        if other.reason:
            sheet.undefined[f"{section}.{name}.vice"] = other.reason
        if note := _left_out(headline, other, both):
            sheet.notes[f"{section}.{name}"] = note
        row = {**other.row(), **both[0].above(both[1], inference)}
        rows[section][name] = (
            _control(row, *both, inference)
            if section == "controls"
            else Method(**row, agreement=_agreement(headline, other))
        )
    sheet.parts |= rows
    _mark(sheet, rows["controls"])


def short_name(explanation: str) -> str:
    """An explanation's id without its protocol.

    Example:
        >>> short_name("strict:random_weights")
        'random_weights'
    """
    return explanation.partition(":")[2] or explanation


def _control(row: dict[str, Any], headline: _Scored, own: _Scored, inference: Inference) -> Control:
    """A control at its own thresholds, as `row` has it, and at the headline's."""
    there = own
    if headline.name in AT_THRESHOLD:
        there = _Scored(_at_thresholds_of(headline.pairs, own.pairs), own.name, None, inference)
    difference = headline.above(there, inference)
    above = {name.replace("difference", "difference_at_headline"): end for name, end in difference.items()}
    lows = row["difference_low"], above["difference_at_headline_low"]
    beaten = None if None in lows else all(low > 0 for low in lows)
    value = there.value if np.isfinite(there.value) else None
    return Control(**row, beaten=beaten, vice_at_headline=value, **above)


def _at_thresholds_of(headline: Pairs, pairs: Pairs) -> Pairs:
    """The pairs at the thresholds that the headline has in each fold; in a fold that it lacks, their own."""
    at = pairs.at.copy()
    for fold in np.unique(headline.fold):
        at[pairs.fold == fold] = headline.at[headline.fold == fold][0]
    return replace(pairs, at=at, quality=pairs.iou[np.arange(len(pairs)), at])


class _Scored:
    """VICE of some pairs, its replicates, and the mean quality; `reason`: why VICE is NaN, else ""."""

    def __init__(self, pairs: Pairs, name: str, quality: np.ndarray | None, inference: Inference) -> None:
        """`quality` None: that of the pairs at the thresholds that they have, which replicates keep."""
        fixed = quality is None
        quality = quality_of(pairs, name) if quality is None else quality
        self.pairs, self.name, self.quality = pairs, name, quality
        self.reason = ""
        try:
            self.value = pair_vice(pairs.logit, quality, called=CALLED).value
        except ViceError as error:  # its quality may be the same everywhere, as that of empty maps is
            self.value, self.reason = float("nan"), error.message
        self.replicates = NO_REPLICATES
        if np.isfinite(self.value):
            known = ~np.isnan(quality)
            self.replicates = (
                inference.replicates(Spearman(pairs.logit[known], quality[known]), pairs.image_id[known])
                if fixed
                else vice_replicates(pairs, name, quality, inference)
            )
        self.limits = inference.interval(self.value, self.replicates)

    def row(self) -> dict[str, Any]:
        low, high = ends_of(self.limits)
        known = self.quality[~np.isnan(self.quality)]
        return {
            "pairs": len(known),
            "vice": self.value if np.isfinite(self.value) else None,
            "vice_low": low,
            "vice_high": high,
            "quality": float(known.mean()) if len(known) else None,
        }

    def of(self, rows: np.ndarray, inference: Inference) -> _Scored:
        """The same quality of some pairs."""
        return _Scored(self.pairs.where(rows), self.name, self.quality[rows], inference)

    def above(self, other: _Scored, inference: Inference) -> dict[str, Any]:
        """Paired difference from another explanation of the same pairs, with its interval: both are resampled together.

        It is over the pairs that have a quality in both.
        """
        known, also_known = ~np.isnan(self.quality), ~np.isnan(other.quality)
        if (known != also_known).any():
            rows = known & also_known
            return self.of(rows, inference).above(other.of(rows, inference), inference)
        difference = self.value - other.value
        if not np.isfinite(difference):
            return {"difference": None, "difference_low": None, "difference_high": None}
        limits = None
        if len(self.replicates) and len(other.replicates):
            limits = inference.interval(difference, self.replicates - other.replicates)
        low, high = ends_of(limits)
        return {"difference": difference, "difference_low": low, "difference_high": high}


def _of_common_pairs(
    first: _Scored, second: _Scored, thresholds: np.ndarray, inference: Inference
) -> tuple[_Scored, _Scored]:
    """Both over the pairs that both have; where one lacks some, each chooses its thresholds among the common ones.

    Raises:
        ViceError: as `quality_of`.
    """
    if _same_pairs(first.pairs, second.pairs):
        return first, second
    places = [{key: row for row, key in enumerate(_keys(scored.pairs))} for scored in (first, second)]
    common = [key for key in places[0] if key in places[1]]
    parts = [
        scored.pairs.alone(np.array([place[key] for key in common], np.int64), thresholds)
        for scored, place in zip((first, second), places, strict=True)
    ]
    own, other = (_Scored(part, first.name, quality_of(part, first.name), inference) for part in parts)
    return own, other


def _left_out(headline: _Scored, other: _Scored, both: tuple[_Scored, _Scored]) -> str:
    """How many pairs the difference of VICE leaves out, as a sentence; "" if none. `both`: over the common pairs."""
    defined = [~np.isnan(scored.quality) for scored in both]
    if both[0] is headline and np.array_equal(*defined):
        return ""
    known = [
        {key for key, quality in zip(_keys(scored.pairs), scored.quality.tolist(), strict=True) if quality == quality}
        for scored in (headline, other)
    ]
    compared = int((defined[0] & defined[1]).sum())
    left = len(known[0] | known[1]) - compared
    if not left:
        return ""
    return (
        f"The difference of VICE is over the {compared} pairs that have a quality in both explanations; {left} "
        f"other{'s are' if left > 1 else ' is'} left out."
    )


def _agreement(first: _Scored, second: _Scored) -> float | None:
    """Spearman correlation of the two qualities over the pairs that both have."""
    keys = [dict(zip(_keys(scored.pairs), scored.quality.tolist(), strict=True)) for scored in (first, second)]
    common = [key for key in keys[0] if key in keys[1]]
    try:
        return pair_vice([keys[0][key] for key in common], [keys[1][key] for key in common]).value
    except ViceError:
        return None


def _same_pairs(first: Pairs, second: Pairs) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("image_id", "class_index"))


def _keys(pairs: Pairs) -> list[tuple[str, int]]:
    return list(zip(pairs.image_id.tolist(), pairs.class_index.tolist(), strict=True))


def _mark(sheet: Sheet, controls: dict[str, Control]) -> None:
    """Note which controls VICE does not clearly exceed, and which clearly exceed it."""
    unclear: list[str] = []
    above: list[str] = []
    for name, row in controls.items():
        own = (row.difference_low, row.difference_high)
        there = (row.difference_at_headline_low, row.difference_at_headline_high)
        stricter, where = min((own, ""), (there, ", at the headline's threshold"), key=lambda ends: ends[0][0] or 0.0)
        if row.beaten is False and stricter[0] is not None and stricter[1] is not None:
            interval = f"`{name}` (95 % interval {interval_text(stricter[0], stricter[1], 2)}{where})"
            (above if stricter[1] < 0 else unclear).append(interval)
    sentences = []
    undefined = [f"`{name}`" for name, row in controls.items() if row.vice is None or row.difference is None]
    if undefined:
        names = f"control{'s' * (len(undefined) > 1)} {', '.join(undefined)}"
        sentences.append(f"Whether VICE is higher than the {names} is undefined.")
    if unclear:
        sentences.append(f"VICE is not clearly higher than the control{'s' * (len(unclear) > 1)} {', '.join(unclear)}.")
    if above:
        sentences.append(f"VICE is clearly lower than the control{'s' * (len(above) > 1)} {', '.join(above)}.")
    if sentences:
        sheet.notes["controls"] = " ".join(sentences)
