"""Whether a network is convolutional. The view of the protocol `paper` depends on it."""

from __future__ import annotations

import torch
from torch import nn

from torchvice.explain.capture import eval_mode
from torchvice.explain.engine import Explainer
from torchvice.models.bare import input_like
from torchvice.models.sizes import input_size

__all__ = ["is_convolutional"]

# Every attention module of timm, torchvision and torch has one of these: a number of heads or a projection. Channel
# gates (squeeze and excitation, split attention) have none: they are part of convolutional networks.
_HEADS = ("num_heads", "heads")
_PROJECTIONS = ("qkv", "qkv_proj", "in_proj_weight", "to_query", "query")


def _is_attention(module: nn.Module) -> bool:
    has_heads = any(isinstance(getattr(module, name, None), int) for name in _HEADS)
    return has_heads or any(getattr(module, name, None) is not None for name in _PROJECTIONS)


def is_convolutional(explainer: Explainer) -> bool:
    """Whether the network has no attention and accepts images of any size, so that `paper` shows it the whole image.

    The size is tested with one image of an odd size. The layout of the map is no criterion: some convolutional networks
    have (N, h, w, D), and some transformers (N, D, h, w).
    """
    model = explainer.model
    if explainer.site.layout == "tokens":
        return False
    if any(_is_attention(module) for module in model.modules()):
        return False
    height, width = input_size(model)
    image = input_like(model).new_zeros(1, 3, height + height // 2 + 1, width + 3)
    with torch.no_grad(), eval_mode(model):
        try:
            model(image)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # networks of one size refuse others in many ways
            return False
    return True
