"""The commands that print numbers: `vice evaluate` (step 3, maps of any tool), `measure`, `compare` and `table`."""

from __future__ import annotations

import functools
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.explain import OneProtocol
from torchvice.cli.tables import print_all, print_comparison, print_measures
from torchvice.cli.terminal import given, number, progress_bar, say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.commands.measure import Measured

__all__ = ["compare", "evaluate", "measure", "table"]


class PredictionType(StrEnum):
    """What the predictions are."""

    npy = "npy"
    npz = "npz"
    png = "png"


class TableFormat(StrEnum):
    """How a table is written."""

    markdown = "markdown"
    latex = "latex"
    csv = "csv"


class Condition(StrEnum):
    """What a check for continuous integration fails on."""

    shortcut = "shortcut"


statistics_option = functools.partial(typer.Option, rich_help_panel="Statistics")
output_option = functools.partial(typer.Option, rich_help_panel="Output")
QUALITY = statistics_option(
    "ji",
    "--quality",
    help="Quality of a map: ji, soft_iou, pointing, energy, precision, recall, otsu, box_iou, insertion, deletion or "
    "road.",
)
SEED = statistics_option(0, "--seed", min=0, help="Seed of the bootstrap.")
JSON = output_option(None, "--json", help="Write the numbers to this file, too.")


def evaluate(
    image_list: Path = typer.Option(..., "--list", help="List of image names, one per line."),
    predictions: Path = typer.Option(..., "--predictions", help="Folder of NAME.npy, NAME.npz or NAME.png."),
    ground_truth: Path = typer.Option(..., "--ground-truth", help="Folder of the masks, NAME.png."),
    kind: PredictionType = typer.Option(
        ..., "--type", help="npy: the original's dictionaries; npz: keys and maps; png: label maps."
    ),
    threshold: float | None = typer.Option(None, "--threshold", help="One background threshold, in [0, 1]."),
    curve: bool = typer.Option(False, "--curve", help="Use the 60 thresholds 0.00 to 0.59, in one pass."),
    classes: int | None = typer.Option(
        None,
        "--classes",
        min=1,
        help="Number of object classes, without background. Default: those of classes.txt or dataset.yaml next to the "
        "folder of masks, else VOC's 20.",
    ),
    protocol: OneProtocol = typer.Option(
        OneProtocol.paper, "--protocol", help="paper: a class that never occurs counts 0; strict: it is left out."
    ),
    processes: int | None = typer.Option(
        None, "--processes", "--workers", min=1, help="Number of processes. Default: one per core."
    ),
    json: Path | None = JSON,
) -> None:
    """Step 3: score maps made by any tool against masks, in one exact pass over the files."""
    from torchvice.commands.evaluate import evaluate as evaluate_files
    from torchvice.files import check_writable, write_json
    from torchvice.metrics.overlap import PAPER_THRESHOLDS

    if kind is PredictionType.png:
        if threshold is not None or curve:
            raise ViceError("Label maps have no threshold, but --threshold or --curve is given.", "Leave it out.")
    elif (threshold is None) == (not curve):
        came = "both are" if curve else "neither is"
        raise ViceError(f"Either --threshold T or --curve must be given, but {came}.", "To see all 60: --curve.")
    check_writable(json, "--json", "evaluation.json")
    with progress_bar("images") as progress:
        found = evaluate_files(
            image_list,
            predictions,
            ground_truth,
            kind=kind.value,
            num_classes=classes,
            thresholds=PAPER_THRESHOLDS if threshold is None else [threshold],
            protocol=protocol.value,
            workers=processes,
            progress=progress,
        )
    content = found.to_json()
    _print_curve(content, protocol.value)
    if json:
        write_json(json, content)


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
        say(f"{len(never)} of {len(classes)} classes have an IoU of 0{more}. Fewer classes? Give --classes.")
    if content["nan_images"]:
        say(f"{content['nan_images']} images have NaN in a map: such pixels count as its class at every threshold.")
    if content["outside_images"]:
        say(f"{content['outside_images']} images have a map with values outside [0, 1], where the thresholds are.")
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
    context: typer.Context,
    path: Path = typer.Argument(..., help="A RUN, the folder of a table, or a .csv of the original implementation."),
    split: str | None = typer.Option(None, "--split", help="Split of a RUN that was assessed on several."),
    everything: bool = typer.Option(False, "--all", help="Print all numbers."),
    fail_under: list[str] = typer.Option(
        [], "--fail-under", help="MEASURE=VALUE, such as vice=0.3: exit status 1 if it is lower. Repeatable."
    ),
    fail_if: Condition | None = typer.Option(
        None, "--fail-if", help="shortcut: exit status 1 if a class stands out, or if none could be tested."
    ),
    quality: str = QUALITY,
    calibrate_on: str | None = statistics_option(
        None, "--calibrate-on", help="Split of the RUN, or folder of a table, to fit temperatures on."
    ),
    replicates: int = statistics_option(
        2000, "--replicates", min=0, help="Number of bootstrap replicates over images, 100 or more; 0: no intervals."
    ),
    seed: int = SEED,
    classes: int | None = statistics_option(
        None, "--classes", min=1, help="Number of object classes of a CSV. Default: VOC's 20, if the twentieth occurs."
    ),
    json: Path | None = JSON,
    _: bool = output_option(
        False, "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of measures.json."
    ),
    write_csv: Path | None = output_option(None, "--write-csv", help="Write the original's table of samples."),
    figures: Path | None = output_option(
        None, "--figures", help="Folder of the diagrams. Default: figures/ in the RUN, or next to the table of a split."
    ),
    no_figures: bool = output_option(False, "--no-figures", help="Write no diagrams."),
    log: list[str] = output_option(
        [], "--log", help="Give the numbers to csv, tensorboard, wandb, mlflow or comet. Repeatable."
    ),
    title: str | None = output_option(None, "--title", help="Title of the diagrams. Default: the run's name."),
) -> None:
    """Step 5: VICE, ECE-ML and every other number with its interval, under both protocols, with the diagrams."""
    from torchvice.commands.log import check_log, log_measured
    from torchvice.commands.measure import measure_path, read_limits, shortcut_sentences

    _check_outputs(json, figures, no_figures, write_csv)
    limits = read_limits(fail_under)
    if log:
        check_log(path, log)
    statistics = given(context, quality=quality, replicates=replicates, seed=seed)
    measured = measure_path(path, split, classes, **statistics, calibrate_on=calibrate_on)
    print_measures(measured.measures, title or measured.title)
    if everything:
        print_all(measured.measures)
    else:
        say("More numbers: --all.")
    written = _write(measured, quality, json, write_csv)
    if not no_figures:
        written.append(_draw(measured, figures, title))
    if log:
        log_measured(measured, log)
        written.append(measured.home / "logs")
    say("Written: " + ", ".join(map(str, written)) if written else "Nothing was written.")
    _fail(limits(measured.measures) + (shortcut_sentences(measured.measures) if fail_if else []))


def _fail(sentences: list[str]) -> None:
    """Print why the measures fail, if they do, and exit with status 1."""
    for sentence in sentences:
        say(sentence)
    if sentences:
        raise typer.Exit(1)


def _write(measured: Measured, quality: str, json: Path | None, write_csv: Path | None) -> list[Path]:
    """Write the numbers, and the original's table if asked for; returns the files."""
    from torchvice.commands.measure import kept_because, measures_file, write_legacy_table, write_measures

    targets, kept = [json] if json else [], ""
    if measured.samples is not None and not (json and not os.access(measured.home, os.W_OK)):
        own = measures_file(measured.home, quality)
        better = kept_because(measured.measures, own) if own not in targets else ""
        if better:
            other = own.with_name(f"{own.stem}_latest.json")
            kept, own = f"Kept {own}: {better}. These numbers are in {other.name}.", other
        targets.append(own)
    written = [write_measures(measured.measures, target) for target in targets]
    if kept:
        say(kept)
    return [*written, write_legacy_table(measured, write_csv)] if write_csv else written


def _check_outputs(
    json: Path | None,
    figures: Path | None,
    no_figures: bool,
    write_csv: Path | None = None,
    name: str = "measures.json",
) -> None:
    """Check before the work that what is asked for can be written."""
    from torchvice.files import check_writable

    if figures and no_figures:
        raise ViceError("--figures and --no-figures exclude each other, but both are given.", "Leave one out.")
    check_writable(json, "--json", name)
    check_writable(write_csv, "--write-csv", "samples.csv")
    check_writable(figures, "--figures", folder=True)


def _draw(measured: Measured, figures: Path | None, title: str | None) -> Path:
    from torchvice.commands.draw import draw_all

    home = measured.home
    folder = figures or (home / "figures" if measured.samples is not None else Path(f"{home}_figures"))
    draw_all(measured, folder, measured.title if title is None else title, tell=say)
    return folder


def compare(
    runs: list[Path] = typer.Argument(..., help="Two or more RUNs or folders of tables."),
    split: str | None = typer.Option(None, "--split", help="Split of RUNs that were assessed on several."),
    group: list[str] = typer.Option(
        [], "--group", help="NAME=RUN,RUN,RUN: the seeds of one recipe, by their names. Repeatable."
    ),
    quality: str = QUALITY,
    replicates: int = statistics_option(
        2000, "--replicates", min=100, help="Number of bootstrap replicates over images."
    ),
    seed: int = SEED,
    json: Path | None = JSON,
    figures: Path | None = output_option(
        None, "--figures", help="Folder of the diagram. Default: comparison in this folder."
    ),
    no_figures: bool = output_option(False, "--no-figures", help="Write no diagram."),
) -> None:
    """Which model is more consistent, on the same images, and whether the difference is real."""
    from torchvice.commands.compare import compare_paths
    from torchvice.commands.draw import draw_comparison
    from torchvice.files import write_json

    _check_outputs(json, figures, no_figures, name="comparison.json")
    found = compare_paths(runs, split, groups=group, quality=quality, replicates=replicates, seed=seed)
    print_comparison(found)
    written: list[Path] = []
    if json:
        written.append(write_json(json, found.to_json()))
    if not no_figures:
        folder = figures or Path("comparison")
        draw_comparison(found, folder, tell=say)
        written.append(folder)
    if written:
        say("Written: " + ", ".join(map(str, written)))


def table(
    paths: list[Path] = typer.Argument(..., help="RUNs or folders of tables: models by measures; one: its methods."),
    table_format: TableFormat | None = output_option(
        None,
        "--format",
        help="markdown, latex (with booktabs) or csv (full precision). Default: as --out ends, else markdown.",
    ),
    out: Path | None = output_option(None, "--out", help="File to write. Default: the terminal."),
    split: str | None = typer.Option(None, "--split", help="Split of RUNs that were assessed on several."),
    quality: str = QUALITY,
    replicates: int = statistics_option(
        2000, "--replicates", min=100, help="Number of bootstrap replicates over images."
    ),
    seed: int = SEED,
) -> None:
    """A table for a paper: models by measures, the best in bold where established; or the methods of one model."""
    from torchvice.commands.result_table import result_table_of
    from torchvice.files import write_text

    form = _format_of(table_format, out)
    found = result_table_of(paths, split, quality=quality, replicates=replicates, seed=seed)
    text = {"markdown": found.to_markdown, "latex": found.to_latex, "csv": found.to_csv}[form.value]()
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        say(f"Written: {out}")


_ENDINGS = {".md": TableFormat.markdown, ".tex": TableFormat.latex, ".csv": TableFormat.csv}


def _format_of(asked: TableFormat | None, out: Path | None) -> TableFormat:
    """The format of a table: as asked, or as the file to write ends; it must not end as another format."""
    from torchvice.files import check_writable

    check_writable(out, "--out", "table.md")
    suffix = "" if out is None else out.suffix.lower()
    by_suffix = _ENDINGS.get(suffix)
    if asked is None and by_suffix is None and suffix not in ("", ".txt"):
        raise ViceError(f"--out must end in .md, .tex or .csv, but is {out}.", "Give one of them, or say the --format.")
    if asked is not None and by_suffix not in (None, asked):
        raise ViceError(
            f"--format is {asked.value}, but --out {out} ends as {by_suffix}.",
            "Leave --format out, or rename the file.",
        )
    return asked or by_suffix or TableFormat.markdown
