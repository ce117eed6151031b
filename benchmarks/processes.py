"""Wall time of `vice assess` on two processes against one process with two threads, and whether the rows agree.

Run `python benchmarks/processes.py`, or with `--quick` on fewer images. The data are the embedded digits at 224 pixels,
the network has random weights. The commands are those of a user: times include the start of Python and torch. The
contenders take turns. Ends with status 1 if the rows differ, or if two processes take over 1.1 times as long as one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from machine import processor

from torchvice.data.digits import write_digits
from torchvice.models.build import build_model
from torchvice.samples import Images, Regions, Samples

MOST = 1.1  # of one process' time
NETWORKS = ("resnet18", "resnet50")


def seconds(root: Path, network: str, processes: int, out: Path) -> float:
    """Wall seconds of one assessment, without thread counts from the environment."""
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-m", "torchvice.cli", "assess", "--model", network, "--data", str(root / "digits")]
    command += ["--weights", str(root / f"{network}.pth"), "--split", "test", "--controls", "cheap", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(
        [*command, "--processes", str(processes), "--device", "cpu"],
        env={**free, "OMP_WAIT_POLICY": "PASSIVE"},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def difference(one: Path, other: Path) -> tuple[float, float]:
    """The largest difference of logits, and the fraction of changed pixel counts; inf if the rows differ."""
    tables = [Samples.load(path) for path in (one, other)]
    images = [sorted_by(table.images, ("view", "image_id")) for table in tables]
    regions = [sorted_by(table.regions, ("explanation", "image_id", "label")) for table in tables]
    if images[0][0] != images[1][0] or regions[0][0] != regions[1][0]:
        return float("inf"), float("inf")
    logits = [table.images.logits[order] for table, (_, order) in zip(tables, images, strict=True)]
    counts = [table.regions.predicted[order].astype(float) for table, (_, order) in zip(tables, regions, strict=True)]
    return float(np.abs(logits[0] - logits[1]).max()), float(np.abs(counts[0] - counts[1]).sum() / counts[0].sum())


def sorted_by(rows: Images | Regions, names: tuple[str, ...]) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The sorted keys of rows, and the order that sorts them."""
    keys = list(zip(*(getattr(rows, name).astype(str).tolist() for name in names), strict=True))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    return [keys[row] for row in order], order


def main() -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, one round")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="timm's names")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import torch

    images, rounds, failed = (60, 1, False) if options.quick else (400, options.rounds, False)
    print(processor())
    print(f"{images} images of 224 pixels, both protocols, cheap controls; {os.cpu_count()} cores, medians of {rounds}")
    print(f"{'network':<10} {'processes':>9} {'wall s':>8} {'lowest':>8} {'against one':>12}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_digits(root / "digits", train=1, val=1, test=images, size=224)
        for network in options.networks:
            torch.manual_seed(0)
            torch.save(build_model(network, 10).state_dict(), root / f"{network}.pth")
            taken: dict[int, list[float]] = {1: [], 2: []}
            for turn in range(rounds):
                for processes, times in taken.items():
                    times.append(seconds(root, network, processes, root / f"{network}-{processes}-{turn}"))
            for processes, times in taken.items():
                ratio = median(times) / median(taken[1])
                print(f"{network:<10} {processes:>9} {median(times):>8.1f} {min(times):>8.1f} {ratio:>12.2f}")
            logits, counts = difference(root / f"{network}-1-0", root / f"{network}-2-0")
            print(f"{network:<10} rows differ by {logits:.1e} in logits, {counts:.1e} in counts")
            failed |= median(taken[2]) > MOST * median(taken[1]) or logits > 1e-5 or counts > 1e-4
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
