"""The size of the images that a network takes, and the grid of its patches, as the network says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from torchvice.models.bare import described, stated

__all__ = ["input_size", "patch_grid", "state_size", "stated_size"]


def input_size(model: nn.Module) -> tuple[int, int]:
    """Return the input size (H, W) of the network in pixels; 224 x 224 if it is not known.

    A patch embedding is the first source, since it has the size that the model was built with; then timm's config.
    """
    return stated_size(model) or (224, 224)


def stated_size(model: nn.Module) -> tuple[int, int] | None:
    """Return what `input_size` does, or None where the network does not say it."""
    model = described(model)
    first: nn.Module | None = getattr(model, "patch_embed", None) or next(model.children(), None)
    while isinstance(first, nn.Sequential | nn.ModuleList) and len(first):
        first = first[0]
    # First layers only: the size of a later embedding is that of a map, not of the image.
    embed = getattr(first, "img_size", None)
    if embed is not None:
        height, width = (embed, embed) if isinstance(embed, int) else embed
        return int(height), int(width)
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return (int(size[1]), int(size[2])) if size else _pair(stated(model, "image_size"))


def state_size(model: nn.Module, size: Any) -> None:
    """Let a network of timm state the size that it was built with, where its patch embedding does not.

    Args:
        model: changed in place.
        size: the argument `img_size`; anything but one or two numbers of pixels changes nothing.
    """
    config = getattr(model, "pretrained_cfg", None)
    pair = _pair(size) if isinstance(size, int | list | tuple) else None
    if pair is not None and isinstance(config, Mapping) and input_size(model) != pair:
        model.pretrained_cfg = {**config, "input_size": (3, *pair)}  # type: ignore[assignment]


def _pair(size: Any) -> tuple[int, int] | None:
    """(down, across) of one or two numbers of pixels."""
    values = (size, size) if isinstance(size, int) else tuple(size or ())
    return (int(values[0]), int(values[1])) if len(values) == 2 else None


def patch_grid(model: nn.Module, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid (h, w) of the patches of an image (H, W); None for a network without patch embedding."""
    network = described(model)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, int | tuple | list):
        patch = stated(network, "patch_size")
    if (pair := _pair(patch)) is None:
        return None
    height, width = pair
    return -(-size[0] // height), -(-size[1] // width)  # rounded up: timm pads to whole patches (dynamic_img_pad)
