"""Regularisation settings as arguments of the network and as callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from torchvice.config import Settings
from torchvice.config.sections import RegularisationSettings
from torchvice.errors import ViceError
from torchvice.training.averaging import AveragedWeights

__all__ = ["dropout_arguments", "regularisation_callbacks", "stopped_early"]


def dropout_arguments(settings: Settings) -> dict[str, float]:
    """Dropout and stochastic depth as timm's arguments.

    They have no weights, so a finished run's network is built without them.

    Raises:
        ViceError: `model.arguments` sets one of them too.
    """
    names = {"drop_rate": "dropout", "drop_path_rate": "drop_path"}
    rates = {argument: getattr(settings.regularisation, name) for argument, name in names.items()}
    rates = {argument: rate for argument, rate in rates.items() if rate > 0}
    for argument in sorted(rates.keys() & settings.model.arguments.keys()):
        raise ViceError(
            f"`model.arguments.{argument}` and `regularisation.{names[argument]}` must not both be given: they set the "
            "same rate.",
            f"Leave out model.arguments.{argument}.",
        )
    return rates


def regularisation_callbacks(regularisation: RegularisationSettings) -> list[Any]:
    """Callbacks for the moving average (`ema`) and for early stopping (`patience`), where they are set."""
    averaging = [AveragedWeights(decay=regularisation.ema)] if regularisation.ema else []
    patience = regularisation.patience
    # Checked before the checkpoint of the epoch is written, so that a resumed run keeps the count of epochs waited.
    stopping = [EarlyStopping("val/loss", patience=patience, check_on_train_epoch_end=True)] if patience else []
    return [*averaging, *stopping]


def stopped_early(state: Mapping[str, Any], regularisation: RegularisationSettings) -> bool:
    """Whether early stopping ended the training of this checkpoint, so that resuming must not continue it."""
    stoppers = [value for name, value in state["callbacks"].items() if name.startswith("EarlyStopping")]
    return regularisation.patience is not None and any(value["stopped_epoch"] for value in stoppers)
