"""The one door for data: every command opens a dataset here, so that a further layout needs one line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, TypedDict

from torchvice.data.bare_folder import (
    BARE_SUFFIXES,
    PARTS,
    SPLITS,
    BareFolder,
    MaskedFolder,
    checked_folder,
    class_folders,
    holds_images,
    sub_folders,
)
from torchvice.data.bare_images import BareImages
from torchvice.data.class_folders import ClassFolders
from torchvice.data.dataset import FolderDataset
from torchvice.data.finder import composed, refuse_table
from torchvice.data.imagenet_s import ImageNetS, is_imagenet_s
from torchvice.data.layout import Layout
from torchvice.data.named_values import named_values
from torchvice.data.pairing import named
from torchvice.data.voc import VocDataset
from torchvice.errors import ViceError, as_path

__all__ = [
    "FOLDERS",
    "FolderKeywords",
    "check_given",
    "image_layout",
    "open_any_images",
    "open_dataset",
    "open_images",
    "open_layout",
    "split_folder",
]

StrPath = str | os.PathLike[str]


class FolderKeywords(TypedDict, total=False):
    """The keyword arguments of `open_images`."""

    images: StrPath | None
    masks: StrPath | None
    coco: StrPath | None
    classes: Sequence[str] | None
    mask_values: str | None


FOLDERS = tuple(FolderKeywords.__annotations__)


def check_given(given: Mapping[str, Any], other: str | None, *, python: bool, alone: Sequence[str] = ()) -> None:
    """Refuse images together with another dataset, and what goes with images where these are not given.

    Args:
        given: arguments of `open_images` that are not None.
        other: what the other dataset is, for the message; None without one.
        python: whether the caller wrote keyword arguments, not options.
        alone: those of `given` that do without images.
    """

    def spelled(name: str) -> str:
        return f"`{name}`" if python else f"--{name.replace('_', '-')}"

    if "images" in given:
        if other is not None:
            images = spelled("images") if python else f"{spelled('images')} {given['images']}"
            raise ViceError(f"Give one dataset: {other} and {images} are both given.", "Remove one of them.")
    elif lone := [spelled(name) for name in given if name not in alone]:
        folder = "images='DIR'" if python else "--images DIR"
        raise ViceError(f"{lone[0]} goes with {spelled('images')}, which is not given.", f"Give the folder: {folder}.")


def open_dataset(
    root: StrPath,
    split: StrPath | None = None,
    *,
    classes: Sequence[str] | None = None,
    labels: str = "auto",
    masks: str | None = None,
    regions: str = "auto",
    exclusive: bool = False,
) -> FolderDataset:
    """Open a split of a dataset: its images, class labels, and masks or boxes.

    Args:
        root: the folder of the dataset, see docs/your-data.md; it may hold a folder of each split, see `split_folder`.
        split: see `VocDataset`; None: `val`, or the only split of a folder without lists.
        classes, labels, masks, regions, exclusive: see `VocDataset`.

    Raises:
        ViceError: see `VocDataset`.
    """
    layout = open_layout(root if split is None else split_folder(root, split), classes)
    split = split or (layout.name if isinstance(layout, BareFolder) else "val")
    return VocDataset(layout, split, labels=labels, masks=masks, regions=regions, exclusive=exclusive)


def split_folder(root: StrPath, split: StrPath) -> Path:
    """Return the folder of a split with one sub-folder for each class, such as `root/train`; else `root`.

    Args:
        root: the folder of the dataset; with lists or a dataset.yaml it has no such folders.
        split: the name of the split and of its folder.
    """
    folder = as_path("root", root)
    inside = folder / split
    if inside.parent != folder or not inside.is_dir() or not class_folders(inside):
        return folder
    listed = Layout(folder)
    return folder if listed.described is not None or listed.splits() else inside


def open_images(
    images: StrPath,
    masks: StrPath | None = None,
    *,
    classes: Sequence[str] | None = None,
    coco: StrPath | None = None,
    mask_values: str | None = None,
) -> FolderDataset:
    """Open a folder of images without lists, see `image_layout`.

    Raises:
        ViceError: see `image_layout` and `VocDataset`.
    """
    layout = image_layout(images, masks, classes=classes, coco=coco, mask_values=mask_values)
    return VocDataset(layout, layout.name)


def open_any_images(
    images: StrPath,
    masks: StrPath | None = None,
    *,
    classes: Sequence[str] | None = None,
    coco: StrPath | None = None,
    mask_values: str | None = None,
) -> FolderDataset:
    """Open a folder of images as `open_images` does, or `BareImages` if nothing labels them.

    Raises:
        ViceError: see `open_images` and `BareImages`.
    """
    folder = checked_folder(as_path("images", images), "The images")
    if masks is None and coco is None and mask_values is None and not class_folders(folder):
        return BareImages(folder, classes)
    return open_images(images, masks, classes=classes, coco=coco, mask_values=mask_values)


def open_layout(root: StrPath, classes: Sequence[str] | None = None, *, lists: bool = False) -> Layout:
    """Find the lists, images, masks and annotations of a dataset.

    A further layout is a subclass of `Layout`, chosen here by what the folder holds.

    Args:
        root: the folder of the dataset; without lists, its sub-folders of images are the classes.
        classes: C names in the order of the labels; None: as the folder says.
        lists: whether the folder is known to be laid out as VOC's.

    Raises:
        ViceError: see `Layout` and `ClassFolders`.
    """
    folder = as_path("root", root)
    refuse_table(folder)
    if not lists and folder.is_dir() and class_folders(folder):
        listed = Layout(folder)
        if listed.described is None and not listed.splits():
            return ClassFolders(folder, None, classes)
    return Layout(root, classes)


def image_layout(
    images: StrPath,
    masks: StrPath | None = None,
    *,
    classes: Sequence[str] | None = None,
    coco: StrPath | None = None,
    mask_values: str | None = None,
) -> BareFolder:
    """Find the images of a folder without lists, and what labels them.

    Args:
        images: the folder; if it holds nothing but sub-folders of images, each of these is a class, unless `classes`
            names none of them.
        masks: the folder of the masks, which are found by name, see docs/your-data.md.
        classes: C names in the order of the labels; None: see `MaskedFolder` and `ClassFolders`.
        coco: a JSON file with COCO's instances, in the place of masks.
        mask_values: what the values of masks of one object mean, such as "object=1,background=2,void=3", see
            `torchvice.data.named_values.named_values`.

    Raises:
        ViceError: nothing that labels the images, or two things; values of masks without masks; see also
            `MaskedFolder`, `ClassFolders`, `ImageNetS` and `CocoFolder`.
    """
    folder = checked_folder(as_path("images", images), "The images")
    if mask_values is not None and masks is None:
        raise ViceError("--mask-values goes with --masks, which is not given.", "Give the folder: --masks DIR.")
    values = None if mask_values is None else named_values(mask_values)
    if coco is not None:
        if masks is not None:
            raise ViceError("Masks are drawn from the COCO file, but a folder of masks is given too.", "Remove one.")
        from torchvice.data.coco_folder import CocoFolder

        return CocoFolder(folder, Path(coco), classes)
    folders = class_folders(folder)
    if folders and (classes is None or set(map(composed, classes)) & set(folders) or masks is None):
        if masks is not None and values is None and is_imagenet_s(folders, Path(masks)):
            return ImageNetS(folder, Path(masks), classes)
        return ClassFolders(folder, None if masks is None else Path(masks), classes, values)
    if masks is None:
        raise _without_labels(folder)
    if classes is None:
        _refuse_empty_classes(folder, Path(masks))
    return MaskedFolder(folder, checked_folder(as_path("masks", masks), "The masks"), classes, values)


def _refuse_empty_classes(folder: Path, masks: Path) -> None:
    """Refuse sub-folders that would be classes if each of them held an image; the masks may lie in one of them."""
    places = [place for place in sub_folders(folder) if place.resolve() != masks.resolve()]
    empty = [place for place in places if not any(place.iterdir())]
    full = [place for place in places if place not in empty]
    are_parts = any(place.name.lower() in PARTS | SPLITS for place in places)
    if empty and full and not are_parts and all(map(holds_images, full)) and not holds_images(folder):
        raise ViceError(
            f"Each sub-folder of {folder} must hold images to be a class, but {named([str(p) for p in empty])} "
            f"{'holds' if len(empty) == 1 else 'hold'} none.",
            "Remove it. If the sub-folders are no classes, name that of the masks: --classes NAME (classes=['NAME']).",
        )


def _without_labels(folder: Path) -> ViceError:
    """The error of images that nothing labels; it names sub-folders that may be what was meant."""
    places = sub_folders(folder)
    inside = [str(place) for place in places if holds_images(place, below=True)]
    empty = [str(place) for place in places if str(place) not in inside]
    message = f"The images in {folder} need labels, but neither masks nor a COCO file are given"
    way_out = "Give --masks DIR or --coco FILE, or sort the images into one sub-folder for each class."
    if inside:
        message += f", and its sub-folders are no classes: {named(inside)}"
        alone = class_folders(Path(inside[0]))  # nothing else labels the images of one folder
        way_out += (
            f" Or give one of the sub-folders, such as --images {quote(inside[0])}{'' if alone else ' --masks DIR'}."
        )
    if inside and holds_images(folder):
        loose = next(file for file in sorted(folder.iterdir()) if file.suffix.lower() in BARE_SUFFIXES)
        message += f" while images lie beside them, such as {loose.name}"
        way_out += " If the sub-folders are classes, move the images beside them elsewhere."
    if inside and empty:
        way_out += f" If they are classes, remove those without images: {named(empty)}."
    return ViceError(f"{message}.", way_out)
