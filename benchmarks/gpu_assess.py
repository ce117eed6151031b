"""Made JPEGs with masks, and the images a second of an assessment and of a bare forward pass over them.

`gpu.py` runs this as its last section.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from torchvice.assessment import MapSettings, Part, assess
from torchvice.assessment.headline import count_headlines
from torchvice.assessment.images import read_ahead
from torchvice.assessment.parts import WHOLE
from torchvice.assessment.rows import Rows
from torchvice.assessment.views import views_of
from torchvice.data.images import read_image, read_mask
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain.precision import autocast, laid_out
from torchvice.samples import ShardFolder

HEIGHT, WIDTH, CLASSES, DIFFERENT = 375, 500, 20, 128
# The manifest is read with pydantic. Without it the same shards are written by the same code, but no manifest, and the
# files are not digested.
COMPLETE = importlib.util.find_spec("pydantic") is not None
PATH = "the whole of assess" if COMPLETE else "assess without manifest and digests: pydantic is not installed"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Record:
    """An image of the made dataset."""

    image_id: str
    image: Path
    mask: Path


class Jpegs:
    """`count` images of VOC's size in a folder, by number; each has the one or two labels of its mask."""

    classes = tuple(f"class{number}" for number in range(CLASSES))

    def __init__(self, root: Path, count: int) -> None:
        self.records = [Record(f"{i:06d}", root / f"{i:06d}.jpg", root / f"{i:06d}.png") for i in range(count)]
        self.targets = np.zeros((count, CLASSES), np.uint8)
        for index in range(count):
            self.targets[index, labels_of(index)] = 1

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        return read_image(self.records[index].image)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) labels."""
        return read_mask(self.records[index].mask)


class Views(torch.utils.data.Dataset):
    """The images as `assess` shows them: (3, side, side), normalised. With `masks` the masks are read, too."""

    def __init__(self, jpegs: Jpegs, side: int, masks: bool) -> None:
        self.jpegs, self.side, self.masks = jpegs, side, masks

    def __len__(self) -> int:
        return len(self.jpegs)

    def __getitem__(self, index: int) -> torch.Tensor:
        torch.set_num_threads(1)
        if self.masks:
            self.jpegs.mask(index)
        return normalise(warp(self.jpegs.image(index), self.side), MEAN, STD)


def labels_of(index: int) -> list[int]:
    """The one or two labels of an image; the same for images with the same pixels."""
    return np.random.default_rng(index % DIFFERENT).choice(CLASSES, 1 + index % 2, replace=False).tolist()


def write_image(root: Path, index: int) -> None:
    """One image with texture, and a mask of ellipses with a void rim."""
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    noisy = np.asarray(coarse, np.int16) + rng.integers(-12, 13, (HEIGHT, WIDTH, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / f"{index:06d}.jpg", quality=90)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label in labels_of(index):
        centre, radii = rng.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH), rng.uniform(0.1, 0.4, 2) * (HEIGHT, WIDTH)
        distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
        mask[distance < 1.03] = 255
        mask[distance < 1] = label + 1
    picture = Image.fromarray(mask).convert("P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(root / f"{index:06d}.png")


def write_jpegs(root: Path, count: int, processes: int) -> Jpegs:
    """Write the images: 128 different ones, and links to them."""
    own = min(count, DIFFERENT)
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(write_image, [root] * own, range(own)))
    else:
        for index in range(own):
            write_image(root, index)
    for index in range(own, count):
        for kind in ("jpg", "png"):
            os.link(root / f"{index % own:06d}.{kind}", root / f"{index:06d}.{kind}")
    return Jpegs(root, count)


def forward_rate(jpegs: Jpegs, setting: dict[str, Any], workers: int, masks: bool) -> float:
    """Images a second of a bare forward pass, read by the worker processes of a DataLoader; start-up is not counted."""
    model = network(setting)
    loader = torch.utils.data.DataLoader(
        Views(jpegs, setting["side"], masks),
        batch_size=setting["batch"],
        num_workers=workers,
        pin_memory=setting["device"] != "cpu",
        persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,
    )
    begin, rate = 0.0, 0.0
    for _ in range(2):  # the first round starts the workers
        begin, outputs = time.perf_counter(), []
        with torch.inference_mode(), autocast(setting["precision"], setting["device"]):
            for images in loader:
                shown = laid_out(images.to(setting["device"], non_blocking=True), setting["channels_last"])
                outputs.append(model(shown).float())
        torch.cat(outputs).cpu()
        rate = len(jpegs) / (time.perf_counter() - begin)
    return rate


def network(setting: dict[str, Any]) -> torch.nn.Module:
    """The network with random weights, on the device."""
    torch.manual_seed(0)
    made: torch.nn.Module = timm.create_model(setting["network"], pretrained=False, num_classes=CLASSES)
    return made.eval().to(setting["device"])


def assess_part(
    jpegs: Jpegs, setting: dict[str, Any], folder: Path, workers: int, part: Part = WHOLE, count: int | None = None
) -> None:
    """Assess the images of a part, or the first few, under `strict`."""
    given = jpegs if count is None else Jpegs(jpegs.records[0].image.parent, count)
    how: dict[str, Any] = {"view_size": setting["side"], "mean": MEAN, "std": STD, "batch_size": setting["batch"]}
    how |= {name: setting[name] for name in ("method", "device", "precision", "channels_last")}
    if COMPLETE:
        run = {"protocols": ("strict",), "part": part, "workers": workers, "progress": False}
        assess(setting["model"], given, out=folder, **run, **how)
        return
    views, shards = views_of(setting["model"], ("strict",), MapSettings(**how)), ShardFolder(folder)
    folder.mkdir(exist_ok=True)
    for batch in read_ahead(given, part.images(len(given), 128), workers):
        rows = Rows()
        count_headlines(views, batch, rows, False, lambda: None)
        shards.append(rows.images(), rows.regions(), rows.maps(), part.shards)


def _process(index: int, count: int, root: Path, images: int, setting: dict[str, Any], barrier: Any, told: Any) -> None:
    """A process of an assessment: it starts, warms up, waits for the others, and works."""
    try:
        torch.set_num_threads(1)
        setting = {**setting, "model": network(setting)}
        jpegs = Jpegs(root / "images", images)
        with tempfile.TemporaryDirectory() as warm:
            assess_part(jpegs, setting, Path(warm), 1, count=min(images, 2 * setting["batch"]))
        barrier.wait(timeout=120)
        begin = time.time()
        assess_part(jpegs, setting, root / f"table-{count}", 1, Part(index, count))
        told.put((begin, time.time(), ""))
    except Exception:
        told.put((0.0, 0.0, traceback.format_exc(limit=-3)))
        barrier.abort()


def assess_rate(root: Path, images: int, setting: dict[str, Any], processes: int) -> float:
    """Images a second of an assessment by several processes on one device; start-up is not counted.

    Raises:
        RuntimeError: a process failed.
    """
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(processes), context.Queue()
    shared = (processes, root, images, setting, barrier, told)
    running = [context.Process(target=_process, args=(index, *shared), daemon=True) for index in range(processes)]
    for process in running:
        process.start()
    try:
        ends = [told.get(timeout=240) for _ in running]
    finally:
        for process in running:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
    failed = [reason for _, _, reason in ends if reason and "BrokenBarrier" not in reason]
    if failed:
        raise RuntimeError(failed[0])
    return images / (max(end for _, end, _ in ends) - min(begin for begin, _, _ in ends))
