"""What a model says of the true labels of its images: log-odds, margin, and lead over the other classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchvice.metrics.parallel import results_of, row_blocks

__all__ = ["TrueLabels", "true_logits"]


@dataclass(frozen=True)
class TrueLabels:
    """The true labels of images in their order, L in all.

    `key` (L,) image times classes plus class, rising; `logit` (L,) see `true_logits`; `lead` (L,) of exclusive targets
    how far the probability of the class lies above that of the likeliest other class, in [-1, 1], else empty; `margin`
    (L,) the logit, of exclusive targets minus the highest other one, infinite without another.
    """

    classes: int
    key: np.ndarray
    logit: np.ndarray
    lead: np.ndarray
    margin: np.ndarray

    @staticmethod
    def of(
        logits: np.ndarray, targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, exclusive: bool
    ) -> TrueLabels:
        """Collect them.

        Args:
            logits, targets, probabilities, predicted: (N, C). exclusive: whether the probabilities are a softmax.
        """
        rows, classes = np.nonzero(targets)
        key = rows * targets.shape[1] + classes
        blocks = [(rows[some], classes[some]) for some in row_blocks(len(rows), targets.shape[1])]
        logit = np.concatenate(results_of(lambda block: true_logits(logits, *block, exclusive), blocks))
        if not exclusive:
            return TrueLabels(targets.shape[1], key, logit, np.zeros(0), logit.astype(float))
        lead = np.concatenate(results_of(lambda block: _lead(probabilities, predicted, *block), blocks))
        margin = np.concatenate(results_of(lambda block: _margin(logits, *block), blocks))
        return TrueLabels(targets.shape[1], key, logit, lead, margin)

    def places(self, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The places of labels (P,) given by image and class among the L."""
        return np.searchsorted(self.key, rows * self.classes + classes)


def true_logits(logits: np.ndarray, rows: np.ndarray, classes: np.ndarray, exclusive: bool) -> np.ndarray:
    """Return (P,) the log-odds of each pair's class: the logit, or, of exclusive classes, that of the softmax.

    Args:
        logits: (N, C). rows: (P,) the image of each pair. classes: (P,) its class.
        exclusive: whether the probabilities are a softmax; its log-odds are z - ln sum over the others of exp(z).

    Example:
        >>> true_logits(np.array([[1.0, 0.0]]), np.array([0]), np.array([0]), exclusive=True).tolist()
        [1.0]
    """
    own = logits[rows, classes]
    if not exclusive or not len(own):
        return own
    others = logits[rows].astype(float)
    others[np.arange(len(rows)), classes] = -np.inf
    if others.shape[1] == 1:
        return np.full(len(rows), np.inf)  # a single class
    return own.astype(float) - np.logaddexp.reduce(others, axis=1)


def _margin(logits: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The logit of each label's class minus the highest other one."""
    others = logits[rows].astype(float)
    pair = np.arange(len(rows)), classes
    own = others[pair]
    others[pair] = -np.inf
    return own - others.max(axis=1, initial=-np.inf)


def _lead(probabilities: np.ndarray, predicted: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How far each label's class lies above the likeliest other class; of equal classes the first is predicted."""
    others = probabilities[rows].astype(float)
    pair = np.arange(len(rows)), classes
    own = others[pair]
    others[pair] = 0.0
    lead = own - others.max(axis=1, initial=0.0)
    tied_and_predicted = (lead == 0) & predicted[rows, classes]
    return np.where(tied_and_predicted, np.finfo(float).tiny, lead)
