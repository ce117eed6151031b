"""Memory: work on many images that a GPU may not hold at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchvice.errors import ViceError

__all__ = ["halving"]


def halving(
    part: Sequence[int], work: Callable[[Sequence[int]], list[Any]], shrink: Callable[[int], None]
) -> list[Any]:
    """What `work` makes of the images; where the GPU's memory does not hold them, of half of them at a time.

    Args:
        part: which images.
        work: gives one result for each.
        shrink: told, before it goes on, how many images a pass may hold from now on.

    Raises:
        ViceError: it does not hold a single one.
    """
    try:
        return work(part)
    except torch.OutOfMemoryError:
        if len(part) == 1:
            size = "The GPU's memory must hold a pass of one image, but does not."
            raise ViceError(size, "Take a smaller view (--view-size), or the CPU (--device cpu).") from None
    torch.cuda.empty_cache()
    half = (len(part) + 1) // 2
    shrink(half)
    warnings.warn(f"Out of GPU memory: on with batches of {half} images.", stacklevel=2)
    return halving(part[:half], work, shrink) + halving(part[half:], work, shrink)
