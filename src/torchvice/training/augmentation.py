"""Random views of an image for self-supervised pre-training, built from lightly's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

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
    """Side of DINO's small views in pixels, a multiple of the patch size; 0 without small views.

    Example:
        >>> small_side(Dino(), 224, 16), small_side(Dino(local_views=0), 224, 16)
        (96, 0)
    """
    if not isinstance(recipe, Dino) or not recipe.local_views:
        return 0
    return max(1, round(crop * recipe.local_side / patch)) * patch


def augmentation(recipe: SchemeSettings, transform: TransformSettings, patch: int = 1) -> Views:
    """Build the transform from an image to its views: two for most schemes, further small ones for DINO, one for MAE.

    Args:
        recipe: area of the views, strength of colour jitter and blur.
        transform: reads crop, mean, std and flip; complete, see `torchvice.training.network_input`.
        patch: patch size of the network in pixels.
    """
    assert transform.mean is not None
    assert transform.std is not None
    common: dict[str, Any] = {
        "hf_prob": 0.5 if transform.flip else 0.0,
        "cj_prob": 0.8 if recipe.jitter else 0.0,
        "cj_strength": recipe.jitter,
        "random_gray_scale": 0.2 if recipe.jitter else 0.0,
        # The papers give the blur in pixels of a view of 224.
        "sigmas": tuple(sigma * max(recipe.blur, 0.05) * transform.side / 224 for sigma in (0.1, 2.0)),
        "normalize": {"mean": list(transform.mean), "std": list(transform.std)},
    }
    blurred, sometimes, inverted = (1.0, 0.1, 0.2) if recipe.blur else (0.0, 0.0, 0.2)
    inverted = inverted if recipe.jitter else 0.0
    area = (recipe.least_area, 1.0)
    if isinstance(recipe, Mae):
        common |= {"gaussian_blur": blurred, "solarization_prob": 0.0}
        return _several(DINOViewTransform(transform.side, area, **common))
    if not isinstance(recipe, Dino):
        common |= {"input_size": transform.side, "min_scale": recipe.least_area}
        return _several(
            BYOLView1Transform(**common, gaussian_blur=blurred, solarization_prob=0.0),
            BYOLView2Transform(**common, gaussian_blur=sometimes, solarization_prob=inverted),
        )
    views = [
        DINOViewTransform(transform.side, area, **common, gaussian_blur=blurred, solarization_prob=0.0),
        DINOViewTransform(transform.side, area, **common, gaussian_blur=sometimes, solarization_prob=inverted),
    ]
    if recipe.local_views:
        small = DINOViewTransform(
            small_side(recipe, transform.side, patch),
            (recipe.least_local_area, recipe.least_area),
            **common,
            gaussian_blur=blurred / 2,
            solarization_prob=0.0,
        )
        views += [small] * recipe.local_views
    return _several(*views)


def _several(*views: Callable[[Image.Image], torch.Tensor]) -> Views:
    return cast(Views, MultiViewTransform(views))
