"""Planted shortcuts on photographs: a linear classifier on ImageNet features, whose truth is known.

`photographs.py DATA WEIGHTS` takes a dataset in VOC's layout with the lists `learn` and `val`, and ImageNet weights of
a timm network that is explained without gradients. Two kinds of marks at two strengths, two classes each, and the
photographs as they are: each time the classifier is fitted on `learn`, the photographs of `val` are assessed and
measured as `vice` does it. The truth is interventional: the average precision (AP) of the planted class on `val`
without the marks, and with its objects replaced. See README.md.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from summary import LOSS, PRECISIONS, table

import torchvice
from torchvice.data import open_dataset
from torchvice.data.filling import InterventionChoices
from torchvice.data.shortcuts import Canvas, bears, plant
from torchvice.data.transforms import normalise, warp
from torchvice.files import read_json, write_json, write_text
from torchvice.measures import measure

KINDS, STRENGTHS = ("stripe", "frame"), (0.5, 0.95)
SIDE = 224
PENALTY = 0.01  # C of the logistic regression
CONTROLS = ("random", "center", "shuffled")

Features = tuple[np.ndarray, np.ndarray]  # (N, D) features, (N, C) targets


@dataclass(frozen=True)
class Case:
    """One classifier: `kind` None leaves the photographs as they are."""

    kind: str | None
    strength: float
    planted: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        return "clean" if self.kind is None else f"{self.kind}-{self.strength:g}-{self.planted}"


def cases(planted: tuple[str, ...]) -> list[Case]:
    """The photographs as they are, then planted ones from the strongest shortcut down."""
    marked = [Case(kind, strength, name) for strength in STRENGTHS[::-1] for name in planted for kind in KINDS]
    return [Case(None, 0, ""), *marked]


# ---- images


def write_marked(data: Path, case: Case, out: Path) -> None:
    """Copy a dataset with the mark on the photographs of the planted class, as PNG content, so that nothing is lost."""
    for name in ("classes.txt", "cls_labels.npy", "learn.txt", "val.txt"):
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / name, out / name)
    for number, split in enumerate(("learn", "val")):
        source, count = open_dataset(data, split), 0
        label = source.classes.index(case.planted) + 1 if case.kind else 0
        for row, record in enumerate(source.records):
            pixels, labels = source.image(row).copy(), source.mask(row).copy()
            if case.kind is not None:
                has = bool(source.targets[row, label - 1])
                rng = np.random.default_rng([7, number, row])
                size = min(labels.shape)
                canvas = Canvas(pixels, labels, labels.copy(), label, size, rng)
                plant(case.kind, canvas, has and bears(count, case.strength, (7, number), SIDE))
                count += has
            for folder, array, suffix in (("JPEGImages", pixels, "jpg"), ("SegmentationClass", labels, "png")):
                (out / folder).mkdir(exist_ok=True)
                Image.fromarray(array).save(
                    out / folder / f"{record.image_id}.{suffix}", format="PNG", compress_level=1
                )


# ---- the network


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


def fit(x: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, D) and intercepts (C,) of one logistic regression a class."""
    fits = [LogisticRegression(C=PENALTY, max_iter=2000).fit(x, column) for column in targets.T]
    return np.stack([one.coef_[0] for one in fits]), np.array([one.intercept_[0] for one in fits])


# ---- one case


def run_case(
    case: Case, options: argparse.Namespace, clean: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Fit, assess, measure, and compare with the truth."""
    folder = options.out / case.name
    root, started = folder / "data", time.process_time()
    write_marked(options.data, case, root)
    base = network(options.model, options.weights)
    marked = {split: features(base, root, split, options.mean) for split in ("learn", "val")} if case.kind else clean
    weight, bias = fit(*marked["learn"])
    model: Any = network(options.model, options.weights, len(bias))
    head = model.get_classifier()
    head.weight.data = torch.tensor(weight, dtype=torch.float32)
    head.bias.data = torch.tensor(bias, dtype=torch.float32)
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
    verdict = measure(samples, replicates=200).verdict
    result = {"case": case.name, "kind": case.kind, "strength": case.strength, "planted": case.planted}
    result |= {"precision": truth(case, samples, clean["val"], marked["val"], weight, bias)}
    result |= {"stands_out": list(verdict.stands_out), "p": verdict.power["p_by_class"], "sentences": verdict.sentences}
    result["without_object"] = verdict.without_object["share"]
    result["seconds"] = time.process_time() - started
    write_json(folder / "result.json", result)
    shutil.rmtree(root)
    return result


def truth(
    case: Case, samples: Any, clean: Features, marked: Features, weight: np.ndarray, bias: np.ndarray
) -> dict[str, float]:
    """AP: the mean over classes, and of the planted class with the marks, without them, and without its objects."""
    targets = marked[1]
    logits = marked[0] @ weight.T + bias
    precision = {
        "mean": float(np.mean([average_precision_score(t, s) for t, s in zip(targets.T, logits.T, strict=True)]))
    }
    if case.kind is None:
        return precision
    c = samples.classes.index(case.planted)
    bare = clean[0] @ weight.T + bias
    regions, images = samples.of_explanation(samples.of_protocol("strict").explanation), samples.images
    own = regions.where((regions.label == c + 1) & ~np.isnan(regions.without_object))
    negatives = images.logits[images.targets[:, c] == 0, c]
    scores = np.concatenate([own.without_object, negatives])
    gone = average_precision_score(np.arange(len(scores)) < len(own), scores)
    return precision | {
        "planted": float(average_precision_score(targets[:, c], logits[:, c])),
        "without_shortcut": float(average_precision_score(targets[:, c], bare[:, c])),
        "without_object": float(gone),
    }


def relies(row: dict[str, Any]) -> bool:
    """Whether the class loses 0.05 AP or more without the mark. Without its objects context keeps many APs high."""
    return bool(row["precision"]["planted"] - row["precision"]["without_shortcut"] > LOSS - 1e-9)


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, one row a classifier."""
    lines = []
    for row in rows:
        precision = row["precision"]
        aps = [f"{precision[name]:.3f}" if name in precision else "–" for name in PRECISIONS]
        named = list(dict.fromkeys(entry["class"] for entry in row["stands_out"]))
        p = f"{row['p'].get(row['planted'], 1):.3g}" if row["kind"] else "–"
        lines.append([row["case"], f"{precision['mean']:.3f}", *aps, "yes" if row["kind"] and relies(row) else "no"])
        lines[-1] += [", ".join(named) or "none", p, f"{row['without_object']:.2f}", f"{row['seconds']:.0f}"]
    head = ["classifier", "mean AP", "AP of the class", "without the mark", "without its objects", "relies on it"]
    return table([*head, "named", "p of the class", "found without the object, all classes", "CPU s"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset in VOC's layout, with the lists learn and val")
    parser.add_argument("weights", type=Path, help="ImageNet weights (safetensors)")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="name in timm")
    parser.add_argument("--mean", type=float, default=0.5, help="mean and standard deviation that the weights expect")
    parser.add_argument("--planted", nargs="+", default=["dog", "sheep"], help="classes that get the mark")
    parser.add_argument("--out", type=Path, default=Path("runs/shortcuts-photographs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = network(options.model, options.weights)
    clean = {split: features(base, options.data, split, options.mean) for split in ("learn", "val")}
    rows = []
    for case in cases(tuple(options.planted)):
        done = options.out / case.name / "result.json"
        rows.append(read_json(done) if done.is_file() else run_case(case, options, clean))
        text = summary(rows)
        write_text(options.out / "summary.md", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
