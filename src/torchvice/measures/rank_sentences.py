"""Sentences about a ranking: what it establishes and what it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torchvice.measures.statements import CHOICES, UNSAID
from torchvice.measures.wording import decimals

if TYPE_CHECKING:
    from torchvice.measures.rank import Ranking
    from torchvice.measures.reduced import Reduced

__all__ = ["LINEAR", "sentences_of_ranking"]

NAMED = 3  # models that a sentence names before it counts the rest
LINEAR = "linear replicates, which choose neither thresholds nor ranks again"


def sentences_of_ranking(found: Ranking, labels: Mapping[str, str], models: Mapping[str, Reduced]) -> list[str]:
    """What a ranking says: the best, the best K, beyond accuracy, the front, how it was made, and what to mind."""
    said = [_best(found, labels[found.by]), _apart(found), _top(found), _given(found, labels), _front(found, labels)]
    said += [_made(found, labels), _unranked(found, labels[found.by]), _question(models), _pictures(models)]
    said += [_reliable(found, models), _about()]
    return [sentence for sentence in said if sentence]


def named(rows: Sequence[Mapping[str, Any]], most: int = NAMED) -> str:
    """The names of rows, at most so many, and how many more there are.

    Example:
        >>> named([{"name": "a"}, {"name": "b"}, {"name": "c"}], 2)
        'a, b and 1 more'
    """
    names = [row["name"] for row in rows]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def set_text(low: int, high: int) -> str:
    """A set of ranks in words.

    Example:
        >>> set_text(2, 2), set_text(1, 4)
        ('2', '1 to 4')
    """
    return str(low) if low == high else f"{low} to {high}"


def _best(found: Ranking, label: str) -> str:
    first = found.ranked[0]
    direction = "lowest" if found.by == "loss" else "highest"
    return (
        f"{first['name']} has the {direction} {label} of {len(found.ranked):,} models, {decimals(first[found.by])}; "
        f"its 95 % rank set is {set_text(first['rank_low'], first['rank_high'])}."
    )


def _apart(found: Ranking) -> str:
    count = len(found.ranked)
    pairs = count * (count - 1) // 2
    return (
        f"{found.told_apart:,} of {pairs:,} pairs of models are told apart; the order of the others is not "
        f"established. All rank sets hold together, with a probability of {100 * found.level:.0f} %."
    )


def _top(found: Ranking) -> str:
    if found.top is None:
        return ""
    able = [row for row in found.ranked if row["candidate"]]
    sure = [row for row in found.ranked if row["sure"]]
    surely = f"surely among them: {named(sure)}" if sure else "none is surely among them"
    one = len(able) == 1
    return f"{len(able)} {'model' if one else 'models'} cannot be excluded from the best {found.top}; {surely}."


def _given(found: Ranking, labels: Mapping[str, str]) -> str:
    rows = [row for row in found.models if row["given_accuracy"] is not None]
    vice, accuracy = labels["vice"], labels[found.accuracy]
    if not rows:
        return f"What {vice} is beyond {accuracy} needs 5 models or more with both, of different {accuracy}."
    above = sorted((r for r in rows if r["given_accuracy_low"] > 0), key=lambda row: -row["given_accuracy"])
    below = sorted((r for r in rows if r["given_accuracy_high"] < 0), key=lambda row: row["given_accuracy"])
    if not above and not below:
        return f"No model's {vice} is established to lie above or below what its {accuracy} predicts."
    parts = [f"{len(above)} above ({named(above)})"] if above else []
    parts += [f"{len(below)} below ({named(below)})"] if below else []
    return f"Beyond what {accuracy} predicts of {vice}: established {' and '.join(parts)}, of {len(rows):,} models."


def _front(found: Ranking, labels: Mapping[str, str]) -> str:
    rows = sorted((row for row in found.models if row["on_front"]), key=lambda row: -row["vice"])
    if not rows:
        return ""
    names = [f"{row['name']} ({100 * row['front_share']:.0f} %)" for row in rows]
    more = f" and {len(names) - 2 * NAMED} more" if len(names) > 2 * NAMED else ""
    return (
        f"On the Pareto front of {labels[found.accuracy]} and {labels['vice']}, with the share of the replicates in "
        f"which each is on it: {', '.join(names[: 2 * NAMED])}{more}."
    )


def _made(found: Ranking, labels: Mapping[str, str]) -> str:
    linear = [labels[name] for name, how in found.bootstrap.items() if how == "linear"]
    text = f"{found.replicates:,} resamplings of the {found.images:,} images, the same for all models"
    if not linear:
        return f"{text}; every number is computed again in each."
    return f"{text}. {' and '.join(linear)}: {LINEAR} (--bootstrap exact computes each)."


def _unranked(found: Ranking, label: str) -> str:
    rows = [row for row in found.models if row["rank"] is None]
    parts = []
    if absent := [row for row in rows if row[found.by] is None]:
        parts.append(f"{len(absent)} without a rank, as {label} is undefined: {named(absent)}.")
    if unsure := [row for row in rows if row[found.by] is not None]:
        reason = unsure[0]["undefined"][found.by]
        parts.append(
            f"{len(unsure)} without a rank, as {label} has no interval: {named(unsure)}. First reason: {reason}"
        )
    if found.left_out:
        one = len(found.left_out) == 1
        parts.append(
            f"{len(found.left_out)} {'table is' if one else 'tables are'} left out: {named(found.left_out)}. "
            f"First reason: {found.left_out[0]['reason']}"
        )
    return " ".join(parts)


def _question(models: Mapping[str, Reduced]) -> str:
    """In how many ways the maps were made, by setting; "" where there is one."""
    parts = []
    for name in CHOICES:
        made = [UNSAID | model.facts["made"] for model in models.values()]
        values = {str(settings[name]) for settings in made if name in settings}
        if len(values) > 1:
            parts.append(f"{name} ({len(values)} values)")
    return (
        f"Not the same question: the maps differ in {', '.join(parts)}. The ranks are about that, too." if parts else ""
    )


def _pictures(models: Mapping[str, Reduced]) -> str:
    first, reference = next(iter(models.items()))
    others = [
        {"name": name}
        for name, model in models.items()
        if model.pictures and reference.pictures and model.pictures != reference.pictures
    ]
    if not others:
        return ""
    return f"Not the same pictures: the image files of {first} differ from those of {named(others)}."


def _reliable(found: Ranking, models: Mapping[str, Reduced]) -> str:
    """Pearson's intervals with skewed losses, as `vice measure` says it of one model."""
    doubtful = [name for name, model in models.items() if model.facts.get("reliable") is False]
    if found.by != "vice" or not doubtful:
        return ""
    return (
        f"The losses of {len(doubtful)} of {len(models)} models are skewed: with such losses intervals of Pearson's "
        "correlation may cover the truth half the time, and the rank sets likewise. Rank by strict: --protocol strict."
    )


def _about() -> str:
    return "Each is one trained model: this is about these models and other images, not about training them again."
