"""Learning rate schedules: pure functions from a step or an epoch to a factor of the full rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["OF_WHOLE_TRAINING", "learning_rate", "paper_factor", "warmup_cosine_factor"]

# The original's numbers for its 20 epochs; they do not scale with the number of epochs.
PAPER_WARMUP_EPOCHS = 5
PAPER_DECAY_EPOCH = 16
# Schedules whose rates depend on the number of epochs from the first step on.
OF_WHOLE_TRAINING = ("warmup_cosine", "one_cycle")
# Where one_cycle moves momentum: torch's OneCycleLR by default.
CYCLED_MOMENTUM = (0.85, 0.95)


def paper_factor(epoch: int) -> float:
    """Factor of the rate in epoch 0, 1, ..., as the original's schedulers combine.

    It is 0 in epoch 0 (only BatchNorm's statistics change), k/5 in epoch k, 1 from epoch 5 and 0.1 from epoch 16 on.

    Example:
        >>> [paper_factor(epoch) for epoch in (0, 1, 4, 5, 15, 16, 19)]
        [0.0, 0.2, 0.8, 1.0, 1.0, 0.1, 0.1]
    """
    return min(epoch / PAPER_WARMUP_EPOCHS, 1.0) * (0.1 if epoch >= PAPER_DECAY_EPOCH else 1.0)


def warmup_cosine_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up to the full rate, then half a cosine down to 0.

    Args:
        step: step of the optimiser, 0 to steps - 1; beyond that the factor is 0.
        steps: number of steps of the whole training.
        warmup: share of the steps that warm up, in [0, 1); rounded to whole steps.

    Example:
        >>> [round(warmup_cosine_factor(step, 6, 1 / 3), 3) for step in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = min((step - rising) / max(steps - rising, 1), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(
    optimizer: Optimizer, name: str, *, steps: int, steps_per_epoch: int, warmup: float = 0.05
) -> LRScheduler:
    """Build a schedule by name; call its `step()` after each step of the optimiser.

    Args:
        optimizer: its `lr` is the full rate.
        name: `warmup_cosine`, `paper`, `constant`, or `one_cycle`: torch's OneCycleLR with its defaults, up to the full
            rate over 30 % of the steps and down again, while momentum (or the first beta) goes from 0.95 to 0.85 and
            back; a momentum outside of that range stays as it is.
        steps: number of steps of the whole training.
        steps_per_epoch: steps of one epoch, for `paper`.
        warmup: see `warmup_cosine_factor`.

    Raises:
        ViceError: an unknown name.

    References:
        Smith & Topin, Super-convergence, 2019 (one_cycle).
    """
    from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

    # Every schedule counts steps, `paper` too: a checkpoint written at any step then resumes correctly.
    if name == "one_cycle":
        full = [group["lr"] for group in optimizer.param_groups]
        momentum = optimizer.defaults.get("momentum", CYCLED_MOMENTUM[0])
        cycled = CYCLED_MOMENTUM[0] <= momentum <= CYCLED_MOMENTUM[1]
        return OneCycleLR(optimizer, full, total_steps=steps, cycle_momentum=cycled)
    if name == "paper":
        return LambdaLR(optimizer, lambda step: paper_factor(step // max(steps_per_epoch, 1)))
    if name == "warmup_cosine":
        return LambdaLR(optimizer, lambda step: warmup_cosine_factor(step, steps, warmup))
    if name == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    raise ViceError(f"The schedule must be warmup_cosine, paper, one_cycle or constant, but is {name!r}.")
