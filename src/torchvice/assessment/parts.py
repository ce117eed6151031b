"""Part: the share of images and shards of one process, where several processes make one table."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files.lock import locked
from torchvice.files.process import WITH_PARENT
from torchvice.metrics.parallel import processors

__all__ = ["WHOLE", "Part", "detected_part", "in_processes", "locked_part"]


@dataclass(frozen=True)
class Part:
    """The `index`-th, from 0, of `count` processes that make one table.

    Images are split into runs of equal length that the processes share evenly; run r and shard number r belong to
    process r % count, so that no two processes write the same file. A table that is made in one go has its rows in the
    order of the dataset; when a run resumes with a different number of processes, or several make the
    table, the order may differ. Batches then differ too, which may change logits by up to 1e-6.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ViceError(f"Part I/N must be 1 to {self.count} of {self.count}, but I is {self.index + 1}.")

    @classmethod
    def parse(cls, text: str) -> Part:
        """`I/N`, counted from 1.

        Raises:
            ViceError: another form, or I outside 1 to N.

        Example:
            >>> Part.parse("2/3")
            Part(index=1, count=3)
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ViceError(
                f"A part must be I/N, but is {text!r}.", "Such as --shard 1/4, of four processes the first."
            )
        return cls(int(index) - 1, int(count))

    def device(self, device: str) -> str:
        """The device of this process: with "auto" and several CUDA devices, one of them."""
        if device != "auto" or self.count == 1:
            return device
        import torch

        found = torch.cuda.device_count()
        return f"cuda:{self.index % found}" if found > 1 else device

    def shards(self, numbers: Sequence[int]) -> list[int]:
        """The shard numbers of this process."""
        return [number for number in numbers if number % self.count == self.index]

    def length(self, images: int, shard_size: int) -> int:
        """Images per shard: at most `shard_size`, with the same number of shards for every process.

        Example:
            >>> Part(0, 1).length(600, 128), Part(0, 2).length(600, 128), Part(0, 3).length(40, 128)
            (128, 100, 14)
        """
        if self.count == 1:
            return shard_size
        rounds = -(-images // (self.count * shard_size))
        return max(1, -(-images // (self.count * rounds))) if images else shard_size

    def images(self, images: int, shard_size: int) -> list[list[int]]:
        """The positions of this process's images, shard by shard."""
        length = self.length(images, shard_size)
        runs = [list(range(start, min(start + length, images))) for start in range(0, images, length)]
        return runs[self.index :: self.count]


WHOLE = Part()


@contextlib.contextmanager
def locked_part(folder: Path, part: Part, request: Mapping[str, Any]) -> Iterator[None]:
    """Hold the lock of a part of the table in a folder, inside the block.

    The parts of one request run at the same time: each has images and files of its own. Every other process is refused,
    such as one with another number of parts, other explanations or another size of shards. The guard makes it one step
    to look at the locks and to take one.

    Args:
        folder: the folder of the table; created if missing.
        part: the part that this process makes.
        request: what the parts must have in common, as JSON.

    Raises:
        ViceError: another process makes this part, or a table of another request, in this folder.
    """
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
    own = folder / f"assess-{part.index + 1}-of-{part.count}-{digest}.lock"
    guard, together = folder / "assess.lock", f"-of-{part.count}-{digest}.lock"
    with contextlib.ExitStack() as held:
        with locked(guard, f"An assessment in {folder}", wait=True, keep=False):
            for lock in folder.glob("assess-*-of-*.lock"):
                if not lock.name.endswith(together):
                    with locked(lock, _running(lock), keep=False):
                        pass  # nobody holds it
            held.enter_context(locked(own, _running(own), keep=False))
        yield


def _running(lock: Path) -> str:
    """What runs while a lock is held, for the message."""
    index, count = re.findall(r"\d+", lock.name)[:2]
    part = "An assessment" if count == "1" else f"Part {index}/{count} of an assessment"
    return f"{part} in {lock.parent}"


def detected_part() -> Part | None:
    """The part that torchrun, SLURM or Lightning's launcher gave this process, as Fabric reads it, or None."""
    names = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "LOCAL_RANK")
    if not any(name in os.environ for name in names):
        return None  # Lightning takes seconds to import
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            environment = kind()
            return Part(environment.global_rank(), environment.world_size())
    if LightningEnvironment.detect() and "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ:
        ranks = int(os.environ.get("NODE_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        return Part(ranks[0] * ranks[1] + int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"]))
    return None


def _message(errors: str) -> str:
    """The sentence of `vice` among error messages, or the last line."""
    lines = errors.strip().splitlines() or ["no message"]
    return next((line.removeprefix("vice: ") for line in lines if line.startswith("vice: ")), lines[-1])


def in_processes(program: Sequence[str], count: int) -> list[str]:
    """Run a command once for each of `count` parts, at the same time, with `--processes 1 --shard I/COUNT` appended.

    Each has an equal share of the cores, unless the environment sets a number of threads, and ends with this process,
    however that is killed. Their output is dropped except for error messages; the caller finishes what a failed part
    left.

    Returns:
        A sentence for each part that failed.
    """
    cores = processors()
    threads = {f"{name}_NUM_THREADS": str(max(1, cores // count)) for name in ("OMP", "MKL", "OPENBLAS")}
    settings = {} if threads.keys() & os.environ.keys() else threads  # the user's count holds for each process
    reading, held = os.pipe()  # a child whose standard input ends knows that this process did
    running = [
        subprocess.Popen(
            [*program, "--processes", "1", "--shard", f"{index}/{count}"],
            env={"OMP_WAIT_POLICY": "PASSIVE", **settings, **os.environ, WITH_PARENT: "1"},
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(1, count + 1)
    ]
    try:
        ended = [(process.communicate()[1], process.returncode) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
        os.close(reading)
        os.close(held)
    return [
        f"Part {index}/{count} ended with status {status}: {_message(said)}"
        for index, (said, status) in enumerate(ended, 1)
        if status
    ]
