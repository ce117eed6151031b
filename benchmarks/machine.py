"""The machine that a benchmark runs on."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def processor() -> str:
    """The CPU's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def with_sleeping_threads() -> None:
    """Start this program again with threads that sleep where they wait, as the command `vice` has them."""
    if "OMP_WAIT_POLICY" not in os.environ:  # it is read once, when torch is imported
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, *sys.argv])


def vector_units() -> str:
    """The widest instructions for products that the CPU has: AMX, AVX-512 or AVX2, with bfloat16 where there is any."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = next((line.split() for line in info.splitlines() if line.startswith("flags")), [])
    names = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "avx512_bf16": "bfloat16"}
    return ", ".join(name for flag, name in names.items() if flag in flags) or "unknown instructions"
