"""Rows: the logits of an image and how its maps cover the mask, as columns of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.assessment.region import Region
from torchvice.metrics import sample_accuracy
from torchvice.metrics.boxes import best_box_iou
from torchvice.metrics.iou import image_ji_from_counts
from torchvice.metrics.overlap import Overlap, competing_overlap, own_histograms
from torchvice.metrics.own_map import OwnMaps, own_maps
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, SAMPLE_THRESHOLD
from torchvice.samples import FAITHFULNESS, FEATURES, HISTOGRAM_BINS, INTERVENTIONS, Images, Maps, Regions
from torchvice.samples.predictions import confidences, losses, predicted, probabilities

if TYPE_CHECKING:
    from torchvice.assessment.device_counts import Counts
    from torchvice.assessment.views import ViewOutput

__all__ = ["Rows", "SingleMap", "in_float16"]

_NO_HISTOGRAM = np.zeros(HISTOGRAM_BINS, np.int64)
_NO_BOXES = np.full(len(PAPER_THRESHOLDS), np.nan, np.float32)
_OWN = [column.name for column in fields(OwnMaps)]
_NOT_MEASURED: dict[str, Any] = dict.fromkeys((*FAITHFULNESS, *INTERVENTIONS), np.nan)
_NOT_MEASURED["peak_features"] = np.full(FEATURES, np.nan, np.float32)


@dataclass(frozen=True)
class SingleMap:
    """A map that is counted on its own: its label, status, full size (H, W), region, and the low-resolution form."""

    label: int
    status: str
    full: np.ndarray
    region: Region
    low: np.ndarray | None


@dataclass
class _Columns:
    """Columns that grow row by row."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **row: Any) -> None:
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def texts(self, name: str) -> np.ndarray:
        return np.array(self.columns.get(name, []), dtype=object)

    def numbers(self, name: str, dtype: Any, width: int | None = None) -> np.ndarray:
        values = self.columns.get(name, [])
        return np.array(values, dtype=dtype) if values or width is None else np.zeros((0, width), dtype)


class Rows:
    """The rows of some images, until they are a shard."""

    def __init__(self) -> None:
        self._images, self._regions, self._maps = _Columns(), _Columns(), _Columns()

    def add_image(
        self,
        image_id: str,
        view: str,
        size: tuple[int, int],
        truth: np.ndarray,
        logits: np.ndarray,
        ji: float | None,
        exclusive: bool,
        digests: tuple[str, str] = ("", ""),
    ) -> None:
        """Add the output for an image. `ji` is None where there is no mask; `exclusive` as in `Samples`.

        `digests`: of the image and of its mask.

        Raises:
            ViceError: other logits than classes.
        """
        if logits.shape != truth.shape:
            from torchvice.assessment.outputs import wrong_number

            raise wrong_number(len(truth), len(logits), exclusive)
        self._images.add(
            image_id=image_id,
            view=view,
            height=size[0],
            width=size[1],
            has_mask=ji is not None,
            targets=truth,
            logits=logits,
            ji=float("nan") if ji is None else ji,
            image_digest=digests[0],
            mask_digest=digests[1],
            **_derived(logits[None], truth[None], exclusive),
        )

    def count(
        self,
        image_id: str,
        explanation: str,
        output: ViewOutput,
        region: Region,
        measured: Mapping[int, Mapping[str, Any]] | None = None,
        counts: Counts | None = None,
    ) -> float:
        """Count the maps of one image, which compete, against its region; returns the published JI at threshold 0.1.

        `measured`: further columns by class, of faithfulness and of interventions, where they were measured.
        `counts`: of the same maps, where they were counted on a GPU.
        """
        if counts is None:
            overlap, own = _counted(output.full(region.size), output.classes, region)
        else:
            boxes = np.array([_NO_BOXES] * len(output.classes))
            overlap = counts.overlap
            own = {"inside": counts.inside, "outside": counts.outside, "box_iou": boxes, **vars(counts.own)}
        row_of = {c + 1: row for row, c in enumerate(output.classes)}
        for place, label in enumerate(overlap.labels.tolist()):
            row = row_of.get(label)
            columns = _OWN_NOTHING if row is None else {name: column[row] for name, column in own.items()}
            columns = columns | _NOT_MEASURED | dict((measured or {}).get(label - 1, {}))
            status = "none" if row is None else output.status[row]
            self._add_region(image_id, explanation, overlap, place, status, columns)
            if row is not None:
                self._maps.add(image_id=image_id, explanation=explanation, label=label, map=output.maps[row])
        at = [int(np.searchsorted(PAPER_THRESHOLDS, SAMPLE_THRESHOLD))]
        rows = np.zeros(len(overlap.labels), np.int64)
        ji = image_ji_from_counts(overlap.intersection[:, at], overlap.predicted[:, at], overlap.mask_pixels, rows, 1)
        return float(ji[0, 0])

    def count_single(self, image_id: str, explanation: str, single: SingleMap) -> None:
        """Count one map against its own class: no other map takes pixels from it, not even in a tie."""
        overlap, columns = _counted(single.full[None], [single.label - 1], single.region)
        own = {name: column[0] for name, column in columns.items()} | _NOT_MEASURED
        place = overlap.labels.tolist().index(single.label)
        self._add_region(image_id, explanation, overlap, place, single.status, own)
        if single.low is not None:
            self._maps.add(image_id=image_id, explanation=explanation, label=single.label, map=single.low)

    def _add_region(
        self, image_id: str, explanation: str, overlap: Overlap, place: int, status: str, own: dict[str, Any]
    ) -> None:
        self._regions.add(
            image_id=image_id,
            explanation=explanation,
            label=int(overlap.labels[place]),
            status=status,
            mask_pixels=overlap.mask_pixels[place],
            predicted=overlap.predicted[place],
            intersection=overlap.intersection[place],
            **own,
        )

    def images(self) -> Images:
        """The rows of images so far."""
        rows = self._images
        numbers = {name: rows.numbers(name, np.int32) for name in ("height", "width")}
        numbers |= {name: rows.numbers(name, float) for name in ("loss", "confidence", "accuracy", "ji")}
        return Images(
            image_id=rows.texts("image_id"),
            view=rows.texts("view"),
            has_mask=rows.numbers("has_mask", bool),
            targets=rows.numbers("targets", np.uint8),
            logits=rows.numbers("logits", np.float32),
            image_digest=rows.texts("image_digest"),
            mask_digest=rows.texts("mask_digest"),
            **numbers,
        )

    def regions(self) -> Regions:
        """The rows of regions so far."""
        rows = self._regions
        counts = {name: rows.numbers(name, np.int64, len(PAPER_THRESHOLDS)) for name in ("predicted", "intersection")}
        counts |= {name: rows.numbers(name, np.int64, HISTOGRAM_BINS) for name in ("inside", "outside")}
        return Regions.of(
            **{name: rows.texts(name) for name in ("image_id", "explanation", "status")},
            **{name: rows.numbers(name, np.int64) for name in ("label", "mask_pixels")},
            **{name: rows.numbers(name, float) for name in (*_OWN, *FAITHFULNESS, *INTERVENTIONS)},
            peak_features=rows.numbers("peak_features", np.float32, FEATURES),
            box_iou=rows.numbers("box_iou", np.float32, len(PAPER_THRESHOLDS)),
            **counts,
        )

    def maps(self) -> Maps:
        """The rows of maps so far."""
        rows = self._maps
        arrays = rows.columns.get("map", [])
        maps = np.empty(len(arrays), dtype=object)
        for row, values in enumerate(arrays):
            maps[row] = in_float16(values)
        return Maps(rows.texts("image_id"), rows.texts("explanation"), rows.numbers("label", np.int64), maps)


def in_float16(values: np.ndarray) -> np.ndarray:
    """A map (h, w) in float16, times a power of two where it is too large or too small for that.

    The largest magnitude, if it is below 2^-10 or 2^15 and above, is brought to [1/2, 1): only the scale of a map
    changes, which has no meaning. Without it a map of 1e6 would be infinite, and one of 1e-8 zero.

    Example:
        >>> in_float16(np.array([[2e6, -1e6]])).tolist(), in_float16(np.array([[0.5, 3.0]])).tolist()
        ([[0.95361328125, -0.476806640625]], [[0.5, 3.0]])
    """
    power = int(np.frexp(np.abs(values[np.isfinite(values)]).max(initial=0.0))[1])
    return (values if -10 < power <= 15 else np.ldexp(values, -power)).astype(np.float16)


_OWN_NOTHING: dict[str, Any] = {
    "inside": _NO_HISTOGRAM,
    "outside": _NO_HISTOGRAM,
    "box_iou": _NO_BOXES,
    **dict.fromkeys(_OWN, np.nan),
}


def _counted(full: np.ndarray, classes: Sequence[int], region: Region) -> tuple[Overlap, dict[str, np.ndarray]]:
    """The overlap of maps (M, H, W) with the region, and each map's measures on its own object, by column."""
    places, mask, label_of = region.against(classes)
    overlap = competing_overlap(full, places, mask, void=region.void)
    inside, outside = own_histograms(full, places, mask, HISTOGRAM_BINS, void=region.void)
    given = [region.boxes_of(c) for c in classes]
    boxes = [_NO_BOXES if b is None else best_box_iou(plane, b) for plane, b in zip(full, given, strict=True)]
    scores = own_maps(full, places, mask, void=region.void)
    own = {"inside": inside, "outside": outside, "box_iou": np.array(boxes), **vars(scores)}
    return replace(overlap, labels=label_of[overlap.labels]), own


def _derived(logits: np.ndarray, targets: np.ndarray, exclusive: bool) -> dict[str, float]:
    """Loss, confidence and accuracy of an image (1, C), for readers."""
    p = probabilities(logits, exclusive)
    return {
        "loss": float(losses(logits, targets, exclusive)[0]),
        "confidence": float(confidences(p, exclusive)[0]),
        "accuracy": float(sample_accuracy(predicted(p, exclusive), targets)[0]),
    }
