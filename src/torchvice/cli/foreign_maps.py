"""`vice assess --maps DIR --scores FILE`: the maps and logits of another tool, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.folders import image_arguments, opened_data
from torchvice.cli.shards import ended
from torchvice.cli.subject import DEVICE
from torchvice.cli.terminal import progress_bar, say, stopped
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import Part
    from torchvice.data import FolderDataset

__all__ = ["MAPS", "SCORES", "assess_foreign"]

MAPS = typer.Option(
    None,
    "--maps",
    rich_help_panel="Maps of another tool",
    help="Folder of maps: ID.npz, ID.npy or ID.png; with --scores and --data, in place of a network.",
)
SCORES = typer.Option(
    None,
    "--scores",
    rich_help_panel="Maps of another tool",
    help="CSV or Parquet of logits for --maps: id and one column a class, or id, class, logit.",
)


# Options that say how a network is run, by parameter, with the values that say nothing.
NETWORK: dict[str, Any] = {
    "run": None,
    "model": None,
    "weights": None,
    "weights_key": None,
    "pretrained": False,
    "random_weights": None,
    "argument": [],
    "class_map": None,
    "checkpoint": "best",
    "method": "auto",
    "layer": None,
    "crop": None,
    "output": None,
    "mean": None,
    "std": None,
    "interpolation": None,
    "transform": None,
    "prompts": None,
    "plugin": [],
    "precision": None,
    "channels_last": False,
    "batch_size": None,
    "device": DEVICE.default,
    "also": [],
    "faithfulness": "",
    "without": None,
}


def assess_foreign(
    given: Mapping[str, Any],
    controls: Sequence[str] | None,
    part: Part,
    say_data: Callable[[FolderDataset], None],
) -> None:
    """Assess maps and scores.

    Args:
        given: the options of `vice assess` by parameter, as they were typed.
        controls: names; None: the option was not given.
        part: this process's share.
        say_data: says what was chosen in the dataset.

    Raises:
        ViceError: an option is missing, or has no effect without a network; or as `torchvice.assess_maps`.
    """
    from torchvice.commands.assess import assess_map_files

    normalisation = _normalisation(given)
    folders = image_arguments(given, given["data"] and f"--data {given['data']}")
    dataset = opened_data(folders, given["data"], given["split"])
    out = Path(given["out"] or Path("runs") / Path(given["maps"]).name / "assess" / dataset.split)
    say_data(dataset)
    options = {name: given[name] for name in ("targets", "outputs", "workers", "view_size") if given[name] is not None}
    files = given["maps"], given["scores"]
    options |= {"out": out, "controls": controls, "normalisation": normalisation, "part": part}
    with stopped(out / "manifest.json"), progress_bar("views") as bar:
        samples = assess_map_files(*files, dataset, progress=bar, say=say, **options)
    alone = ", under strict alone, as paper needs a crop of its own"
    say(ended(samples, out, len(dataset), part, out, alone))


def _normalisation(given: Mapping[str, Any]) -> str:
    """The normalisation of the maps, after the check that nothing is asked for that needs a network."""
    from torchvice.explain import Choices

    missing = [f"--{name}" for name in ("maps", "scores", "data") if given[name] is None]
    if missing and not (missing == ["--data"] and given["images"] is not None):
        message = f"Maps of another tool are assessed with --maps, --scores and --data. Missing: {missing[0]}."
        without_lists = "Images without lists: --images DIR in place of --data."
        give = f"Give {missing[0]} {'DIR' if missing[0] == '--maps' else 'FILE'}."
        raise ViceError(message, without_lists if missing[0] == "--data" else give)
    chosen = Choices.parse(list(given["choice"]))
    useless = [
        "A run folder" if name == "run" else f"--{name.replace('_', '-')}"
        for name, nothing in NETWORK.items()
        if (list(given[name] or []) if nothing == [] else given[name]) != nothing
    ]
    useless += [f"--choice {name}" for name in chosen.differing() if name != "normalisation"]
    if useless:
        raise ViceError(f"{useless[0]} has no effect with --maps: no network is run.", "Leave it out.")
    if given["protocol"] == "paper":
        raise ViceError(
            "Maps of another tool are assessed under strict, but --protocol is paper, which needs a crop of its own.",
            "Leave --protocol out. The published mean IoU of maps: vice evaluate.",
        )
    return chosen.normalisation
