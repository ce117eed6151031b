"""Atomic checkpoints, and the seeded order of images and random numbers that makes resuming exact."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import Sampler

from torchvice.errors import ViceError
from torchvice.files import atomic, existing_file
from torchvice.models.bare import non_finite_of, what_holds

__all__ = [
    "AtomicCheckpoints",
    "EpochSampler",
    "SeededEpochs",
    "best_and_last",
    "check_best",
    "only_last",
    "read_checkpoint",
]

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


class AtomicCheckpoints(TorchCheckpointIO):
    """Write Lightning's checkpoints atomically, and read them without running code.

    Lightning itself writes to the system's temporary folder first. On another file system its last step is a copy, and
    a kill leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to the local file `path`."""
        with atomic(path) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, wherever its folder was moved to; `weights_only` is always on."""
        content = read_checkpoint(path, map_location)
        folder = os.path.realpath(Path(path).parent)
        states = content.get("callbacks", {})
        moved = {name: _in_folder(state, folder) for name, state in states.items() if _is_of_checkpoints(state)}
        return content | {"callbacks": states | moved}


def _is_of_checkpoints(state: Any) -> bool:
    """Whether this is the state of a ModelCheckpoint."""
    return isinstance(state, dict) and {"dirpath", "best_k_models"} <= state.keys()


def _in_folder(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the state of a ModelCheckpoint with its files in `folder`.

    Lightning drops the best score where the folder has another name, and would overwrite the best checkpoint.
    """

    def moved(path: str) -> str:
        return os.path.join(folder, os.path.basename(path)) if path else path

    paths = {name: moved(state[name]) for name in _PATHS if name in state}
    best = {moved(path): score for path, score in state["best_k_models"].items()}
    return {**state, **paths, "dirpath": folder, "best_k_models": best}


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Read a training checkpoint (weights, optimiser, schedule, loops) without running code.

    Raises:
        ViceError: no such file, a damaged one, or not a training checkpoint.
    """
    path = existing_file(path, "The checkpoint")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # zip, pickle and torch raise different types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
        raise ViceError(
            f"The checkpoint {path} cannot be read: {reason}.", "Start again under another name: -o session_name=NAME."
        ) from None
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "epoch"} <= content.keys():
        raise ViceError(
            f"The checkpoint {path} must hold the state of a training, but holds something else.",
            "To start from weights only: -o model.weights=FILE.",
        )
    return content


def best_and_last(folder: Path) -> list[ModelCheckpoint]:
    """Write best.ckpt (least val/loss) and last.ckpt at the end of every epoch.

    Two callbacks, because a single one writes last.ckpt only in epochs that are the best so far.
    """
    # last.ckpt is written second, so that it holds the best loss that resuming needs.
    return [_checkpoint(folder, filename="best", monitor="val/loss", mode="min"), only_last(folder)]


def only_last(folder: Path) -> ModelCheckpoint:
    """Write last.ckpt at the end of every epoch."""
    return _checkpoint(folder, filename="last")


def check_best(path: Path, buffers: Collection[str], way_out: str) -> None:
    """Check that best.ckpt is of an epoch with a finite val/loss, and that its weights are finite.

    The first epoch is always saved; a later one only if its val/loss is lower.

    Args:
        path: best.ckpt.
        buffers: names of those tensors of the network that are buffers: a mask of attention may hold -infinity.
        way_out: see `ViceError`.

    Raises:
        ViceError: the loss or a tensor of the network is NaN or infinite; or see `read_checkpoint`.
    """
    content = read_checkpoint(path)
    scores = [state.get("best_model_score") for state in content["callbacks"].values() if isinstance(state, dict)]
    if any(score is not None and not np.isfinite(float(score)) for score in scores):
        raise ViceError("The validation loss must be finite in at least one epoch, but is in none.", way_out)
    tensors = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    if bad := non_finite_of(tensors, buffers):
        raise ViceError(f"The weights must stay finite, but {what_holds(bad)} NaN or infinity in {path}.", way_out)


def _checkpoint(folder: Path, **arguments: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        save_top_k=1,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        **arguments,
    )


def _derived_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class EpochSampler(Sampler[int]):
    """Random order that depends on seed and epoch only, so that a resumed epoch sees the same order.

    Args:
        length: number of images.
        seed: seed of all epochs.
        epoch: first epoch; see `set_epoch`.

    Attributes:
        generator: for the DataLoader, whose workers it seeds; reseeded in every epoch.
    """

    def __init__(self, length: int, seed: int, epoch: int = 0) -> None:
        self.length = length
        self.seed = seed
        self.generator = torch.Generator()
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, 0, 1, ..., whose order is drawn next."""
        self.epoch = epoch
        self.generator.manual_seed(_derived_seed(self.seed, epoch, 1))

    def worker_seed(self) -> int:
        """The base seed that a DataLoader with `generator` draws for the workers of this epoch, without drawing it."""
        generator = torch.Generator().manual_seed(_derived_seed(self.seed, self.epoch, 1))
        return int(torch.empty((), dtype=torch.int64).random_(generator=generator))

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(_derived_seed(self.seed, self.epoch, 0))
        return iter(torch.randperm(self.length, generator=order).tolist())

    def __len__(self) -> int:
        return self.length


class SeededEpochs(Callback):
    """Seed each epoch (augmentation, dropout) from seed, epoch and rank, and set the sampler's epoch."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the epoch; the order of images is the same on all ranks, which divide it among them."""
        self.sampler.set_epoch(trainer.current_epoch)
        seed = _derived_seed(self.sampler.seed, trainer.current_epoch, 2, trainer.global_rank)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (lightly's blur draws from numpy)
