"""Images per second of a training epoch and of an assessment, beside what neither can be faster than.

Training: the preset `finetune`, through the loader and the Trainer of `vice train`, beside decoding the same files with
as many workers, and beside the bare step (forward, backward, optimiser) on one batch that stays in memory. Assessment:
`strict` without controls and interventions, beside the bare forward pass over the same images, read, resized and
normalised alike. All in one process and in turns; medians, and ratios of them.

    python benchmarks/loaders.py --data DIR [--train train] [--test val] [--network tf_efficientnet_lite0]
        [--train-images 256] [--test-images 128] [--repeats 3] [--workers 2] [--threads 2] [--precision 32-true]
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from machine import processor, with_sleeping_threads
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from torchvice.assessment import MapSettings, assess
from torchvice.assessment.images import read_ahead
from torchvice.assessment.views import views_of
from torchvice.config import Settings, load_settings
from torchvice.data import open_dataset
from torchvice.files.process import keep_freed_memory
from torchvice.models.build import build_model, preprocessing
from torchvice.training.checkpoints import EpochSampler
from torchvice.training.loaders import loaders_of
from torchvice.training.module import Classifier
from torchvice.training.network_input import with_input
from torchvice.training.regularising import regularisation_callbacks
from torchvice.training.trainer import fit, process_state_kept, trainer_of

Times = dict[str, list[tuple[float, float]]]  # of each program, wall and CPU seconds of every turn
TRAINING, ASSESSMENT = 1.15, 1.3  # targets: times the slower of decoding and step; times the bare forward pass


class Decoded(Dataset[torch.Tensor]):
    """Images that are decoded and dropped."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(self.dataset.image(index).shape[0])


class EpochSeconds(Callback):
    """Seconds of the training batches of the last epoch, without the CPU of the workers."""

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clocks."""
        self.begin = clocks()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop the clocks after the last step."""
        self.seconds = since(self.begin)


def clocks() -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> tuple[float, float]:
    """Wall and CPU seconds since then, all work of a GPU included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = clocks()
    return wall - begin[0], cpu - begin[1]


def ended_workers() -> float:
    """CPU seconds of all workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a call, the CPU of the workers that it started included; `work` may return its own."""
    begin, workers = clocks(), ended_workers()
    own = work()
    if isinstance(own, tuple):
        return own
    gc.collect()  # loaders end their workers
    wall, cpu = since(begin)
    return wall, cpu + ended_workers() - workers


def few(root: Path, split: str, count: int, folder: Path) -> str:
    """A list of the first images of a split, as a file."""
    lines = open_dataset(root, split).records[:count]
    (folder / f"{split}.txt").write_text("".join(f"{record.image_id}\n" for record in lines))
    return str(folder / f"{split}.txt")


def epoch(settings: Settings, dataset: Any, model: torch.nn.Module) -> tuple[float, float]:
    """Seconds of the second epoch as `vice train` runs it, without validation.

    In the first one the workers start. They are forked from this process, which has grown in earlier turns, so that
    it copies all of its memory, step by step; `vice train` forks them while it is small.
    """
    timer, console, workers = EpochSeconds(), Console(quiet=True), ended_workers()
    sampler = EpochSampler(len(dataset), settings.seed)
    callbacks = [timer, *regularisation_callbacks(settings.regularisation)]
    with tempfile.TemporaryDirectory() as folder, process_state_kept():
        trainer = trainer_of(settings, Path(folder), sampler, console, callbacks, enable_checkpointing=False)
        loader, _ = loaders_of(settings, dataset, dataset, sampler, 1)
        module = Classifier(model, settings, dataset.classes)
        fit(trainer, module, (loader, None), None, settings.trainer.batch_size)
    del trainer, loader
    gc.collect()  # the workers end
    wall, cpu = timer.seconds
    return wall, cpu + (ended_workers() - workers) / settings.trainer.epochs


def steps(settings: Settings, model: torch.nn.Module, count: int, device: torch.device) -> None:
    """Forward, backward and optimiser on a batch that stays where it is."""
    size, side = settings.trainer.batch_size, settings.transform.side
    model.to(device).train()
    module = Classifier(model, settings, [str(c) for c in range(8)])
    images, targets = torch.randn(size, 3, side, side, device=device), torch.zeros(size, 8, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(settings.trainer.precision)
    for _ in range(count):
        with torch.autocast(device.type, half, enabled=half is not None):
            loss = module.training_loss(module(images).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def forward(model: torch.nn.Module, dataset: Any, settings: MapSettings) -> None:
    """The bare forward pass over the images of `strict`."""
    view = views_of(model, ("strict",), settings)["strict"]
    model.eval()
    for batch in read_ahead(dataset, [list(range(len(dataset)))], 2):
        for start in range(0, len(batch.images), view.batch_size):
            shown = torch.stack([view.pixels(image) for image in batch.images[start : start + view.batch_size]])
            with torch.inference_mode():
                model(shown.to(view.device)).cpu()


def table(model: torch.nn.Module, dataset: Any, settings: MapSettings) -> None:
    """The assessment of `strict`, alone."""
    with tempfile.TemporaryDirectory() as out:
        assess(
            model, dataset, out=out, protocols=("strict",), settings=settings, controls=(), without=None, progress=False
        )


def report(name: str, images: int, times: Times, ours: str, bounds: tuple[str, ...], most: float) -> None:
    """Print images per second of each program, and the ratio of ours to the slowest bound, by wall and by CPU time."""
    medians = {
        program: [statistics.median(each) for each in zip(*taken, strict=True)] for program, taken in times.items()
    }
    print(f"{name}: {images} images")
    for program, (wall, cpu) in medians.items():
        print(f"  {program:24s} {images / wall:9.1f} images/s   {cpu / images * 1e3:8.1f} CPU ms an image")
    walls, cpus = (medians[ours][k] / max(medians[bound][k] for bound in bounds) for k in (0, 1))
    verdict = "met" if walls <= most else "MISSED"
    print(f"  {ours}: {walls:.2f} times the slower bound (CPU time: {cpus:.2f}), target {most}: {verdict}")


def loaded(settings: Settings, dataset: Any) -> int:
    """The number of images that the training loader gives; nothing is trained."""
    return sum(len(batch[1]) for batch in loaders_of(settings, dataset, dataset, EpochSampler(len(dataset), 0), 1)[0])


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    for name, default in {"train": "train", "test": "val", "network": "tf_efficientnet_lite0"}.items():
        parser.add_argument(f"--{name}", default=default)
    for name, count in {"train-images": 256, "test-images": 128, "repeats": 3, "workers": 2, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--precision", default="32-true")
    return parser.parse_args()


def measured(parts: tuple[dict[str, Callable[[], Any]], ...], repeats: int) -> list[Times]:
    """Run all programs in turns; the first turn warms up and is not counted."""
    times: list[Times] = [{name: [] for name in part} for part in parts]
    for turn in range(repeats + 1):
        for part, found in zip(parts, times, strict=True):
            for name, work in part.items():
                seconds = seconds_of(work)
                if turn:
                    found[name].append(seconds)
    return times


def main() -> None:
    """Measure a training and an assessment."""
    options = arguments()
    with_sleeping_threads()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(processor(), *([torch.cuda.get_device_name()] if device.type == "cuda" else []), sep=", ")
    with tempfile.TemporaryDirectory() as made:
        lists = [few(options.data, options.train, options.train_images, Path(made))]
        lists.append(few(options.data, options.test, options.test_images, Path(made)))
        training, test = (open_dataset(options.data, each) for each in lists)
        model = build_model(options.network, len(training.classes))
        given = [f"data.workers={options.workers}", f"trainer.precision={options.precision}", "trainer.epochs=2"]
        settings = with_input(load_settings("finetune", given), preprocessing(model))
        batches = -(-len(training) // settings.trainer.batch_size)
        decode: Any = DataLoader(Decoded(training), settings.trainer.batch_size, num_workers=options.workers)
        programs: dict[str, Callable[[], Any]] = {
            "decoding alone": lambda: len(list(decode)),
            "the loader alone": lambda: loaded(settings, training),
            "the bare step": lambda: steps(settings, model, batches, device),
            "an epoch of vice train": lambda: epoch(settings, training, model),
        }
        shown = MapSettings(outputs="logits", batch_size=32, device=device.type)
        passes: dict[str, Callable[[], Any]] = {
            "the bare forward pass": lambda: forward(model, test, shown),
            "vice assess, strict": lambda: table(model, test, shown),
        }
        times = measured((programs, passes), options.repeats)
        report(
            "training", len(training), times[0], "an epoch of vice train", ("decoding alone", "the bare step"), TRAINING
        )
        report("assessment", len(test), times[1], "vice assess, strict", ("the bare forward pass",), ASSESSMENT)


if __name__ == "__main__":
    main()
