"""Share of rows with an event, with an interval that holds for few rows, shares near 0 or 1, and rows of one image."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.losses import zero_one
from torchvice.metrics.resampling import FEWEST_IMAGES, Interval

__all__ = ["share_interval"]


def share_interval(events: ArrayLike, image: ArrayLike, level: float = 0.95) -> Interval:
    """Wilson's interval of a share, with the effective number of rows: rows of one image are not independent.

    The variance of the share over images is linearised, v = sum over images of (events - share rows)^2 / rows^2 (as
    the bootstrap's), and Wilson's formula takes share (1 - share) / v rows, at most all of them; where that is 0 / 0,
    and with fewer than 10 images, which tell little of v, the number of images. A percentile bootstrap of 10 images and
    a share of 0.95 covers 57 % in place of 95 %, this interval 96 %.

    Args:
        events: (P,) whether the event happened.
        image: (P,) whole numbers, the image of each row.
        level: in (0, 1).

    Returns:
        Interval, NaN without rows.

    Raises:
        ViceError: events other than 0 and 1, columns of different lengths, or a level outside (0, 1).

    References:
        Wilson: Probable inference, the law of succession, and statistical inference. JASA 1927. Korn, Graubard:
        Confidence intervals for proportions with small expected number of positive counts estimated from survey data.
        Survey Methodology 1998 (the effective size).

    Example:
        >>> found = share_interval([1, 1, 1, 0], [0, 1, 2, 3])
        >>> round(found.low, 2), round(found.high, 2)
        (0.3, 0.95)
    """
    happened = zero_one("events", events, 1).astype(float)
    group = as_array("image", image, 1, np.int64)
    rows = same_length(events=happened, image=group)
    if not 0 < level < 1:
        raise ViceError(f"`level` must be between 0 and 1, but is {level:g}.", "95 % is 0.95.")
    method = "Wilson, effective size by images"
    if not rows:
        return Interval(np.nan, np.nan, level, method)
    _, place = np.unique(group, return_inverse=True)
    share, images = happened.mean(), int(place.max()) + 1
    residual = np.bincount(place, happened - share)
    variance = (residual**2).sum() / rows**2
    size = min(rows, share * (1 - share) / variance) if variance > 0 and images >= FEWEST_IMAGES else images
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = share + z * z / (2 * size)
    half = z * np.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    low, high = ((middle + sign * half) / (1 + z * z / size) for sign in (-1, 1))
    return Interval(float(max(low, 0.0)), float(min(high, 1.0)), level, method)
