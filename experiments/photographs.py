"""What VICE says of networks that are trained on photographs: the study of docs/photographs.md, run and written.

    python experiments/photographs.py --data DIR --weights DIR --out runs/photographs --jobs 2

It trains and assesses the networks of photographs_plan.py, several at a time, and resumes what an earlier start left.
A recipe whose seeds are all finished goes to records/photographs and is not trained again, also on another machine.
The numbers go to records/photographs.json, and from there into the tables of docs/photographs.md; `--only-tables` runs
nothing. No pixel of a photograph is kept. The text of the page is written by hand: read it again after a new run.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from photographs_figures import write_figures
from photographs_kept import KEPT, add_arguments, collected, options_of, read_kept, recipe_of, write_kept
from photographs_page import write_page
from photographs_plan import CONTINUED, Options, kept, ordered, pretraining, written
from photographs_pool import Pool, Task, prepare_pretraining
from photographs_shelf import SHELF, Shelf, left_of

from torchvice.cli.terminal import say
from torchvice.config import dump_settings
from torchvice.errors import ViceError
from torchvice.files.lock import locked
from torchvice.study import Study
from torchvice.study.job import prepare
from torchvice.study.plan import PlannedRun
from torchvice.study.table import table_rows, write_table


def chosen(studies: dict[str, Study], recipes: Sequence[str] | None) -> list[tuple[Study, PlannedRun]]:
    """The runs of some recipes, by their names on the page; None: of all. In the order of their work."""
    named = [(study, run, recipe_of(run.levels, study.base)) for study, run in ordered(studies.values())]
    known = {name for *_, name in named}
    if unknown := sorted(set(recipes or ()) - known):
        raise ViceError(f"There is no recipe {unknown[0]!r}.", f"Give some of: {', '.join(sorted(known))}.")
    return [(study, run) for study, run, name in named if recipes is None or name in recipes]


def tasks(studies: dict[str, Study], options: Options, asked: argparse.Namespace) -> Iterator[Task]:
    """The work that is left, in its order; the continued pre-training comes before the runs that wait for it."""
    weights = options.continued() / "weights.safetensors"
    names = {run.folder for name, study in studies.items() for run in left_of(study, Shelf(asked.shelf / name))}
    left = [(study, run) for study, run in chosen(studies, asked.recipes) if run.folder in names]
    needed = not weights.is_file()
    for study, run in left:
        waits = options.continued() if run.settings.model.weights == str(weights) else None
        if needed and waits:
            settings = pretraining(studies["voc8"], options)
            prepare_pretraining(options.continued(), dump_settings(settings), CONTINUED)
            yield Task("pretrain", options.continued())
            needed = False
        yield Task("run", prepare(run, study.request), waits)


def run(studies: dict[str, Study], options: Options, asked: argparse.Namespace) -> dict[str, str]:
    """Run what is left, and return the reasons of failures by the run's name."""
    begun = time.monotonic()
    work = list(tasks(studies, options, asked))
    names = {options.continued(): f"pre-training {CONTINUED}"}
    for name, study in studies.items():
        names |= {r.folder: f"{name}: {recipe_of(r.levels, study.base)}, seed {r.seed}" for r in study.runs}
    say(f"{len(work)} trainings are left; {asked.jobs} at a time.")
    pool = Pool(asked.jobs, None if asked.until is None else begun + asked.until)
    failed, ended = dict[str, str](), 0
    for task, reason, seconds in pool.run(work):
        ended += 1
        said = f"failed: {reason}" if reason else "finished"
        say(f"{time.monotonic() - begun:4.0f} s  {ended}/{len(work)} {names[task.folder]}: {said}, {seconds:.0f} s")
        if reason:
            failed[task.folder.name] = reason
        for study in studies.values():
            write_table(table_rows(study, failed), study.folder / "table")
    if ended < len(work):
        say(f"The time is up: {len(work) - ended} trainings are left. The same command goes on with them.")
    return failed


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "runs/photographs", KEPT)
    parser.add_argument("--workers", type=int, default=0, help="processes that load the images of each training")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--until", type=float, help="seconds after which no training goes on")
    parser.add_argument("--datasets", nargs="+", choices=["voc8", "clothing"], default=["voc8", "clothing"])
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="some recipes only, as the page names them")
    parser.add_argument("--no-tables", action="store_true", help="run only; neither numbers nor page are written")
    parser.add_argument("--shelf", type=Path, default=SHELF, help="folder of the recipes that are finished")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, keep the numbers, and write the page."""
    asked = parsed()
    studies = kept(asked.out)
    if not asked.only_tables:
        options = options_of(asked, device=asked.device, workers=asked.workers)
        options.out.mkdir(parents=True, exist_ok=True)
        with locked(options.out / "lock", f"The study {options.out}"):
            studies = {name: study for name, study in written(options).items() if name in asked.datasets}
            run(studies, options, asked)
    if asked.no_tables:
        return
    if studies:
        numbers = collected(studies, asked.shelf, asked.jobs)
        for name, study in numbers["studies"].items():
            done = [row for row in study["rows"] if row["status"] == "finished"]
            study["figures"] = write_figures(studies[name], done, asked.page.parent / "images")
        write_kept(numbers, asked.kept)
    write_page(read_kept(asked.kept), asked.page)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main()
    except ViceError as error:
        raise SystemExit(f"photographs: {error}") from None
