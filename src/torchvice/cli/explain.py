"""`vice explain`: the maps of a run, or of weights from elsewhere, as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from torchvice.cli.folders import CLASSES, COCO, IMAGES, MASK_VALUES, MASKS
from torchvice.cli.plugins import PLUGIN, list_methods, load_plugins
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
    maps_option,
    say_data,
)
from torchvice.cli.terminal import progress_bar, say

__all__ = ["explain"]


class MapFormat(StrEnum):
    """File formats of maps."""

    npz = "npz"
    legacy = "legacy"


class OneProtocol(StrEnum):
    """One protocol."""

    paper = "paper"
    strict = "strict"


PROTOCOL = typer.Option(None, "--protocol", help="Protocol of the maps. Default: paper for a run, strict for --model.")
LABELS = maps_option(
    None,
    "--labels",
    help="Whose maps strict writes: true, predicted, both, or names of classes: cat,dog. Default: true; predicted for "
    "images without labels.",
)


def explain(
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
    mask_values: str | None = MASK_VALUES,
    class_map: str | None = CLASS_MAP,
    maps: Path = typer.Option(..., "--maps", help="Folder to write the maps to."),
    file_format: MapFormat = typer.Option(MapFormat.npz, "--format", help="Format; legacy is the original's .npy."),
    protocol: OneProtocol | None = PROTOCOL,
    labels: str | None = LABELS,
    split: str | None = SPLIT,
    checkpoint: str = CHECKPOINT,
    targets: Targets | None = TARGETS,
    method: str = METHOD,
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
    precision: PrecisionChoice | None = PRECISION,
    channels_last: bool = CHANNELS_LAST,
    batch_size: int | None = BATCH_SIZE,
    device: str = DEVICE,
    plugin: list[Path] = PLUGIN,
    _: bool = maps_option(False, "--list-methods", callback=list_methods, is_eager=True, help="List all methods."),
) -> None:
    """Write the maps of every image's classes as files, for use in other tools."""
    chosen = dict(locals())  # the values of the options by their names
    load_plugins(plugin)
    _explain(chosen)


def _explain(chosen: Mapping[str, Any]) -> None:
    from torchvice.commands.explain import explain_subject

    settings, run, maps = chosen_settings(chosen), chosen["run"], chosen["maps"]
    if run is not None and chosen["outputs"] is None:  # a run's network gives logits: none are taken for probabilities
        settings = dataclasses.replace(settings, outputs="logits")
    subject = chosen_subject(chosen, settings, None, unlabelled=True)
    if run is None:
        say_data(subject.dataset)
    for note in subject.notes:
        say(note)
    protocol = chosen["protocol"] or (OneProtocol.strict if run is None else OneProtocol.paper)
    with progress_bar("maps") as bar:
        count = explain_subject(
            subject,
            maps,
            labels=chosen["labels"],
            targets=choice_value(chosen["targets"]),
            say=say,
            protocol=protocol.value,
            file_format=chosen["file_format"].value,
            progress=bar,
            passes=bar.passes,
        )
    existing = len(subject.dataset) - count
    say(f"{maps}: {count} files written" + (f", {existing} existed already." if existing else "."))
