"""Kill an assessment at random moments, with one to three workers, and start it again until its table is finished.

    python tests/crash/random_kills.py --kills 1000 --seed 0

Every table is killed one to six times. Its workers are those of `--processes N`, or N commands with `--shard I/N` side
by side; killed are one of them, all of them, or the command that started them.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from crash.cases import World
from crash.every_call import begin, world_in
from crash.forked import Ended, Forked, forks_only, run

IMAGES = 7
SHARD = 1
OWN = re.compile(r"manifest\.json|(images|regions|maps)-\d{5}\.parquet")
RUNNING = "is already running"


def columns_of(folder: Path) -> dict[str, list[Any]]:
    """Every column of a table, in the order of its keys."""
    from torchvice import Samples

    samples = Samples.load(folder)
    assert samples.manifest["finished"], "the table is not finished"
    found: dict[str, list[Any]] = {}
    keys = {"images": ("view", "image_id"), "regions": ("explanation", "image_id", "label"), "maps": ()}
    keys["maps"] = tuple(name for name in vars(samples.maps) if name != "map")
    for part, names in keys.items():
        columns = vars(getattr(samples, part))
        order = np.lexsort([columns[name].astype(str) for name in names])
        for name, column in columns.items():
            values = column[order]
            found[f"{part}.{name}"] = [np.asarray(one).tobytes() for one in values] if name == "map" else values
    return found


def same(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The columns that differ, to the last bit; empty: none."""
    wrong = []
    for name, column in wanted.items():
        mine = found.get(name)
        if isinstance(column, list):
            equal = mine == column
        elif column.dtype.kind == "f":
            equal = mine is not None and np.array_equal(mine, column, equal_nan=True)
        else:
            equal = mine is not None and np.array_equal(mine, column)
        wrong += [] if equal else [name]
    return ", ".join(wrong)


class Kills:
    """The command, and the times that it takes with each kind of workers."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.table = world.watched / "table"
        self.command = world.cases["strict"].command
        self.counts: collections.Counter[str] = collections.Counter()
        self.seconds: dict[tuple[str, int], float] = {}
        world.watched.mkdir(exist_ok=True)
        assert run(self.command, world.beside).status == 0
        self.wanted = columns_of(self.table)

    def workers(self, style: str, count: int) -> list[list[str]]:
        """The commands that are started side by side."""
        if style == "--processes":
            return [[*self.command, "--processes", str(count)]]
        return [[*self.command, "--shard", f"{index}/{count}"] for index in range(1, count + 1)]

    def begin(self, style: str, count: int) -> list[Forked]:
        """Start them."""
        started = []
        for index, command in enumerate(self.workers(style, count)):
            with open(self.world.beside / f"err-{index}.txt", "wb") as err:
                program = [sys.executable, "-m", "torchvice.cli", *command]
                started.append(Forked(program, stderr=err))
        return started

    def end(self, processes: list[Forked]) -> list[Ended]:
        """How they end by themselves."""
        errors = [self.world.beside / f"err-{index}.txt" for index in range(len(processes))]
        return [Ended(one.wait(), "", file.read_text()) for one, file in zip(processes, errors, strict=True)]

    def kill(self, processes: list[Forked]) -> int:
        """Kill one of the commands, all of them, or one of the processes that they started; returns how many died."""
        below = [pid for one in processes for pid in children(one.pid)]
        alive = [one.pid for one in processes if one.poll() is None]
        if not alive:
            return 0
        chosen = alive if self.random.random() < 0.25 else [self.random.choice([*alive, *below])]
        died = 0
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGKILL)
                died += 1
            except ProcessLookupError:
                continue
        return died

    def table_killed(self, style: str, count: int) -> str:
        """Make one table, with kills; returns what is wrong with it, or nothing."""
        shutil.rmtree(self.table, ignore_errors=True)
        for _ in range(self.random.randint(1, 6)):
            processes = self.begin(style, count)
            moment = time.monotonic() + self.random.uniform(0, self.seconds[style, count])
            while time.monotonic() < moment and any(one.poll() is None for one in processes):
                time.sleep(0.002)
            died = self.kill(processes)
            self.counts[f"{style} {count}"] += died
            self.counts["kills"] += died
            for ended in self.end(processes):
                if (ended.status not in (0, -signal.SIGKILL) and RUNNING not in ended.err) or "Traceback" in ended.err:
                    return f"status {ended.status} beside a killed process: {ended.err[-600:]}"
        for _ in range(20):  # what a killed command started ends a moment after it
            all_ended = self.end(self.begin(style, count))
            if not any(ended.status == 2 and RUNNING in ended.err for ended in all_ended):
                break
            self.counts["refused"] += 1
            time.sleep(0.1)
        if any(ended.status for ended in all_ended):
            return f"the next start ends with {[(ended.status, ended.err[-600:]) for ended in all_ended]}"
        if left := [path.name for path in self.table.iterdir() if not OWN.fullmatch(path.name)]:
            return f"left over: {left}"
        try:
            return same(columns_of(self.table), self.wanted)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def measure(self) -> None:
        """Take the time of each kind of workers, undisturbed."""
        for style in ("--processes", "--shard"):
            for count in (1, 2, 3):
                shutil.rmtree(self.table, ignore_errors=True)
                begun = time.monotonic()
                ended = self.end(self.begin(style, count))
                assert not any(one.status for one in ended), ended
                assert not same(columns_of(self.table), self.wanted), (
                    style,
                    count,
                    same(columns_of(self.table), self.wanted),
                )
                self.seconds[style, count] = time.monotonic() - begun


def children(pid: int) -> list[int]:
    """The processes that one started and that run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further table after so many")
    options = parser.parse_args()
    begun, tables, problems = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="torchvice-kills-") as folder, forks_only():
        kills = Kills(world_in(Path(folder), IMAGES, SHARD), options.seed)
        kills.measure()
        print(json.dumps({"seconds": {f"{a} {b}": round(s, 2) for (a, b), s in kills.seconds.items()}}), flush=True)
        while kills.counts["kills"] < options.kills and time.monotonic() < begun + 60 * options.minutes:
            style, count = kills.random.choice(("--processes", "--shard")), kills.random.randint(1, 3)
            if problem := kills.table_killed(style, count):
                problems.append(problem)
                print(json.dumps({"workers": f"{style} {count}", "problem": problem}), flush=True)
            tables += 1
            if tables % 5 == 0:
                print(json.dumps({"tables": tables, **kills.counts}), flush=True)
    seconds = round(time.monotonic() - begun)
    print(json.dumps({"tables": tables, "problems": len(problems), "seconds": seconds, **kills.counts}), flush=True)
    sys.exit(bool(problems))


if __name__ == "__main__":
    begin()
    main()
