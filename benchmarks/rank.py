"""`vice rank`: whether rank sets cover, linear against exact replicates, and time and memory with 1,000 tables.

Run `python benchmarks/rank.py` (an hour of two cores; `--worlds`, `--exact`, `--large`, `--tables` change the sizes).
It exits with status 1 if a target is missed.

Coverage: models are drawn whose logit and IoU are a bivariate normal copula, so that the true VICE is known in closed
form, (6 / pi) asin(rho / 2). Two worlds: in `tied` all models are equal, which is the hardest; in `mixed` a third are
equal, a third lie 0.0005 apart, and a third are spread from 0.1 to 0.7. An image is of the same difficulty for all
models, so that they are correlated, and half of the images have two true pairs. There are five thresholds, almost as
good as each other, from which `strict` chooses by held-out folds. A rank set covers where it holds all ranks that ties
allow; a sample counts as covered where the sets of all models do at once.

`wavers` is no target, but a limit: as `tied`, but VICE is 0.29 to 0.48 at the five thresholds, so that the VICE of each
model depends on which ones its folds choose. No bootstrap is exact for such a jump. Intervals have no true value there.

With 1,000 models exact replicates take most of a minute a sample. In `tied` they can only widen the sets (the standard
errors are never below those of the influence), so that they are computed only where the linear ones do not cover.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import processor
from scipy.special import ndtr

from torchvice.metrics.rank_sets import RankSets, rank_sets, reach, standard_errors
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.thresholds import HeldOut
from torchvice.metrics.weighted import HeldOutSpearman, Spearman
from torchvice.samples import Images, Maps, Regions, Samples

IMAGES, REPLICATES, TOP = 752, 1000, 10
LEVEL = 0.95
SCALES = np.array([0.9, 0.98, 1.0, 0.97, 0.88])  # of the IoU at the five thresholds
WAVERS = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])  # by which the correlations at the five thresholds differ in `wavers`
OF_WORLD = 2**32 - 1  # random stream of a sample; default_rng(seed) would be that of the first draws, [seed, 0]
MOST_SECONDS, MOST_BYTES = 60.0, 2e9  # of the page of 1,000 tables
SPREAD = 0.05  # by how much linear standard errors may differ from exact ones, in the median


@dataclass(frozen=True)
class World:
    """Logits and IoUs of m models on the same P pairs: `logit` (m, P), `iou` (m, P, T), `image` (P,), `truth` (m,)."""

    logit: np.ndarray
    iou: np.ndarray
    image: np.ndarray
    truth: np.ndarray


def correlations(kind: str, models: int) -> np.ndarray:
    """The correlation of the normal copula of each model."""
    if kind != "mixed":
        return np.full(models, 0.4)
    third = models // 3
    near = 0.45 + 0.0005 * np.arange(third)
    return np.concatenate([np.full(third, 0.4), near, np.linspace(0.1, 0.7, models - 2 * third)])


def drawn(kind: str, models: int, seed: int) -> World:
    """A sample of images, of all models at once."""
    rng = np.random.default_rng([seed, OF_WORLD])
    image = np.sort(np.r_[np.arange(IMAGES), rng.permutation(IMAGES)[: IMAGES // 2]])
    rho = correlations(kind, models)
    shape = (models, len(image))

    def shared(of_image: float, of_pair: float) -> np.ndarray:
        """Standard normal columns that the models share in part, through the image and through the pair."""
        parts = rng.normal(size=IMAGES)[image], rng.normal(size=len(image)), rng.standard_normal(shape, np.float32)
        weights = np.sqrt([of_image, of_pair, 1 - of_image - of_pair]).astype(np.float32)
        return sum(w * part for w, part in zip(weights, parts, strict=True))

    logit, rest = shared(0.4, 0.3), shared(0.2, 0.4)
    iou = np.empty((*shape, len(SCALES)), np.float32)
    for at, scale in enumerate(SCALES):
        noise = np.sqrt(0.8) * rest + np.sqrt(0.2) * rng.standard_normal(shape, np.float32)
        at_this = (rho + (WAVERS[at] if kind == "wavers" else 0.0)).astype(np.float32)[:, None]
        iou[:, :, at] = np.float32(scale) * ndtr(at_this * logit + np.sqrt(1 - at_this**2) * noise)
    return World(logit, iou, image, 6 / np.pi * np.arcsin(rho / 2))


@dataclass(frozen=True)
class Estimated:
    """VICE (m,), its replicates (m, B), what they are by the influence alone, and the influence of images (m, N)."""

    values: np.ndarray
    replicates: np.ndarray
    by_influence: np.ndarray
    influence: np.ndarray

    def sets(self, threads: int = 1) -> RankSets:
        """The rank sets, as `vice rank` makes them."""
        return rank_sets(self.values, self.replicates, self.influence, LEVEL, threads=threads, linear=self.by_influence)

    def errors(self) -> np.ndarray:
        """The standard errors of all differences, one for each pair."""
        found = standard_errors(self.replicates, self.influence, self.by_influence)
        return found[np.triu_indices(len(found), 1)]


def estimated(world: World, resampling: Resampling, linear: bool) -> Estimated:
    """VICE of a sample, as `vice rank` computes it."""
    fold = world.image % 5
    values, changes, exact = [], [], []
    for logit, iou in zip(world.logit, world.iou, strict=True):
        if not linear:
            exact.append(resampling.replicates_of(HeldOutSpearman(logit, iou, fold, world.image), world.image))
        linear_form = Spearman(logit, HeldOut(iou, fold, world.image).quality).linear()
        assert linear_form is not None  # both vary
        value, change = linear_form
        values.append(value)
        changes.append(np.bincount(world.image, change, minlength=IMAGES))
    sums = resampling.sums(0, resampling.replicates, np.stack(changes, axis=1)).T
    by_influence = np.array(values)[:, None] + sums
    return Estimated(np.array(values), by_influence if linear else np.array(exact), by_influence, np.array(changes))


@dataclass(frozen=True)
class Covered:
    """Of one sample: whether all sets cover, the share of sets for one model that do, the best ten, all intervals."""

    together: bool
    alone: float
    top: bool
    intervals: bool
    apart: float
    width: float


def covered(kind: str, models: int, seed: int, how: str) -> Covered:
    """Draw a sample, rank the models, and look whether the truth is covered."""
    world, resampling = drawn(kind, models, seed), Resampling(IMAGES, REPLICATES, seed)
    found = looked_at(world, estimated(world, resampling, linear=how != "exact"))
    if how == "both" and not found.together:
        return looked_at(world, estimated(world, resampling, linear=False))
    return found


def looked_at(world: World, one: Estimated) -> Covered:
    """Whether the sets and intervals of a sample cover its truth."""
    models, found = len(one.values), one.sets()
    ordered = np.sort(world.truth)
    best = 1 + models - np.searchsorted(ordered, world.truth, side="right")
    worst = models - np.searchsorted(ordered, world.truth, side="left")
    alone = (found.alone_low <= best) & (found.alone_high >= worst)
    critical, errors = reach(one.replicates, LEVEL)
    distance = critical * errors / (1 - one.values**2)
    return Covered(
        bool(((found.low <= best) & (found.high >= worst)).all()),
        float(alone.mean()),
        bool(found.among(TOP)[best <= TOP].all()),
        bool((np.abs(np.arctanh(world.truth) - np.arctanh(one.values)) <= distance).all()),
        found.pairs / (models * (models - 1) / 2),
        float(np.median(found.high - found.low + 1)),
    )


def report(kind: str, models: int, worlds: int, how: str, seed: int, pool: ProcessPoolExecutor) -> bool:
    """Print the coverage over some samples; whether the target is met, within the error of the simulation."""
    begin = time.perf_counter()
    jobs = [pool.submit(covered, kind, models, seed + at, how) for at in range(worlds)]
    found = [job.result() for job in jobs]
    error = np.sqrt(LEVEL * (1 - LEVEL) / worlds)
    shares = {name: float(np.mean([getattr(one, name) for one in found])) for name in Covered.__annotations__}
    good = kind == "wavers" or min(shares["together"], shares["top"]) >= LEVEL - 2 * error
    intervals = "" if kind == "wavers" else f", intervals {shares['intervals']:.3f}"
    print(
        f"{models:5d} models, {kind:6s} {how:6s} {worlds:4d} samples: all sets {shares['together']:.3f} (error "
        f"{error:.3f}), best {TOP} {shares['top']:.3f}, one model {shares['alone']:.3f}{intervals}; told apart "
        f"{shares['apart']:.3f}, median set {shares['width']:.0f} ranks; {time.perf_counter() - begin:.0f} s"
        f"{'' if good else f'  MISSED (at least {LEVEL - 2 * error:.3f})'}",
        flush=True,
    )
    return bool(good)


def linear_against_exact(models: int = 50) -> bool:
    """Print how far linear standard errors and rank sets are from exact ones; whether they are near enough."""
    world, resampling = drawn("mixed", models, 9), Resampling(IMAGES, 2000, 0)
    both, seconds = [], []
    for linear in (False, True):
        begin = time.perf_counter()
        both.append(estimated(world, resampling, linear))
        seconds.append(time.perf_counter() - begin)
    sets = [one.sets() for one in both]
    exact, linear_errors = (one.errors() for one in both)
    plain = standard_errors(both[0].replicates)[np.triu_indices(models, 1)]
    ratio, own = linear_errors / plain, exact / plain
    moved = np.abs(sets[1].low - sets[0].low) + np.abs(sets[1].high - sets[0].high)
    wider = (sets[0].high - sets[0].low + 1).mean() / (sets[1].high - sets[1].low + 1).mean()
    print(
        f"{models} models, standard errors of differences against the spread of exact replicates: linear "
        f"{np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f}), with what exact ones add "
        f"{np.median(own):.3f} ({own.min():.3f} to {own.max():.3f}); ends of rank sets that differ: "
        f"{(moved > 0).mean():.2f} of the models, by {moved.max()} at most, exact ones {wider:.2f} times as wide; "
        f"critical value {sets[1].critical:.2f} and {sets[0].critical:.2f}; time of the replicates {seconds[1]:.2f} s "
        f"against {seconds[0]:.2f} s"
    )
    return bool(abs(np.median(ratio) - 1) <= SPREAD)


def write_tables(folder: Path, tables: int, classes: int = 50, thresholds: int = 60) -> None:
    """Tables of 752 images of 50 exclusive classes, as `vice assess --protocol strict` writes them."""
    rng = np.random.default_rng(0)
    true = rng.integers(classes, size=IMAGES)
    targets = np.eye(classes, dtype=np.uint8)[true]
    names = np.array([f"image{at:05d}" for at in range(IMAGES)], dtype=object)
    difficulty, cut = rng.normal(size=IMAGES), np.linspace(0, 0.59, thresholds)
    objects = rng.integers(2000, 40_000, IMAGES)
    ids, label = np.repeat(names, 2), np.stack([np.zeros(IMAGES, np.int64), true + 1], axis=1).ravel()
    pixels = np.stack([60_000 - objects, objects], axis=1).ravel()
    none, empty = np.full(IMAGES, np.nan), np.zeros(0, dtype=object)
    digests = np.array([f"{at:016x}" for at in range(IMAGES)], dtype=object)
    for at in range(tables):
        skill, focus = rng.uniform(0.5, 2.5), rng.uniform(0, 1)
        logits = rng.normal(size=(IMAGES, classes)).astype(np.float32)
        own = skill + difficulty + rng.normal(size=IMAGES)
        logits[np.arange(IMAGES), true] += own
        level = ndtr(focus * own + np.sqrt(1 - focus**2) * rng.normal(size=IMAGES) - 0.5)
        share = np.clip(level[:, None] - (cut - 0.25) ** 2, 0, 1)
        hit = np.round(share * objects[:, None]).astype(np.int32)
        counts = np.stack([60_000 - objects[:, None] - hit // 4, hit], axis=1).reshape(2 * IMAGES, thresholds)
        inside = rng.multinomial(400, np.full(256, 1 / 256), 2 * IMAGES).astype(np.int32)
        columns = {
            "image_id": ids,
            "explanation": np.array(["strict:cam"] * len(ids), dtype=object),
            "label": label,
            "status": np.array(["none", "ok"] * IMAGES, dtype=object),
            "mask_pixels": pixels,
            "predicted": counts + counts // 8,
            "intersection": counts,
            "inside": inside,
            "outside": inside[::-1].copy(),
        }
        images = Images(
            names,
            np.array(["warp"] * IMAGES, dtype=object),
            *(np.full(IMAGES, 245, np.int32),) * 2,
            np.ones(IMAGES, bool),
            targets,
            logits,
            *(none,) * 4,
            digests,
            digests,
        )
        manifest = {
            "classes": [f"class{c}" for c in range(classes)],
            "thresholds": cut.tolist(),
            "explanations": {"strict:cam": {"method": "cam", "role": "headline"}},
            "protocols": {"strict": {"view": "warp", "explanation": "strict:cam"}},
            "targets": "exclusive",
            "model": {"type": "Toy"},
            "made_by": {"network": f"network{at:04d}"},
            "dataset": {"root": "nowhere", "split": "val"},
            "versions": {"torchvice": "0"},
            "finished": True,
        }
        Samples(manifest, images, Regions.of(**columns), Maps(empty, empty, np.zeros(0, np.int64), empty)).save(
            folder / f"network{at:04d}"
        )


def memory_of(pid: int) -> int:
    """The bytes of a process and its children: pages that they share count once."""
    total, queue = 0, [pid]
    while queue:
        one = queue.pop()
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += 1024 * int(rollup.partition("\nPss:")[2].split()[0])
            for task in Path(f"/proc/{one}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, ValueError, IndexError):
            continue
    return total


def page(tables: int, folder: Path) -> bool:
    """Print time and memory of `vice rank` with its page, JSON and CSV; whether both are within the targets."""
    write_tables(folder / "tables", tables)
    size = sum(path.stat().st_size for path in (folder / "tables").rglob("*") if path.is_file())
    outputs = ["--out", folder / "page.html", "--json", folder / "ranking.json", "--csv", folder / "ranking.csv"]
    command = [sys.executable, "-m", "torchvice.cli", "rank", folder / "tables", "--top", "10", *outputs]
    begin, most, used = time.perf_counter(), 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.2):
            most = max(most, memory_of(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    ranking = json.loads((folder / "ranking.json").read_text()) if not status else {"models": [], "bootstrap": {}}
    written = (folder / "page.html").stat().st_size if not status else 0
    print(
        f"page of {len(ranking['models'])} tables ({size / 1e6:.0f} MB): {seconds:.1f} s, {cpu:.1f} CPU s, "
        f"{most / 1e9:.2f} GB, page {written / 1e6:.1f} MB; replicates {ranking['bootstrap']}"
    )
    scale = max(1.0, tables / 1000)
    return not status and seconds <= MOST_SECONDS * scale and most <= MOST_BYTES * scale


def main() -> int:
    """Run all parts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=400, help="samples of 50 models, linear")
    parser.add_argument("--exact", type=int, default=100, help="samples of 50 models, exact")
    parser.add_argument("--large", type=int, default=200, help="samples of 1,000 equal models; others: a twentieth")
    parser.add_argument("--tables", type=int, default=1000, help="tables of the page; 0: no page")
    parser.add_argument("--seed", type=int, default=0, help="of the first sample")
    parser.add_argument("--processes", type=int, default=None, help="that share the samples; default: all processors")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(processor())
    good = [linear_against_exact()]
    with ProcessPoolExecutor(options.processes) as pool:
        for kind in ("tied", "mixed", "wavers"):
            sizes = [(50, options.worlds, "linear"), (50, options.exact, "exact")]
            if kind == "tied":
                sizes += [(1000, options.large, "linear"), (1000, options.large // 4, "both")]
            elif kind == "mixed":
                sizes += [(1000, options.large // 20, "linear")]
            good += [report(kind, m, n, how, options.seed, pool) for m, n, how in sizes if n]
    if options.tables:
        with tempfile.TemporaryDirectory() as folder:
            good.append(page(options.tables, Path(folder)))
    print("All targets are met." if all(good) else "A target is missed.")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
