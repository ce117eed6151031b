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
    def swapped_in(self, pl_module: LightningModule) -> Iterator[None]:
        """Put the average in place of the module's weights; both are restored, error or not."""
        self._swap_models(pl_module)
        try:
            yield
        finally:
            self._swap_models(pl_module)


@contextlib.contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Give the module the weights that would be saved: the average, if the trainer keeps one."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, AveragedWeights)]  # type: ignore[attr-defined]
    with averages[0].swapped_in(pl_module) if averages else contextlib.nullcontext():
        yield
