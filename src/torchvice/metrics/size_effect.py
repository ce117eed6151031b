"""The effect of object size on the logit of an event, estimated for each class from the pairs of the other classes."""

from __future__ import annotations

import numpy as np

__all__ = ["size_basis", "size_effect"]

BINS = 16  # of equal count; sizes are binned for the fit alone
NEWTON_STEPS = 12
FOLDS = 80  # with more classes than this, a few are left out together: time and memory stay linear in C


def size_basis(log_size: np.ndarray) -> np.ndarray:
    """(N, 2) natural cubic spline with knots at the 10, 50 and 90 % quantiles: a straight line and one bend."""
    if not len(log_size) or not np.ptp(log_size):
        return np.zeros((len(log_size), 2))
    position = (log_size - log_size.mean()) / log_size.std()
    low, middle, high = np.quantile(position, [0.1, 0.5, 0.9])
    if not low < middle < high:
        return np.stack([position, np.zeros_like(position)], axis=1)
    above = [np.maximum(position - knot, 0) for knot in (low, middle, high)]
    cubes = [part * part * part for part in above]  # ten times as fast as a power
    bend = (cubes[0] - cubes[2]) / (high - low) - (cubes[1] - cubes[2]) / (high - middle)
    return np.stack([position, (bend - bend.mean()) / (high - low)], axis=1)


def size_effect(
    happened: np.ndarray, label: np.ndarray, log_size: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the effect of size without each class in turn.

    A logistic regression on `size_basis` with an intercept for each class, so that sizes are compared within classes.
    Slopes, and intercepts around their mean, have standard normal priors.

    Args:
        happened: (N,) bool. label: (N,) class of the pair. log_size: (N,). n_classes: C.

    Returns:
        (N,) effect on the logit of each pair, from the other classes; and (C,) the variance of its mean over the pairs
        of the class, counted from the mean size of the other classes.
    """
    basis = size_basis(log_size)
    edges = np.quantile(log_size, np.arange(1, BINS) / BINS) if len(label) else np.zeros(0)
    place = np.searchsorted(edges, log_size)
    cell, shape = label * BINS + place, (n_classes, BINS)
    number = np.bincount(cell, minlength=n_classes * BINS).reshape(shape).astype(float)
    count = np.bincount(cell[happened], minlength=n_classes * BINS).reshape(shape)
    centres = np.stack([np.bincount(place, column, BINS) for column in basis.T], axis=1)
    centres = centres / np.maximum(number.sum(axis=0), 1)[:, None]
    fold = np.arange(n_classes) % FOLDS
    slopes, covariance = (values[fold] for values in _fit_without_each(fold, number, count, centres))
    pairs = number.sum(axis=1, keepdims=True)
    sums = np.stack([np.bincount(label, column, n_classes) for column in basis.T], axis=1)
    distance = sums / np.maximum(pairs, 1) - (sums.sum(axis=0) - sums) / np.maximum(pairs.sum() - pairs, 1)
    return (basis * slopes[label]).sum(axis=1), np.einsum("ci,cij,cj->c", distance, covariance, distance)


def _fit_without_each(
    fold: np.ndarray, number: np.ndarray, count: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (L, 2) and covariance (L, 2, 2) without each fold; `number` and `count` are (C, Q) pairs and events."""
    folds, classes = int(fold.max(initial=0)) + 1, len(number)
    keep = (fold != np.arange(folds)[:, None]).astype(float)
    present = keep * (number.sum(axis=1) > 0)
    slopes, own, middle = np.zeros((folds, 2)), np.zeros((folds, classes)), np.zeros((folds, 1))
    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-own[:, :, None] - (slopes @ centres.T)[:, None, :]))
        residual = (count - number * probability) * keep[:, :, None]
        weight = number * probability * (1 - probability) * keep[:, :, None]
        # The intercepts are eliminated, so that only a system of two equations is left.
        precision, score = weight.sum(axis=2) + 1, residual.sum(axis=2) - (own - middle)
        mixed = weight @ centres
        total = np.einsum("lq,qi,qj->lij", weight.sum(axis=1), centres, centres) + np.eye(2)
        total -= np.einsum("lci,lcj->lij", mixed, mixed / precision[:, :, None])
        gradient = residual.sum(axis=1) @ centres - slopes - np.einsum("lci,lc->li", mixed, score / precision)
        step = np.linalg.solve(total, gradient[:, :, None])[:, :, 0]
        own = own + (score - np.einsum("lci,li->lc", mixed, step)) / precision
        slopes = slopes + step
        middle = (own * present).sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
        if np.abs(step).max() < 1e-2:
            break  # the next step would be of the order of its square
    return slopes, np.linalg.inv(total)
