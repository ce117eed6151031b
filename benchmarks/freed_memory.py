"""Forward passes on a CPU, with freed memory given back to the system as glibc does, and kept as `vice` does.

Run `python benchmarks/freed_memory.py [--networks NAME ...] [--rounds 3]`: some minutes. Every measurement is a process
of its own, in turns: batches of 16 images of noise at the size that timm states, random weights. Prints CPU
milliseconds an image (user, and of the system), page faults an image, and the most memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from typing import Any

from machine import processor

NETWORKS = ("mobilenetv3_small_100", "resnet18", "efficientnet_b0", "resnet50", "vit_tiny_patch16_224")
BATCH, BATCHES = 16, 6


def passes(name: str, kept: bool) -> dict[str, float]:
    """What the forward passes of a network take in this process."""
    import timm
    import torch

    from torchvice.files.process import keep_freed_memory

    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    images = torch.randn(BATCH, *model.default_cfg["input_size"])
    with torch.inference_mode():
        model(images)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(BATCHES):
            model(images)
        after = resource.getrusage(resource.RUSAGE_SELF)
    count = BATCH * BATCHES
    return {
        "user": 1e3 * (after.ru_utime - before.ru_utime) / count,
        "system": 1e3 * (after.ru_stime - before.ru_stime) / count,
        "faults": (after.ru_minflt - before.ru_minflt) / count,
        "memory": after.ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # the child process: a network, and kept or given
    options = parser.parse_args()
    if options.one:
        print(json.dumps(passes(options.one[0], options.one[1] == "kept")))
        return
    threads = os.environ.get("OMP_NUM_THREADS", "as torch chooses")
    print(f"{processor()}, {os.cpu_count()} cores, threads of torch: {threads}; median of {options.rounds}")
    print("| network | freed memory is | CPU ms an image | of them system | page faults an image | most MB |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for name in options.networks:
        found: dict[str, list[dict[str, Any]]] = {"given back": [], "kept": []}
        for _ in range(options.rounds):
            for how, runs in found.items():
                command = [sys.executable, __file__, "--one", name, how.split()[0]]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        for how, runs in found.items():
            user, system, faults, memory = (
                statistics.median(run[key] for run in runs) for key in ("user", "system", "faults", "memory")
            )
            cells = f"{user + system:.1f} | {system:.1f} | {faults:,.0f} | {memory:,.0f}"
            print(f"| {name} | {how} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
