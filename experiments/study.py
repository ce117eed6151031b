"""Does VICE move with architecture and regularisation? The study `digits`, and its tables in records/study-digits.md.

Run with `make study`. It resumes the study's 54 runs, then writes the figures and the tables between the marks of
records/study-digits.md again. `--only-tables` uses the finished runs only. The text of the page is written by hand:
read it again after a new run, and change the date of the record.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from torchvice.cli.terminal import progress_bar, say
from torchvice.files import read_json, write_text
from torchvice.measures import compare, true_pairs
from torchvice.metrics.comparison import holm
from torchvice.report.figures import save_figure
from torchvice.report.study.figure import study_figure
from torchvice.report.study.text import is_established
from torchvice.samples import Samples
from torchvice.study import Study, StudyResult, load_study, run_study, study_result
from torchvice.study.plan import PlannedRun

DOCS = Path("records/study-digits.md")
DIGIT = 7  # whose images carry the stripe
COLUMNS = {
    "vice": "VICE",
    "partial": "given size, labels",
    "vice_layercam": "LayerCAM's VICE",
    "vice_saliency": "saliency's VICE",
    "ji": "JI score",
    "mean_average_precision": "mAP",
    "ece_ml": "ECE-ML",
}
MEASURES = {
    "vice": "VICE",
    "quality": "JI score",
    "mean_average_precision": "mAP",
    "loss": "loss",
    "ece_ml": "ECE-ML",
}

Row = Mapping[str, Any]


def recipe(row: Row) -> str:
    """The levels of a run that differ from the base."""
    changed = [row["architecture"]] if row["architecture"] != "resnet18" else []
    changed += [row["regularisation"].replace("_", " ")] if row["regularisation"] != "none" else []
    return ", ".join(changed) or "base"


def by_recipe(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The runs of each recipe."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(recipe(row), []).append(row)
    return found


def mean_and_spread(values: Sequence[float | None], sign: str = "") -> str:
    """Mean and standard deviation over seeds, or the number of seeds without a value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"undefined for {len(values) - len(known)} of {len(values)}"
    return f"{np.mean(known):{sign}.3f} ± {np.std(known, ddof=1):.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, first column left-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def recipes_of(rows: Sequence[Row]) -> str:
    """Means over seeds of every recipe, on one kind of data."""
    return table(
        ["recipe", *COLUMNS.values(), "controls not beaten"],
        (
            [name, *(mean_and_spread([row[column] for row in runs]) for column in COLUMNS), lost(runs)]
            for name, runs in by_recipe(rows).items()
        ),
    )


def lost(runs: Sequence[Row]) -> str:
    """The controls that VICE is not above, with the number of seeds."""
    names = [
        name for row in runs if (said := row["controls"]).startswith("not above ") for name in said[10:].split(", ")
    ]
    return ", ".join(f"{name} ({names.count(name)} of {len(runs)})" for name in dict.fromkeys(names)) or "none"


def differences(rows: Iterable[Row], axis: str, data: str) -> str:
    """The levels of an axis against the base, on one kind of data."""
    mine = [row for row in rows if row["axis"] == axis and f"data {data}" in row["others"].split(", ")]
    levels = dict.fromkeys(row["first"] for row in mine)
    found = {(row["first"], row["measure"]): row for row in mine}
    return table(
        ["against the base", *MEASURES.values()],
        ([level.replace("_", " "), *(difference(found[level, measure]) for measure in MEASURES)] for level in levels),
    )


def difference(row: Row) -> str:
    """A difference with its interval; bold where Holm's p is below 0.05."""
    if row["difference"] is None or row["low"] is None:
        return "no claim"
    said = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    return f"**{said}**" if is_established(row) else said


def shortcut(rows: Sequence[Row], comparisons: Sequence[Row]) -> str:
    """The effect of the stripe on every recipe."""
    lines = []
    for name, runs in by_recipe(rows).items():
        kinds = {data: [row for row in runs if row["data"] == data] for data in ("clean", "shortcut")}
        if not all(kinds.values()):
            continue
        others = {f"architecture {runs[0]['architecture']}", f"regularisation {runs[0]['regularisation']}"}
        mine = {
            row["measure"]: row
            for row in comparisons
            if row["axis"] == "data" and set(row["others"].split(", ")) == others
        }
        sevens = [
            " to ".join(f"{np.mean([row[column] for row in kinds[data]]):.3f}" for data in kinds)
            for column in ("seven_ap", "seven_iou", "others_iou")
        ]
        vice = " to ".join(f"{np.mean([row['vice'] for row in kinds[data]]):.3f}" for data in kinds)
        lines.append([name, *sevens, vice, difference(mine["vice"]), difference(mine["mean_average_precision"])])
    head = ["recipe", "AP of the 7", "JI score of the 7", "JI score of the other digits", "VICE", "difference of VICE"]
    head.append("difference of mAP")
    return table(head, lines)


def agreement(rows: Sequence[Row]) -> str:
    """Whether two measures rank the recipes alike: Spearman's rho of means over seeds."""
    pairs = [
        *itertools.combinations(("vice", "vice_layercam", "vice_saliency"), 2),
        ("vice", "partial"),
        ("vice", "paper_vice"),
        ("vice", "mean_average_precision"),
        ("vice", "ji"),
        ("vice", "ece_ml"),
    ]
    names = {**COLUMNS, "vice": "VICE (CAM)", "paper_vice": "VICE (paper)"}
    lines = []
    for first, second in pairs:
        cells = []
        for data in ("clean", "shortcut"):
            recipes = by_recipe(row for row in rows if row["data"] == data)
            means = np.array(
                [[np.mean([row[c] for row in runs]) for c in (first, second)] for runs in recipes.values()]
            )
            cells.append(f"{stats.spearmanr(means[:, 0], means[:, 1]).statistic:+.2f}" if len(means) > 2 else "–")
        lines.append([f"{names[first]} and {names[second]}", *cells])
    return table(["order of the recipes by", "clean", "with the stripe"], lines)


def matched(study: Study, rows: Sequence[Row]) -> str:
    """Whether a recipe differs from the base on pairs of the same log-likelihood, seed by seed."""
    folders = {run.folder.name: run.folder for run in study.runs}
    lines: dict[str, list[str]] = {}
    for data in ("clean", "shortcut"):
        recipes = by_recipe(row for row in rows if row["data"] == data)
        for name, runs in recipes.items():
            if name == "base":
                continue
            found = []
            for run, base in zip(runs, recipes["base"], strict=False):
                tables = [Samples.load(folders[row["run"]] / "assess/test") for row in (run, base)]
                found += compare(dict(zip("ab", tables, strict=True)), replicates=100).matched
            known = [row["difference"] for row in found if row["difference"] is not None]
            alone = np.mean([row["without_partner"] for row in found])
            lines.setdefault(name, []).extend([mean_and_spread(known, "+") if len(known) > 1 else "–", f"{alone:.0%}"])
    head = ["against the base", "clean", "pairs without a partner", "with the stripe", "pairs without a partner"]
    return table(head, ([name, *cells, *["–"] * (4 - len(cells))] for name, cells in lines.items()))


def spread(rows: Sequence[Row]) -> str:
    """The noise of VICE due to training, and due to the choice of images."""
    seeds = [
        np.std([row["vice"] for row in runs], ddof=1)
        for data in ("clean", "shortcut")
        for runs in by_recipe(row for row in rows if row["data"] == data).values()
        if len(runs) > 2
    ]
    images = [(row["vice_high"] - row["vice_low"]) / (2 * 1.96) for row in rows]
    return (
        f"The standard deviation of VICE over seeds is {np.median(seeds):.3f} (the median recipe; {min(seeds):.3f} to "
        f"{max(seeds):.3f}), the standard error from the choice of 600 images is {np.median(images):.3f}."
    )


def over_all(comparisons: Sequence[Row]) -> str:
    """The number of established differences by measure, also with one correction over all of them."""
    lines = []
    for measure, name in MEASURES.items():
        mine = [row for row in comparisons if row["measure"] == measure and row["p"] is not None]
        together = np.array(holm([row["p"] for row in mine])) if mine else np.zeros(0)
        apart = sum(row["p_holm"] < 0.05 for row in mine)
        lines.append([name, str(len(mine)), str(apart), str(int((together < 0.05).sum()))])
    return table(["measure", "differences", "established within their family", "established by Holm over all"], lines)


def more_of(run: PlannedRun) -> dict[str, Any]:
    """Numbers that the table of the study lacks: those of the 7, and VICE given size and number of labels."""
    measures = read_json(run.folder / "measures.json")
    pairs = true_pairs(Samples.load(run.folder / "assess/test"))
    seven = pairs.class_index == DIGIT
    return {
        "partial": measures["sensitivities"]["partial_spearman"],
        "seven_ap": measures["classes"][DIGIT]["average_precision"],
        "seven_iou": float(pairs.quality[seven].mean()),
        "others_iou": float(pairs.quality[~seven].mean()),
    }


def tables(study: Study, found: StudyResult) -> dict[str, Callable[[], str]]:
    """The tables of the page, by mark."""
    runs = {run.folder.name: run for run in study.runs}
    done = [row for row in found.rows if row["status"] == "finished"]
    rows = [{**row, **more_of(runs[row["run"]])} for row in done]
    made: dict[str, Callable[[], str]] = {
        "spread": lambda: spread(rows),
        "matched": lambda: matched(study, rows),
        "agreement": lambda: agreement(rows),
        "shortcut": lambda: shortcut(rows, found.comparisons),
        "over_all": lambda: over_all(found.comparisons),
    }
    for data in ("clean", "shortcut"):
        made[f"recipes {data}"] = lambda data=data: recipes_of([row for row in rows if row["data"] == data])  # type: ignore[misc]
        for axis in ("architecture", "regularisation"):
            made[f"{axis} {data}"] = lambda axis=axis, data=data: differences(found.comparisons, axis, data)  # type: ignore[misc]
    return made


def main() -> None:
    """Run the missing runs of the study, and write its tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="folder of the study")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at a time")
    parser.add_argument("--only-tables", action="store_true", help="write the tables of the finished runs; run nothing")
    options = parser.parse_args()
    study = load_study("digits", folder=options.folder, where={"jobs": options.jobs})
    if options.only_tables:
        found = study_result(study)
    else:
        with progress_bar("runs") as progress:
            found = run_study(study, say=say, progress=progress)
    page = DOCS.read_text(encoding="utf-8")
    for mark, made in tables(study, found).items():
        start, end = f"<!-- {mark} -->", "<!-- end -->"
        page = re.sub(
            rf"({re.escape(start)}\n).*?({end})", lambda m, t=made: m[1] + t() + "\n" + m[2], page, flags=re.DOTALL
        )  # type: ignore[misc]
    write_text(DOCS, page)
    for data in study.axes["data"]:
        rows = [row for row in found.rows if row["status"] == "finished" and row["data"] == data]
        if rows:
            drawn = study_figure(rows, ["architecture", "regularisation"], base=study.base)
            shutil.copyfile(save_figure(drawn, study.folder / data)[0], DOCS.parent / f"images/study_{data}.png")


if __name__ == "__main__":
    main()
