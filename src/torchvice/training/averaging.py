"""The moving average of a network's weights, which is validated, saved and measured in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

__all__ = ["AveragedWeights", "averaged"]


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average after every step of the optimiser; buffers such as BatchNorm's are averaged too.

    The first step's weights begin it. A checkpoint holds the average as its `state_dict`, and the weights that the
    training goes on with beside it.
    """

    @contextlib.contextmanager
    def shown(self, pl_module: LightningModule) -> Iterator[None]:
        """The module with the average in place of its weights; both are given back, error or not."""
        self._swap_models(pl_module)
        try:
            yield
        finally:
            self._swap_models(pl_module)


@contextlib.contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """The module as it would be saved: with the average of its weights, if the training makes one."""
    found = [callback for callback in trainer.callbacks if isinstance(callback, AveragedWeights)]  # type: ignore[attr-defined]
    with found[0].shown(pl_module) if found else contextlib.nullcontext():
        yield
