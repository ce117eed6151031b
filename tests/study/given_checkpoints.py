"""Weights of timm's smallest network, and how a study of them is assessed, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from torchvice.models.build import build_model

__all__ = ["FILE", "MEASURE", "Write", "state"]

Write = Callable[..., Path]
MEASURE = {"replicates": 100, "controls": "none", "protocols": ["strict"], "without": []}
FILE = {"model.name": "test_resnet", "transform.crop": 48, "assess.view_size": 48}


def state(seed: int, outputs: int = 10) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return build_model("test_resnet", outputs).state_dict()
