"""Small networks that several tests take."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn


def moving_resnet() -> nn.Module:
    """timm's test_resnet for ten classes, whose probabilities move with the image."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("test_resnet", num_classes=10).eval()
    with torch.no_grad():
        network.fc.weight *= 10
    return network


def drawn(name: str, **settings: Any) -> nn.Module:
    """A network of timm, whose random weights are the same whichever tests ran before."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, **settings)
    return network


def perturbed(model: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """The network in eval mode, with weights, norms and biases that are nothing in particular; None: seed 0."""
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()
