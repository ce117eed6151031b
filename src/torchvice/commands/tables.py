"""Find the table of a RUN or folder, and its dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.errors import ViceError, near_path

if TYPE_CHECKING:
    from torchvice.data import FolderDataset
    from torchvice.samples import Samples

__all__ = ["check_unchanged", "dataset_of", "load_samples", "refuse_without_effect", "table_folder"]


def refuse_without_effect(kind: str, path: str | os.PathLike[str], **options: object) -> None:
    """Refuse the first option that is given where it would change nothing.

    Args:
        kind: what lies at the path, with its article.
        path: what the command was given.
        options: values by name without the dashes; None and False are not given.

    Raises:
        ViceError: an option is given.
    """
    for name, value in options.items():
        if value is not None and value is not False:
            name = name.replace("_", "-")
            raise ViceError(f"--{name} has no effect on {kind}, which {path} is.", "Leave it out.")


def load_samples(path: str | os.PathLike[str], split: str | None = None) -> Samples:
    """Load the table of a RUN (of `split`, or the only one), or that of a folder with a manifest.json.

    Raises:
        ViceError: neither, a RUN that was not assessed, or a table of another split.
    """
    from torchvice.samples import Samples

    return Samples.load(table_folder(Path(path), split))


def table_folder(path: Path, split: str | None) -> Path:
    """Find the folder of the table at a path: itself, or one in a RUN."""
    if path.is_file():
        raise ViceError(
            f"A RUN or a table's folder must be given, but {path} is a file.",
            "The numbers of the original's CSV, which has no maps: vice measure FILE.csv.",
        )
    if not path.is_dir():
        message = f"A RUN, a table's folder or a CSV must be given, but there is nothing at {path}."
        raise ViceError(message, near_path(path) or "vice demo makes a first RUN, runs/demo.")
    if not (path / "manifest.json").is_file():
        return _assessed(path, split)
    if split is not None:
        from torchvice.samples import ShardFolder

        held = str(ShardFolder(path).manifest()["dataset"].get("split") or "")
        if Path(held).name.removesuffix(".txt") != Path(split).name.removesuffix(".txt"):
            of = f"the table of the split {held}" if held else "a table that names no split"
            refuse_without_effect(of, path, split=split)
    return path


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
    """Open the dataset of a table, with the masks, labels and regions chosen for it; None if it is gone."""
    from torchvice.data import open_dataset, open_images
    from torchvice.data.selected import select_classes

    source = samples.manifest["dataset"]
    held = source.get("chosen")
    held = held if isinstance(held, dict) else {}
    chosen = {name: held[name] for name in ("masks", "labels", "regions") if isinstance(held.get(name), str)}
    folders = {name: held[name] for name in ("masks", "coco", "mask_values") if isinstance(held.get(name), str)}
    if not source["root"]:  # a dataset of Python objects
        return None
    whole = source.get("all_classes") or samples.classes
    try:
        if isinstance(held.get("images"), str):
            dataset = open_images(held["images"], **folders, classes=whole)
        else:
            dataset = open_dataset(source["root"], source["split"], classes=whole, **chosen)
        return select_classes(dataset, samples.classes)
    except ViceError:
        return None


def check_unchanged(samples: Samples, dataset: FolderDataset) -> None:
    """Check that images, masks, boxes and dataset.yaml are those that the table was made of, where it knows them.

    Raises:
        ViceError: others under the same ids.
    """
    from torchvice.data.digests import digests_of
    from torchvice.samples import changed_images, named_images

    held = samples.manifest.get("contents")
    now, digests = digests_of(dataset) if held else ({}, [])
    if not held or held["ids"] != now["ids"]:
        return
    parts = ("images", "masks", "boxes", "description")
    changed = [name for name in parts if name in held and held[name] != now.get(name)]
    if changed:
        ids = [str(record.image_id) for record in dataset.records]
        of_images = changed_images(samples.images.digests(), dict(zip(ids, digests, strict=True)))
        named = ["masks" if name == "boxes" else name for name in changed]
        what = " and ".join(changed).replace("description", "dataset.yaml")
        raise ViceError(
            f"The {what} in {dataset.root} are not those that the table was made of."
            f"{named_images(of_images, named, len(ids))}",
            "Restore them, or assess the model again.",
        )
