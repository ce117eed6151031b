"""Words of a study's page: what its columns are called and mean, its head, and what its comparisons establish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchvice.report.page.text import DEFINITIONS, Number, Sentence
from torchvice.report.study.recipes import Recipe, Row, StudyTable
from torchvice.report.style import number

__all__ = [
    "ALPHA",
    "STUDY_DEFINITIONS",
    "column_name",
    "column_term",
    "counted",
    "facts_of_study",
    "front_sentence",
    "is_established",
    "listed",
    "lower_is_better",
    "sentences_of_study",
    "why_not_compared",
]

ALPHA = 0.05
NAMED = 3  # differences and members of a front that a sentence names before it counts the rest

# A column or measure, its name, and the key of its definition.
_COLUMNS = {
    "images": ("images", "study.images"),
    "vice": ("VICE", "strict.vice"),
    "paper_vice": ("VICE (paper)", "paper.vice"),
    "ji": ("pair IoU", "strict.ji"),
    "quality": ("map quality", "study.quality"),
    "mean_average_precision": ("mAP", "strict.mean_average_precision"),
    "ece_ml": ("ECE-ML", "strict.ece_ml"),
    "paper_ece_ml": ("ECE-ML (paper)", "paper.ece_ml"),
    "loss": ("loss, nats", "study.loss"),
    "controls": ("controls", "study.controls"),
    "train_seconds": ("training, s", "study.seconds"),
    "assess_seconds": ("assessment, s", "study.seconds"),
}
_LOWER = ("loss", "ece_ml", "paper_ece_ml")

STUDY_DEFINITIONS: dict[str, tuple[str, str]] = {
    **{key: DEFINITIONS[key] for _, key in _COLUMNS.values() if key in DEFINITIONS},
    "method": ("VICE of a further explanation", DEFINITIONS["method"][1]),
    "method_ji": ("Pair IoU of a further explanation", DEFINITIONS["strict.ji"][1]),
    "study.quality": (
        "Map quality",
        "The mean over true (image, class) pairs of what the study takes as the quality of a map: unless it says "
        "otherwise, the IoU of map and mask. Higher is better.",
    ),
    "study.loss": (
        "Loss",
        "The mean over images and classes of the binary cross-entropy (of softmax classifiers, the mean cross-entropy "
        "of the true class), nats. Lower is better.",
    ),
    "study.images": ("Images", "How many images of the evaluation split the run was assessed on."),
    "study.controls": (
        "Controls",
        "Which maps that know nothing of the image the run's VICE is not above: of those, the whole interval of the "
        "paired difference is not above 0. None: no control was asked for.",
    ),
    "study.seconds": ("Seconds", "Of the last start alone; of a run that was resumed only its last part is timed."),
    "study.other": ("A column of the study's table", "As the table has it; docs/studies.md says what a study writes."),
    "recipe": ("Recipe", "The runs of the same levels of all axes: they differ in their seed alone."),
    "spread": (
        "Mean and standard deviation",
        "Over the finished runs of a recipe, which differ in their seed. The standard deviation says how training "
        "varies and nothing about other images; of one run there is none.",
    ),
    "front": (
        "Pareto front",
        "The recipes whose means no other recipe beats: none is as good in both numbers and better in one. A front of "
        "means ignores their noise: with other seeds or images its members may change, and none of it is a test.",
    ),
    "established": (
        "Established",
        "Holm's p below 0.05. Differences of levels by Welch's t over seeds, with the variance that the choice of "
        "images adds; Holm's correction over the pairs of levels of one axis, combination and measure. Fewer than "
        "three seeds of a level support no claim.",
    ),
    "difference_of_levels": (
        "Difference of levels",
        "First minus second, each the mean over its seeds on the same images, with its 95 % interval, which is not "
        "corrected for the number of pairs: it may leave 0 out where the difference is not established.",
    ),
}


def column_name(name: str) -> str:
    """What a column or a measure is called.

    Example:
        >>> [column_name(name) for name in ("mean_average_precision", "vice_gradcam", "ji_gradcam", "some_number")]
        ['mAP', 'VICE, gradcam', 'pair IoU, gradcam', 'some number']
    """
    if name in _COLUMNS:
        return _COLUMNS[name][0]
    for start, word in (("vice_", "VICE, "), ("ji_", "pair IoU, ")):
        if name.startswith(start):
            return word + name.removeprefix(start)
    return name.replace("_", " ")


def column_term(name: str) -> str:
    """The key of a column's or a measure's definition in STUDY_DEFINITIONS."""
    if name in _COLUMNS:
        return _COLUMNS[name][1]
    return "method" if name.startswith("vice_") else "method_ji" if name.startswith("ji_") else "study.other"


def lower_is_better(name: str) -> bool:
    """Whether less of a measure is better."""
    return name in _LOWER


def is_established(row: Row) -> bool:
    """Whether a comparison is: Holm's p is below 0.05."""
    return row["p_holm"] is not None and row["p_holm"] < ALPHA


def counted(count: int, one: str, more: str = "") -> str:
    """A number and its noun.

    Example:
        >>> counted(1, "run"), counted(3, "run")
        ('1 run', '3 runs')
    """
    return f"{count} {one if count == 1 else more or one + 's'}"


def listed(names: Sequence[str], most: int = 0) -> str:
    """Names in a sentence; of more than `most` the first, and how many more.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], most=2)
        ('a, b and c', 'a, b and 2 more')
    """
    names = list(names)
    if most and len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def facts_of_study(table: StudyTable) -> list[tuple[str, str]]:
    """What was studied, as (name, value); what is not known is left out."""
    done = len(table.finished)
    failed = sum(row["status"] == "failed" for row in table.rows)
    design = {True: "one axis at a time around the base", False: "every combination", None: ""}[table.one_at_a_time]
    design += f", at each level of {listed(table.across)}" if table.across else ""
    images = sorted({row["images"] for row in table.finished if row.get("images") is not None})
    methods = [name.removeprefix("vice_") for name in table.measured if name.startswith("vice_")]
    ended = f"{done} finished, {failed} failed" if failed else f"{done} finished"
    facts = [
        *((f"Axis {axis}", listed(levels)) for axis, levels in table.axes.items()),
        ("Design", design),
        ("Base", ", ".join(f"{axis} {level}" for axis, level in table.base.items())),
        ("Seeds", ", ".join(map(str, table.seeds))),
        ("Runs", f"{ended} of {table.planned} planned" if table.planned else ended),
        ("Images of each", " or ".join(map(str, images))),
        ("Further explanations", ", ".join(methods)),
    ]
    return [(name, value) for name, value in facts if value]


def sentences_of_study(table: StudyTable, recipes: Sequence[Recipe]) -> list[Sentence]:
    """Three to six sentences: what was run, where VICE is highest, what of the differences is established, what not,
    and where no claim can be made."""
    said = [_what(table, recipes), _range(table, recipes), *_established(table), _no_claim(table, recipes)]
    return [sentence for sentence in said if sentence]


def _what(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    axes = listed([f"{axis} ({counted(len(levels), 'level')})" for axis, levels in table.axes.items()])
    over = f"the {'axis' if len(table.axes) == 1 else 'axes'} {axes}" if table.axes else "no axis"
    failed = sum(row["status"] == "failed" for row in table.rows)
    planned = f" of {table.planned} planned" if table.planned else ""
    done = len(table.finished)
    return [
        f"The study has {counted(len(recipes), 'recipe')} over {over}: {counted(done, 'run')}{planned} "
        f"{'is' if done == 1 else 'are'} finished" + (f", {failed} failed." if failed else ".")
    ]


def _range(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    means = [(recipe, mean) for recipe in recipes if (mean := table.mean(recipe, "vice")).value is not None]
    if not means:
        return ["VICE (strict) is undefined for every run: see the table for what was measured."]
    means.sort(key=lambda pair: -(pair[1].value or 0.0))

    def told(pair: tuple[Recipe, Any]) -> list[str | Number]:
        recipe, mean = pair
        spread = f", standard deviation {number(mean.sd)} over {mean.n} seeds" if mean.sd is not None else ", one run"
        return [f"{recipe.name} (", Number(number(mean.value), "strict.vice"), f"{spread})"]

    if len(means) == 1:
        return ["VICE is that of one recipe alone, ", *told(means[0]), "."]
    return ["VICE is highest for ", *told(means[0]), " and lowest for ", *told(means[-1]), "."]


def _established(table: StudyTable) -> list[Sentence]:
    """The count by measure and the strongest differences, VICE before all others."""
    if not table.comparisons:
        return [[why_not_compared(table)]]
    by_measure: dict[str, list[Row]] = {}
    for row in table.comparisons:
        by_measure.setdefault(row["measure"], []).append(row)
    tested = {measure: [row for row in rows if row["p_holm"] is not None] for measure, rows in by_measure.items()}
    tested = {measure: rows for measure, rows in tested.items() if rows}
    if not tested:
        return []
    said: list[Sentence] = [_of_vice(tested["vice"])] if "vice" in tested else []
    rest = [
        f"{column_name(measure).removesuffix(', nats')} {sum(map(is_established, rows))} of {len(rows)}"
        for measure, rows in tested.items()
        if measure != "vice"
    ]
    if rest:
        said.append([Number("Established", "established"), f" of the other measures: {listed(rest)}."])
    return said


def why_not_compared(table: StudyTable) -> str:
    """Why a study has no differences of levels."""
    if not any(len({row[axis] for row in table.finished}) > 1 for axis in table.axes):
        return "Nothing is compared: no axis has two levels that are finished."
    return "There are no differences in this folder: a study compares levels when all its runs have ended."


def _of_vice(rows: Sequence[Row]) -> Sentence:
    sure = sorted(filter(is_established, rows), key=_strength)
    number_of = counted(len(rows), "difference")
    if not sure:
        least = min(rows, key=lambda row: row["p_holm"])
        return [
            f"Of {number_of} of VICE ",
            Number("none is established", "established"),
            f"; the least p after Holm is {_p(least)}, of {_pair(least)} ({_size(least)}).",
        ]
    some = sure[:NAMED]
    parts: list[str | Number] = [
        f"Of {number_of} of VICE ",
        Number(f"{len(sure)} {'is' if len(sure) == 1 else 'are'} established", "established"),
        f"{', the strongest' if len(sure) > 1 else ''}: ",
    ]
    for place, row in enumerate(some):
        parts += ["; " if place else "", f"{_pair(row)} "]
        parts += [Number(f"{row['difference']:+.3f}", "difference_of_levels"), f" ({_limits(row)}, p {_p(row)})"]
    left = len(rows) - len(sure)
    if not left:
        return [*parts, "."]
    return [*parts, f". The other {left} {'is' if left == 1 else 'are'} not, which does not show that nothing differs."]


def _strength(row: Row) -> tuple[float, float]:
    """Least p first, then the difference as a share of its interval."""
    width = (row["high"] - row["low"]) if None not in (row["low"], row["high"]) else 0.0
    return row["p_holm"], -abs(row["difference"]) / width if width else 0.0


def _pair(row: Row) -> str:
    others = f" ({row['others']})" if row["others"] else ""
    return f"{row['axis']} {row['first']} \N{MINUS SIGN} {row['second']}{others}"


def _p(row: Row) -> str:
    return number(row["p_holm"]) if row["p_holm"] >= 0.0005 else "below 0.001"


def _limits(row: Row) -> str:
    return f"{row['low']:+.3f} to {row['high']:+.3f}" if None not in (row["low"], row["high"]) else "no interval"


def _size(row: Row) -> str:
    return f"{row['difference']:+.3f}, {_limits(row)}"


def _no_claim(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    """Recipes of too few seeds, and comparisons that came to nothing."""
    few = [recipe for recipe in recipes if sum(table.rows[at]["status"] == "finished" for at in recipe.rows) < 3]
    parts: list[str] = []
    if few and len(few) == len(recipes):
        parts.append("No recipe has three finished seeds, and fewer support no claim about a recipe")
    elif few:
        names = listed([recipe.name for recipe in few], NAMED)
        who = counted(len(few), "recipe has", "recipes have")
        parts.append(f"{who} fewer than three finished seeds, which support no claim: {names}")
    nothing = [row for row in table.comparisons or () if row["p_holm"] is None]
    if nothing:
        reasons: Mapping[str, None] = dict.fromkeys(row["reason"] for row in nothing if row["reason"])
        why = f": {' '.join(list(reasons)[:NAMED])}" if reasons else "."
        parts.append(f"{counted(len(nothing), 'comparison has', 'comparisons have')} no result{why}".removesuffix("."))
    return [". ".join(parts) + "."] if parts else []


def front_sentence(table: StudyTable, y: str, x: str, on: Sequence[Recipe], drawn: int) -> str:
    """Who is on the front of two measures, with the numbers, and what that does not say."""
    if not on:
        return f"There is no front: no recipe has both {column_name(y)} and {column_name(x)}."
    way = f"higher {column_name(y)} and {'lower' if lower_is_better(x) else 'higher'} {column_name(x)}"
    names = [
        f"{recipe.name} ({column_name(y)} {number(table.mean(recipe, y).value)}, "
        f"{column_name(x)} {number(table.mean(recipe, x).value)})"
        for recipe in on
    ]
    return (
        f"On the Pareto front, {way}, {'is' if len(on) == 1 else 'are'} {len(on)} of {counted(drawn, 'recipe')}: "
        f"{listed(names, 2 * NAMED)}. It is a front of means and ignores their noise."
    )
