"""`vice assess`: a run, or weights from elsewhere, over a dataset."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.explain import CHECKPOINT, CHOICE, DEVICE, LAYER, METHOD, SPLIT, maps_option, performance_option
from torchvice.cli.folders import CLASSES, COCO, IMAGES, MASKS, image_arguments, opened_data
from torchvice.cli.foreign_maps import MAPS, SCORES, assess_foreign
from torchvice.cli.plugins import PLUGIN, load_plugins
from torchvice.cli.terminal import progress_bar, say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import Extras, MapKeywords, MapSettings, Part
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject

__all__ = ["assess"]


class ProtocolChoice(StrEnum):
    """One protocol, or both."""

    paper = "paper"
    strict = "strict"
    both = "both"

    @property
    def protocols(self) -> Any:
        """The protocols of the choice."""
        return ("paper", "strict") if self == ProtocolChoice.both else (self.value,)


class Targets(StrEnum):
    """How many labels an image has."""

    multilabel = "multilabel"
    exclusive = "exclusive"


class OutputsChoice(StrEnum):
    """What a model gives; the logits of probabilities are taken."""

    logits = "logits"
    probabilities = "probabilities"


class Controls(StrEnum):
    """The sets of controls, see `torchvice.assessment.controls.CONTROL_SETS`."""

    all = "all"
    cheap = "cheap"
    none = "none"


extras_option = functools.partial(typer.Option, rich_help_panel="Explanations in addition")

RUN = typer.Argument(None, help="Run folder. Without it, give --model, --weights and --data.")
MODEL = typer.Option(
    None,
    "--model",
    help="A network that torchvice did not train: name in timm, torchvision:NAME, transformers:FOLDER, open_clip:NAME, "
    "hf-hub:ORG/NAME (from the local cache), or a function that returns it: FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION.",
)
WEIGHTS = typer.Option(
    None, "--weights", help="Local file with the weights of --model. Not needed where a function or folder has them."
)
WEIGHTS_KEY = typer.Option(
    None, "--weights-key", help="Which of several sets of weights in --weights, such as model_ema."
)
ARGUMENT = typer.Option(
    [], "--argument", help="Argument of --model, as for timm.create_model or its function: img_size=384. Repeatable."
)
PROMPTS = typer.Option(
    None,
    "--prompts",
    help="YAML file with the prompts of a zero-shot classifier: for each class its prompt or prompts, or `templates` "
    "such as [a photo of a {}.], where {} stands for the class. Default: this template.",
)
DATA = typer.Option(None, "--data", help="Dataset for --model, in the layout of VOC 2012.")
CLASS_MAP = typer.Option(
    None,
    "--class-map",
    help="JSON or YAML file: for each class of --data, outputs of --model. Or imagenet-voc, imagenet-coco. Classes "
    "that it leaves out are not asked for.",
)
TARGETS = typer.Option(None, "--targets", help="Labels per image: several, or one (exclusive; softmax in strict).")
PROTOCOL = typer.Option(ProtocolChoice.both, "--protocol", help="Protocols to assess.")
MEAN = maps_option(
    None, "--mean", help="Mean of the channels of images on [0, 1]: 0.5,0.5,0.5. Default: the network's."
)
STD = maps_option(None, "--std", help="Standard deviation of the channels, as for --mean.")
OUTPUT = maps_option(
    None, "--output", help="Which of several outputs of --model are the logits: key, field or number in a tuple."
)
OUTPUTS = maps_option(None, "--outputs", help="What the model gives. Default: logits; probabilities are refused.")
VIEW_SIZE = maps_option(None, "--view-size", min=1, help="Side of strict's square view, in pixels.")
CROP = maps_option(None, "--crop", min=1, help="Side of paper's centre crop, in pixels.")
CONTROLS = extras_option(
    None,
    "--controls",
    help="Controls for strict: cheap (random, center, foreground, shuffled), all (and random_weights) or none. "
    "Default: all in a new table, else those of the table.",
)
ALSO = extras_option(
    [],
    "--also",
    help="Further explanation for strict: a method, mirror, scale0.75 or predicted. Repeatable; can be added later.",
)
FAITHFULNESS = extras_option(
    "",
    "--faithfulness",
    help="Measures of whether the model relies on the pixels that a map marks: insertion, deletion, road, separated by "
    "commas. Costs 100 passes or more per image; can be added later. Settings in the same list: steps=20, orders=3, "
    "canvas=blur, blank=mean, shares=0.2+0.4+0.6+0.8, noise=0.01, seed=0.",
)
WITHOUT = extras_option(
    None,
    "--without",
    help="What of each image is replaced to see whether its labels are still found: object, background, patch (where "
    "the map peaks outside the object), noise, separated by commas, or none. Default: object,background,patch in a "
    "new table, else those of the table; can be added later. Settings in the same list: filling=blur (or mean, noise, "
    "background), dilation=5, sigma=0.25, seed=0.",
)
BATCH_SIZE = performance_option(None, "--batch-size", min=1, help="Images per forward pass.")
WORKERS = performance_option(2, "--workers", min=0, help="Number of threads that read images ahead.")
PROCESSES = performance_option(1, "--processes", min=1, help="Number of local processes that share the images.")
SHARD = performance_option(None, "--shard", help="Share of this process, I/N. Detected under torchrun and SLURM.")
OUT = typer.Option(None, "--out", rich_help_panel="Output", help="Folder of the table. Default: in the run folder.")


def assess(
    context: typer.Context,
    run: Path | None = RUN,
    model: str | None = MODEL,
    weights: Path | None = WEIGHTS,
    weights_key: str | None = WEIGHTS_KEY,
    argument: list[str] = ARGUMENT,
    prompts: Path | None = PROMPTS,
    data: Path | None = DATA,
    images: Path | None = IMAGES,
    masks: Path | None = MASKS,
    coco: Path | None = COCO,
    classes: str | None = CLASSES,
    class_map: str | None = CLASS_MAP,
    maps: Path | None = MAPS,
    scores: Path | None = SCORES,
    split: str | None = SPLIT,
    checkpoint: str = CHECKPOINT,
    targets: Targets | None = TARGETS,
    protocol: ProtocolChoice = PROTOCOL,
    method: str = METHOD,
    plugin: list[Path] = PLUGIN,
    layer: str | None = LAYER,
    choice: list[str] = CHOICE,
    view_size: int | None = VIEW_SIZE,
    crop: int | None = CROP,
    mean: str | None = MEAN,
    std: str | None = STD,
    output: str | None = OUTPUT,
    outputs: OutputsChoice | None = OUTPUTS,
    controls: Controls | None = CONTROLS,
    also: list[str] = ALSO,
    faithfulness: str = FAITHFULNESS,
    without: str | None = WITHOUT,
    batch_size: int | None = BATCH_SIZE,
    workers: int = WORKERS,
    device: str = DEVICE,
    processes: int = PROCESSES,
    shard: str | None = SHARD,
    out: Path | None = OUT,
) -> None:
    """Steps 2 to 4: logits, maps and their overlap with the masks, as a table. A killed run resumes."""
    load_plugins(plugin)
    extras = _extras(controls, also, faithfulness, without)
    if maps is not None or scores is not None:
        assess_foreign(context.params, extras.controls, _part(processes, shard), _say_data)
    else:
        _assess_network(context.params, extras)


def _assess_network(chosen: Mapping[str, Any], extras: Extras) -> None:
    """Assess a run, or a network of the user's; `chosen` are the values of the command's options by their names."""
    from torchvice.assessment.request import check_request
    from torchvice.commands.assess import assess_subject

    settings = _map_settings(chosen)
    check_request(chosen["protocol"].protocols, extras)
    given = {f"--{name.replace('_', '-')}": chosen[name] for name in ("model", "weights", "data", "class_map")}
    given |= {"--argument": _arguments(chosen["argument"]), "--weights-key": chosen["weights_key"]}
    given["--prompts"] = chosen["prompts"]
    run, out, data = chosen["run"], chosen["out"], chosen["data"]
    images, masks, coco, classes = (chosen[name] for name in ("images", "masks", "coco", "classes"))
    folders = image_arguments(images, masks, coco, classes, f"--data {data}" if data else run)
    given["--data"] = data or images
    part = _part(chosen["processes"], chosen["shard"])
    subject = _subject(run, given, chosen["split"], chosen["checkpoint"], settings, out, folders)
    _say_data(subject.dataset)
    for note in subject.notes:
        say(note)
    request = {"protocols": chosen["protocol"].protocols, "extras": extras, "targets": _value(chosen["targets"])}
    request |= {"workers": chosen["workers"], "part": part}
    with progress_bar("views") as bar:
        assess_subject(subject, **request, progress=bar, passes=bar.passes)
    say(f"{subject.out}: {len(subject.dataset)} images assessed. Next: vice measure {out or _measured(subject, run)}")


def _map_settings(chosen: Mapping[str, Any]) -> MapSettings:
    """How maps are made, by the values of the options."""
    from torchvice.assessment import MapSettings
    from torchvice.explain import Choices

    shown: MapKeywords = {name: _channels(f"--{name}", chosen[name]) for name in ("mean", "std")}  # type: ignore[assignment]
    shown |= {name: chosen[name] for name in ("view_size", "crop", "batch_size", "output")}  # type: ignore[typeddict-item]
    choices, outputs = Choices.parse(chosen["choice"]), _value(chosen["outputs"])
    settings = MapSettings(chosen["method"], chosen["layer"], choices=choices, device=chosen["device"], outputs=outputs)
    return settings.completed(**shown)


def _measured(subject: Subject, run: Path | None) -> Path:
    """What `vice measure` takes: the run, if it finds this table there, else the table."""
    from torchvice.runs import Run

    return subject.out if run is None or subject.out != Run(run).assess_dir() else run


def _extras(controls: Controls | None, also: list[str], faithfulness: str, without: str | None) -> Extras:
    """What is made in addition; controls are None and interventions "auto" where the option was not given."""
    from torchvice.assessment import Extras
    from torchvice.assessment.controls import CONTROL_SETS

    names = None if controls is None else CONTROL_SETS[controls.value]
    return Extras.of(names, also, _listed(faithfulness), "auto" if without is None else _listed(without))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _value(choice: StrEnum | None) -> Any:
    """The word of a choice, None where it was not made."""
    return choice and choice.value


def _arguments(texts: list[str]) -> dict[str, Any] | None:
    """The values of NAME=VALUE, read as YAML; None without any."""
    from torchvice.files import parse_yaml

    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ViceError(f"--argument must be NAME=VALUE, but is {text!r}.", "For example --argument img_size=384.")
        if name in values:
            raise ViceError(f"--argument {name} must be given once, but is given twice.")
        values[name] = parse_yaml(value, f"--argument {name}")
    return values or None


def _channels(option: str, text: str | None) -> list[float] | None:
    """The numbers of an option, separated by commas."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ViceError(
            f"{option} must be numbers separated by commas, such as 0.5,0.5,0.5, but is {text!r}."
        ) from None


def _part(processes: int, shard: str | None) -> Part:
    """This process's share; with several `processes` they run first, and this one finishes what they left."""
    from torchvice.assessment.parts import WHOLE, Part, detected_part, in_processes

    if shard is not None and processes > 1:
        raise ViceError("--shard and --processes exclude each other, but both are given.")
    if shard is not None:
        return Part.parse(shard)
    if processes == 1:
        return detected_part() or WHOLE
    for sentence in in_processes([sys.executable, "-m", "torchvice.cli", *sys.argv[1:]], processes):
        say(sentence)
    return WHOLE


def _subject(
    run: Path | None,
    given: dict[str, Any],
    split: str | None,
    checkpoint: str,
    settings: MapSettings,
    out: Path | None,
    folders: dict[str, Any],
) -> Subject:
    """The run, or the model that the options in `given` describe; `folders` of images without lists."""
    from torchvice.runs.subject import subject_from_run, subject_from_weights

    if run is not None:
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise ViceError(f"A run folder has its own model and data, but {extra[0]} is given too.", "Remove one.")
        from torchvice.runs import Run

        subject = subject_from_run(Run(run), split, checkpoint, settings)
        return subject if out is None else dataclasses.replace(subject, out=out)
    if checkpoint != "best":
        raise ViceError("--checkpoint names a checkpoint of a run folder, but none is given.", "Give --weights FILE.")
    names = ("--class-map", "--argument", "--weights-key", "--prompts")
    class_map, arguments, key, prompts = (given.pop(name) for name in names)
    from torchvice.models.named import WITH_WEIGHTS, source_of

    model, weights, data = given.values()
    own = model is not None and source_of(model)[0] in WITH_WEIGHTS
    missing = [name for name, value in given.items() if value is None and not (own and name == "--weights")]
    if missing:
        message = f"Give a run folder, or --model, --weights and --data. Missing: {', '.join(missing)}."
        raise ViceError(
            message, "Images without lists: --images DIR in place of --data." if "--data" in missing else ""
        )
    dataset = opened_data(folders, data, split)
    return subject_from_weights(model, weights, dataset, out, class_map, settings, arguments, key, prompts)


def _say_data(dataset: FolderDataset) -> None:
    say(f"Labels: {dataset.label_source}; masks: {dataset.mask_source}.")
    for note in dataset.notes:
        say(note)
    if left_out := [name for name in getattr(dataset, "all_classes", ()) if name not in dataset.classes]:
        say(f"Classes that the class map leaves out, and that are not asked for: {', '.join(left_out)}.")
    if dataset.regions == "boxes":
        say(f"Objects are the boxes in Annotations; {dataset.regions_missing} images have none.")
    elif dataset.masks_missing:
        say(f"{dataset.masks_missing} images have no mask: they count for calibration, not for VICE.")
