"""Schemes of self-supervised pre-training, each with the numbers of its paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, ValidationError

from torchvice.config.sections import Count, NotNegative, Positive, Probability, Section, Share
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import parse_yaml

__all__ = ["RECIPES", "Byol", "Dino", "Mae", "MocoV3", "SchemeSettings", "recipe_of"]


class SchemeSettings(Section):
    """What all schemes have. `lr` is that of 256 images a step, and is scaled by how many there are."""

    optimizer: Literal["lars", "adamw", "sgd"] = "adamw"
    lr: Positive = 1.5e-4
    weight_decay: NotNegative = 0.1  # not of norms and biases
    warmup: Share = 0.1  # of all steps; then half a cosine down to 0
    least_area: Probability = 0.08  # of the image that a view shows at least
    jitter: NotNegative = 1.0  # strength of the changes of colour; 0: none
    blur: NotNegative = 1.0  # strength of the blur; 1 is up to 2 pixels for views of 224


class Byol(SchemeSettings):
    """BYOL: a network predicts what its moving average says of another view.

    ResNets as its authors' code has them for 100 epochs; transformers, which it does not treat, with the optimiser of
    MoCo v3.

    References:
        Grill et al., Bootstrap your own latent, 2020.
    """

    momentum: Probability = 0.99  # of the average; rises to 1 by half a cosine
    hidden: Count = 4096
    outputs: Count = 256


class MocoV3(SchemeSettings):
    """MoCo v3: of a batch's images, the moving average's view of the same one is told from the others'.

    References:
        Chen, Xie & He, An Empirical Study of Training Self-Supervised Vision Transformers, 2021.
    """

    momentum: Probability = 0.99  # rises to 1 by half a cosine
    temperature: Positive = 0.2
    hidden: Count = 4096
    outputs: Count = 256
    freeze_patches: bool = True  # a transformer's first layer stays as it is, for stability


class Dino(SchemeSettings):
    """DINO: small and large views are to be sorted as the moving average sorts the large ones.

    References:
        Caron et al., Emerging Properties in Self-Supervised Vision Transformers, 2021.
    """

    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.04
    last_weight_decay: NotNegative = 0.4  # reached by half a cosine
    momentum: Probability = 0.996  # rises to 1 by half a cosine
    temperature: Positive = 0.1  # the student's
    teacher_temperature: Positive = 0.04
    center_momentum: Probability = 0.9
    hidden: Count = 2048
    bottleneck: Count = 256
    outputs: Count = 65536
    local_views: int = Field(default=8, ge=0)
    local_side: Positive = 96 / 224  # of a small view, as a share of the large one's
    least_area: Probability = 0.4  # of a large view, and the greatest of a small one
    least_local_area: Probability = 0.05
    jitter: NotNegative = 0.5
    fixed_epochs: int = Field(default=1, ge=0)  # of the last layer
    clip: Positive | None = 3.0  # norm of the gradient, where trainer.clip says nothing


class Mae(SchemeSettings):
    """MAE: the pixels of the patches that a transformer was not shown.

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2021.
    """

    weight_decay: NotNegative = 0.05
    warmup: Share = 0.05
    masked: Share = 0.75  # of the patches
    normalised: bool = True  # every patch is to be predicted with its own mean and deviation taken off
    decoder_width: Count = 512
    decoder_depth: Count = 8
    decoder_heads: Count = 16
    least_area: Probability = 0.2
    jitter: NotNegative = 0.0
    blur: NotNegative = 0.0


RECIPES: Mapping[str, type[SchemeSettings]] = {"byol": Byol, "moco_v3": MocoV3, "dino": Dino, "mae": Mae}

# What the papers say of ResNets where the classes above speak of transformers.
_RESNETS: Mapping[str, Mapping[str, object]] = {
    "byol": {"optimizer": "lars", "lr": 0.45, "weight_decay": 1e-6},
    "moco_v3": {"optimizer": "lars", "lr": 0.6, "weight_decay": 1e-6, "temperature": 1.0, "least_area": 0.2},
    "dino": {
        "optimizer": "sgd",
        "lr": 0.03,
        "weight_decay": 1e-4,
        "last_weight_decay": 1e-4,
        "least_area": 0.14,
    },
    "mae": {},
}
_TRANSFORMERS: Mapping[str, Mapping[str, object]] = {"moco_v3": {"warmup": 0.13}}  # 40 of 300 epochs


def recipe_of(scheme: str, batch_norm: bool, choices: Sequence[str] = ()) -> SchemeSettings:
    """The numbers of a scheme, some of them chosen otherwise.

    Args:
        scheme: a name in RECIPES.
        batch_norm: whether the network normalises by the batch: it is then given what the papers found for ResNets,
            else what they found for transformers.
        choices: `name=value` each, as in YAML.

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
            raise ViceError(f"`{name}` is nothing that {scheme} can choose.", did_you_mean(name, kind.model_fields))
        values[name] = parse_yaml(text, f"The value of `{name}`")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        said = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
        raise ViceError(f"`{item['loc'][0]}` of {scheme} {said}, but is {item['input']!r}.") from None
