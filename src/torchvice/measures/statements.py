"""Sentences about a comparison: what it establishes and what it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.measures.catalogue import compared_label
from torchvice.measures.inference import LEVEL
from torchvice.measures.qualities import QUALITIES
from torchvice.measures.wording import decimals, decimals_between, interval_text, p_text

if TYPE_CHECKING:
    from torchvice.measures.rows import Comparison

__all__ = ["of_linear", "sentences_of"]

FEWEST_SEEDS = 3
# What of the headline explanation must be the same for two numbers to answer one question.
CHOICES = (
    *("method", "view", "scales", "mirror", "combine", "normalisation", "order", "labels", "eigen_smooth"),
    *("layers", "aug_smooth", "scaled", "grid", "precision"),
)
UNSAID = {"precision": "that of the weights"}  # what settings mean by leaving a field out
# The same of what was measured on changed images. Seeds and the number of random orders change no expected value.
OF_OBJECTS = ("filling", "dilation", "void")
OF_FAITHFULNESS = {
    "insertion": ("steps", "canvas"),
    "deletion": ("steps", "blank"),
    "road": ("shares", "noise", "blank"),
}


def sentences_of(found: Comparison, made: Mapping[str, Mapping[str, Any]], replicates: int) -> list[str]:
    """Say what is established about VICE and what is not; with groups of seeds, about the groups only.

    Args:
        found: the rows of the comparison.
        made: {model: settings of its headline explanation}.
        replicates: of the bootstrap.
    """
    pairs = [] if found.seeds else _about_pairs(found, replicates)
    about = _about_choices(made, found) + _about_quality(found) + pairs + _about_seeds(found) + _about_order(found)
    return about + _about_classes(found)


def _about_classes(found: Comparison) -> list[str]:
    """Which classes stand out in which models, and in which models no class could."""
    tested = [model for model in found.stands_out if found.testable.get(model, 1)]
    untested = [model for model in found.stands_out if model not in tested]
    why = f"No class could be tested in {', '.join(untested)}: every class has too few found labels."
    models: dict[str, list[str]] = {}
    for model, rows in found.stands_out.items():
        for name in dict.fromkeys(row["class"] for row in rows):
            models.setdefault(name, []).append(model)
    if not models:
        where = "any of the models" if not untested else ", ".join(tested)
        return [f"No class stands out in {where}."] * bool(tested) + [why] * bool(untested)
    parts = []
    for name, named in models.items():
        others = [model for model in tested if model not in named]
        parts.append(f"{name} in {', '.join(named)}" + (f" and not in {', '.join(others)}" if others else ""))
    only = any(len(named) < len(found.stands_out) for named in models.values())
    caution = " That a class is named in one model only does not show that the models differ in it." if only else ""
    return [f"Stands out: {'; '.join(parts)}.{caution}", *[why] * bool(untested)]


def _about_quality(found: Comparison) -> list[str]:
    """Which quality was chosen; the default is fixed beforehand, the others can be tried until one differs."""
    if found.quality == "ji":
        return []
    return [
        f"{_vice(found)} is compared: {found.quality} is one of {len(QUALITIES)} qualities that can be chosen, and no "
        "p is corrected for this choice."
    ]


def _vice(found: Comparison) -> str:
    return "VICE" if found.quality == "ji" else f"VICE with {QUALITIES[found.quality].label}"


def _of(found: Comparison) -> str:
    return "" if found.quality == "ji" else f" for {_vice(found)}"


def _about_choices(made: Mapping[str, Mapping[str, Any]], found: Comparison) -> list[str]:
    """Warn if the models were not measured in the same way: then the difference is also one of settings."""
    said = _differing("the maps differ in", {model: UNSAID | dict(each) for model, each in made.items()}, CHOICES)
    if any(row["measure"] == "without_object" for row in found.differences):
        said += _differing("the replaced objects differ in", _part(made, "interventions"), OF_OBJECTS)
    fields = OF_FAITHFULNESS.get(found.quality, ())
    said += _differing("the faithfulness was measured with other", _part(made, "faithfulness"), fields)
    return [f"Not the same question: {'; '.join(said)}. What follows is about that, too."] if said else []


def _part(made: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Mapping[str, Any]]:
    """One entry of every model's settings; empty where a table does not have it."""
    return {model: settings.get(name) or {} for model, settings in made.items()}


def _differing(start: str, made: Mapping[str, Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """A clause that names the fields that differ, each with every model's value; none where all are the same."""
    said = []
    for name in fields:
        values = {model: settings[name] for model, settings in made.items() if name in settings}
        if len({str(value) for value in values.values()}) > 1:
            said.append(f"{name} ({', '.join(f'{model}: {value}' for model, value in values.items())})")
    return [f"{start} {'; '.join(said)}"] if said else []


def _about_pairs(found: Comparison, replicates: int) -> list[str]:
    alpha = 1 - LEVEL
    rows = [row for row in found.differences if row["measure"] == "vice"]
    sure = [row for row in rows if row["p_holm"] is not None and row["p_holm"] < alpha]
    open_ = [row for row in rows if row["p_holm"] is not None and row["p_holm"] >= alpha]
    said = []
    value = {row["name"]: row["vice"] for row in found.models}
    if sure:
        parts = []
        for row in sure:
            up, down = (row["first"], row["second"]) if row["difference"] > 0 else (row["second"], row["first"])
            digits = decimals_between(value[up], value[down], 2)
            values = [decimals(value[name], digits) for name in (up, down)]
            parts.append(
                f"{up} is more consistent than {down} ({_vice(found)} {values[0]} against {values[1]}, "
                f"{_span(row, row['difference'] < 0)})"
            )
        said.append(f"Established on these {found.images} images: {'; '.join(parts)}.")
    if open_:
        parts = [f"{row['first']} against {row['second']} ({_span(row)})" for row in open_]
        said.append(f"Not established{_of(found)}: {'; '.join(parts)}.")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["p_holm"] is None:
            reasons.setdefault(row["reason"], []).append(f"{row['first']} and {row['second']}")
    said += [f"{'; '.join(names)} cannot be compared: {reason}" for reason, names in reasons.items()]
    least = 2 * len(rows) / (replicates + 1)
    if least >= alpha and open_ and not sure:
        said.append(
            f"With {replicates} replicates no p can be below {least:.2f} after Holm's correction for {len(rows)} "
            f"pairs of models: take more (--replicates {round(2 * len(rows) / alpha) * 5})."
        )
    return said


def _about_order(found: Comparison) -> list[str]:
    if found.agreement.get("same_order") is False:
        return ["The order of the models is not the same under every explanation method."]
    return []


def _about_seeds(found: Comparison) -> list[str]:
    if not found.seeds:
        return [
            "Each is one trained model: this is about these models and other images, not about training them again "
            f"(for that give {FEWEST_SEEDS} seeds or more of each as groups)."
        ]
    said = []
    for row in found.seeds:
        if row["p"] is None:
            said.append(f"No claim about {row['first']} against {row['second']}: {row.get('reason', 'undefined')}")
        else:
            word = "Established" if row["p_holm"] < 1 - LEVEL else "Not established"
            digits = decimals_between(row["low"], row["high"])
            difference = decimals(row["difference"], digits, "+")
            interval = interval_text(row["low"], row["high"], sign="+")
            corrected = f" after Holm over {len(found.seeds)} pairs of groups" if len(found.seeds) > 1 else ""
            said.append(
                f"{word} over seeds{_of(found)}: {row['first']} - {row['second']} = {difference} ({interval}, "
                f"p {p_text(row['p_holm'])}{corrected}, {row['seeds_first']} and {row['seeds_second']} seeds)."
            )
    return said


def _span(row: Mapping[str, Any], turned: bool = False) -> str:
    """The difference and its interval; `turned`, the second less the first."""
    value, low, high = row["difference"], row["low"], row["high"]
    if turned:
        value, low, high = -value, -high, -low
    return (
        f"difference {decimals(value, decimals_between(low, high), '+')}, "
        f"95 % interval {interval_text(low, high, sign='+')}, p {p_text(row['p_holm'], row['p_at_floor'])}"
    )


def of_linear(measures: Iterable[str]) -> list[str]:
    """The sentence on measures whose replicates are linear, see `torchvice.metrics.resampling.Resampling.linear`."""
    names = " and ".join(compared_label(measure) for measure in sorted(measures))
    if not names:
        return []
    return [f"Intervals and p of {names} are made of linear replicates, as there are so many images."]
