"""VICE, ECE-ML and mean IoU as torchmetrics' Metric classes, for training and testing on several devices.

The functions of `torchvice.metrics` compute every batch on the host, so each measure is defined once. The states are on
the metric's device. An undefined value is NaN with a warning, so that training continues. Wrong arguments raise. States
are float64; on a device without float64 (Apple's MPS), keep the metric on the CPU.

This is the only module of `metrics` that imports torch. No other module imports it at its top.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from torchvice.errors import ViceError, as_array, same_length, to_numpy
from torchvice.metrics.binning import equal_width_edges
from torchvice.metrics.calibration import Reliability, reliability_of_sums
from torchvice.metrics.consistency import pair_vice
from torchvice.metrics.iou import CurveCounter, IouCurve
from torchvice.metrics.multilabel import (
    Protocol,
    checked_protocol,
    confidence,
    probabilities_and_targets,
    sample_accuracy,
    sample_precision,
)
from torchvice.metrics.overlap import VOID, competing_overlap
from torchvice.metrics.streaming import BinnedCalibration, CoMoments
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_thresholds

__all__ = ["ImageVice", "MeanIoUCurve", "MultilabelCalibrationError", "PairVice"]


class _OnePass(Metric):
    """Base of the four classes: one pass over the batches, with float64 states."""

    full_state_update = False
    is_differentiable = False

    @property
    def dtype(self) -> torch.dtype:
        """float64, also for the empty state of a process without rows."""
        return torch.float64

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        """Move the states with their module, but keep their precision, also in `module.to(torch.bfloat16)`."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        return super()._apply(moved, exclude_state)

    def _add_settings(self, *settings: object) -> None:
        """Add a state that is named after the settings on which the other states depend.

        A MetricCollection keeps one state for metrics whose states have the same names and, after the first batch, the
        same values. By this name it keeps those of other settings apart, and `merge_state` refuses them.
        """
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        self.add_state(f"settings_{digest}", default=torch.tensor(0), dist_reduce_fx="sum")

    def _undefined(self, reason: str) -> torch.Tensor:
        warnings.warn(f"{type(self).__name__} is undefined: {reason}", UserWarning, stacklevel=3)
        return self._number(float("nan"))

    def _number(self, value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device)


def _merged(states: torch.Tensor) -> torch.Tensor:
    """Merge several states of co-moments, (S, 9) -> (9,); a single state does not change."""
    whole = CoMoments()
    for numbers in states.reshape(-1, 9).cpu().numpy():
        whole.merge(CoMoments.from_array(numbers))
    return torch.as_tensor(whole.to_array(), device=states.device)


class ImageVice(_OnePass):
    """VICE of `paper` in one pass: Pearson correlation of -loss with explanation quality over images.

    The state is nine numbers, whatever the number of images, and is merged over processes. `torchvice.metrics.vice` has
    the definition, `torchvice.metrics.streaming.CoMoments` the arithmetic.

    Args:
        nan_policy: "propagate": one undefined image makes the value NaN, as published; "omit" leaves it out.
        kwargs: passed to torchmetrics.Metric.

    `update(loss, quality)` takes two (N,) columns: the loss in nats, and the JI score in [0, 1]. `compute()` returns a
    float64 scalar in [-1, 1], higher is more consistent; NaN, with a warning, for fewer than three images or a constant
    column.

    Raises:
        ViceError: an unknown `nan_policy`; in `update`: lengths differ, or infinity.

    Example:
        >>> metric = ImageVice()
        >>> metric.update(torch.tensor([0.1, 0.4]), torch.tensor([0.8, 0.5]))
        >>> metric.update(torch.tensor([0.9]), torch.tensor([0.1]))
        >>> round(metric.compute().item(), 3)
        0.998
    """

    higher_is_better = True
    moments: torch.Tensor

    def __init__(self, nan_policy: str = "propagate", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if nan_policy not in ("propagate", "omit"):
            raise ViceError(f"`nan_policy` must be 'propagate' or 'omit', but is {nan_policy!r}.")
        self.nan_policy = nan_policy
        self.add_state("moments", default=torch.as_tensor(CoMoments().to_array()), dist_reduce_fx=_merged)

    def update(self, loss: Any, quality: Any) -> None:
        """Add a batch of images."""
        moments = self.co_moments()
        moments.add(loss, quality)
        self.moments = self._tensor(moments.to_array())

    def co_moments(self) -> CoMoments:
        """Return the state of this process: `n`, `undefined` (images with a NaN) and the moments."""
        return CoMoments.from_array(self.moments.cpu().numpy())

    def compute(self) -> torch.Tensor:
        """Compute the correlation over all images of all processes."""
        state = self.co_moments()
        if state.undefined and self.nan_policy == "propagate":
            return self._undefined(
                f"loss or quality of {state.undefined} of {state.n + state.undefined} images is NaN."
            )
        try:
            return self._number(-state.correlation())
        except ViceError as error:
            return self._undefined(error.message)


class PairVice(_OnePass):
    """VICE of `strict`: Spearman correlation of the logit with the IoU over true (image, class) pairs.

    Ranks need all pairs at once, so the state grows by 16 bytes per pair and is gathered over processes.
    `torchvice.metrics.pair_vice` has the definition.

    Args:
        kwargs: passed to torchmetrics.Metric.

    `update(logits, quality)` takes two (P,) columns: the logit of the true class, and the IoU of its map in [0, 1].
    `compute()` returns a float64 scalar in [-1, 1] over the pairs without NaN; NaN, with a warning, for fewer than
    three pairs, infinite logits, or a constant column.

    Raises:
        ViceError: in `update`: lengths differ.

    Example:
        >>> metric = PairVice()
        >>> metric.update([2.0, 0.5], [0.6, 0.4])
        >>> metric.update([-1.0, 3.0], [0.0, 0.9])
        >>> metric.compute().item()
        1.0
    """

    higher_is_better = True
    logits: list[torch.Tensor]
    quality: list[torch.Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("logits", default=[], dist_reduce_fx="cat")
        self.add_state("quality", default=[], dist_reduce_fx="cat")

    def update(self, logits: Any, quality: Any) -> None:
        """Add a batch of pairs."""
        a, b = as_array("logits", logits, 1), as_array("quality", quality, 1)
        same_length(logits=a, quality=b)
        self.logits.append(self._tensor(a))
        self.quality.append(self._tensor(b))

    def compute(self) -> torch.Tensor:
        """Compute the rank correlation over all pairs of all processes."""
        empty = torch.zeros(0)  # an empty list cannot be concatenated
        columns = [dim_zero_cat(state) if len(state) else empty for state in (self.logits, self.quality)]
        try:
            return self._number(pair_vice(*columns).value)
        except ViceError as error:
            return self._undefined(error.message)


class MultilabelCalibrationError(_OnePass):
    """ECE-ML in one pass: expected calibration error of the multi-label confidence.

    The state is three sums per bin, added over processes. `torchvice.metrics.multilabel_ece` has the definition.

    Args:
        bins: number of equal-width bins of the confidence.
        protocol: `paper` or `strict`.
        kwargs: passed to torchmetrics.Metric.

    `update(probabilities, targets)` takes (N, C) in [0, 1] and (N, C) of 0 and 1. `compute()` returns a float64 scalar
    in [0, 1], lower is better; NaN, with a warning, without images or, under `paper`, after an image with neither label
    nor prediction.

    Raises:
        ViceError: fewer than one bin, or an unknown protocol; in `update`: shapes differ, a target other than 0 and
            1, or a probability outside [0, 1].

    Example:
        >>> metric = MultilabelCalibrationError()
        >>> metric.update(torch.tensor([[0.9, 0.7, 0.1]]), torch.tensor([[1, 0, 0]]))
        >>> round(metric.compute().item(), 3)
        0.3
    """

    higher_is_better = False
    count: torch.Tensor
    confidence: torch.Tensor
    accuracy: torch.Tensor
    n: torch.Tensor
    outside: torch.Tensor

    def __init__(self, bins: int = 20, protocol: Protocol = "paper", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol: Protocol = protocol
        checked_protocol(protocol)
        self.edges = equal_width_edges(bins)
        self._add_settings(protocol, int(bins))
        self.add_state("count", default=torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("confidence", default=torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("accuracy", default=torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("outside", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probabilities: Any, targets: Any) -> None:
        """Add a batch of images."""
        values, truth = probabilities_and_targets(probabilities, targets)
        batch = BinnedCalibration(len(self.count), self.protocol)
        if self.protocol == "strict":
            batch.add(confidence(values), sample_precision(values, truth))
        else:
            batch.add(confidence(values, inclusive=True), sample_accuracy(values > 0.5, truth))
        self.count = self.count + self._tensor(batch.count)
        self.confidence = self.confidence + self._tensor(batch.confidence)
        self.accuracy = self.accuracy + self._tensor(batch.accuracy)
        self.n = self.n + batch.n
        self.outside = self.outside + batch.outside

    def reliability(self) -> Reliability:
        """Return the diagram of this process's images, or of all images inside `sync_context()`."""
        count, confidences, accuracies = (to_numpy(state) for state in (self.count, self.confidence, self.accuracy))
        return reliability_of_sums(self.edges, count, confidences, accuracies, int(self.n), int(self.outside))

    def compute(self) -> torch.Tensor:
        """Compute the calibration error over all images of all processes."""
        ece = self.reliability().ece
        if ece != ece:
            reason = "there is no image." if not int(self.n) else "an image has neither label nor prediction (0/0)."
            return self._undefined(reason)
        return self._number(ece)


class MeanIoUCurve(_OnePass):
    """Mean IoU over thresholds in one pass, from pixel counts summed over images.

    The state is (T, K) counts, K = C + 1 labels with background, added over processes.
    `torchvice.metrics.iou.iou_curve` has the definition.

    Args:
        num_classes: C, without background.
        thresholds: (T,) increasing numbers.
        protocol: `paper` or `strict`.
        void: the mask value that is not counted.
        kwargs: passed to torchmetrics.Metric.

    `update(maps, classes, masks)` takes, for each image of the batch, (M, H, W) scores, the (M,) classes of these maps,
    and a mask: (H, W) labels or (C, H, W) booleans. It also takes `counts`, a CurveCounter with the same classes and
    thresholds. `compute()` returns (T,) float64 in [0, 1]; NaN, with a warning, without images. `curve()` also has the
    IoU of each class and the best threshold.

    Raises:
        ViceError: thresholds do not increase; in `update`: lengths differ, or as in `competing_overlap`.

    Example:
        >>> metric = MeanIoUCurve(num_classes=4, thresholds=[0.1, 0.5], protocol="strict")
        >>> metric.update([torch.tensor([[[0.9, 0.2]]])], [[3]], [torch.tensor([[4, 0]])])
        >>> metric.compute().tolist()
        [0.25, 1.0]
    """

    higher_is_better = True
    intersection: torch.Tensor
    predicted: torch.Tensor
    mask_pixels: torch.Tensor
    images: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        thresholds: Any = PAPER_THRESHOLDS,
        protocol: Protocol = "paper",
        void: int = VOID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.protocol: Protocol = protocol
        checked_protocol(protocol)
        self.num_classes, self.thresholds, self.void = num_classes, as_thresholds(thresholds), void
        empty = CurveCounter(num_classes, self.thresholds)
        self._add_settings(int(num_classes), self.thresholds.tolist(), void)  # not `protocol`: the counts are the same
        for name in ("intersection", "predicted", "mask_pixels"):
            self.add_state(name, default=torch.as_tensor(getattr(empty, name)), dist_reduce_fx="sum")
        self.add_state("images", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        maps: Iterable[Any] = (),
        classes: Iterable[Any] = (),
        masks: Iterable[Any] = (),
        *,
        counts: CurveCounter | None = None,
    ) -> None:
        """Add a batch of images, or images counted elsewhere."""
        rows = [list(maps), list(classes), list(masks)]
        same_length(maps=rows[0], classes=rows[1], masks=rows[2])
        batch = CurveCounter(self.num_classes, self.thresholds)
        for scores, labels, mask in zip(*rows, strict=True):
            batch.add(competing_overlap(scores, labels, mask, self.thresholds, void=self.void))
        if counts is not None:
            batch.merge(counts)
        self.intersection = self.intersection + self._tensor(batch.intersection)
        self.predicted = self.predicted + self._tensor(batch.predicted)
        self.mask_pixels = self.mask_pixels + self._tensor(batch.mask_pixels)
        self.images = self.images + batch.images

    def curve(self) -> IouCurve:
        """Return the whole curve of this process's images, or of all images inside `sync_context()`."""
        counter = CurveCounter(self.num_classes, self.thresholds)
        for name in ("intersection", "predicted", "mask_pixels"):
            setattr(counter, name, to_numpy(getattr(self, name)))
        return counter.curve(self.protocol)

    def compute(self) -> torch.Tensor:
        """Compute the mean IoU at each threshold over all images of all processes."""
        if not int(self.images):
            return self._undefined("there is no image.").expand(len(self.thresholds))
        return self._tensor(self.curve().mean_iou)
