"""How the learning rate goes over a training: pure functions from a step or an epoch to a factor of the full rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["learning_rate", "paper_factor", "warmup_cosine_factor"]

# The original's numbers, made for its 20 epochs; they do not stretch with the length of the training.
PAPER_WARMUP_EPOCHS = 5
PAPER_DECAY_EPOCH = 16


def paper_factor(epoch: int) -> float:
    """The rate's factor in epoch 0, 1, ... as the original's parts add up to.

    Rate 0 in epoch 0 (the weights rest, only BatchNorm's statistics move), k/5 in epoch k, 1 from epoch 5 and 0.1 from
    epoch 16 on.

    Example:
        >>> [paper_factor(epoch) for epoch in (0, 1, 4, 5, 15, 16, 19)]
        [0.0, 0.2, 0.8, 1.0, 1.0, 0.1, 0.1]
    """
    return min(epoch / PAPER_WARMUP_EPOCHS, 1.0) * (0.1 if epoch >= PAPER_DECAY_EPOCH else 1.0)


def warmup_cosine_factor(step: int, steps: int, warmup: float) -> float:
    """A line up to the full rate, then half a cosine down towards 0.

    Args:
        step: the optimiser's step, 0 to steps - 1; beyond that the factor is 0.
        steps: all steps of the training.
        warmup: the line's part of all steps, in [0, 1); a whole number of steps, rounded.

    Example:
        >>> [round(warmup_cosine_factor(step, 6, 1 / 3), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    done = min((step - rising) / max(steps - rising, 1), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * done))


def learning_rate(
    optimizer: Optimizer, name: str, *, steps: int, steps_per_epoch: int, warmup: float = 0.05
) -> LRScheduler:
    """The named schedule for an optimiser that holds the full rate, to be stepped after each step of the optimiser.

    Args:
        optimizer: its `lr` is the full rate.
        name: `warmup_cosine`, `paper`, `constant`, or `one_cycle`: torch's OneCycleLR with its defaults, up to the full
            rate over 30 % of the steps and down again, momentum (or the first beta) the other way from 0.95 to 0.85.
        steps: all steps of the training.
        steps_per_epoch: what `paper` takes for an epoch.
        warmup: see `warmup_cosine_factor`.

    Raises:
        ViceError: an unknown name.

    References:
        Smith & Topin, Super-convergence, 2019 (one_cycle).
    """
    from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

    # All by the step, also where the factor belongs to an epoch: what a checkpoint keeps is then right at any place.
    if name == "one_cycle":
        full = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, full, total_steps=steps)
    if name == "paper":
        return LambdaLR(optimizer, lambda step: paper_factor(step // max(steps_per_epoch, 1)))
    if name == "warmup_cosine":
        return LambdaLR(optimizer, lambda step: warmup_cosine_factor(step, steps, warmup))
    if name == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    raise ViceError(
        f"The schedule must be warmup_cosine, paper, one_cycle or constant, but is {name!r}.",
    )
