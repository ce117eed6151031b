"""`vice assess`: a run, or weights from elsewhere, over a dataset."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.folders import CLASSES, COCO, IMAGES, MASK_VALUES, MASKS
from torchvice.cli.foreign_maps import MAPS, SCORES, assess_foreign
from torchvice.cli.models import CACHE, MODELS, PRETRAINED, RANDOM_WEIGHTS, assess_many
from torchvice.cli.plugins import PLUGIN, load_plugins
from torchvice.cli.shards import ended, part_of
from torchvice.cli.subject import (
    ARGUMENT,
    BATCH_SIZE,
    CHANNELS_LAST,
    CHECKPOINT,
    CHOICE,
    CLASS_MAP,
    CROP,
    DATA,
    DEVICE,
    INTERPOLATION,
    LAYER,
    MEAN,
    METHOD,
    MODEL,
    OUTPUT,
    OUTPUTS,
    PRECISION,
    PROMPTS,
    RUN,
    SPLIT,
    STD,
    TARGETS,
    TRANSFORM,
    VIEW_SIZE,
    WEIGHTS,
    WEIGHTS_KEY,
    OutputsChoice,
    PrecisionChoice,
    Targets,
    choice_value,
    chosen_settings,
    chosen_subject,
    performance_option,
    say_data,
)
from torchvice.cli.terminal import progress_bar, say, stopped
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import Extras
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


class Controls(StrEnum):
    """The sets of controls, see `torchvice.assessment.controls.CONTROL_SETS`."""

    all = "all"
    cheap = "cheap"
    none = "none"


extras_option = functools.partial(typer.Option, rich_help_panel="Explanations in addition")

PROTOCOL = typer.Option(ProtocolChoice.both, "--protocol", help="Protocols to assess.")
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
    "background), dilation=5, void=nearest (or touching), sigma=0.25, seed=0.",
)
WORKERS = performance_option(2, "--workers", min=0, help="Number of threads that read images ahead.")
PROCESSES = performance_option(1, "--processes", min=1, help="Number of local processes that share the images.")
SHARD = performance_option(None, "--shard", help="Share of this process, I/N. Detected under torchrun and SLURM.")
OUT = typer.Option(None, "--out", rich_help_panel="Output", help="Folder of the table. Default: in the run folder.")


def assess(
    run: Path | None = RUN,
    model: str | None = MODEL,
    weights: Path | None = WEIGHTS,
    weights_key: str | None = WEIGHTS_KEY,
    pretrained: bool = PRETRAINED,
    random_weights: int | None = RANDOM_WEIGHTS,
    models: str | None = MODELS,
    cache: str | None = CACHE,
    argument: list[str] = ARGUMENT,
    prompts: Path | None = PROMPTS,
    data: Path | None = DATA,
    images: Path | None = IMAGES,
    masks: Path | None = MASKS,
    coco: Path | None = COCO,
    classes: str | None = CLASSES,
    mask_values: str | None = MASK_VALUES,
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
    transform: str | None = TRANSFORM,
    view_size: int | None = VIEW_SIZE,
    crop: int | None = CROP,
    mean: str | None = MEAN,
    std: str | None = STD,
    interpolation: str | None = INTERPOLATION,
    output: str | None = OUTPUT,
    outputs: OutputsChoice | None = OUTPUTS,
    controls: Controls | None = CONTROLS,
    also: list[str] = ALSO,
    faithfulness: str = FAITHFULNESS,
    without: str | None = WITHOUT,
    precision: PrecisionChoice | None = PRECISION,
    channels_last: bool = CHANNELS_LAST,
    batch_size: int | None = BATCH_SIZE,
    workers: int = WORKERS,
    device: str = DEVICE,
    processes: int = PROCESSES,
    shard: str | None = SHARD,
    out: Path | None = OUT,
) -> None:
    """Steps 2 to 4: logits, maps and their overlap with the masks, as a table. A killed run resumes."""
    chosen = dict(locals())  # the values of the options by their names
    load_plugins(plugin)
    extras = _extras(controls, also, faithfulness, without)
    if models is not None:
        assess_many(chosen, extras, part_of(processes, shard))
    elif cache is not None:
        raise ViceError("--cache is for many models, but --models is not given.", "Leave --cache out.")
    elif maps is not None or scores is not None:
        assess_foreign(chosen, extras.controls, part_of(processes, shard), say_data)
    else:
        _assess_network(chosen, extras)


def _assess_network(chosen: Mapping[str, Any], extras: Extras) -> None:
    """Assess a run, or a network of the user's; `chosen` are the values of the command's options by their names."""
    from torchvice.assessment.request import check_request
    from torchvice.commands.assess import assess_subject

    settings = chosen_settings(chosen)
    check_request(chosen["protocol"].protocols, extras)
    part, run, out = part_of(chosen["processes"], chosen["shard"]), chosen["run"], chosen["out"]
    subject = chosen_subject(chosen, settings, out)
    say_data(subject.dataset)
    for note in subject.notes:
        say(note)
    request = {"protocols": chosen["protocol"].protocols, "extras": extras, "targets": choice_value(chosen["targets"])}
    request |= {"workers": chosen["workers"], "part": part}
    with stopped(subject.out / "manifest.json"), progress_bar("views") as bar:
        samples = assess_subject(subject, **request, progress=bar, passes=bar.passes, tell=say)
    say(ended(samples, subject.out, len(subject.dataset), part, out or _measured(subject, run)))


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
