"""Tables of the bench: how well each witness, and the verdict, find the classes that rely on a planted shortcut.

A row is the content of a run's result.json. The unit is a class of a run. A class is a shortcut class if it is planted
and the shortcut changes the truth, see `relies_on_shortcut`; every other class is a negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

FALSE_ALARMS = 0.05  # share of clean tables
LOSS = 0.05  # of average precision, without the shortcut
ALONE = 0.5  # average precision without the object
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PRECISIONS = ("planted", "without_shortcut", "without_object")
VERDICT = "verdict, - log10 p"  # after Holm: the smallest of the class

Row = Mapping[str, Any]


def relies_on_shortcut(row: Row) -> bool:
    """Whether the planted class loses 0.05 AP or more without the shortcut, or has more than 0.5 without the object."""
    precision = row["precision"]
    if row["digit"] is None:
        return False
    lost = precision["planted"] - precision["without_shortcut"]
    return bool(lost > LOSS - 1e-9 or precision["without_object"] > ALONE)


def scores_of(row: Row, witness: str) -> np.ndarray:
    """The score of every class of a run, (10,); -infinity where it is not measured."""
    if witness == VERDICT:
        smallest = row.get("p") or {}
        return np.array([-math.log10(max(smallest.get(name, 1.0), 1e-300)) for name in DIGITS])
    values = [row["classes"][name].get(witness) for name in DIGITS]
    return np.array([-np.inf if value is None else value for value in values])


def witness_names(rows: Sequence[Row]) -> list[str]:
    """The witnesses that any run has measured, the verdict last."""
    names = {name: None for row in rows for classes in row["classes"].values() for name in classes}
    measured = [n for n in names if any(c.get(n) is not None for row in rows for c in row["classes"].values())]
    return [*measured, VERDICT] if any(row["stands_out"] is not None for row in rows) else measured


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, ties counting one half; NaN without either.

    Example:
        >>> auc(np.array([3.0, 1.0]), np.array([2.0, 1.0]))
        0.625
    """
    if not len(positive) or not len(negative):
        return math.nan
    return float(((positive[:, None] > negative) + (positive[:, None] == negative) / 2).mean())


def threshold_of(clean: Sequence[Row], witness: str) -> float:
    """The smallest score that at most 5 % of the clean tables exceed with any of their classes; NaN without a table."""
    highest = np.sort([scores_of(row, witness).max() for row in clean])
    return float(highest[len(highest) - 1 - int(FALSE_ALARMS * len(highest))]) if len(highest) else math.nan


def is_first(row: Row, witness: str) -> bool:
    """Whether the planted class has a higher score than every other class."""
    scores = scores_of(row, witness)
    return bool(scores[row["digit"]] > np.delete(scores, row["digit"]).max())


def is_named(row: Row) -> bool:
    """Whether the planted class is among those that stand out."""
    return any(entry["class"] == DIGITS[row["digit"]] for entry in row["stands_out"] or ())


def is_named_first(row: Row) -> bool:
    """Whether the planted class is the first of those that stand out."""
    return bool(row["stands_out"]) and row["stands_out"][0]["class"] == DIGITS[row["digit"]]


def share(rows: Iterable[Row], holds: Callable[[Row], bool]) -> str:
    """How many rows hold, as "3 of 4"."""
    held = [holds(row) for row in rows]
    return f"{sum(held)} of {len(held)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, first column left-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def witness_table(rows: Sequence[Row]) -> str:
    """AUC, power and first places of every witness, over the runs whose shortcut changes the truth."""
    clean = [row for row in rows if row["digit"] is None]
    relying = [row for row in rows if relies_on_shortcut(row)]
    lines = []
    for witness in witness_names(rows):
        positive = np.array([scores_of(row, witness)[row["digit"]] for row in relying])
        negative = [np.delete(scores_of(row, witness), row["digit"]) for row in relying]
        negative += [scores_of(row, witness) for row in rows if not relies_on_shortcut(row)]
        above = threshold_of(clean, witness)
        power = f"{int((positive > above).sum())} of {len(positive)}" if clean else "no clean run"
        first = share(relying, lambda row, name=witness: is_first(row, name))  # type: ignore[misc]
        lines.append([witness, f"{auc(positive, np.concatenate(negative or [np.empty(0)])):.3f}", power, first])
    head = ("witness", "AUC against the truth", f"power at {FALSE_ALARMS:.0%} false alarms a table", "ranked first")
    return table(head, lines)


def cell_table(rows: Sequence[Row]) -> str:
    """What the shortcut does and how often the class is named or ranked first, by kind and strength."""
    cells = sorted({(row["kind"], row["strength"]) for row in rows if row["digit"] is not None})
    judged = any(row["stands_out"] is not None for row in rows)
    lines = []
    for kind, strength in cells:
        inside = [row for row in rows if (row["kind"], row["strength"]) == (kind, strength)]
        precision = [np.mean([row["precision"][name] for row in inside]) for name in PRECISIONS]
        named = [share(inside, is_named), share(inside, is_named_first)] if judged else ["–", "–"]
        elsewhere = share(inside, lambda row: is_first(row, "looking elsewhere"))
        line = [kind, f"{strength:g}", *(f"{value:.3f}" for value in precision), share(inside, relies_on_shortcut)]
        lines.append([*line, *named, elsewhere])
    head = ("kind", "strength", "AP", "AP without the shortcut", "AP without the object", "relies on it")
    return table((*head, "named", "named first", "first by looking elsewhere"), lines)


def summary(rows: Sequence[Row], planned: int) -> str:
    """All tables as Markdown."""
    clean = [row for row in rows if row["digit"] is None]
    planted = [row for row in rows if row["digit"] is not None]
    relying = [row for row in planted if relies_on_shortcut(row)]
    seconds = [sum(row["seconds"].values()) for row in rows]
    parts = [
        f"{len(rows)} of {planned} runs are finished: {len(clean)} clean, {len(planted)} planted; in {len(relying)} "
        f"the shortcut changes the truth. Mean AP of all classes {min(r['precision']['mean'] for r in rows):.3f} to "
        f"{max(r['precision']['mean'] for r in rows):.3f}; {np.mean(seconds):.0f} s a run.",
    ]
    if any(row["stands_out"] is not None for row in rows):
        others = [row for row in planted if any(e["class"] != DIGITS[row["digit"]] for e in row["stands_out"] or ())]
        parts.append(
            f"The verdict names a class in {share(clean, lambda row: bool(row['stands_out']))} clean runs, the planted "
            f"class in {share(relying, is_named)} runs whose shortcut changes the truth (first in "
            f"{share(relying, is_named_first)}), and another class in {len(others)} of {len(planted)} planted runs."
        )
    else:
        parts.append("measures.json holds no verdict: the witnesses are compared without it.")
    parts += [witness_table(rows), cell_table(rows)] if planted else []
    return "\n\n".join(parts)


def repair_summary(rows: Sequence[Row], planned: int) -> str:
    """What the settings that break shortcuts change, as Markdown: means over the trainings of a kind and a repair."""
    lines = []
    for kind, repair in dict.fromkeys((row["kind"], row["repair"]) for row in rows):
        inside = [row for row in rows if (row["kind"], row["repair"]) == (kind, repair)]
        values = [np.mean([row["precision"][name] for row in inside]) for name in (*PRECISIONS, "mean")]
        values.append(np.mean([scores_of(row, "looking elsewhere")[row["digit"]] for row in inside]))
        relies = share(inside, relies_on_shortcut)
        lines.append([kind, repair, *(f"{value:.3f}" for value in values), relies, share(inside, is_named)])
    if all(row["stands_out"] is None for row in rows):
        lines = [[*line[:-1], "–"] for line in lines]
    head = ("kind", "repair", "AP", "AP without the shortcut", "AP without the object", "mean AP of all classes")
    found = ("looking elsewhere", "relies on it", "named")
    return f"{len(rows)} of {planned} runs are finished.\n\n{table((*head, *found), lines)}"
