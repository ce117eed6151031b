"""What `torchvice.assess` is given as a dataset: an object, a folder, or anything that gives images and masks."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torchvice.assessment.images import Dataset, check_dataset
from torchvice.assessment.region import image_of, region_of
from torchvice.data.dataset import OPENED
from torchvice.errors import ViceError, as_path
from torchvice.files import check_folder_free
from torchvice.samples.shards import OWN_FILES

__all__ = ["opened", "opened_or_temporary", "opened_out", "refuse_random", "tell"]

StrPath = str | os.PathLike[str]
PROTOCOL = (*OPENED, "image", "mask")


def tell(sentence: str) -> None:
    """Say something that the caller must know, to the logger `torchvice`: on standard error, until it is configured."""
    logging.getLogger("torchvice").warning("%s", sentence)


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
    from torchvice.data.open import check_given

    given = {name: value for name, value in folders.items() if value is not None}
    check_given(given, None if dataset is None else "`dataset`", python=True, alone=("classes", "mask_values"))
    if "images" in given:
        files = open_images(**given)
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
        refuse_random(own)
        return own
    else:
        items = from_items(dataset, given.get("classes"), mask_values=given.get("mask_values"))
        for note in items.notes:
            tell(note)
        return items
    rotated = check_files(files)
    tell(f"Labels: {files.label_source}; masks: {files.mask_source}.")
    for note in (*files.notes, *rotated):
        tell(note)
    return files


def refuse_random(dataset: Dataset) -> None:
    """Refuse a dataset class of the user's own whose images or masks change from one reading to the next.

    Raises:
        ViceError: such a dataset; or of a class of the user's own, as `check_dataset`.
    """
    from torchvice.data.repeats import Repeats

    if type(dataset).__module__.startswith("torchvice."):  # ours read files, or compare what they read
        return
    check_dataset(dataset)
    repeats = Repeats()

    def read(index: int) -> None:
        image, region = image_of(dataset, index), region_of(dataset, index)
        mask = None if region is None else region.mask
        repeats.check(index, image, mask, str(getattr(dataset.records[index], "image_id", index)))

    repeats.read_again(len(dataset.records), read)


def opened_out(out: StrPath) -> Path:
    """Return the folder of the table.

    Raises:
        ViceError: a folder that holds other things than a table.
    """
    folder = as_path("out", out)
    check_folder_free(folder, OWN_FILES, "The table")
    return folder


@contextmanager
def opened_or_temporary(out: StrPath | None) -> Iterator[Path]:
    """The folder of the table; without one a new temporary folder, which is removed if nothing was written into it.

    Raises:
        ViceError: as `opened_out`.
    """
    if out is not None:
        yield opened_out(out)
        return
    folder = Path(tempfile.mkdtemp(prefix="torchvice-"))
    try:
        yield folder
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
