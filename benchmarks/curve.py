"""CPU time of the threshold curve: `torchvice.evaluate` against the original's sixty passes, and against reading alone.

Run `python benchmarks/curve.py`, or with `--quick` for a small run. The files are made on the spot in a temporary
folder: smooth maps at the size of VOC's images as uncompressed float32 .npy dictionaries, two or three an image, and
palette masks with a void rim. The three contenders take turns, so that a busy machine disturbs them alike. Times are
CPU seconds of all processes involved, the files in the page cache, start-up and imports not counted. The sixty passes
are spread over the rounds and summed; for the other two the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from torchvice.evaluate import evaluate
from torchvice.interop import bilinear, write_legacy_maps
from torchvice.metrics.thresholds import PAPER_THRESHOLDS

HEIGHT, WIDTH, CLASSES = 375, 500, 20
LEAST_SPEED_UP = 300  # times less CPU time than the sixty passes
MOST_OVER_READING = 2.5  # times the CPU time of only reading and decoding the files


def write_files(folder: Path, images: int, seed: int = 0) -> list[str]:
    """Maps and masks of `images` made-up images: each object an ellipse, each map a blurred and noisy version of it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    (folder / "masks").mkdir()
    names = [f"2099_{number:06d}" for number in range(images)]
    for number, name in enumerate(names):
        classes = rng.choice(CLASSES, size=2 + number % 2, replace=False)
        mask, maps = np.zeros((HEIGHT, WIDTH), np.uint8), []
        for label in classes + 1:
            centre = rng.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH)
            radii = rng.uniform(0.1, 0.4, 2) * (HEIGHT, WIDTH)
            distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
            mask[distance < 1.03] = 255
            mask[distance < 1] = label
            coarse = np.exp(-(distance[12::24, 16::32] ** 2)) + 0.15 * rng.random((16, 16))[: len(rows[12::24])]
            plane = bilinear(coarse[None], (HEIGHT, WIDTH))[0]
            maps.append((plane - plane.min()) / (plane.max() - plane.min()))
        write_legacy_maps(folder / "maps" / f"{name}.npy", classes, maps)
        picture = Image.fromarray(mask).convert("P")
        picture.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        picture.save(folder / "masks" / f"{name}.png")
    return names


def one_pass(folder: Path, names: list[str], threshold: float) -> np.ndarray:
    """Class IoU (21,) at one threshold, by the algorithm of the original scripts in plain numpy.

    Every image is read, its maps are put into a stack of 21 planes with the threshold as background, the arg max is
    taken, and the pixels of each class are counted by comparing the whole image with it. The curve is sixty of these.
    """
    predicted, true, both = np.zeros((3, CLASSES + 1))
    for name in names:
        maps = np.load(folder / "maps" / f"{name}.npy", allow_pickle=True).item()
        mask = np.array(Image.open(folder / "masks" / f"{name}.png"))
        stack = np.zeros((CLASSES + 1, *mask.shape), np.float32)
        for key, plane in maps.items():
            stack[key + 1] = plane
        stack[0] = threshold
        prediction = np.argmax(stack, axis=0).astype(np.uint8)
        counted = mask < 255
        right = (prediction == mask) * counted
        for label in range(CLASSES + 1):
            predicted[label] += np.sum((prediction == label) * counted)
            true[label] += np.sum((mask == label) * counted)
            both[label] += np.sum((mask == label) * right)
    return both / (true + predicted - both + 1e-10)


def read_only(folder: Path, names: list[str]) -> int:
    """Read and decode every file once, and do nothing with it; the number of values read."""
    values = 0
    for name in names:
        maps = np.load(folder / "maps" / f"{name}.npy", allow_pickle=True).item()
        values += sum(plane.size for plane in maps.values())
        values += np.array(Image.open(folder / "masks" / f"{name}.png")).size
    return values


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of `work`, those of its finished child processes included, and what it returned."""
    before = os.times()
    start = time.process_time()
    result = work()
    own = time.process_time() - start
    after = os.times()
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return own + children, result


def main() -> int:
    """Run the benchmark and print the ratios; 1 if a target is missed or the curves differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10, help="the sixty passes are spread over them")
    parser.add_argument("--workers", type=int, default=1, help="processes of torchvice")
    parser.add_argument("--quick", action="store_true", help="8 images and 4 rounds")
    chosen = parser.parse_args()
    images, rounds = (8, 4) if chosen.quick else (chosen.images, chosen.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = write_files(folder, images)

        def ours() -> Any:
            return evaluate(names, folder / "maps", folder / "masks", workers=chosen.workers)

        read_only(folder, names), ours(), one_pass(folder, names[:1], 0.0)  # files and code are warm from here on
        reading: list[float] = []
        counting: list[float] = []
        theirs: list[np.ndarray] = []
        passes = 0.0
        for part in np.array_split(PAPER_THRESHOLDS, rounds):
            reading.append(cpu_seconds(lambda: read_only(folder, names))[0])
            seconds, result = cpu_seconds(ours)
            counting.append(seconds)
            for threshold in part:
                seconds, ious = cpu_seconds(partial(one_pass, folder, names, threshold))
                passes += seconds
                theirs.append(ious)
    speed_up, over_reading = passes / median(counting), median(counting) / median(reading)
    gap = float(np.abs(np.array(theirs) - result.class_iou).max())
    print(f"{images} images of {HEIGHT} x {WIDTH}, {rounds} rounds, CPU seconds")
    print(f"  original, 60 passes   {passes:9.3f}")
    print(f"  torchvice             {median(counting):9.3f}   (lowest {min(counting):.3f})")
    print(f"  reading alone         {median(reading):9.3f}   (lowest {min(reading):.3f})")
    print(f"  largest difference of a class IoU between the two curves: {gap:.1e}")
    fast, lean, same = speed_up >= LEAST_SPEED_UP, over_reading <= MOST_OVER_READING, gap < 1e-9
    print(f"  {speed_up:.0f} times less than the original (target {LEAST_SPEED_UP}): {'met' if fast else 'MISSED'}")
    print(f"  {over_reading:.2f} times reading alone (target {MOST_OVER_READING}): {'met' if lean else 'MISSED'}")
    return 0 if fast and lean and same else 1


if __name__ == "__main__":
    sys.exit(main())
