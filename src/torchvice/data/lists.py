"""The text files of a dataset: lists of images, and the list of classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchvice.data.description import check_objects_only
from torchvice.data.finder import composed, existing_files, refuse_spelling
from torchvice.errors import ViceError
from torchvice.files import existing_file

__all__ = [
    "CLASS_FILES",
    "IMAGE_SUFFIXES",
    "VOC_CLASSES",
    "ListLine",
    "class_names",
    "is_listed_as_name",
    "list_lines",
    "names_in",
    "read_list",
]

# fmt: off
VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
CLASS_FILES = (
    *("class_names.txt", "class-names.txt", "classnames.txt", "class.txt", "labels.txt", "label.txt"),
    *("label_names.txt", "labelnames.txt", "labelmap.txt", "names.txt", "categories.txt"),
)  # that may hold the names of the classes, but are not read
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")  # in any case; the first one is read if an image has several
VOC_OF_ONE_CLASS = re.compile(r"\S+(  ?-1|  [01])")  # a line of VOC's lists of one class, such as cat_train.txt


@dataclass(frozen=True)
class ListLine:
    """One line of a list: the id, and the paths given in the line."""

    image_id: str
    image: str | None = None
    mask: str | None = None


def _parsed(line: str, where: str) -> ListLine:
    """Read a line: a name, an image path, or both paths; names and paths may hold spaces."""
    line = line.replace("\\", "/") if "/" not in line and _is_image(line) else line  # written on Windows
    halves = [(line[: gap.start()], line[gap.end() :]) for gap in re.finditer(r"\s+", line)]
    pairs = [pair for pair in halves if all(map(_is_image, pair))]
    if not pairs and _is_image(line):
        return ListLine(PurePosixPath(line).stem, line)
    if not pairs and "/" not in line and not VOC_OF_ONE_CLASS.fullmatch(line):
        return ListLine(line)
    if len(pairs) == 1:
        image, mask = pairs[0]
        return ListLine(PurePosixPath(image).stem, image, mask)
    raise ViceError(
        f"{where} must be a name or an image path and a mask path, but is {line!r}.",
        "Write one image per line, such as `2007_000033` or `/JPEGImages/x.jpg /SegmentationClassAug/x.png`.",
    )


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def is_listed_as_name(name: str) -> bool:
    """Whether a line of a list that holds only `name` means the image of this name."""
    try:
        return _parsed(name.strip(), "") == ListLine(name)
    except ViceError:
        return False


def _text_lines(path: str | os.PathLike[str], what: str) -> list[str]:
    path = existing_file(path, what, "Write one name per line.")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ViceError(f"{what} {path} must be text in UTF-8, but is not: {error}.", "Save it as UTF-8.") from None


def list_lines(path: str | os.PathLike[str]) -> list[ListLine]:
    """Read the lines of a list of images, without empty ones.

    Raises:
        ViceError: a line that does not name an image, or an image that is named twice.
    """
    lines: list[ListLine] = []
    seen: dict[str, tuple[int, str | None]] = {}
    for number, text in enumerate(_text_lines(path, "The list of images"), start=1):
        if not text:
            continue
        line = _parsed(text, f"Line {number} of {path}")
        first, image = seen.setdefault(composed(line.image_id), (number, line.image))
        if first != number:
            two = image and line.image and image.lstrip("/") != line.image.lstrip("/")
            raise ViceError(
                f"The list {path} must name every image once, but `{line.image_id}` is in line {first} and in line "
                f"{number}.",
                "Rename one of the two files: an image is known by its name without folder and suffix."
                if two
                else "Remove one of the two lines.",
            )
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


def names_in(file: Path) -> list[str]:
    """Read the lines of a list of classes, without empty ones."""
    return [line for line in _text_lines(file, "The list of classes") if line]


def class_names(classes: Sequence[str] | None, homes: list[Path]) -> tuple[str, ...]:
    """Return the names of the classes: `classes`, else the lines of classes.txt in one of `homes`, else VOC's twenty.

    Raises:
        ViceError: two files of classes that differ, a name twice, or one that means the background or void.
    """
    where = "`classes`"
    if classes is None:
        files = existing_files(home / "classes.txt" for home in homes)
        if not files:
            for home in homes:
                refuse_spelling(
                    home, "classes.txt", CLASS_FILES, "Write the names of the classes into classes.txt, one a line."
                )
            return VOC_CLASSES
        if len({file.read_bytes() for file in files}) > 1:
            raise ViceError(
                f"A dataset must have one classes.txt, but {' and '.join(map(str, files))} differ.",
                "Remove one of them.",
            )
        where = str(files[0])
        classes = names_in(files[0])
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else ()
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ViceError(
            f"{where} must be a list of different class names, but is {classes!r}.",
            f"Give a list: classes={[name.strip() for name in classes.split(',')]}."
            if isinstance(classes, str)
            else "Name every class once, in a list.",
        )
    check_objects_only(names, f"{where} must name", "Leave it out: background is label 0 and void 255 in a mask.")
    return names
