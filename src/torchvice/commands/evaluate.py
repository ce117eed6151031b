"""Maps of any tool, as files, scored against masks: one pass over the files, on several cores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.data.layout import VOC_CLASSES
from torchvice.data.open import open_layout
from torchvice.data.voc import VOID, read_list, read_mask
from torchvice.errors import ViceError, did_you_mean
from torchvice.interop import read_maps
from torchvice.metrics.iou import CurveCounter, overlap_ji
from torchvice.metrics.overlap import Overlap, competing_overlap, label_overlap
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_thresholds

__all__ = ["Evaluation", "evaluate"]

SCHEMA = 1
KINDS = ("npy", "npz", "png")
# Images that a worker takes at a time: few enough for a progress bar, enough to forget the cost of handing over.
CHUNK = 16


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found; IoUs are fractions.

    Attributes:
        images: N, all of which were counted.
        protocol: `paper` or `strict`, see `torchvice.metrics.iou.curve_from_counts`.
        thresholds: (T,); NaN for label maps, which have none.
        mean_iou: (T,).
        class_iou: (T, K), background first; NaN for a class that is left out.
        best_threshold: the first one of the highest mean IoU; NaN if there is none.
        best_mean_iou: the mean IoU there.
        image_ids: N names.
        image_ji: (N,) JI score of each image, or None where it was not asked for.
        nan_images: images with NaN in a map; such pixels bear that class at every threshold.
        void_images: images whose mask is void everywhere, so that they add nothing.
        classes: (C,) names, where the data were asked for them.
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
    void_images: int
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain numbers and lists, null for NaN; `image_ji` {id: score} and `classes`, if there."""
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "protocol": self.protocol,
            "images": self.images,
            "nan_images": self.nan_images,
            "void_images": self.void_images,
        }
        for name in ("thresholds", "mean_iou", "class_iou", "best_threshold", "best_mean_iou"):
            content[name] = _plain(getattr(self, name))
        if self.classes:
            content["classes"] = list(self.classes)
        if self.image_ji is not None:
            content["image_ji"] = dict(zip(self.image_ids, _plain(self.image_ji), strict=True))
        return content


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know."""

    predictions: Path
    ground_truth: Path
    kind: str
    num_classes: int
    thresholds: np.ndarray
    ji_place: int | None


@dataclass
class _Part:
    """What a worker hands back: sums, and a number an image only if that was asked for."""

    counter: CurveCounter
    ji: list[float]
    nan_images: int = 0
    void_images: int = 0


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
    """IoU of maps or label maps on disk against masks, at every threshold, from one pass over the files.

    Every pixel's winning score is counted once into a histogram by winning class and true class, from which all
    thresholds follow exactly. Only sums are kept: memory does not grow with the number of images.

    Args:
        image_ids: names, or the path of a list file with one a line.
        predictions: folder of ID.npy ({class: (H, W) map}), ID.npz (`keys`, `maps`), or ID.png (labels).
        ground_truth: folder of ID.png, masks: 0 background, c + 1 class c, 255 void.
        kind: `npy`, `npz` or `png`.
        num_classes: C, without background, at most 254; None: as many as dataset.yaml or classes.txt beside the
            folder of masks name, else VOC's twenty.
        thresholds: (T,) rising numbers in [0, 1], where maps lie, or one number; label maps have none.
        protocol: `paper` or `strict`, see `torchvice.metrics.iou.curve_from_counts`.
        ji_threshold: one of the thresholds at which every image gets a JI score. With a single threshold, and with
            label maps, the scores are always there.
        workers: processes; by default as many as there are cores and work for. 1 stays in this process.
        progress: called with the images done and all images, now and then.

    Raises:
        ViceError: an empty list or a name twice, a missing folder, map or mask, a damaged file, a map of another
            size than its mask, a class or label that does not exist; the file is named.
    """
    ids = _known_ids(image_ids)
    classes = _class_names(ground_truth) if num_classes is None else ()
    num_classes = len(classes) if num_classes is None else num_classes
    job = _job(predictions, ground_truth, kind, num_classes, thresholds, ji_threshold)
    _all_there(ids, job)
    counter, ji, nan_images, void_images = CurveCounter(num_classes, job.thresholds), [], 0, 0
    counter.curve(protocol)  # a wrong protocol is told before the work, not after it
    for part in _parts(ids, job, workers):
        counter.merge(part.counter)
        ji += part.ji
        nan_images += part.nan_images
        void_images += part.void_images
        if progress is not None:
            progress(counter.images, len(ids))
    curve = counter.curve(protocol)
    scores = None if job.ji_place is None else np.array(ji)
    return Evaluation(
        images=counter.images,
        protocol=protocol,
        thresholds=curve.thresholds,
        mean_iou=curve.mean_iou,
        class_iou=curve.class_iou,
        best_threshold=curve.best_threshold,
        best_mean_iou=curve.best_mean_iou,
        image_ids=tuple(ids),
        image_ji=scores,
        nan_images=nan_images,
        void_images=void_images,
        classes=classes,
    )


def _class_names(ground_truth: str | os.PathLike[str]) -> tuple[str, ...]:
    """The classes of the dataset that a folder of masks belongs to, as `open_dataset` reads them."""
    home = Path(ground_truth).absolute().parent
    return open_layout(home).classes if home.is_dir() else VOC_CLASSES


def _known_ids(image_ids: Sequence[str] | str | os.PathLike[str]) -> list[str]:
    if isinstance(image_ids, str | os.PathLike):
        return read_list(image_ids)
    ids = [str(image_id) for image_id in image_ids]
    if not ids:
        raise ViceError("`image_ids` must name at least one image, but is empty.")
    if len(set(ids)) < len(ids):
        twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise ViceError(f"`image_ids` must name every image once, but names `{twice}` several times.")
    return ids


def _job(
    predictions: str | os.PathLike[str],
    ground_truth: str | os.PathLike[str],
    kind: str,
    num_classes: int,
    thresholds: Any,
    ji_threshold: float | None,
) -> _Job:
    if kind not in KINDS:
        raise ViceError(f"`kind` must be one of {', '.join(KINDS)}, but is {kind!r}.", did_you_mean(str(kind), KINDS))
    if not 1 <= num_classes < VOID:
        raise ViceError(f"`num_classes` must be 1 to {VOID - 1} (in masks {VOID} is void), but is {num_classes}.")
    if kind == "png":
        return _Job(Path(predictions), Path(ground_truth), kind, num_classes, np.array([np.nan]), 0)
    cuts = as_thresholds([thresholds] if np.ndim(thresholds) == 0 else thresholds)
    beyond = cuts[(cuts < 0) | (cuts > 1)]
    if len(beyond):
        raise ViceError(
            f"A threshold must be in [0, 1], where maps lie, but is {beyond[0]:g}.", "Scale other maps to [0, 1] first."
        )
    place = 0 if len(cuts) == 1 else None
    if ji_threshold is not None:
        place = int(np.argmin(np.abs(cuts - ji_threshold)))
        if not math.isclose(cuts[place], ji_threshold, abs_tol=1e-9):
            raise ViceError(
                f"`ji_threshold` must be one of the {len(cuts)} thresholds, but is {ji_threshold}.",
                f"The nearest one is {cuts[place]:g}.",
            )
    return _Job(Path(predictions), Path(ground_truth), kind, num_classes, cuts, place)


def _all_there(ids: Sequence[str], job: _Job) -> None:
    """Missing files are told at once and with their number, not after an hour."""
    for what, folder, suffix in (
        ("prediction", job.predictions, job.kind),
        ("mask", job.ground_truth, "png"),
    ):
        if not folder.is_dir():
            raise ViceError(f"The folder of the {what}s must exist, but there is none at {folder}.")
        missing = [image_id for image_id in ids if not os.path.isfile(f"{folder}/{image_id}.{suffix}")]
        if missing:
            raise ViceError(
                f"The {what} of `{missing[0]}` must be {folder / missing[0]}.{suffix}, but is not there; "
                f"{len(missing)} of {len(ids)} are missing.",
                "Name the kind of the files (npy, npz, png), or take these images off the list."
                if what == "prediction"
                else "Take these images off the list, or give the folder that holds their masks.",
            )


def _parts(ids: Sequence[str], job: _Job, workers: int | None) -> Iterator[_Part]:
    """The counts of the images, in their order, CHUNK at a time."""
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, len(chunks) // 2)
    elif workers < 1:
        raise ViceError(f"`workers` must be at least 1, but is {workers}.")
    workers = min(workers, len(chunks))
    if workers <= 1:
        yield from map(_count, repeat(job), chunks)
        return
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(_count, repeat(job), chunks)
    except BrokenProcessPool:
        raise ViceError(
            f"{workers} worker processes must run, but one died: out of memory, or started by a script without "
            "`if __name__ == '__main__':`.",
            "Use workers=1, which stays in this process.",
        ) from None


def _count(job: _Job, ids: Sequence[str]) -> _Part:
    part = _Part(CurveCounter(job.num_classes, job.thresholds), [])
    for image_id in ids:
        overlap = _image(job, image_id)
        part.counter.add(overlap)
        part.nan_images += overlap.nan_pixels > 0
        part.void_images += not overlap.mask_pixels.any()
        if job.ji_place is not None:
            part.ji.append(float(overlap_ji(_at(overlap, job.ji_place))[0]))
    return part


def _at(overlap: Overlap, place: int) -> Overlap:
    chosen = slice(place, place + 1)
    return Overlap(overlap.labels, overlap.mask_pixels, overlap.predicted[:, chosen], overlap.intersection[:, chosen])


def _image(job: _Job, image_id: str) -> Overlap:
    truth = job.ground_truth / f"{image_id}.png"
    source = job.predictions / f"{image_id}.{job.kind}"
    mask = read_mask(truth)
    if job.kind == "png":
        labels = read_mask(source)
        _same_size(source, labels, truth, mask)
        overlap = label_overlap(labels, mask, void=VOID)
        _labels_exist(overlap.labels[overlap.predicted[:, 0] > 0], job, source)
    else:
        classes, maps = read_maps(source)
        if len(classes) and not (classes.min() >= 0 and classes.max() < job.num_classes):
            raise ViceError(
                f"The maps in {source} must be of classes 0 to {job.num_classes - 1}, but are of {classes.tolist()}.",
                "Class c is label c + 1 of the masks; background has no map.",
            )
        for plane in maps:
            _same_size(source, plane, truth, mask)
        overlap = competing_overlap(maps, classes, mask, job.thresholds, void=VOID)
    _labels_exist(overlap.labels, job, truth)
    return overlap


def _same_size(source: Path, plane: np.ndarray, truth: Path, mask: np.ndarray) -> None:
    if plane.shape != mask.shape:
        raise ViceError(
            f"{source} must have the size of its mask {truth}, {mask.shape}, but has {plane.shape}.",
            "Save predictions at the size of the image, as (H, W).",
        )


def _labels_exist(labels: np.ndarray, job: _Job, path: Path) -> None:
    if len(labels) and labels[-1] > job.num_classes:
        raise ViceError(
            f"The labels in {path} must be 0 to {job.num_classes} or {VOID}, but one is {labels[-1]}.",
            "Give the number of classes that the files were made with, background not counted.",
        )
