"""The options that name a network, its data and how its maps are made, and the subject that they choose.

`vice assess` and `vice explain` share them, so that both take the same networks and data and refuse the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.folders import image_arguments, opened_data
from torchvice.cli.terminal import say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import MapKeywords, MapSettings
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject

__all__ = [
    "ARGUMENT",
    "BATCH_SIZE",
    "CHANNELS_LAST",
    "CHECKPOINT",
    "CHOICE",
    "CLASS_MAP",
    "CROP",
    "DATA",
    "DEVICE",
    "INTERPOLATION",
    "LAYER",
    "MEAN",
    "METHOD",
    "MODEL",
    "OUTPUT",
    "OUTPUTS",
    "PRECISION",
    "PROMPTS",
    "RUN",
    "SPLIT",
    "STD",
    "TARGETS",
    "TRANSFORM",
    "VIEW_SIZE",
    "WEIGHTS",
    "WEIGHTS_KEY",
    "OutputsChoice",
    "PrecisionChoice",
    "Targets",
    "arguments_of",
    "choice_value",
    "chosen_settings",
    "chosen_subject",
    "maps_option",
    "performance_option",
    "say_data",
]

maps_option = functools.partial(typer.Option, rich_help_panel="Maps")
performance_option = functools.partial(typer.Option, rich_help_panel="Performance")

METHOD = maps_option("auto", "--method", help="Explanation method; vice explain --list-methods lists them.")
LAYER = maps_option(None, "--layer", help="Name of the module to explain. Default: by the network's family.")
CHOICE = maps_option(
    [],
    "--choice",
    help="How strict makes its maps: labels=predicted, scales=0.5,1, mirror=true, view=whole, normalisation=minmax, "
    "order=normalise-first, combine=sum, eigen_smooth=true, layers=layer3,layer4, aug_smooth=true. Repeatable.",
)
CHECKPOINT = typer.Option("best", "--checkpoint", help="Checkpoint of the run: best, last or a file.")
SPLIT = typer.Option(None, "--split", help="Split, or file with a list of images. Default: the run's, else val.")
DEVICE = performance_option("auto", "--device", help="Device: auto (CUDA if available), cpu, cuda, cuda:1 or mps.")


class Targets(StrEnum):
    """How many labels an image has."""

    multilabel = "multilabel"
    exclusive = "exclusive"


class OutputsChoice(StrEnum):
    """What a model gives; of probabilities the logits are taken, of a softmax's logits the log-odds."""

    logits = "logits"
    probabilities = "probabilities"
    softmax = "softmax"


class PrecisionChoice(StrEnum):
    """The number format in which a network runs; logits and maps are float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


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
    help="YAML file with the prompts of a zero-shot classifier: for each class its prompt or prompts, or a list "
    "`templates` of texts in which {} stands for the class. Default: a photo of a {}.",
)
DATA = typer.Option(
    None, "--data", help="Dataset in the layout of VOC 2012. Default: the run's. That of a run has the run's classes."
)
CLASS_MAP = typer.Option(
    None,
    "--class-map",
    help="JSON or YAML file: for each class of --data, outputs of --model. Or imagenet-voc, imagenet-coco, "
    "imagenet-wordnet (classes called by WordNet ids), imagenet-s. Classes that it leaves out are not asked for.",
)
TARGETS = typer.Option(None, "--targets", help="Labels per image: several, or one (exclusive; softmax in strict).")
MEAN = maps_option(
    None, "--mean", help="Mean of the channels of images on [0, 1]: 0.5,0.5,0.5. Default: the network's."
)
STD = maps_option(None, "--std", help="Standard deviation of the channels, as for --mean.")
INTERPOLATION = maps_option(
    None,
    "--interpolation",
    help="How strict resizes images: nearest, bilinear, bicubic or lanczos. Default: the run's, else bilinear.",
)
OUTPUT = maps_option(
    None, "--output", help="Which of several outputs of --model are the logits: key, field or number in a tuple."
)
OUTPUTS = maps_option(
    None,
    "--outputs",
    help="What the model gives: logits, probabilities, or softmax: logits of a softmax over all outputs, of which the "
    "log-odds of each class are taken. Default: logits, and softmax for CLIP or a class map of ImageNet's 1000 outputs "
    "on images of several labels; probabilities are refused.",
)
VIEW_SIZE = maps_option(None, "--view-size", min=1, help="Side of strict's square view, in pixels.")
TRANSFORM = maps_option(
    None,
    "--transform",
    help="Your own transform for strict, from a PIL image to (3, S, S): FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION. "
    "It is run, and takes the place of --view-size, --mean and --std.",
)
CROP = maps_option(None, "--crop", min=1, help="Side of paper's centre crop, in pixels.")
BATCH_SIZE = performance_option(None, "--batch-size", min=1, help="Images per forward pass.")
PRECISION = performance_option(
    None, "--precision", help="Number format in which the network runs. Default: that of its weights."
)
CHANNELS_LAST = performance_option(
    False, "--channels-last", help="Keep the channels of images last in memory, which convolutions on GPUs prefer."
)


def chosen_settings(chosen: Mapping[str, Any]) -> MapSettings:
    """How maps are made, by the values of the options."""
    from torchvice.assessment import MapSettings
    from torchvice.explain import Choices

    _check_sizes(chosen)
    shown: MapKeywords = {name: _channels(f"--{name}", chosen[name]) for name in ("mean", "std")}  # type: ignore[assignment]
    shown |= {name: chosen[name] for name in ("view_size", "crop", "batch_size", "output", "interpolation")}  # type: ignore[typeddict-item]
    choices, outputs = Choices.parse(chosen["choice"]), choice_value(chosen["outputs"])
    settings = MapSettings(chosen["method"], chosen["layer"], choices=choices, device=chosen["device"], outputs=outputs)
    settings = dataclasses.replace(
        settings.completed(**shown),
        precision=choice_value(chosen["precision"]),
        channels_last=chosen["channels_last"],
    )
    if chosen["transform"] is None:
        return settings
    from torchvice.assessment.input_transform import transform_named

    return dataclasses.replace(settings, transform=transform_named(chosen["transform"]))


def _check_sizes(chosen: Mapping[str, Any]) -> None:
    """Check that no option is given that only the other protocol uses; equal sizes may be given for both."""
    made = chosen["protocol"] or ("strict" if chosen["run"] is None else "paper")  # as `vice explain` chooses
    unused = {"paper": ("view_size", "interpolation"), "strict": ("crop",)}.get(str(made), ())
    given = [name for name in unused if chosen[name] is not None]
    if not given or (chosen["view_size"] is not None and chosen["view_size"] == chosen["crop"]):
        return
    option, other = f"--{given[0].replace('_', '-')}", "paper" if made == "strict" else "strict"
    instead = {"view_size": " For paper: --crop SIDE.", "crop": " For strict: --view-size SIDE."}.get(given[0], "")
    raise ViceError(
        f"{option} needs the protocol {other}, but only {made} is made.",
        f"Make the maps of {other} (--protocol {other}), or leave {option} out.{instead}",
    )


def chosen_subject(
    chosen: Mapping[str, Any], settings: MapSettings, out: Path | None, *, unlabelled: bool = False
) -> Subject:
    """The run, perhaps on other data of its classes, or the network and the data that the options name.

    Args:
        chosen: the values of the command's options by their parameters.
        settings: how maps are made.
        out: folder of the table; None: the run's, or in runs/.
        unlabelled: whether images without labels will do.

    Raises:
        ViceError: an option is missing, or two name the same thing; or as `opened_data`, `subject_from_run` and
            `subject_from_weights`.
    """
    from torchvice.runs import Run
    from torchvice.runs.subject import subject_from_run, subject_from_weights

    given = {f"--{name.replace('_', '-')}": chosen[name] for name in ("model", "weights", "data", "class_map")}
    given |= {"--argument": arguments_of(chosen["argument"]), "--weights-key": chosen["weights_key"]}
    given["--prompts"] = chosen["prompts"]
    run, data, split, started = chosen["run"], chosen["data"], chosen["split"], _started(chosen)
    folders = image_arguments(chosen, f"--data {data}" if data else run)
    given["--data"] = data or chosen["images"]
    if run is not None:
        given.pop("--data")  # of the run's classes, in the place of its own
        extra = [*(name for name, value in given.items() if value is not None), *([started] if started else [])]
        if extra:
            raise ViceError(f"A run folder has its own model and classes, but {extra[0]} is given too.", "Remove one.")
        opened = None if data is None else Run(run).dataset(split, root=data)
        subject = subject_from_run(Run(run), split, chosen["checkpoint"], settings, dataset=opened)
        return subject if out is None else dataclasses.replace(subject, out=out)
    if chosen["checkpoint"] != "best":
        raise ViceError("--checkpoint names a checkpoint of a run folder, but none is given.", "Give --weights FILE.")
    _check_complete(given, started is not None)
    dataset = opened_data(folders, data, split, unlabelled=unlabelled)
    model, weights = given["--model"], given["--weights"]
    names = ("--class-map", "--argument", "--weights-key", "--prompts")
    class_map, arguments, key, prompts = (given[name] for name in names)
    start = {"pretrained": bool(chosen.get("pretrained")), "random_weights": chosen.get("random_weights")}
    return subject_from_weights(model, weights, dataset, out, class_map, settings, arguments, key, prompts, **start)  # type: ignore[arg-type]


def _started(chosen: Mapping[str, Any]) -> str | None:
    """The option that takes the place of a file of weights; only `vice assess` has them."""
    if chosen.get("pretrained"):
        return "--pretrained"
    return None if chosen.get("random_weights") is None else "--random-weights"


def _check_complete(given: Mapping[str, Any], started: bool) -> None:
    """Check that network, weights and data are given; some networks come with their weights, or start without."""
    from torchvice.models.named import WITH_WEIGHTS, source_of

    model = given["--model"]
    own = started or (model is not None and source_of(model)[0] in WITH_WEIGHTS)
    needed = [name for name in ("--model", "--weights", "--data") if not (own and name == "--weights")]
    missing = [name for name in needed if given[name] is None]
    if missing:
        message = f"Give a run folder, or --model, --weights and --data. Missing: {', '.join(missing)}."
        way_out = "Images without lists: --images DIR in place of --data." if "--data" in missing else ""
        raise ViceError(message, way_out)


def choice_value(choice: StrEnum | None) -> Any:
    """The word of a choice, None where it was not made."""
    return choice and choice.value


def arguments_of(texts: list[str]) -> dict[str, Any] | None:
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


def say_data(dataset: FolderDataset) -> None:
    """Say what was chosen in a dataset, and what it lacks."""
    unlabelled = getattr(dataset, "unlabelled", False)
    if not unlabelled:
        say(f"Labels: {dataset.label_source}; masks: {dataset.mask_source}.")
    for note in dataset.notes:
        say(note)
    if left_out := [name for name in getattr(dataset, "all_classes", ()) if name not in dataset.classes]:
        say(f"Classes that the class map leaves out, and that are not asked for: {', '.join(left_out)}.")
    if dataset.regions == "boxes":
        say(f"Objects are the boxes in Annotations; {dataset.regions_missing} images have none.")
    elif dataset.masks_missing and not unlabelled:
        say(f"{dataset.masks_missing} images have no mask: they count for calibration, not for VICE.")
