"""Level and power of VICE as an association: simulated worlds in which each cause of a correlation is known.

Every world draws the objects, the extent and the place of the maps, and the logits of a table of pairs. `python
benchmarks/verdict/association.py` prints the tables of docs/verdict.md, in a quarter of an hour of one core
(`--quick`: a minute).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np

from torchvice.measures.verdict_text import JOINT_MARGIN
from torchvice.metrics.joint import JointSpearman
from torchvice.metrics.resampling import Resampling, reflected_interval
from torchvice.metrics.weighted import Spearman, WeightedStatistic, WithinSpearman

ALL = "size, difficulty, labels, wider"
# Each world: the causes that move the logit and the map. `link` is the only one that joint is to see.
WORLDS = {
    "none": "",
    "object size": "size",
    "class difficulty": "difficulty",
    "number of labels": "labels",
    "surer -> wider map, anywhere": "wider",
    "surer -> narrower map, anywhere": "narrower",
    "all of these causes": ALL,
    "all, 10 % of logits saturated": f"{ALL}, saturated",
    "all, 5 % of labels wrong": f"{ALL}, wrong labels",
    "all, 5 % of masks swapped": f"{ALL}, swapped masks",
    "a real link": "link",
    "all of these causes and a real link": f"{ALL}, link",
}
# Images, classes, tables of each world, and resamplings of each table: 0 tests joint by its p alone.
SIZES = (
    (300, 20, 200, 200),
    (1449, 20, 40, 0),
    (1449, 80, 20, 0),
    (1449, 2, 20, 0),
    (150, 8, 100, 0),
    (50, 8, 100, 0),
    (5000, 20, 10, 0),
    (50_000, 20, 6, 0),
)
FLIPS = 499  # of the p of joint
OTHERS = 60  # resamplings of the statistics that are only compared with joint
LARGE = 20_000  # images of the table whose joint is the true value of a world with a link


@dataclass(frozen=True)
class Table:
    """Columns of P true pairs."""

    logit: np.ndarray
    iou: np.ndarray
    class_index: np.ndarray
    area: np.ndarray
    labels: np.ndarray
    extent: np.ndarray
    image: np.ndarray

    def others(self) -> dict[str, WeightedStatistic]:
        """VICE, and VICE within classes."""
        return {
            "VICE": Spearman(self.logit, self.iou),
            "within classes": WithinSpearman(self.logit, self.iou, self.class_index),
        }

    def joint(self) -> JointSpearman:
        """The joint correlation."""
        return JointSpearman(self.logit, self.iou, self.class_index, self.area, self.labels, self.extent)


def simulate(causes: str, images: int, classes: int, seed: int) -> Table:
    """Draw a table.

    A map predicts the area e of an image of area 1, the object has the area s. The map's place has a quality q in
    (0, 1): it shares q min(s, e) + 0.7 (1 - q) s e with the object. Classes differ in frequency and size; pairs of an
    image share a part of the logit and of q.
    """
    cause = set(causes.split(", "))
    rng = np.random.default_rng([seed, images, classes])
    count = np.minimum(rng.choice([1, 2, 3, 4], images, p=[0.55, 0.27, 0.13, 0.05]), classes)
    image = np.repeat(np.arange(images), count)
    pairs, labels = len(image), count[image]
    class_index = rng.choice(classes, pairs, p=rng.dirichlet(np.full(classes, 3.0)))
    by_class = rng.normal(0, 0.5, classes)[class_index]
    larger = np.clip(by_class + 0.8 * rng.normal(size=pairs), -4, 2.2)
    logit = rng.normal(size=pairs) + 0.5 * rng.normal(size=images)[image]
    place = rng.normal(size=pairs) + 0.3 * rng.normal(size=images)[image]
    wider = 0.4 * larger + 0.5 * rng.normal(size=pairs)
    shared = (
        0.9 * larger * ("size" in cause)
        + 1.2 * rng.normal(size=classes)[class_index] * ("difficulty" in cause)
        - 0.7 * labels * ("labels" in cause)
    )
    place = place + shared + 0.8 * logit * ("link" in cause)
    logit = logit + shared
    wider = wider + 0.5 * logit * (("wider" in cause) - float("narrower" in cause))
    area, extent = 0.1 * np.exp(larger), np.clip(0.15 * np.exp(wider), 0.005, 0.95)
    quality = 1 / (1 + np.exp(-place))
    if "swapped masks" in cause:
        swapped = rng.random(pairs) < 0.05
        area = np.where(swapped, area[rng.permutation(pairs)], area)
        quality = np.where(swapped, 0.0, quality)
    if "wrong labels" in cause:  # the logit of a class that is not there; its map lies anywhere on the object given
        logit = np.where(rng.random(pairs) < 0.05, rng.normal(-4, 1, pairs), logit)
    if "saturated" in cause:
        logit = np.minimum(logit, np.quantile(logit, 0.9))
    inside = quality * np.minimum(area, extent) + 0.7 * (1 - quality) * area * extent
    iou = inside / (area + extent - inside)
    return Table(logit, iou, class_index, area, labels, extent, image)


def truth(causes: str, classes: int) -> float:
    """The joint of a large table: 0 without a link."""
    return simulate(causes, LARGE, classes, 10**6).joint().value if "link" in causes.split(", ") else 0.0


@dataclass
class Row:
    """What the tables of one world show: in how many each number is established above 0, and how good joint is.

    `said` is what the verdict's sentence calls an association: the interval lies above the margin. Without an interval
    it is joint established by its p and above the margin, which is so more often.
    """

    above: dict[str, int]
    values: list[float]
    truth: float
    covered: int = 0


def row(causes: str, images: int, classes: int, tables: int, replicates: int) -> Row:
    """Measure the tables of one world. Tables with too few pairs for joint are no part of `values`."""
    found = Row({"VICE": 0, "within classes": 0, "joint": 0, "said": 0}, [], truth(causes, classes))
    for seed in range(tables):
        table = simulate(causes, images, classes, seed)
        others = OTHERS if replicates else OTHERS // 2
        draws = Resampling(images, max(replicates, others), seed)
        for name, statistic in table.others().items():
            error = draws_of(draws, statistic, table, others).std()
            found.above[name] += bool(statistic.value > 1.96 * error)
        joint = table.joint()
        if not np.isfinite(joint.value):
            continue
        found.values.append(joint.value)
        if replicates:
            limits = reflected_interval(joint.value, draws.replicates_of(joint, table.image))
            established, said = bool(limits.low > 0), bool(limits.low > JOINT_MARGIN)
            found.covered += bool(limits.low <= found.truth <= limits.high)
        else:
            established = bool(joint.value > 0 and joint.p_value(table.image, FLIPS) < 0.05)
            said = established and bool(joint.value > JOINT_MARGIN)
        found.above["joint"] += established
        found.above["said"] += said
    return found


def draws_of(draws: Resampling, statistic: WeightedStatistic, table: Table, number: int) -> np.ndarray:
    """The first replicates of a statistic."""
    return statistic(draws.counts(0, number)[:, table.image])


def main() -> int:
    """Print a table for every size; the status is 1 if joint is said to be above 0 too often where there is no link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 tables of 300 images for each world.")
    parser.add_argument("--images", type=int, help="Only the sizes with this number of images.")
    parser.add_argument("--world", choices=WORLDS, help="Only this world.")
    parser.add_argument("--tables", type=int, help="Number of tables of each world, in place of the size's own.")
    given = parser.parse_args()
    missed = False
    sizes = [(300, 20, 10, 60)] if given.quick else [s for s in SIZES if given.images in (None, s[0])]
    worlds = {name: causes for name, causes in WORLDS.items() if given.world in (None, name)}
    for images, classes, number, replicates in sizes:
        tables = given.tables or number
        begin, covered, defined = time.perf_counter(), 0, 0
        print(f"\n{images} images, {classes} classes, {tables} tables of each world (same draws):\n")
        print("| world | VICE > 0 | within classes > 0 | joint > 0 | said | joint, mean | joint, true |")
        print("|---|---|---|---|---|---|---|")
        for name, causes in worlds.items():
            found = row(causes, images, classes, tables, replicates)
            shares = [f"{number / tables:.2f}" for number in found.above.values()]
            mean = f"{np.mean(found.values):+.2f}" if found.values else "undefined"
            print(f"| {' | '.join([name, *shares, mean, f'{found.truth:+.2f}'])} |", flush=True)
            covered, defined = covered + found.covered, defined + len(found.values)
            allowed = 0.05 + 2 * np.sqrt(0.05 * 0.95 / tables)
            missed |= "link" not in causes and found.above["said"] / tables > allowed
        print(f"\nJoint is defined in {defined} of {tables * len(worlds)} tables.")
        if replicates and defined:
            print(f"{100 * covered / defined:.1f} % of its intervals hold the true value.")
        print(f"({time.perf_counter() - begin:.0f} s)", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
