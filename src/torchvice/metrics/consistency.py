"""VICE, and the divergences published with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.ranks import midranks

__all__ = ["Vice", "js_divergence", "kl_divergence", "pair_vice", "vice"]


@dataclass(frozen=True)
class Vice:
    """A correlation: `value` in [-1, 1] or NaN, `n` rows used, `undefined` rows with a NaN."""

    value: float
    n: int
    undefined: int = 0


NanPolicy = Literal["propagate", "omit"]


def _correlate(
    first: ArrayLike,
    second: ArrayLike,
    names: tuple[str, str],
    called: tuple[str, str] | None,
    unit: str,
    ranks: bool,
    nan_policy: str,
) -> Vice:
    if nan_policy not in ("propagate", "omit"):
        raise ViceError(f"`nan_policy` must be 'propagate' or 'omit', but is {nan_policy!r}.")
    a, b = as_array(names[0], first, 1), as_array(names[1], second, 1)
    n = same_length(**{names[0]: a, names[1]: b})
    if np.isinf(a).any() or np.isinf(b).any():
        raise ViceError(f"`{names[0]}` and `{names[1]}` must be finite, but hold infinity.")
    defined = ~(np.isnan(a) | np.isnan(b))
    undefined = int((~defined).sum())
    if undefined and nan_policy == "propagate":
        return Vice(float("nan"), n - undefined, undefined)
    a, b = a[defined], b[defined]
    if len(a) < 3:
        raise ViceError(f"A correlation needs at least three {unit}, but {len(a)} of {n} are defined.")
    for name, column in zip(called or [f"`{name}`" for name in names], (a, b), strict=True):
        if column.min() == column.max():
            raise ViceError(f"{name} must vary over the {unit}, but is {column[0]:g} everywhere.")
    if ranks:
        a, b = midranks(a), midranks(b)
    a, b = a - a.mean(), b - b.mean()
    # Scale first: squares of tiny or huge numbers would underflow or overflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    value = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return Vice(min(1.0, max(-1.0, value)), len(a), undefined)


def vice(
    loss: ArrayLike,
    quality: ArrayLike,
    nan_policy: NanPolicy = "propagate",
    *,
    called: tuple[str, str] | None = None,
) -> Vice:
    """Visual consistency: Pearson correlation of -loss with explanation quality over images, as published.

    Args:
        loss: (N,) per-image loss, nats, lower is better.
        quality: (N,) per-image JI score, in [0, 1].
        nan_policy: as in scipy.stats. "propagate": a NaN makes the value NaN, as in the original. "omit" leaves the
            image out.
        called: what the error about a column that does not vary calls both; None: the names of the arguments.

    Returns:
        Vice: `value` in [-1, 1], higher is more consistent; `n`, images used; `undefined`, images with a NaN.

    Raises:
        ViceError: fewer than three images, or a column that does not vary.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).

    Example:
        >>> round(vice([0.1, 0.4, 0.9], [0.8, 0.5, 0.1]).value, 3)
        0.998
    """
    names = ("loss", "quality")
    result = _correlate(loss, quality, names, called, "images", ranks=False, nan_policy=nan_policy)
    return Vice(-result.value, result.n, result.undefined)


def pair_vice(logits: ArrayLike, quality: ArrayLike, *, called: tuple[str, str] | None = None) -> Vice:
    """VICE under `strict`: Spearman correlation of log-likelihood with IoU over true (image, class) pairs.

    The log-likelihood of a true pair is -softplus(-z), which increases with the logit z. Both have the same ranks, and
    the logits are used because they do not saturate. Dividing them by a temperature does not change the value.

    Args:
        logits: (P,) logit of every pair's class.
        quality: (P,) IoU of the pair's map with the pair's mask, in [0, 1]; 0 for a missed object.
        called: as in `vice`.

    Returns:
        Vice: `value` in [-1, 1], higher is more consistent; `n`, pairs used; `undefined`, pairs with a NaN, which are
        left out.

    Raises:
        ViceError: fewer than three pairs, or a column that does not vary.

    Example:
        >>> pair_vice([2.0, 0.5, -1.0, 3.0], [0.6, 0.4, 0.0, 0.9]).value
        1.0
    """
    names = ("logits", "quality")
    return _correlate(logits, quality, names, called, "true pairs", ranks=True, nan_policy="omit")


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    """Sum of p ln(p / q) of the normalised vectors, nats; NaN for empty vectors."""
    if not len(p):
        return float("nan")
    with np.errstate(all="ignore"):
        p, q = p / p.sum(), q / q.sum()
        terms = np.where(p > 0, p * np.log(p / q), np.where((p == 0) & (q >= 0), 0.0, np.inf))
        terms = np.where(np.isnan(p) | np.isnan(q), np.nan, terms)
    return float(terms.sum())


def kl_divergence(loss: ArrayLike, quality: ArrayLike) -> float:
    """Kullback-Leibler divergence of the loss vector from the JI vector, each scaled to sum 1.

    Published next to VICE. It treats both lists of numbers as distributions over the images and does not measure
    consistency; only `paper` has it.

    Args:
        loss: (N,) not negative.
        quality: (N,) not negative.

    Returns:
        Nats, 0 or more; infinity if an image has JI 0 and a positive loss; NaN if any value is NaN, if either vector is
        all zeros, and without images.

    References:
        scipy.stats.entropy(loss, quality) gives the same number.

    Example:
        >>> kl_divergence([1.0, 1.0], [0.2, 0.2])
        0.0
    """
    p, q = as_array("loss", loss, 1), as_array("quality", quality, 1)
    same_length(loss=p, quality=q)
    return _relative_entropy(p, q)


def js_divergence(loss: ArrayLike, quality: ArrayLike) -> float:
    """Jensen-Shannon divergence of loss and JI as published: base 2, the mixture taken before normalising.

    Args:
        loss: (N,) not negative.
        quality: (N,) not negative.

    Returns:
        Bits; NaN if any value is NaN, if either vector is all zeros, and without images. Because it mixes before
        normalising, it is not a true JS divergence.

    Example:
        >>> js_divergence([1.0, 1.0], [0.2, 0.2])
        0.0
    """
    p, q = as_array("loss", loss, 1), as_array("quality", quality, 1)
    same_length(loss=p, quality=q)
    mixture = (p + q) / 2
    return (_relative_entropy(p, mixture) + _relative_entropy(q, mixture)) / (2 * float(np.log(2)))
