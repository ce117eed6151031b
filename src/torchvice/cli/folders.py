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

__all__ = ["CLASSES", "COCO", "IMAGES", "MASKS", "image_arguments", "opened_data"]

option = functools.partial(typer.Option, rich_help_panel="Images without lists")

IMAGES = option(None, "--images", help="Folder of images without lists. Sub-folders of images are classes.")
MASKS = option(
    None, "--masks", help="Folder of the masks of --images, called like the images, or with _mask, -seg, _gt and so on."
)
COCO = option(None, "--coco", help="JSON file with COCO's instances for --images, in the place of --masks.")
CLASSES = option(
    None, "--classes", help="Class names of --images, in the order of the masks' values: cat,dog. Default: classes.txt."
)


def image_arguments(
    images: Path | None, masks: Path | None, coco: Path | None, classes: str | None, other: object
) -> dict[str, Any]:
    """The arguments of `torchvice.data.open_images`; empty without --images.

    Args:
        images, masks, coco, classes: the options.
        other: the dataset, or the run that has one, that is given too.

    Raises:
        ViceError: an option without --images, or --images together with another dataset.
    """
    others = {"--masks": masks, "--coco": coco, "--classes": classes}
    if images is None:
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ViceError(f"{given[0]} goes with --images, which is not given.", "Give the folder: --images DIR.")
        return {}
    if other:
        raise ViceError(f"Give one dataset: {other} and --images {images} are both given.", "Remove one of them.")
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    return {"images": images, "masks": masks, "coco": coco, "classes": names}


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
