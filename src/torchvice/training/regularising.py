"""Regularisation settings as arguments of the network and as callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import EarlyStopping

from torchvice.config import Settings
from torchvice.config.sections import RegularisationSettings
from torchvice.errors import ViceError
from torchvice.training.averaging import AveragedWeights

if TYPE_CHECKING:
    from torchvice.data import FolderDataset

__all__ = ["check_repair", "dropout_arguments", "regularisation_callbacks", "repairs", "stopped_early"]


def repairs(regularisation: RegularisationSettings) -> list[str]:
    """Names of the settings that change images by their masks and are on."""
    return [name for name in ("swap_background", "erase_object") if getattr(regularisation, name) > 0]


def check_repair(settings: Settings, training: FolderDataset) -> str:
    """Check that the training data allows `swap_background` and `erase_object`, where they are on.

    Returns:
        A sentence on images without a mask, or "".

    Raises:
        ViceError: no image has a mask, there is one image only, or an object is to be erased whose label is the only
            one that an image can have.
    """
    names = repairs(settings.regularisation)
    if not names:
        return ""
    images, missing, name = len(training), training.masks_missing, names[0]
    if settings.data.exclusive and "erase_object" in names:
        raise ViceError(
            "`regularisation.erase_object` must be 0 with exclusive classes (`data.exclusive`), but is "
            f"{settings.regularisation.erase_object:g}: an image without its object would have no label.",
            "Use -o regularisation.swap_background=0.5 instead.",
        )
    if missing == images:
        raise ViceError(
            f"`regularisation.{name}` needs masks of the training images, but no image of {training.split} has one.",
            "Add masks (see docs/your-data.md), or leave the setting out.",
        )
    if images < 2:
        raise ViceError(f"`regularisation.{name}` needs 2 training images or more, but {training.split} has {images}.")
    if not missing:
        return ""
    return f"{missing} of {images} training images have no mask and stay unchanged ({' and '.join(names)})."


def dropout_arguments(settings: Settings) -> dict[str, float]:
    """Dropout and stochastic depth as timm's arguments.

    They have no weights, so a finished run's network is built without them.

    Raises:
        ViceError: `model.arguments` sets one of them too; or stochastic depth with a linear probe, whose blocks are not
            trained.
    """
    if settings.model.linear_probe and settings.regularisation.drop_path > 0:
        raise ViceError(
            "`regularisation.drop_path` must be 0 with `model.linear_probe`, but is "
            f"{settings.regularisation.drop_path:g}: the blocks are frozen, and none of them is skipped.",
            "Leave out one of the two; `regularisation.dropout` works with a linear probe.",
        )
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
    # A loss that is not finite stops it too. After the first epoch, `stopped_epoch` is then 0, as if it had not
    # stopped, but there is no best loss.
    stopped = any(value["stopped_epoch"] or not isfinite(value["best_score"]) for value in stoppers)
    return regularisation.patience is not None and stopped
