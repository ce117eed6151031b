"""`vice assess --maps DIR --scores FILE`: the maps and logits of another tool, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.terminal import progress_bar, say
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


def assess_foreign(
    given: Mapping[str, Any],
    part: Part,
    choices: Sequence[str],
    unused: Mapping[str, Any],
    say_data: Callable[[FolderDataset], None],
) -> None:
    """Assess maps and scores.

    Args:
        given: values of --maps, --scores, --data, --split, --out, --protocol, --view-size, --controls (names or None),
            --targets, --outputs and --workers.
        part: this process's share.
        choices: of --choice; only normalisation is for maps that are given.
        unused: options that need a network, with their values where they were given.
        say_data: says what was chosen in the dataset.

    Raises:
        ViceError: an option is missing, or has no effect without a network; or as `torchvice.assess_maps`.
    """
    from torchvice.commands.assess import assess_map_files
    from torchvice.data import open_dataset
    from torchvice.explain import Choices

    missing = [name for name in ("--maps", "--scores", "--data") if given[name] is None]
    if missing:
        raise ViceError(f"Maps of another tool are assessed with --maps, --scores and --data. Missing: {missing[0]}.")
    chosen = Choices.parse(choices)
    useless = [name for name, value in unused.items() if value not in (None, [], "")]
    useless += [f"--choice {name}" for name in chosen.differing() if name != "normalisation"]
    if useless:
        raise ViceError(f"{useless[0]} has no effect with --maps: no network is run.", "Leave it out.")
    if given["--protocol"] == "paper":
        raise ViceError(
            "Maps of another tool are assessed under strict, but --protocol is paper, which needs a crop of its own.",
            "Leave --protocol out. The published mean IoU of maps: vice evaluate.",
        )
    dataset = open_dataset(given["--data"], given["--split"] or "val")
    out = given["--out"] or Path("runs") / given["--maps"].name / "assess" / dataset.split
    say_data(dataset)
    named = {name[2:].replace("-", "_"): given[name] for name in ("--controls", "--targets", "--outputs", "--workers")}
    sizes = {} if given["--view-size"] is None else {"view_size": given["--view-size"]}
    with progress_bar("views") as bar:
        assess_map_files(
            given["--maps"],
            given["--scores"],
            dataset,
            out=out,
            normalisation=chosen.normalisation,
            part=part,
            progress=bar,
            say=say,
            **named,
            **sizes,
        )
    say(f"{out}: {len(dataset)} images assessed. Next: vice measure {out}")
