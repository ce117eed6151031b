"""The verdict in words: each sentence says its test or interval, and how many labels it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.measures.catalogue import FILLED_BY
from torchvice.measures.qualities import IOU_CUTOFF, QUALITIES
from torchvice.measures.witnesses import WITNESSES
from torchvice.measures.wording import decimals, p_text

if TYPE_CHECKING:
    from torchvice.samples import Samples

__all__ = ["JOINT_MARGIN", "SAME_COMMAND", "caveats_of", "sentences_of"]

SAME_COMMAND = "the same vice assess with --without object,background adds it"
NEEDS_NETWORK = "this needs the network, and the table was made of the maps and logits of another tool"
MOST = 3  # classes that a sentence names
MOVES = 0.05  # a smaller range over thresholds is not worth a sentence
FEWEST_LABELS = 30  # of tables of seven labels without any connection, a third have an interval without 0
JOINT_MARGIN = 0.02  # a smaller joint VICE may be what its smooth functions leave of other causes in a large table


def sentences_of(
    parts: Mapping[str, Any],
    pairs: int,
    filling: Mapping[str, Any],
    foreign: bool = False,
    no_interval: str = "",
) -> list[str]:
    """Three to five sentences, the strongest evidence first.

    Args:
        parts: the fields of the verdict.
        pairs: number of true pairs.
        filling: how pixels were replaced.
        foreign: whether the table was made of another tool's files.
        no_interval: why VICE has no interval, as a sentence; "" if it has one, or if images were not resampled.
    """
    if not pairs:
        return [
            "Nothing can be said of where the model looks: no true label has a pixel in a mask. Classification and "
            "calibration are below."
        ]
    if not parts["on_object"]["pairs"]:
        return [f"Nothing can be said of the model's reasons: it finds none of the {pairs} true labels with a mask."]
    named = _named(parts["stands_out"], parts["power"])
    unnamed = [] if named else [_nothing_stands_out(parts["power"])]
    more = [*_without(parts, filling), _on_object(parts["on_object"]), *unnamed, _vice(parts["vice"], no_interval)]
    return [*named, *more, *_missing(parts, foreign)]


def _by_class(stands_out: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(class, what its witnesses say) in the order of the strongest evidence."""
    order = {row["class"]: place for place, row in reversed(list(enumerate(stands_out)))}
    rows = sorted(stands_out, key=lambda row: order[row["class"]])
    result = []
    for name, group in groupby(rows, key=lambda row: row["class"]):
        result.append((str(name), " and ".join(_witness(row) for row in group)))
    return result


def _witness(row: Mapping[str, Any]) -> str:
    """One witness of a class, such as `74 of 82 found labels have their map off the object (8 expected, p = 0.012)`."""
    count, expected = round(row["share"] * row["pairs"]), row["expected"] * row["pairs"]
    p = p_text(row["p"])
    return (
        f"{count} of {row['pairs']} found labels {WITNESSES[row['witness']]} ({decimals(expected, 0)} expected, p "
        f"{p if p.startswith('below') else f'= {p}'})"
    )


def _named(stands_out: Sequence[Mapping[str, Any]], power: Mapping[str, Any]) -> list[str]:
    """The classes that stand out, in one text: the first of them whole, the others shorter."""
    classes = _by_class(stands_out)
    if not classes:
        return []
    first, others = classes[0], classes[1:]
    text = f"Stands out: {first[0]}. Of this class {first[1]}; expected given the objects' sizes, {_holm(power)}."
    parts = [text, *_instead(stands_out, first[0])]
    if others:
        texts = [f"{name} ({text})" for name, text in others[: MOST - 1]]
        rest = [name for name, _ in others[MOST - 1 :]]
        texts += [f"{len(rest)} more: {', '.join(rest[:MOST])}{' ...' if len(rest) > MOST else ''}"] if rest else []
        parts.append(f"As well: {'; '.join(texts)}.")
    return [" ".join(parts)]


def _instead(stands_out: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """The sentence of the group that the class is found by, if covering it is shown to matter."""
    groups = [group for row in stands_out if row["class"] == name for group in row["looks_at"]]
    return [group["sentence"] for group in groups if (group["effect_low"] or 0) > 0][:1]


def _holm(power: Mapping[str, Any]) -> str:
    witnesses = len(power["witnesses"])
    classes = power["classes"]
    return f"Holm over {classes} class{'es' * (classes != 1)} and {witnesses} witness{'es' * (witnesses > 1)}"


def _nothing_stands_out(power: Mapping[str, Any]) -> str:
    """That no class stands out, and what would have been named."""
    if not power["classes"]:
        return "No class could be tested: every class has too few found labels to stand out."
    text = (
        f"No class stands out at a level of {power['level']:g} ({_holm(power)}): a class with half of its "
        f"{power['pairs']} found labels on a shortcut would have been named in {_percent(power['named'])} of 100 tables"
    )
    absent = power["not_testable"]
    if not absent:
        return f"{text}."
    names = ", ".join(absent[:MOST]) + (" ..." if len(absent) > MOST else "")
    some = f"{len(absent)} class{'es' * (len(absent) > 1)}"
    return f"{text}; {some} could not have been named with so few found labels ({names})."


def _percent(share: float) -> str:
    """A share in percent, without its sign; 99.6 is not 100.

    Example:
        >>> _percent(0.42), _percent(0.9996), _percent(0.0004), _percent(1.0)
        ('42', 'more than 99', 'less than 1', '100')
    """
    rounded = round(100 * share)
    if rounded == 100 and share < 1:
        return "more than 99"
    return "less than 1" if rounded == 0 and share > 0 else str(rounded)


def _share(part: Mapping[str, Any]) -> str:
    """Such as `187 of 446 found labels (42 %, 95 % interval 37 to 47 %)`."""
    share, pairs, interval = part["share"], part["pairs"], part["interval"]
    span = ""
    if interval is not None:
        low, high = (f"{100 * interval[end]:.0f}" for end in ("low", "high"))
        span = f", 95 % interval {low} to {high} %"
    return f"{round(share * pairs)} of {pairs} found labels ({_percent(share)} %{span})"


def _without(parts: Mapping[str, Any], filling: Mapping[str, Any]) -> list[str]:
    """What is found without the object, and without the background, in one sentence each; none if not measured."""
    without, background = parts["without_object"], parts["without_background"]
    sentences = []
    if without["share"] is not None:
        how = FILLED_BY.get(filling.get("filling", ""), "")
        replaced = f" (replaced by {how})" if how else ""
        text = f"Without the object{replaced}, {_share(without)} are still found"
        if without["lost_to_hole"] is not None:
            text += f"; a hole of an object's shape elsewhere loses {_percent(without['lost_to_hole'])} %"
        sentences.append(f"{text}.")
    if background["share"] is not None:
        sentences.append(f"Without the background, {_share(background)} are still found.")
    return sentences


def _on_object(part: Mapping[str, Any]) -> str:
    chance, compared = part["chance"], part.get("chance_pairs")
    text = f"The map is on the object (IoU {IOU_CUTOFF:g} or more) for {_share(part)}"
    if chance is None:
        why = "the control `shuffled` was not assessed" if compared is None else "no other image shows their classes"
        return f"{text}; what chance gives is unknown, as {why}."
    if compared is not None and compared < part["pairs"]:
        return (
            f"{text}; of the {compared} whose class another image shows, for "
            f"{_percent(part['share_of_chance_pairs'])} %, and by chance, on the objects of other images of the class, "
            f"for {_percent(chance)} %."
        )
    return f"{text}; by chance, on the objects of other images of the class, for {_percent(chance)} %."


def _vice(part: Mapping[str, Any], no_interval: str) -> str:
    """The association of certainty and map: what of it is established, and else why nothing is."""
    value, interval = part.get("strict"), part.get("interval")
    if value is None:
        return "Whether certainty goes with the map's place (VICE) is undefined here."
    span = f"{part['pairs']} labels"
    if interval is not None:
        span = f"{_interval(interval)}, {span}"
    text = f"VICE {decimals(value, 2)} ({span})."
    few = part["pairs"] < FEWEST_LABELS
    if few:
        text = f"Labels are too few (fewer than {FEWEST_LABELS}) to establish that certainty goes with the map: {text}"
    elif no_interval:
        text = f"No association of certainty and map is established: {text} {no_interval}"
    elif interval is None:
        text = f"Association of certainty and map: {text}"
    elif interval["low"] > 0:
        text = f"The surer the model is of a label, the better the map covers the object: {text}"
    elif interval["high"] < 0:
        text = f"The surer the model is of a label, the worse the map covers the object: {text}"
    else:
        text = f"No association of certainty and map is established: {text}"
    return " ".join([text, *_joint(part), *_range(part), *([] if few else _disagreement(part))])


def _interval(interval: Mapping[str, Any]) -> str:
    return f"95 % interval {_to(interval['low'], interval['high'])}"


def _joint(part: Mapping[str, Any]) -> list[str]:
    """VICE given all that moves it, where that is known; its interval is among the numbers."""
    value, interval = part.get("joint"), part.get("joint_interval")
    if value is None or interval is None:
        return []
    given = "Given class, size, number of labels and extent of the map"
    if interval["low"] <= JOINT_MARGIN and interval["high"] >= -JOINT_MARGIN:
        return [f"{given}, none beyond {JOINT_MARGIN:g} is established."]
    return [f"{given}, it is {decimals(value, 2)}."]


def _range(part: Mapping[str, Any]) -> list[str]:
    """VICE over the thresholds that are as good as the best, where it is known and moves."""
    low, high = part.get("lowest"), part.get("highest")
    if low is None or high is None or high - low < MOVES:
        return []
    return [f"Over thresholds that are as good (mean IoU within 3 % of the best), it is {_to(low, high)}."]


def _to(low: float, high: float) -> str:
    return f"{decimals(low, 2)} to {decimals(high, 2)}"


def _disagreement(part: Mapping[str, Any]) -> list[str]:
    """What VICE establishes with qualities that need no threshold, where that is something else."""
    words = {1: "VICE is above 0", -1: "VICE is below 0", 0: "nothing is established"}
    by_outcome: dict[str, list[str]] = {}
    for row in part.get("disagreement", []):
        by_outcome.setdefault(words[row["established"]], []).append(QUALITIES[row["quality"]].label)
    texts = [f"with {' and '.join(labels)}, {outcome}" for outcome, labels in by_outcome.items()]
    return [f"Qualities without a threshold say something else: {'; '.join(texts)}."] if texts else []


def _missing(parts: Mapping[str, Any], foreign: bool) -> list[str]:
    """What the table lacks."""
    if parts["without_object"]["share"] is not None:
        return []
    way_out = NEEDS_NETWORK if foreign else SAME_COMMAND
    return [f"Not measured: what is still found without the object ({way_out})."]


def caveats_of(
    samples: Samples, parts: Mapping[str, Any], without: Mapping[str, Any], has_intervals: bool
) -> list[str]:
    """What the sentences do not say.

    Args:
        samples: the table.
        parts: the fields of the verdict.
        without: what is defined of the section `without`.
        has_intervals: whether images were resampled.
    """
    settings = samples.of_protocol("strict").settings
    caveats = [] if has_intervals else ["Not measured: intervals (--replicates is 0)."]
    caveats += [
        f"Maps are of one method ({settings.get('method', 'unknown')}); another one may lie elsewhere.",
        "A map on the object (localisation) does not prove that the model uses it (faithfulness).",
        "This is one trained model: another training of it may differ.",
    ]
    if parts["stands_out"]:
        caveats.append(
            "A class that stands out differs from the others more than they differ among themselves; what it is found "
            "by tells whether that is a shortcut."
        )
    if without:
        text = "A replaced object may leave its outline"
        shares = {name: value for name in FILLED_BY if (value := without.get(f"object_found_{name}")) is not None}
        if len(shares) > 1:
            listed = ", ".join(f"{name} {_percent(value)} %" for name, value in shares.items())
            text += f"; still found by filling, on the same labels: {listed}"
        made = settings.get("interventions", {})
        if dilation := made.get("dilation"):
            text += f"; masks are dilated by {dilation} pixels"
        caveats.append(f"{text}.")
        if made.get("void") == "touching" and not samples.exclusive:
            caveats.append(
                "With each object, the void around the objects that touch it was replaced, too, which can remove small "
                "ones. To avoid this, assess to a new --out."
            )
    if without and samples.exclusive and np.isnan(samples.of_protocol("strict").regions.answer_without_object).all():
        caveats.append(
            "Not tested: classes that are found without their object. The table is of an earlier version; the same "
            "vice assess completes it."
        )
    if samples.of_boxes:
        caveats.append("Objects are unions of boxes, which hold background, too.")
    return caveats
