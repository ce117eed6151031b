"""Further correlations of loss and quality, each with defined edge cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.weighted import Pearson, Spearman, WeightedStatistic, WithinSpearman

LOSS_FLOOR = 1e-6  # nats; a smaller loss is the rounding error of a saturated float32 logit
FEWEST_ROWS = 3  # of a correlation
MOST_SKEWNESS, MOST_KURTOSIS = 1.0, 2.0


@dataclass(frozen=True)
class Association:
    """A correlation, or the reason why it is undefined.

    Attributes:
        value: in [-1, 1]; NaN if undefined.
        n: number of rows used.
        undefined: number of rows left out because of a NaN.
        reason: why `value` is NaN; empty if it is a number.
        column: the column that the reason is about, with whose name it begins; empty if it is about none.
    """

    value: float
    n: int
    undefined: int = 0
    reason: str = ""
    column: str = ""


def complete_rows(**columns: ArrayLike) -> tuple[list[np.ndarray], int]:
    """Return the rows without NaN in any column, as float64, and the number of rows left out.

    Raises:
        ViceError: lengths differ.
    """
    arrays = {name: as_array(name, column, 1) for name, column in columns.items()}
    n = same_length(**arrays)
    kept = ~np.any([np.isnan(array) for array in arrays.values()], axis=0)
    return [array[kept] for array in arrays.values()], n - int(kept.sum())


def why_undefined(named: dict[str, np.ndarray]) -> tuple[str, str]:
    """Why columns have no correlation, and the column to blame; empty where there is no reason, or no such column.

    There are too few rows, or a column is infinite or constant.
    """
    n = len(next(iter(named.values())))
    if n < FEWEST_ROWS:
        return f"{n} row{'s' if n != 1 else ''}, and a correlation needs three", ""
    for name, column in named.items():
        if infinite := int(np.isinf(column).sum()):
            return f"{name} is infinite in {infinite} row{'s' if infinite != 1 else ''}", name
        if column.min() == column.max():
            return f"{name} is {column[0]:g} everywhere", name
    return "", ""


def rows_by_image(cluster: ArrayLike | None, **columns: ArrayLike) -> list[np.ndarray] | None:
    """Return the rows without NaN, sorted by image, the image as last column; None if a and b have no correlation.

    `cluster` is the (P,) image of each row; None: every row is an image. Fewer than three images also give None.
    """
    images = np.arange(len(as_array("a", columns["a"], 1))) if cluster is None else cluster
    rows, _ = complete_rows(**columns, cluster=as_array("cluster", images, 1, np.int64))
    if any(why_undefined({"a": rows[0], "b": rows[1]})) or len(np.unique(rows[-1])) < 3:
        return None
    order = np.argsort(rows[-1], kind="stable")
    return [column[order] for column in rows]


def _associate(
    make: type[WeightedStatistic], first: dict[str, ArrayLike], further: dict[str, ArrayLike]
) -> Association:
    """The statistic over complete rows. Every column of `first` must vary."""
    columns, undefined = complete_rows(**first, **further)
    reason, column = why_undefined(dict(zip(first, columns, strict=False)))
    n = len(columns[0])
    if reason:
        return Association(float("nan"), n, undefined, reason, column)
    value = make(*columns).value
    return Association(value, n, undefined, "nothing is left to correlate" if np.isnan(value) else "")


def pearson(a: ArrayLike, b: ArrayLike) -> Association:
    """Pearson correlation over the rows without NaN.

    Args:
        a: (P,) first column.
        b: (P,) second column.

    Returns:
        Association; undefined with fewer than three rows, an infinite value, or a constant column.

    Raises:
        ViceError: lengths differ.

    References:
        scipy.stats.pearsonr.

    Example:
        >>> pearson([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]).reason
        'b is 5 everywhere'
    """
    return _associate(Pearson, {"a": a, "b": b}, {})


def spearman(a: ArrayLike, b: ArrayLike) -> Association:
    """Spearman correlation; ties get their mean rank. Arguments, result and edge cases as in `pearson`.

    References:
        scipy.stats.spearmanr.

    Example:
        >>> spearman([1.0, 2.0, 30.0, float("nan")], [0.1, 0.2, 0.3, 0.4])
        Association(value=1.0, n=3, undefined=1, reason='', column='')
    """
    return _associate(Spearman, {"a": a, "b": b}, {})


def log_loss_pearson(loss: ArrayLike, quality: ArrayLike, floor: float = LOSS_FLOOR) -> Association:
    """Pearson correlation of -ln(max(loss, floor)) with quality: the published VICE with less skewed losses.

    Args:
        loss: (N,) nats, 0 or more.
        quality: (N,) in [0, 1].
        floor: nats; smaller losses are set to it, because the logarithm would turn them into outliers.

    Returns:
        Association; edge cases as in `pearson`.

    Raises:
        ViceError: a negative loss, or a floor that is not positive.

    Example:
        >>> round(log_loss_pearson([0.01, 0.1, 1.0], [0.9, 0.6, 0.3]).value, 6)
        1.0
        >>> log_loss_pearson([0.5, 0.5, 0.5], [0.9, 0.6, 0.3]).reason
        '-ln(loss) is 0.693147 everywhere'
    """
    losses = as_array("loss", loss, 1)
    if not floor > 0:
        raise ViceError(f"`floor` must be positive, but is {floor:g}.", "The logarithm of 0 is undefined.")
    if (losses < 0).any():
        raise ViceError(f"`loss` must not be negative, but holds {losses[losses < 0][0]:g}.")
    return _associate(Pearson, {"-ln(loss)": -np.log(np.maximum(losses, floor)), "quality": quality}, {})


def partial_spearman(a: ArrayLike, b: ArrayLike, area: ArrayLike, labels: ArrayLike) -> Association:
    """Partial Spearman correlation given area and number of labels, see `PartialSpearman`.

    Args:
        a: (P,) first column.
        b: (P,) second column.
        area: (P,) area of the object.
        labels: (P,) number of labels in the image.

    Returns:
        Association; undefined as in `pearson`, and if area and labels determine a column.

    Example:
        >>> partial_spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [7.0, 8.0, 9.0], [1, 1, 1]).reason
        'nothing is left to correlate'
    """
    return _associate(PartialSpearman, {"a": a, "b": b}, {"area": area, "labels": labels})


def within_spearman(a: ArrayLike, b: ArrayLike, group: ArrayLike) -> Association:
    """Spearman correlation pooled over groups after ranking within each group, see `WithinSpearman`.

    Args:
        a: (P,) first column.
        b: (P,) second column.
        group: (P,) whole numbers, the class of each pair.

    Returns:
        Association; undefined as in `pearson`, and if a column is constant in every group.

    Example:
        >>> within_spearman([1.0, 2.0, 8.0, 9.0], [0.2, 0.1, 0.9, 0.8], [0, 0, 1, 1]).value
        -1.0
    """
    return _associate(WithinSpearman, {"a": a, "b": b}, {"group": group})


def skewness_and_kurtosis(values: ArrayLike) -> tuple[float, float]:
    """Skewness and excess kurtosis of the values that are not NaN; both are 0 for a normal distribution.

    Returns:
        Skewness and excess kurtosis, not corrected for bias; NaN if the values are constant or infinite.

    References:
        scipy.stats.skew, scipy.stats.kurtosis.

    Example:
        >>> [round(moment, 3) for moment in skewness_and_kurtosis([0.0, 0.0, 0.0, 1.0])]
        [1.155, -0.667]
    """
    array = as_array("values", values, 1)
    array = array[~np.isnan(array)]
    if not len(array) or not np.isfinite(array).all() or array.min() == array.max():
        return float("nan"), float("nan")
    centred = array - array.mean()
    centred = centred / np.abs(centred).max()
    variance = float((centred**2).mean())
    return float((centred**3).mean()) / variance**1.5, float((centred**4).mean()) / variance**2 - 3


def pearson_is_reliable(loss: ArrayLike) -> bool:
    """Whether intervals of a Pearson correlation are reliable: losses of |skewness| <= 1 and excess kurtosis <= 2.

    With lognormal losses of log-sd 1.6, 95 % intervals cover the true value about half the time, whatever the bootstrap
    (tests/metrics/test_coverage.py). False for a constant column.

    Example:
        >>> pearson_is_reliable([0.1, 0.2, 0.3, 0.4]), pearson_is_reliable([0.1, 0.1, 0.1, 0.1, 0.1, 9.0])
        (True, False)
    """
    skewness, kurtosis = skewness_and_kurtosis(loss)
    return bool(abs(skewness) <= MOST_SKEWNESS and kurtosis <= MOST_KURTOSIS)
