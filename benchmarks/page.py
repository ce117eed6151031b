"""The page: its size, the time to write it and to load it, for 1,500 and 50,000 images, against a folder of PNGs.

Photographs are crops, made on demand, of the two in scikit-learn; the table is random.
Needs chromium for the browser's times.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import processor

from torchvice.interop import bilinear
from torchvice.measures import measure
from torchvice.report import Shown, cases_of, write_page
from torchvice.report.style import HEAT
from torchvice.samples import HISTOGRAM_BINS, Images, Maps, Regions, Samples

HEIGHT, WIDTH, CLASSES, SIDE = 375, 500, 20, 12
THRESHOLDS = np.arange(60) / 100
CHROMIUM = shutil.which("chromium")
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TARGETS = {1_500: (25e6, 3.0), 50_000: (60e6, None)}  # bytes, seconds until interactive


# Columns of the table for each map, with their typical values.
_OWN = {"energy_inside": 9e3, "energy_outside": 3e4, "pointing": 1.0, "otsu_predicted": 6e4, "otsu_intersection": 2e3}


@functools.cache
def photographs() -> list[np.ndarray]:
    """The two embedded photographs, (427, 640, 3) uint8."""
    from sklearn.datasets import load_sample_images

    return [np.asarray(image) for image in load_sample_images().images]


def read(image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """A crop of a photograph, possibly mirrored, and a mask of two ellipses: the same for the same id."""
    rng = np.random.default_rng(int(image_id[-6:]))
    whole = photographs()[rng.integers(2)]
    top, left = rng.integers(0, 427 - HEIGHT), rng.integers(0, 640 - WIDTH)
    image = np.ascontiguousarray(whole[top : top + HEIGHT, left : left + WIDTH][:, :: rng.choice([-1, 1])])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label in (1, 2):
        centre, radii = rng.uniform(0.2, 0.8, 2), rng.uniform(0.08, 0.3, 2)
        mask[((y / HEIGHT - centre[0]) / radii[0]) ** 2 + ((x / WIDTH - centre[1]) / radii[1]) ** 2 < 1] = label
    return image, mask


def table(count: int) -> Samples:
    """A table under `strict` of `count` images with one to three labels, drawn at random."""
    rng = np.random.default_rng(0)
    image_id = np.array([f"2012_{i:06d}" for i in range(count)], dtype=object)
    targets = np.zeros((count, CLASSES), np.uint8)
    for labels in range(3):
        rows = rng.random(count) < (1, 0.35, 0.1)[labels]
        targets[rows, rng.integers(0, CLASSES, int(rows.sum()))] = 1
    logits = (rng.normal(0, 2, targets.shape) + np.where(targets == 1, 3, -5)).astype(np.float32)
    row, label = np.nonzero(np.concatenate([np.ones((count, 1), np.uint8), targets], axis=1))
    pixels = rng.integers(2_000, 60_000, len(row))
    predicted = (rng.integers(2_000, 60_000, len(row))[:, None] * (1 - THRESHOLDS)).astype(np.int32)
    shared = (np.minimum(predicted, pixels[:, None]) * rng.beta(2, 2, (len(row), 1))).astype(np.int32)
    explained = label > 0
    maps = np.empty(int(explained.sum()), dtype=object)
    maps[:] = list(rng.gamma(1, 1, (len(maps), SIDE, SIDE)).astype(np.float16))
    bins = np.zeros((len(row), HISTOGRAM_BINS), np.int32)
    bins[:, :2] = 1
    nan = np.full(count, np.nan)
    settings = {"method": "gradcam", "site": {"layer": "layer4"}, "view": "warp224", "normalisation": "max"}
    manifest = {
        "classes": [f"class {c}" for c in range(CLASSES)],
        "targets": "multilabel",
        "thresholds": THRESHOLDS.tolist(),
        "explanations": {"strict:gradcam": settings},
        "protocols": {"strict": {"view": "warp224", "explanation": "strict:gradcam"}},
        "model": {"type": "drawn at random"},
        "dataset": {"root": "crops of two photographs", "split": "val"},
        "versions": {},
    }
    status = np.where(explained, "ok", "none").astype(object)
    named = np.full(len(row), "strict:gradcam", dtype=object)
    return Samples(
        manifest,
        Images(
            image_id,
            np.full(count, "warp224", dtype=object),
            np.full(count, HEIGHT),
            np.full(count, WIDTH),
            np.ones(count, bool),
            targets,
            logits,
            *(nan,) * 3,
            rng.beta(2, 3, count),
        ),
        Regions.of(
            image_id=image_id[row],
            explanation=named,
            label=label,
            status=status,
            mask_pixels=pixels,
            predicted=predicted,
            intersection=shared,
            inside=bins,
            outside=bins,
            **{name: own * rng.random(len(row)) for name, own in _OWN.items()},
        ),
        Maps(image_id[row[explained]], named[explained], label[explained], maps),
    )


def write(count: int, file: Path) -> None:
    """Write the page in this process; print the seconds, the MB with the table, and the peak MB while writing."""
    samples = table(count)
    measures = measure(samples, replicates=0)
    start = time.perf_counter()
    cases = cases_of(samples)
    made = time.perf_counter()
    before = resident()
    write_page(file, Shown("drawn at random", measures, cases), read)
    done = time.perf_counter()
    print(f"{made - start:.2f} {done - made:.2f} {before:.1f} {peak():.1f}")


def resident() -> float:
    """MB in memory now; resets the peak."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def peak() -> float:
    """Peak MB since the reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def browse(file: Path) -> dict[str, float]:
    """Seconds in the browser: until interactive, until all is loaded, and of a reader's actions."""
    if CHROMIUM is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(file.as_uri(), timeout=120_000)
        result = {
            "interactive": page.evaluate("performance.getEntriesByName('vice-interactive')[0].startTime / 1000"),
            "whole": page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart") / 1000,
        }
        for name, work in {
            "filter": "byId('f-class').value = '3'; refilter()",
            "all again": "clearFilters()",
            "next case": "stepBy(1)",
            "scatter": "drawScatter()",
            "hover": "for (let i = 0; i < 100; i++) nearestPoint(200 + i, 150)",
        }.items():
            result[name] = page.evaluate(
                f"(() => {{ const start = performance.now(); {work}; document.body.offsetHeight;"
                " return (performance.now() - start) / 1000; })()"
            )
        result["hover"] /= 100
        browser.close()
    return result


def png_folder(count: int, folder: Path) -> tuple[float, int]:
    """The usual alternative: a PNG of every (image, class) pair, map over image; seconds and bytes."""
    from PIL import Image

    samples = table(count)
    stops = np.array([[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in HEAT], float)
    start, size = time.perf_counter(), 0
    for image_id, label, plane in zip(samples.maps.image_id, samples.maps.label, samples.maps.map, strict=True):
        image, _ = read(image_id)
        values = bilinear(plane[None].astype(np.float32), (HEIGHT, WIDTH))[0]
        at = values / values.max() * (len(stops) - 1)
        heat = np.stack([np.interp(at, np.arange(len(stops)), stops[:, k]) for k in range(3)], axis=-1)
        file = folder / f"{image_id}_{label}.png"
        Image.fromarray((0.5 * image + 0.5 * heat).astype(np.uint8)).save(file)
        size += file.stat().st_size
    return time.perf_counter() - start, size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,500 images only, and 100 for the PNGs")
    parser.add_argument("--write", nargs=2, metavar=("COUNT", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        write(int(chosen.write[0]), Path(chosen.write[1]))
        return 0
    missed = False
    print(processor())
    with tempfile.TemporaryDirectory() as home:
        for count in [1_500] if chosen.quick else list(TARGETS):
            file = Path(home) / f"{count}.html"
            command = [sys.executable, __file__, "--write", str(count), str(file)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-4:]
            prepared, written, before, most = map(float, output)
            size, times = file.stat().st_size, browse(file)
            print(f"{count} images: {size / 1e6:.1f} MB; columns {prepared:.1f} s, page {written:.1f} s")
            print(f"  memory: {before:.0f} MB with the table, {most - before:.0f} MB more at the peak of writing")
            text = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
            print(f"  browser: {text or 'not measured: chromium not found'}")
            most_bytes, most_seconds = TARGETS[count]
            slow = most_seconds is not None and times.get("interactive", 0) > most_seconds
            missed |= size > most_bytes or slow
        count = 100 if chosen.quick else 1_500
        folder = Path(home) / "png"
        folder.mkdir()
        seconds, size = png_folder(count, folder)
        print(f"a folder of PNGs, {count} images: {size / 1e6:.1f} MB, {seconds:.1f} s")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
