"""`vice measure` at any size: seconds, memory and bytes of a table, for the shapes of VOC, ImageNet and COCO.

The table has both protocols, five controls, the columns of the causal witness, and realistic counts; it is drawn at
random and written shard by shard. Each measurement is a process of its own, as a user starts it, with Python's
compiled files kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor

from torchvice.samples import HISTOGRAM_BINS, Images, Maps, Regions, ShardFolder

THRESHOLDS = np.arange(60) / 100
SHARD = 128  # images, as many as `vice assess` writes
HEIGHT, WIDTH = 375, 500
CONTROLS = ("random", "center", "foreground", "shuffled", "random_weights")
PROTOTYPES = 512  # histograms of maps that the rows share, each scaled to the row's pixels


@dataclass(frozen=True)
class Shape:
    """A dataset: number of images and classes, labels of an image on average, and whether each has exactly one."""

    images: int
    classes: int
    labels: float
    exclusive: bool = False


SHAPES = {
    "voc": Shape(1_449, 20, 1.5),
    "imagenet": Shape(50_000, 1_000, 1.0, exclusive=True),
    "coco": Shape(120_000, 80, 2.9),
}
# Seconds and GB on two cores, with 2,000 replicates and five controls.
TARGETS = {"voc": (2.5, 2.5), "imagenet": (60.0, 2.5), "coco": (120.0, 4.0)}


def manifest(shape: Shape) -> dict[str, Any]:
    """The manifest of a table of this shape."""
    explanations: dict[str, Any] = {
        "paper:cam": {"role": "headline", "protocol": "paper", "view": "whole"},
        "strict:cam": {"role": "headline", "protocol": "strict", "view": "warp224"},
    }
    explanations |= {f"strict:{name}": {"role": "control", "protocol": "strict"} for name in CONTROLS}
    for settings in explanations.values():
        settings |= {"method": "cam", "normalisation": "max", "site": {"layer": "global_pool"}}
    return {
        "classes": [f"class {c}" for c in range(shape.classes)],
        "targets": "exclusive" if shape.exclusive else "multilabel",
        "thresholds": THRESHOLDS.tolist(),
        "explanations": explanations,
        "protocols": {
            "paper": {"view": "crop224", "explanation": "paper:cam"},
            "strict": {"view": "warp224", "explanation": "strict:cam"},
        },
        "model": {"type": "drawn at random"},
        "dataset": {"root": "drawn at random", "split": "val", "images": shape.images, "regions": "masks"},
        "versions": {},
    }


def write_table(folder: Path, shape: Shape) -> int:
    """Write a table of this shape; return its bytes on disk."""
    shards = ShardFolder(folder)
    shards.start(manifest(shape))
    prototypes = np.random.default_rng(0).dirichlet(np.geomspace(3, 0.05, HISTOGRAM_BINS), PROTOTYPES)
    for number, first in enumerate(range(0, shape.images, SHARD)):
        ids = np.arange(first, min(first + SHARD, shape.images))
        shards.append(*shard(shape, ids, prototypes, np.random.default_rng([1, number])))
    shards.start({**manifest(shape), "files": shards.digests()})
    return sum(file.stat().st_size for file in folder.iterdir())


def shard(
    shape: Shape, ids: np.ndarray, prototypes: np.ndarray, rng: np.random.Generator
) -> tuple[Images, Regions, Maps]:
    """Draw the images `ids` of a table."""
    count = len(ids)
    often = 1 / (2 + np.arange(shape.classes)) ** 0.5
    extra = 0 if shape.exclusive else rng.poisson(shape.labels - 1, count)
    targets = np.zeros((count, shape.classes), np.uint8)
    for place in range(1 + int(np.max(extra))):
        rows = np.flatnonzero(np.broadcast_to(extra, count) >= place)
        targets[rows, rng.choice(shape.classes, len(rows), p=often / often.sum())] = 1
    logits = (rng.normal(0, 2, targets.shape) + np.where(targets == 1, 3, -5)).astype(np.float32)
    names = np.array([f"2012_{i:06d}" for i in ids], dtype=object)
    images = Images.join([_images(view, names, targets, logits, rng) for view in ("crop224", "warp224")])
    row, label = np.nonzero(np.concatenate([np.ones((count, 1), np.uint8), targets], axis=1))
    parts = [
        _regions(explanation, names[row], label, _surer(logits, row, label), prototypes, rng)
        for explanation in manifest(shape)["explanations"]
    ]
    empty = np.zeros(0, dtype=object)
    return images, Regions.join(parts), Maps(empty, empty, np.zeros(0, np.int64), empty)


def _surer(logits: np.ndarray, row: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The logit of each region's class, about 0; 0 for the background."""
    return np.where(label > 0, logits[row, label - 1] - 3, 0.0) / 2


def _images(view: str, names: np.ndarray, targets: np.ndarray, logits: np.ndarray, rng: np.random.Generator) -> Images:
    nan, count = np.full(len(names), np.nan), len(names)
    size = np.full(count, HEIGHT), np.full(count, WIDTH)
    shown = np.full(count, view, dtype=object)
    return Images(names, shown, *size, np.ones(count, bool), targets, logits, nan, nan, nan, rng.beta(2, 3, count))


def _regions(
    explanation: str,
    image_id: np.ndarray,
    label: np.ndarray,
    surer: np.ndarray,
    prototypes: np.ndarray,
    rng: np.random.Generator,
) -> Regions:
    """Rows of one explanation: an object of a random size, and a map that covers it the better the surer the logit."""
    count, pixels, own = len(label), HEIGHT * WIDTH, label > 0
    linked = 0.3 if explanation.endswith(":cam") else 0.0
    mask = (pixels * np.clip(0.1 * np.exp(rng.normal(0, 0.8, count)), 0.003, 0.9)).astype(np.int64)
    extent = pixels * np.clip(0.15 * np.exp(rng.normal(0, 0.6, count)), 0.005, 0.95)
    quality = 1 / (1 + np.exp(-rng.normal(0, 1, count) - linked * surer))
    predicted = (extent[:, None] * (1 - THRESHOLDS) ** 1.5).astype(np.int64)
    shared = (quality[:, None] * np.minimum(predicted, mask[:, None])).astype(np.int64)
    inside, outside = (
        (prototypes[rng.integers(0, PROTOTYPES, count)] * (part * own)[:, None]).astype(np.int64)
        for part in (mask, pixels - mask)
    )
    measured = {
        "energy_inside": 9e3 * quality,
        "energy_outside": 2e4 * (1 - quality),
        "pointing": (rng.random(count) < quality).astype(float),
        "otsu_predicted": predicted[:, 30].astype(float),
        "otsu_intersection": shared[:, 30].astype(float),
    }
    if explanation == "strict:cam":
        margins = ("without_object", "without_background", "with_hole")
        measured |= {name: surer + rng.normal(-1, 2, count) for name in margins}
    return Regions.of(
        image_id=image_id,
        explanation=np.full(count, explanation, dtype=object),
        label=label,
        status=np.where(own, "ok", "none").astype(object),
        mask_pixels=mask,
        predicted=predicted,
        intersection=shared,
        inside=inside,
        outside=outside,
        **{name: np.where(own, column, np.nan) for name, column in measured.items()},
    )


def measured(folder: Path, replicates: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak GB of `vice measure` on a table, started as a user does."""
    command = [sys.executable, "-m", "torchvice.cli", "measure", str(folder), "--no-figures"]
    command += ["--replicates", str(replicates)]
    start = time.perf_counter()
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=compiled)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}.")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["voc"], help="Whose shape the table has.")
    parser.add_argument("--images", type=int, nargs="+", help="Numbers of images, in place of the shape's own.")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3, help="Number of times; medians are printed.")
    parser.add_argument("--keep", type=Path, help="Folder of the tables, which stay there and are taken again.")
    parser.add_argument("--json", type=Path, help="Write the figures to this file, too.")
    options = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores; {options.replicates} replicates, median of {options.repeat}")
    print("| shape | images | true pairs | bytes a region | seconds | CPU seconds | peak GB | target |")
    print("|---|---:|---:|---:|---:|---:|---:|---|", flush=True)
    figures = []
    for name in options.shape:
        for images in options.images or [SHAPES[name].images]:
            figures.append(row(name, images, options))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def row(name: str, images: int, options: argparse.Namespace) -> dict[str, Any]:
    """Write the table of one size, measure it several times, and print the row."""
    whole = SHAPES[name]
    shape = Shape(images, whole.classes, whole.labels, whole.exclusive)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)) / f"{name}-{images}"
        if not (folder / "manifest.json").is_file():
            write_table(folder, shape)
        regions, pairs = counted(folder)
        disk = sum(file.stat().st_size for file in folder.iterdir())
        runs = [measured(folder, options.replicates) for _ in range(options.repeat)]
    wall, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    seconds, most = TARGETS[name]
    target = f"{seconds:g} s, {most:g} GB" if images == whole.images else ""
    cells = [name, f"{images:,}", f"{pairs:,}", f"{disk / regions:,.0f}"]
    cells += [f"{wall:.1f}", f"{cpu:.1f}", f"{memory:.2f}", target]
    print("|", " | ".join(cells), "|", flush=True)
    return {"shape": name, "images": images, "pairs": pairs, "seconds": wall, "cpu": cpu, "peak_gb": memory}


def counted(folder: Path) -> tuple[int, int]:
    """The numbers of rows of the regions, and of the true pairs of the headline."""
    regions = pairs = 0
    for batch in ShardFolder(folder).stream("regions", ["explanation", "label"]):
        regions += len(batch["label"])
        pairs += int(((batch["explanation"] == "strict:cam") & (batch["label"] > 0)).sum())
    return regions, pairs


if __name__ == "__main__":
    main()
