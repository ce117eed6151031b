"""What the other classes of a table predict of a further clean class: how many events, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["Prediction", "predict_clean_classes"]

# Clean classes differ by a t distribution on the logit scale. docs/verdict.md has the simulations behind these numbers.
FREEDOM = 5.0
SPREADS = np.array([0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2])  # its scale, in logits
SPREAD_PRIOR = np.exp(-SPREADS / 0.8)
SHORTCUTS = np.array([0.0, 0.05, 0.15, 0.35])  # share of classes on a shortcut, equally likely a priori
# The grid of logits, around the median class: steps of 0.1, up to 6 away for a class and 3 for the typical class.
STEP, CELLS, CENTRES = 0.1, 121, 61
MIDDLE = slice((CELLS - CENTRES) // 2, (CELLS + CENTRES) // 2)


@dataclass(frozen=True)
class Prediction:
    """A further clean class, as the other classes predict it: one row for each class that is tested.

    Attributes:
        pairs: (C,) number of its pairs.
        rate: (C, U) its mean probability of the event, for each logit of the grid.
        typical: (C, A) weights of the typical logit. clean: (C, U) distribution of its own logit.
    """

    pairs: np.ndarray
    rate: np.ndarray
    typical: np.ndarray
    clean: np.ndarray

    def expected(self) -> np.ndarray:
        """(C,) number of events in a typical class."""
        return self.pairs * (self.typical * self.rate[:, MIDDLE]).sum(axis=1)

    def at_least(self, counts: np.ndarray, extra: float) -> np.ndarray:
        """(C,) probability of `counts` events or more, if the share `extra` of the pairs has the event in addition."""
        from scipy.special import betainc

        # Binomial: pairs of unequal probability vary less.
        least = np.maximum(counts, 1)
        tail = betainc(least[:, None], np.maximum(self.pairs - least + 1, 1)[:, None], extra + (1 - extra) * self.rate)
        return np.where(counts > 0, np.minimum((self.clean * tail).sum(axis=1), 1), 1.0)

    def enough(self, level: float, extra: float) -> np.ndarray:
        """(C,) smallest count for which `at_least` is at most `level`; all pairs if there is no such count."""
        low, high = np.zeros_like(self.pairs), self.pairs.copy()
        while (low < high).any():
            half = (low + high) // 2
            rare = self.at_least(half, extra) <= level
            low, high = np.where(rare, low, np.minimum(half + 1, high)), np.where(rare, half, high)
        return low


def predict_clean_classes(counts: np.ndarray, label: np.ndarray, shift: np.ndarray, variance: np.ndarray) -> Prediction:
    """Estimate the typical logit and the spread of clean classes from all classes but one, for each class.

    Args:
        counts: (C,) number of events. label: (N,) class of each pair.
        shift: (N,) effect of its size on the logit. variance: (C,) of the mean effect.
    """
    pairs = np.bincount(label, minlength=len(counts))
    rate = _class_rates(_grid(pairs, counts), shift, label, len(counts))
    kernels = _kernels()
    likelihood = counts[:, None] * np.log(rate) + (pairs - counts)[:, None] * np.log1p(-rate)
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    clean = (likelihood @ kernels.reshape(-1, CELLS).T).reshape(-1, *kernels.shape[:2], 1)
    # A class on a shortcut: any share of its pairs, from none to all, in addition to the events of a typical class.
    gained = (likelihood * np.diff(rate, axis=1, append=1.0))[:, ::-1].cumsum(axis=1)[:, ::-1]
    shortcut = (gained / (1 - rate))[:, MIDDLE, None, None]
    evidence = np.log(np.maximum((1 - SHORTCUTS) * clean + SHORTCUTS * shortcut, 1e-300))
    others = evidence.sum(axis=0) - evidence + np.log(SPREAD_PRIOR)[:, None]
    weights = np.exp(others - others.max(axis=(1, 2, 3), keepdims=True)).sum(axis=3)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    predicted = weights.reshape(len(weights), -1) @ kernels.reshape(-1, CELLS)
    return Prediction(pairs, rate, weights.sum(axis=2), _blurred(predicted, variance))


def _grid(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(U,) logits around the median of the classes' smoothed logits."""
    share = (counts + 0.5)[pairs > 0] / (pairs + 1)[pairs > 0]
    centre = float(np.median(np.log(share / (1 - share)))) if len(share) else 0.0
    return centre + STEP * (np.arange(CELLS) - CELLS // 2)


def _class_rates(grid: np.ndarray, shift: np.ndarray, label: np.ndarray, n_classes: int) -> np.ndarray:
    """(C, U) mean probability of the event over the pairs of a class, for each logit of the grid.

    Shifts are split between the two nearest multiples of STEP, so that the time does not grow with pairs times U.
    """
    number = np.bincount(label, minlength=n_classes)
    place = shift / STEP
    low = np.floor(place).astype(int)
    first = int(low.min(initial=0))
    width = int(low.max(initial=0)) - first + 2
    cell, part = label * width + low - first, place - low
    split = np.bincount(cell, 1 - part, n_classes * width) + np.bincount(cell + 1, part, n_classes * width)
    mass = split.reshape(n_classes, width) / np.maximum(number, 1)[:, None]
    mass[number == 0, -first] = 1
    each = 1 / (1 + np.exp(-(grid + STEP * (first + np.arange(width))[:, None])))
    return np.clip(mass @ each, 1e-12, 1 - 1e-12)


@lru_cache(maxsize=1)
def _kernels() -> np.ndarray:
    """(A, T, U) probability that a clean class lies in a cell of the grid, for each centre and spread."""
    from scipy.special import stdtr

    reach = CELLS // 2 + CENTRES // 2
    edges = STEP * (np.arange(-reach, reach + 2) - 0.5)
    below = stdtr(FREEDOM, edges / SPREADS[:, None])
    # Row a of the windows is the distribution as seen from centre a. The outer cells take the tails.
    windows = np.lib.stride_tricks.sliding_window_view(below, CELLS + 1, axis=1)[:, ::-1].copy()
    windows[..., 0], windows[..., -1] = 0, 1
    return np.diff(windows, axis=2).transpose(1, 0, 2).copy()


def _blurred(predicted: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Convolve each row with a normal distribution of the given variance; the outer cells take what leaves the grid."""
    from scipy.special import ndtr

    edges = STEP * (np.arange(-CELLS + 1, CELLS + 1) - 0.5)
    kernels = np.diff(ndtr(edges / np.sqrt(np.maximum(variance, 1e-8))[:, None]), axis=1)
    wide = np.stack([np.convolve(row, kernel) for row, kernel in zip(predicted, kernels, strict=True)])
    inside = wide[:, CELLS - 1 : 2 * CELLS - 1].copy()
    inside[:, 0] += wide[:, : CELLS - 1].sum(axis=1)
    inside[:, -1] += wide[:, 2 * CELLS - 1 :].sum(axis=1)
    return inside
