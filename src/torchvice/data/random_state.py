"""The random state of Python, numpy and torch, restored after code that draws from it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

__all__ = ["rng_seeded", "rng_state_kept"]


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


@contextlib.contextmanager
def rng_seeded(seed: int) -> Iterator[None]:
    """Draw from generators of a seed, on the CPU, and restore the RNG state afterwards as `rng_state_kept` does.

    Random code that is tried in several such blocks draws other numbers in each, and the same ones in every run.
    """
    import numpy as np
    import torch

    with rng_state_kept():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would leave a seed for CUDA
        yield
