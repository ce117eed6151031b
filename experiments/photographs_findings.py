"""What does torchvice find on real photographs that accuracy hides? Questions to the base recipe of the study.

    python experiments/photographs_findings.py --data DIR --weights DIR --out runs/findings

Trains the base of experiments/photographs.py with each seed, assesses it as `vice assess` does, and asks further
(photographs_probes.py): two labels in one photograph, sofas and chairs, a caption, masks of other quality. Keeps the
numbers in records/photographs/findings.json, and writes the tables of docs/photographs.md that are made of them. It
resumes what an earlier start left; `--only-tables` runs nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from photographs_kept import add_arguments, options_of, read_kept, write_kept
from photographs_page import shown, write_tables
from photographs_plan import Options, common, listed
from photographs_pool import Pool, Task
from photographs_probes import probed

from study import table
from torchvice.cli.terminal import say
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.files.lock import locked
from torchvice.metrics import share_interval
from torchvice.study import Study, load_study
from torchvice.study.job import finished, prepare

KEPT = Path("records/photographs/findings.json")
SPLITS = {"train": "learn", "selection": "select", "eval": "val"}
PERCENT = {
    "on_object": "IoU 0.3 or more",
    "without_object": "found without the object",
    "without_background": "without the background",
    "with_hole": "with a hole elsewhere",
}

Row = Mapping[str, Any]


def planned(options: Options) -> Study:
    """The base recipe, as the study of photographs trains it, with all that `vice assess` does."""
    settings = common(options, "voc8", listed(options, "voc8", SPLITS), options.epochs)
    content = {
        "base": "finetune",
        "name": "findings",
        "folder": str(options.out),
        "seeds": list(options.seeds),
        "settings": settings,
        "measure": {"also": ["layercam"]},
    }
    text = yaml.safe_dump(content, sort_keys=False, width=110)
    return load_study(write_text(options.out / "study.yaml", text))


def run(study: Study, jobs: int) -> list[Path]:
    """Train and assess what is left; the folders of all runs."""
    left = [one for one in study.runs if finished(one, study.request) is None]
    for task, reason, seconds in Pool(jobs).run([Task("run", prepare(one, study.request)) for one in left]):
        say(f"{task.folder.name}: {f'failed: {reason}' if reason else 'finished'}, {seconds:.0f} s")
        if reason:
            raise ViceError(f"A training of the base recipe failed: {reason}", "Mend it, and start the command again.")
    return [one.folder for one in study.runs]


def percent(values: Sequence[float | None], labels: Sequence[int] = ()) -> str:
    """Mean and standard deviation over seeds of a share, in percent; a dash where a seed has none.

    Args:
        values: the share of each seed.
        labels: of how many labels, each of another photograph; then the widest 95 % interval of a seed follows.
    """
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    said = f"{np.mean(known):.0f} %" if len(known) == 1 else f"{np.mean(known):.0f} ± {np.std(known, ddof=1):.0f} %"
    if not labels:
        return said
    events = [np.arange(n) < round(value * n / 100) for value, n in zip(known, labels, strict=True)]
    spans = [share_interval(happened, np.arange(len(happened))) for happened in events]
    return f"{said} ({100 * min(one.low for one in spans):.0f} to {100 * max(one.high for one in spans):.0f})"


def across(runs: Sequence[Row], probe: str) -> list[list[Row]]:
    """The rows of a probe, those of all seeds together."""
    return [list(rows) for rows in zip(*(one[probe] for one in runs), strict=True)]


def of_classes(runs: Sequence[Row]) -> str:
    """What the verdict's interventions say of each class."""
    lines = []
    for rows in across(runs, "classes"):
        cells = [
            percent([row[name] for row in rows], [row["holes" if name == "with_hole" else "found"] for row in rows])
            for name in PERCENT
        ]
        counts = [", ".join(str(row[name]) for row in rows) for name in ("found", "holes")]
        lines.append([rows[0]["class"], counts[0], *cells, counts[1], shown([row["vice"] for row in rows])])
    return table(["class", "found", *PERCENT.values(), "with room for a hole", "VICE"], lines)


def of_two(runs: Sequence[Row]) -> str:
    """Labels beside another one, and alone."""
    heads = {
        "on_object": "IoU 0.3 or more",
        "map_on_own": "share of the map on its object",
        "map_on_other": "share of the map on the other",
        "without_own": "found without its object",
        "without_other": "found without the other",
        "without_both": "found without both",
    }
    lines = []
    for rows in across(runs, "together"):
        name = rows[0]["class"] + (f" beside {rows[0]['with']}" if rows[0]["with"] else " alone")
        found = [row["found"] for row in rows]
        cells = [
            percent([row.get(column) for row in rows], () if column.startswith("map") else found) for column in heads
        ]
        lines.append([name, str(rows[0]["images"]), ", ".join(str(row["found"]) for row in rows), *cells])
    return table(["label", "images", "found", *heads.values()], lines)


def of_furniture(runs: Sequence[Row]) -> str:
    """Sofas and chairs."""
    heads = {
        "over_neither": "above photographs with neither",
        "gone_over_neither": "the same, its object replaced",
        "over_other": "above those with the other alone",
        "other_over_neither": "the other's photographs above neither",
        "correlation": "correlation of the two logits",
    }
    lines = [
        [rows[0]["class"], str(rows[0]["images"]), *(shown([row[name] for row in rows]) for name in heads)]
        for rows in across(runs, "furniture")
    ]
    return table(["logit of", "images", *heads.values()], lines)


def of_captions(runs: Sequence[Row]) -> str:
    """The caption of an archive of horses, in words."""
    rows = [one["captions"] for one in runs]

    def each(name: str, form: str = "") -> str:
        return ", ".join(f"{row[name]:{form}}" for row in rows)

    first = rows[0]
    if first is None:
        return "The photographs that have it are not among these."
    return (
        f"Seed by seed: on the {first['images']} photographs that have it, covering it lowers the horse's logit "
        f"by {each('fall_covered', '.2f')}, and covering the same place at the other side by "
        f"{each('fall_beside', '.2f')}; {each('found')} of these horses are found, and {each('found_covered')} with "
        f"it covered. Written on the {first['without_horse']} photographs without a horse, it raises the horse's "
        f"logit by {each('rise', '.2f')} in the mean, those of the other classes by {each('rise_of_others', '.2f')}; a "
        f"horse is seen on {each('horse_before')} of them without it, and on {each('horse_written')} with it."
    )


def of_masks(runs: Sequence[Row]) -> str:
    """VICE against masks of other quality."""
    lines = []
    for rows in across(runs, "masks"):
        cells = [shown([row[name] for row in rows]) for name in ("vice", "ji")]
        lines.append([rows[0]["masks"], str(rows[0]["pairs"]), *cells])
    return table(["objects", "labels", "VICE", "JI score"], lines)


def tables(numbers: Row) -> dict[str, Callable[[], str]]:
    """The tables of the page, by mark."""
    runs = numbers["runs"]
    made = {"by class": of_classes, "two labels": of_two, "furniture": of_furniture}
    made |= {"caption": of_captions, "masks": of_masks}
    return {f"found {name}": lambda make=make: make(runs) for name, make in made.items()}  # type: ignore[misc]


def main() -> None:
    """Run what is missing, ask, keep the numbers, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "runs/findings", KEPT)
    asked = parser.parse_args()
    if not asked.only_tables:
        options = options_of(asked)
        options.out.mkdir(parents=True, exist_ok=True)
        with locked(options.out / "lock", f"The study {options.out}"):
            found = list(probed(run(planned(options), asked.jobs)))
        write_kept({"schema": 1, "date": datetime.date.today().isoformat(), "runs": found}, asked.kept)
    write_tables(tables(read_kept(asked.kept)), asked.page)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main()
    except ViceError as error:
        raise SystemExit(f"photographs: {error}") from None
