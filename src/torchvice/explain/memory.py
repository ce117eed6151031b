"""Memory: split batches that do not fit in memory, on a GPU or a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchvice.errors import ViceError

__all__ = ["halve_on_oom", "is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left: torch raises a plain RuntimeError for that of a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def halve_on_oom(
    part: Sequence[int], work: Callable[[Sequence[int]], list[Any]], shrink: Callable[[int], None]
) -> list[Any]:
    """Call `work` on the images, and on half of them at a time when the device runs out of memory.

    Args:
        part: positions of the images.
        work: gives one result per image.
        shrink: called with the new batch size before the retry.

    Raises:
        ViceError: a single image does not fit.
    """
    try:
        return work(part)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        gpu = isinstance(error, torch.OutOfMemoryError)
        if len(part) == 1:
            where, other = ("the GPU's memory", " or the CPU (--device cpu)") if gpu else ("memory", "")
            message = f"A pass of one image must fit in {where}, but does not."
            raise ViceError(message, f"Use a smaller view (--view-size){other}.") from None
    torch.cuda.empty_cache()
    half = (len(part) + 1) // 2
    shrink(half)
    warnings.warn(f"Out of {'GPU ' if gpu else ''}memory: continuing with batches of {half} images.", stacklevel=2)
    return halve_on_oom(part[:half], work, shrink) + halve_on_oom(part[half:], work, shrink)
