"""A folder of images without lists, with a folder of masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from torchvice.data.finder import composed, existing_files, first_other, refuse_table
from torchvice.data.layout import Layout, Located, NoLists, Record, mask_source
from torchvice.data.lists import ListLine, class_names
from torchvice.data.mask_values import mask_values
from torchvice.data.named_values import NamedValues
from torchvice.data.pairing import Pairs, counted, files_below, named, paired, parted
from torchvice.data.unread import BARE_SUFFIXES, LOSSY, LOSSY_WAY_OUT, MASK_SUFFIXES, other_images, suffixes_found
from torchvice.errors import ViceError, near_path
from torchvice.metrics.overlap import void_of

__all__ = [
    "BARE_SUFFIXES",
    "PARTS",
    "SPLITS",
    "BareFolder",
    "MaskedFolder",
    "checked_folder",
    "class_folders",
    "holds_images",
    "masks_below",
    "named_classes",
    "sub_folders",
]

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# Names of folders that are parts of a dataset, and no classes.
PARTS = {
    *("images", "imgs", "photos", "pictures", "masks", "labels", "annotations"),
    *("jpegimages", "segmentationclass", "segmentationclassaug", "segmentationobject"),
}
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class BareFolder(Layout):
    """A folder of images without lists; it has one split, which is called as the folder.

    Args:
        root: the folder of the images.
        homes: folders where classes.txt may be.
        apart: a folder in it that is not searched.

    Attributes:
        found: the image files of every name, see `files_below`.
        files: the image of every name.
        pairs: the masks of the images.

    Raises:
        ViceError: no such folder, no image in it, or two images of one name.
    """

    def __init__(self, root: Path, homes: Sequence[Path], apart: Path | None = None) -> None:
        self.root = self.base = self.images = checked_folder(root, "The images")
        self.homes = list(dict.fromkeys(homes))
        self.annotations, self.masks, self.described = root / "Annotations", (), None
        self.chosen = {"images": str(root)}
        self.found = files_below(root, BARE_SUFFIXES, apart)
        self.unread = other_images(root, apart)
        self.left_out = 0 if any("/" in name for name in self.found) else _images_in_sub_folders(root, apart)

    def settle(self, found: dict[str, list[Path]], pairs: Pairs | None) -> None:
        """Keep the image of every name, and its mask."""
        if not found:
            others = suffixes_found(self.root, BARE_SUFFIXES)
            raise ViceError(
                f"The folder of the images must hold some ({', '.join(BARE_SUFFIXES)}), but {self.root} holds "
                f"{f'other files: {others}' if others else 'none'}.",
                "Save the images in one of these formats, or give them as arrays in Python: "
                "torchvice.assess(model, [(image, mask), ...])."
                if others
                else "",
            )
        for files in found.values():
            if other := first_other(files):
                raise ViceError(
                    f"Images must have different names, but {files[0]} and {other} have one.", "Rename or move one."
                )
        self.files = {name: files[0] for name, files in found.items()}
        self.pairs = pairs or Pairs({}, tuple(self.files), (), ())

    @property
    def name(self) -> str:
        """The name of the only split."""
        return self.root.name or self.root.resolve().name

    @property
    def label_file(self) -> Path | None:
        """None: labels are in masks, folders or annotations."""
        return None

    def list_file(self, split: str | os.PathLike[str]) -> Path:
        """Return the folder, in the place of a list.

        Raises:
            ViceError: another split than the only one.
        """
        if str(split) != self.name:
            raise NoLists(
                f"`split` must be {self.name!r}, the only split of {self.root} (images without lists), but is "
                f"{str(split)!r}.",
                f"Its images are the split `{self.name}`: leave out the split, or give the folder of another one.",
            )
        return self.root

    def split_name(self, split: str | os.PathLike[str]) -> str:
        """Return the name of the only split."""
        self.list_file(split)
        return self.name

    def splits(self) -> list[str]:
        """Return the only split."""
        return [self.name]

    def notes(self, split: str | os.PathLike[str]) -> tuple[str, ...]:
        """Sentences on which images and masks were found, and how masks are read."""
        left_out = f"{self.left_out} images in sub-folders of {self.root} are left out: the folder itself holds images."
        return (*([left_out] * bool(self.left_out)), *self.format_notes(), *self.pairs.notes)

    def format_notes(self) -> tuple[str, ...]:
        """A sentence on images that are left out because their format is not read."""
        unread = [file for file in self.unread if file not in {*self.pairs.masks.values(), *self.pairs.spare}]
        if not unread:
            return ()
        are = counted(unread, "image is", "images are")
        return (f"{are} left out for the format: {named(unread)}. Read are {', '.join(BARE_SUFFIXES)}.",)

    def lines(self, split: str | os.PathLike[str]) -> list[ListLine]:
        """Return all images, sorted by name."""
        return [ListLine(name, str(file)) for name, file in self.files.items()]

    def annotation_of(self) -> Callable[[str], Path | None]:
        """Return a function that finds no annotation."""
        return lambda image_id: None

    def check_forms(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Nothing: forms of masks are told apart where the folder is opened."""
        return ()

    def located(self, lines: Sequence[ListLine], masks: str | None = None) -> Located:
        """Return all images with their masks."""
        if masks is not None:
            raise ViceError("A folder of images has its masks already; another folder of masks cannot be given.")
        records = [Record(name, file, self.pairs.masks.get(name)) for name, file in self.files.items()]
        return Located(records, [], mask_source(self._mask_counts(), len(records)))

    def no_class(self, split: str) -> ViceError:
        """The error of masks without a class: no dataset.yaml says what their values mean."""
        if len(self.classes) > 1:
            return super().no_class(split)
        option = f"object={void_of(len(self.classes))}"
        said = f"--mask-values {option} (mask_values='{option}')"
        return ViceError(super().no_class(split).message, f"If it is the object, say so: {said}.")

    def _mask_counts(self) -> dict[str, int]:
        where = self.chosen.get("masks")
        return {} if where is None else {where: len(self.pairs.masks)}


class MaskedFolder(BareFolder):
    """A folder of images and a folder of their masks, which may be the same; class labels are read from the masks.

    Args:
        root: the folder of the images.
        masks: the folder of the masks.
        classes: C names in the order of the masks' values; None: those of classes.txt in or next to either folder,
            else one class, `object`, if the masks hold two values.
        values: what the values of the masks of one class mean.

    Raises:
        ViceError: see `BareFolder`, `torchvice.data.pairing.paired` and `torchvice.data.mask_values.mask_values`.
    """

    def __init__(
        self, root: Path, masks: Path, classes: Sequence[str] | None = None, values: NamedValues | None = None
    ) -> None:
        super().__init__(root, homes_of(root, masks), apart=None if root.resolve() == masks.resolve() else masks)
        self.chosen["masks"] = str(masks)
        found = self.found
        if root.resolve() == masks.resolve():
            found, drawn = parted(files_below(root, BARE_SUFFIXES + MASK_SUFFIXES))
            _refuse_lossy([files[0] for files in drawn.values()])
        else:
            drawn = masks_below(masks, root)
        self.settle(found, paired(found, drawn, str(masks)))
        names = named_classes(classes, self.homes)
        self.values = mask_values(list(self.pairs.masks.values()), names, str(masks), values)
        self.classes = self.values.classes
        files = [] if classes is not None else existing_files(home / "classes.txt" for home in self.homes)
        self._named_in = tuple(f"The names of the classes are read from {file}." for file in files[:1])
        if self.values.object_value is not None:
            self.chosen["object_value"] = str(self.values.object_value)
        if values is not None:
            self.chosen["mask_values"] = values.text

    def read_mask(self, path: Path) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers, see `MaskValues.read`."""
        return self.values.read(path)

    def notes(self, split: str | os.PathLike[str]) -> tuple[str, ...]:
        """Sentences on how masks were found and read, and on images that are left out."""
        without = self.pairs.without
        left_out = (
            f"{counted(without, 'image without a mask is', 'images without a mask are')} left out: {named(without)}."
        )
        inside = any("/" in name for name in self.files)
        groups = ("Images are in sub-folders, which are no classes: classes are those of the masks.",) * inside
        found = (*super().notes(split), *self._named_in, *groups)
        return (*found, *([self.values.note] if self.values.note else []), *([left_out] * bool(without)))

    def located(self, lines: Sequence[ListLine], masks: str | None = None) -> Located:
        """Return the images that have a mask: the others have no label either."""
        every = super().located(lines, masks)
        records = [record for record in every.records if record.mask is not None]
        source = mask_source(self._mask_counts(), len(records))
        return Located(records, [], source, left_out=self.pairs.without)


def sub_folders(root: Path) -> list[Path]:
    """Return the sub-folders of a folder, sorted, without hidden ones."""
    return [place for place in sorted(root.iterdir()) if place.is_dir() and place.name[0] != "."]


def class_folders(root: Path) -> list[str]:
    """Return the composed names of a folder's sub-folders, sorted, if each is a class of images; else an empty list.

    The folder itself holds no image, every sub-folder holds some, and they are not the parts or splits of a dataset.
    """
    folders = [place.name for place in sub_folders(root)]
    if holds_images(root) or not folders or not all(holds_images(root / name) for name in folders):
        return []
    lower = {name.lower() for name in folders}
    return [] if lower <= SPLITS or lower & PARTS else sorted(map(composed, folders))


def holds_images(folder: Path, below: bool = False) -> bool:
    """Return whether a folder holds an image; with `below` also whether its sub-folders are classes."""
    if below and class_folders(folder):
        return True
    with os.scandir(folder) as entries:
        return any(
            entry.name[0] != "." and entry.name.lower().endswith(BARE_SUFFIXES) and entry.is_file() for entry in entries
        )


def _images_in_sub_folders(root: Path, apart: Path | None) -> int:
    """The number of images in the sub-folders of a folder, without hidden ones and the one that is `apart`."""
    return sum(
        path.name[0] != "." and path.suffix.lower() in BARE_SUFFIXES and path.is_file()
        for folder in sub_folders(root)
        if not (apart and folder.resolve() == apart.resolve())
        for path in folder.rglob("*")
    )


def checked_folder(folder: Path, what: str) -> Path:
    """Return a folder that exists.

    Raises:
        ViceError: it is missing, no folder, or a table of vice assess.
    """
    if not folder.is_dir():
        is_not = "is not" if folder.exists() else "is not there"
        raise ViceError(f"{what} must be in a folder, but {folder} {is_not}.", _folder_meant(folder))
    refuse_table(folder)
    return folder


def _folder_meant(path: Path) -> str:
    """The way out for a path that is no folder: an archive, a COCO file, a file or a pattern of a folder's files."""
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        return "Unpack it, and give the folder."
    if path.is_file() and path.suffix.lower() == ".json":
        return f"A COCO file is given as --coco {quote(str(path))} (coco='{path}')."
    if (path.is_file() or set("*?[") & set(path.name)) and path.parent.is_dir():
        return f"Give its folder, which is read as a whole: {path.parent}."
    return near_path(path, folder=True)


def homes_of(*folders: Path) -> list[Path]:
    """Return the folders and their parents, where classes.txt may be."""
    homes: dict[Path, Path] = {}
    for folder in folders:
        for home in (folder, folder.parent if folder.name not in ("", "..") else folder.resolve().parent):
            homes.setdefault(home.resolve(), home)
    return list(homes.values())


def masks_below(masks: Path, images: Path | None) -> dict[str, list[Path]]:
    """Find the masks of a folder, see `files_below`.

    Raises:
        ViceError: no such folder, or only masks in a format that changes values.
    """
    found = files_below(checked_folder(masks, "The masks"), MASK_SUFFIXES, images)
    if not found:
        _refuse_lossy([files[0] for files in files_below(masks, LOSSY, images).values()])
    return found


def _refuse_lossy(masks: Sequence[Path]) -> None:
    lossy = [file for file in masks if file.suffix.lower() in LOSSY]
    if lossy:
        raise ViceError(
            f"Masks must be PNG, BMP, GIF or TIFF, but {lossy[0]} is not: JPEG and WebP change values.",
            LOSSY_WAY_OUT,
        )


def named_classes(classes: Sequence[str] | None, homes: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the given class names, else those of a classes.txt, else None."""
    if classes is None and not existing_files(home / "classes.txt" for home in homes):
        return None
    return class_names(classes, list(homes))
