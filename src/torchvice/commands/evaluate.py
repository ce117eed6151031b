"""`vice evaluate`: score the maps of any tool, as files, against masks in one pass over the files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.commands.mask_folder import description_of, layout_of
from torchvice.data.description import Description
from torchvice.data.finder import Finder, existing
from torchvice.data.images import no_class, refuse_narrow_void
from torchvice.data.lists import VOC_CLASSES
from torchvice.data.mask_values import forms_of, found_values, spread
from torchvice.data.voc import read_list, read_mask
from torchvice.errors import ViceError, as_path, check_kind, did_you_mean
from torchvice.files.process import in_processes
from torchvice.interop import read_maps
from torchvice.metrics.iou import CurveCounter, overlap_ji
from torchvice.metrics.overlap import MOST_CLASSES, Overlap, competing_overlap, label_overlap, void_of
from torchvice.metrics.parallel import processors
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_thresholds

__all__ = ["Evaluation", "evaluate"]

SCHEMA = 1
KINDS = ("npy", "npz", "png")
# Images per task of a worker: few enough for a progress bar, enough to make the cost of a task negligible.
CHUNK = 16
ROUNDING = 1e-6


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`; IoUs are fractions.

    Attributes:
        images: N, the number of images.
        protocol: `paper` or `strict`, see `torchvice.metrics.iou.curve_from_counts`.
        thresholds: (T,); NaN for label maps, which have no threshold.
        mean_iou: (T,).
        class_iou: (T, K), background first; NaN for a class that is left out.
        best_threshold: the first threshold with the highest mean IoU; NaN if undefined.
        best_mean_iou: the mean IoU at the best threshold.
        image_ids: N names.
        image_ji: (N,) JI score of each image, or None without `ji_threshold`.
        nan_images: number of images with NaN in a map; such pixels count as that class at every threshold.
        outside_images: number of images with a value below 0, above 1 or infinite in a map.
        void_images: number of images whose mask is void everywhere; they add nothing.
        classes: (C,) names of the dataset; empty if `num_classes` was given.
    """

    images: int
    protocol: str
    thresholds: np.ndarray
    mean_iou: np.ndarray
    class_iou: np.ndarray
    best_threshold: float
    best_mean_iou: float
    image_ids: tuple[str, ...]
    image_ji: np.ndarray | None
    nan_images: int
    outside_images: int
    void_images: int
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as numbers and lists, None for NaN; `image_ji` as {id: score} and `classes`, if known."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "protocol": self.protocol,
            "images": self.images,
            "nan_images": self.nan_images,
            "outside_images": self.outside_images,
            "void_images": self.void_images,
        }
        for name in ("thresholds", "mean_iou", "class_iou", "best_threshold", "best_mean_iou"):
            content[name] = _to_json(getattr(self, name))
        if self.classes:
            content["classes"] = list(self.classes)
        if self.image_ji is not None:
            content["image_ji"] = dict(zip(self.image_ids, _to_json(self.image_ji), strict=True))
        return content


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_to_json(entry) for entry in value]
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Job:
    """The arguments of every worker; `ji_place` is the index of the threshold of the JI score, or None."""

    kind: str
    described: Description | None
    num_classes: int
    thresholds: np.ndarray
    ji_place: int | None

    @property
    def void(self) -> int:
        """The label of void in masks and label maps."""
        return void_of(self.num_classes if self.described is None else len(self.described.names))


@dataclass
class _Part:
    """The result of a worker: sums, and the JI score of each image if `ji_place` is set."""

    counter: CurveCounter
    ji: list[float]
    nan_images: int = 0
    outside_images: int = 0
    void_images: int = 0
    class_images: int = 0
    labels_held: frozenset[int] = frozenset()  # of label maps: which of 1 (a class) and void they hold

    @classmethod
    def of(cls, job: _Job, protocol: str) -> _Part:
        """No images yet; raises for a wrong protocol before the work."""
        counter = CurveCounter(job.num_classes, job.thresholds)
        counter.curve(protocol)
        return cls(counter, [])

    def add(self, part: _Part) -> None:
        """Add the sums of further images."""
        self.counter.merge(part.counter)
        self.ji += part.ji
        self.nan_images += part.nan_images
        self.outside_images += part.outside_images
        self.void_images += part.void_images
        self.class_images += part.class_images
        self.labels_held |= part.labels_held


def evaluate(
    image_ids: Sequence[str] | str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    ground_truth: str | os.PathLike[str],
    *,
    kind: str = "npy",
    num_classes: int | None = None,
    thresholds: Any = PAPER_THRESHOLDS,
    protocol: str = "paper",
    ji_threshold: float | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compute the IoU of maps or label maps on disk against masks, at every threshold, in one pass over the files.

    Every pixel's winning score is counted once in a histogram by winning class and true class, which gives the exact
    counts at every threshold. Only sums are kept: memory does not grow with the number of images.

    Args:
        image_ids: names, or the path of a list file with one name per line.
        predictions: folder of ID.npy ({class: (H, W) map}), ID.npz (`keys`, `maps`), or ID.png (labels).
        ground_truth: folder of masks ID.png: 0 background, c + 1 class c, 255 void (65535 with more than 254 classes).
        kind: `npy`, `npz` or `png`; an .npy may also hold `keys` and `high_res`, see `torchvice.interop.read_maps`.
        num_classes: C without background, at most 65534; None: as in the dataset.yaml or classes.txt next to the folder
            of masks, or in a dataset.yaml further up whose `masks` is this folder, else the 20 of VOC.
        thresholds: (T,) increasing numbers in [0, 1], or one number; ignored for label maps.
        protocol: `paper` or `strict`, see `torchvice.metrics.iou.curve_from_counts`.
        ji_threshold: the threshold, one of `thresholds`, of the JI score of every image. With one threshold, and with
            label maps, the scores are always computed.
        workers: number of processes; None: at most one per core; 1: this process.
        progress: called from time to time with the number of images done and of all images.

    Raises:
        ViceError: an empty list or a repeated name, a missing folder, map or mask, a damaged file, a map of another
            size than its mask, a class or label that does not exist, masks or label maps without any class; names
            the file.
    """
    predictions, ground_truth = as_path("predictions", predictions), as_path("ground_truth", ground_truth)
    ids = _known_ids(image_ids)
    layout = layout_of(ground_truth, num_classes is not None)
    classes = () if num_classes is not None else layout.classes if layout else VOC_CLASSES
    job = _job(kind, description_of(layout, ground_truth), num_classes or len(classes), thresholds, ji_threshold)
    files = _pairs(ids, predictions, ground_truth, job)
    _refuse_trimaps(job, [mask for _, mask in files], classes)
    total = _Part.of(job, protocol)
    for part in _parts(files, job, workers):
        total.add(part)
        if progress is not None:
            progress(total.counter.images, len(ids))
    _check_labels(total, job, predictions, ground_truth, classes)
    return _evaluation(total, job, protocol, ids, classes)


def _refuse_trimaps(job: _Job, masks: Sequence[Path], classes: Sequence[str]) -> None:
    """Refuse masks that look like trimaps, where nobody named the classes."""
    if job.described is None:
        forms_of(found_values(spread(masks)), classes, named=tuple(classes) != VOC_CLASSES)


def _check_labels(total: _Part, job: _Job, predictions: Any, ground_truth: Any, classes: Sequence[str]) -> None:
    """Refuse masks without any class, and label maps that hold void alone."""
    if not total.class_images:
        raise no_class(str(ground_truth), classes or ["object"] * job.num_classes)
    if total.labels_held == {job.void}:
        raise ViceError(
            f"The label maps in {predictions} must hold classes (1 to {job.num_classes}), but hold only {job.void} "
            "and 0.",
            "Write class c, counted from 0, as label c + 1.",
        )


def _evaluation(total: _Part, job: _Job, protocol: str, ids: list[str], classes: tuple[str, ...]) -> Evaluation:
    curve = total.counter.curve(protocol)
    return Evaluation(
        images=total.counter.images,
        protocol=protocol,
        thresholds=curve.thresholds,
        mean_iou=curve.mean_iou,
        class_iou=curve.class_iou,
        best_threshold=curve.best_threshold,
        best_mean_iou=curve.best_mean_iou,
        image_ids=tuple(ids),
        image_ji=None if job.ji_place is None else np.array(total.ji),
        nan_images=total.nan_images,
        outside_images=total.outside_images,
        void_images=total.void_images,
        classes=classes,
    )


def _known_ids(image_ids: Sequence[str] | str | os.PathLike[str]) -> list[str]:
    if isinstance(image_ids, str | os.PathLike):
        return read_list(image_ids)
    check_kind("image_ids", image_ids, Iterable, "a list of names, or the path of a file with one name per line")
    ids = [str(image_id) for image_id in image_ids]
    if not ids:
        raise ViceError("`image_ids` must name at least one image, but is empty.")
    if len(set(ids)) < len(ids):
        repeated = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise ViceError(f"`image_ids` must name every image once, but names `{repeated}` several times.")
    return ids


def _job(
    kind: str,
    described: Description | None,
    num_classes: int,
    thresholds: Any,
    ji_threshold: float | None,
) -> _Job:
    if kind not in KINDS:
        raise ViceError(f"`kind` must be one of {', '.join(KINDS)}, but is {kind!r}.", did_you_mean(str(kind), KINDS))
    if not 1 <= num_classes <= MOST_CLASSES:
        raise ViceError(
            f"`num_classes` (--classes) must be 1 to {MOST_CLASSES} (in masks {MOST_CLASSES + 1} is void), but is "
            f"{num_classes}."
        )
    if kind == "png":
        return _Job(kind, described, num_classes, np.array([np.nan]), 0)
    values = as_thresholds([thresholds] if np.ndim(thresholds) == 0 else thresholds)
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise ViceError(
            f"A threshold must be in [0, 1], like the maps, but is {outside[0]:g}.",
            "Give for example 0.3; if the maps have another range, scale them to [0, 1].",
        )
    place = 0 if len(values) == 1 else None
    if ji_threshold is not None:
        place = int(np.argmin(np.abs(values - ji_threshold)))
        if not math.isclose(values[place], ji_threshold, abs_tol=1e-9):
            raise ViceError(
                f"`ji_threshold` must be one of the {len(values)} thresholds, but is {ji_threshold}.",
                f"The nearest one is {float(values[place])!r}.",
            )
    return _Job(kind, described, num_classes, values, place)


def _pairs(
    ids: Sequence[str], predictions: str | os.PathLike[str], ground_truth: str | os.PathLike[str], job: _Job
) -> list[tuple[Path, Path]]:
    """The files of maps and mask of every image."""
    sources = _files(ids, Path(predictions), job.kind, "prediction")
    return list(zip(sources, _files(ids, Path(ground_truth), "png", "mask"), strict=True))


def _files(ids: Sequence[str], folder: Path, suffix: str, what: str) -> list[Path]:
    """Find the file of every image, so that a missing one does not stop a long run."""
    if not folder.is_dir():
        raise ViceError(f"The folder of the {what}s must exist, but {folder} does not.")
    find = Finder(folder, (f".{suffix}",))
    files = {image_id: [*find.all(image_id), *existing(folder / f"{image_id}.{suffix}")] for image_id in ids}
    missing = [image_id for image_id in ids if not files[image_id]]
    if missing:
        raise ViceError(
            f"{len(missing)} of {len(ids)} {what}s are missing: `{missing[0]}` has no file "
            f"{folder / missing[0]}.{suffix}.",
            "Give the kind of the files (npy, npz, png), or remove these images from the list."
            if what == "prediction"
            else "Remove these images from the list, or give the folder that holds their masks.",
        )
    return [files[image_id][0] for image_id in ids]


def _parts(files: Sequence[tuple[Path, Path]], job: _Job, workers: int | None) -> Iterator[_Part]:
    """Count the images in their order, CHUNK at a time."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    if workers is None:
        cores = processors()
        workers = min(cores, len(chunks) // 2)
    elif workers < 1:
        raise ViceError(f"`workers` (--processes) must be at least 1, but is {workers}.")
    yield from in_processes(_count, job, chunks, workers, "Use --processes 1 (workers=1), which runs in this process.")


def _count(job: _Job, files: Sequence[tuple[Path, Path]]) -> _Part:
    part = _Part(CurveCounter(job.num_classes, job.thresholds), [])
    for source, truth in files:
        overlap, outside, labels = _image(job, source, truth)
        part.labels_held |= labels
        part.counter.add(overlap)
        part.nan_images += overlap.nan_pixels > 0
        part.outside_images += outside
        part.void_images += not overlap.mask_pixels.any()
        part.class_images += bool(overlap.mask_pixels[overlap.labels > 0].any())
        if job.ji_place is not None:
            part.ji.append(float(overlap_ji(_at(overlap, job.ji_place))[0]))
    return part


def _at(overlap: Overlap, place: int) -> Overlap:
    chosen = slice(place, place + 1)
    return Overlap(overlap.labels, overlap.mask_pixels, overlap.predicted[:, chosen], overlap.intersection[:, chosen])


def _image(job: _Job, source: Path, truth: Path) -> tuple[Overlap, bool, frozenset[int]]:
    """The counts of an image, whether its maps exceed [0, 1], and which of a class (1) and void its label map holds."""
    found: frozenset[int] = frozenset()
    mask, outside = read_mask(truth) if job.described is None else job.described.read_mask(truth), False
    refuse_narrow_void(mask, job.num_classes, f"The mask {truth}")
    if job.kind == "png":
        labels = read_mask(source, "The label map")
        _same_size(source, labels, truth, mask)
        refuse_narrow_void(labels, job.num_classes, f"The label map {source}")
        found = frozenset(job.void if value == job.void else 1 for value in np.unique(labels).tolist() if value)
        overlap = label_overlap(labels, mask, void=job.void)
        _labels_exist(overlap.labels[overlap.predicted[:, 0] > 0], job, source)
    else:
        classes, maps = read_maps(source)
        if len(classes) and not (classes.min() >= 0 and classes.max() < job.num_classes):
            raise ViceError(
                f"The maps in {source} must be of classes 0 to {job.num_classes - 1}, but are of {classes.tolist()}.",
                "Number the classes from 0, without background: class c is label c + 1 of the masks.",
            )
        for plane in maps:
            _same_size(source, plane, truth, mask)
        outside = any(((plane < -ROUNDING) | (plane > 1 + ROUNDING)).any() for plane in maps)
        overlap = competing_overlap(maps, classes, mask, job.thresholds, void=job.void)
    _labels_exist(overlap.labels, job, truth)
    return overlap, outside, found


def _same_size(source: Path, plane: np.ndarray, truth: Path, mask: np.ndarray) -> None:
    if plane.shape != mask.shape:
        raise ViceError(
            f"{source} must have the size of its mask {truth}, {mask.shape}, but has {plane.shape}.",
            "Save every prediction in the size of its image, as (H, W).",
        )


def _labels_exist(labels: np.ndarray, job: _Job, path: Path) -> None:
    if len(labels) and labels[-1] > job.num_classes:
        raise ViceError(
            f"The labels in {path} must be 0 to {job.num_classes} or {job.void}, but one is {labels[-1]}.",
            "Give the number of classes of the files, without background.",
        )
