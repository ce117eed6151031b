"""Exponential moving average of the weights, which is validated, saved and measured in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

__all__ = ["AveragedWeights", "averaged"]


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average, updated after every optimiser step; buffers such as BatchNorm's are averaged too.

    It starts from the weights after the first step. A checkpoint holds the average as its `state_dict`, and separately
    the weights that training continues with.
    """


@contextlib.contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Give the module the weights that a checkpoint saves: the average, if the trainer keeps one; restore them."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, AveragedWeights)]  # type: ignore[attr-defined]
    for average in averages:
        average._swap_models(pl_module)
    try:
        yield
    finally:
        for average in averages:
            average._swap_models(pl_module)
