"""Start a training in an empty folder, or resume it after its last finished epoch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torchvice.config import Settings
from torchvice.errors import ViceError, check_kind
from torchvice.files.lock import locked

if TYPE_CHECKING:
    from rich.console import Console
    from torch.utils.data import DataLoader

__all__ = ["check_same", "check_settings", "check_steps", "is_rank_zero", "load_state", "locked_folder", "start_of"]


def check_settings(settings: Any) -> None:
    """Check that settings are given, not the name of some.

    Raises:
        ViceError: something else.
    """
    check_kind("settings", settings, Settings, "settings", "Read them: torchvice.config.load_settings(PRESET).")


def is_rank_zero() -> bool:
    """Whether this is the first process of the training, not one that was started for a further device."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "SLURM_PROCID", "RANK"))


@contextlib.contextmanager
def locked_folder(folder: Path, manifest: str, what: str, resume: bool) -> Iterator[Path | None]:
    """Hold the folder of a training inside the block; yields the checkpoint to resume from, if any.

    Of the processes of one training, the first holds it for the others.

    Args:
        folder: folder of the training; its checkpoints are in `checkpoints`.
        manifest: name of the file that every started training has there.
        what: word for the training in messages, such as "run".
        resume: whether to resume.

    Raises:
        ViceError: another training writes to the folder; there is nothing to resume, or a new training would overwrite
            another.
    """
    mine = is_rank_zero()
    lock = locked(folder / "training.lock", f"A {what} in {folder}", keep=False)
    with lock if mine else contextlib.nullcontext():
        if resume and mine:
            for part in (folder / "checkpoints").glob(".*.part.ckpt"):  # left by a kill during writing
                part.unlink(missing_ok=True)
        yield _last_checkpoint(folder, manifest, what, resume)


def start_of(folder: Path, manifest: str, what: str, resume: bool) -> Path | None:
    """Check the folder as `locked_folder` does, before the data and the network are read; it is not created.

    Returns:
        The checkpoint to resume from; None: start with the first epoch.
    """
    if not folder.is_dir():
        return _last_checkpoint(folder, manifest, what, resume)
    with locked_folder(folder, manifest, what, resume) as last:
        return last


def _last_checkpoint(folder: Path, manifest: str, what: str, resume: bool) -> Path | None:
    """Find the checkpoint to resume from; None: start with the first epoch. See `locked_folder`."""
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    if resume and not (folder / manifest).is_file():
        raise ViceError(f"No {what} to resume found in {folder}.", "Is the name right? To start, leave out --resume.")
    # Processes for further devices arrive here after the first one has started to write.
    if not resume and is_rank_zero() and any(checkpoints.glob("*.ckpt")):
        other = f"choose another name: -o session_name=NAME{_or_folder(what)}"
        raise ViceError(f"{folder} already holds a {what}.", f"Resume it (--resume), or {other}.")
    return last if resume and last.is_file() else None


def _or_folder(what: str) -> str:
    """The other way to another folder, which only a pre-training has."""
    return " (or another folder: --out DIR)" if what == "pre-training" else ""


def load_state(last: Path | None, epochs: int, console: Console) -> dict[str, Any] | None:
    """Read the checkpoint to resume from, and print where training resumes; None without a checkpoint.

    Args:
        last: see `locked_folder`.
        epochs: number of epochs of the whole training.
        console: where to print.

    Raises:
        ViceError: see `read_checkpoint`.
    """
    from torchvice.training.checkpoints import read_checkpoint

    if last is None:
        return None
    state = read_checkpoint(last)
    done = state["epoch"] + 1
    console.print(f"Resuming after epoch {done}: {last}", highlight=False, markup=False, soft_wrap=True)
    if done >= epochs:
        console.print(f"All {epochs} epochs are already trained.", highlight=False)
    return state


def check_same(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    free: Collection[str],
    what: str,
    fixed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Check that a training resumes with the settings that it started with.

    Args:
        old: settings {name: value}, or sections {name: {setting: value}}, that the training started with.
        new: settings to resume with.
        free: names that may differ: `setting`, `section.setting` or a whole `section`.
        what: word for the training in messages, such as "run".
        fixed: names among `free` that may not differ in this training, and why.

    Raises:
        ViceError: a setting differs; the message names the first.

    Example:
        >>> check_same({"trainer": {"epochs": 2}}, {"trainer": {"epochs": 3}}, ("trainer.epochs",), "run")
    """
    for path, was, now in _flat(old, new):
        may_differ = path not in fixed and (path in free or path.partition(".")[0] in free)
        if was != now and not may_differ:
            reason = f", and {fixed[path]}" if path in fixed else ""
            raise ViceError(
                f"A {what} must resume with the settings that it started with, but `{path}` "
                f"was {was!r} and is {now!r}{reason}.",
                f"Restore the setting, or start another {what}: -o session_name=NAME{_or_folder(what)}.",
            )


def check_steps(state: Mapping[str, Any], loader: DataLoader[Any], devices: int, accumulate: int, what: str) -> None:
    """Check that an epoch has as many steps as before, where the rates depend on the step.

    Args:
        state: see `load_state`.
        loader: of the training images, before they are shared by the devices.
        devices: number of devices that share the images.
        accumulate: batches of a step.
        what: word for the training in messages, such as "run".

    Raises:
        ViceError: another number of steps, such as on more devices.
    """
    size, share = int(loader.batch_size or 1), -(-len(loader.sampler) // devices)  # type: ignore[arg-type]
    batches = share // size if loader.drop_last else -(-share // size)
    steps, before = -(-batches // accumulate), state["global_step"] / (state["epoch"] + 1)
    if steps != before:
        raise ViceError(
            f"A {what} must resume with as many steps an epoch as before, since its rates depend on them, but had "
            f"{before:g} and has {steps} with {devices} device{'s' if devices > 1 else ''}.",
            "Restore the number of devices (trainer.devices, trainer.num_nodes) and the images of the split.",
        )


def _flat(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    flat = [(name, old[name], new[name]) for name in old if not isinstance(old[name], dict)]
    return flat + [
        (f"{top}.{name}", old[top][name], new[top].get(name))
        for top in old
        if isinstance(old[top], dict)
        for name in old[top]
    ]
