"""CPU time of the threshold curve: `torchvice.evaluate` against the original's sixty passes, and reading only.

Run `python benchmarks/curve.py`, or with `--quick` for a small run. Synthetic files are written to a temporary
folder: smooth maps at the size of VOC's images as uncompressed float32 .npy dictionaries, two or three an image, and
palette masks with a void rim. The three contenders take turns, so that a busy machine disturbs them alike. Times are
CPU seconds of all processes, with the files in the page cache, without start-up and imports. The sixty passes
are spread over the rounds and summed; the other two run several times a round, and the median counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import processor
from PIL import Image

from torchvice.commands.evaluate import evaluate
from torchvice.files.process import keep_freed_memory
from torchvice.interop import bilinear, write_legacy_maps
from torchvice.metrics.thresholds import PAPER_THRESHOLDS

HEIGHT, WIDTH, CLASSES = 375, 500, 20
LEAST_SPEED_UP = 300  # times less CPU time than the sixty passes
REPEATS = 4  # a round, of torchvice and of reading
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


@dataclass
class Clock:
    """CPU and wall-clock seconds of one contender, run after run.

    CPU seconds are those of this process and of the child processes that have ended.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def run(self, work: Callable[[], Any]) -> Any:
        """Time `work` and return its result."""
        before, own, wall = os.times(), time.process_time(), time.perf_counter()
        result = work()
        own, wall, after = time.process_time() - own, time.perf_counter() - wall, os.times()
        children = after.children_user + after.children_system - before.children_user - before.children_system
        self.cpu.append(own + children)
        self.wall.append(wall)
        return result


def compete(folder: Path, names: list[str], rounds: int, workers: int) -> tuple[Clock, Clock, Clock, float]:
    """The clocks of the sixty passes, of torchvice and of reading, and how far the two curves lie apart."""

    def ours() -> Any:
        return evaluate(names, folder / "maps", folder / "masks", workers=workers)

    reading, counting, passes = Clock(), Clock(), Clock()
    theirs: list[np.ndarray] = []
    for part in np.array_split(PAPER_THRESHOLDS, rounds):
        for threshold in part:
            theirs.append(passes.run(partial(one_pass, folder, names, threshold)))
        read_only(folder, names)  # not timed: the passes have disturbed caches and heap
        for _ in range(REPEATS):
            counting.run(ours)
            reading.run(partial(read_only, folder, names))
    return passes, counting, reading, float(np.abs(np.array(theirs) - ours().class_iou).max())


def main() -> int:
    """Run the benchmark and print the ratios; returns 1 if a target is missed or the curves differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10, help="the sixty passes are spread over them")
    parser.add_argument("--workers", type=int, default=1, help="processes of torchvice")
    parser.add_argument("--quick", action="store_true", help="16 images and 4 rounds")
    chosen = parser.parse_args()
    keep_freed_memory()  # as the command does
    images, rounds = (16, 4) if chosen.quick else (chosen.images, chosen.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        names = write_files(Path(temporary), images)
        passes, counting, reading, gap = compete(Path(temporary), names, rounds, chosen.workers)
    slow, fast, least = sum(passes.cpu), median(counting.cpu), median(reading.cpu)
    print(processor())
    print(f"{images} images of {HEIGHT} x {WIDTH}, {rounds} rounds   CPU s    wall s    lowest CPU s")
    print(f"  original, 60 passes            {slow:8.3f}  {sum(passes.wall):8.3f}")
    for name, clock in (("torchvice", counting), ("reading only", reading)):
        print(f"  {name:<29}  {median(clock.cpu):8.4f}  {median(clock.wall):8.4f}  {min(clock.cpu):8.4f}")
    print(f"  largest difference of a class IoU between the two curves: {gap:.1e}")
    quick, lean = slow / fast >= LEAST_SPEED_UP, fast / least <= MOST_OVER_READING
    print(f"  {slow / fast:.0f} times less than the original (at least {LEAST_SPEED_UP}): {verdict(quick)}")
    print(f"  {fast / least:.2f} times reading only (at most {MOST_OVER_READING}): {verdict(lean)}")
    return 0 if quick and lean and gap < 1e-9 else 1


def verdict(met: bool) -> str:
    """`met` or `MISSED`."""
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
