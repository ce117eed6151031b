"""Proper scoring rules: Brier score and negative log-likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from torchvice.metrics.losses import cross_entropy, one_label, sample_loss
from torchvice.metrics.multilabel import check_sums, probabilities_and_targets
from torchvice.metrics.parallel import row_blocks

__all__ = ["brier_score", "negative_log_likelihood"]


def brier_score(probabilities: ArrayLike, targets: ArrayLike, exclusive: bool = False) -> float:
    """Brier score: the mean squared difference of probabilities and targets.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C), 0 or 1.
        exclusive: every image has one label; squares are summed over classes, as in Brier, instead of averaged.

    Returns:
        In [0, 1], or in [0, 2] with `exclusive`; lower is better, 0 is perfect. A calibrated model reaches 0 only if it
        is certain. NaN without images.

    Raises:
        ViceError: shapes differ, a target other than 0 and 1, a probability outside [0, 1], or, with `exclusive`, a row
            without exactly one label or whose probabilities do not have the sum 1.

    References:
        Brier, Verification of forecasts expressed in terms of probability, 1950.

    Example:
        >>> round(brier_score([[0.8, 0.2]], [[1, 0]]), 3), round(brier_score([[0.8, 0.2]], [[1, 0]], exclusive=True), 3)
        (0.04, 0.08)
    """
    values, truth = probabilities_and_targets(probabilities, targets)
    if exclusive:
        one_label(values, truth, "probabilities")
        check_sums(values)
    if not len(values):
        return float("nan")
    total = sum(float(np.square(values[rows] - truth[rows]).sum()) for rows in row_blocks(*values.shape))
    return total / len(values) / (1 if exclusive else values.shape[1])


def negative_log_likelihood(logits: ArrayLike, targets: ArrayLike, exclusive: bool = False) -> float:
    """NLL: the mean over images of `sample_loss`, or of `cross_entropy` with `exclusive`.

    Returns:
        Nats, 0 or more, lower is better. Without `exclusive` it is also averaged over classes. NaN without images.

    Raises:
        ViceError: as in `sample_loss` and `cross_entropy`.

    Example:
        >>> round(negative_log_likelihood([[0.0, 0.0]], [[1, 0]]), 4)
        0.6931
    """
    losses = cross_entropy(logits, targets) if exclusive else sample_loss(logits, targets)
    return float(losses.mean()) if len(losses) else float("nan")
