"""The random state of Python, numpy and torch, restored after code that draws from it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

__all__ = ["rng_state_kept"]


@contextlib.contextmanager
def rng_state_kept() -> Iterator[None]:
    """Restore the RNG state of Python, numpy and torch, error or not (Lightning's isolate_rng: not after an error)."""
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (Lightning seeds it)
    # Does not initialise CUDA if nothing else has.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
