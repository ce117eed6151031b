"""The layout of VOC 2012: lists of images, their class labels and their masks."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from torchvice.data.annotations import class_indices, object_boxes, read_annotation
from torchvice.data.images import VOID, check_mask, read_image, read_mask, stored_size
from torchvice.data.labels import LABEL_SOURCES, targets_from
from torchvice.errors import ViceError, nearest
from torchvice.files import existing_file

__all__ = [
    "VOC_CLASSES",
    "VOID",
    "Record",
    "VocDataset",
    "check_mask",
    "read_image",
    "read_list",
    "read_mask",
]

# fmt: off
VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
LAYOUT = (
    "Give the folder that holds VOC2012/JPEGImages (or the VOC2012 folder itself), with the lists beside it "
    "or in VOC2012/ImageSets/Segmentation."
)


@dataclass(frozen=True)
class Record:
    """One image of a split: its id (the image's name without suffix), its image and, if any, its mask."""

    image_id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class _Line:
    """One line of a list: the id, and the paths that the line spells out."""

    image_id: str
    image: str | None = None
    mask: str | None = None


def _parsed(line: str, where: str) -> _Line:
    words = line.split()
    paths = [PurePosixPath(word) for word in words]
    is_path = [path.suffix in IMAGE_SUFFIXES for path in paths]
    if len(words) == 1 and not is_path[0] and "/" not in words[0]:
        return _Line(words[0])
    if all(is_path) and len(words) <= 2:
        return _Line(paths[0].stem, words[0] if "/" in words[0] else None, words[1] if len(words) == 2 else None)
    raise ViceError(
        f"{where} must be a name or an image path and a mask path, but is {line!r}.",
        "Write one image a line, such as `2007_000033` or `/JPEGImages/x.jpg /SegmentationClassAug/x.png`.",
    )


def _text_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    path = existing_file(path, what, "Write one name a line.")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ViceError(f"{what} {path} must be text in UTF-8, but is not: {error}.") from None


def _lines(path: str | os.PathLike[str]) -> list[_Line]:
    lines: list[_Line] = []
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
        raise ViceError(f"The list {path} must name at least one image, but is empty.", "Write one name a line.")
    return lines


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """The image ids in a list file, in its order.

    A line is a plain name, or an image path with or without a mask path, of which the image's stem is the id.
    Blank lines are skipped.

    Raises:
        ViceError: no such file, an empty list, a name twice, or a line that is neither.
    """
    return [line.image_id for line in _lines(path)]


class VocDataset:
    """A split in the layout of VOC 2012: images, class labels, and masks where there are any.

    Args:
        root: the folder that holds VOC2012 and the flat lists; or the VOC2012 folder; or a VOCdevkit.
        split: a name (`val`, `train_aug`), looked up beside and in the VOC folder and in
            ImageSets/Segmentation; or the path of a list.
        classes: C names in the order of the labels; else the lines of classes.txt, else VOC's twenty.
        labels: where the class labels come from: `cls_labels` (cls_labels.npy), `annotations` (XML), `masks`;
            `auto` takes the first of these that covers every image of the split.
        masks: the folder of the masks; else what the list's own paths say, SegmentationClassAug, and
            SegmentationClass, in this order for each image.
        regions: where an object lies: `masks`, or `boxes`, the union of its boxes in Annotations; `auto` takes the
            masks where the split has any, so that a table never mixes the two.
        exclusive: whether an image can have one label only, so that classes are alternatives. It is said, never
            guessed: a multi-label split may happen to hold one label an image.

    Attributes:
        root: as given, a Path.
        split: the list's name without suffix.
        classes: (C,) names.
        records: one Record an image, in the order of the list.
        targets: (N, C) uint8, 1 where the image holds the class.
        label_source: where the targets come from, in words.
        mask_source: where the masks come from, in words.
        masks_missing: how many images have no mask.
        regions: `masks` or `boxes`.
        regions_missing: how many images have none of these.
        exclusive: as given.

    Files must exist when the dataset is built; what is in them is checked when they are read.

    Raises:
        ViceError: no such folder or list, an empty list or a name twice, a missing image, an unlabelled one,
            an unknown class, labels of another length, or regions from boxes without any annotation; with `exclusive`,
            an image of no label or of several.

    References:
        The PASCAL Visual Object Classes Challenge 2012, development kit; for the augmented masks: Semantic
        Contours from Inverse Detectors (2011).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | os.PathLike[str] = "val",
        *,
        classes: Sequence[str] | None = None,
        labels: str = "auto",
        masks: str | None = None,
        regions: str = "auto",
        exclusive: bool = False,
    ) -> None:
        if labels != "auto" and labels not in LABEL_SOURCES:
            known = ("auto", *LABEL_SOURCES)
            raise ViceError(f"`labels` must be one of {', '.join(known)}, but is {labels!r}.", nearest(labels, known))
        self.root = Path(root)
        if not self.root.is_dir():
            raise ViceError(f"The dataset must be a folder, but there is none at {self.root}.", LAYOUT)
        self._base = _voc_folder(self.root)
        self._homes = _homes(self.root, self._base)
        self._list = _list_file(split, self._homes, self._base)
        self.split = self._list.name.removesuffix(".txt")
        self.classes = _class_names(classes, self._homes)
        self.records, self.mask_source = self._located(_lines(self._list), masks)
        self.masks_missing = sum(record.mask is None for record in self.records)
        if len(self.classes) >= VOID and self.masks_missing < len(self.records):
            raise ViceError(
                f"Masks can tell at most 254 classes apart (255 is void), but there are {len(self.classes)}.",
                "Measure these classes without masks: move the mask folders away.",
            )
        annotation_of = _finder(self._base / "Annotations", (".xml",))
        self._annotations = {record.image_id: annotation_of(record.image_id) for record in self.records}
        self.regions, self.regions_missing = self._regions(regions)
        npy = (home / "cls_labels.npy" for home in self._homes)
        self.targets, self.label_source = targets_from(
            labels,
            self.records,
            self.classes,
            npy=next((file for file in npy if file.is_file()), None),
            annotations=self._base / "Annotations",
            masks=self.mask_source,
        )
        self.exclusive = exclusive
        if exclusive:
            self._check_exclusive()

    def _check_exclusive(self) -> None:
        labels = self.targets.sum(1)
        others = np.flatnonzero(labels != 1)
        if len(others):
            first = int(others[0])
            raise ViceError(
                f"Exclusive targets are one label an image, but {len(others)} of the {len(self)} images of "
                f"{self.split} have none or several, such as `{self.records[first].image_id}` with "
                f"{int(labels[first])}.",
                "Leave data.exclusive false: these classes are no alternatives.",
            )

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, 3) uint8, RGB, as stored: see `read_image`.

        Raises:
            ViceError: no such index, or a file that is damaged.
        """
        return read_image(self._record(index).image)

    def mask(self, index: int) -> np.ndarray | None:
        """The mask of image `index`, (H, W) uint8: 0 background, c + 1 class c, 255 void; None without one.

        Raises:
            ViceError: no such index, a damaged file, another size than the image, a value beyond the classes.
        """
        record = self._record(index)
        if record.mask is None:
            return None
        mask = read_mask(record.mask)
        size = stored_size(record.image)
        if mask.shape != size:
            raise ViceError(
                f"The mask {record.mask} must be {size[0]} x {size[1]} (H x W) like its image, "
                f"but is {mask.shape[0]} x {mask.shape[1]}.",
                "Masks are drawn on the pixels as stored, before any EXIF rotation.",
            )
        check_mask(mask, len(self.classes), record.mask)
        return mask.astype(np.uint8, copy=False)

    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The boxes of the objects in image `index`, from its XML file in Annotations; None without file or boxes.

        Objects marked `difficult` have theirs too, as they count for the class labels.

        Returns:
            classes (B,) int64, 0..C-1, and boxes (B, 4) float64 in pixels: left, top, right and bottom, from 0, right
            and bottom exclusive.

        Raises:
            ViceError: no such index, a damaged file, an unknown class, or a box that is empty or outside the image.
        """
        record = self._record(index)
        file = self._annotations[record.image_id]
        if file is None:
            return None
        objects = read_annotation(file)
        boxes = object_boxes(objects, stored_size(record.image), file)
        if boxes is None:
            return None
        known = {name: c for c, name in enumerate(self.classes)}
        return np.array(class_indices(objects, known, file), dtype=np.int64), boxes

    def _regions(self, regions: str) -> tuple[str, int]:
        """Where objects lie, and how many images do not have that."""
        if regions not in ("auto", "masks", "boxes"):
            known = ("auto", "masks", "boxes")
            raise ViceError(
                f"`regions` must be one of {', '.join(known)}, but is {regions!r}.", nearest(regions, known)
            )
        lacking = sum(file is None for file in self._annotations.values())
        boxed = lacking < len(self.records)
        if regions == "boxes" and not boxed:
            raise ViceError(
                f"Regions from boxes need XML files in {self._base / 'Annotations'}, but no image of {self.split} has "
                "one."
            )
        if regions == "boxes" or (regions == "auto" and boxed and self.masks_missing == len(self.records)):
            return "boxes", lacking
        return "masks", self.masks_missing

    def _record(self, index: int) -> Record:
        index = operator.index(index)
        if not 0 <= index < len(self.records):
            raise ViceError(f"The index must be 0 to {len(self.records) - 1} in {self.split}, but is {index}.")
        return self.records[index]

    def _located(self, lines: list[_Line], masks: str | None) -> tuple[list[Record], str]:
        """The files of every line, and where the masks were found."""
        if masks is not None and not (self._base / masks).is_dir():
            known = [entry.name for entry in self._base.iterdir() if entry.is_dir()]
            raise ViceError(f"`masks` must name a folder in {self._base}, but is {masks!r}.", nearest(masks, known))
        image_of = _finder(self._base / "JPEGImages", IMAGE_SUFFIXES)
        folders = {name: _finder(self._base / name, (".png",)) for name in ([masks] if masks else MASK_FOLDERS)}
        records, missing, found = [], [], dict.fromkeys(("the list's paths", *folders), 0)
        for line in lines:
            image = self._spelt_out(line.image) if line.image else image_of(line.image_id)
            if image is None:
                missing.append(line)
                continue
            mask, source = (None if masks else self._spelt_out(line.mask)), "the list's paths"
            for name, mask_of in folders.items():
                if mask is None:
                    mask, source = mask_of(line.image_id), name
            found[source] += mask is not None
            records.append(Record(line.image_id, image, mask))
        if missing:
            first = missing[0].image_id
            expected = self._base / (missing[0].image or f"JPEGImages/{first}.jpg (or .jpeg, .png)").lstrip("/")
            raise ViceError(
                f"The image of `{first}` must be {expected}, but there is none ({len(missing)} of the "
                f"{len(lines)} images of {self._list} are missing).",
                "" if (self._base / "JPEGImages").is_dir() else LAYOUT,
            )
        used = {name: count for name, count in found.items() if count}
        if len(used) == 1 and sum(used.values()) == len(lines):
            return records, next(iter(used))
        said = [f"{count} of {len(lines)} from {name}" for name, count in used.items()]
        return records, ", ".join([*said, f"{len(lines) - sum(used.values())} missing"])

    def _spelt_out(self, path: str | None) -> Path | None:
        """The file that a list's line names: within the VOC folder, beside it, or anywhere."""
        if path is None:
            return None
        inside = [home / path.lstrip("/") for home in (self._base, *self._homes)]
        return next((file for file in (*inside, Path(path)) if file.is_file()), None)


def _voc_folder(root: Path) -> Path:
    """The folder that holds JPEGImages: `root` itself, or VOC2012 in it; `root` where there is none."""
    folders = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), root)


def _homes(root: Path, base: Path) -> list[Path]:
    """Where flat lists and cls_labels.npy may lie: `root`, the VOC folder, beside a folder named VOC2012."""
    beside = [base.absolute().parent] if base.absolute().name == "VOC2012" else []
    return list(dict.fromkeys([root, base, *beside]))


def _list_file(split: str | os.PathLike[str], homes: list[Path], base: Path) -> Path:
    folders = [*homes, base / "ImageSets" / "Segmentation"]
    tried = [folder / name for folder in folders for name in (f"{split}.txt", str(split))]
    for file in (*tried, Path(split)):
        if file.is_file():
            return file
    known = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.txt")} - {"classes"})
    raise ViceError(
        f"`split` must name a list in {' or '.join(map(str, folders))}, but is {str(split)!r}.",
        nearest(str(split), known) if known else LAYOUT,
    )


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


def _finder(folder: Path, suffixes: tuple[str, ...]) -> Callable[[str], Path | None]:
    """Looks up files of `folder` by stem; one listing is much faster than asking for thousands of files."""
    names = frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()

    def find(stem: str) -> Path | None:
        return next((folder / (stem + suffix) for suffix in suffixes if stem + suffix in names), None)

    return find
