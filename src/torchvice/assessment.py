"""assess: run a model once over a dataset. The river: image -> logits and map -> counts -> Samples."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics import confidence, sample_accuracy, sample_loss, sigmoid
from torchvice.metrics.iou import image_ji_from_counts
from torchvice.metrics.losses import cross_entropy, softmax
from torchvice.metrics.overlap import competing_overlap, own_histograms
from torchvice.metrics.own_map import OwnMaps, own_maps
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, SAMPLE_THRESHOLD
from torchvice.samples import HISTOGRAM_BINS, Images, Maps, Regions, Samples, ShardFolder

if TYPE_CHECKING:
    from torch import nn

    from torchvice.explain import Choices
    from torchvice.views import Seen, View

__all__ = ["Dataset", "assess"]


class Dataset(Protocol):
    """What assess asks of a dataset; `torchvice.data.VocDataset` is one, and any object with these is.

    `classes` (C,) names; `targets` (N, C) of 0 and 1; `records` N objects with an `image_id`; `image(i)` (H, W, 3)
    uint8; `mask(i)` (H, W) labels with 255 = void, or None.
    """

    targets: np.ndarray

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def records(self) -> Sequence[Any]: ...

    def image(self, index: int) -> np.ndarray: ...

    def mask(self, index: int) -> np.ndarray | None: ...


@dataclass
class _Rows:
    """Columns that grow row by row."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def assess(
    model: nn.Module,
    dataset: Dataset,
    *,
    out: str | os.PathLike[str],
    protocols: Sequence[Literal["paper", "strict"]] = ("paper", "strict"),
    method: str = "auto",
    layer: str | None = None,
    class_map: Sequence[Sequence[int]] | None = None,
    choices: Choices | None = None,
    view_size: int | None = None,
    crop: int | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
    shard_size: int = 128,
    targets: Literal["multilabel", "exclusive"] | None = None,
    made_by: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Steps 2 to 4 in one pass: what the model says of every image, and how well its maps cover the objects.

    Nothing is kept per pixel: every map is upsampled, normalised, counted against the mask at 60 thresholds at once,
    and dropped; its low-resolution form stays. A killed run goes on with the first image that is not in a finished
    shard.

    Args:
        model: gives logits (N, C); moved to `device`, back as it was otherwise.
        dataset: see `Dataset`. Images without a mask have logits and no regions.
        out: the folder of the table; made if absent.
        protocols: which of the two are assessed; each has its own views, see docs/definitions.md.
        method, layer, class_map: as for `torchvice.Explainer`.
        choices: how `strict` makes its maps, see `torchvice.explain.Choices`; others than the default are a labelled
            sensitivity. `paper` is as published.
        view_size: pixels, the side to which `strict` resizes the whole image; None: the network's input size.
        crop: pixels, the side of the centre crop on which `paper` takes the loss; None: the network's input size.
        mean, std: of the normalisation, per channel, for images on [0, 1].
        batch_size: images a forward pass; fewer where whole images go through at their own size.
        workers: threads that read images ahead.
        device: "auto" (CUDA where there is one, else the CPU), or a torch device.
        shard_size: images a shard, the most that a kill can lose.
        targets: "exclusive" where every image has exactly one label: loss, confidence and accuracy of `strict` are then
            those of a softmax. None: as the dataset's `exclusive` says, else "multilabel".
        made_by: what else the manifest shall say (a run, a checkpoint); it must be the same when a run goes on.
        progress: called with (views done, views in all): one an image and protocol.

    Returns:
        Samples, read back from `out`.

    Raises:
        ViceError: an empty dataset, a damaged image, a method that does not fit, classes that are not the model's
            outputs, or an `out` that holds the table of another assessment.
    """
    from torchvice.views import views_of

    count = len(dataset.records)
    if not count:
        raise ViceError("An assessment needs images, but the dataset is empty.")
    if not protocols or set(protocols) - {"paper", "strict"}:
        raise ViceError(f"`protocols` must be 'paper', 'strict' or both, but is {tuple(protocols)}.")
    how: dict[str, Any] = {
        "view_size": view_size,
        "crop": crop,
        "mean": mean,
        "std": std,
        "batch_size": batch_size,
    }
    order = [name for name in ("paper", "strict") if name in protocols]
    views = views_of(
        model, order, method=method, layer=layer, class_map=class_map, choices=choices, device=device, **how
    )
    kind = kind_of_targets(dataset, targets)
    manifest = _manifest(next(iter(views.values())).explainer, dataset, views, kind, made_by or {})
    folder = ShardFolder(out)
    done = _resume(folder, manifest)
    todo = [i for i in range(count) if dataset.records[i].image_id not in done]
    steps = _Steps(len(views) * (count - len(todo)), len(views) * count, progress)
    for part in _shards(dataset, todo, shard_size, workers):
        _write_shard(folder, dataset, part, views, kind == "exclusive", steps)
    samples = folder.read()
    folder.start({**manifest, "finished": True})
    return Samples(folder.manifest(), samples.images, samples.regions, samples.maps)


def kind_of_targets(dataset: Dataset, targets: str | None = None) -> str:
    """ "multilabel" or "exclusive": as asked, else as the dataset says.

    Raises:
        ViceError: another word; or exclusive targets where an image has no label or several.
    """
    kind = targets or ("exclusive" if getattr(dataset, "exclusive", False) else "multilabel")
    if kind not in ("multilabel", "exclusive"):
        raise ViceError(f"`targets` must be 'multilabel' or 'exclusive', but is {targets!r}.")
    labels = np.asarray(dataset.targets).sum(1)
    if kind == "exclusive" and (labels != 1).any():
        wrong = int((labels != 1).argmax())
        raise ViceError(
            f"Exclusive targets are one label an image, but `{dataset.records[wrong].image_id}` has "
            f"{int(labels[wrong])}.",
            "Assess them as multilabel (--targets multilabel).",
        )
    return kind


def _manifest(
    explainer: Any, dataset: Dataset, views: dict[str, View], kind: str, made_by: dict[str, Any]
) -> dict[str, Any]:
    from torchvice.models.build import weights_hash

    classes = list(dataset.classes)
    return {
        "made_by": {"command": "assess", **made_by},
        "model": {
            "type": type(explainer.model).__name__,
            "weights_sha256": weights_hash(explainer.model),
            "class_map": explainer.class_map,
        },
        "dataset": {
            "root": str(getattr(dataset, "root", "")),
            "split": str(getattr(dataset, "split", "")),
            "labels": str(getattr(dataset, "label_source", "")),
            "images": len(dataset.records),
        },
        "classes": classes,
        "targets": kind,
        "thresholds": PAPER_THRESHOLDS.tolist(),
        "histogram_bins": HISTOGRAM_BINS,
        "explanations": {view.explanation: {"role": "headline", **view.settings} for view in views.values()},
        "protocols": {name: {"view": view.name, "explanation": view.explanation} for name, view in views.items()},
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torchvice", "torch", "timm", "numpy", "pillow")},
        },
        "seed": None,
        "finished": False,
    }


def _resume(folder: ShardFolder, manifest: dict[str, Any]) -> set[str]:
    """The images that are done. A folder of another assessment is refused, an empty one gets its manifest."""
    if not folder.manifest_path.is_file() or not folder.shards():  # nothing is lost where nothing was finished
        folder.start(manifest)
        return set()
    before = folder.manifest()
    differing = [
        name for name in manifest if name not in ("finished", "versions") and _plain(manifest[name]) != before.get(name)
    ]
    if differing:
        raise ViceError(
            f"A table goes on with the settings it was begun with, but {folder.folder} differs in "
            f"{', '.join(differing)}.",
            "Delete that folder to begin anew, or write to another one.",
        )
    return folder.finished_images()


def _plain(value: Any) -> Any:
    """`value` as it comes back from JSON: tuples are lists there."""
    import json

    return json.loads(json.dumps(value))


@dataclass(frozen=True)
class _Read:
    """An image as read from disk, and its place in the dataset."""

    index: int
    image: np.ndarray
    mask: np.ndarray | None


class _Steps:
    """Counts the views that are done and tells the caller's progress function."""

    def __init__(self, done: int, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.progress = done, total, progress
        self.advance(0)

    def advance(self, by: int = 1) -> None:
        self.done += by
        if self.progress:
            self.progress(self.done, self.total)


def _shards(dataset: Dataset, todo: list[int], size: int, workers: int) -> Iterator[list[_Read]]:
    """The images of one shard after the other, the next one being read while the last one is at work."""

    def read(index: int) -> _Read:
        return _Read(index, dataset.image(index), dataset.mask(index))

    parts = [todo[start : start + size] for start in range(0, len(todo), size)]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead = [pool.submit(read, i) for i in parts[0]] if parts else []
        for number in range(len(parts)):
            current, ahead = ahead, []
            if number + 1 < len(parts):
                ahead = [pool.submit(read, i) for i in parts[number + 1]]
            try:
                yield [future.result() for future in current]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _write_shard(
    folder: ShardFolder, dataset: Dataset, part: list[_Read], views: dict[str, View], exclusive: bool, steps: _Steps
) -> None:
    images, regions, maps = _Rows(), _Rows(), _Rows()
    targets = np.array([dataset.targets[read.index] for read in part], dtype=np.uint8)
    masked = [read.mask is not None for read in part]
    for protocol, view in views.items():
        for position, seen in view.look([read.image for read in part], targets, masked):
            read, truth = part[position], targets[position]
            image_id = dataset.records[read.index].image_id
            ji = float("nan") if read.mask is None else _count(image_id, view, seen, read.mask, regions, maps)
            if seen.logits.shape != truth.shape:
                raise ViceError(
                    f"The model must have an output for each of {len(truth)} classes, but has {len(seen.logits)}.",
                    "Give a class map from the data's classes to the model's outputs.",
                )
            images.add(
                image_id=image_id,
                view=view.name,
                height=read.image.shape[0],
                width=read.image.shape[1],
                has_mask=read.mask is not None,
                targets=truth,
                logits=seen.logits,
                ji=ji,
                **derived(seen.logits[None], truth[None], exclusive and protocol == "strict"),
            )
            steps.advance()
    folder.append(_images(images), _regions(regions), _maps(maps))


def derived(logits: np.ndarray, targets: np.ndarray, exclusive: bool) -> dict[str, float]:
    """Loss, confidence and accuracy of an image (1, C), for readers."""
    if exclusive:
        loss, p = cross_entropy(logits, targets), softmax(logits)
        return {
            "loss": float(loss[0]),
            "confidence": float(p.max()),
            "accuracy": float(targets[0, p[0].argmax()]),
        }
    p = sigmoid(logits)
    return {
        "loss": float(sample_loss(logits, targets)[0]),
        "confidence": float(confidence(p)[0]),
        "accuracy": float(sample_accuracy(p > 0.5, targets)[0]),
    }


def _count(image_id: str, view: View, seen: Seen, mask: np.ndarray, regions: _Rows, maps: _Rows) -> float:
    """Count the maps of one image against its mask; returns the published JI at threshold 0.1."""
    full, classes = seen.full((mask.shape[0], mask.shape[1])), seen.classes
    overlap = competing_overlap(full, classes, mask)
    inside, outside = own_histograms(full, classes, mask, HISTOGRAM_BINS)
    own = vars(own_maps(full, classes, mask))
    row_of = {c + 1: row for row, c in enumerate(classes)}
    nothing = np.zeros(HISTOGRAM_BINS, np.int64)
    for place, label in enumerate(overlap.labels.tolist()):
        row = row_of.get(label)
        regions.add(
            image_id=image_id,
            explanation=view.explanation,
            label=label,
            status="none" if row is None else seen.status[row],
            mask_pixels=overlap.mask_pixels[place],
            predicted=overlap.predicted[place],
            intersection=overlap.intersection[place],
            inside=nothing if row is None else inside[row],
            outside=nothing if row is None else outside[row],
            **{name: np.nan if row is None else column[row] for name, column in own.items()},
        )
        if row is not None:
            maps.add(image_id=image_id, explanation=view.explanation, label=label, map=seen.maps[row])
    at = [int(np.searchsorted(PAPER_THRESHOLDS, SAMPLE_THRESHOLD))]
    rows = np.zeros(len(overlap.labels), np.int64)
    ji = image_ji_from_counts(overlap.intersection[:, at], overlap.predicted[:, at], overlap.mask_pixels, rows, 1)
    return float(ji[0, 0])


def _texts(rows: _Rows, name: str) -> np.ndarray:
    return np.array(rows.columns.get(name, []), dtype=object)


def _numbers(rows: _Rows, name: str, dtype: Any, width: int | None = None) -> np.ndarray:
    found = rows.columns.get(name, [])
    return np.array(found, dtype=dtype) if found or width is None else np.zeros((0, width), dtype)


def _images(rows: _Rows) -> Images:
    numbers = {name: _numbers(rows, name, np.int32) for name in ("height", "width")}
    numbers |= {name: _numbers(rows, name, float) for name in ("loss", "confidence", "accuracy", "ji")}
    return Images(
        image_id=_texts(rows, "image_id"),
        view=_texts(rows, "view"),
        has_mask=_numbers(rows, "has_mask", bool),
        targets=_numbers(rows, "targets", np.uint8),
        logits=_numbers(rows, "logits", np.float32),
        **numbers,
    )


def _regions(rows: _Rows) -> Regions:
    counts = {name: _numbers(rows, name, np.int64, len(PAPER_THRESHOLDS)) for name in ("predicted", "intersection")}
    counts |= {name: _numbers(rows, name, np.int64, HISTOGRAM_BINS) for name in ("inside", "outside")}
    own = (column.name for column in fields(OwnMaps))
    return Regions.of(
        **{name: _numbers(rows, name, float) for name in own},
        **{name: _texts(rows, name) for name in ("image_id", "explanation", "status")},
        **{name: _numbers(rows, name, np.int64) for name in ("label", "mask_pixels")},
        **counts,
    )


def _maps(rows: _Rows) -> Maps:
    found = rows.columns.get("map", [])
    maps = np.empty(len(found), dtype=object)
    for row, values in enumerate(found):
        maps[row] = values.astype(np.float16)
    return Maps(_texts(rows, "image_id"), _texts(rows, "explanation"), _numbers(rows, "label", np.int64), maps)
