"""IoU from pixel counts: curve over thresholds, JI score of an image, IoU of a pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, as_whole, same_length
from torchvice.metrics.multilabel import checked_protocol
from torchvice.metrics.overlap import VOID, Overlap, competing_overlap
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_thresholds

# Makes 0/0 equal 0 in the published scripts. Only `paper` uses it.
PAPER_EPSILON = 1e-10


@dataclass(frozen=True)
class IouCurve:
    """IoU of a dataset at each threshold, as fractions.

    Attributes:
        thresholds: (T,).
        class_iou: (T, K), background first; NaN for a class without mask pixels (`strict`).
        mean_iou: (T,), mean over the classes that are not NaN; NaN if all are.
        best_threshold: the first threshold with the highest mean IoU, or NaN.
        best_mean_iou: the mean IoU at `best_threshold`.
    """

    thresholds: np.ndarray
    class_iou: np.ndarray
    mean_iou: np.ndarray
    best_threshold: float
    best_mean_iou: float


class CurveCounter:
    """Pixel counts summed over images, in constant memory, and the curve that they give.

    Args:
        num_classes: C, without background.
        thresholds: (T,) thresholds at which the overlaps were counted.

    Attributes:
        images: number of images added.
        intersection, predicted: (T, K) int64.
        mask_pixels: (K,) int64.

    Example:
        >>> counter = CurveCounter(4, [0.1, 0.5])
        >>> counter.add(competing_overlap([[[0.9, 0.2]]], [3], np.array([[4, 0]]), [0.1, 0.5]))
        >>> counter.curve("strict").mean_iou
        array([0.25, 1.  ])
    """

    def __init__(self, num_classes: int, thresholds: Any = PAPER_THRESHOLDS) -> None:
        num_classes = as_whole("num_classes", num_classes, 1)
        self.thresholds = as_array("thresholds", thresholds, 1, np.float64)
        self.images = 0
        self.intersection = np.zeros((len(self.thresholds), num_classes + 1), np.int64)
        self.predicted = np.zeros_like(self.intersection)
        self.mask_pixels = np.zeros(num_classes + 1, np.int64)

    def add(self, overlap: Overlap) -> None:
        """Add the counts of one image.

        Raises:
            ViceError: a label above the number of classes, or a different number of thresholds; nothing is added.
        """
        if overlap.predicted.shape[1] != len(self.thresholds):
            raise ViceError(
                f"The overlap must have the counter's {len(self.thresholds)} thresholds, but has "
                f"{overlap.predicted.shape[1]}."
            )
        if overlap.labels[-1] >= len(self.mask_pixels):
            raise ViceError(
                f"Labels must be 0 to {len(self.mask_pixels) - 1}, but one is {overlap.labels[-1]}.",
                "0 is background and c + 1 is class c. Increase the number of classes if there are more.",
            )
        self.images += 1
        self.intersection[:, overlap.labels] += overlap.intersection.T
        self.predicted[:, overlap.labels] += overlap.predicted.T
        self.mask_pixels[overlap.labels] += overlap.mask_pixels

    def merge(self, other: CurveCounter) -> None:
        """Add all images of another counter with the same classes and thresholds."""
        if not np.array_equal(self.thresholds, other.thresholds, equal_nan=True) or len(self.mask_pixels) != len(
            other.mask_pixels
        ):
            raise ViceError("Merged counters must have the same classes and thresholds, but differ.")
        self.images += other.images
        self.intersection += other.intersection
        self.predicted += other.predicted
        self.mask_pixels += other.mask_pixels

    def curve(self, protocol: str = "paper") -> IouCurve:
        """Return the curve of all added images, see `curve_from_counts`."""
        return curve_from_counts(self.intersection, self.predicted, self.mask_pixels, self.thresholds, protocol)


def curve_from_counts(
    intersection: Any, predicted: Any, mask_pixels: Any, thresholds: Any, protocol: str = "paper"
) -> IouCurve:
    """Compute the IoU curve from pixel counts summed over images.

    IoU of a label = intersection / (predicted + mask pixels - intersection). Both protocols include the background in
    the mean.

    Args:
        intersection: (T, K) pixels predicted as the label and inside its mask.
        predicted: (T, K) pixels predicted as the label.
        mask_pixels: (K,) pixels of the label in the masks.
        thresholds: (T,).
        protocol: `paper` adds 1e-10 to the denominator and averages all K labels, so a class that never occurs counts
            as 0. `strict` leaves out (NaN) the classes without mask pixels in the data.

    Raises:
        ViceError: shapes differ, or an unknown protocol.

    Example:
        >>> curve_from_counts([[8, 1, 0]], [[9, 1, 0]], [8, 2, 0], [0.5], "strict").class_iou.round(3)
        array([[0.889, 0.5  ,   nan]])
    """
    checked_protocol(protocol)
    shared = as_array("intersection", intersection, 2)
    predicted = as_array("predicted", predicted, 2)
    pixels = as_array("mask_pixels", mask_pixels, 1)
    thresholds = as_array("thresholds", thresholds, 1)
    shape = (len(thresholds), len(pixels))
    if shared.shape != shape or predicted.shape != shape:
        raise ViceError(
            f"`intersection` and `predicted` must be (T, K) = {shape} like `thresholds` and `mask_pixels`, "
            f"but have shapes {shared.shape} and {predicted.shape}."
        )
    if protocol == "paper":
        class_iou = _paper_iou(shared, predicted, pixels)
        mean_iou = class_iou.mean(axis=1)
    else:
        class_iou = pair_iou(shared, predicted, pixels)
        some = pixels > 0
        mean_iou = class_iou[:, some].mean(axis=1) if some.any() else np.full(len(thresholds), np.nan)
    if np.isnan(mean_iou).all():
        return IouCurve(thresholds, class_iou, mean_iou, np.nan, np.nan)
    best = int(np.argmax(mean_iou))
    return IouCurve(thresholds, class_iou, mean_iou, float(thresholds[best]), float(mean_iou[best]))


def iou_curve(
    maps: Iterable[Any],
    classes: Iterable[Any],
    masks: Iterable[Any],
    num_classes: int,
    thresholds: Any = PAPER_THRESHOLDS,
    protocol: str = "paper",
    *,
    void: Any = VOID,
) -> IouCurve:
    """Compute class and mean IoU of a dataset at every threshold, reading each image once.

    Args:
        maps: per image (M, H, W) scores. The first three arguments may be generators; one image is held at a time.
        classes: per image (M,) classes of its maps.
        masks: per image (H, W) labels or (C, H, W) booleans, see `competing_overlap`.
        num_classes: C, without background.
        thresholds: (T,) increasing numbers.
        protocol: `paper` or `strict`, see `curve_from_counts`.
        void: the mask value that is not counted.

    Raises:
        ViceError: as in `competing_overlap`, with the index of the image; or iterables of unequal length.

    Example:
        >>> iou_curve([[[[0.9, 0.2]]]], [[3]], [np.array([[4, 0]])], 4, [0.1, 0.5], "strict").best_threshold
        0.5
    """
    checked_protocol(protocol)
    counter = CurveCounter(num_classes, as_thresholds(thresholds))
    rows = [iter(maps), iter(classes), iter(masks)]
    end = object()
    while True:
        row = [next(images, end) for images in rows]
        if all(entry is end for entry in row):
            return counter.curve(protocol)
        if any(entry is end for entry in row):
            raise ViceError(
                f"`maps`, `classes` and `masks` must hold equally many images, but one ends after {counter.images}."
            )
        try:
            counter.add(competing_overlap(row[0], row[1], row[2], thresholds, void=void))
        except ViceError as error:
            raise ViceError(f"Image {counter.images}: {error.message}", error.way_out) from None


def image_ji(
    maps: Any, classes: Any, mask: Any, threshold: float = 0.1, protocol: str = "paper", *, void: Any = VOID
) -> float:
    """JI score of one image, in [0, 1]: how well its maps cover its objects.

    `paper` averages the labels whose IoU is not 0, including the background, so a completely missed object is not part
    of the mean. `strict` averages the classes that have mask pixels; a missed object counts 0. NaN if no label is left.

    Args:
        maps: (M, H, W) scores.
        classes: (M,) classes of the maps.
        mask: (H, W) labels or (C, H, W) booleans, see `competing_overlap`.
        threshold: a pixel is background if no score is above it.
        protocol: `paper` or `strict`.
        void: the mask value that is not counted.

    Raises:
        ViceError: as in `competing_overlap`, or an unknown protocol.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).

    Example:
        >>> round(image_ji([[[0.9, 0.2, 0.0]]], [4], np.array([[5, 0, 0]])), 9)  # background 1/2, class 1/2
        0.5
    """
    return float(overlap_ji(competing_overlap(maps, classes, mask, [threshold], void=void), protocol)[0])


def overlap_ji(overlap: Overlap, protocol: str = "paper") -> np.ndarray:
    """(T,) JI score of one image at each threshold of its Overlap, see `image_ji`."""
    rows = np.zeros(len(overlap.labels), np.int64)
    return image_ji_from_counts(
        overlap.intersection, overlap.predicted, overlap.mask_pixels, rows, 1, overlap.labels, protocol
    )[0]


def image_ji_from_counts(
    intersection: Any,
    predicted: Any,
    mask_pixels: Any,
    image_index: Any,
    n_images: int,
    labels: Any = None,
    protocol: str = "paper",
) -> np.ndarray:
    """JI score of many images from a table with one row per image and label, see `image_ji`.

    Args:
        intersection, predicted: (R,) or (R, T) pixels predicted as the label, inside its mask and in total.
        mask_pixels: (R,) pixels of the label in the mask.
        image_index: (R,) index of the row's image, 0..n_images - 1, in any order.
        n_images: N.
        labels: (R,) label of the row, 0 for background; required by the protocol `strict`.
        protocol: `paper` or `strict`.

    Returns:
        (N,) or (N, T); NaN for an image without a counted label.

    Raises:
        ViceError: columns of unequal length, an index out of range, or `strict` without labels.

    Example:
        >>> image_ji_from_counts([1, 1, 0], [2, 1, 0], [1, 2, 5], [0, 0, 1], 2).round(3)
        array([0.5, nan])
    """
    index = as_array("image_index", image_index, 1, np.int64)
    pixels = as_array("mask_pixels", mask_pixels, 1)
    flat = np.ndim(intersection) < 2
    shared = as_array("intersection", intersection, 1 if flat else 2)
    predicted = as_array("predicted", predicted, shared.ndim)
    same_length(intersection=shared, predicted=predicted, mask_pixels=pixels, image_index=index)
    if len(index) and not (index.min() >= 0 and index.max() < n_images):
        raise ViceError(f"`image_index` must be 0 to {n_images - 1}, but runs from {index.min()} to {index.max()}.")
    shared, predicted = (shared[:, None], predicted[:, None]) if flat else (shared, predicted)
    if checked_protocol(protocol) == "paper":
        iou = _paper_iou(shared, predicted, pixels[:, None])
        counts = iou != 0
    elif labels is None:
        raise ViceError("`labels` must be given for the protocol `strict`, which leaves the background out.")
    else:
        same_length(labels=labels, image_index=index)
        iou = pair_iou(shared, predicted, pixels[:, None])
        true = (as_array("labels", labels, 1, np.int64) > 0) & (pixels > 0)
        counts = np.broadcast_to(true[:, None], iou.shape)
    score = _mean_by_image(iou, counts, index, n_images)
    return score[:, 0] if flat else score


def _mean_by_image(iou: np.ndarray, counts: np.ndarray, index: np.ndarray, n_images: int) -> np.ndarray:
    """Mean over the rows of each image where `counts` is true, (N, T); NaN if there are none."""
    total, number = np.zeros((2, n_images, iou.shape[1]))
    np.add.at(total, index, np.where(counts, iou, 0))
    np.add.at(number, index, counts)
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def pair_iou(intersection: Any, predicted: Any, mask_pixels: Any) -> np.ndarray:
    """IoU of (image, class) pairs, elementwise on broadcastable counts; NaN where the mask lacks the class.

    A completely missed object has IoU 0.

    Example:
        >>> pair_iou([3, 0, 0], [4, 0, 7], [5, 5, 0])
        array([0.5, 0. , nan])
    """
    shared, predicted, pixels = np.broadcast_arrays(
        *(np.asarray(count, np.float64) for count in (intersection, predicted, mask_pixels))
    )
    return np.divide(shared, predicted + pixels - shared, out=np.full(shared.shape, np.nan), where=pixels > 0)


def _paper_iou(intersection: np.ndarray, predicted: np.ndarray, mask_pixels: np.ndarray) -> np.ndarray:
    return intersection / (predicted + mask_pixels - intersection + PAPER_EPSILON)
