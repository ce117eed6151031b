"""The commands that print numbers: `vice evaluate` (step 3, maps of any tool), `measure` (step 5) and `compare`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from torchvice.cli.tables import print_all, print_comparison, print_measures
from torchvice.cli.terminal import number, progress_bar, say
from torchvice.errors import ViceError

__all__ = ["compare", "evaluate", "measure"]


class PredictionType(StrEnum):
    """What the predictions are."""

    npy = "npy"
    npz = "npz"
    png = "png"


class OneProtocol(StrEnum):
    """One protocol."""

    paper = "paper"
    strict = "strict"


QUALITY = typer.Option(
    "ji",
    "--quality",
    help="In what sense a map is good: ji, soft_iou, pointing, energy, precision, recall, otsu, box_iou, insertion, "
    "deletion, road.",
)
REPLICATES = typer.Option(2000, "--replicates", min=0, help="Of the bootstrap over images; 0: no intervals.")
SEED = typer.Option(0, "--seed", min=0, help="Of the bootstrap.")
JSON = typer.Option(None, "--json", help="Write the numbers to this file as well.")


def evaluate(
    image_list: Path = typer.Option(..., "--list", help="A list of image names, one a line."),
    predictions: Path = typer.Option(..., "--predictions", help="Folder of NAME.npy, NAME.npz or NAME.png."),
    ground_truth: Path = typer.Option(..., "--ground-truth", help="Folder of the masks, NAME.png."),
    kind: PredictionType = typer.Option(
        ..., "--type", help="npy: the original's dictionaries; npz: keys and maps; png: label maps."
    ),
    threshold: float | None = typer.Option(None, "--threshold", help="One background threshold, in [0, 1]."),
    curve: bool = typer.Option(False, "--curve", help="The 60 thresholds 0.00 to 0.59, in the same single pass."),
    classes: int | None = typer.Option(
        None,
        "--classes",
        min=1,
        help="Object classes, without background; else those of classes.txt or dataset.yaml beside the masks' folder, "
        "else VOC's 20.",
    ),
    protocol: OneProtocol = typer.Option(
        OneProtocol.paper, "--protocol", help="paper: a class that never occurs counts 0; strict: it is left out."
    ),
    workers: int | None = typer.Option(None, "--workers", min=1, help="Processes; else one a core."),
    json: Path | None = JSON,
) -> None:
    """Step 3: score maps made by any tool against masks, in one exact pass over the files."""
    from torchvice.commands.evaluate import evaluate as evaluate_files
    from torchvice.files import write_json
    from torchvice.metrics.overlap import PAPER_THRESHOLDS

    if kind is PredictionType.png:
        if threshold is not None or curve:
            raise ViceError("Label maps have no threshold, but --threshold or --curve is given.", "Leave it out.")
    elif (threshold is None) == (not curve):
        raise ViceError("One of --threshold T and --curve is needed, but not both.")
    with progress_bar("images") as progress:
        found = evaluate_files(
            image_list,
            predictions,
            ground_truth,
            kind=kind.value,
            num_classes=classes,
            thresholds=PAPER_THRESHOLDS if threshold is None else [threshold],
            protocol=protocol.value,
            workers=workers,
            progress=progress,
        )
    content = found.to_json()
    if json:
        write_json(json, content)
    _print_curve(content, protocol.value)


def _print_curve(content: dict[str, Any], protocol: str) -> None:
    thresholds, means = content["thresholds"], content["mean_iou"]
    nan = float("nan")
    if len(thresholds) > 1:
        say("threshold  mIoU")
        for t, mean in list(zip(thresholds, means, strict=True))[::5]:
            say(f"     {t:.2f}  {number(nan if mean is None else mean)}")
    classes = range(1, len(content["class_iou"][0]))
    never = [c for c in classes if all(row[c] in (0, None) for row in content["class_iou"])]
    if never:
        names = content.get("classes", [])
        more = ": " + ", ".join(names[c - 1] for c in never) if names else ""
        say(
            f"{len(never)} of {len(classes)} classes have an IoU of 0 throughout{more}; if the data have fewer, say "
            "--classes."
        )
    best, at = content["best_mean_iou"], content["best_threshold"]
    where = "" if at is None else f" at threshold {at:.2f}"
    say(f"{content['images']} images, {protocol}: mIoU {number(nan if best is None else best)}{where}.")


def _print_schema(wanted: bool) -> None:
    if wanted:
        import json

        from torchvice.measures.json_schema import json_schema

        typer.echo(json.dumps(json_schema(), indent=1))
        raise typer.Exit


def measure(
    path: Path = typer.Argument(..., help="A RUN, a table's folder, or a .csv of the original implementation."),
    split: str | None = typer.Option(None, "--split", help="Of a RUN that was assessed on several."),
    quality: str = QUALITY,
    replicates: int = REPLICATES,
    seed: int = SEED,
    calibrate_on: str | None = typer.Option(
        None, "--calibrate-on", help="A split of the RUN, or a table's folder, on which temperatures are fitted."
    ),
    everything: bool = typer.Option(False, "--all", help="Print all numbers."),
    _: bool = typer.Option(
        False,
        "--schema",
        callback=_print_schema,
        is_eager=True,
        help="Print the JSON Schema of measures.json and exit.",
    ),
    fail_under: list[str] = typer.Option(
        [],
        "--fail-under",
        help="MEASURE=VALUE, such as vice=0.3: exit status 1 if it is lower; may come several times.",
    ),
    json: Path | None = JSON,
    write_csv: Path | None = typer.Option(None, "--write-csv", help="Write the original's table of samples."),
    figures: Path | None = typer.Option(
        None, "--figures", help="Folder of the diagrams; else figures/ in the RUN (of another split, beside its table)."
    ),
    no_figures: bool = typer.Option(False, "--no-figures", help="Numbers only."),
    title: str | None = typer.Option(None, "--title", help="Above the diagrams; else the run's name."),
    classes: int = typer.Option(20, "--classes", min=1, help="Object classes of a CSV, which does not say."),
) -> None:
    """Step 5: ECE-ML, VICE and every other number, with its interval, under both protocols, with the diagrams."""
    from torchvice.commands.draw import draw_all
    from torchvice.commands.measure import measure_path, read_limits, write_legacy_table, write_measures

    limits = read_limits(fail_under)
    found = measure_path(
        path, split, classes, quality=quality, replicates=replicates, seed=seed, calibrate_on=calibrate_on
    )
    print_measures(found.measures, title or found.title)
    if everything:
        print_all(found.measures)
    written = []
    targets = [json] if json else []
    if found.samples is not None and not (json and not os.access(found.home, os.W_OK)):
        # Another quality has a file of its own: the headline's numbers stay what they were.
        targets.append(found.home / ("measures.json" if quality == "ji" else f"measures_{quality}.json"))
    written += [write_measures(found.measures, target) for target in targets]
    if write_csv:
        written.append(write_legacy_table(found, write_csv))
    if not no_figures:
        folder = figures or (found.home / "figures" if found.samples is not None else Path(f"{found.home}_figures"))
        draw_all(found, folder, found.title if title is None else title)
        written.append(folder)
    if written:
        say("Written: " + ", ".join(map(str, written)))
    missed = limits(found.measures)
    for sentence in missed:
        say(sentence)
    if missed:
        raise typer.Exit(1)


def compare(
    runs: list[Path] = typer.Argument(..., help="Two or more RUNs or tables' folders."),
    split: str | None = typer.Option(None, "--split", help="Of RUNs that were assessed on several."),
    group: list[str] = typer.Option(
        [], "--group", help="NAME=RUN,RUN,RUN: seeds of one recipe, by their names; may come several times."
    ),
    quality: str = QUALITY,
    replicates: int = typer.Option(2000, "--replicates", min=100, help="Of the bootstrap over images."),
    seed: int = SEED,
    json: Path | None = JSON,
    figures: Path = typer.Option(Path("comparison"), "--figures", help="Folder of the diagram."),
    no_figures: bool = typer.Option(False, "--no-figures", help="Numbers only."),
) -> None:
    """Which model is more consistent, on the same images, and whether the difference is real."""
    from torchvice.commands.compare import compare_paths
    from torchvice.commands.draw import draw_comparison
    from torchvice.files import write_json

    found = compare_paths(runs, split, groups=group, quality=quality, replicates=replicates, seed=seed)
    print_comparison(found)
    written: list[Path] = []
    if json:
        written.append(write_json(json, found.to_json()))
    if not no_figures:
        draw_comparison(found, figures)
        written.append(figures)
    if written:
        say("Written: " + ", ".join(map(str, written)))
