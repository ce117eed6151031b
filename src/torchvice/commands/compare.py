"""`vice compare`: several models on the same images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.commands.tables import load_samples, table_folder
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
    """Compare RUNs or folders of tables with `torchvice.measures.compare`.

    Args:
        paths: RUNs or folders. A model is called like its folder, or its path if two folders have the same name.
        split: split of the RUNs.
        groups: texts "NAME=RUN,RUN,RUN", each the seeds of one recipe.
        quality, replicates, seed: see `torchvice.measures.compare`.

    Raises:
        ViceError: a repeated folder, a repeated group, or a group of another form.
    """
    from torchvice.measures import compare

    folders = [Path(path) for path in paths]
    folder_names = [folder.resolve().name for folder in folders]
    names = [str(f) if folder_names.count(name) > 1 else name for f, name in zip(folders, folder_names, strict=True)]
    if len(set(names)) < len(names) or len({table_folder(f, split).resolve() for f in folders}) < len(folders):
        way_out = "Name another RUN or table in place of one." if len(folders) == 2 else "Remove one."
        raise ViceError("Compared models must be different, but one folder is named twice.", way_out)
    members: dict[str, list[str]] = {}
    for text in groups:
        name, equals, runs = text.partition("=")
        if not (name and equals and runs):
            raise ViceError(f"A group must be NAME=RUN,RUN,RUN, but is {text!r}.")
        if name in members:
            raise ViceError(
                f"A group must be given once, but {name} is given twice.",
                f"List all its seeds in one: --group {name}=RUN,RUN,RUN. Another recipe needs another name.",
            )
        members[name] = [run if run in names else Path(run).name for run in runs.split(",")]
    models = {name: load_samples(folder, split) for name, folder in zip(names, folders, strict=True)}
    return compare(models, quality=quality, groups=members, replicates=replicates, seed=seed)
