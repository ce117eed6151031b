"""The numbers of the study of photographs that are kept: from its runs to records/photographs.json, and back.

The file holds a row a run, the differences between recipes, and further numbers of the base recipe; no pixel, and no
name of an image. The page is written from it alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from photographs_plan import EPOCHS, Options
from photographs_shelf import Recipe, Shelf, recipes_of, together

from torchvice.commands.tables import load_samples
from torchvice.errors import ViceError
from torchvice.files import read_json, write_text
from torchvice.measures import compare, true_pairs
from torchvice.metrics import pair_vice
from torchvice.metrics.comparison import holm
from torchvice.samples import Samples
from torchvice.study import Study
from torchvice.study.job import failure, finished
from torchvice.study.plan import PlannedRun
from torchvice.study.table import compare_levels, table_rows

KEPT = Path("records/photographs.json")
SIZES = (100, 200, 300)  # images drawn of the test set
DRAWS = 200
CLASS_COLUMNS = ("name", "pairs", "average_precision", "quality", "vice", "vice_low", "vice_high")
FURTHER = ("partial_spearman", "within_class", "threshold_fixed", "vice_soft_iou", "vice_energy", "vice_pointing")


def collected(studies: Mapping[str, Study], shelf: Path, jobs: int = 1) -> dict[str, Any]:
    """The numbers to keep of every study; `jobs` processes compare the recipes that are not on the shelf."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return {
            "schema": 1,
            "date": datetime.date.today().isoformat(),
            "studies": {name: of_study(study, Shelf(shelf / name), pool) for name, study in studies.items()},
        }


def of_study(study: Study, shelf: Shelf, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Axes, rows, differences, and numbers of the base recipe; recipes that have ended go to the shelf."""
    recipes = list(recipes_of(study))
    shelf.restore(recipes[0])
    held = [shelf.held(recipe) for recipe in recipes]
    missing = [recipe for recipe, numbers in zip(recipes, held, strict=True) if numbers is None]
    made = dict(zip((recipe.name for recipe in missing), pool.map(numbers_of, missing), strict=True))
    for recipe in missing:
        if recipe.ended():
            shelf.keep(recipe, made[recipe.name])
    found = together([numbers or made[recipe.name] for recipe, numbers in zip(recipes, held, strict=True)])
    settings = study.runs[0].settings
    return {
        "axes": {axis: list(levels) for axis, levels in study.axes.items()},
        "base": study.base,
        "seeds": list(study.seeds),
        "planned": len(study.runs),
        "epochs": settings.trainer.epochs,
        "precision": settings.trainer.precision,
        **found,
        "comparisons": corrected(found["comparisons"]),
    }


def numbers_of(recipe: Recipe) -> dict[str, list[Any]]:
    """Rows of a recipe's runs, their differences from the base, and further numbers of the base itself."""
    own = {run.folder.name: run for run in recipe.runs}
    failed = {name: reason for name, run in own.items() if (reason := failure(run.folder))}
    part = recipe.part
    rows = [
        {**row, **more_of(own[row["run"]])} if row["status"] == "finished" else dict(row)
        for row in table_rows(replace(part, runs=recipe.runs), failed)
    ]
    done = [run for run in part.runs if finished(run, part.request)]
    is_base = recipe.name == "base"
    base = {run.seed: run for run in done if is_base or run.folder.name not in own}
    others = [] if is_base else [run for run in done if run.folder.name in own and run.seed in base]
    return {
        "rows": rows,
        "comparisons": [] if is_base else compare_levels(part),
        "matched": [row for run in others for row in matched(run, base[run.seed])],
        "base_runs": [of_base(run) for run in base.values()] if is_base else [],
    }


def corrected(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences with Holm's correction over the levels of each axis and measure."""
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["p"] is not None:
            families.setdefault((row["axis"], row["measure"]), []).append(row)
    p_holm = {id(row): p for family in families.values() for row, p in zip(family, holm_of(family), strict=True)}
    return [{**row, "p_holm": p_holm.get(id(row))} for row in rows]


def holm_of(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Holm's p of some rows."""
    return [float(p) for p in holm([row["p"] for row in rows])]


def more_of(run: PlannedRun) -> dict[str, Any]:
    """Numbers of a run that the table of a study lacks."""
    measures = read_json(run.folder / "measures.json")
    further = {name: measures["sensitivities"].get(name) for name in FURTHER}
    further |= {name: measures["strict"][name] for name in ("vice_joint", "threshold_first", "threshold_last")}
    further["epochs"] = epochs_of(run)
    return further | {f"control_{name}": row["vice"] for name, row in measures["controls"].items()}


def epochs_of(run: PlannedRun) -> int | None:
    """The epochs that a run trained; early stopping ends it before those of its settings."""
    logs = sorted(run.folder.glob("logs/version_*/metrics.csv"))
    if not logs:
        return None
    head, *lines = logs[-1].read_text().splitlines()
    column = head.split(",").index("epoch")
    return 1 + max(int(line.split(",")[column]) for line in lines)


def of_base(run: PlannedRun) -> dict[str, Any]:
    """Classes, threshold curve, calibration and draws of images of a run of the base recipe."""
    measures = read_json(run.folder / "measures.json")
    curve = measures["threshold_curve"]
    return {
        "seed": run.seed,
        "classes": [{name: row.get(name) for name in CLASS_COLUMNS} for row in measures["classes"]],
        "thresholds": curve["thresholds"],
        "threshold_vice": curve["vice"],
        "threshold_iou": curve["pair_iou"],
        "controls": measures["controls"],
        "methods": measures["methods"],
        "calibration": {name: measures["calibration"].get(name) for name in ("ece", "ece_classwise", "brier")},
        "sentences": measures["verdict"]["sentences"],
        "draws": draws_of(table_of(run)),
    }


def draws_of(samples: Samples) -> list[dict[str, float]]:
    """VICE on fewer images: mean and standard deviation over draws without replacement, for each number of SIZES."""
    pairs = true_pairs(samples)
    images, place = np.unique(pairs.image_id, return_inverse=True)
    generator = np.random.default_rng(0)
    found = []
    for size in (size for size in SIZES if size < len(images)):
        values = []
        for _ in range(DRAWS):
            chosen = np.zeros(len(images), dtype=bool)
            chosen[generator.choice(len(images), size, replace=False)] = True
            rows = chosen[place]
            values.append(pair_vice(pairs.logit[rows], pairs.quality[rows]).value)
        found.append({"images": size, "mean": float(np.mean(values)), "spread": float(np.std(values, ddof=1))})
    return found


def matched(run: PlannedRun, base: PlannedRun) -> list[dict[str, Any]]:
    """VICE of a run minus the base's of its seed, on pairs weighted to the same distribution of log-likelihood."""
    row: dict[str, Any] = {"recipe": recipe_of(run.levels, base.levels), "seed": run.seed}
    try:
        found = compare({"a": table_of(run), "b": table_of(base)}, replicates=100).matched[0]
    except ViceError as error:
        return [{**row, "reason": error.message}]
    return [{**row, **{name: found[name] for name in ("difference", "without_partner")}}]


def table_of(run: PlannedRun) -> Samples:
    """The table of a run's test set."""
    return load_samples(run.folder, Path(run.settings.data.eval_split).name)


def recipe_of(levels: Mapping[str, str], base: Mapping[str, str]) -> str:
    """The levels of a run that differ from the base."""
    changed = [level.replace("_", " ") for axis, level in levels.items() if level != base[axis]]
    return ", ".join(changed) or "base"


def check_asked(asked: argparse.Namespace) -> None:
    """Refuse a run without photographs, and a try on a few of them that would replace the kept numbers."""
    if asked.data is None:
        raise ViceError("The study needs its photographs.", "Give --data DIR, or --only-tables.")
    if asked.images is not None and KEPT.parent in (asked.kept.parent, *asked.kept.parents):
        message = (
            f"A try on {asked.images} images must not replace the numbers of the study, but --kept is {asked.kept}."
        )
        raise ViceError(message, "Give --kept FILE and --page FILE elsewhere.")


def add_arguments(parser: argparse.ArgumentParser, out: str, kept: Path) -> None:
    """The arguments that the study and its further questions share."""
    parser.add_argument("--data", type=Path, help="folder that holds voc8 and clothing")
    parser.add_argument("--weights", type=Path, help="folder of the ImageNet weights; default: weights in --data")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of the base recipe")
    parser.add_argument("--images", type=int, help="the first images of each list only: a try, not the study")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each recipe: claims need three")
    parser.add_argument("--only-tables", action="store_true", help="run nothing; write the page of the kept numbers")
    parser.add_argument("--kept", type=Path, default=kept, help="file of the kept numbers")
    parser.add_argument("--page", type=Path, default=Path("docs/photographs.md"), help="the page")


def options_of(asked: argparse.Namespace, **more: Any) -> Options:
    """What is to be run, see `check_asked`; `more` are fields of Options that one command alone has."""
    check_asked(asked)
    data, weights = asked.data.absolute(), (asked.weights or asked.data / "weights").absolute()
    size = {"epochs": asked.epochs, "images": asked.images, "seeds": tuple(range(1, asked.seeds + 1))}
    return Options(data, weights, asked.out.absolute(), **size, **more)


def write_kept(numbers: Mapping[str, Any], path: Path) -> None:
    """Write the kept numbers, a line a row: six significant digits are more than any of them is worth."""
    write_text(path, json.dumps(rounded(numbers), indent=1, sort_keys=False) + "\n")


def rounded(value: Any) -> Any:
    """The same with floats of six significant digits."""
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) and np.isfinite(value) else value


def read_kept(path: Path) -> dict[str, Any]:
    """Read the kept numbers."""
    if not path.is_file():
        raise ViceError(f"No kept numbers found: {path} does not exist.", "Run the study: leave out --only-tables.")
    numbers: dict[str, Any] = read_json(path)
    return numbers
