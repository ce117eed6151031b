"""The true (image, class) pairs of `strict`, each at a threshold that other images choose."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from torchvice.metrics.iou import pair_iou
from torchvice.metrics.losses import sigmoid
from torchvice.metrics.thresholds import HeldOut
from torchvice.samples import Regions, Samples
from torchvice.samples.frames import pandas_frame, polars_frame

__all__ = ["REPLACED", "Pairs", "fold_of", "true_pairs"]

FOLDS = 5
REPLACED = ("without_object", "without_background", "with_hole")  # the table's columns of margins on changed images


@functools.lru_cache(maxsize=2**20)
def fold_of(image_id: str) -> int:
    """Return the fold of an image, 0 to 4. It depends only on the id, so that everyone has the same folds."""
    return int.from_bytes(hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest(), "big") % FOLDS


@dataclass(frozen=True)
class Pairs:
    """The true (image, class) pairs of `strict`: P rows, ordered by image id and class.

    `image_id` (P,); `class_index` (P,); `logit` (P,) of the true class, the log-odds of its softmax probability where
    the targets are exclusive; `iou` (P, T) at every threshold; `chosen` (P,) the threshold chosen on the other folds'
    images; `quality` (P,) the IoU there; `without_pixels` true labels without a pixel in the mask, which are left out;
    `at` (P,) the place of `chosen` among the thresholds; `fold` (P,) of the image; `area` (P,) the object's share of
    the image's pixels; `labels` (P,) how many true labels the image has; `regions`, the table's row of each pair;
    `lead` (P,) in [-1, 1], of exclusive targets how far the probability of the class lies above that of the likeliest
    other class, else None; `margin` (P,) the logit of the class, of exclusive targets that minus the highest other
    one, as in the table's columns of interventions.
    """

    image_id: np.ndarray
    class_index: np.ndarray
    logit: np.ndarray
    iou: np.ndarray
    chosen: np.ndarray
    quality: np.ndarray
    without_pixels: int
    at: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    fold: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    area: np.ndarray = field(default_factory=lambda: np.zeros(0))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    regions: Regions | None = None
    lead: np.ndarray | None = None
    margin: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.logit)

    @property
    def probability(self) -> np.ndarray:
        """(P,) float64 in [0, 1], of each pair's class."""
        return sigmoid(self.logit.astype(float))

    @property
    def predicted(self) -> np.ndarray:
        """(P,) bool, whether the model predicts the class: above one half, or, of exclusive targets, the likeliest."""
        return self.logit > 0 if self.lead is None else self.lead > 0

    def to_pandas(self, classes: Sequence[str]) -> Any:
        """A data frame with one row per pair.

        Args:
            classes: names of the classes, as `samples.classes`.

        Returns:
            pandas.DataFrame with the columns image_id, class, logit, probability, predicted, iou (at the held-out
            threshold), threshold, fold, area and labels (of the image); and where parts of the images were replaced,
            `margin` on the whole image and each that was measured of `without_object`, `without_background` and
            `with_hole`: found above 0, NaN where a pair was not measured.

        Raises:
            ViceError: pandas is not installed.
        """
        return pandas_frame(self.columns(classes))

    def to_polars(self, classes: Sequence[str]) -> Any:
        """The same as `to_pandas`, as a polars.DataFrame.

        Raises:
            ViceError: polars is not installed.
        """
        return polars_frame(self.columns(classes))

    def columns(self, classes: Sequence[str]) -> dict[str, Any]:
        """The columns of `to_pandas`, P values each."""
        return {
            "image_id": self.image_id,
            "class": [classes[c] for c in self.class_index.tolist()],
            "logit": self.logit,
            "probability": self.probability,
            "predicted": self.predicted,
            "iou": self.quality,
            "threshold": self.chosen,
            "fold": self.fold,
            "area": self.area,
            "labels": self.labels,
            **self._margins(),
        }

    def _margins(self) -> dict[str, np.ndarray]:
        """The margins on the whole image and on changed ones, P values each; empty where nothing was replaced."""
        if self.regions is None:
            return {}
        columns = {name: getattr(self.regions, name) for name in REPLACED}
        measured = {name: column for name, column in columns.items() if not np.isnan(column).all()}
        return {"margin": self.margin, **measured} if measured else {}

    def where(self, rows: np.ndarray) -> Pairs:
        """Select pairs by a boolean mask or an index array; each keeps its threshold."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        picked = {
            name: column[rows]
            for name, column in columns.items()
            if isinstance(column, np.ndarray) and len(column) == len(self)
        }
        regions = None if self.regions is None else self.regions.where(rows)
        return replace(self, **picked, regions=regions)

    def alone(self, rows: np.ndarray, thresholds: np.ndarray) -> Pairs:
        """Select pairs by an index array; the thresholds (T,) are chosen again, among these pairs."""
        picked = self.where(rows)
        held_out = HeldOut(picked.iou, picked.fold)
        return replace(picked, at=held_out.index, chosen=thresholds[held_out.index], quality=held_out.quality)


def true_pairs(samples: Samples, explanation: str | None = None) -> Pairs:
    """Return the pairs that `strict` measures: every true class of every image with a mask; a missed object has IoU 0.

    The threshold is held out by folds of images (`fold_of`), see `torchvice.metrics.thresholds.HeldOut`.

    Args:
        samples: the table.
        explanation: the id of an explanation; None: the headline. Another one has the same logits and its own
            thresholds.

    Raises:
        ViceError: the table was not assessed under `strict`, or has no such explanation.
    """
    strict = samples.of_protocol("strict")
    images = strict.images
    regions = samples.of_explanation(explanation or strict.explanation)
    names = images.image_id.tolist()
    row_of = {image_id: row for row, image_id in enumerate(names)}
    rows = np.fromiter(map(row_of.__getitem__, regions.image_id.tolist()), np.int64, len(regions.image_id))
    classes = regions.label - 1
    true = (classes >= 0) & (images.targets[rows, classes] == 1)
    visible = true & (regions.mask_pixels > 0)
    labels_with_mask = int(images.targets[images.has_mask].sum())
    rows, classes, regions = rows[visible], classes[visible], regions.where(visible)
    iou = pair_iou(regions.intersection, regions.predicted, regions.mask_pixels[:, None])
    fold = np.fromiter(map(fold_of, names), np.int64, len(names))[rows]
    held_out, labels = HeldOut(iou, fold), strict.true_labels
    places = labels.places(rows, classes)
    return Pairs(
        image_id=regions.image_id,
        class_index=classes,
        logit=labels.logit[places],
        iou=iou,
        chosen=samples.thresholds[held_out.index],
        quality=held_out.quality,
        without_pixels=labels_with_mask - int(visible.sum()),
        at=held_out.index,
        fold=fold,
        area=regions.mask_pixels / np.maximum(1, images.height[rows].astype(float) * images.width[rows]),
        labels=images.targets.sum(axis=1).astype(np.int64)[rows],
        regions=regions,
        lead=labels.lead[places] if strict.exclusive else None,
        margin=labels.margin[places],
    )
