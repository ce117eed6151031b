"""Where a training begins: in a free folder, or after the last epoch that was finished in one that holds it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["check_same", "further_process", "last_checkpoint", "state_of"]


def further_process() -> bool:
    """Whether another process began this training, and this one is for a further device."""
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "SLURM_PROCID", "RANK"))


def last_checkpoint(folder: Path, begun: str, what: str, resume: bool) -> Path | None:
    """The checkpoint to go on from, if any.

    Args:
        folder: of the training, with its checkpoints in `checkpoints`.
        begun: the name of the file that a begun training has there.
        what: what it is called in a message: a run.
        resume: whether it is to go on.

    Raises:
        ViceError: to resume there must be one, and none to begin.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    if resume and not (folder / begun).is_file():
        raise ViceError(f"To resume, {folder} must hold a {what}, but it does not.", "Leave out --resume to begin it.")
    # A process that Lightning starts for a further device comes here after the first one has begun to write.
    if not resume and any(checkpoints.glob("*.ckpt")) and not further_process():
        raise ViceError(
            f"{folder} must be free for a new {what}, but holds one already.",
            "Go on with it (--resume), or choose another name: -o session_name=NAME.",
        )
    if resume and not further_process():
        for part in checkpoints.glob(".*.part.ckpt"):  # what a kill left in the middle of writing
            part.unlink(missing_ok=True)
    return last if resume and last.is_file() else None


def state_of(last: Path | None, console: Console) -> dict[str, Any] | None:
    """What a checkpoint holds, said on the console; None without one.

    Raises:
        ViceError: see `read_checkpoint`.
    """
    from torchvice.training.checkpoints import read_checkpoint

    if last is None:
        return None
    state = read_checkpoint(last)
    console.print(f"Going on after epoch {state['epoch'] + 1}: {last}", highlight=False, markup=False, soft_wrap=True)
    return state


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], free: Collection[str], what: str) -> None:
    """Raises where a resumed training would become another one.

    Args:
        old: settings, or sections {name: {setting: value}} of them, that it was begun with.
        new: those that it is to go on with.
        free: which may differ: a setting, `section.setting` or a whole section.
        what: what it is called in the message: a run.

    Raises:
        ViceError: the first that differs.

    Example:
        >>> check_same({"trainer": {"epochs": 2}}, {"trainer": {"epochs": 3}}, ("trainer.epochs",), "run")
    """
    for path, was, now in _flat(old, new):
        if was != now and path not in free and path.partition(".")[0] not in free:
            raise ViceError(
                f"A {what} goes on with the settings that it was begun with, but `{path}` was {was!r} and is {now!r}.",
                f"Give it as it was, or begin another {what}: -o session_name=NAME.",
            )


def _flat(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    flat = [(name, old[name], new[name]) for name in old if not isinstance(old[name], dict)]
    return flat + [
        (f"{top}.{name}", old[top][name], new[top].get(name))
        for top in old
        if isinstance(old[top], dict)
        for name in old[top]
    ]
