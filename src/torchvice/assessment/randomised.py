"""The same network with random weights: what its architecture alone makes of an image."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["randomised"]


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights, on the model's device; the model and the global random state stay as they were.

    Every module that can is set back to its initialisation (`reset_parameters`; a batch norm forgets its statistics
    too). Parameters of the others with two or more dimensions, such as embeddings of places, are shuffled: they keep
    their values, and lose their order. Both are drawn on the CPU, so that the weights do not depend on the device.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    made = copy.deepcopy(model).cpu()
    generator = torch.Generator().manual_seed(seed)
    state = torch.random.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        with torch.no_grad():
            for module in made.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
                    continue
                for parameter in module.parameters(recurse=False):
                    if parameter.ndim >= 2:
                        order = torch.randperm(parameter.numel(), generator=generator)
                        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    finally:
        torch.random.set_rng_state(state)
    return made.to(device)
