"""Checkpoints that appear whole or not at all, and the order of images and chance that makes a resume exact."""

from __future__ import annotations

import os
from collections.abc import Iterator
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

__all__ = ["EpochSampler", "SeededEpochs", "WholeFiles", "best_and_last", "only_last", "read_checkpoint"]


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoints, put in place by a rename in their own folder, and read without running code.

    Lightning's own saving goes through the system's temporary folder: on another file system its last step is a copy,
    and a kill leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to the local file `path`."""
        with atomic(path) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; `weights_only` is always on."""
        return read_checkpoint(path, map_location)


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """A whole training checkpoint: weights, optimiser, schedule, loops. Nothing in it can run.

    Raises:
        ViceError: no such file, damaged, or not a checkpoint of a training.
    """
    path = existing_file(path, "The checkpoint")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # zip's, pickle's and torch's own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")
        raise ViceError(f"The checkpoint {path} cannot be read: {reason}.", "Start anew in another folder.") from None
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "epoch"} <= content.keys():
        raise ViceError(
            f"The checkpoint {path} must hold a training's state, but holds something else.",
            "To start from weights alone, name the file as model.weights.",
        )
    return content


def best_and_last(folder: Path) -> list[ModelCheckpoint]:
    """best.ckpt, the least val/loss, and last.ckpt, both written at the end of an epoch.

    Two callbacks: of one, Lightning writes last.ckpt only in epochs that are the best so far.
    """
    # The last after the best, whose best loss it keeps for a resume.
    return [_kept(folder, filename="best", monitor="val/loss", mode="min"), only_last(folder)]


def only_last(folder: Path) -> ModelCheckpoint:
    """last.ckpt, written at the end of every epoch."""
    return _kept(folder, filename="last")


def _kept(folder: Path, **how: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        save_top_k=1,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        **how,
    )


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class EpochSampler(Sampler[int]):
    """A random order that follows from seed and epoch alone, so that a resumed epoch is the same as it would have been.

    Args:
        length: images.
        seed: of all orders.
        epoch: the first epoch; `set_epoch` goes on.

    `generator` is for the DataLoader: it seeds the workers, anew in every epoch.
    """

    def __init__(self, length: int, seed: int, epoch: int = 0) -> None:
        self.length = length
        self.seed = seed
        self.generator = torch.Generator()
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`, 0, 1, ..."""
        self.epoch = epoch
        self.generator.manual_seed(_mixed(self.seed, epoch, 1))

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(_mixed(self.seed, self.epoch, 0))
        return iter(torch.randperm(self.length, generator=order).tolist())

    def __len__(self) -> int:
        return self.length


class SeededEpochs(Callback):
    """Seeds each epoch's chance (augmentation, dropout) from seed, epoch and process; tells the sampler the epoch."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed; the images' order is the same in all processes, which share it out."""
        self.sampler.set_epoch(trainer.current_epoch)
        seed = _mixed(self.sampler.seed, trainer.current_epoch, 2, trainer.global_rank)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (lightly's blur asks numpy)
