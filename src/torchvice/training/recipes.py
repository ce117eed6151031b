"""Recipes of self-supervised pre-training: the settings of each scheme, with the numbers of its paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, ValidationError

from torchvice.config import problem_of
from torchvice.config.sections import Count, NotNegative, Positive, Probability, Section, Share
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import parse_yaml

__all__ = ["RECIPES", "Byol", "Dino", "Mae", "MocoV3", "SchemeSettings", "recipe_of"]


class SchemeSettings(Section):
    """Settings that all schemes share. `lr` is for 256 images per step and scales with the images of a step."""

    optimizer: Literal["lars", "adamw", "sgd"] = "adamw"
    lr: Positive = 1.5e-4
    weight_decay: NotNegative = 0.1  # not of norms and biases
    warmup: Share = 0.1  # share of all steps; then half a cosine down to 0
    least_area: Probability = 0.08  # least share of the image that a view shows
    jitter: NotNegative = 1.0  # strength of colour jitter; 0: none
    blur: NotNegative = 1.0  # strength of the blur; 1 is up to 2 pixels for views of 224


class Byol(SchemeSettings):
    """BYOL: the network predicts the output of its moving average for another view.

    ResNets use the numbers of the authors' code for 100 epochs. Transformers, which the paper does not treat, use the
    optimiser of MoCo v3.

    References:
        Grill et al., Bootstrap your own latent, 2020.
    """

    momentum: Probability = 0.99  # of the moving average; rises to 1 by half a cosine
    hidden: Count = 4096
    outputs: Count = 256


class MocoV3(SchemeSettings):
    """MoCo v3: contrast an image's other view, as the moving average encodes it, with the batch's other images.

    References:
        Chen, Xie & He, An Empirical Study of Training Self-Supervised Vision Transformers, 2021.
    """

    momentum: Probability = 0.99  # rises to 1 by half a cosine
    temperature: Positive = 0.2
    hidden: Count = 4096
    outputs: Count = 256
    freeze_patches: bool = True  # freeze a transformer's patch embedding, for stability


class Dino(SchemeSettings):
    """DINO: small and large views are classified as the moving average classifies the large ones.

    References:
        Caron et al., Emerging Properties in Self-Supervised Vision Transformers, 2021.
    """

    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.04
    last_weight_decay: NotNegative = 0.4  # final value, reached by half a cosine
    momentum: Probability = 0.996  # rises to 1 by half a cosine
    temperature: Positive = 0.1  # the student's
    teacher_temperature: Positive = 0.04
    center_momentum: Probability = 0.9
    hidden: Count = 2048
    bottleneck: Count = 256
    outputs: Count = 65536
    local_views: int = Field(default=8, ge=0)
    local_side: Positive = 96 / 224  # side of a small view, as a share of the large view's
    least_area: Probability = 0.4  # least share of a large view, greatest share of a small one
    least_local_area: Probability = 0.05
    jitter: NotNegative = 0.5
    fixed_epochs: int = Field(default=1, ge=0)  # epochs in which the last layer is frozen
    clip: Positive | None = 3.0  # greatest norm of the gradient; trainer.clip takes precedence


class Mae(SchemeSettings):
    """MAE: a transformer reconstructs the pixels of masked patches.

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2021.
    """

    weight_decay: NotNegative = 0.05
    warmup: Share = 0.05
    masked: Share = 0.75  # share of the patches
    normalised: bool = True  # normalise the target pixels by mean and deviation of each patch
    decoder_width: Count = 512
    decoder_depth: Count = 8
    decoder_heads: Count = 16
    least_area: Probability = 0.2
    jitter: NotNegative = 0.0
    blur: NotNegative = 0.0


RECIPES: Mapping[str, type[SchemeSettings]] = {"byol": Byol, "moco_v3": MocoV3, "dino": Dino, "mae": Mae}

# The papers' numbers for ResNets; the classes above have those for transformers.
_RESNETS: Mapping[str, Mapping[str, object]] = {
    "byol": {"optimizer": "lars", "lr": 0.45, "weight_decay": 1e-6},
    "moco_v3": {"optimizer": "lars", "lr": 0.6, "weight_decay": 1e-6, "temperature": 1.0, "least_area": 0.2},
    "dino": {"optimizer": "sgd", "lr": 0.03, "weight_decay": 1e-4, "last_weight_decay": 1e-4, "least_area": 0.14},
    "mae": {},
}
_TRANSFORMERS: Mapping[str, Mapping[str, object]] = {"moco_v3": {"warmup": 0.13}}  # 40 of 300 epochs


def recipe_of(scheme: str, batch_norm: bool, choices: Sequence[str] = ()) -> SchemeSettings:
    """Build the settings of a scheme, with some of its numbers overridden.

    Args:
        scheme: a name in RECIPES.
        batch_norm: whether the network uses BatchNorm: it gets the papers' numbers for ResNets, otherwise those for
            transformers.
        choices: overrides `name=value`, with YAML values.

    Raises:
        ViceError: an unknown scheme or name, or a value of the wrong type or range.

    Example:
        >>> recipe_of("moco_v3", True).temperature, recipe_of("moco_v3", False, ["hidden=64"]).temperature
        (1.0, 0.2)
    """
    if scheme not in RECIPES:
        raise ViceError(
            f"The scheme must be one of {', '.join(RECIPES)}, but is {scheme!r}.", did_you_mean(scheme, RECIPES)
        )
    kind = RECIPES[scheme]
    values = dict(_RESNETS[scheme] if batch_norm else _TRANSFORMERS.get(scheme, {}))
    for choice in choices:
        name, equals, text = choice.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ViceError(f"A choice must be `name=value`, but is {choice!r}.")
        if name not in kind.model_fields:
            raise ViceError(f"`{name}` is not a setting of {scheme}.", did_you_mean(name, kind.model_fields))
        values[name] = parse_yaml(text, f"The value of `{name}`")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        raise ViceError(
            f"`{item['loc'][0]}` of {scheme} {problem_of(item['msg'])}, but is {item['input']!r}."
        ) from None
