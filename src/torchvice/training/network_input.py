"""The input that a network's weights expect, in the place of settings that are left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchvice.config import IMAGENET_MEAN, IMAGENET_STD, Settings
from torchvice.models.build import Preprocessing, preprocessing
from torchvice.models.encoder_files import Normalisation
from torchvice.models.schemes import PUBLISHED_WITH_IMAGENET

if TYPE_CHECKING:
    from torch import nn

    from torchvice.models.pretraining import Pretrained

__all__ = ["OPEN", "described_input", "expected_input", "with_input"]

# Settings of the transform that may be None, and the field of Preprocessing that takes their place.
OPEN = {"crop": "size", "interpolation": "interpolation", "mean": "mean", "std": "std"}


def expected_input(model: nn.Module, loaded: Pretrained | None = None) -> Preprocessing:
    """The input that the weights of a network expect: timm's values for its name and tag.

    Files that torchvice wrote expect the mean and std of their training; those of MoCo, BYOL, DINO, DenseCL and MAE, as
    their authors published them, ImageNet's.

    Args:
        model: the network.
        loaded: the report of the file that it starts from, if any.
    """
    stated, trained_with = preprocessing(model), _normalisation(loaded)
    return replace(stated, mean=trained_with.mean, std=trained_with.std) if trained_with else stated


def _normalisation(loaded: Pretrained | None) -> Normalisation | None:
    """The normalisation of the training that the weights of a file come from; None: neither it nor its scheme says."""
    if loaded is None:
        return None
    published = not loaded.own and loaded.scheme in PUBLISHED_WITH_IMAGENET
    return loaded.normalisation or (Normalisation(IMAGENET_MEAN, IMAGENET_STD) if published else None)


def with_input(settings: Settings, expected: Preprocessing) -> Settings:
    """The settings with what the weights expect, where `transform` leaves it open.

    Views of the whole image are then assessed at the size of the training, unless `assess.view_size` is given.
    """
    transform, assess = settings.transform, settings.assess
    values: dict[str, Any] = {name: getattr(expected, field) for name, field in OPEN.items()}
    values["crop"] = max(expected.size)
    missing = {name: value for name, value in values.items() if getattr(transform, name) is None}
    transform = transform.model_copy(update=missing)
    if transform.view == "resized_crop" and assess.view_size is None:
        assess = assess.model_copy(update={"view_size": transform.side})
    return settings.model_copy(update={"transform": transform, "assess": assess})


def described_input(asked: Settings, settings: Settings, expected: Preprocessing, loaded: Pretrained | None) -> str:
    """Sentences on the input of a training: what was left open, and where the settings differ from the weights; or "".

    Args:
        asked: the settings as given.
        settings: the same, completed by `with_input`.
        expected, loaded: see `expected_input`.
    """
    transform, name = settings.transform, settings.model.name
    source = _source(loaded, name)
    open_: dict[str, list[str]] = {}
    for field in OPEN:
        if getattr(asked.transform, field) is None:
            stated_by = source if field in ("mean", "std") else _source(None, name)
            open_.setdefault(stated_by, []).append(f"{field} {_text(getattr(transform, field))}")
    parts = [f"{', '.join(values)}, as {stated_by}" for stated_by, values in open_.items()]
    sentences = [f"Input: {'; '.join(parts)}."] if parts else []
    given = [field for field in ("mean", "std") if getattr(transform, field) != tuple(getattr(expected, field))]
    # A training that resumes does not read the file again.
    if given and (settings.model.pretrained if settings.model.weights is None else loaded is not None):
        theirs = ", ".join(f"{field} {_text(tuple(getattr(expected, field)))}" for field in given)
        ours = ", ".join(f"{field} {_text(getattr(transform, field))}" for field in given)
        sentences.append(f"The settings give {ours}, but {source} {theirs}.")
    if transform.view == "resized_crop" and expected.crop_share < 1:
        share = f"the central {expected.crop_share:g} of the sides"
        sentences.append(
            f"Validation and strict show the whole image, not {share}, where timm evaluates these weights."
        )
    return " ".join(sentences)


def _source(loaded: Pretrained | None, name: str) -> str:
    """Who gives mean and std (see `_normalisation`), for a sentence in which the values follow; `name` is timm's."""
    if loaded is None or _normalisation(loaded) is None:
        return f"timm states for {name}"
    return f"{loaded.path.name} was trained with" if loaded.normalisation else f"{loaded.scheme} was published with"


def _text(value: Any) -> str:
    """The value of a setting, as it is typed; three equal numbers are one."""
    if isinstance(value, tuple):
        return f"{value[0]:g}" if len(set(value)) == 1 else ",".join(f"{number:g}" for number in value)
    return str(value)
