"""torchvice and `bnnr analyze` on the same checkpoints and images: time, memory, what each writes, what each names.

`python benchmarks/bnnr.py --bnnr PYTHON` draws digits, one in each image, twice: as they are, and with a stripe in the
corner of 95 % of the images with a 7. On each it trains two small networks: the only one that the command line of bnnr
builds for a folder of images, and the one of `vice demo`, which bnnr takes in Python. Both tools then read the same
checkpoint and the same folder, with their default settings; torchvice also reads the masks. PYTHON is an interpreter
that has bnnr. Each tool runs in processes of its own, and the runs alternate. See README.md for the result.
"""

# torchvice and the other interpreter import this file for its networks, so functions import the rest where they use it.
from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

DIGIT = 7  # the planted class
PACKAGE = "bnnr"
IMAGES: dict[str, dict[str, Any]] = {"clean": {}, "stripe": {"shortcut": DIGIT}}
MAPS = ("background_focus_suspected", "artifact_focus_suspected", "low_xai_quality")  # bnnr's findings on maps
THIS = Path(__file__).resolve()
# The other interpreter reads this file under another name, because it is called like the package.
IN_PYTHON = (
    "import importlib.util as u, sys; s = u.spec_from_file_location('bench', sys.argv[1]); "
    "m = u.module_from_spec(s); sys.modules['bench'] = m; s.loader.exec_module(m); m.analyze(*sys.argv[2:])"
)


# ---- the networks; both take pixels on [0, 1]


class SmallNetwork(nn.Module):
    """Three convolutions and two linear layers for 64 pixels, with the names that `bnnr analyze` loads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        for number, (before, after) in enumerate(pairwise((3, 32, 64, 128)), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, 3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.relu, self.pool, self.dropout = nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
        self.fc1, self.fc2 = nn.Linear(128 * 8 * 8, 256), nn.Linear(256, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, 3, 64, 64)."""
        for number in (1, 2, 3):
            convolved = self.get_submodule(f"conv{number}")(images)
            images = self.pool(self.relu(self.get_submodule(f"bn{number}")(convolved)))
        return self.fc2(self.dropout(self.relu(self.fc1(images.flatten(1)))))


def small() -> nn.Module:
    """The network that the command line of bnnr builds for a folder of images."""
    return SmallNetwork(10)


def demo() -> nn.Module:
    """The network of `vice demo`: a ResNet-18 of a quarter of the usual width."""
    import timm

    return timm.create_model("resnet18", channels=[16, 32, 64, 128], output_stride=16, num_classes=10)


@dataclass(frozen=True)
class Network:
    """How a network is made, the side of its images, and whether the command line of bnnr takes it."""

    make: Callable[[], nn.Module]
    side: int
    command_line: bool


NETWORKS = {"small": Network(small, 64, True), "demo": Network(demo, 96, False)}


def train(network: Network, images: np.ndarray, labels: np.ndarray, epochs: int, weights: Path) -> nn.Module:
    """Train from scratch on images (N, 3, S, S) of bytes with labels (N,), write the state_dict, return the network."""
    torch.manual_seed(0)
    model = network.make().train()
    steps = -(-len(images) // 32) * epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(32):
            logits = model(torch.from_numpy(images[rows.numpy()]) / 255)
            nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows.numpy()])).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    torch.save(model.state_dict(), weights)
    return model.eval()


@torch.inference_mode()
def answers(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """The likeliest class (N,) of images (N, 3, S, S) of bytes."""
    parts = [model(torch.from_numpy(images[start : start + 64]) / 255) for start in range(0, len(images), 64)]
    return torch.cat(parts).argmax(1).numpy()


# ---- the images: a folder for each class, as both tools read it


def write_folders(folder: Path, train: int, test: int, **planted: Any) -> Path:
    """Write train/, val/ and masks/ (of val/) with a sub-folder for each digit; return `folder`."""
    from torchvice.data.digits import write_digits

    with tempfile.TemporaryDirectory() as name:
        root = write_digits(Path(name) / "digits", train=train, val=1, test=test, size=96, single=True, **planted)
        for source, target in (("train", "train"), ("test", "val")):
            for image in sorted((root / "VOC2012" / "JPEGImages").glob(f"{source}_*.jpg")):
                mask = root / "VOC2012" / "SegmentationClass" / f"{image.stem}.png"
                values = np.asarray(Image.open(mask))
                digit = str(int(values[(values > 0) & (values < 255)][0]) - 1)
                for file, parent in ((image, folder / target), (mask, folder / "masks")):
                    if target == "val" or file is image:
                        (parent / digit).mkdir(parents=True, exist_ok=True)
                        shutil.copy(file, parent / digit)
    return folder


def read_folder(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, S, S) of bytes and labels (N,) of a folder with a sub-folder for each digit."""
    files = sorted(folder.glob("*/*.jpg"))
    images = [Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for file in files]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]), np.array(
        [int(file.parent.name) for file in files]
    )


def read_without_digits(folder: Path, side: int) -> np.ndarray:
    """The images (N, 3, S, S) of val/ in which the digit and 5 pixels around it have the mean colour of the rest."""
    from scipy.ndimage import binary_dilation

    images = []
    for file in sorted((folder / "val").glob("*/*.jpg")):
        pixels = np.array(Image.open(file).convert("RGB"))
        mask = np.asarray(Image.open(folder / "masks" / file.parent.name / f"{file.stem}.png")) > 0
        gone = binary_dilation(mask, iterations=5)
        pixels[gone] = pixels[~gone].mean(0)
        images.append(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


# ---- the tools


def analyze(name: str, weights: str, data: str, out: str) -> None:
    """What the documentation of bnnr advises for a network of one's own; runs in the interpreter that has bnnr."""
    from bnnr import SimpleTorchAdapter, analyze_model
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    class Indexed(ImageFolder):
        def __getitem__(self, index: int) -> tuple[Any, Any, int]:
            return *super().__getitem__(index), index

    network = NETWORKS[name]
    view = transforms.Compose([transforms.Resize((network.side, network.side)), transforms.ToTensor()])
    model = network.make()
    model.load_state_dict(torch.load(weights, weights_only=True))
    adapter = SimpleTorchAdapter(
        model,
        nn.CrossEntropyLoss(),
        torch.optim.Adam(model.parameters()),  # asked for, and not used by an analysis
        target_layers=[model.get_submodule("layer4.1")],  # the last block, as in its examples
        device="cpu",
    )
    loader = DataLoader(Indexed(str(Path(data) / "val"), transform=view), batch_size=64)
    report = analyze_model(adapter, loader, device="cpu", output_dir=out)
    report.to_html(Path(out) / "report.html", artifact_root=out)


def bnnr_commands(python: str, name: str, weights: Path, data: Path, out: Path) -> list[list[str]]:
    """`bnnr analyze`, or its function in Python for a network that the command line does not build."""
    if NETWORKS[name].command_line:
        words = ["-m", "bnnr", "analyze", "--model", weights, "--data", data, "--output", out, "--device", "cpu"]
    else:
        words = ["-c", IN_PYTHON, THIS, name, weights, data, out]
    return [[python, *map(str, words)]]


def vice_commands(name: str, weights: Path, data: Path, out: Path, *more: str) -> list[list[str]]:
    """`vice assess`, `vice measure` and `vice report`."""
    network = NETWORKS[name]
    side = str(network.side)
    given = ["--model", f"{THIS}:{name}", "--weights", weights, "--images", data / "val", "--masks", data / "masks"]
    given += ["--mean", "0,0,0", "--std", "1,1,1", "--view-size", side, "--crop", side, "--device", "cpu"]
    steps = [["assess", *given, *more, "--out", out], ["measure", out], ["report", out]]
    return [[sys.executable, "-m", "torchvice.cli", *map(str, step)] for step in steps]


@dataclass(frozen=True)
class Cost:
    """Seconds, CPU seconds and peak MB of the commands of one tool."""

    wall: float
    cpu: float
    peak: float


def timed(commands: Sequence[Sequence[str]], out: Path) -> Cost:
    """Run commands one after the other, as a user does; what they print goes to a file next to `out`."""
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.with_suffix(".txt")
    start, cpu, peak = time.perf_counter(), 0.0, 0.0
    with log.open("w", encoding="utf-8") as lines:
        for command in commands:
            process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, cwd=out.parent)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if status:
                last = log.read_text(encoding="utf-8").strip().splitlines()[-8:]
                sys.exit("\n".join([f"This command failed: {' '.join(command)}", *last]))
            cpu += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss * 1024 / 1e6)
    return Cost(time.perf_counter() - start, cpu, peak)


# ---- what each tool says


@dataclass(frozen=True)
class Answer:
    """What a tool names: by finding, the classes; all that it says, a line each; and its accuracy in per cent."""

    names: dict[str, list[str]]
    says: list[str]
    accuracy: float


def read_bnnr(report: Mapping[str, Any]) -> Answer:
    """The findings of analysis_report.json with their classes, and the classes of the lowest XAI quality."""
    names, says = {}, []
    for finding in report["findings"]:
        classes = sorted(map(str, finding["class_ids"]))
        says.append(f"{finding['title']}: {short(classes)}")
        if finding["finding_type"] in MAPS:
            names[finding["title"]] = classes
    lowest = sorted((entry["quality_score"], c) for c, entry in report["xai_diagnoses"].items())[:3]
    says.append("lowest XAI quality: " + ", ".join(f"{c} ({quality:.2f})" for quality, c in lowest))
    # Not its accuracy, which is a mean over batches: the last batch is smaller.
    counts = np.asarray(report["confusion"]["matrix"])
    return Answer(names, says, 100 * float(counts.trace() / counts.sum()))


def read_vice(measures: Mapping[str, Any]) -> Answer:
    """The verdict of measures.json."""
    verdict = measures["verdict"]
    classes = list(dict.fromkeys(entry["class"] for entry in verdict["stands_out"]))  # the clearest first
    names = {"Stands out": classes} if classes else {}
    return Answer(names, list(verdict["sentences"]), 100 * measures["strict"]["ml_accuracy"])


READERS = {"bnnr": ("analysis_report.json", read_bnnr), "torchvice": ("measures.json", read_vice)}


def short(classes: Sequence[str]) -> str:
    """`1, 7`, `no class`, or `all ten`."""
    return "all ten" if len(classes) == 10 else ", ".join(classes) or "no class"


def written(folder: Path) -> tuple[int, float, float]:
    """Number of files in a folder, their MB, and those of its report.html."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return len(files), sum(file.stat().st_size for file in files) / 1e6, (folder / "report.html").stat().st_size / 1e6


HEAD = """| network | images | tool | s | CPU s | peak MB | writes, MB in files | its page, MB | names |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"""


def row(network: str, images: str, tool: str, costs: Sequence[Cost], out: Path, answer: Answer) -> str:
    """A row of the table: medians over the runs."""
    wall, cpu, peak = (statistics.median(getattr(cost, part) for cost in costs) for part in ("wall", "cpu", "peak"))
    files, total, page = written(out)
    named = "; ".join(f"{title}: {short(classes)}" for title, classes in answer.names.items()) or "none"
    cells = [network, images, tool, f"{wall:.0f}", f"{cpu:.0f}", f"{peak:.0f}", f"{total:.1f} in {files}"]
    return f"| {' | '.join([*cells, f'{page:.1f}', named])} |"


# ---- the bench


def versions_of(python: str) -> str:
    """The versions of bnnr and torch that an interpreter has; end with a sentence if it has no bnnr."""
    ask = f"from importlib.metadata import version; print({PACKAGE!r}, version({PACKAGE!r}), 'torch', version('torch'))"
    try:
        reply = subprocess.run([python, "-c", ask], capture_output=True, text=True, cwd=tempfile.gettempdir())
    except OSError as error:
        sys.exit(f"--bnnr must name a Python interpreter, but {python} cannot be run: {error.strerror}.")
    if reply.returncode:
        sys.exit(f"No bnnr found by {python}. `pip install bnnr timm` in an environment, and name its Python: --bnnr.")
    return reply.stdout.strip()


def of_digit(right: np.ndarray, labels: np.ndarray) -> str:
    """How many images of the planted class are right."""
    own = right[labels == DIGIT]
    return f"{own.sum()} of {len(own)} images with a {DIGIT}"


def run_both(
    name: str, weights: Path, data: Path, home: Path, python: str, repeats: int
) -> tuple[list[str], list[str]]:
    """Run the tools in turn on one checkpoint; the rows of the table, and what the tools say."""
    from torchvice.files import read_json

    makers = {"bnnr": partial(bnnr_commands, python), "torchvice": vice_commands}
    costs: dict[str, list[Cost]] = {tool: [] for tool in makers}
    for _ in range(repeats):
        for tool, commands in makers.items():
            costs[tool].append(timed(commands(name, weights, data, home / tool), home / tool))
    rows, said = [], []
    for tool, (file, reader) in READERS.items():
        answer = reader(read_json(home / tool / file))
        rows.append(row(name, data.name, tool, costs[tool], home / tool, answer))
        said += [f"  {tool} ({answer.accuracy:.1f} % right):", *(f"    {line}" for line in answer.says)]
    return rows, said


def bench(home: Path, python: str, options: argparse.Namespace) -> None:
    """Draw, train, run both tools, and print the table and what each says."""
    rows, said = [], []
    write = partial(write_folders, train=options.train, test=options.test)
    folders = [write(home / name, **IMAGES[name]) for name in options.images]
    unmarked = write_folders(home / "unmarked", 1, options.test, shortcut=DIGIT, without_shortcut=True)
    for name in options.networks:
        side = NETWORKS[name].side
        for data in folders:
            case, weights = home / f"{name}-{data.name}", home / f"{name}-{data.name}.pt"
            model = train(NETWORKS[name], *read_folder(data / "train", side), options.epochs, weights)
            images, labels = read_folder(data / "val", side)
            said.append(f"\n{name}, {data.name}: right in {of_digit(answers(model, images) == labels, labels)}")
            if data.name == "stripe":
                images, labels = read_folder(unmarked / "val", side)
                said[-1] += f", without the stripe in {of_digit(answers(model, images) == labels, labels)}"
            bare = answers(model, read_without_digits(data, side))
            likeliest = np.bincount(bare, minlength=10).argmax()
            said[-1] += f"; without the digit, {likeliest} in {(bare == likeliest).sum()} of {len(bare)}"
            found, lines = run_both(name, weights, data, case, python, options.repeats)
            print(*found, sep="\n", file=sys.stderr, flush=True)
            rows, said = rows + found, said + lines
    print(HEAD, *rows, *said, sep="\n")


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bnnr", metavar="PYTHON", default=sys.executable, help="interpreter that has bnnr and timm")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: both")
    parser.add_argument("--images", nargs="+", choices=IMAGES, default=list(IMAGES), help="default: both")
    parser.add_argument("--train", type=int, default=2000, help="number of training images")
    parser.add_argument("--test", type=int, default=400, help="number of images that the tools read")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each tool; medians are printed")
    parser.add_argument("--keep", type=Path, help="new folder in which images, networks and outputs stay")
    return parser.parse_args()


def main() -> None:
    """Print the versions, and run the bench in a temporary folder or in that of `--keep`."""
    from machine import processor

    import torchvice

    options = parsed()
    # Absolute, but not resolved: the Python of an environment is a link to the one it was made with.
    python = os.path.abspath(found) if (found := shutil.which(options.bnnr)) else options.bnnr
    theirs = versions_of(python)
    print(f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; median of {options.repeats}")
    print(f"torchvice {torchvice.__version__}, torch {torch.__version__}; {theirs}; {options.test} images", flush=True)
    with tempfile.TemporaryDirectory(prefix="beside-") as temporary:
        bench((options.keep or Path(temporary)).resolve(), python, options)


if __name__ == "__main__":
    main()
