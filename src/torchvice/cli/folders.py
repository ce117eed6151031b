"""The options that give images without lists: their folder, and their masks or COCO file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.data import FolderDataset

__all__ = ["CLASSES", "COCO", "IMAGES", "MASKS", "MASK_VALUES", "image_arguments", "opened_data"]

option = functools.partial(typer.Option, rich_help_panel="Images without lists")

IMAGES = option(None, "--images", help="Folder of images without lists. Sub-folders of images are classes.")
MASKS = option(
    None, "--masks", help="Folder of the masks of --images, called like the images, or with _mask, -seg, _gt and so on."
)
COCO = option(None, "--coco", help="JSON file with COCO's instances for --images, in the place of --masks.")
CLASSES = option(
    None, "--classes", help="Class names of --images, in the order of the masks' values: cat,dog. Default: classes.txt."
)
MASK_VALUES = option(
    None,
    "--mask-values",
    help="What the values of --masks mean, if they draw one object: object=1,background=2,void=3 (trimaps), or "
    "background=0-127,object=128-255.",
)


def image_arguments(given: Mapping[str, Any], other: object) -> dict[str, Any]:
    """The arguments of `torchvice.data.open_images`; empty without --images.

    Args:
        given: the options by their parameters, see `torchvice.data.open.FOLDERS`; others are ignored.
        other: the dataset, or the run that has one, that is given too.

    Raises:
        ViceError: an option without --images, or --images together with another dataset.
    """
    from torchvice.data.open import FOLDERS, check_given

    chosen, classes = {name: given[name] for name in FOLDERS}, given["classes"]
    held = {name: value for name, value in chosen.items() if value is not None}
    check_given(held, str(other) if other else None, python=False)
    if not held:
        return {}
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    return chosen | {"classes": names}


def opened_data(
    folders: Mapping[str, Any], data: Path, split: str | None, *, unlabelled: bool = False
) -> FolderDataset:
    """Open the images without lists, or the split of a dataset.

    Args:
        folders: see `image_arguments`; empty where a dataset is given.
        data, split: the dataset, and its split; None: the default one.
        unlabelled: whether images without labels will do.

    Raises:
        ViceError: a split of images without lists, or as `open_images` and `open_dataset`.
    """
    from torchvice.data import open_dataset, open_images
    from torchvice.data.open import open_any_images

    if folders and split is not None:
        raise ViceError("--split names a list, but --images has none.", "Remove --split.")
    if not folders:
        return open_dataset(data, split)
    return open_any_images(**folders) if unlabelled else open_images(**folders)
