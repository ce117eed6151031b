"""The true (image, class) pairs of `strict`, each at a threshold that other images chose."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError
from torchvice.metrics.iou import pair_iou
from torchvice.samples import Samples

__all__ = ["Pairs", "fold_of", "true_pairs"]

FOLDS = 5


def fold_of(image_id: str) -> int:
    """The fold, 0 to 4, that an image belongs to: it hangs on the name alone, so that everyone has the same folds."""
    return int(hashlib.sha256(image_id.encode()).hexdigest(), 16) % FOLDS


@dataclass(frozen=True)
class Pairs:
    """The true (image, class) pairs of `strict`: P rows, ordered by image id and class.

    `image_id` (P,); `class_index` (P,); `logit` (P,) of the true class; `iou` (P, T) at every threshold; `chosen` (P,)
    the threshold chosen on the other folds' images; `quality` (P,) the IoU there; `without_pixels` true labels that no
    mask pixel bears, which are left out.
    """

    image_id: np.ndarray
    class_index: np.ndarray
    logit: np.ndarray
    iou: np.ndarray
    chosen: np.ndarray
    quality: np.ndarray
    without_pixels: int


def true_pairs(samples: Samples) -> Pairs:
    """The pairs that `strict` measures: every true class of every image with a mask, a missed object with IoU 0.

    The threshold of an image is the one of highest mean pair IoU among the images of the other four folds (`fold_of`);
    the first such threshold wins. With fewer than two folds filled, the threshold cannot be held out, and is chosen on
    all.

    Raises:
        ViceError: the table was not assessed under `strict`.
    """
    chosen = samples.manifest["protocols"].get("strict")
    if chosen is None:
        raise ViceError("Pairs are measured under `strict`, but the table was not assessed for it.")
    images, regions = samples.of_view(chosen["view"]), samples.of_explanation(chosen["explanation"])
    row_of = {image_id: row for row, image_id in enumerate(images.image_id.tolist())}
    rows = np.array([row_of[image_id] for image_id in regions.image_id.tolist()], dtype=np.int64)
    classes = regions.label - 1
    true = (classes >= 0) & (images.targets[rows, classes] == 1)
    iou = pair_iou(regions.intersection, regions.predicted, regions.mask_pixels[:, None])
    seen = true & (regions.mask_pixels > 0)
    labels_with_mask = int(images.targets[images.has_mask].sum())
    rows, classes, iou, image_id = rows[seen], classes[seen], iou[seen], regions.image_id[seen]
    best, quality = _held_out(samples.thresholds, image_id, iou)
    return Pairs(
        image_id,
        classes,
        images.logits[rows, classes],
        iou,
        best,
        quality,
        labels_with_mask - int(seen.sum()),
    )


def _held_out(thresholds: np.ndarray, image_id: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every pair the threshold that the other folds choose, and the IoU there."""
    folds = np.array([fold_of(name) for name in image_id.tolist()], dtype=np.int64)
    index = np.zeros(len(folds), dtype=np.int64)
    for fold in np.unique(folds):
        others = folds != fold
        others = others if others.any() else ~others
        index[folds == fold] = int(iou[others].mean(axis=0).argmax())
    return thresholds[index], iou[np.arange(len(index)), index]
