"""Kind: whether a network is convolutional, which decides what `paper` shows it."""

from __future__ import annotations

import torch
from torch import nn

from torchvice.explain.capture import evaluating
from torchvice.explain.engine import Explainer
from torchvice.models.families import input_size

__all__ = ["is_convolutional"]

# By one of these, a number of heads or a projection, every attention of timm, torchvision and torch shows itself. Gates
# of channels (squeeze and excitation, split attention) have none: they are part of convolutional networks.
_HEADS = ("num_heads", "heads")
_PROJECTIONS = ("qkv", "qkv_proj", "in_proj_weight", "to_query", "query")


def _attends(module: nn.Module) -> bool:
    counted = any(isinstance(getattr(module, name, None), int) for name in _HEADS)
    return counted or any(getattr(module, name, None) is not None for name in _PROJECTIONS)


def is_convolutional(explainer: Explainer) -> bool:
    """Whether `paper` shows the whole image to a network: it has no attention, and takes images of any size.

    The second is found out by trying one of an odd size. How the network lays its map out does not matter: there are
    convolutional ones with (N, h, w, D), and transformers with (N, D, h, w).
    """
    model = explainer.model
    if explainer.site.layout == "tokens":
        return False
    if any(_attends(module) for module in model.modules()):
        return False
    height, width = input_size(model)
    weight = next(model.parameters())
    image = torch.zeros(1, 3, height + height // 2 + 1, width + 3, device=weight.device, dtype=weight.dtype)
    with torch.no_grad(), evaluating(model):
        try:
            model(image)
        except (AssertionError, RuntimeError, ValueError, IndexError):  # how networks of one size say so
            return False
    return True
