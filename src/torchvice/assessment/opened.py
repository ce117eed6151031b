"""What `torchvice.assess` is given as a dataset: an object, a folder, or anything that gives images and masks."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from torchvice.assessment.images import Dataset
from torchvice.errors import ViceError

__all__ = ["FOLDERS", "FolderKeywords", "opened", "opened_out", "tell"]

StrPath = str | os.PathLike[str]
FOLDERS = ("images", "masks", "coco", "classes", "mask_values")
PROTOCOL = ("classes", "targets", "records", "image", "mask")


class FolderKeywords(TypedDict, total=False):
    """The keyword arguments of `torchvice.assess` that name the data: those of `torchvice.data.open_images`."""

    images: StrPath | None
    masks: StrPath | None
    coco: StrPath | None
    classes: Sequence[str] | None
    mask_values: str | None


def tell(sentence: str) -> None:
    """Say something that the caller must know, on standard error."""
    print(sentence, file=sys.stderr)


def opened(dataset: Any, folders: Mapping[str, Any]) -> Dataset:
    """Open what is given as a dataset, and say what was chosen on the way.

    Args:
        dataset: a `Dataset`, which is returned as it is; the path of a folder; see also `torchvice.data.from_items`.
        folders: arguments of `torchvice.data.open_images`, in the place of `dataset`; `classes` goes with both, and
            `mask_values` with items.

    Raises:
        ViceError: no data, or data given twice; see also `open_images`, `open_dataset`, `from_items`, `check_files`.
    """
    from torchvice.data import check_files, from_items, open_dataset, open_images

    given = {name: value for name, value in folders.items() if value is not None}
    if "images" in given:
        if dataset is not None:
            raise ViceError("Give one dataset: `dataset` and `images` are both given.", "Remove one of them.")
        files = open_images(**given)
    elif extra := [name for name in given if name not in ("classes", "mask_values")]:
        raise ViceError(f"`{extra[0]}` goes with `images`, which is not given.", "Give the folder: images='DIR'.")
    elif dataset is None:
        raise ViceError("An assessment needs data, but none are given.", "Give a dataset, or images='DIR'.")
    elif isinstance(dataset, (str, os.PathLike)):
        if "mask_values" in given:
            raise ViceError(
                f"`mask_values` goes with `images` or with items, but the data are the folder {dataset}.",
                "Name the values in its dataset.yaml, or give images='DIR', masks='DIR'.",
            )
        files = open_dataset(dataset, **given)
    elif all(hasattr(dataset, name) for name in PROTOCOL):
        if given:
            raise ViceError(f"`{next(iter(given))}` are those of the dataset, but are given too.", "Leave them out.")
        own: Dataset = dataset
        return own
    else:
        items = from_items(dataset, given.get("classes"), mask_values=given.get("mask_values"))
        for note in items.notes:
            tell(note)
        return items
    check_files(files)
    tell(f"Labels: {files.label_source}; masks: {files.mask_source}.")
    for note in files.notes:
        tell(note)
    return files


def opened_out(out: StrPath | None) -> Path:
    """Return the folder of the table; without one, a new temporary folder, and say which."""
    if out is not None:
        return Path(out)
    folder = Path(tempfile.mkdtemp(prefix="torchvice-"))
    tell(f"The table is in a temporary folder: {folder}. To keep it, give out='DIR'.")
    return folder
