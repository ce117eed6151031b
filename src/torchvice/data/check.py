"""What a dataset holds and what is wrong with it, by name: before a training or an assessment meets it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.data.annotations import class_indices, object_boxes, read_annotation
from torchvice.data.images import VOID, check_mask, check_same_size, read_image, stored_size
from torchvice.data.labels import targets_from
from torchvice.data.layout import Layout, Record, list_lines
from torchvice.data.open import open_layout
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.data.dataset import FolderDataset
    from torchvice.data.unlabelled import UnlabelledImages  # with torch

__all__ = ["Problem", "SplitSurvey", "check_files", "survey"]

Progress = Callable[[int, int], None]
NAMED = 3  # files that a sentence names


@dataclass(frozen=True)
class Problem:
    """A thing that is wrong: its kind (`list`, `image`, `mask`, `annotation`, `labels`), whose it is, a sentence."""

    kind: str
    image_id: str
    sentence: str


@dataclass(frozen=True)
class SplitSurvey:
    """What a split holds.

    Attributes:
        split, list_file: the name and the file of the list.
        images: N, the lines of the list.
        classes: (C,) names.
        images_per_class: (C,) by the class labels; None where these cannot be had.
        objects_per_class: (C,) the annotations' objects; None without annotations.
        height, width: the least, the median and the greatest of the readable images, pixels; None without any.
        masks: how many masks can be read.
        void_share: share of these masks' pixels that is void, in [0, 1]; NaN without a mask.
        label_source, mask_source: in words.
        masks_missing: ids of images without a mask.
        disagreements: images whose labels and mask do not name the same classes.
        broken: what must be put right before the split can be used.
    """

    split: str
    list_file: Path
    images: int
    classes: tuple[str, ...]
    images_per_class: tuple[int, ...] | None
    objects_per_class: tuple[int, ...] | None
    height: tuple[int, float, int] | None
    width: tuple[int, float, int] | None
    masks: int
    void_share: float
    label_source: str
    mask_source: str
    masks_missing: tuple[str, ...]
    disagreements: tuple[Problem, ...]
    broken: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, the undefined as null."""

        def counts(found: tuple[int, ...] | None) -> dict[str, int] | None:
            return None if found is None else dict(zip(self.classes, found, strict=True))

        return {
            "split": self.split,
            "list": str(self.list_file),
            "images": self.images,
            "classes": list(self.classes),
            "images_per_class": counts(self.images_per_class),
            "objects_per_class": counts(self.objects_per_class),
            "height": None if self.height is None else dict(zip(("min", "median", "max"), self.height, strict=True)),
            "width": None if self.width is None else dict(zip(("min", "median", "max"), self.width, strict=True)),
            "masks": self.masks,
            "void_share": None if np.isnan(self.void_share) else self.void_share,
            "label_source": self.label_source,
            "mask_source": self.mask_source,
            "masks_missing": list(self.masks_missing),
            "disagreements": [vars(problem) for problem in self.disagreements],
            "broken": [vars(problem) for problem in self.broken],
        }


@dataclass(frozen=True)
class _Looked:
    """What the files of one image hold."""

    size: tuple[int, int] | None
    in_mask: tuple[int, ...] | None  # class indices
    pixels: int
    void: int
    objects: tuple[int, ...] | None  # class indices, one an object
    problems: tuple[Problem, ...]


def survey(
    root: str | os.PathLike[str], split: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> list[SplitSurvey]:
    """What each split of a dataset holds; every file is read in full, each once.

    Args:
        root: see `VocDataset`.
        split: a name or the path of a list; None: every list that is there.
        progress: called with the images that are done and all of them.

    Raises:
        ViceError: no such folder or list, or class names that are wrong. All else is told in the result.
    """
    layout = open_layout(root)
    splits = layout.splits() if split is None else [split]
    if not splits:
        layout.list_file("val")  # says what was expected
    lists = [_Listed(layout, name) for name in splits]
    records = list(dict.fromkeys(record for listed in lists for record in listed.records))
    annotation_of = layout.annotation_of()

    def look(record: Record) -> _Looked:
        return _looked(layout, record, annotation_of(record.image_id))

    looked: dict[Record, _Looked] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for record, found in zip(records, pool.map(look, records), strict=True):
            looked[record] = found
            if progress:
                progress(len(looked), len(records))
    return [_split_survey(layout, listed, looked) for listed in lists]


class _Listed:
    """A list as far as it can be read: the records, and what is wrong with its lines."""

    def __init__(self, layout: Layout, split: str | os.PathLike[str]) -> None:
        self.file, self.split = layout.list_file(split), layout.split_name(split)
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self.count, self.mask_source = 0, ""
        try:
            lines = list_lines(self.file)
        except ViceError as error:
            self.problems.append(Problem("list", "", error.message))
            return
        found = layout.located(lines)
        self.count, self.records, self.mask_source = len(lines), found.records, found.mask_source
        for line in found.missing:
            said = f"The image of `{line.image_id}` must be {layout.expected_image(line)}, but there is none."
            self.problems.append(Problem("image", line.image_id, said))


def _looked(layout: Layout, record: Record, annotation: Path | None) -> _Looked:
    problems: list[Problem] = []

    def tried(kind: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ViceError as error:
            problems.append(Problem(kind, record.image_id, error.message))
            return None

    def read_labels() -> tuple[tuple[int, ...], int, int]:
        assert record.mask is not None
        mask = layout.read_mask(record.mask)
        if size is not None:
            check_same_size(mask, size, record.mask)
        present = check_mask(mask, len(layout.classes), record.mask)
        return tuple(int(value) - 1 for value in present), mask.size, int((mask == VOID).sum())

    def read_objects() -> tuple[int, ...]:
        assert annotation is not None
        objects = read_annotation(annotation)
        if size is not None:
            object_boxes(objects, size, annotation)
        return tuple(class_indices(objects, known, annotation))

    known = {name: index for index, name in enumerate(layout.classes)}
    shape = tried("image", lambda: read_image(record.image).shape)
    size = None if shape is None else (shape[0], shape[1])
    in_mask = None if record.mask is None else tried("mask", read_labels)
    objects = None if annotation is None else tried("annotation", read_objects)
    present, pixels, void = (None, 0, 0) if in_mask is None else in_mask
    return _Looked(size, present, pixels, void, objects, tuple(problems))


def _split_survey(layout: Layout, listed: _Listed, looked: dict[Record, _Looked]) -> SplitSurvey:
    found = [looked[record] for record in listed.records]
    broken = [*listed.problems, *(problem for one in found for problem in one.problems)]
    # A file that is broken has been told of; labels are asked of the images that have none such.
    whole = [record for record, one in zip(listed.records, found, strict=True) if not one.problems]
    targets, source = None, ""
    try:
        if whole:
            targets, source = targets_from(
                "auto",
                whole,
                layout.classes,
                npy=layout.label_file,
                annotations=layout.annotations,
                masks=listed.mask_source,
                read_mask=layout.read_mask,
            )
    except ViceError as error:
        broken.append(Problem("labels", "", error.message))
    objects = [one.objects for one in found if one.objects is not None]
    sizes = [one.size for one in found if one.size is not None]
    pixels = sum(one.pixels for one in found)
    return SplitSurvey(
        split=listed.split,
        list_file=listed.file,
        images=listed.count,
        classes=layout.classes,
        images_per_class=None if targets is None else tuple(targets.sum(0, dtype=int).tolist()),
        objects_per_class=_counted(objects, len(layout.classes)) if objects else None,
        height=_spread([size[0] for size in sizes]),
        width=_spread([size[1] for size in sizes]),
        masks=sum(one.in_mask is not None for one in found),
        void_share=sum(one.void for one in found) / pixels if pixels else float("nan"),
        label_source=source,
        mask_source=listed.mask_source,
        masks_missing=tuple(record.image_id for record in listed.records if record.mask is None),
        disagreements=tuple(_disagreements(layout.classes, whole, targets, looked)),
        broken=tuple(broken),
    )


def _counted(objects: Iterable[Sequence[int]], num_classes: int) -> tuple[int, ...]:
    every = np.array([c for one in objects for c in one], dtype=np.int64)
    return tuple(np.bincount(every, minlength=num_classes).tolist())


def _spread(lengths: list[int]) -> tuple[int, float, int] | None:
    return (min(lengths), float(np.median(lengths)), max(lengths)) if lengths else None


def _disagreements(
    classes: Sequence[str], records: Sequence[Record], targets: np.ndarray | None, looked: dict[Record, _Looked]
) -> Iterable[Problem]:
    for record, row in zip(records, targets if targets is not None else (), strict=targets is not None):
        in_mask = looked[record].in_mask
        if in_mask is None:
            continue
        labelled, drawn = set(np.flatnonzero(row).tolist()), set(in_mask)
        parts = [
            f"{where}: {', '.join(classes[c] for c in sorted(only))}"
            for where, only in (("in the labels only", labelled - drawn), ("in the mask only", drawn - labelled))
            if only
        ]
        if parts:
            yield Problem("labels", record.image_id, f"`{record.image_id}` has {'; '.join(parts)}.")


def check_files(dataset: FolderDataset | UnlabelledImages) -> None:
    """The fast form of the survey: the header of every image and mask, and that their sizes are equal.

    Lists, labels and the presence of images are checked when the dataset is built; pixels are when they are read.

    Raises:
        ViceError: files that cannot be used; the first few by name, and how many there are.
    """

    def look(record: Record) -> str | None:
        try:
            size = stored_size(record.image)
            if record.mask is not None and (drawn := stored_size(record.mask, "The mask")) != size:
                return f"{record.mask} (a mask of {drawn[0]} x {drawn[1]} pixels for an image of {size[0]} x {size[1]})"
        except ViceError:
            return str(_unreadable(record))
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        wrong = [said for said in pool.map(look, dataset.records) if said]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ViceError(
            f"Every image and mask must be readable and both of one size, but {len(wrong)} of the {len(dataset)} "
            f"images of {dataset.split} are not so: {', '.join(wrong[:NAMED])}{more}.",
            f"See what is wrong with each: vice data check {dataset.root} --split {dataset.split}",
        )


def _unreadable(record: Record) -> Path:
    """Of an image and its mask the one whose header cannot be read."""
    try:
        stored_size(record.image)
    except ViceError:
        return record.image
    assert record.mask is not None
    return record.mask
