"""Planted shortcuts on photographs: networks with ImageNet weights, whose truth is known.

`photographs.py DATA WEIGHTS` takes a dataset in VOC's layout with the lists `learn` and `val`, and ImageNet weights of
a timm network that is explained without gradients. Two kinds of marks at two strengths, two classes each, and the
photographs as they are: each time a linear classifier is fitted to the features of `learn`, and the photographs of
`val` are assessed and measured as `vice` does it. With `--fine-tune`, `vice train` trains the whole network instead,
and chooses its checkpoint by the list `select`. The truth is interventional: the average precision (AP) of the planted
class on `val` without the marks, and with its objects replaced. See README.md.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from bench import REPAIRS, scores, vice
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from summary import LOSS, PRECISIONS, table

import torchvice
from torchvice.data import open_dataset
from torchvice.data.filling import InterventionChoices
from torchvice.data.shortcuts import Canvas, bears, plant
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.files import read_json, write_json, write_text
from torchvice.measures import measure
from torchvice.runs import Run

KINDS, STRENGTHS = ("stripe", "frame"), (0.5, 0.95)
SPLITS = ("learn", "val", "select")  # the number of a split seeds its marks
SIDE = 224
PENALTY = 0.01  # C of the logistic regression
CONTROLS = ("random", "center", "shuffled")
# Of `vice train resnet50`: the whole photograph, three epochs of AdamW.
RECIPE: dict[str, object] = {
    "data.train_split": "learn",
    "data.selection_split": "select",
    "data.eval_split": "val",
    "data.workers": 0,
    "transform.crop": SIDE,
    "transform.view": "warp",
    "transform.resize": "null",
    "optimizer.name": "adamw",
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 0.05,
    "schedule.name": "one_cycle",
    "trainer.epochs": 3,
    "trainer.batch_size": 32,
    "assess.view_size": SIDE,
}

Features = tuple[np.ndarray, np.ndarray]  # (N, D) features, (N, C) targets


@dataclass(frozen=True)
class Case:
    """One network: `kind` None leaves the photographs as they are; `seed` and `repair` are of a training."""

    kind: str | None
    strength: float
    planted: str
    seed: int | None = None
    repair: str = "none"

    @property
    def name(self) -> str:
        """Name of its folder."""
        name = "clean" if self.kind is None else f"{self.kind}-{self.strength:g}-{self.planted}"
        name += "" if self.seed is None else f"-{self.seed}"
        return name + ("" if self.repair == "none" else f"-{self.repair}")


def cases(planted: Sequence[str], fine_tune: bool) -> list[Case]:
    """The photographs as they are, then planted ones from the strongest shortcut down; a seed for each class."""
    if not fine_tune:
        marked = [Case(kind, strength, name) for strength in STRENGTHS[::-1] for name in planted for kind in KINDS]
        return [Case(None, 0, ""), *marked]
    seeds = list(enumerate(planted))
    clean = [Case(None, 0, "", seed) for seed, _ in seeds]
    marked = [
        Case(kind, strength, name, seed) for strength in STRENGTHS[::-1] for seed, name in seeds for kind in KINDS
    ]
    repaired = [Case("frame", STRENGTHS[-1], name, seed, "both") for seed, name in seeds]
    return [*clean, *marked, *repaired]


# ---- images


def write_marked(data: Path, case: Case, out: Path, splits: Sequence[str]) -> None:
    """Copy a dataset with the mark on the photographs of the planted class, as PNG content, so that nothing is lost."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("classes.txt", "cls_labels.npy", *(f"{split}.txt" for split in splits)):
        shutil.copyfile(data / name, out / name)
    for split in splits:
        source, stream, count = open_dataset(data, split), (7, SPLITS.index(split)), 0
        label = source.classes.index(case.planted) + 1 if case.kind else 0
        for row, record in enumerate(source.records):
            pixels, labels = source.image(row).copy(), source.mask(row).copy()
            if case.kind is not None:
                has = bool(source.targets[row, label - 1])
                rng = np.random.default_rng([*stream, row])
                canvas = Canvas(pixels, labels, labels.copy(), label, min(labels.shape), rng)
                plant(case.kind, canvas, has and bears(count, case.strength, stream, SIDE))
                count += has
            for folder, array, suffix in (("JPEGImages", pixels, "jpg"), ("SegmentationClass", labels, "png")):
                (out / folder).mkdir(exist_ok=True)
                Image.fromarray(array).save(
                    out / folder / f"{record.image_id}.{suffix}", format="PNG", compress_level=1
                )


# ---- a linear classifier


def network(name: str, weights: Path, classes: int = 1000) -> torch.nn.Module:
    """The network with ImageNet weights; with other than 1000 classes the classifier is new."""
    from safetensors.torch import load_file

    model: torch.nn.Module = timm.create_model(name, num_classes=classes)
    state = load_file(weights)
    if classes != 1000:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    model.load_state_dict(state, strict=classes == 1000)
    return model.eval()


def features(model: Any, root: Path, split: str, mean: float) -> Features:
    """Features (N, D) before the classifier, and targets (N, C)."""
    data, rows = open_dataset(root, split), []
    with torch.inference_mode():
        for first in range(0, len(data.records), 32):
            places = range(first, min(first + 32, len(data.records)))
            images = [normalise(warp(data.image(row), SIDE), (mean,) * 3, (mean,) * 3) for row in places]
            rows.append(model.forward_head(model.forward_features(torch.stack(images)), pre_logits=True).numpy())
    return np.concatenate(rows), np.asarray(data.targets)


@functools.cache
def clean_features(name: str, weights: Path, data: Path, mean: float) -> np.ndarray:
    """Features (N, D) of the photographs of `val` without marks, which all classifiers share."""
    return features(network(name, weights), data, "val", mean)[0]


def fit(x: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, D) and intercepts (C,) of one logistic regression a class."""
    fits = [LogisticRegression(C=PENALTY, max_iter=2000).fit(x, column) for column in targets.T]
    return np.stack([one.coef_[0] for one in fits]), np.array([one.intercept_[0] for one in fits])


def linear(case: Case, options: argparse.Namespace, root: Path) -> tuple[Any, np.ndarray]:
    """The network with a classifier fitted to `learn`, and its logits (N, C) on `val` without marks."""
    base = network(options.model, options.weights)
    weight, bias = fit(*features(base, root, "learn", options.mean))
    model: Any = network(options.model, options.weights, len(bias))
    head = model.get_classifier()
    head.weight.data = torch.tensor(weight, dtype=torch.float32)
    head.bias.data = torch.tensor(bias, dtype=torch.float32)
    return model, clean_features(options.model, options.weights, options.data, options.mean) @ weight.T + bias


# ---- a fine-tuned network


def fine_tuned(case: Case, options: argparse.Namespace, root: Path) -> tuple[Any, np.ndarray]:
    """The network as `vice train` trains it, or goes on with it, and its logits (N, C) on `val` without marks."""
    run = options.out / "runs" / case.name
    statistics = f"[{options.mean},{options.mean},{options.mean}]"
    settings = {
        "session_name": run.name,
        "work_dir": run.parent,
        "seed": case.seed,
        "data.root": root,
        "model.name": options.model,
        "model.weights": options.weights,
        "transform.mean": statistics,
        "transform.std": statistics,
        **RECIPE,
        **{f"regularisation.{name}": value for name, value in REPAIRS[case.repair].items()},
    }
    if (run / "config.yaml").is_file():
        vice("train", run / "config.yaml", "--resume")
    else:
        vice("train", "resnet50", *(word for item in settings.items() for word in ("-o", "{}={}".format(*item))))
    opened = Run(run)
    return opened.model(), scores(run, options.data, "val")[1]


# ---- one case


def run_case(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Train, assess, measure, and compare with the truth."""
    folder = options.out / case.name
    root, started = folder / "data", time.process_time()
    write_marked(options.data, case, root, SPLITS if options.fine_tune else SPLITS[:2])
    model, clean = (fine_tuned if options.fine_tune else linear)(case, options, root)
    shutil.rmtree(folder / "table", ignore_errors=True)
    samples = torchvice.assess(
        model,
        open_dataset(root, "val"),
        out=folder / "table",
        protocols=["strict"],
        view_size=SIDE,
        mean=(options.mean,) * 3,
        std=(options.mean,) * 3,
        controls=CONTROLS,
        without=InterventionChoices(),
    )
    result = {"case": case.name, "kind": case.kind, "strength": case.strength, "planted": case.planted}
    result |= {"repair": case.repair, "precision": truth(case, samples, clean), "lost": lost(samples, clean)}
    result |= judged(samples)
    result["seconds"] = time.process_time() - started
    write_json(folder / "result.json", result)
    shutil.rmtree(root)
    return result


def judged(samples: Any) -> dict[str, Any]:
    """What the verdict says."""
    verdict = measure(samples, replicates=200).verdict
    return {
        "stands_out": list(verdict.stands_out),
        "p": verdict.power["p_by_class"],
        "sentences": verdict.sentences,
        "without_object": verdict.without_object["share"],
    }


def truth(case: Case, samples: Any, clean: np.ndarray) -> dict[str, float]:
    """AP: the mean over classes, and of the planted class with the marks, without them, and without its objects."""
    strict = samples.of_protocol("strict")
    targets, logits = strict.images.targets, strict.images.logits
    aps = [average_precision_score(t, s) for t, s in zip(targets.T, logits.T, strict=True)]
    precision = {"mean": float(np.mean(aps))}
    if case.kind is None:
        return precision
    c = samples.classes.index(case.planted)
    regions = samples.of_explanation(strict.explanation)
    own = regions.where((regions.label == c + 1) & ~np.isnan(regions.without_object))
    gone = np.concatenate([own.without_object, logits[targets[:, c] == 0, c]])
    return precision | {
        "planted": float(aps[c]),
        "without_shortcut": float(average_precision_score(targets[:, c], clean[:, c])),
        "without_object": float(average_precision_score(np.arange(len(gone)) < len(own), gone)),
    }


def lost(samples: Any, clean: np.ndarray) -> dict[str, float]:
    """By class, the AP that it loses when all photographs are without marks; negative where it gains."""
    images = samples.of_protocol("strict").images
    return {
        name: float(average_precision_score(t, with_marks) - average_precision_score(t, without))
        for name, t, with_marks, without in zip(
            samples.classes, images.targets.T, images.logits.T, clean.T, strict=True
        )
    }


def relying(row: dict[str, Any]) -> list[str]:
    """The classes that lose 0.05 AP or more without the marks, the planted one or others; none on plain photographs.

    Without its objects, context keeps the AP of many classes high.
    """
    return [name for name, fall in row["lost"].items() if row["kind"] and fall > LOSS - 1e-9]


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, one row a network."""
    lines = []
    for row in rows:
        precision = row["precision"]
        aps = [f"{precision[name]:.3f}" if name in precision else "–" for name in PRECISIONS]
        named = list(dict.fromkeys(entry["class"] for entry in row["stands_out"]))
        p = f"{row['p'].get(row['planted'], 1):.3g}" if row["kind"] else "–"
        lines.append([row["case"], f"{precision['mean']:.3f}", *aps, ", ".join(relying(row)) or "none"])
        share = "–" if row["without_object"] is None else f"{row['without_object']:.2f}"  # nothing is found
        lines[-1] += [", ".join(named) or "none", p, share, f"{row['seconds']:.0f}"]
    head = ["network", "mean AP", "AP of the class", "without the mark", "without its objects", "relying on the mark"]
    return table([*head, "named", "p of the class", "found without the object, all classes", "CPU s"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset in VOC's layout, with the lists learn and val")
    parser.add_argument("weights", type=Path, help="ImageNet weights (safetensors)")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="name in timm")
    parser.add_argument("--mean", type=float, default=0.5, help="mean and standard deviation that the weights expect")
    parser.add_argument("--planted", nargs="+", default=["dog", "sheep"], help="classes that get the mark")
    parser.add_argument("--fine-tune", action="store_true", help="train the whole network, with a list `select`")
    parser.add_argument("--one", nargs="+", help="only these networks")
    parser.add_argument("--out", type=Path, help="default: runs/shortcuts-photographs or runs/shortcuts-fine-tuned")
    options = parser.parse_args()
    name = "fine-tuned" if options.fine_tune else "photographs"
    options.out = options.out or Path("runs") / f"shortcuts-{name}"
    torch.set_num_threads(1)
    planned = cases(options.planted, options.fine_tune)
    for case in planned:
        if not (options.out / case.name / "result.json").is_file() and case.name in (options.one or [case.name]):
            run_case(case, options)
    results = [options.out / case.name / "result.json" for case in planned]
    text = summary([read_json(path) for path in results if path.is_file()])
    write_text(options.out / "summary.md", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
