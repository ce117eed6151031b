"""The recipes of the study of photographs, one factor at a time around a fine-tuned network, and their order.

Two studies in the format of docs/studies.md are written into the study's folder: `voc8/study.yaml`, eight classes of
PASCAL VOC with four factors, and `clothing/study.yaml`, garments, with the base recipe and two variants.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from torchvice.config import Settings
from torchvice.errors import ViceError
from torchvice.files import write_text
from torchvice.study import Study, load_study
from torchvice.study.plan import PlannedRun

LITE0, LITE1, LITE2 = (f"tf_efficientnet_lite{number}" for number in range(3))
SEEDS = (1, 2, 3)
# Pixels and epochs of the base: small, so that two cores can finish the study; the axis `view` has the 224 of ImageNet.
VIEW, EPOCHS = 160, 4
# Beside CAM: another use of the same layer and, on voc8, another family of methods.
METHODS = {"voc8": ("layercam", "saliency"), "clothing": ("layercam",)}
SELECT = 100  # clothing: images of its list `train` that choose the checkpoint
CONTINUED, BATCH = "byol", 64  # ImageNet's weights go on so on the same images, without labels; 128 images take 14 GB


@dataclass(frozen=True)
class Options:
    """Where data and weights lie, where the study goes, and its size.

    `images`: of each list, the first so many; None: all. `epochs`: of the base recipe on voc8.
    """

    data: Path
    weights: Path
    out: Path
    device: str = "cpu"
    workers: int = 0
    epochs: int = EPOCHS
    images: int | None = None
    seeds: tuple[int, ...] = SEEDS

    def weights_of(self, network: str) -> str:
        """The file of a network's ImageNet weights."""
        found = sorted(self.weights.glob(f"{network}*.safetensors"))
        if len(found) > 1:
            raise ViceError(f"{self.weights} must hold one file {network}*.safetensors, but holds {len(found)}.")
        return str(found[0] if found else self.weights / f"{network}.safetensors")

    def continued(self) -> Path:
        """The folder of the continued pre-training."""
        return self.out / CONTINUED


def common(options: Options, name: str, splits: dict[str, str], epochs: int) -> dict[str, Any]:
    """Settings that all runs on a dataset share."""
    return {
        "data.root": str(options.data / name),
        **{f"data.{use}_split": split for use, split in splits.items()},
        "data.workers": options.workers,
        "model.name": LITE0,
        "model.weights": options.weights_of(LITE0),
        "transform.crop": VIEW,  # for every network, so that the architecture alone differs
        "trainer.epochs": epochs,
        "trainer.accelerator": "gpu" if options.device == "cuda" else "cpu",
        "trainer.precision": "bf16-mixed" if options.device == "cuda" else "32-true",
        "assess.batch_size": 32 if options.device == "cuda" else 16,
    }


def from_scratch(epochs: int) -> dict[str, Any]:
    """Settings of a network that starts from random weights: one rate for all of it, and more epochs."""
    rate = {"optimizer.lr": 2e-3, "optimizer.backbone_lr": None}
    return {"model.weights": None, "model.pretrained": False, "trainer.epochs": 2 * epochs, **rate}


def probe() -> dict[str, Any]:
    """Settings of a linear probe: ImageNet's features stay as they are."""
    return {"model.linear_probe": True, "optimizer.lr": 3e-3, "optimizer.backbone_lr": None}


def as_published() -> dict[str, Any]:
    """Settings of the paper's recipe for convolutional networks, its preset `resnet50`, scaled to the view."""
    return {
        "transform.view": "crop",
        "transform.resize": [448 * VIEW // 224, 768 * VIEW // 224],
        "transform.jitter": [0.3, 0.3, 0.3, 0.1],
        "optimizer.name": "sgd",
        "optimizer.lr": 0.01,
        "optimizer.backbone_lr": None,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "schedule.warmup": 0.05,
        "regularisation.decay_norms": True,
        "regularisation.ema": 0.0,
        "trainer.batch_size": 16,
    }


def voc8(options: Options) -> dict[str, Any]:
    """The study of eight classes of VOC."""
    splits = listed(options, "voc8", {"train": "learn", "selection": "select", "eval": "val"})
    axes = {
        "architecture": {
            "lite0": {},
            "lite1": {"model.name": LITE1, "model.weights": options.weights_of(LITE1)},
            "lite2": {"model.name": LITE2, "model.weights": options.weights_of(LITE2)},
            "resnet18_from_scratch": {"model.name": "resnet18", **from_scratch(options.epochs)},
        },
        "pretraining": {
            "imagenet": {},
            "linear_probe": probe(),
            "none": from_scratch(options.epochs),
            "imagenet_then_byol": {"model.weights": str(options.continued() / "weights.safetensors")},
        },
        "regularisation": {
            "base": {},
            "weight_decay": {"optimizer.weight_decay": 5.0},
            "dropout": {"regularisation.dropout": 0.5},
            "label_smoothing": {"regularisation.label_smoothing": 0.1},
            "cutmix": {"regularisation.cutmix": 1.0},
            "randaugment": {"regularisation.randaugment": [2, 9]},
            "early_stopping": {"regularisation.patience": 1},
            "no_ema": {"regularisation.ema": 0.0},
        },
        "view": {str(VIEW): {}, **{str(size): {"transform.crop": size} for size in (128, 224)}},
        "recipe": {"finetune": {}, "paper": as_published()},
    }
    return study_of(options, "voc8", common(options, "voc8", splits, options.epochs), axes)


def clothing(options: Options) -> dict[str, Any]:
    """The study of garments: the base recipe, and the two variants that change a network most and least."""
    splits = listed(options, "clothing", {"train": "learn", "selection": "select", "eval": "val"})
    # Fewer images than voc8: more epochs give about as many steps.
    settings = common(options, "clothing", splits, 2 * options.epochs)
    axes = {"recipe": {"base": {}, "linear_probe": probe(), "cutmix": {"regularisation.cutmix": 1.0}}}
    return study_of(options, "clothing", settings, axes)


def study_of(options: Options, name: str, settings: dict[str, Any], axes: dict[str, Any]) -> dict[str, Any]:
    """A study's file."""
    return {
        "base": "finetune",
        "name": name,
        "folder": str(options.out / name),
        "one_at_a_time": True,
        "compare": "base",
        "seeds": list(options.seeds),
        "settings": settings,
        "axes": axes,
        "measure": {"also": list(METHODS[name]), "without": ["none"]},
    }


def listed(options: Options, name: str, lists: dict[str, str]) -> dict[str, str]:
    """The list of each use: the data's own, or one in the study's folder, where they lack it or it is shortened."""
    root, folder = options.data / name, options.out / name / "lists"
    found = {}
    for use, split in lists.items():
        own = root / f"{split}.txt"
        if own.is_file() and options.images is None:
            found[use] = split
            continue
        lines = own.read_text().split() if own.is_file() else drawn(root, split)
        found[use] = str(write_text(folder / f"{split}.txt", "\n".join(lines[: options.images]) + "\n"))
    return found


def drawn(root: Path, split: str) -> list[str]:
    """The images of `learn` or `select` where the data have `train` only: SELECT of them choose the checkpoint."""
    lines = (root / "train.txt").read_text().split()
    chosen = set(random.Random(0).sample(lines, SELECT))
    return [line for line in lines if (line in chosen) == (split == "select")]


STUDIES = {"voc8": voc8, "clothing": clothing}


def written(options: Options) -> dict[str, Study]:
    """Write the studies' files, and plan their runs."""
    studies = {}
    for name, made in STUDIES.items():
        text = yaml.safe_dump(made(options), sort_keys=False, width=110)
        studies[name] = load_study(write_text(options.out / name / "study.yaml", text))
    return studies


def kept(out: Path) -> dict[str, Study]:
    """The studies whose files lie in a folder."""
    files = {name: out / name / "study.yaml" for name in STUDIES}
    return {name: load_study(file, folder=file.parent) for name, file in files.items() if file.is_file()}


def pretraining(study: Study, options: Options) -> Settings:
    """Settings of the continued pre-training: the base's network, weights and images."""
    base = next(run for run in study.runs if run.levels == study.base).settings
    # Its views need many times the work of other transforms: processes of their own make them.
    workers = 0 if options.device == "cpu" else 5
    size = min(BATCH, (options.images or 4 * BATCH) // 4)
    return base.model_copy(
        update={
            "seed": study.seeds[0],
            "data": base.data.model_copy(update={"workers": workers}),
            "trainer": base.trainer.model_copy(update={"batch_size": size, "epochs": 2 * options.epochs}),
        }
    )


def ordered(studies: Iterable[Study]) -> list[tuple[Study, PlannedRun]]:
    """The runs of each study: the base, then recipe by recipe with all seeds, since a finished recipe is kept."""
    runs = [(place, study, run) for place, study in enumerate(studies) for run in study.runs]

    def worth(item: tuple[int, Study, PlannedRun]) -> tuple[int, bool, bool, int, int]:
        place, study, run = item
        recipes = list(dict.fromkeys(other.recipe for other in study.runs))
        waits = "imagenet_then_byol" in run.levels.values()  # for the pre-training
        return place, run.levels != study.base, waits, recipes.index(run.recipe), study.seeds.index(run.seed)

    return [(study, run) for _, study, run in sorted(runs, key=worth)]
