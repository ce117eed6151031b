"""Memory: split batches that do not fit on the GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchvice.errors import ViceError

__all__ = ["halve_on_oom"]


def halve_on_oom(
    part: Sequence[int], work: Callable[[Sequence[int]], list[Any]], shrink: Callable[[int], None]
) -> list[Any]:
    """Call `work` on the images, and on half of them at a time when the GPU runs out of memory.

    Args:
        part: positions of the images.
        work: gives one result per image.
        shrink: called with the new batch size before the retry.

    Raises:
        ViceError: a single image does not fit.
    """
    try:
        return work(part)
    except torch.OutOfMemoryError:
        if len(part) == 1:
            size = "A pass of one image must fit in the GPU's memory, but does not."
            raise ViceError(size, "Use a smaller view (--view-size) or the CPU (--device cpu).") from None
    torch.cuda.empty_cache()
    half = (len(part) + 1) // 2
    shrink(half)
    warnings.warn(f"Out of GPU memory: continuing with batches of {half} images.", stacklevel=2)
    return halve_on_oom(part[:half], work, shrink) + halve_on_oom(part[half:], work, shrink)
