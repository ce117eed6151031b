"""What replacing objects, backgrounds and patches costs, in bare forward passes an image.

The floor is the network alone: its logits for the same images, decoded and normalised before the clock starts. What
`vice assess --without` adds to that is timed on the same images in the same process, in CPU seconds, interleaved: with
the treatments of the causal witness (object and background), and with patches as well. Without a dataset it writes
the digits, and the network has random weights whose bias makes it find about half of the labels.

    python benchmarks/interventions.py [--data FOLDER --split val --model NAME --weights FILE] [--images 96]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import processor

from torchvice.assessment import MapSettings
from torchvice.assessment.images import Partners, read_ahead
from torchvice.assessment.interventions import Interventions
from torchvice.assessment.views import views_of
from torchvice.data import open_dataset
from torchvice.data.digits import write_digits
from torchvice.data.filling import InterventionChoices
from torchvice.files.process import keep_freed_memory
from torchvice.models.build import build_model, load_weights


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of the whole process for one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Print the costs."""
    options = parsed()
    keep_freed_memory()  # as the command does
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            write_digits(Path(folder) / "digits", train=2, val=2, test=options.images, size=224)
        dataset = open_dataset(options.data or Path(folder) / "digits", options.split)
        model = build_model(options.model, len(dataset.classes)).eval()
        if options.weights is not None:
            load_weights(model, options.weights)
        view = views_of(model, ("strict",), MapSettings(view_size=224, device="cpu"))["strict"]
        places = np.random.default_rng(0).permutation(len(dataset.records))[: options.images].tolist()
        batch = next(read_ahead(dataset, [places], 2, Partners(dataset)))
        outputs = dict(view.run(batch.images, batch.targets, batch.masked))
        pixels = torch.stack([view.pixels(image) for image in batch.images])

        def bare() -> None:
            for part in pixels.split(view.batch_size):
                view.explainer.logits(part)

        def treated(*treatments: str) -> None:
            Interventions(InterventionChoices(treatments), dataset).columns_of(batch, view, outputs)

        bare()
        runs = [
            (
                cpu_seconds(bare),
                cpu_seconds(lambda: treated("object", "background")),
                cpu_seconds(lambda: treated("patch")),
            )
            for _ in range(options.repeats)
        ]
    pairs = int(batch.targets.sum())
    found = sum(int((outputs[i].logits[batch.targets[i] == 1] > 0).sum()) for i in outputs)
    floor = statistics.median(run[0] for run in runs)
    print(f"{processor()}, {torch.get_num_threads()} threads; {options.model}, {len(places)} images of 224 pixels,")
    print(
        f"{pairs / len(places):.2f} labels an image, {found / len(places):.2f} of them found; medians of {len(runs)}."
    )
    print(f"bare pass: {1000 * floor / len(places):.1f} ms of CPU an image")
    for name, column in (("object and background", 1), ("patch", 2)):
        ratio = statistics.median(run[column] / run[0] for run in runs)
        print(f"{name}: {ratio:.2f} bare passes an image")


if __name__ == "__main__":
    main()
