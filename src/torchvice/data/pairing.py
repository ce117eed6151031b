"""Which mask belongs to which image, by their names: NAME, NAME_mask, NAME-seg, mask_NAME and the like."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchvice.data.finder import composed, first_other
from torchvice.data.unread import MASK_SUFFIXES, other_files, way_out_of
from torchvice.errors import ViceError

__all__ = ["MASK_NAMES", "Pairs", "counted", "files_below", "named", "paired", "parted"]

MASK_NAMES = "Name a mask like its image, with _mask, -mask, .mask, _seg, -seg, _gt or _label behind, or mask_ before."
_WORD = r"(?:masks?|seg|segmentation|gt|ground_?truth|labels?)"
_ENDING = re.compile(rf"(.+?)([ _.-]{_WORD})", re.IGNORECASE)
_BEGINNING = re.compile(rf"({_WORD}[ _.-])(.+)", re.IGNORECASE)
NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Pairs:
    """The masks of images.

    Attributes:
        masks: the mask of each image name that has one.
        without: the names of the images without a mask.
        spare: the masks without an image.
        notes: sentences on how the names of masks differ from those of images.
    """

    masks: Mapping[str, Path]
    without: tuple[str, ...]
    spare: tuple[Path, ...]
    notes: tuple[str, ...]


def files_below(folder: Path, suffixes: Sequence[str], apart: Path | None = None) -> dict[str, list[Path]]:
    """Find the files of a folder by their name without suffix, sorted; hidden ones are left out.

    If the folder itself holds none, those of its sub-folders are found, and their names hold the folders: `cats/001`.
    Links to folders are followed, each folder once.

    Args:
        folder: where to look.
        suffixes: in lower case.
        apart: a folder that is not searched.
    """
    found: dict[str, list[Path]] = {}
    entered = {folder.resolve()} | ({apart.resolve()} if apart else set())
    for place, folders, names in os.walk(folder, followlinks=True):  # ImageNet-S links to folders of ImageNet
        inner = {name: Path(place, name).resolve() for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for name, resolved in inner.items() if resolved not in entered]
        entered.update(inner.values())
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                inside = path.relative_to(folder).with_suffix("")
                found.setdefault(composed(inside.as_posix()), []).append(path)
        if found and Path(place) == folder:
            break
    return dict(sorted(found.items()))


def _forms(name: str) -> list[tuple[str, str]]:
    """The names that an image of this mask may have, each with the form of the mask's name.

    Example:
        >>> _forms("cats/001_mask")
        [('cats/001_mask', 'NAME'), ('cats/001', 'NAME_mask')]
    """
    path = PurePosixPath(name)
    forms = [(name, "NAME")]
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):  # a.jpg.png is the mask of a.jpg
        forms.append((str(path.with_suffix("")), f"NAME{path.suffix}"))
    if match := _ENDING.fullmatch(path.name):
        forms.append((str(path.with_name(match[1])), f"NAME{match[2]}"))
    if match := _BEGINNING.fullmatch(path.name):
        forms.append((str(path.with_name(match[2])), f"{match[1]}NAME"))
    return forms


def parted(files: Mapping[str, list[Path]]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Part the files of one folder that holds both: images, and masks, whose name is an image's with more."""
    masks = {name for name in files if any(core in files for core, _ in _forms(name)[1:])}
    images = {name: paths for name, paths in files.items() if name not in masks}
    return images, {name: files[name] for name in masks}


def paired(images: Mapping[str, Sequence[Path]], masks: Mapping[str, Sequence[Path]], where: str) -> Pairs:
    """Find the mask of each image by their names.

    Args:
        images, masks: files by their name without suffix, see `files_below`.
        where: the folder of the masks, for messages.

    Raises:
        ViceError: an image with two masks that differ, a mask with two images, or names that do not fit.
    """
    fits: dict[str, list[tuple[Path, str]]] = {}
    double: list[tuple[Path, list[Path]]] = []
    spare: list[Path] = []
    for name in sorted(masks):
        forms = [(core, form) for core, form in _forms(name) if core in images]
        fitting = [file for core, _ in forms for file in images[core]]
        if len(fitting) > 1:
            double.append((masks[name][0], fitting))
        for core, form in forms:
            fits.setdefault(core, []).extend((file, form) for file in masks[name])
        spare += [] if forms else masks[name]
    several = {name: files for name, files in fits.items() if first_other([file for file, _ in files])}
    _refuse_several(images, several, double)
    without = tuple(name for name in images if name not in fits)
    unread = _unread(images, without, Path(where)) if without else []
    if without and (spare or not fits):
        raise _no_partner(images, without, spare, unread, where)
    notes = _notes(images, fits, spare, unread)
    return Pairs({name: files[0][0] for name, files in fits.items()}, without, tuple(spare), notes)


def _notes(
    images: Mapping[str, Sequence[Path]],
    fits: Mapping[str, Sequence[tuple[Path, str]]],
    spare: Sequence[Path],
    unread: Sequence[Path],
) -> tuple[str, ...]:
    """Sentences on the names of masks, and on files in their folder that are not read."""
    forms_found: dict[str, list[str]] = {}
    for name, files in fits.items():
        forms_found.setdefault(files[0][1], []).append(name)
    notes = tuple(
        f"{counted(names, 'mask is', 'masks are')} called {form}, "
        f"such as {fits[names[0]][0][0]} of {images[names[0]][0]}."
        for form, names in sorted(forms_found.items())
        if form != "NAME"
    )
    if spare:
        notes += (
            f"{counted(spare, 'mask without an image is', 'masks without an image are')} not read: {named(spare)}.",
        )
    if unread:
        are = counted(unread, "file called like a mask is", "files called like masks are")
        notes += (f"{are} not read: {named(unread)}. {way_out_of(unread[0])}",)
    return notes


def _unread(images: Mapping[str, Sequence[Path]], without: Sequence[str], folder: Path) -> list[Path]:
    """The files that are called as the masks of images without one, but have a suffix that is not read."""
    lacking = set(without)

    def is_mask(name: str, file: Path) -> bool:
        cores = [core for core, _ in _forms(composed(name)) if core in lacking]
        return any(file.resolve() not in [image.resolve() for image in images[core]] for core in cores)

    return [file for name, file in other_files(folder, MASK_SUFFIXES) if is_mask(name, file)]


def _refuse_several(
    images: Mapping[str, Sequence[Path]],
    several: Mapping[str, list[tuple[Path, str]]],
    double: Sequence[tuple[Path, list[Path]]],
) -> None:
    """Refuse masks of two images, and images of two masks that differ."""
    if double:
        mask, fitting = double[0]
        raise ViceError(
            f"A mask must have one image, but {mask} fits {' and '.join(map(str, fitting))}"
            f"{_all('masks', [mask for mask, _ in double])}.",
            "Rename or move one of the images.",
        )
    if several:
        name, files = next(iter(several.items()))
        raise ViceError(
            f"An image must have one mask, but {images[name][0]} has {' and '.join(str(file) for file, _ in files)}"
            f"{_all('images', [f'`{name}`' for name in several])}.",
            "Move the masks that are not meant to another folder.",
        )


def _no_partner(
    images: Mapping[str, Sequence[Path]],
    without: Sequence[str],
    spare: Sequence[Path],
    unread: Sequence[Path],
    where: str,
) -> ViceError:
    """The error of images without a mask where masks are left over, or no mask fits."""
    if unread and not spare:
        return ViceError(
            f"Every image must have a mask, but {len(without)} of the {len(images)} images have none that is read: "
            f"{named(unread)} {'has another suffix' if len(unread) == 1 else 'have other suffixes'}.",
            way_out_of(unread[0]),
        )
    lone = f"{counted(spare, 'mask has', 'masks have')} no image ({named(spare)})"
    lone = lone if spare else f"{where} holds no mask for any of them"
    has = "has" if len(without) == 1 else "have"
    inside = spare and any("/" in name for name in without)
    return ViceError(
        f"Every image must have a mask, but {len(without)} of the {len(images)} images {has} none "
        f"({named([images[name][0] for name in without])}), and {lone}.",
        MASK_NAMES
        + (" Masks of images in sub-folders lie in sub-folders of the same names." if inside else "")
        + (f" Not read for their suffix: {named(unread)}." if unread else ""),
    )


def _all(what: str, names: Sequence[object]) -> str:
    return f" ({len(names)} such {what}: {named(names)})" if len(names) > 1 else ""


def counted(items: Sequence[object], one: str, many: str) -> str:
    """The number of items with the phrase for one or for many.

    Example:
        >>> counted([1], "mask is", "masks are"), counted([1, 2], "mask is", "masks are")
        ('1 mask is', '2 masks are')
    """
    return f"{len(items)} {one if len(items) == 1 else many}"


def named(items: Sequence[object]) -> str:
    """The first few of many, for a message."""
    return ", ".join(map(str, items[:NAMED])) + (", ..." if len(items) > NAMED else "")
