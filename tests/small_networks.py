"""Small networks that several tests take."""

from __future__ import annotations

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
