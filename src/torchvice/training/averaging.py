"""Exponential moving average of the weights, which is validated, saved and measured in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

__all__ = ["AveragedWeights", "averaged"]

# Share of the weights after the first step in the final average, above which the training says so.
MOSTLY_START = 0.5


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average, updated after every optimiser step; buffers such as BatchNorm's are averaged too.

    It starts from the weights after the first step. A checkpoint holds the average as its `state_dict`, and separately
    the weights that training continues with.

    Args:
        decay: per step, between 0 and 1.
        further: arguments of Lightning's callback.
    """

    def __init__(self, decay: float, **further: Any) -> None:
        super().__init__(decay=decay, **further)
        self.decay = decay

    def too_few_steps(self, steps: int) -> str | None:
        """Return a sentence if the average is mostly the start after `steps` optimiser steps, else None."""
        share = self.decay ** max(steps - 1, 0)
        if share <= MOSTLY_START:
            return None
        return (
            f"The training has {steps} step{'s' * (steps != 1)}. After them, the moving average of the weights "
            f"(regularisation.ema={self.decay:g}), which is validated and saved, still holds {share:.0%} of the "
            "weights after the first step. Train for more epochs, or give -o regularisation.ema=0."
        )


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
