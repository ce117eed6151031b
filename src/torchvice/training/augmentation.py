"""The random views of an image that the schemes of self-supervision compare, made of lightly's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from lightly.transforms.dino_transform import DINOViewTransform
from lightly.transforms.multi_view_transform import MultiViewTransform
from PIL import Image

from torchvice.config.sections import TransformSettings
from torchvice.training.recipes import Dino, Mae, SchemeSettings

__all__ = ["augmentation", "small_side"]

Views = Callable[[Image.Image], list[torch.Tensor]]


def small_side(recipe: SchemeSettings, crop: int, patch: int) -> int:
    """The side of DINO's small views, pixels, a multiple of the network's patches; 0 without small views.

    Example:
        >>> small_side(Dino(), 224, 16), small_side(Dino(local_views=0), 224, 16)
        (96, 0)
    """
    if not isinstance(recipe, Dino) or not recipe.local_views:
        return 0
    return max(1, round(crop * recipe.local_side / patch)) * patch


def augmentation(
    recipe: SchemeSettings, look: TransformSettings, patch: int = 1
) -> Callable[[Image.Image], list[torch.Tensor]]:
    """From an image to its views: two, DINO's small ones besides, or MAE's only one.

    Args:
        recipe: how much of the image they show, how strongly colours change and how much is blurred.
        look: side, mean and std of the input, and whether it may be mirrored; the rest is the scheme's own.
        patch: see `small_side`.
    """
    common: dict[str, Any] = {
        "hf_prob": 0.5 if look.flip else 0.0,
        "cj_prob": 0.8 if recipe.jitter else 0.0,
        "cj_strength": recipe.jitter,
        "random_gray_scale": 0.2 if recipe.jitter else 0.0,
        # The papers' pixels are those of a view of 224.
        "sigmas": tuple(sigma * max(recipe.blur, 0.05) * look.crop / 224 for sigma in (0.1, 2.0)),
        "normalize": {"mean": list(look.mean), "std": list(look.std)},
    }
    blurred, sometimes, inverted = (1.0, 0.1, 0.2) if recipe.blur else (0.0, 0.0, 0.2)
    inverted = inverted if recipe.jitter else 0.0
    area = (recipe.least_area, 1.0)
    if isinstance(recipe, Mae):
        common |= {"gaussian_blur": blurred, "solarization_prob": 0.0}
        return _several(DINOViewTransform(look.crop, area, **common))
    if not isinstance(recipe, Dino):
        common |= {"input_size": look.crop, "min_scale": recipe.least_area}
        return _several(
            BYOLView1Transform(**common, gaussian_blur=blurred, solarization_prob=0.0),
            BYOLView2Transform(**common, gaussian_blur=sometimes, solarization_prob=inverted),
        )
    views = [
        DINOViewTransform(look.crop, area, **common, gaussian_blur=blurred, solarization_prob=0.0),
        DINOViewTransform(look.crop, area, **common, gaussian_blur=sometimes, solarization_prob=inverted),
    ]
    if recipe.local_views:
        small = DINOViewTransform(
            small_side(recipe, look.crop, patch),
            (recipe.least_local_area, recipe.least_area),
            **common,
            gaussian_blur=blurred / 2,
            solarization_prob=0.0,
        )
        views += [small] * recipe.local_views
    return _several(*views)


def _several(*views: Callable[[Image.Image], torch.Tensor]) -> Views:
    made: Any = MultiViewTransform(views)
    several: Views = made
    return several
