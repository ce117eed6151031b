"""Exponential moving average of the weights, which is validated, saved and measured in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["AveragedWeights", "averaged"]


class AveragedWeights(WeightAveraging):
    """An exponential moving average, updated after every optimiser step; buffers such as BatchNorm's are averaged too.

    Update n keeps min(decay, (1 + n) / (10 + n)) of the average, as TensorFlow's and timm's warm-up do, so that the
    first weights are soon forgotten even in a short training. A checkpoint holds the average as its `state_dict`, and
    separately the weights that training continues with.

    Args:
        decay: per step, between 0 and 1.
        further: arguments of Lightning's callback.
    """

    def __init__(self, decay: float, **further: Any) -> None:
        super().__init__(multi_avg_fn=self._update, **further)
        self.decay = decay

    def decay_at(self, updates: int) -> float:
        """The share of the average that the next update keeps, after so many updates."""
        return min(self.decay, (1 + updates) / (10 + updates))

    def _update(self, averages: Any, weights: Any, updates: torch.Tensor | int) -> None:
        get_ema_multi_avg_fn(self.decay_at(int(updates)))(averages, weights, updates)


@contextlib.contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Give the module the weights that a checkpoint saves: the average, if the trainer keeps one; restore them.

    Any of Lightning's averages counts, not only `AveragedWeights`.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    # An average exists from the start of the fit on.
    averages = [each for each in callbacks if isinstance(each, WeightAveraging) and each._average_model is not None]
    for average in averages:
        average._swap_models(pl_module)
    try:
        yield
    finally:
        for average in reversed(averages):
            average._swap_models(pl_module)
