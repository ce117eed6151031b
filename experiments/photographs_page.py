"""The tables of docs/photographs.md, from the kept numbers alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from photographs_kept import recipe_of
from scipy import stats

from study import MEASURES, difference, lost, mean_and_spread, over_all, table
from torchvice.files import write_text
from torchvice.report.study.text import is_established

COLUMNS = {
    "vice": "VICE",
    "paper_vice": "VICE (paper)",
    "partial_spearman": "given size, labels",
    "vice_layercam": "LayerCAM's VICE",
    "vice_saliency": "saliency's VICE",
    "ji": "JI score",
    "mean_average_precision": "mAP",
    "ece_ml": "ECE-ML",
}
NOT_RUN = "Not run yet."
SHOWN_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
NEAR = 0.05  # a difference of VICE within this is none that matters: "contradicted" needs all intervals inside

Row = Mapping[str, Any]
Kept = Mapping[str, Any]

TEXT = Path(__file__).with_name("photographs_text.md")  # the page before its first numbers


def finished(study: Kept) -> list[Row]:
    """The rows of finished runs."""
    return [row for row in study["rows"] if row["status"] == "finished"]


def by_recipe(study: Kept) -> dict[str, list[Row]]:
    """The finished runs of each recipe, the base first."""
    found: dict[str, list[Row]] = {}
    for row in finished(study):
        found.setdefault(recipe_of({axis: row[axis] for axis in study["axes"]}, study["base"]), []).append(row)
    return found


def shown(values: Sequence[float | None], sign: str = "") -> str:
    """Mean and standard deviation over seeds; of one seed its value."""
    if not any(value is not None for value in values):
        return "–"
    return f"{values[0]:{sign}.3f}" if len(values) == 1 else mean_and_spread(values, sign)


def recipes_of(study: Kept) -> str:
    """Means over seeds of every recipe."""
    if not finished(study):
        return NOT_RUN
    head = ["recipe", "seeds", *COLUMNS.values(), "controls not beaten"]
    return table(
        head,
        (
            [name, str(len(runs)), *(shown([row.get(column) for row in runs]) for column in COLUMNS), lost(runs)]
            for name, runs in by_recipe(study).items()
        ),
    )


def differences(study: Kept, axis: str) -> str:
    """The levels of an axis against the base."""
    mine = [row for row in study["comparisons"] if row["axis"] == axis]
    found = {(row["first"], row["measure"]): row for row in mine}
    missing: Row = {"difference": None, "low": None}
    if not mine:
        return NOT_RUN
    return table(
        ["against the base", *MEASURES.values()],
        (
            [level.replace("_", " "), *(difference(found.get((level, measure), missing)) for measure in MEASURES)]
            for level in dict.fromkeys(row["first"] for row in mine)
        ),
    )


def run_of(numbers: Kept) -> str:
    """How much of the study was run, and why runs failed."""
    lines = []
    for name, study in numbers["studies"].items():
        done, failed = finished(study), [row for row in study["rows"] if row["status"] == "failed"]
        lines.append(f"{name}: {len(done)} of {study['planned']} trainings are finished.")
        reasons = dict.fromkeys(f"{row['run']}: {row['reason']}" for row in failed)
        lines += [f"Failed: {reason}" for reason in reasons]
    return "\n".join(f"- {line}" for line in lines) + f"\n\nThe numbers are of {numbers['date']}."


def spread(study: Kept) -> str:
    """The noise of VICE due to training, and due to the choice of images."""
    seeds = [np.std([row["vice"] for row in runs], ddof=1) for runs in by_recipe(study).values() if len(runs) > 2]
    if not seeds:
        return "No recipe has three finished seeds."
    rows = [row for row in finished(study) if row["vice_low"] is not None]
    images = [(row["vice_high"] - row["vice_low"]) / (2 * 1.96) for row in rows]
    return (
        f"The standard deviation of VICE over seeds is {np.median(seeds):.3f} (the median recipe; {min(seeds):.3f} to "
        f"{max(seeds):.3f}), the standard error from the choice of {rows[0]['images']} images is "
        f"{np.median(images):.3f}."
    )


def draws(study: Kept) -> str:
    """VICE of the base on fewer images."""
    runs = study["base_runs"]
    every = [row for row in finished(study) if all(row[axis] == study["base"][axis] for axis in study["axes"])]
    lines = []
    for places in zip(*(run["draws"] for run in runs), strict=True) if runs else ():
        means, sds = [place["mean"] for place in places], [place["spread"] for place in places]
        lines.append([str(places[0]["images"]), shown(means), f"{np.mean(sds):.3f}"])
    lines.append([str(every[0]["images"]) if every else "–", shown([row["vice"] for row in every]), "–"])
    return table(["images", "VICE (mean of draws, ± over seeds)", "spread over draws"], lines)


def thresholds(study: Kept) -> str:
    """VICE and the IoU of the base at fixed thresholds."""
    runs = study["base_runs"]
    if not runs:
        return "The base recipe is not finished."
    grid = np.array(runs[0]["thresholds"])
    lines = []
    for threshold in SHOWN_THRESHOLDS:
        at = int(np.argmin(np.abs(grid - threshold)))
        cells = [shown([run[name][at] for run in runs]) for name in ("threshold_vice", "threshold_iou")]
        lines.append([f"{grid[at]:g}", *cells])
    return table(["threshold", "VICE", "mean IoU of pairs"], lines)


def classes(study: Kept) -> str:
    """The classes of the base recipe: means over seeds."""
    runs = study["base_runs"]
    if not runs:
        return NOT_RUN
    lines = []
    for rows in zip(*(run["classes"] for run in runs), strict=True):
        cells = [shown([row[name] for row in rows]) for name in ("average_precision", "quality", "vice")]
        low, high = ([row[end] for row in rows if row[end] is not None] for end in ("vice_low", "vice_high"))
        span = f"{min(low):.2f} to {max(high):.2f}" if low and high else "–"
        lines.append([rows[0]["name"], str(rows[0]["pairs"]), *cells, span])
    head = ["class", "pairs", "average precision", "JI score", "VICE", "widest interval over seeds"]
    return table(head, lines)


def agreement(study: Kept) -> str:
    """Whether two measures rank the recipes alike: Spearman's rho of means over seeds."""
    pairs = [
        *itertools.combinations(("vice", "vice_layercam", "vice_saliency"), 2),
        *(("vice", other) for other in ("partial_spearman", "paper_vice", "mean_average_precision", "ji", "ece_ml")),
    ]
    means = [[runs, {c: [row.get(c) for row in runs] for c in COLUMNS}] for runs in by_recipe(study).values()]
    lines = []
    for first, second in pairs:
        points = [
            [float(np.mean(values[c])) for c in (first, second)]
            for _, values in means
            if all(value is not None for c in (first, second) for value in values[c])
        ]
        rho = f"{stats.spearmanr(*zip(*points, strict=True)).statistic:+.2f}" if len(points) > 2 else "–"
        lines.append([f"{COLUMNS[first]} and {COLUMNS[second]}", rho, str(len(points))])
    return table(["order of the recipes by", "Spearman's rho", "recipes"], lines)


def matched(study: Kept) -> str:
    """VICE of a recipe minus the base's on pairs of the same log-likelihood."""
    found: dict[str, list[Row]] = {}
    for row in study["matched"]:
        found.setdefault(row["recipe"], []).append(row)
    lines = []
    for name, rows in found.items():
        known = [row["difference"] for row in rows if row.get("difference") is not None]
        alone = [row["without_partner"] for row in rows if row.get("without_partner") is not None]
        lines.append([name, shown(known, "+"), f"{np.mean(alone):.0%}" if alone else "–"])
    return table(["against the base", "VICE on matched pairs", "pairs without a partner"], lines)


def verdict(rows: Sequence[Row]) -> str:
    """What the differences of VICE say of "this factor changes VICE"."""
    known = [row for row in rows if row["low"] is not None and row["p_holm"] is not None]
    if any(is_established(row) for row in known):
        return "confirmed"
    if known and all(row["low"] > -NEAR and row["high"] < NEAR for row in known):
        return "contradicted"
    return "not decided"


def with_interval(row: Row) -> str:
    """The difference of VICE of a level, with its interval."""
    return f"{row['first'].replace('_', ' ')} {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def said_of(rows: Sequence[Row], levels: int) -> str:
    """The established differences of a factor's levels, or the largest; and how many of the levels were run."""
    if not rows:
        return NOT_RUN
    known = [row for row in rows if row["p_holm"] is not None]
    run = "" if len(known) == levels else f"; {len(known)} of {levels} levels are run"
    if established := [row for row in known if is_established(row)]:
        return "; ".join(map(with_interval, established)) + run
    if not known:
        return f"no difference established{run}"
    return (
        f"no difference established; the largest: {with_interval(max(known, key=lambda r: abs(r['difference'])))}{run}"
    )


def claims(numbers: Kept) -> str:
    """The paper's claims, what was measured, and whether it confirms or contradicts them."""
    lines = []
    factors = {"architecture": "The architecture", "pretraining": "The pre-training scheme"}
    factors |= {"regularisation": "Regularisation", "view": "(not in the paper) The resolution of the view"}
    study = numbers["studies"].get("voc8", {"axes": {}, "comparisons": []})
    for axis, words in factors.items():
        rows = [row for row in study["comparisons"] if row["axis"] == axis and row["measure"] == "vice"]
        lines.append([f"{words} changes VICE.", said_of(rows, len(study["axes"].get(axis, ())) - 1), verdict(rows)])
    lines += [inconsistent(numbers), trade_off(study)]
    seeds = len({row["seed"] for row in study.get("rows", ())})
    return table(["claim", f"measured on voc8, against the base, {seeds} seeds each", "verdict"], lines)


def inconsistent(numbers: Kept) -> list[str]:
    """Whether good maps and good predictions go apart: VICE is far below 1."""
    study = numbers["studies"].get("voc8")
    runs = by_recipe(study).get("base", []) if study else []
    claim = "The quality of the maps is not consistent with the performance."
    if not runs or any(row["vice_high"] is None for row in runs):
        return [claim, "–", "not decided"]
    said = [f"{row['vice']:.2f} ({row['vice_low']:.2f} to {row['vice_high']:.2f})" for row in runs]
    below = len(runs) > 2 and all(row["vice_high"] < 0.9 for row in runs)
    return [claim, f"VICE of the base, seed by seed: {'; '.join(said)}", "confirmed" if below else "not decided"]


def trade_off(study: Kept) -> list[str]:
    """Whether a recipe that is established to be more accurate has an established lower VICE."""
    claim = "A more accurate network need not be more consistent."
    signs: dict[tuple[str, str], dict[str, float]] = {}
    for row in study["comparisons"]:
        if row["p_holm"] is not None and is_established(row) and row["measure"] in ("vice", "mean_average_precision"):
            signs.setdefault((row["axis"], row["first"]), {})[row["measure"]] = row["difference"]
    both = {level[1]: found for level, found in signs.items() if len(found) == 2}
    against = [level for level, found in both.items() if np.prod(np.sign(list(found.values()))) < 0]
    if against:
        return [claim, f"mAP and VICE move in opposite directions: {', '.join(against).replace('_', ' ')}", "confirmed"]
    same = f"mAP and VICE move together: {', '.join(both).replace('_', ' ')}" if both else "no level moves both"
    return [claim, same, "not decided"]


def figures(study: Kept) -> str:
    """The figures: recipes by VICE, and the paper's diagrams of the base's first seed."""
    words = {
        "recipes": "VICE against mAP and ECE-ML: small marks are runs, large ones means of seeds",
        "vice": "the VICE diagram of the base's first seed under paper: images by loss, and their JI score",
        "vice_strict": "the VICE diagram of the base's first seed: pairs by loss, and their JI score",
        "reliability_paper": "the reliability diagram of the base's first seed under paper",
        "reliability_strict": "the reliability diagram of the base's first seed",
    }
    found = {key: file for file in study["figures"] for key in words if file.endswith(f"_{key}.png")}
    return "\n\n".join(f"![{words[key][0].upper()}{words[key][1:]}](images/{file})" for key, file in found.items())


def made(numbers: Kept) -> dict[str, Callable[[], str]]:
    """The tables of the page, by mark."""
    found: dict[str, Callable[[], str]] = {"run": lambda: run_of(numbers), "claims": lambda: claims(numbers)}
    of_study = {
        "recipes": recipes_of,
        "figures": figures,
        "spread": spread,
        "draws": draws,
        "thresholds": thresholds,
        "classes": classes,
        "agreement": agreement,
        "matched": matched,
        "over all": lambda study: over_all(study["comparisons"]),
    }
    for name, study in numbers["studies"].items():
        for mark, made_by in of_study.items():
            found[f"{mark} {name}"] = lambda made_by=made_by, study=study: made_by(study)  # type: ignore[misc]
        for axis in study["axes"]:
            found[f"{axis} {name}"] = lambda axis=axis, study=study: differences(study, axis)  # type: ignore[misc]
    return found


def write_page(numbers: Kept, path: Path) -> None:
    """Write the tables of the kept numbers, see `write_tables`."""
    write_tables(made(numbers), path)


def write_tables(tables: Mapping[str, Callable[[], str]], path: Path) -> None:
    """Write tables between the marks of the page; a page that is not there begins with the text of TEXT."""
    page = (path if path.is_file() else TEXT).read_text(encoding="utf-8")
    for mark, text in tables.items():
        start, end = f"<!-- {mark} -->", "<!-- end -->"
        pattern = rf"({re.escape(start)}\n).*?({end})"
        page = re.sub(pattern, lambda m, t=text: m[1] + t() + "\n" + m[2], page, flags=re.DOTALL)  # type: ignore[misc]
    write_text(path, page)
