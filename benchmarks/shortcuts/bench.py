"""Does the verdict name the class that a planted shortcut gives away? Many small trainings whose truth is known.

Six kinds of shortcuts at four strengths, three trainings each, and 18 trainings on clean digits. Every run is trained,
assessed and measured as a user would do it, with `vice`. The truth is interventional: the average precision of the
planted class on the test images without the shortcut, and without the object. `make shortcuts` runs all of it and
resumes what was stopped; `--quick` runs four small trainings in minutes. `--repair` compares trainings with and without
the settings that break shortcuts. See README.md for what is printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from summary import repair_summary, summary

from torchvice.files import read_json, write_json, write_text
from torchvice.files.lock import locked

KINDS = ("stripe", "frame", "texture", "text", "companion", "blur")
STRENGTHS = (0.25, 0.5, 0.75, 0.95)
DIGITS = (7, 2, 4)  # the planted digit of the first, second and third training
SEEDS = 3
CLEAN = 18
INTERVENTIONS = ("without_shortcut", "without_object")
# On 64 pixels its last maps are 4 x 4.
MODEL = "{name: resnet10t, arguments: {channels: [16, 32, 64, 128], output_stride: 16}}"
REPAIRS: dict[str, dict[str, float]] = {
    "none": {},
    "swap": {"swap_background": 0.5},
    "erase": {"erase_object": 0.2},
    "both": {"swap_background": 0.5, "erase_object": 0.2},
}


@dataclass(frozen=True)
class Size:
    """Number of images of each split, side in pixels, epochs."""

    train: int
    val: int
    test: int
    side: int
    epochs: int


FULL = Size(2000, 200, 600, 64, 10)
QUICK = Size(600, 60, 200, 48, 8)


@dataclass(frozen=True)
class Case:
    """One training: `kind` None is clean, `repair` a name in REPAIRS; images and weights depend on `seed`."""

    kind: str | None
    strength: float
    seed: int
    repair: str = "none"

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        planted = "clean" if self.kind is None else f"{self.kind}-{self.strength:g}"
        return f"{planted}-{self.seed}" + (f"-{self.repair}" if self.repair != "none" else "")

    @property
    def digit(self) -> int | None:
        """The planted digit, None for a clean training."""
        return None if self.kind is None else DIGITS[self.seed % len(DIGITS)]


def cases(quick: bool, repair: bool = False) -> list[Case]:
    """All trainings: the clean ones first, then planted ones from the strongest shortcut down; or those of a repair."""
    if repair:
        kinds = ("stripe",) if quick else ("stripe", "texture")
        seeds = 1 if quick else SEEDS
        return [Case(kind, 0.95, seed, name) for seed in range(seeds) for kind in kinds for name in REPAIRS]
    if quick:
        return [Case(None, 0, 0), Case(None, 0, 1), Case("stripe", 0.95, 0), Case("companion", 0.95, 0)]
    clean = [Case(None, 0, seed) for seed in range(CLEAN)]
    return clean + [
        Case(kind, strength, seed) for strength in STRENGTHS[::-1] for seed in range(SEEDS) for kind in KINDS
    ]


# ---- one run


def write_data(case: Case, size: Size, root: Path, **without: bool) -> Path:
    """Write the digits of a case; `without` an intervention, only the test images matter."""
    from torchvice.data.digits import write_digits

    train, val = (1, 1) if without else (size.train, size.val)
    planted: dict[str, Any] = {}
    if case.kind is not None:
        planted = {"shortcut": case.digit, "kind": case.kind, "strength": case.strength}
    seed = 100 + case.seed
    return write_digits(root, train=train, val=val, test=size.test, size=size.side, seed=seed, **planted, **without)


def vice(*words: object) -> None:
    """Run a command of `vice` in this process; stop where it did not succeed."""
    from torchvice.cli.app import app

    # An interrupted command returns its status here: its half-trained network must not be assessed.
    if status := app([str(word) for word in words], standalone_mode=False):
        sys.exit(status)


def train_run(case: Case, size: Size, run: Path, data: Path, device: str) -> None:
    """Train, or resume."""
    if (run / "config.yaml").is_file():
        return vice("train", run / "config.yaml", "--resume")
    settings = {
        "session_name": run.name,
        "work_dir": run.parent,
        "seed": case.seed,
        "data.root": data,
        "model": MODEL,
        "transform.crop": size.side,
        "assess.view_size": size.side,
        "trainer.epochs": size.epochs,
        "trainer.accelerator": device,
        **{f"regularisation.{name}": value for name, value in REPAIRS[case.repair].items()},
    }
    return vice("train", "demo", *(word for item in settings.items() for word in ("-o", "{}={}".format(*item))))


def scores(run: Path, root: Path, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Targets (N, C) and logits (N, C) of the images of a dataset, as the run's network sees them."""
    import torch
    from torch.utils.data import DataLoader

    from torchvice.data.transforms import LabelledImages, ValidationTransform
    from torchvice.runs import Run

    opened = Run(run)
    shown = opened.settings.transform
    view = ValidationTransform(shown.crop, mean=shown.mean, std=shown.std, view=shown.view)
    loader: Any = DataLoader(LabelledImages(opened.dataset(split, root=root), view), batch_size=64)
    model = opened.model()
    with torch.inference_mode():
        rows = [(targets, model(images)) for images, targets in loader]
    return tuple(torch.cat(part).numpy() for part in zip(*rows, strict=True))  # type: ignore[return-value]


def truth(case: Case, size: Size, run: Path, data: Path) -> dict[str, float]:
    """Average precision of the planted class: as assessed, without the shortcut, and without the object.

    Without the object, the positives are the images that had it.
    """
    from sklearn.metrics import average_precision_score

    targets, logits = scores(run, data)
    precision = {"mean": float(np.mean([average_precision_score(t, s) for t, s in zip(targets.T, logits.T)]))}  # noqa: B905
    if case.digit is None:
        return precision
    precision["planted"] = float(average_precision_score(targets[:, case.digit], logits[:, case.digit]))
    for name in INTERVENTIONS:
        root = write_data(case, size, data.with_name(f"{data.name}-{name}"), **{name: True})
        changed = scores(run, root)[1]
        precision[name] = float(average_precision_score(targets[:, case.digit], changed[:, case.digit]))
    return precision


def witnesses(run: Path) -> dict[str, dict[str, float | None]]:
    """For each class, what speaks for a shortcut: larger is more suspicious; None where it is not measured."""
    from torchvice.measures import true_pairs
    from torchvice.samples import Samples

    measures = read_json(run / "measures.json")
    pairs = true_pairs(Samples.load(run / "assess" / "test"))
    cutoff = measures["quadrants"]["cutoffs"]["iou"]
    rows: dict[str, dict[str, float | None]] = {}
    for c, row in enumerate(measures["classes"]):
        quality = pairs.quality[(pairs.class_index == c) & (pairs.logit > 0)]
        quality = quality[~np.isnan(quality)]
        rows[row["name"]] = {
            "looking elsewhere": float((quality < cutoff).mean()) if len(quality) else None,
            "1 - IoU of found pairs": float(1 - quality.mean()) if len(quality) else None,
            "found without the object": row.get("without_object"),
            "lost without the background": _minus(1, row.get("without_background")),
            "- class VICE": _minus(0, row["vice"]),
        }
    return rows


def _minus(start: float, value: float | None) -> float | None:
    return None if value is None else start - value


def run_case(case: Case, size: Size, out: Path, options: argparse.Namespace) -> None:
    """Do what is missing of one run, and write its result.json; with `--again`, assess and measure it again."""
    run, data = out / "runs" / case.name, out / "data" / case.name
    start = time.perf_counter()
    run.parent.mkdir(parents=True, exist_ok=True)
    write_data(case, size, data)
    train_run(case, size, run, data, options.device)
    trained = time.perf_counter()
    if options.again:  # with what the present version writes by default
        shutil.rmtree(run / "assess", ignore_errors=True)
    vice("assess", run, "--protocol", "strict", "--controls", "cheap", "--device", options.device)
    vice("measure", run)
    measured = time.perf_counter()
    # None: this version of `vice measure` writes no verdict.
    verdict = read_json(run / "measures.json").get("verdict", {})
    result = {
        "kind": case.kind,
        "repair": case.repair,
        "strength": case.strength,
        "seed": case.seed,
        "digit": case.digit,
        "precision": truth(case, size, run, data),
        "classes": witnesses(run),
        "stands_out": verdict.get("stands_out"),
        "p": verdict.get("power", {}).get("p_by_class"),
        "seconds": {
            "train": trained - start,
            "assess and measure": measured - trained,
            "truth": time.perf_counter() - measured,
        },
    }
    write_json(run / "result.json", result)
    if not options.keep_data:
        for folder in (data, *(data.with_name(f"{data.name}-{name}") for name in INTERVENTIONS)):
            shutil.rmtree(folder, ignore_errors=True)


# ---- all runs


def run_all(todo: Sequence[Case], options: argparse.Namespace) -> Iterator[str]:
    """Run each case in a process of its own, `--jobs` at a time; yield the names of those that failed."""
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}

    def start(case: Case) -> tuple[str, int, float]:
        command = [sys.executable, __file__, "--out", str(options.out), "--one", case.name]
        command += ["--quick"] * options.quick + ["--keep-data"] * options.keep_data
        command += ["--repair"] * options.repair + ["--again"] * options.again + ["--device", options.device]
        begun = time.perf_counter()
        log = options.out / "logs" / f"{case.name}.txt"
        with log.open("a", encoding="utf-8") as lines:
            status = subprocess.run(command, env=environment, stdout=lines, stderr=lines).returncode
        return case.name, status, time.perf_counter() - begun

    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for done, (name, status, seconds) in enumerate(pool.map(start, todo), start=1):
            state = "done" if not status else f"FAILED, see {options.out}/logs/{name}.txt"
            print(f"{done} of {len(todo)}  {name}: {state}, {seconds:.0f} s", flush=True)
            if status:
                yield name


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the runs; default: runs/shortcuts, runs/repair ...")
    parser.add_argument("--jobs", type=int, default=max(1, min(os.cpu_count() or 1, 8)), help="runs at the same time")
    parser.add_argument("--quick", action="store_true", help="four small trainings instead of 90")
    parser.add_argument("--repair", action="store_true", help="swap_background and erase_object: 24 trainings")
    parser.add_argument("--again", action="store_true", help="assess and measure finished runs again")
    parser.add_argument("--only-summary", action="store_true", help="print the tables of the finished runs")
    parser.add_argument("--keep-data", action="store_true", help="keep the images of finished runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="device of trainings and maps")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = ("repair" if options.repair else "shortcuts") + ("-quick" if options.quick else "")
    options.out = options.out or Path("runs") / name
    return options


def main() -> None:
    """Run what is missing, and print the tables."""
    options = parsed()
    planned = cases(options.quick, options.repair)
    if options.one:
        case = next(case for case in planned if case.name == options.one)
        return run_case(case, QUICK if options.quick else FULL, options.out, options)
    options.out.mkdir(parents=True, exist_ok=True)
    results = {case: options.out / "runs" / case.name / "result.json" for case in planned}
    failed: list[str] = []
    if not options.only_summary:
        with locked(options.out / "bench.lock", f"The bench in {options.out}"):
            todo = [case for case in planned if options.again or not results[case].is_file()]
            failed = list(run_all(todo, options))
    rows = [read_json(path) for path in results.values() if path.is_file()]
    tables = repair_summary if options.repair else summary
    text = tables(rows, len(planned)) if rows else "No run is finished."
    print(text)
    write_text(options.out / "summary.md", text + "\n")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. Start again: finished steps are kept.")
    return None


if __name__ == "__main__":
    main()
