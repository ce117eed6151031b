"""`vice assess` in several processes: the share of this one, and what is said at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torchvice.cli.terminal import say
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import Part
    from torchvice.samples import Samples

__all__ = ["ended", "part_of"]


def part_of(processes: int, shard: str | None) -> Part:
    """This process's share; with several `processes` they run first, and this one finishes what they left."""
    from torchvice.assessment.parts import WHOLE, Part, detected_part, in_processes

    if shard is not None and processes > 1:
        raise ViceError("--shard and --processes exclude each other, but both are given.")
    if shard is not None:
        return Part.parse(shard)
    if processes == 1:
        return detected_part() or WHOLE
    for sentence in in_processes([sys.executable, "-m", "torchvice.cli", *sys.argv[1:]], processes):
        say(sentence)
    return WHOLE


def ended(samples: Samples, out: Path, images: int, part: Part, measured: Path, how: str = "") -> str:
    """What was assessed, and what comes next.

    Args:
        samples: what was returned; without rows while the table is not finished.
        out: folder of the table.
        images: of the dataset.
        part: the share of this process.
        measured: what `vice measure` takes.
        how: a limit of the assessment, such as ", under strict alone".
    """
    from torchvice.samples import ShardFolder

    if samples.manifest.get("finished") is not False:
        return f"{out}: {images} images assessed{how}. Next: vice measure {measured}"
    done = len(ShardFolder(out).finished_images())
    others = f"the other parts of {part.count} go on, or have yet to be started (--shard I/{part.count})"
    return f"{out}: {done} of {images} images assessed{how}; {others}."
