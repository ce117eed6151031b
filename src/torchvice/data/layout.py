"""Find the files of a dataset in the layout of VOC 2012: lists, images, masks and annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from torchvice.data.description import Description, read_description
from torchvice.data.images import read_mask
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import existing_file

__all__ = ["LAYOUT", "VOC_CLASSES", "Layout", "ListLine", "Located", "Record", "list_lines", "read_list"]

# fmt: off
VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
NO_LISTS = ("classes", "readme", "license")  # text files that are often next to lists
LAYOUT = (
    "Give the folder that holds VOC2012/JPEGImages (or the VOC2012 folder itself), with the lists next to it "
    "or in VOC2012/ImageSets/Segmentation."
)


@dataclass(frozen=True)
class Record:
    """One image of a split: its id (the file name without suffix), its image, and its mask or None."""

    image_id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class ListLine:
    """One line of a list: the id, and the paths given in the line."""

    image_id: str
    image: str | None = None
    mask: str | None = None


def _parsed(line: str, where: str) -> ListLine:
    words = line.split()
    paths = [PurePosixPath(word) for word in words]
    is_path = [path.suffix in IMAGE_SUFFIXES for path in paths]
    if len(words) == 1 and not is_path[0] and "/" not in words[0]:
        return ListLine(words[0])
    if all(is_path) and len(words) <= 2:
        return ListLine(paths[0].stem, words[0] if "/" in words[0] else None, words[1] if len(words) == 2 else None)
    raise ViceError(
        f"{where} must be a name or an image path and a mask path, but is {line!r}.",
        "Write one image per line, such as `2007_000033` or `/JPEGImages/x.jpg /SegmentationClassAug/x.png`.",
    )


def _text_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    path = existing_file(path, what, "Write one name per line.")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ViceError(f"{what} {path} must be text in UTF-8, but is not: {error}.") from None


def list_lines(path: str | os.PathLike[str]) -> list[ListLine]:
    """Read the lines of a list of images, without empty ones.

    Raises:
        ViceError: a line that does not name an image, or an image that is named twice.
    """
    lines: list[ListLine] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(_text_lines(path, "The list of images"), start=1):
        if not text:
            continue
        line = _parsed(text, f"Line {number} of {path}")
        if line.image_id in seen:
            raise ViceError(
                f"The list {path} must name every image once, but `{line.image_id}` is in line "
                f"{seen[line.image_id]} and in line {number}.",
                "Remove one of the two lines.",
            )
        seen[line.image_id] = number
        lines.append(line)
    if not lines:
        raise ViceError(f"The list {path} must name at least one image, but is empty.", "Write one name per line.")
    return lines


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Read the image ids of a list, in its order.

    A line is a name, or an image path with or without a mask path; the stem of the image path is then the id. Empty
    lines are skipped.

    Raises:
        ViceError: the list is missing or empty, names an image twice, or has another kind of line.
    """
    return [line.image_id for line in list_lines(path)]


@dataclass(frozen=True)
class Located:
    """The files of a list: records of lines whose image exists, the other lines, and a text on where the masks are."""

    records: list[Record]
    missing: list[ListLine]
    mask_source: str


class Layout:
    """The folder of a dataset and the places of its parts.

    Args:
        root: see `VocDataset`.
        classes: see `VocDataset`.

    Attributes:
        root: as given, a Path.
        base: the folder that holds the images' folder.
        homes: the folders where lists, classes.txt and cls_labels.npy may be.
        classes: (C,) names.
        images, annotations: folders; they may be missing.
        masks: the names of the folders of masks in `base`, in the order of precedence.
        described: the content of dataset.yaml, or None.

    Raises:
        ViceError: the folder is missing, or class names or dataset.yaml are wrong.
    """

    def __init__(self, root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise ViceError(f"The dataset must be a folder, but {self.root} is not.", LAYOUT)
        self.described = read_description(self.root)
        self.base = _voc_folder(self.root) if self.described is None else self.root
        self.homes = _homes(self.root, self.base)
        self.images, self.annotations = self.base / "JPEGImages", self.base / "Annotations"
        self.masks: tuple[str, ...] = MASK_FOLDERS
        if self.described is None:
            self.classes = _class_names(classes, self.homes)
            return
        self.classes = _described_names(classes, self.described)
        self.images = self.described.images or self.images
        self.annotations = self.described.boxes or self.annotations
        if self.described.masks:
            self.masks = (str(self.described.masks.relative_to(self.root)),)

    @property
    def _list_folders(self) -> list[Path]:
        return [*self.homes, self.base / "ImageSets" / "Segmentation"]

    @property
    def label_file(self) -> Path | None:
        """The path of cls_labels.npy, or None."""
        files = (home / "cls_labels.npy" for home in self.homes)
        return next((file for file in files if file.is_file()), None)

    def list_file(self, split: str | os.PathLike[str]) -> Path:
        """Find the list of a split by its name or path.

        Raises:
            ViceError: the list is missing.
        """
        declared = {} if self.described is None else self.described.splits
        if str(split).removesuffix(".txt") in declared:
            return declared[str(split).removesuffix(".txt")]
        folders = self._list_folders
        tried = [folder / name for folder in folders for name in (f"{split}.txt", str(split))]
        for file in (*tried, Path(split)):
            if file.is_file():
                return file
        known = self.splits()
        raise ViceError(
            f"`split` must name a list in {' or '.join(map(str, folders))}, but is {str(split)!r}.",
            did_you_mean(str(split), known) if known else LAYOUT,
        )

    def split_name(self, split: str | os.PathLike[str]) -> str:
        """Return the name of a split: that in dataset.yaml, else the name of its list without suffix."""
        name = str(split).removesuffix(".txt")
        if self.described is not None and name in self.described.splits:
            return name
        return self.list_file(split).name.removesuffix(".txt")

    def splits(self) -> list[str]:
        """Return the names of all lists, sorted; if dataset.yaml has splits, only these."""
        if self.described is not None and self.described.splits:
            return sorted(self.described.splits)
        folders = [folder for folder in self._list_folders if folder.is_dir()]
        names = {file.stem for folder in folders for file in folder.glob("*.txt")}
        return sorted(name for name in names if not name.lower().startswith(NO_LISTS))

    def read_mask(self, path: Path) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers, see `torchvice.data.read_mask`, as dataset.yaml maps them."""
        return read_mask(path) if self.described is None else self.described.read_mask(path)

    def annotation_of(self) -> Callable[[str], Path | None]:
        """Return a function that finds the annotation of an image id."""
        return finder(self.annotations, (".xml",))

    def located(self, lines: Sequence[ListLine], masks: str | None = None) -> Located:
        """Find the files of every line; `masks` is the only folder of masks, if given.

        Raises:
            ViceError: that folder is missing.
        """
        if masks is not None and not (self.base / masks).is_dir():
            known = [entry.name for entry in self.base.iterdir() if entry.is_dir()]
            raise ViceError(f"`masks` must name a folder in {self.base}, but is {masks!r}.", did_you_mean(masks, known))
        image_of = finder(self.images, IMAGE_SUFFIXES)
        folders = {name: finder(self.base / name, (".png",)) for name in ([masks] if masks else self.masks)}
        records, missing, found = [], [], dict.fromkeys(("the list's paths", *folders), 0)
        for line in lines:
            image = self._named_file(line.image) if line.image else image_of(line.image_id)
            if image is None:
                missing.append(line)
                continue
            mask, source = (None if masks else self._named_file(line.mask)), "the list's paths"
            for name, mask_of in folders.items():
                if mask is None:
                    mask, source = mask_of(line.image_id), name
            found[source] += mask is not None
            records.append(Record(line.image_id, image, mask))
        return Located(records, missing, _mask_source(found, len(lines)))

    def expected_image(self, line: ListLine) -> str:
        """Return a text that says where the image of a line should be."""
        if line.image:
            return str(self.base / line.image.lstrip("/"))
        return f"{self.images / line.image_id}.jpg (or .jpeg, .png)"

    def _named_file(self, path: str | None) -> Path | None:
        """Find a file that a line names: in the VOC folder, next to it, or anywhere."""
        if path is None:
            return None
        inside = [home / path.lstrip("/") for home in (self.base, *self.homes)]
        return next((file for file in (*inside, Path(path)) if file.is_file()), None)


def _mask_source(found: dict[str, int], lines: int) -> str:
    used = {name: count for name, count in found.items() if count}
    if len(used) == 1 and sum(used.values()) == lines:
        return next(iter(used))
    parts = [f"{count} of {lines} from {name}" for name, count in used.items()]
    return ", ".join([*parts, f"{lines - sum(used.values())} missing"])


def _voc_folder(root: Path) -> Path:
    """Find the folder that holds JPEGImages, `root` or VOC2012 in it; without one, return `root`."""
    folders = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), root)


def _homes(root: Path, base: Path) -> list[Path]:
    """Folders where lists and cls_labels.npy may be: `root`, the VOC folder, and the parent of a folder VOC2012."""
    parent = [base.absolute().parent] if base.absolute().name == "VOC2012" else []
    return list(dict.fromkeys([root, base, *parent]))


def _class_names(classes: Sequence[str] | None, homes: list[Path]) -> tuple[str, ...]:
    where = "`classes`"
    if classes is None:
        file = next((home / "classes.txt" for home in homes if (home / "classes.txt").is_file()), None)
        if file is None:
            return VOC_CLASSES
        where = str(file)
        classes = [line for line in _text_lines(file, "The list of classes") if line]
    names = () if isinstance(classes, str) else tuple(classes)
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ViceError(f"{where} must be a list of different class names, but is {classes!r}.")
    if names[0] in ("background", "__background__"):
        raise ViceError(
            f"{where} must name objects only, but begins with {names[0]!r}.", "Leave it out: it is label 0."
        )
    return names


def _described_names(classes: Sequence[str] | None, described: Description) -> tuple[str, ...]:
    if classes is not None and tuple(classes) != described.names:
        raise ViceError(
            f"`classes` must be the names in {described.file}, in their order, but is {list(classes)}.",
            "Leave them out: the file has them.",
        )
    return described.names


def finder(folder: Path, suffixes: tuple[str, ...]) -> Callable[[str], Path | None]:
    """Return a function that finds files of `folder` by stem; one listing is faster than thousands of checks."""
    names = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()

    def find(stem: str) -> Path | None:
        return next((folder / (stem + suffix) for suffix in suffixes if stem + suffix in names), None)

    return find
