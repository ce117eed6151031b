"""The user's network as explainers take it: of RGB images, with the logits of the data's classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.outputs import before_softmax, giving_logits
from torchvice.errors import ViceError
from torchvice.models.adapt import of_side, taking_rgb, with_complement, with_output
from torchvice.models.bare import bare

__all__ = ["adapted", "positive_of"]


def positive_of(groups: Sequence[Sequence[int]] | None) -> int | None:
    """Of two classes the one that the only output of a network means; None for any other class map."""
    plain = [] if groups is None else [list(group) for group in groups]
    return 1 - plain.index([]) if len(plain) == 2 and [] in plain and [0] in plain else None


def _refuse_shared_outputs(groups: Sequence[Sequence[int]] | None) -> None:
    """Refuse two classes of the same outputs: they would always be equally likely."""
    sets = [frozenset(group) for group in groups or ()]
    for place, own in enumerate(sets):
        if own in sets[:place]:
            raise ViceError(
                f"Classes that exclude each other need outputs of their own, but classes {sets.index(own)} and {place} "
                f"have the same: {sorted(own)}.",
                "If the only output of a network means one of two classes, name that class alone in the class map.",
            )


def _refuse_two_towers(model: nn.Module) -> None:
    """Refuse a network of images and texts, such as CLIP: without texts it has no classes."""
    if any(callable(getattr(model, name, None)) for name in ("encode_text", "get_text_features")):
        raise ViceError(
            f"{type(model).__name__} compares images with texts, and has no classes without them.",
            "Give it the names of the classes: torchvice.models.zero_shot.zero_shot(model, tokenizer, classes). The "
            "command does so for --model open_clip:NAME and --model transformers:FOLDER.",
        )


def adapted(model: nn.Module, settings: MapSettings, exclusive: bool) -> nn.Module:
    """The network without wrappers, as the explainers take it: of RGB images, with the logits of the data's classes."""
    model = bare(model)
    _refuse_two_towers(model)
    if settings.output is not None:
        model = with_output(model, settings.output)
    given = of_side(model, settings.given_side)
    if (model := taking_rgb(given)) is not given:
        warnings.warn("The network takes one channel: images are converted to grey.", stacklevel=4)
    if settings.outputs == "probabilities":
        model = giving_logits(model, exclusive, settings.class_map)
    elif settings.outputs == "softmax":
        model = before_softmax(model)
    positive = positive_of(settings.class_map)
    if exclusive:
        _refuse_shared_outputs(settings.class_map)
    if positive is None:
        return model
    if not exclusive:
        raise ViceError(
            "A class map must name outputs for every class, but names none for one of two.",
            "For data with one label an image (exclusive), the other class is its complement: --targets exclusive.",
        )
    return with_complement(model, positive)
