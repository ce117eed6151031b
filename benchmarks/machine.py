"""The machine that a benchmark runs on."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from torchvice.files.process import keep_freed_memory


def processor() -> str:
    """The CPU's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def vector_units() -> str:
    """The widest instructions for products that the CPU has: AMX, AVX-512 or AVX2, with bfloat16 where there is any."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    names = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "avx512_bf16": "bfloat16"}
    return ", ".join(name for flag, name in names.items() if flag in flags) or "unknown instructions"


def pace() -> float:
    """CPU milliseconds of a fixed piece of work: a figure is a multiple of it, whatever the machine and the hour.

    One thread of numpy takes, adds up, multiplies and sorts 210,900 numbers, as replicates of ranks do; lowest of 15.
    """
    keep_freed_memory()
    rng = np.random.default_rng(0)
    values, order = rng.integers(0, 5, (100, 2109)).astype(np.float64), rng.permutation(2109)
    seconds = []
    for _ in range(15):
        begin = time.process_time()
        for _ in range(5):
            taken = np.take(values, order, axis=1)
            sums = np.cumsum(taken.astype(np.int64), axis=1)
            np.einsum("bp,bp->b", sums, taken)
            np.sort(values * taken, axis=1)
        seconds.append(time.process_time() - begin)
    return 1000 * min(seconds) / 5
