"""The text of a study's page: names and definitions of its columns, its facts, and the sentences of its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchvice.measures.catalogue import COMPARED, compared_label, measure_of
from torchvice.measures.wording import decimals, decimals_between, interval_text, p_text
from torchvice.report.page.definitions import DEFINITIONS, definitions_of
from torchvice.report.page.text import Number, Sentence
from torchvice.report.study.recipes import Recipe, Row, StudyTable
from torchvice.report.style import number

ALPHA = 0.05
NAMED = 3  # differences or recipes that a sentence names before it counts the rest

# Columns that are no measures of the catalogue: the name, and the key of the definition.
_OTHERS = {
    "images": ("images", "study.images"),
    "quality": ("quality", "study.quality"),
    "loss": ("loss, nats", "study.loss"),
    "controls": ("controls", "study.controls"),
    "origin": ("origin", "study.origin"),
    "checkpoint_path": ("checkpoint", "study.origin"),
    "train_seconds": ("training, s", "study.seconds"),
    "assess_seconds": ("assessment, s", "study.seconds"),
}

STUDY_DEFINITIONS: dict[str, tuple[str, str]] = {
    **{path: DEFINITIONS[path] for path in COMPARED.values()},
    "method": ("VICE of a further explanation", DEFINITIONS["method"][1]),
    "method_ji": ("JI score of a further explanation", DEFINITIONS["strict.ji"][1]),
    "study.quality": (
        "Quality",
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
        "The control maps, made without the image, that the run's VICE is not clearly above: the 95 % interval of the "
        "paired difference reaches 0 or below. A dash: no controls were assessed.",
    ),
    "study.origin": (
        "Origin",
        "Trained: the study trained the run. Given: a checkpoint that the study's file names; it was assessed without "
        "training, in the same way as trained runs. Pretrained: the weights that the network's source has.",
    ),
    "study.seconds": ("Seconds", "Time since the last start of the run; of a resumed run only the last part is timed."),
    "study.other": ("A column of the study's table", "docs/studies.md lists the columns that a study writes."),
    "recipe": ("Recipe", "The runs with the same levels of all axes: they differ only in their seed."),
    "spread": (
        "Mean and standard deviation",
        "Over the finished runs of a recipe, which differ in their seed. The standard deviation shows how training "
        "varies, not how other images would vary; it needs two runs.",
    ),
    "front": (
        "Pareto front",
        "The recipes whose means no other recipe beats: no other is as good in both numbers and better in one. The "
        "front ignores the noise of the means: with other seeds or images its recipes may change. It is not a test.",
    ),
    "established": (
        "Established",
        "Holm's p is below 0.05. Differences of levels are tested by Welch's t over seeds, with the variance due to "
        "the choice of images added, and corrected by Holm over the pairs of levels of one axis, combination and "
        "measure. A claim needs three seeds of each level.",
    ),
    "difference_of_levels": (
        "Difference of levels",
        "First minus second level, each the mean over its seeds on the same images, with its 95 % interval. The "
        "interval is not corrected for the number of pairs: it may exclude 0 without an established difference.",
    ),
}


def column_name(name: str, quality: str = "ji") -> str:
    """The name of a column or measure; `quality` is what the study takes as the quality of a map.

    Example:
        >>> [column_name(name) for name in ("mean_average_precision", "vice_gradcam", "ji_gradcam", "some_number")]
        ['mAP', 'VICE, gradcam', 'JI score, gradcam', 'some number']
        >>> [column_name(name, "recall") for name in ("vice", "quality", "vice_gradcam", "quality_gradcam")]
        ['VICE with recall', 'Recall', 'VICE with recall, gradcam', 'Recall, gradcam']
    """
    if quality != "ji" and name in ("vice", "quality"):
        return compared_label(name, quality)
    if name in _OTHERS:
        return _OTHERS[name][0]
    if name in COMPARED:
        measure = measure_of(COMPARED[name])
        return measure.full_label if measure.section == "paper" else measure.label
    for start in ("vice_", "ji_", "quality_"):
        if name.startswith(start):
            return f"{compared_label(start.removesuffix('_'), quality)}, {name.removeprefix(start)}"
    return name.replace("_", " ")


def column_term(name: str, quality: str = "ji") -> str:
    """The key in the definitions of a column or measure, see `study_definitions`."""
    if quality != "ji" and name == "vice":
        return "quality.vice"
    if name.startswith("quality_"):
        return "study.quality"
    if name in _OTHERS:
        return _OTHERS[name][1]
    if name in COMPARED:
        return COMPARED[name]
    return "method" if name.startswith("vice_") else "method_ji" if name.startswith("ji_") else "study.other"


def study_definitions(quality: str) -> dict[str, tuple[str, str]]:
    """STUDY_DEFINITIONS as they read with a quality in IoU's place."""
    if quality == "ji":
        return STUDY_DEFINITIONS
    chosen = definitions_of(quality)
    own = {"quality.vice": chosen["quality.vice"], "study.quality": chosen["quality.mean"]}
    of_iou = ("strict.vice", "strict.ji", "method_ji")
    return {name: text for name, text in STUDY_DEFINITIONS.items() if name not in of_iou} | own


def lower_is_better(name: str) -> bool:
    """Whether a lower value of the measure is better."""
    return name == "loss" or (name in COMPARED and measure_of(COMPARED[name]).better == "lower")


def is_established(row: Row) -> bool:
    """Whether a comparison is established: Holm's p is below 0.05."""
    return row["p_holm"] is not None and row["p_holm"] < ALPHA


def counted(count: int, one: str, more: str = "") -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "run"), counted(3, "run")
        ('1 run', '3 runs')
    """
    return f"{count} {one if count == 1 else more or one + 's'}"


def listed(names: Sequence[str], most: int = 0) -> str:
    """Join names for a sentence; of more than `most`, name the first ones and count the rest.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d"], most=2)
        ('a, b and c', 'a, b and 2 more')
    """
    names = list(names)
    if most and len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def facts_of_study(table: StudyTable) -> list[tuple[str, str]]:
    """The facts of a study as (name, value); unknown ones are left out."""
    done = len(table.finished)
    failed = sum(row["status"] == "failed" for row in table.rows)
    design = {True: "one axis at a time around the base", False: "every combination", None: ""}[table.one_at_a_time]
    design += f", at each level of {listed(table.across)}" if table.across else ""
    images = sorted({row["images"] for row in table.finished if row.get("images") is not None})
    methods = [name.removeprefix("vice_") for name in table.measured if name.startswith("vice_")]
    ended = f"{done} finished, {failed} failed" if failed else f"{done} finished"
    given = len(table.given)
    trained = len(table.rows) - given
    origin = (f"{trained} trained, {given} given" if trained else "all given as checkpoints") if given else ""
    facts = [
        *((f"Axis {axis}", listed(levels)) for axis, levels in table.axes.items()),
        ("Design", design),
        ("Base", ", ".join(f"{axis} {level}" for axis, level in table.base.items())),
        ("Seeds", ", ".join(map(str, table.seeds))),
        ("Runs", f"{ended} of {table.planned} planned" if table.planned else ended),
        ("Origin", origin),
        ("Images of each run", " or ".join(map(str, images))),
        ("Further explanations", ", ".join(methods)),
    ]
    return [(name, value) for name, value in facts if value]


def sentences_of_study(table: StudyTable, recipes: Sequence[Recipe]) -> list[Sentence]:
    """Three to six sentences: the runs, where VICE is highest, which differences are established, and where no claim
    can be made."""
    sentences = [_runs(table, recipes), _range(table, recipes), *_established(table), _no_claim(table, recipes)]
    return [sentence for sentence in sentences if sentence]


def _runs(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    axes = listed([f"{axis} ({counted(len(levels), 'level')})" for axis, levels in table.axes.items()])
    over = f"the {'axis' if len(table.axes) == 1 else 'axes'} {axes}" if table.axes else "no axis"
    failed = sum(row["status"] == "failed" for row in table.rows)
    planned = f" of {table.planned} planned" if table.planned else ""
    done = len(table.finished)
    return [
        f"The study has {counted(len(recipes), 'recipe')} over {over}: {counted(done, 'run')}{planned} "
        f"{'is' if done == 1 else 'are'} finished" + (f", {failed} failed." if failed else ".") + _given(table)
    ]


def _given(table: StudyTable) -> str:
    """How many of the runs were given as checkpoints; empty: none."""
    given, runs = len(table.given), len(table.rows)
    if not given:
        return ""
    if given == runs:
        return " All runs are given checkpoints, not trained here."
    which = "is a given checkpoint" if given == 1 else "are given checkpoints"
    return f" {given} of {runs} runs {which}, not trained here."


def _range(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    means = [(recipe, mean) for recipe in recipes if (mean := table.mean(recipe, "vice")).value is not None]
    if not means:
        vice = "VICE (strict)" if table.quality == "ji" else column_name("vice", table.quality)
        return [f"{vice} is undefined for every run; the table shows what was measured."]
    vice = column_name("vice", table.quality)
    means.sort(key=lambda pair: -(pair[1].value or 0.0))

    def mean_text(pair: tuple[Recipe, Any]) -> list[str | Number]:
        recipe, mean = pair
        spread = f", standard deviation {number(mean.sd)} over {mean.n} seeds" if mean.sd is not None else ", one run"
        return [f"{recipe.name} (", Number(number(mean.value), column_term("vice", table.quality)), f"{spread})"]

    if len(means) == 1:
        return [f"Only one recipe has a {vice}: ", *mean_text(means[0]), "."]
    return [f"{vice} is highest for ", *mean_text(means[0]), " and lowest for ", *mean_text(means[-1]), "."]


def _established(table: StudyTable) -> list[Sentence]:
    """The strongest differences of VICE, and the number of established differences of the other measures."""
    if not table.comparisons:
        return [[why_not_compared(table)]]
    by_measure: dict[str, list[Row]] = {}
    for row in table.comparisons:
        by_measure.setdefault(row["measure"], []).append(row)
    tested = {measure: [row for row in rows if row["p_holm"] is not None] for measure, rows in by_measure.items()}
    tested = {measure: rows for measure, rows in tested.items() if rows}
    if not tested:
        return []
    sentences: list[Sentence] = (
        [_of_vice(tested["vice"], column_name("vice", table.quality))] if "vice" in tested else []
    )
    rest = [
        f"{column_name(measure, table.quality).removesuffix(', nats')} {sum(map(is_established, rows))} of {len(rows)}"
        for measure, rows in tested.items()
        if measure != "vice"
    ]
    if rest:
        sentences.append([Number("Established", "established"), f" of the other measures: {listed(rest)}."])
    return sentences


def why_not_compared(table: StudyTable) -> str:
    """Why a study has no differences of levels."""
    if not any(len({row[axis] for row in table.finished}) > 1 for axis in table.axes):
        return "No comparison: no axis has finished runs at two levels."
    return "No comparison yet: a study compares levels after all its runs have ended."


def _of_vice(rows: Sequence[Row], vice: str) -> Sentence:
    sure = sorted(filter(is_established, rows), key=_strength)
    number_of = counted(len(rows), "difference")
    if not sure:
        least = min(rows, key=lambda row: row["p_holm"])
        return [
            f"None of {number_of} of {vice} is ",
            Number("established", "established"),
            f"; the smallest p after Holm is {_p(least)}, for {_pair(least)} ({_size(least)}).",
        ]
    some = sure[:NAMED]
    parts: list[str | Number] = [
        f"Of {number_of} of {vice} ",
        Number(f"{len(sure)} {'is' if len(sure) == 1 else 'are'} established", "established"),
        f"{', the strongest' if len(sure) > 1 else ''}: ",
    ]
    for place, row in enumerate(some):
        parts += ["; " if place else "", f"{_pair(row)} "]
        parts += [Number(_difference(row), "difference_of_levels")]
        parts += [f" ({_limits(row)}, p {_p(row)})"]
    left = len(rows) - len(sure)
    if not left:
        return [*parts, "."]
    return [
        *parts,
        f". The other {left} {'is' if left == 1 else 'are'} not, which does not show that the levels are equal.",
    ]


def _strength(row: Row) -> tuple[float, float]:
    """Sort key: smallest p first, then largest difference relative to its interval."""
    width = (row["high"] - row["low"]) if None not in (row["low"], row["high"]) else 0.0
    return row["p_holm"], -abs(row["difference"]) / width if width else 0.0


def _pair(row: Row) -> str:
    others = f" ({row['others']})" if row["others"] else ""
    return f"{row['axis']} {row['first']} \N{MINUS SIGN} {row['second']}{others}"


def _p(row: Row) -> str:
    return p_text(row["p_holm"])


def _limits(row: Row) -> str:
    if None in (row["low"], row["high"]):
        return "no interval"
    return interval_text(row["low"], row["high"], sign="+")


def _size(row: Row) -> str:
    return f"{_difference(row)}, {_limits(row)}"


def _difference(row: Row) -> str:
    known = None not in (row["low"], row["high"])
    return decimals(row["difference"], decimals_between(row["low"], row["high"]) if known else 3, "+")


def _no_claim(table: StudyTable, recipes: Sequence[Recipe]) -> Sentence:
    """Recipes with too few seeds, and comparisons without a result."""
    few = [recipe for recipe in recipes if sum(table.rows[at]["status"] == "finished" for at in recipe.rows) < 3]
    parts: list[str] = []
    if few and len(few) == len(recipes):
        parts.append("No recipe has three finished seeds, the minimum for a claim about a recipe")
    elif few:
        names = listed([recipe.name for recipe in few], NAMED)
        recipes_have = counted(len(few), "recipe has", "recipes have")
        parts.append(f"{recipes_have} fewer than three finished seeds, the minimum for a claim: {names}")
    untested = [row for row in table.comparisons or () if row["p_holm"] is None]
    if untested:
        reasons: Mapping[str, None] = dict.fromkeys(row["reason"] for row in untested if row["reason"])
        why = f": {' '.join(list(reasons)[:NAMED])}" if reasons else "."
        parts.append(f"{counted(len(untested), 'comparison has', 'comparisons have')} no result{why}".removesuffix("."))
    return [". ".join(parts) + "."] if parts else []


def front_sentence(table: StudyTable, y: str, x: str, on: Sequence[Recipe], drawn: int) -> str:
    """The recipes on the Pareto front of two measures, with their numbers."""
    y_name, x_name = column_name(y, table.quality), column_name(x, table.quality)
    if not on:
        return f"There is no Pareto front: no recipe has both {y_name} and {x_name}."
    better = f"higher {y_name}, {'lower' if lower_is_better(x) else 'higher'} {x_name}"
    names = [
        f"{recipe.name} ({y_name} {number(table.mean(recipe, y).value)}, "
        f"{x_name} {number(table.mean(recipe, x).value)})"
        for recipe in on
    ]
    return (
        f"On the Pareto front ({better}) {'is' if len(on) == 1 else 'are'} {len(on)} of {counted(drawn, 'recipe')}: "
        f"{listed(names, 2 * NAMED)}. The front compares means and ignores their noise."
    )
