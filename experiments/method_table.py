"""Every explanation method on the embedded set, by numbers: localisation, VICE, causal agreement, and time for a map.

For the two networks of experiments/methods.py, or with `--run` for a run of `vice train`, on photographs for instance.
`python experiments/method_table.py` prints the tables of docs/explanations.md, and keeps the assessments beside the
networks.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from methods import NETWORKS, trained
from scipy.stats import spearmanr

from torchvice import Explainer, ViceError, assess, measure
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain import METHODS, upsample
from torchvice.explain.imputation import impute
from torchvice.runs import Run

HEADLINE, CONTROLS = "gradcam", ("random", "center", "foreground")
CELLS = (6, 5, 7)  # along a side of the image, the first that divides it
TIMED = 4
HEAD = "| method | IoU | VICE | 95 % | causal | alike | empty | ms |\n| --- |" + " ---: |" * 7 + "\n"


class First:
    """The first images of a dataset."""

    def __init__(self, dataset: Any, count: int) -> None:
        self.dataset, self.classes = dataset, dataset.classes
        self.records, self.targets = dataset.records[:count], dataset.targets[:count]
        self.image, self.mask = dataset.image, dataset.mask


def shown(run: Run, dataset: First) -> torch.Tensor:
    """The images (N, 3, side, side) as the network sees them."""
    how = run.settings.transform
    images = (warp(dataset.image(i), how.crop, how.interpolation) for i in range(len(dataset.records)))
    return torch.stack([normalise(image, how.mean, how.std) for image in images])


def falls(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """(N, cells, cells, C) by how much each logit falls when a cell is filled in from what surrounds it (ROAD)."""
    whole, found = images.shape[-1], []
    cells = next(count for count in CELLS if whole % count == 0)
    side = whole // cells
    for image in images:
        copies = [image]
        for place in range(cells**2):
            missing = np.zeros((whole, whole), dtype=bool)
            top, left = side * (place // cells), side * (place % cells)
            missing[top : top + side, left : left + side] = True
            copies.append(torch.tensor(impute(image.numpy(), missing)))
        with torch.no_grad():
            logits = model(torch.stack(copies)).numpy()
        found.append((logits[0] - logits[1:]).reshape(cells, cells, -1))
    return np.stack(found)


def causal(samples: Any, fallen: np.ndarray, side: int) -> dict[str, float]:
    """By explanation: the mean over true pairs of Spearman's correlation of map and fall over the cells."""
    position = {image_id: i for i, image_id in enumerate(dict.fromkeys(samples.images.image_id.tolist()))}
    found: dict[str, list[float]] = {}
    cells = fallen.shape[1]
    kept = samples.maps
    for image_id, name, label, values in zip(kept.image_id, kept.explanation, kept.label, kept.map, strict=True):
        large = upsample(torch.tensor(np.asarray(values, dtype=np.float32))[None].clamp(min=0), (side, side))[0].numpy()
        mean = large.reshape(cells, side // cells, cells, side // cells).mean((1, 3))
        fall = fallen[position[image_id], :, :, label - 1]
        constant = np.ptp(mean) == 0  # it predicts nothing
        found.setdefault(str(name), []).append(0.0 if constant else spearmanr(mean, fall, axis=None).statistic)
    return {name: float(np.mean(values)) for name, values in found.items()}


def alike(samples: Any) -> dict[str, float]:
    """By explanation: the mean correlation of the maps of two labels of an image, as far as neither is constant."""
    of_image: dict[tuple[str, str], list[np.ndarray]] = {}
    kept = samples.maps
    for image_id, name, values in zip(kept.image_id, kept.explanation, kept.map, strict=True):
        map_ = np.maximum(np.asarray(values, dtype=float), 0).ravel()
        if np.ptp(map_) > 0:
            of_image.setdefault((str(name), str(image_id)), []).append(map_)
    found: dict[str, list[float]] = {}
    for (name, _), maps in of_image.items():
        found.setdefault(name, []).extend(np.corrcoef(*two)[0, 1] for two in combinations(maps, 2))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def empty(samples: Any) -> dict[str, float]:
    """By explanation: the share of maps that are zero everywhere after their ReLU."""
    found: dict[str, list[bool]] = {}
    for name, values in zip(samples.maps.explanation, samples.maps.map, strict=True):
        found.setdefault(str(name), []).append(not bool((np.asarray(values, dtype=float) > 0).any()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def milliseconds(model: torch.nn.Module, method: str, images: torch.Tensor) -> float:
    """Processor time of a map, one label an image; not of the clock, which others' work on the machine moves."""
    explainer, labels = Explainer(model, method), [[0]] * len(images)
    few = images[:1]
    explainer(few, labels[:1])
    start = time.process_time()
    explainer(images, labels)
    return (time.process_time() - start) / len(images) * 1000


def available(model: torch.nn.Module, image: torch.Tensor, skipped: list[str]) -> list[str]:
    """The methods that work for the network, the headline first and the controls left out."""
    names = []
    for name in METHODS:
        try:
            if name not in (*CONTROLS, *skipped):
                Explainer(model, name)(image[None], [[0]])
                names.append(name)
        except ViceError:
            continue
    return [HEADLINE, *(name for name in names if name != HEADLINE)]


def table(run: Run, count: int, out: Path, skipped: list[str]) -> str:
    """The rows of a network, in the order of registration, controls last."""
    model, dataset = run.model().eval(), First(run.dataset(), count)
    images = shown(run, dataset)
    names = available(model, images[0], skipped)
    options = {"mean": run.settings.transform.mean, "std": run.settings.transform.std, "view_size": images.shape[-1]}
    controls = (*CONTROLS, "shuffled", "random_weights")
    samples = assess(
        model,
        dataset,
        out=out,
        protocols=("strict",),
        method=HEADLINE,
        also=names[1:],
        controls=controls,
        progress=False,
        **options,
    )
    measured = measure(samples)
    agreement = causal(samples, falls(model, images), images.shape[-1])
    resembling, zero = alike(samples), empty(samples)
    scored = {**measured.methods, **measured.controls}
    lines = []
    for name in [*(name for name in METHODS if name in names), *controls]:
        if name == HEADLINE:
            interval = measured.intervals["quality.vice"]
            values = (measured.value("quality.mean"), measured.value("quality.vice"), interval["low"], interval["high"])
        else:
            row = scored[name]
            values = (row.quality, row.vice, row.vice_low, row.vice_high)
        numbers = [float("nan") if value is None else value for value in values]
        spent = milliseconds(model, name, images[:TIMED]) if name in METHODS else float("nan")
        of_maps = [found.get(f"strict:{name}", float("nan")) for found in (agreement, resembling, zero)]
        lines.append(
            f"| {name} | {numbers[0]:.3f} | {numbers[1]:.2f} | {numbers[2]:.2f} to {numbers[3]:.2f} "
            f"| {of_maps[0]:.2f} | {of_maps[1]:.2f} | {of_maps[2]:.0%} | {spent:.1f} |\n"
        )
    return HEAD + "".join(lines).replace("nan to nan", "-").replace("nan%", "-").replace("nan", "-")


def main() -> None:
    """Train the missing networks, assess every method, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the networks are kept")
    parser.add_argument("--images", type=int, default=100, help="how many of the test split")
    parser.add_argument("--network", choices=list(NETWORKS), help="one of them")
    parser.add_argument("--run", type=Path, help="folder of another run of `vice train`, instead of both")
    parser.add_argument("--out", type=Path, help="with --run: where its assessment is kept")
    parser.add_argument("--skip", nargs="*", default=[], help="methods that are left out; a later run adds them")
    options = parser.parse_args()
    if options.run:
        out = options.out or options.run / f"methods-table-{options.images}"
        print(table(Run(options.run), options.images, out, options.skip))
        return
    for name in [options.network] if options.network else NETWORKS:
        run = trained(name, options.runs)
        out = options.runs / f"methods-{name}-table-{options.images}"
        print(f"\n{name}\n\n{table(run, options.images, out, options.skip)}")


if __name__ == "__main__":
    main()
