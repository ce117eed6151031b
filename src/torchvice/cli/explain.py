"""`vice explain`: the maps as files; and the options that say how maps are made."""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path

import typer

from torchvice.cli.plugins import PLUGIN, list_methods, load_plugins
from torchvice.cli.terminal import progress_bar, say

__all__ = ["CHECKPOINT", "CHOICE", "DEVICE", "LAYER", "METHOD", "SPLIT", "explain", "maps_option", "performance_option"]

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


class MapFormat(StrEnum):
    """File formats of maps."""

    npz = "npz"
    legacy = "legacy"


class OneProtocol(StrEnum):
    """One protocol."""

    paper = "paper"
    strict = "strict"


def explain(
    run: Path = typer.Argument(..., help="Run folder, as vice train makes it."),
    maps: Path = typer.Option(..., "--maps", help="Folder to write the maps to."),
    file_format: MapFormat = typer.Option(MapFormat.npz, "--format", help="Format; legacy is the original's .npy."),
    protocol: OneProtocol = typer.Option(OneProtocol.paper, "--protocol", help="Protocol of the maps."),
    split: str | None = SPLIT,
    checkpoint: str = CHECKPOINT,
    method: str = METHOD,
    layer: str | None = LAYER,
    choice: list[str] = CHOICE,
    device: str = DEVICE,
    plugin: list[Path] = PLUGIN,
    _: bool = maps_option(False, "--list-methods", callback=list_methods, is_eager=True, help="List all methods."),
) -> None:
    """Write the maps of every image's true classes as files, for use in other tools."""
    from torchvice.assessment import MapSettings
    from torchvice.assessment.map_files import write_map_files
    from torchvice.explain import Choices
    from torchvice.runs import Run
    from torchvice.runs.subject import subject_from_run

    load_plugins(plugin)
    # A run's network gives logits, so that none are taken for probabilities.
    settings = MapSettings(method=method, layer=layer, choices=Choices.parse(choice), device=device, outputs="logits")
    subject = subject_from_run(Run(run), split, checkpoint, settings)
    with progress_bar("maps") as bar:
        count = write_map_files(
            subject.model,
            subject.dataset,
            maps,
            protocol=protocol.value,
            file_format=file_format.value,
            settings=subject.settings,
            progress=bar,
            passes=bar.passes,
        )
    existing = len(subject.dataset) - count
    say(f"{maps}: {count} files written" + (f", {existing} existed already." if existing else "."))
