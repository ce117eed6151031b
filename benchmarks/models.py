"""`vice assess --models` on many small networks, killed on the way, against the sum of their bare forward passes.

Run `python benchmarks/models.py --folder DIR`: 200 of timm's small networks with random weights on 752 drawn images
of 50 classes in the layout of ImageNet-S-50, ten times killed with SIGKILL. That takes hours; the same command in the
same folder goes on where it stopped. `--networks`, `--images` and `--kills` make it smaller. Each network has the input
size that timm states for it.

The command makes the maps of `strict` alone, without controls and replaced pixels: one forward pass an image, which is
what the bare passes take. They have the same batches of 16, of inputs that are in memory, resized and normalised. Both
keep freed memory (`torchvice.files.process.keep_freed_memory`) and have the threads that OMP_NUM_THREADS says. Prints
images a second of both, by wall time and by CPU time: the command counts maps in a thread of its own, so that the
second is more than the first where a core is free. Ends with status 1 if a row is missing or is there twice, if a
finished table was touched again, or if the ratio by wall time is below 0.8.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor
from PIL import Image, ImageDraw

CLASSES, BATCH, LEAST_RATIO = 50, 16, 0.8
SIZES = ((500, 375), (375, 500), (500, 333), (500, 500), (400, 300))  # of photographs of ImageNet
# Networks of about a million to twelve million weights: of every kind that is called small, tiny, nano or atto.
FAMILIES = """
resnet10t resnet14t resnet18* seresnet18 skresnet18 regnetx_00[246] regnety_00[246] regnetz_005 gernet_s dla34
mobilenetv3* mobilenetv1* mobilenetv2_* mobilenetv4_conv_s* mobilenetv4_conv_m* mobilenet_edgetpu* mnasnet* semnasnet*
spnasnet* fbnet* hardcorenas* lcnet* tinynet* ghostnet* repghost* mixnet_[sml] rexnet*_100 mobileone_s[01]
efficientnet_lite[01] efficientnet_b0* efficientnet_es* tf_mobilenet* tf_efficientnet_lite[01] tf_efficientnet_b0
mobilevit_* mobilevitv2_0* levit_128* levit_192 levit_conv_128* edgenext_x* convnext_atto* convnext_femto*
convnextv2_atto convnextv2_femto starnet* shvit* repvit_m* efficientvit_m* efficientvit_b[01] tiny_vit_5m* fastvit_t*
dla46* dla60x_c hardnet39* hrnet_w18_small squeezenet* deit_tiny* vit_tiny* xcit_nano* pit_ti* poolformer_s12
poolformerv2_s12 crossvit_tiny* coat_lite_tiny coat_lite_mini mambaout_femto mambaout_kobe inception_next_atto
efficientformer_l1 efficientformerv2_s[01] ese_vovnet19b* visformer_tiny pvt_v2_b[01] resmlp_12* swiftformer_x*
swiftformer_s hgnetv2_b[01] selecsls42*
"""
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 80, 230), (230, 210, 40), (200, 60, 210))


def draw_images(root: Path, count: int) -> None:
    """Draw polygons of ten numbers of corners and five colours on noise, with masks as ImageNet-S has them."""
    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % CLASSES
        width, height = SIZES[rng.integers(len(SIZES))]
        ground = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        mask = Image.new("L", (width, height))
        radius = int(min(width, height) * rng.uniform(0.15, 0.4))
        centre = (int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius)))
        corners, turn = 3 + label % 10, int(rng.integers(360))
        ImageDraw.Draw(mask).regular_polygon((*centre, radius), corners, rotation=turn, fill=255)
        ground.paste(COLOURS[label // 10], mask=mask)
        noisy = np.asarray(ground) + rng.normal(0, 12, (height, width, 1))
        ids = np.zeros((height, width, 3), np.uint8)
        ids[..., 0] = (np.asarray(mask) > 0) * (label + 1)
        for folder, suffix, pixels in (("validation", "JPEG", noisy), ("validation-segmentation", "png", ids)):
            path = root / folder / f"n{1000000 + 37 * label:08d}" / f"val_{number:08d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def small_networks(count: int) -> list[str]:
    """The first `count` of timm's networks in these families whose input has at most 256 pixels."""
    import timm

    names: list[str] = []
    for pattern in FAMILIES.split():
        for name in timm.list_models(pattern):
            stated = timm.get_pretrained_cfg(name)
            if max(stated.input_size[1:] if stated is not None else (224,)) <= 256 and name not in names:
                names.append(name)
    if len(names) < count:
        raise SystemExit(f"There are {len(names)} such networks.")
    return names[:count]


def bare_passes(root: Path, names: list[str], at: Path) -> None:
    """Append the seconds of the forward passes of each network over all images to a file, a line a network."""
    import timm
    import torch

    from torchvice.data import open_images
    from torchvice.data.transforms import normalise
    from torchvice.data.warping import warp
    from torchvice.files.process import keep_freed_memory
    from torchvice.models.build import preprocessing
    from torchvice.models.started import seeded_weights

    keep_freed_memory()  # as the command does
    known = {line["name"] for line in lines_of(at)}
    data = open_images(root / "validation", masks=root / "validation-segmentation")
    images = [data.image(index) for index in range(len(data))]
    by_side: dict[int, list[np.ndarray]] = {}
    for name in names:
        if name in known:
            continue
        with seeded_weights(0):
            model = timm.create_model(name, num_classes=CLASSES).eval()
        shown = preprocessing(model)
        side = max(shown.size)
        if side not in by_side:
            by_side = {side: [warp(image, side) for image in images]}
        inputs = by_side[side]
        wall = cpu = 0.0
        with torch.inference_mode():
            model(torch.zeros(BATCH, 3, side, side))
            for start in range(0, len(inputs), BATCH):
                batch = torch.stack([normalise(one, shown.mean, shown.std) for one in inputs[start : start + BATCH]])
                begin = time.perf_counter(), time.process_time()
                model(batch)
                wall += time.perf_counter() - begin[0]
                cpu += time.process_time() - begin[1]
        with at.open("a") as file:
            file.write(json.dumps({"name": name, "images": len(inputs), "wall": wall, "cpu": cpu}) + "\n")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file; none without the file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def run_killed(command: list[str], out: Path, networks: int, kills: int, log: Path) -> Iterator[dict[str, Any]]:
    """Run the command until it ends by itself; kill it at random moments. Yields what each start took."""
    chance = random.Random(0)
    moments = sorted(chance.uniform(0, networks) for _ in range(kills))
    moments = [moment for moment in moments if moment >= len(finished(out))]
    while True:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with log.open("a") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            if moments:
                moment = moments.pop(0)
                while process.poll() is None and len(finished(out)) < int(moment):
                    time.sleep(0.2)
                with_part = time.perf_counter() + (moment % 1) * 10  # seconds into the next model
                while process.poll() is None and time.perf_counter() < with_part:
                    time.sleep(0.05)
                process.kill()
            status = process.wait()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        yield {"status": status, "wall": time.perf_counter() - begin, "cpu": cpu, "done": len(finished(out))}
        if status >= 0:
            return


def finished(out: Path) -> dict[str, float]:
    """The finished models, and when their table was finished."""
    return {
        row["name"]: (out / row["folder"] / "manifest.json").stat().st_mtime
        for row in rows_of(out)
        if row["state"] == "done"
    }


def rows_of(out: Path) -> list[dict[str, str]]:
    """The rows of models.csv."""
    path = out / "models.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


def wrong(out: Path, names: list[str], images: int) -> list[str]:
    """What is not as it must be: a row and a table for each network, each once, with each image once."""
    from torchvice.samples import Samples

    rows = rows_of(out)
    problems = [] if sorted(row["name"] for row in rows) == sorted(names) else ["the rows are not those of the list"]
    for row in rows:
        if row["state"] == "failed":
            print(f"failed: {row['name']}: {row['reason']}")
        elif row["state"] != "done":
            problems.append(f"{row['name']} is {row['state']}")
        else:
            ids = Samples.load(out / row["folder"]).images.image_id.tolist()
            if len(ids) != images or len(set(ids)) != images:
                problems.append(f"{row['name']} has {len(ids)} rows of {len(set(ids))} images")
    return problems


def main() -> int:
    """Print the table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where data, tables and times are kept")
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--images", type=int, default=752)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)  # the child process of the bare passes
    options = parser.parse_args()
    folder = options.folder
    root, out, listed, times = folder / "data", folder / "tables", folder / "networks.txt", folder / "bare.jsonl"
    if options.bare:
        bare_passes(root, listed.read_text().split(), options.bare)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    if not root.is_dir():
        draw_images(folder / "drawing", options.images)
        (folder / "drawing").rename(root)
    if not listed.is_file():
        listed.write_text("\n".join(small_networks(options.networks)))
    names = listed.read_text().split()
    images = len(list((root / "validation").rglob("*.JPEG")))
    print(processor())
    threads = os.environ.get("OMP_NUM_THREADS", "as torch chooses")
    print(f"{len(names)} networks, {images} images, {os.cpu_count()} cores, threads of torch: {threads}", flush=True)
    command = [sys.executable, "-m", "torchvice.cli", "assess", "--models", str(listed), "--random-weights", "0"]
    command += ["--images", str(root / "validation"), "--masks", str(root / "validation-segmentation")]
    command += ["--protocol", "strict", "--controls", "none", "--without", "none", "--device", "cpu"]
    starts = lines_of(folder / "starts.jsonl")
    kept = finished(out)
    for start in run_killed([*command, "--out", str(out)], out, len(names), options.kills, folder / "log.txt"):
        starts.append(start)
        with (folder / "starts.jsonl").open("a") as file:
            file.write(json.dumps(start) + "\n")
        now = finished(out)
        touched = [name for name, moment in kept.items() if now.get(name) != moment]
        kept = now
        if touched:
            print(f"finished tables were touched: {', '.join(touched)}")
            return 1
    subprocess.run([sys.executable, __file__, "--folder", str(folder), "--bare", str(times)], check=True)
    problems = wrong(out, names, images)
    done = set(finished(out))
    bare = [line for line in lines_of(times) if line["name"] in done]
    killed = sum(start["status"] < 0 for start in starts)
    print(f"{len(rows_of(out))} rows, {len(done)} done, {len(starts)} starts, {killed} of them killed")
    print(f"{'':<8}{'command s':>12}{'bare s':>12}{'images/s':>12}{'bare':>12}{'ratio':>8}")
    ratios = {}
    for clock in ("wall", "cpu"):
        own, sum_bare = (sum(line[clock] for line in lines) for lines in (starts, bare))
        total = len(done) * images
        ratios[clock] = sum_bare / own
        speeds = f"{total / own:>12.1f}{total / sum_bare:>12.1f}"
        print(f"{clock:<8}{own:>12.1f}{sum_bare:>12.1f}{speeds}{ratios[clock]:>8.2f}")
    print("\n".join(problems))
    return int(bool(problems) or ratios["wall"] < LEAST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
