"""Level and power of the test of classes that stand out, in simulated tables; and of four simpler tests.

Run `python benchmarks/verdict/classes.py` (five to ten minutes of one core); `--quick` draws a tenth of the tables.
Seeds are fixed. It prints the tables of docs/verdict.md and exits with status 1 if the level is missed in a world that
the page promises: a false alarm in more than 5 % of tables, by more than three standard errors.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from torchvice.metrics.comparison import holm
from torchvice.metrics.standing_out import classes_that_stand_out, holm_over_witnesses

LEVEL = 0.05
PROMISED = ((0.0, "normal"), (0.3, "t5"), (0.6, "t5"), (1.0, "normal"))  # differences for which the level is promised


@dataclass(frozen=True)
class World:
    """How tables are drawn. Two witnesses see the same pairs.

    Attributes:
        classes: number of classes.
        spread: standard deviation of the clean classes' logits, in addition to what sizes explain.
        shape: their distribution: "normal", "t5" (Student's t, 5 degrees of freedom) or "skewed" (gamma of shape 2).
        bases: share of events of a typical pair, by witness.
        pairs: pairs of every class; None draws 20 to 2000 pairs, uniform in the logarithm (at most 40,000 in all).
        noise: share of pairs that have another class's label, and the event by the toss of a coin.
        tiny: class 0 has only tiny objects.
        bent: the effect of size levels off for large objects, and its slope differs between classes.
        shortcuts: number of classes on a shortcut. strength: share of their pairs that have the event because of it.
        seen_by: witnesses that the shortcut shows in.
        negatives: images without a class that give the threshold of its scores, the 95 % quantile: its error moves all
            events of the class by the second witness. None: the threshold is known.
    """

    classes: int = 20
    spread: float = 0.3
    shape: str = "normal"
    bases: tuple[float, float] = (0.07, 0.42)
    pairs: int | None = 100
    noise: float = 0.0
    tiny: bool = False
    bent: bool = False
    shortcuts: int = 0
    strength: float = 0.0
    seen_by: tuple[bool, bool] = (True, True)
    negatives: int | None = None


@dataclass(frozen=True)
class Table:
    """Pairs of one table: `events` (2, N), `label` (N,), `size` (N,); `planted` (C,), the classes on a shortcut."""

    events: np.ndarray
    label: np.ndarray
    size: np.ndarray
    planted: np.ndarray


def effects(world: World, rng: np.random.Generator) -> np.ndarray:
    """(C,) effects of mean 0 and standard deviation 1."""
    if world.shape == "normal":
        return rng.normal(size=world.classes)
    if world.shape == "t5":
        return rng.standard_t(5, world.classes) * np.sqrt(3 / 5)
    return rng.gamma(2, 1, world.classes) / np.sqrt(2) - np.sqrt(2)


def draw(world: World, rng: np.random.Generator) -> Table:
    """One table. Sizes are log-normal around means that differ between classes; pairs of an image share an effect."""
    number = np.full(world.classes, world.pairs or 0)
    if world.pairs is None:
        number = np.exp(rng.uniform(np.log(20), np.log(2000), world.classes)).astype(int)
        number = np.maximum(number * min(1.0, 40_000 / number.sum()), 20).astype(int)
    label = np.repeat(np.arange(world.classes), number)
    mean = rng.normal(0, 0.6, world.classes)
    mean[0] = -2.5 if world.tiny else mean[0]
    position = np.minimum(mean[label] + 0.8 * rng.normal(size=len(label)), 2.5)  # log(size / 0.08)
    by_size = -0.6 * position + (0.2 * np.maximum(position, 0) if world.bent else 0)
    image = rng.integers(0, int(len(label) / 1.5) + 1, len(label))
    by_image = 0.4 * rng.normal(size=image.max() + 1)[image]
    planted = np.isin(np.arange(world.classes), rng.choice(world.classes, world.shortcuts, replace=False))
    shortcut = planted[label] & (rng.random(len(label)) < world.strength)
    events, common, related = [], effects(world, rng), rng.random() < 0.5
    for base, visible in zip(world.bases, world.seen_by, strict=True):
        own = common if related or not events else effects(world, rng)
        slope = rng.normal(0, 0.2, world.classes)[label] if world.bent else 0
        logit = np.log(base / (1 - base)) + by_size + slope * position + world.spread * own[label] + by_image
        if events and world.negatives is not None:
            passing = rng.beta(0.05 * (world.negatives + 1), 0.95 * (world.negatives + 1), world.classes)
            logit += (np.log(passing / (1 - passing)) - np.log(0.05 / 0.95))[label]
        events.append((rng.random(len(label)) < 1 / (1 + np.exp(-logit))) | (shortcut & visible))
    wrong = rng.random(len(label)) < world.noise
    events = np.where(wrong, rng.random((2, len(label))) < 0.5, np.stack(events))
    label = np.where(wrong, rng.integers(0, world.classes, len(label)), label)
    return Table(events, label, 0.08 * np.exp(position), planted)


def torchvice_test(table: Table) -> np.ndarray:
    """(C,) the classes that torchvice names."""
    count = len(table.planted)
    tests = {
        str(witness): classes_that_stand_out(events, table.label, table.size, count, with_power=False)
        for witness, events in enumerate(table.events)
    }
    return holm_over_witnesses(tests)[1]


def by_logits(p_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Table], np.ndarray]:
    """A simpler test: p-values (C,) from smoothed logits, given a common slope of log size, and their variance."""

    def test(table: Table) -> np.ndarray:
        count = len(table.planted)
        pairs, log_size = np.bincount(table.label, minlength=count), np.log(table.size)
        mean = np.bincount(table.label, log_size, count) / np.maximum(pairs, 1)
        inner, columns = log_size - mean[table.label], []
        for events in table.events:
            number, share = np.bincount(table.label, events, count), events.mean()
            slope = (inner * events).sum() / (inner**2).sum() / (share * (1 - share))
            smooth = (number + 2 * share) / (pairs + 2)
            logit = np.log((number + 0.5) / (pairs - number + 0.5)) - slope * (mean - mean.mean())
            columns.append(p_of(logit, 1 / (np.maximum(pairs, 1) * smooth * (1 - smooth))))
        return (holm(np.concatenate(columns)).reshape(2, -1) <= LEVEL).any(axis=0)

    return test


def robust_z(logit: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Distance from the median of the other classes, in robust standard deviations; normal."""
    p = np.empty(len(logit))
    for one in range(len(logit)):
        others, noise = np.delete(logit, one), np.median(np.delete(variance, one))
        spread = max((1.4826 * np.median(np.abs(others - np.median(others)))) ** 2 - noise, 0)
        error = np.sqrt(spread + variance[one] + 1.57 * (spread + noise) / len(others))
        p[one] = stats.norm.sf((logit[one] - np.median(others)) / error)
    return p


def leave_one_out_t(logit: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Random-effects mean of the other classes (DerSimonian and Laird); Student's t with C - 2 degrees of freedom."""
    p = np.empty(len(logit))
    for one in range(len(logit)):
        others, own = np.delete(logit, one), np.delete(variance, one)
        freedom, weight = len(others) - 1, 1 / own
        excess = (weight * (others - np.average(others, weights=weight)) ** 2).sum() - freedom
        spread = max(excess / (weight.sum() - (weight**2).sum() / weight.sum()), 0)
        weight = 1 / (own + spread)
        mean = np.average(others, weights=weight)
        scale = max(1.0, (weight * (others - mean) ** 2).sum() / freedom)
        error = np.sqrt(scale * (spread + variance[one] + 1 / weight.sum()))
        p[one] = stats.t.sf((logit[one] - mean) / error, freedom)
    return p


def rosner(logit: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Generalised extreme studentised deviate (Rosner 1983), up to a third of the classes; p is 0 or 1."""
    middle = np.median(logit)
    spread = max((1.4826 * np.median(np.abs(logit - middle))) ** 2 - np.median(variance), 0)
    scores, p, last = (logit - middle) / np.sqrt(spread + variance), np.ones(len(logit)), 0
    left, order = np.arange(len(logit)), []
    for step in range(max(1, len(logit) // 3)):
        deviation = (scores[left] - scores[left].mean()) / scores[left].std(ddof=1)
        count, top = len(left), int(deviation.argmax())
        t = stats.t.isf(LEVEL / 2 / count, count - 2)
        last = step + 1 if deviation[top] > (count - 1) * t / np.sqrt((count - 2 + t**2) * count) else last
        order.append(left[top])
        left = np.delete(left, top)
    p[order[:last]] = 0
    return p


def unadjusted_binomial(table: Table) -> np.ndarray:
    """Exact binomial test against the share of the other classes: neither sizes nor differences of clean classes."""
    columns = []
    for events in table.events:
        pairs = np.bincount(table.label, minlength=len(table.planted))
        number = np.bincount(table.label, events, len(pairs))
        share = (number.sum() - number + 0.5) / (pairs.sum() - pairs + 1)
        columns.append(stats.binom.sf(number - 1, pairs, share))
    return (holm(np.clip(np.concatenate(columns), 0, 1)).reshape(2, -1) <= LEVEL).any(axis=0)


CANDIDATES: dict[str, Callable[[Table], np.ndarray]] = {
    "torchvice": torchvice_test,
    "t, leave one out": by_logits(leave_one_out_t),
    "robust z": by_logits(robust_z),
    "Rosner": by_logits(rosner),
    "binomial": unadjusted_binomial,
}


def rates(
    world: World, tables: int, seed: int, test: Callable[[Table], np.ndarray] = torchvice_test
) -> tuple[float, float]:
    """Share of tables in which a clean class is named, and share of planted classes that are named (NaN if none is)."""
    rng, alarms, named, planted = np.random.default_rng(seed), 0, 0, 0
    for _ in range(tables):
        table = draw(world, rng)
        result = test(table)
        alarms += bool(result[~table.planted].any())
        named, planted = named + int(result[table.planted].sum()), planted + int(table.planted.sum())
    return alarms / tables, named / planted if planted else float("nan")


def row(cells: Sequence[object]) -> None:
    print(
        "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def heading(title: str, cells: Sequence[object]) -> None:
    print(f"\n{title}\n")
    row(cells)
    row(["---"] * len(cells))


def level_by_classes(tables: int) -> bool:
    """Print the level by number of classes and by how clean classes differ; return whether it holds as promised."""
    numbers, holds = (5, 10, 20, 40, 80), True
    title = f"Level ({tables} tables a cell, {tables // 3} for 40 and 80 classes)"
    heading(title, ["clean classes differ by", *numbers])
    shapes = [(0.3, "t5"), (0.3, "skewed"), (0.6, "t5"), (0.6, "skewed"), (1.0, "normal"), (1.0, "t5"), (1.0, "skewed")]
    for spread, shape in [(0.0, "normal"), *shapes]:
        cells: list[object] = [f"{spread}, {shape}" if spread else "0"]
        for number in numbers:
            count = tables if number <= 20 else tables // 3
            alarms, _ = rates(World(number, spread, shape), count, seed=number)
            cells.append(alarms)
            error = np.sqrt(LEVEL * (1 - LEVEL) / count)
            holds &= (spread, shape) not in PROMISED or alarms <= LEVEL + 3 * error
        row(cells)
    return holds


def level_by_hardship(tables: int) -> bool:
    """Print the level in worlds that are hard in other ways."""
    plain, holds = World(spread=0.3, shape="t5"), True
    worlds = {
        "20 to 2000 pairs a class": replace(plain, pairs=None),
        "30 pairs a class": replace(plain, pairs=30),
        "events of 2 % and 27 %": replace(plain, bases=(0.02, 0.27)),
        "events of 25 % and 45 %": replace(plain, bases=(0.25, 0.45)),
        "a class of only tiny objects": replace(plain, tiny=True),
        "the effect of size bends and differs between classes": replace(plain, bent=True),
        "labels wrong in 5 % of pairs": replace(plain, noise=0.05),
        "thresholds from 100 images without the class": replace(plain, negatives=100),
        "thresholds from 40 images without the class": replace(plain, negatives=40),
    }
    worlds["all of these, 20 to 2000 pairs, 2 % and 27 %"] = World(20, 0.3, "t5", (0.02, 0.27), None, 0.05, True, True)
    numbers = (6, 20)
    heading(f"Level in harder worlds ({tables} tables a cell; clean classes differ by 0.3, t5)", ["world", *numbers])
    for name, world in worlds.items():
        cells = [rates(replace(world, classes=number), tables, seed=number)[0] for number in numbers]
        holds &= max(cells) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / tables)
        row([name, *cells])
    return holds


def power(tables: int) -> None:
    """Print the share of planted classes that are named."""
    strengths = (0.25, 0.5, 0.75, 0.95)
    title = f"Power, 100 pairs a class ({tables} tables a cell)"
    heading(title, ["classes", "clean classes differ by", "on a shortcut", *map(str, strengths)])
    for number in (6, 20):
        for spread in (0.0, 0.3, 0.6):
            for planted in (1, 2, number // 3) if number > 6 else (1, 2):
                world = World(number, spread, "t5", shortcuts=planted)
                cells = [rates(replace(world, strength=strength), tables, seed=1)[1] for strength in strengths]
                row([number, str(spread), planted, *cells])
    for name, visible in (("elsewhere alone (7 %)", (True, False)), ("without the object alone (42 %)", (False, True))):
        world = World(20, 0.3, "t5", shortcuts=1, seen_by=visible)
        cells = [rates(replace(world, strength=strength), tables, seed=1)[1] for strength in strengths]
        row([20, f"0.3; only {name} sees it", 1, *cells])


def candidates(tables: int) -> None:
    """Print level and power of simpler tests."""
    worlds = [World(number, spread, "t5") for number in (6, 20) for spread in (0.0, 0.3, 0.6)]
    names = [f"{world.classes} classes, {world.spread}" for world in worlds]
    for title, planted in (
        ("False alarms", 0),
        ("Power at strength 0.5, one class", 1),
        ("Power, a third of classes", 3),
    ):
        heading(f"{title}, by test ({tables} tables a cell; t5)", ["test", *names])
        for name, test in CANDIDATES.items():
            cells: list[object] = [name]
            for world in worlds:
                count = planted if planted < 3 else world.classes // 3
                result = rates(replace(world, shortcuts=count, strength=0.5), tables, 2, test)
                cells.append(result[1] if planted else result[0])
            row(cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A tenth of the tables.")
    parser.add_argument("--tables", type=int, default=300, help="Number of tables a cell of the level.")
    parser.add_argument("--only", choices=("level", "power", "harder", "tests"), help="One of the four tables alone.")
    arguments = parser.parse_args()
    tables = max(arguments.tables // (10 if arguments.quick else 1), 3)
    print(f"Standard error of a share of 0.05 over {tables} tables: {np.sqrt(LEVEL * (1 - LEVEL) / tables):.3f}.")
    holds = arguments.only not in (None, "level") or level_by_classes(tables)
    if arguments.only in (None, "power"):
        power(max(tables // 4, 3))
    holds &= arguments.only not in (None, "harder") or level_by_hardship(tables)
    if arguments.only in (None, "tests"):
        candidates(max(tables // 5, 3))
    print(f"\nLevel as promised: {'yes' if holds else 'no'}.")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
