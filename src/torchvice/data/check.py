"""Check a dataset before training or assessment: its content, and every broken file by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.data.annotations import class_indices, object_boxes, read_annotation
from torchvice.data.images import TooManyPixels, check_mask, check_same_size, is_rotated, read_image, stored_size
from torchvice.data.labels import no_labels
from torchvice.data.layout import Layout, Record, place_of
from torchvice.data.open import open_layout
from torchvice.data.pairing import counted
from torchvice.data.pixels import said_black
from torchvice.data.survey_notes import rare_classes, tiny_objects
from torchvice.errors import ViceError
from torchvice.metrics.overlap import void_of

if TYPE_CHECKING:
    from torchvice.data.dataset import FolderDataset
    from torchvice.data.unlabelled import UnlabelledImages  # with torch

__all__ = ["Problem", "SplitSurvey", "check_files", "survey"]

Progress = Callable[[int, int], None]
NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Problem:
    """A problem: its kind (`list`, `image`, `mask`, `annotation`, `labels`), its image, a sentence, and a way out."""

    kind: str
    image_id: str
    sentence: str
    way_out: str = ""

    @classmethod
    def of(cls, kind: str, image_id: str, error: ViceError) -> Problem:
        """The problem that an error tells of."""
        return cls(kind, image_id, error.message, error.way_out or "")


@dataclass(frozen=True)
class SplitSurvey:
    """The content of a split.

    Attributes:
        split, list_file: the name of the split and the file of its list.
        images: N, the number of lines.
        classes: (C,) names.
        images_per_class: (C,) by the class labels; None if these are incomplete.
        objects_per_class: (C,) objects in the annotations; None without annotations.
        height, width: minimum, median and maximum over the readable images, pixels; None without any.
        masks: the number of readable masks.
        void_share: the share of void pixels in these masks, in [0, 1]; NaN without a mask.
        label_source, mask_source: see `VocDataset`.
        masks_missing: ids of images without a mask.
        disagreements: images whose labels and mask have different classes.
        rotated: ids of images whose file or mask has an EXIF orientation, which is not applied.
        notes: sentences on what was chosen among several files, on masks without a class, on tiny objects and on rare
            classes.
        broken: problems that must be fixed before the split can be used.
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
    rotated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields for JSON, undefined ones as null."""

        def counts(numbers: tuple[int, ...] | None) -> dict[str, int] | None:
            return None if numbers is None else dict(zip(self.classes, numbers, strict=True))

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
            "rotated": list(self.rotated),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Content:
    """The content of the files of one image."""

    size: tuple[int, int] | None
    in_mask: tuple[int, ...] | None  # class indices
    areas: tuple[int, ...]  # their pixels
    pixels: int
    void: int
    objects: tuple[int, ...] | None  # class indices, one per object
    problems: tuple[Problem, ...]
    rotated: bool
    brightest: int | None  # the largest value of the image


def survey(
    root: str | os.PathLike[str] | Layout,
    split: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> list[SplitSurvey]:
    """Survey the splits of a dataset; every file is read completely, once.

    Args:
        root: see `VocDataset`; or a layout.
        split: a name or the path of a list; None: all lists.
        progress: called with the images so far and their number.

    Raises:
        ViceError: the folder or a list is missing, or class names are wrong. Other problems are in the result.
    """
    layout = root if isinstance(root, Layout) else open_layout(root)
    splits = layout.splits() if split is None else [split]
    if not splits:
        layout.list_file("val")  # raises
    lists = [_Listed(layout, name) for name in splits]
    records = list(dict.fromkeys(record for listed in lists for record in listed.records))
    annotation_of = layout.annotation_of()

    def read(record: Record) -> _Content:
        return _content_of(layout, record, annotation_of(record.image_id))

    contents: dict[Record, _Content] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for record, content in zip(records, pool.map(read, records), strict=True):
            contents[record] = content
            if progress:
                progress(len(contents), len(records))
    return [_split_survey(layout, listed, contents) for listed in lists]


class _Listed:
    """A list as far as it can be read: its records, and the problems of its lines."""

    def __init__(self, layout: Layout, split: str | os.PathLike[str]) -> None:
        self.file, self.split = layout.list_file(split), layout.split_name(split)
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self.count, self.mask_source, self.notes = 0, "", layout.notes(split)
        self.left_out: tuple[str, ...] = ()
        try:
            lines = layout.lines(split)
        except ViceError as error:
            self.problems.append(Problem.of("list", "", error))
            return
        located = layout.located(lines)
        self.count, self.records, self.mask_source = len(lines), located.records, located.mask_source
        self.notes, self.left_out = (*self.notes, *located.notes), located.left_out
        for line in located.missing:
            sentence = f"The image of `{line.image_id}` must be {layout.expected_image(line)}, but does not exist."
            self.problems.append(Problem("image", line.image_id, sentence))
        self.problems += [Problem("mask", *missing) for missing in located.masks_missing.items()]
        try:
            layout.check_class_count(sum(record.mask is not None for record in self.records))
            self.notes += layout.check_forms(self.records)
        except ViceError as error:
            self.problems.append(Problem.of("mask", "", error))


def _content_of(layout: Layout, record: Record, annotation: Path | None) -> _Content:
    problems: list[Problem] = []

    def tried(kind: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ViceError as error:
            problems.append(Problem.of(kind, record.image_id, error))
            return None

    def read_labels() -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
        assert record.mask is not None
        mask = layout.read_mask(record.mask)
        if size is not None:
            check_same_size(mask, size, record.mask)
        present = check_mask(mask, len(layout.classes), record.mask)
        areas = tuple(int((mask == value).sum()) for value in present)
        return tuple(int(value) - 1 for value in present), areas, mask.size, int((mask == void).sum())

    def read_objects() -> tuple[int, ...]:
        assert annotation is not None
        objects = read_annotation(annotation)
        if size is not None:
            object_boxes(objects, size, annotation)
        return tuple(class_indices(objects, known, annotation))

    known, void = {name: index for index, name in enumerate(layout.classes)}, void_of(len(layout.classes))
    image = tried("image", lambda: read_image(record.image))
    size = None if image is None else (image.shape[0], image.shape[1])
    in_mask = None if record.mask is None else tried("mask", read_labels)
    objects = None if annotation is None else tried("annotation", read_objects)
    present, areas, pixels, hidden = (None, (), 0, 0) if in_mask is None else in_mask
    readable = [record.image] if size is not None and record.mask is not None else []
    readable += [record.mask] if record.mask is not None and in_mask is not None else []
    rotated = any(map(is_rotated, readable))
    brightest = None if image is None else int(image.max(initial=0))
    return _Content(size, present, areas, pixels, hidden, objects, tuple(problems), rotated, brightest)


def _split_survey(layout: Layout, listed: _Listed, contents: dict[Record, _Content]) -> SplitSurvey:
    found = [contents[record] for record in listed.records]
    broken = [*listed.problems, *(problem for one in found for problem in one.problems)]
    # Labels are only read of images without a broken file.
    whole = [record for record, one in zip(listed.records, found, strict=True) if not one.problems]
    targets, source = None, ""
    try:
        if whole:
            targets, source = layout.targets("auto", whole, listed.mask_source)
    except ViceError as error:
        broken.append(Problem.of("labels", "", error))
    if targets is not None and not targets.any() and any(one.in_mask for one in found):
        broken.append(Problem.of("labels", "", no_labels(len(whole), source)))
    drawn = {record.image_id: one for record, one in zip(listed.records, found, strict=True) if one.in_mask is not None}
    empty = [image_id for image_id, one in drawn.items() if not one.in_mask and one.void]
    notes = listed.notes + (layout.label_notes(source) if source else ())
    if drawn and not any(one.in_mask for one in drawn.values()):
        broken.append(Problem.of("mask", "", layout.no_class(listed.split)))
    elif empty and source.startswith("masks"):  # these images have no label then
        notes += (f"{counted(empty, 'mask holds', 'masks hold')} void but no class, such as that of `{empty[0]}`.",)
    per_class = None if targets is None else tuple(targets.sum(0, dtype=int).tolist())
    regions = [
        (image_id, c, own, one.pixels)
        for image_id, one in drawn.items()
        for c, own in zip(one.in_mask or (), one.areas, strict=True)
    ]
    notes += _black(found)
    notes += tiny_objects(regions, layout.classes) + rare_classes(per_class, listed.count, layout.classes)
    objects = [one.objects for one in found if one.objects is not None]
    sizes = [one.size for one in found if one.size is not None]
    pixels = sum(one.pixels for one in found)
    return SplitSurvey(
        split=listed.split,
        list_file=listed.file,
        images=listed.count,
        classes=layout.classes,
        images_per_class=per_class,
        objects_per_class=_counted(objects, len(layout.classes)) if objects else None,
        height=_spread([size[0] for size in sizes]),
        width=_spread([size[1] for size in sizes]),
        masks=sum(one.in_mask is not None for one in found),
        void_share=sum(one.void for one in found) / pixels if pixels else float("nan"),
        label_source=source,
        mask_source=listed.mask_source,
        masks_missing=(*(record.image_id for record in listed.records if record.mask is None), *listed.left_out),
        disagreements=tuple(_disagreements(layout.classes, whole, targets, contents)),
        broken=tuple(broken),
        rotated=tuple(record.image_id for record, one in zip(listed.records, found, strict=True) if one.rotated),
        notes=notes,
    )


def _black(found: Iterable[_Content]) -> tuple[str, ...]:
    """A sentence if all images are almost black."""
    brightest = [one.brightest for one in found if one.brightest is not None]
    return tuple(filter(None, [said_black(brightest, f"All {len(brightest)} images are")]))


def _counted(objects: Iterable[Sequence[int]], num_classes: int) -> tuple[int, ...]:
    every = np.array([c for one in objects for c in one], dtype=np.int64)
    return tuple(np.bincount(every, minlength=num_classes).tolist())


def _spread(lengths: list[int]) -> tuple[int, float, int] | None:
    return (min(lengths), float(np.median(lengths)), max(lengths)) if lengths else None


def _disagreements(
    classes: Sequence[str], records: Sequence[Record], targets: np.ndarray | None, contents: dict[Record, _Content]
) -> Iterable[Problem]:
    for record, row in zip(records, targets if targets is not None else (), strict=targets is not None):
        in_mask = contents[record].in_mask
        if in_mask is None:
            continue
        labelled, drawn = set(np.flatnonzero(row).tolist()), set(in_mask)
        parts = [
            f"{where}: {', '.join(classes[c] for c in sorted(only))}"
            for where, only in (("in the labels only", labelled - drawn), ("in the mask only", drawn - labelled))
            if only
        ]
        if parts:
            void = contents[record].void / contents[record].pixels
            hidden = f" Void is {void:.0%} of its mask, and may hide objects." if labelled - drawn and void else ""
            yield Problem("labels", record.image_id, f"`{record.image_id}` has {'; '.join(parts)}.{hidden}")


def check_files(dataset: FolderDataset | UnlabelledImages) -> tuple[str, ...]:
    """Check the header of every image and mask, and that their sizes are equal: the fast form of `survey`.

    Lists, labels and the existence of images are checked when the dataset is created, pixels when they are read.

    Returns:
        Sentences on images that look otherwise in viewers, which follow their EXIF orientation.

    Raises:
        ViceError: unusable files: the first few by name, and their number.
    """
    rotated: list[str] = []

    def problem(record: Record) -> str | None:
        try:
            size = stored_size(record.image)
            of_mask = size if record.mask is None else stored_size(record.mask, "The mask")
            turned = record.mask is not None and is_rotated(record.image)
        except TooManyPixels as error:
            return f"{_unreadable(record)} (more than {error.most():,} pixels)"
        except ViceError:
            return str(_unreadable(record))
        if of_mask != size:
            why = ", whose EXIF orientation is not applied" if turned else ""
            sizes = f"{of_mask[0]} x {of_mask[1]} pixels for an image of {size[0]} x {size[1]}{why}"
            return f"{record.mask} (a mask of {sizes})"
        rotated.extend([record.image_id] * turned)
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        wrong = [text for text in pool.map(problem, dataset.records) if text]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ViceError(
            f"Every image and mask must be readable and of the same size, but {len(wrong)} of the {len(dataset)} "
            f"images of {dataset.split} are not: {', '.join(wrong[:NAMED])}{more}.",
            "Copy or download damaged files again, cut too large ones into tiles, or remove them."
            if getattr(dataset, "unlabelled", False)
            else f"List every problem: vice data check {_place_of(dataset)}",
        )
    if not rotated:
        return ()
    names = ", ".join(f"`{name}`" for name in sorted(rotated)[:NAMED])
    return (
        f"{counted(rotated, 'image has', 'images have')} an EXIF orientation, which is not applied: see that the mask "
        f"lies on the pixels as stored ({names}{', ...' if len(rotated) > NAMED else ''}).",
    )


def _place_of(dataset: FolderDataset | UnlabelledImages) -> str:
    split = getattr(dataset, "list_given", dataset.split)  # may be the path of a list elsewhere
    return place_of(dataset.root, split, getattr(dataset, "chosen", None) or {}, getattr(dataset, "classes", ()))


def _unreadable(record: Record) -> Path:
    """Return the file of an image and its mask whose header cannot be read."""
    try:
        stored_size(record.image)
    except ViceError:
        return record.image
    assert record.mask is not None
    return record.mask
