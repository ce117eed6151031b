"""What the settings of regularisation make of a training: arguments of the network, and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from torchvice.config import Settings
from torchvice.config.sections import RegularisationSettings
from torchvice.errors import ViceError
from torchvice.training.averaging import AveragedWeights

__all__ = ["dropping", "regularising", "stopped_early"]


def dropping(settings: Settings) -> dict[str, float]:
    """Dropout and stochastic depth as arguments of timm's.

    They have no weights of their own: a run's network is built without them.
    """
    chosen = settings.regularisation
    asked = {"drop_rate": chosen.dropout, "drop_path_rate": chosen.drop_path}
    asked = {name: rate for name, rate in asked.items() if rate > 0}
    twice = sorted(asked.keys() & settings.model.arguments.keys())
    if twice:
        setting = "dropout" if twice[0] == "drop_rate" else "drop_path"
        raise ViceError(
            f"`model.arguments.{twice[0]}` and `regularisation.{setting}` must not both be given: they are the same.",
            f"Leave out model.arguments.{twice[0]}.",
        )
    return asked


def regularising(chosen: RegularisationSettings) -> list[Any]:
    """The callbacks that average the weights and end the training early, if they are asked for."""
    averaging = [AveragedWeights(decay=chosen.ema)] if chosen.ema else []
    patience = chosen.patience
    # At the end of an epoch, before the checkpoint is written, so that a resume knows how long was waited.
    stopping = [EarlyStopping("val/loss", patience=patience, check_on_train_epoch_end=True)] if patience else []
    return [*averaging, *stopping]


def stopped_early(state: Mapping[str, Any], chosen: RegularisationSettings) -> bool:
    """Whether the training of a checkpoint was ended by its patience, and is therefore not to go on."""
    kept = [value for name, value in state["callbacks"].items() if name.startswith("EarlyStopping")]
    return chosen.patience is not None and any(value["stopped_epoch"] for value in kept)
