"""CPU time of 10,000 bootstrap replicates: torchvice against a loop over scipy and against scipy.stats.bootstrap.

Run `python benchmarks/bootstrap.py`, or with `--quick` for fewer rounds. The data are synthetic: 1449 images
with one label and some with more, about 2,100 true pairs, some of them missed (IoU 0, which ties). The contenders take
turns; the slow ones compute a fraction of the replicates, and their time is scaled up. The loop resamples images, as
torchvice does; scipy.stats.bootstrap has no clusters and resamples pairs, which is an easier task.
Times are CPU seconds without imports.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import scipy.stats
from machine import processor

from torchvice.metrics.concordance import kendall_interval
from torchvice.metrics.partial import PartialSpearman
from torchvice.metrics.permutation import permutation_p
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import HeldOutSpearman, Pearson, Spearman, WithinSpearman

IMAGES, REPLICATES, THRESHOLDS = 1449, 10_000, 60
SHARE = 50  # the slow contenders compute 1 / SHARE of the replicates
MOST_SECONDS = 1.0  # of torchvice's Pearson and Spearman


@dataclass(frozen=True)
class Table:
    """P true pairs: `image`, `logit`, `iou` at every threshold, `quality` at one, `area`, `labels`, `group`."""

    image: np.ndarray
    logit: np.ndarray
    iou: np.ndarray
    quality: np.ndarray
    area: np.ndarray
    labels: np.ndarray
    group: np.ndarray


def synthetic_table(seed: int = 0) -> Table:
    """Synthetic pairs whose IoU depends on logit and size."""
    rng = np.random.default_rng(seed)
    image = np.sort(np.r_[np.arange(IMAGES), rng.integers(0, IMAGES, 660)])
    logit, area = 2 + 2 * rng.normal(size=len(image)), rng.lognormal(9, 1.5, len(image))
    level = 0.15 * logit + 0.3 * np.log(area) - 2.5 + 0.5 * rng.normal(size=len(image))
    bend = (np.linspace(0, 1, THRESHOLDS) - 0.4) ** 2
    iou = np.clip(level[:, None] - bend - 0.2 * rng.random((len(image), THRESHOLDS)), 0, 1)
    labels, group = np.bincount(image)[image], rng.integers(0, 20, len(image))
    return Table(image, logit, iou, iou[:, 24], area, labels, group)


def seconds(work: Callable[[], object], part: int = 1) -> float:
    """CPU seconds of `work`, which does one of `part` parts."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * part


def simple_loop(table: Table, correlate: Callable[[np.ndarray, np.ndarray], float], replicates: int) -> np.ndarray:
    """The straightforward loop: for every replicate draw images, gather their pairs, correlate."""
    rows = [np.flatnonzero(table.image == image) for image in range(IMAGES)]
    rng, found = np.random.default_rng(0), []
    for _ in range(replicates):
        drawn = np.concatenate([rows[image] for image in rng.integers(0, IMAGES, IMAGES)])
        found.append(correlate(table.logit[drawn], table.quality[drawn]))
    return np.array(found)


def by_scipy(table: Table, measure: Callable[..., object], vectorized: bool, replicates: int) -> object:
    """scipy.stats.bootstrap of pairs."""

    def statistic(a: np.ndarray, b: np.ndarray, **axis: int) -> np.ndarray:
        return measure(a, b, **axis).statistic  # type: ignore[attr-defined, no-any-return]

    columns = table.logit, table.quality
    return scipy.stats.bootstrap(
        columns, statistic, n_resamples=replicates, paired=True, vectorized=vectorized, batch=100, method="percentile"
    )


def contenders(table: Table) -> dict[str, tuple[Callable[[], object], int]]:
    """By name: the function to time, and the divisor of its 10,000 replicates."""

    def ours(statistic: Callable[[np.ndarray], np.ndarray], replicates: int = REPLICATES) -> Callable[[], object]:
        return lambda: Resampling(IMAGES, replicates).replicates_of(statistic, table.image)

    few = REPLICATES // SHARE
    logit, quality = table.logit, table.quality
    return {
        "Pearson: torchvice": (ours(Pearson(logit, quality)), 1),
        "Pearson: loop over scipy.stats.pearsonr": (
            lambda: simple_loop(table, lambda a, b: scipy.stats.pearsonr(a, b).statistic, few),
            SHARE,
        ),
        "Pearson: scipy.stats.bootstrap": (lambda: by_scipy(table, scipy.stats.pearsonr, True, few), SHARE),
        "Spearman: torchvice": (ours(Spearman(logit, quality)), 1),
        "Spearman: loop over scipy.stats.spearmanr": (
            lambda: simple_loop(table, lambda a, b: scipy.stats.spearmanr(a, b).statistic, few),
            SHARE,
        ),
        "Spearman: scipy.stats.bootstrap": (lambda: by_scipy(table, scipy.stats.spearmanr, False, few), SHARE),
        "Spearman within classes: torchvice": (ours(WithinSpearman(logit, quality, table.group)), 1),
        "Spearman given size and labels: torchvice": (
            ours(PartialSpearman(logit, quality, table.area, table.labels), REPLICATES // 10),
            10,
        ),
        "Spearman, thresholds reselected: torchvice": (
            ours(HeldOutSpearman(logit, table.iou, table.image % 5), REPLICATES // 10),
            10,
        ),
        "Permutation test of ranks by image, 9,999: torchvice": (
            lambda: permutation_p(logit, quality, table.image),
            1,
        ),
        "Kendall, jackknife of images: torchvice": (lambda: kendall_interval(logit, quality, table.image), 1),
    }


def main() -> int:
    """Run the benchmark and print the table; returns 1 if a target is missed or the results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 7")
    rounds = 2 if parser.parse_args().quick else 7
    table = synthetic_table()
    runs = contenders(table)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (work, part) in runs.items():
            times[name].append(seconds(work, part))
    fastest = {name.split(":")[0]: median(taken) for name, taken in times.items() if name.endswith("torchvice")}
    print(processor())
    print(f"{IMAGES} images, {len(table.image)} pairs, {REPLICATES} replicates, {rounds} rounds; CPU s")
    print(f"{'':52}   median   lowest   times torchvice")
    for name, taken in times.items():
        ratio = median(taken) / fastest[name.split(":")[0]]
        print(f"{name:52} {median(taken):8.3f} {min(taken):8.3f} {ratio:10.1f}")
    counts = Resampling(IMAGES, REPLICATES).counts(0, 20)[:, table.image]
    theirs = [
        scipy.stats.spearmanr(np.repeat(table.logit, row), np.repeat(table.quality, row)).statistic for row in counts
    ]
    apart = float(np.abs(Spearman(table.logit, table.quality)(counts) - theirs).max())
    print(f"largest difference from scipy.stats.spearmanr in 20 replicates: {apart:.1e}")
    met = max(fastest["Pearson"], fastest["Spearman"]) <= MOST_SECONDS
    print(f"Pearson and Spearman within {MOST_SECONDS:g} s each: {'met' if met else 'MISSED'}")
    return 0 if met and apart < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
