"""Steps 1 to 4: `vice train`, `explain`, `assess`, and `demo`, which does all five."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.tables import print_measures
from torchvice.cli.terminal import print_methods, progress_bar, say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.runs.subject import Subject

__all__ = ["assess", "demo", "explain", "pretrain", "train"]


class MapFormat(StrEnum):
    """How maps are kept as files."""

    npz = "npz"
    legacy = "legacy"


class ProtocolChoice(StrEnum):
    """One protocol, or both side by side."""

    paper = "paper"
    strict = "strict"
    both = "both"


class Targets(StrEnum):
    """How many labels an image has."""

    multilabel = "multilabel"
    exclusive = "exclusive"


class Controls(StrEnum):
    """Which controls are assessed beside the maps of strict."""

    all = "all"
    cheap = "cheap"
    none = "none"


class OneProtocol(StrEnum):
    """One protocol."""

    paper = "paper"
    strict = "strict"


DEVICE = typer.Option("auto", "--device", help="auto (CUDA where there is one), cpu, cuda, cuda:1, mps.")
METHOD = typer.Option("auto", "--method", help="auto, or one of vice explain --list-methods.")
LAYER = typer.Option(None, "--layer", help="A module of the model, if not the one that its family names.")
CHOICE = typer.Option(
    [],
    "--choice",
    help="How strict makes its maps: labels=predicted, scales=0.5,1, mirror=true, view=whole, normalisation=minmax, "
    "order=normalise-first, combine=sum, eigen_smooth=true, layers=layer3,layer4, aug_smooth=true; may come several "
    "times.",
)
CHECKPOINT = typer.Option("best", "--checkpoint", help="best, last, or a file.")


def train(
    preset: str = typer.Argument(..., help="A preset (demo, resnet50, vision_transformer) or a YAML file."),
    override: list[str] = typer.Option(
        [], "--override", "-o", help="A setting, such as optimizer.lr=0.01; may come several times."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run's last checkpoint."),
) -> None:
    """Step 1: train a timm network on a multi-label dataset."""
    from torchvice.config import load_settings
    from torchvice.training.run import train as train_run

    run = train_run(load_settings(preset, override), resume=resume)
    say(f"{run.folder}: trained. Next: vice assess {run.folder}")


def pretrain(
    preset: str = typer.Argument(..., help="A preset (demo, resnet50, vision_transformer) or a YAML file."),
    scheme: str = typer.Option(..., "--scheme", help="byol, moco_v3, dino, or, for transformers, mae."),
    override: list[str] = typer.Option(
        [], "--override", "-o", help="A setting, such as trainer.epochs=100; may come several times."
    ),
    choice: list[str] = typer.Option(
        [], "--choice", help="A number of the scheme, such as momentum=0.99 or lr=0.1; may come several times."
    ),
    out: Path | None = typer.Option(None, "--out", help="The folder; else work_dir/session_name-SCHEME."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the last checkpoint."),
) -> None:
    """Before step 1: let a network learn from the images alone, without labels; gives a file to start from."""
    from torchvice.config import load_settings
    from torchvice.training.pretrain import pretrain as pretrain_network

    weights = pretrain_network(load_settings(preset, override), scheme, choice, folder=out, resume=resume)
    say(f"{weights}: pre-trained. Next: vice train {preset} -o model.weights={weights}")


def _list_methods(wanted: bool) -> None:
    if wanted:
        from torchvice.explain import METHODS

        print_methods(METHODS.values())
        raise typer.Exit


def explain(
    run: Path = typer.Argument(..., help="A RUN: the folder that vice train made."),
    maps: Path = typer.Option(..., "--maps", help="Folder of the maps."),
    file_format: MapFormat = typer.Option(
        MapFormat.npz, "--format", help="npz: compact; legacy: the original's .npy dictionaries."
    ),
    protocol: OneProtocol = typer.Option(OneProtocol.paper, "--protocol", help="Whose view and normalisation."),
    split: str | None = typer.Option(None, "--split", help="The list of images; else the one the run measures."),
    method: str = METHOD,
    layer: str | None = LAYER,
    choice: list[str] = CHOICE,
    checkpoint: str = CHECKPOINT,
    device: str = DEVICE,
    _: bool = typer.Option(
        False, "--list-methods", callback=_list_methods, is_eager=True, help="Every method: what it needs, its paper."
    ),
) -> None:
    """Step 2 as files: the maps of every image's true classes, for who wants them."""
    from torchvice.commands.assess import check_names
    from torchvice.commands.explain import explain_subject
    from torchvice.runs import Run
    from torchvice.runs.subject import run_subject

    check_names(method, layer, choice, device, (protocol.value,))
    subject = run_subject(Run(run), split, checkpoint)
    with progress_bar("maps") as progress:
        count = explain_subject(
            subject,
            maps,
            protocol=protocol.value,
            file_format=file_format.value,
            method=method,
            layer=layer,
            choices=choice,
            device=device,
            progress=progress,
            passes=progress.passes,
        )
    there = len(subject.dataset) - count
    say(f"{maps}: {count} files written" + (f", {there} were there already." if there else "."))


def assess(
    run: Path | None = typer.Argument(None, help="A RUN; or leave it out and give --model, --weights and --data."),
    model: str | None = typer.Option(None, "--model", help="timm's name of a network that torchvice did not train."),
    weights: Path | None = typer.Option(None, "--weights", help="Its weights, a local file."),
    data: Path | None = typer.Option(None, "--data", help="A dataset in the layout of VOC 2012."),
    class_map: Path | None = typer.Option(
        None, "--class-map", help="JSON or YAML: {class of the data: output, or list of outputs, of the model}."
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder of the table; a RUN has its own."),
    split: str | None = typer.Option(None, "--split", help="The list of images; else val, or what the run measures."),
    protocol: ProtocolChoice = typer.Option(ProtocolChoice.both, "--protocol", help="paper, strict or both."),
    method: str = METHOD,
    layer: str | None = LAYER,
    choice: list[str] = CHOICE,
    checkpoint: str = CHECKPOINT,
    view_size: int | None = typer.Option(None, "--view-size", min=1, help="Side of strict's view, pixels."),
    crop: int | None = typer.Option(None, "--crop", min=1, help="Side of paper's centre crop, pixels."),
    controls: Controls | None = typer.Option(
        None,
        "--controls",
        help="Beside strict's maps: cheap (random, center, foreground, shuffled), all (random_weights too), none. "
        "Default: all; of a table that is begun already, those that it has.",
    ),
    also: list[str] = typer.Option(
        [],
        "--also",
        help="A further explanation of strict's view: a method, mirror, scale0.75, predicted; may come several times, "
        "and later.",
    ),
    faithfulness: str = typer.Option(
        "",
        "--faithfulness",
        help="insertion, deletion, road, with commas between: whether the maps' pixels are what the model goes by; 100 "
        "passes and more an image, may be asked for later. Settings among them: steps=20, orders=3, canvas=blur, "
        "blank=mean, shares=0.2+0.4+0.6+0.8, noise=0.01, seed=0.",
    ),
    targets: Targets | None = typer.Option(
        None, "--targets", help="multilabel, or exclusive: one label an image, cross-entropy and top-1 in strict."
    ),
    batch_size: int | None = typer.Option(None, "--batch-size", min=1, help="Images a forward pass."),
    workers: int = typer.Option(2, "--workers", min=0, help="Threads that read images ahead."),
    device: str = DEVICE,
    processes: int = typer.Option(1, "--processes", min=1, help="Of this machine, that share the images."),
    shard: str | None = typer.Option(
        None,
        "--shard",
        help="I/N: of N processes that share the images the I-th; torchrun's and SLURM's are recognised.",
    ),
) -> None:
    """Steps 2 to 4 in one pass: logits, maps and their overlap with the masks, as a table. A killed run goes on."""
    import dataclasses

    from torchvice.commands.assess import assess_subject, check_names

    protocols = ("paper", "strict") if protocol == ProtocolChoice.both else (protocol.value,)
    asked: dict[str, Any] = {"method": method, "layer": layer, "choices": choice, "device": device}
    asked |= {"protocols": protocols, "controls": _controls(controls), "also": also}
    asked["faithfulness"] = [text.strip() for text in faithfulness.split(",") if text.strip()]
    check_names(**asked)
    part = _part(processes, shard)
    subject = _subject(run, model, weights, data, class_map, out, split, checkpoint)
    chosen: dict[str, Any] = {"view_size": view_size, "crop": crop, "batch_size": batch_size, "out": out}
    subject = dataclasses.replace(subject, **{name: value for name, value in chosen.items() if value is not None})
    say(f"Labels: {subject.dataset.label_source}; masks: {subject.dataset.mask_source}.")
    if subject.dataset.regions == "boxes":
        say(f"Objects lie in their boxes (Annotations); {subject.dataset.regions_missing} images have none.")
    elif subject.dataset.masks_missing:
        say(f"{subject.dataset.masks_missing} images have no mask: they count for calibration, not for VICE.")
    with progress_bar("views") as progress:
        assess_subject(
            subject,
            workers=workers,
            targets=None if targets is None else targets.value,
            part=part,
            progress=progress,
            passes=progress.passes,
            **asked,
        )
    say(f"{subject.out}: {len(subject.dataset)} images assessed. Next: vice measure {out or run or subject.out}")


def _part(processes: int, shard: str | None) -> Any:
    """This process's part; where several are asked for they come first, and this one finishes what they left."""
    from torchvice.assessment.parts import WHOLE, Part, detected_part, in_processes

    if shard is not None:
        return Part.parse(shard)
    if processes == 1:
        return detected_part() or WHOLE
    for sentence in in_processes([sys.executable, "-m", "torchvice.cli", *sys.argv[1:]], processes):
        say(sentence)
    return WHOLE


def _controls(chosen: Controls | None) -> Any:
    """The names that assess takes; None leaves the choice to it."""
    from torchvice.assessment.checks import NAMED_CONTROLS

    return None if chosen is None else NAMED_CONTROLS[chosen.value]


def _subject(
    run: Path | None,
    model: str | None,
    weights: Path | None,
    data: Path | None,
    class_map: Path | None,
    out: Path | None,
    split: str | None,
    checkpoint: str,
) -> Subject:
    from torchvice.runs.subject import foreign_subject, run_subject

    if run is not None:
        given = {"--model": model, "--weights": weights, "--data": data, "--class-map": class_map}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise ViceError(f"A RUN has its own model and data, but {extra[0]} is given too.", "Leave one of them out.")
        from torchvice.runs import Run

        return run_subject(Run(run), split, checkpoint)
    if model is None or weights is None or data is None:
        raise ViceError(
            "A RUN is assessed, or --model, --weights and --data together, but one of the three is missing."
        )
    from torchvice.data import open_dataset

    dataset = open_dataset(data, split or "val")
    folder = out or Path("runs") / f"{model}_{weights.stem}" / "assess" / dataset.split
    return foreign_subject(model, weights, dataset, folder, class_map)


def demo(
    out: Path = typer.Option(Path("runs/demo"), "--out", help="Folder of the run; the dataset goes to data/."),
    shortcut: int | None = typer.Option(None, "--shortcut", min=0, max=9, help="A digit with a tell-tale stripe."),
    override: list[str] = typer.Option([], "--override", "-o", help="A setting, such as trainer.epochs=2."),
) -> None:
    """All five steps on the embedded dataset: data, training, maps, table, numbers and pictures."""
    from torchvice.commands.demo import run_demo

    found = run_demo(out, shortcut=shortcut, overrides=override, say=say, progress_bar=progress_bar)
    print_measures(found.measures, found.title)
    for sentence in found.sentences:
        say(sentence)
