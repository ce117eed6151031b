"""Find the table of a RUN or folder, and its dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.data import FolderDataset
    from torchvice.samples import Samples

__all__ = ["dataset_of", "load_samples", "table_folder"]


def load_samples(path: str | os.PathLike[str], split: str | None = None) -> Samples:
    """Load the table of a RUN (of `split`, or the only one), or that of a folder with a manifest.json.

    Raises:
        ViceError: neither, or a RUN that was not assessed.
    """
    from torchvice.samples import Samples

    return Samples.load(table_folder(Path(path), split))


def table_folder(path: Path, split: str | None) -> Path:
    """Find the folder of the table at a path: itself, or one in a RUN."""
    if not path.is_dir():
        raise ViceError(f"A RUN, a table's folder or a CSV must be given, but there is nothing at {path}.")
    return path if (path / "manifest.json").is_file() else _assessed(path, split)


def _assessed(run: Path, split: str | None) -> Path:
    """Find the folder of a RUN's table."""
    folders = sorted(manifest.parent for manifest in run.glob("assess/*/manifest.json"))
    names = [folder.name for folder in folders]
    if not folders:
        is_run = (run / "config.yaml").is_file()
        neither = "A RUN has a config.yaml, a table a manifest.json."
        way_out = f"Assess it first: vice assess {run}" if is_run else neither
        raise ViceError(f"{run} was not assessed: it holds no table.", way_out)
    if split is not None:
        name = split.removesuffix(".txt")
        if name not in names:
            raise ViceError(f"{run} was not assessed on `{name}`.", f"Assessed: {', '.join(names)}.")
        return folders[names.index(name)]
    if len(folders) > 1:
        from torchvice.runs import Run

        name = Run(run).settings.data.eval_split.removesuffix(".txt")
        if name not in names:
            raise ViceError(f"{run} was assessed on several splits: {', '.join(names)}.", "Select one: --split NAME.")
        return folders[names.index(name)]
    return folders[0]


def dataset_of(samples: Samples) -> FolderDataset | None:
    """Open the dataset of a table; None if it is not there any more."""
    from torchvice.data import open_dataset

    source = samples.manifest["dataset"]
    try:
        return open_dataset(source["root"], source["split"], classes=samples.classes)
    except ViceError:
        return None
