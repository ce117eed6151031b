"""torchmetrics' Metric classes: VICE, ECE-ML and mean IoU while a network is trained or tested, on several devices.

The states lie on the metric's device; what a batch adds is computed on the host by the functions of
`torchvice.metrics`, so that each measure is defined once. Undefined is NaN and a warning that says why: a training does
not stop for it. Mistakes of the caller's raise. States are float64, which a device without it (Apple's MPS) cannot
hold: leave the metric on the CPU there.

The only module of `metrics` that imports torch; no other module imports it at its top.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
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
    """What the four have in common: batches are added in one pass, and states of float64 are merged."""

    full_state_update = False
    is_differentiable = False

    @property
    def dtype(self) -> torch.dtype:
        """float64, also of the empty state that a process without rows sends to the others."""
        return torch.float64

    def _undefined(self, reason: str) -> torch.Tensor:
        warnings.warn(f"{type(self).__name__} is undefined: {reason}", UserWarning, stacklevel=3)
        return self._number(float("nan"))

    def _number(self, value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device)


def _merged(states: torch.Tensor) -> torch.Tensor:
    """One state of co-moments from several, (S, 9) -> (9,); a single one stays as it is."""
    whole = CoMoments()
    for numbers in states.reshape(-1, 9).cpu().numpy():
        whole.merge(CoMoments.from_array(numbers))
    return torch.as_tensor(whole.to_array(), device=states.device)


class ImageVice(_OnePass):
    """VICE of `paper` in one pass: Pearson correlation of -loss with explanation quality over images.

    The state is nine numbers however many images there were; processes merge theirs. See `torchvice.metrics.vice` for
    the definition and `torchvice.metrics.streaming.CoMoments` for the arithmetic.

    Args:
        nan_policy: "propagate": one undefined image makes the value NaN, as published; "omit" leaves it out.
        kwargs: of torchmetrics.Metric.

    `update(loss, quality)` takes (N,) each: nats, and the JI score in [0, 1]. `compute()` is a float64 scalar in
    [-1, 1], higher is more consistent; NaN, with a warning, for fewer than three images or a column that does not vary.

    Raises:
        ViceError: another `nan_policy`; in `update`: lengths that differ, or infinity.

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
        """The state of this process: `n`, `undefined` (images with a NaN) and the moments."""
        return CoMoments.from_array(self.moments.cpu().numpy())

    def compute(self) -> torch.Tensor:
        """The correlation of all images of all processes."""
        found = self.co_moments()
        if found.undefined and self.nan_policy == "propagate":
            return self._undefined(
                f"loss or quality of {found.undefined} of {found.n + found.undefined} images is NaN."
            )
        try:
            return self._number(-found.correlation())
        except ViceError as error:
            return self._undefined(error.message)


class PairVice(_OnePass):
    """VICE of `strict`: Spearman correlation of the logit with the IoU over true (image, class) pairs.

    Ranks need all pairs at once: the state grows by 16 bytes a pair, and is gathered over processes. See
    `torchvice.metrics.pair_vice`.

    Args:
        kwargs: of torchmetrics.Metric.

    `update(logits, quality)` takes (P,) each, the logit of the true class and the IoU of its map in [0, 1]. `compute()`
    is a float64 scalar in [-1, 1]; pairs with a NaN are left out. NaN, with a warning, for fewer than three pairs,
    infinite logits, or a column that does not vary.

    Raises:
        ViceError: in `update`: lengths that differ.

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
        """The rank correlation of all pairs of all processes."""
        nothing = torch.zeros(0)  # a list without pairs cannot be joined
        columns = [dim_zero_cat(state) if len(state) else nothing for state in (self.logits, self.quality)]
        try:
            return self._number(pair_vice(*columns).value)
        except ViceError as error:
            return self._undefined(error.message)


class MultilabelCalibrationError(_OnePass):
    """ECE-ML in one pass: expected calibration error of the multi-label confidence.

    The state is three sums a bin; processes add theirs up. See `torchvice.metrics.multilabel_ece`.

    Args:
        bins: equal bins of the confidence.
        protocol: `paper` or `strict`.
        kwargs: of torchmetrics.Metric.

    `update(probabilities, targets)` takes (N, C) in [0, 1] and (N, C) of 0 and 1. `compute()` is a float64 scalar in
    [0, 1], lower is better; NaN, with a warning, without images or, under `paper`, after an image with neither label
    nor prediction.

    Raises:
        ViceError: fewer than one bin, another protocol; in `update`: shapes that differ, targets beside 0 and 1, or a
            probability outside [0, 1].

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
        """The diagram of this process's images; inside `sync_context()`, of all."""
        count, sure, right = (to_numpy(state) for state in (self.count, self.confidence, self.accuracy))
        return reliability_of_sums(self.edges, count, sure, right, int(self.n), int(self.outside))

    def compute(self) -> torch.Tensor:
        """The calibration error of all images of all processes."""
        ece = self.reliability().ece
        if ece != ece:
            none = "there is no image." if not int(self.n) else "an image has neither label nor prediction (0/0)."
            return self._undefined(none)
        return self._number(ece)


class MeanIoUCurve(_OnePass):
    """Mean IoU along thresholds in one pass, from pixel counts that are summed over images.

    The state is (T, K) counts, K = C + 1 labels with background; processes add theirs up. See
    `torchvice.metrics.iou.iou_curve`.

    Args:
        num_classes: C, without background.
        thresholds: (T,) rising numbers.
        protocol: `paper` or `strict`.
        void: the mask value that is not counted.
        kwargs: of torchmetrics.Metric.

    `update(maps, classes, masks)` takes, for each image of the batch, (M, H, W) scores, the (M,) classes of these maps
    and a mask, (H, W) labels or (C, H, W) booleans; or `counts`, a CurveCounter of the same classes and thresholds.
    `compute()` is (T,) float64, in [0, 1]; NaN, with a warning, without images; `curve()` has the classes' IoU and the
    best threshold.

    Raises:
        ViceError: thresholds that do not rise; in `update`: lengths that differ, or what `competing_overlap` refuses.

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
        """Add a batch of images, or what was counted elsewhere."""
        rows = [list(maps), list(classes), list(masks)]
        same_length(maps=rows[0], classes=rows[1], masks=rows[2])
        batch = CurveCounter(self.num_classes, self.thresholds)
        for scores, theirs, mask in zip(*rows, strict=True):
            batch.add(competing_overlap(scores, theirs, mask, self.thresholds, void=self.void))
        if counts is not None:
            batch.merge(counts)
        self.intersection = self.intersection + self._tensor(batch.intersection)
        self.predicted = self.predicted + self._tensor(batch.predicted)
        self.mask_pixels = self.mask_pixels + self._tensor(batch.mask_pixels)
        self.images = self.images + batch.images

    def curve(self) -> IouCurve:
        """The whole curve of this process's images; inside `sync_context()`, of all."""
        counter = CurveCounter(self.num_classes, self.thresholds)
        for name in ("intersection", "predicted", "mask_pixels"):
            setattr(counter, name, to_numpy(getattr(self, name)))
        return counter.curve(self.protocol)

    def compute(self) -> torch.Tensor:
        """Mean IoU at each threshold, of all images of all processes."""
        if not int(self.images):
            return self._undefined("there is no image.").expand(len(self.thresholds))
        return self._tensor(self.curve().mean_iou)
