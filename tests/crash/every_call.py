"""Let every writing call of a command fail once, in every way, and start the command again.

    python tests/crash/every_call.py assess --kinds ENOSPC SIGKILL

prints how many calls a command makes, and each fault. Commands run in forked processes, with shim.c loaded.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash.cases import IMAGES, SHARD, Case, World
from crash.forked import Ended, forks_only, imported, run
from crash.shim import KINDS, State, arm, built


def places(calls: Sequence[tuple[str, str, int]], every: bool) -> list[int]:
    """The numbers of the calls that fail: of successive writes to one file the first, the middle and the last."""
    chosen: list[int] = []
    run_of: list[int] = []
    for number, (call, path, _) in enumerate([*calls, ("", "", 0)], 1):
        if run_of and (call != "write" or calls[run_of[-1] - 1][1] != path):
            chosen += sorted({run_of[0], run_of[len(run_of) // 2], run_of[-1]}) if not every else run_of
            run_of = []
        if call == "write":
            run_of.append(number)
        elif call:
            chosen.append(number)
    return sorted(chosen)


def problem_of(
    world: World, case: Case, expected: dict[str, str | None], kind: str, ended: Ended, kept: str = ""
) -> str | None:
    """What is wrong with how a disturbed command ended and with what its next start made; None: nothing.

    `kept` is a lock file whose removal failed: it may stay, since it locks nothing.
    """
    said = ended.out + ended.err
    sentences = [line for line in ended.err.splitlines() if line.startswith("vice: ")]
    logs = [path.read_text() for path in world.watched.rglob("log.txt")]
    if any("Traceback" in text for text in (said, *logs)):
        return "a traceback"
    if ended.status not in {*case.statuses, *([-9] if kind == "SIGKILL" else [])}:
        return f"status {ended.status}"
    if ended.status == 2 and len(sentences) != 1:
        return f"{len(sentences)} sentences"
    if ended.status == 1 and not re.search(r": failed[,.] ", said):
        return "status 1 without a reason"
    if ended.status in (1, 2) and kind == "short":
        return "a short write is an error"
    found = world.contents(case)
    if ended.status == 0:  # what could not be removed is removed by the next start
        found = {name: one for name, one in found.items() if not re.search(r"\.part\b|\.lock$", name)}
    if ended.status == 0 and (wrong := differences(found, expected)):
        return f"status 0, but {wrong}"
    world.state.set(world.watched)
    again = run(case.command if case.again is None else case.again(world.watched), world.beside)
    if again.status != 0:
        return f"the next start ends with status {again.status}: {again.err.strip()[-600:]}"
    found = {name: one for name, one in world.contents(case).items() if name != kept}
    if wrong := differences(found, expected):
        return f"after the next start {wrong}"
    return None


def differences(found: dict[str, str | None], expected: dict[str, str | None]) -> str:
    parts = []
    for what, names in {
        "is missing": [name for name, one in expected.items() if name not in found and one is not None],
        "is left over": [name for name in found if name not in expected and found[name] is not None],
        "differs": [name for name, one in expected.items() if name in found and found[name] != one],
    }.items():
        parts += [f"{', '.join(names[:4])} {what}"] if names else []
    return "; ".join(parts)


def lost_files(world: World, calls: Sequence[tuple[str, str, int]], target: int) -> str | None:
    """A finished file, put in place before the failure and not removed since, that is not there any more."""
    there: set[str] = set()
    for number, (call, path, _) in enumerate(calls, 1):
        if call == "rename" and number < target:
            there.add(path)
        elif call in ("unlink", "rename"):
            there.discard(path)
    gone = [path for path in sorted(there) if not (world.watched / path).exists() and "logs" not in path]
    return f"{gone[0]} was finished and is gone" if gone else None


def every_call(
    world: World,
    name: str,
    kinds: Sequence[str],
    every: bool = False,
    part: tuple[int, int] = (0, 1),
    skip: str = "",
    turns: bool = False,
    after: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yield first the calls of an undisturbed command, then what happened to each call that failed.

    Args:
        world, name: whose case of that name.
        kinds: of KINDS.
        every: all writes to a file; else three.
        part: index and count: of the calls, one of so many parts.
        skip: a pattern of paths that are left out; "": none.
        turns: each call fails in one way, in turn; else in all of them.
        after: the calls up to this number are left out.
    """
    case = world.cases[name]
    world.start(case)
    world.reset()
    world.state.set(world.watched)
    ended = run(case.command, world.beside, before=arm)
    assert ended.status == 0, ended
    assert "failed" not in ended.out, ended
    calls, expected = world.state.calls, world.contents(case)
    yield {"command": name, "calls": len(calls), "by_call": dict(collections.Counter(call for call, *_ in calls))}
    chosen = [number for number in places(calls, every) if number > after]
    chosen = [number for number in chosen if not (skip and re.search(skip, calls[number - 1][1]))]
    for place, number in enumerate(chosen[part[0] :: part[1]]):
        call, path, size = calls[number - 1]
        ways = [kind for kind in kinds if kind != "short" or (call == "write" and size > 1)]
        for kind in [ways[place % len(ways)]] if turns and ways else ways:
            world.reset()
            world.state.set(world.watched, kind, number)
            ended = run(case.command, world.beside, before=arm)
            fired, problem = world.state.fired, lost_files(world, world.state.calls, number)
            kept = path if call == "unlink" and path.endswith(".lock") else ""
            problem = problem or problem_of(world, case, expected, kind, ended, kept)
            found = {"command": name, "kind": kind, "number": number, "call": call, "path": path, "fired": fired}
            yield found | {
                "status": ended.status,
                "problem": problem,
                "said": (ended.out[-700:] + ended.err[-1500:]).strip(),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="+", help="such as assess: the names of the cases in cases.py")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--every", action="store_true", help="all writes to a file, not three")
    parser.add_argument("--skip", default="", help="a pattern of paths that are left out")
    parser.add_argument("--turns", action="store_true", help="each call fails in one way, in turn")
    parser.add_argument("--part", default="1/1", help="of the calls, I/N")
    parser.add_argument("--after", type=int, default=0, help="leave out the calls up to this number")
    parser.add_argument("--json", type=Path, help="a line of JSON for every call that failed")
    parser.add_argument("--calls", action="store_true", help="list the calls only")
    options = parser.parse_args()
    index, count = map(int, options.part.split("/"))
    problems = 0
    with tempfile.TemporaryDirectory(prefix="torchvice-crash-") as folder, forks_only():
        world = world_in(Path(folder))
        for name in options.command:
            found = every_call(
                world,
                name,
                options.kinds,
                options.every,
                (index - 1, count),
                options.skip,
                options.turns,
                options.after,
            )
            if options.calls:
                next(found)
                for number, (call, path, size) in enumerate(world.state.calls, 1):
                    print(f"{number:5d} {call} {path} {size}")
            else:
                problems += report(found, options.json)
    sys.exit(bool(problems))


def report(found: Iterator[dict[str, Any]], file: Path | None) -> int:
    """Print the problems, and at the end the counts; returns the number of problems."""
    begun, counts, problems = time.monotonic(), collections.Counter[str](), 0
    print(json.dumps(next(found)), flush=True)
    for one in found:
        counts[one["kind"]] += one["fired"]
        problems += one["problem"] is not None
        if one["problem"]:
            print(json.dumps(one, indent=1), flush=True)
        if file:
            with open(file, "a") as out:
                out.write(json.dumps(one) + "\n")
    print(f"{dict(counts)} calls failed, {problems} problems, {time.monotonic() - begun:.0f} s", flush=True)
    return problems


def world_in(folder: Path, images: int = IMAGES, shard: int = SHARD) -> World:
    """The world of a process that has shim.c loaded; one that has not is replaced by one that has."""
    held = os.environ.get("CRASH_STATE")
    if held is None:
        raise SystemExit("start it by every_call.py")
    imported()
    return World(folder.resolve(), Path(held), images, shard)


def begin() -> None:
    """Start this program again with the library, which the kernel loads before Python."""
    if "CRASH_STATE" in os.environ:
        return
    with tempfile.TemporaryDirectory(prefix="torchvice-shim-") as folder:
        library, state = built(Path(folder)), Path(folder) / "state"
        if library is None:
            raise SystemExit("a C compiler is needed")
        State.create(state)
        import subprocess

        environment = {**os.environ, "LD_PRELOAD": str(library), "CRASH_STATE": str(state), "CRASH_WAIT": "1"}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)


if __name__ == "__main__":
    begin()
    main()
