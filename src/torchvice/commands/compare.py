"""`vice compare`: several models on the same images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.commands.tables import load_samples
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.measures import Comparison

__all__ = ["compare_paths"]


def compare_paths(
    paths: Sequence[str | os.PathLike[str]],
    split: str | None = None,
    *,
    groups: Sequence[str] = (),
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare RUNs or tables' folders, see `torchvice.measures.compare`.

    Args:
        paths: each is named by its folder, or, where two have one name, by its path.
        split: of RUNs.
        groups: "NAME=RUN,RUN,RUN" texts: seeds of one recipe.
        quality, replicates, seed: see `torchvice.measures.compare`.

    Raises:
        ViceError: the same folder twice, or a group of another form.
    """
    from torchvice.measures import compare

    folders = [Path(path) for path in paths]
    short = [folder.resolve().name for folder in folders]
    names = [str(f) if short.count(name) > 1 else name for f, name in zip(folders, short, strict=True)]
    if len(set(names)) < len(names):
        raise ViceError("Models that are compared must be different, but one folder is named twice.")
    members = {}
    for text in groups:
        name, equals, runs = text.partition("=")
        if not (name and equals and runs):
            raise ViceError(f"A group must be NAME=RUN,RUN,RUN, but is {text!r}.")
        members[name] = [run if run in names else Path(run).name for run in runs.split(",")]
    models = {name: load_samples(folder, split) for name, folder in zip(names, folders, strict=True)}
    return compare(models, quality=quality, groups=members, replicates=replicates, seed=seed)
