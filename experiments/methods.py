"""Every explanation method on one image of the embedded set, for a convolutional network and a transformer.

Two networks are trained on the digits, unless they are there already, and each method explains the same image: one
panel per method and class. Run with `make methods`; the pictures go to docs/images/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from torchvice import Explainer, ViceError
from torchvice.config import load_settings
from torchvice.data.digits import write_digits
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain import METHODS, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.report import save_figure
from torchvice.runs import Run
from torchvice.training.run import train

NETWORKS = {
    "cnn": [],
    "vit": [
        "model.name=vit_tiny_patch16_224",
        "model.arguments={img_size: 96, patch_size: 16, embed_dim: 96, depth: 4, num_heads: 4}",
        "optimizer.lr=1e-3",
        "trainer.epochs=20",
    ],
}
COLUMNS = 6


def trained(name: str, runs: Path) -> Run:
    """The run of a network, trained if it is missing."""
    settings = load_settings("demo", [f"work_dir={runs}", f"session_name=methods-{name}", *NETWORKS[name]])
    write_digits(settings.data.root)
    folder = runs / f"methods-{name}"
    if (folder / "checkpoints/last.ckpt").is_file():
        return Run(folder)
    return train(settings)


def panels(run: Run, image_id: str | None) -> tuple[np.ndarray, list[tuple[str, np.ndarray | str]]]:
    """The input image, and for each method and true class the map, or the reason for its absence."""
    dataset, model = run.dataset(), run.model()
    index = _chosen(dataset, image_id)
    pixels = warp(dataset.image(index), 96)
    settings = run.settings.transform
    batch = normalise(pixels, settings.mean, settings.std)[None]
    classes = np.flatnonzero(dataset.targets[index]).tolist()
    found: list[tuple[str, np.ndarray | str]] = []
    for method in METHODS:
        try:
            explained = Explainer(model, method)(batch, [classes])
        except ViceError as error:
            found.append((method, error.message))
            continue
        maps = normalise_maps(upsample(explained.maps.clamp(min=0), (96, 96)), "max").numpy()
        found += [(f"{method}: {dataset.classes[c]}", maps[row]) for row, c in enumerate(classes)]
    return pixels, found


def _chosen(dataset, image_id: str | None) -> int:
    """Index of the image, default: the first of the split with two digits."""
    if image_id is None:
        return int(np.flatnonzero(dataset.targets.sum(1) == 2)[0])
    return [record.image_id for record in dataset.records].index(image_id)


def sheet(pixels: np.ndarray, found: list[tuple[str, np.ndarray | str]]) -> Figure:
    """A figure with the image first, then every map over it; methods that do not fit are named below."""
    drawn = [(name, values) for name, values in found if not isinstance(values, str)]
    rows = -(-(len(drawn) + 1) // COLUMNS)
    figure = Figure(figsize=(1.5 * COLUMNS, 1.68 * rows + 0.5), layout="constrained")
    grey = pixels.mean(2)
    for place in range(rows * COLUMNS):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        axes.set_axis_off()
        if place == 0:
            axes.imshow(pixels)
            axes.set_title("image", fontsize=7)
        elif place <= len(drawn):
            name, values = drawn[place - 1]
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
            axes.imshow(values, cmap="inferno", vmin=0, vmax=1, alpha=0.75 * np.sqrt(values))
            axes.set_title(name, fontsize=7)
    missing = ", ".join(name for name, values in found if isinstance(values, str))
    if missing:
        figure.supxlabel(f"not available for this network: {missing}", fontsize=7)
    return figure


def main() -> None:
    """Train the missing networks and draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the networks are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where the pictures go")
    parser.add_argument("--image", help="an image of the test split; else the first with two digits")
    options = parser.parse_args()
    torch.manual_seed(0)
    for name in NETWORKS:
        files = save_figure(sheet(*panels(trained(name, options.runs), options.image)), options.out / f"methods_{name}")
        for path in files:
            if path.suffix == ".pdf":
                path.unlink()  # the docs show the PNG
        print(files[0])


if __name__ == "__main__":
    main()
