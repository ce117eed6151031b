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
    part: Sequence[int],
    work: Callable[[Sequence[int]], list[Any]],
    shrink: Callable[[int], None],
    halve_copies: Callable[[], int] | None = None,
) -> list[Any]:
    """Call `work` on the images, and on half of them at a time when the device runs out of memory.

    Args:
        part: positions of the images.
        work: gives one result per image.
        shrink: called with the new batch size before the retry.
        halve_copies: halves the copies of one image that `work` shows at once; returns their number, or 0 if it cannot.

    Raises:
        ViceError: a single image does not fit.
    """
    try:
        return work(part)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        gpu = isinstance(error, torch.OutOfMemoryError)
        copies = halve_copies() if len(part) == 1 and halve_copies is not None else 0
        if len(part) == 1 and not copies:
            where, other = ("the GPU's memory", " or the CPU (--device cpu)") if gpu else ("memory", "")
            message = f"A pass of one image must fit in {where}, but does not."
            raise ViceError(message, f"Use a smaller view (--view-size){other}.") from None
    torch.cuda.empty_cache()
    device = "GPU " if gpu else ""
    if copies:
        warnings.warn(f"Out of {device}memory: continuing with passes of {copies} copies of an image.", stacklevel=2)
        return halve_on_oom(part, work, shrink, halve_copies)
    half = (len(part) + 1) // 2
    shrink(half)
    warnings.warn(f"Out of {device}memory: continuing with batches of {half} images.", stacklevel=2)
    return [found for some in (part[:half], part[half:]) for found in halve_on_oom(some, work, shrink, halve_copies)]
