"""How often a network is said to mirror its images, where it does and where it does not: docs/your-model.md.

    python experiments/mirrored.py

One small network of every module of timm, at random weights, as it is and with its images mirrored from left to right.
About five minutes on one thread. Images above 512 pixels a side are not looked at, as in an assessment.
"""

from __future__ import annotations

import gc
import warnings

import timm
import torch
from networks import CLASSES, small_member
from torch import nn

from torchvice.assessment.behaviour import say_doubts
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.families import input_size


class Mirrored(nn.Module):
    """A network that mirrors its images itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the mirror images."""
        logits: torch.Tensor = self.network(images.flip(-1))
        return logits


def said(network: nn.Module, side: int) -> bool:
    """Whether an assessment says that the network mirrors or turns its images."""
    sentences: list[str] = []
    say_doubts(Explainer(network), side, sentences.append)
    return any("seems to mirror" in sentence or "seems to turn" in sentence for sentence in sentences)


def main() -> None:
    """Print every network and the two counts."""
    warnings.simplefilter("ignore")
    accused, noticed, networks = 0, 0, 0
    for module in timm.list_modules():
        name = small_member(module)
        if not name:
            continue
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=CLASSES).eval()
        side = max(input_size(network))
        if side > 512:
            continue
        try:
            found = said(network, side), said(Mirrored(network), side)
        except ViceError:  # not supported: docs/networks.md
            continue
        networks, accused, noticed = networks + 1, accused + found[0], noticed + found[1]
        print(f"{name}: {found[0]:d} {found[1]:d}", flush=True)
        gc.collect()
    print(f"{networks} networks: {accused} said as they are, {noticed} said where images are mirrored.")


if __name__ == "__main__":
    main()
