"""How often an assessment says that a network crops, mirrors or turns its images or is not steady: docs/your-model.md.

    python experiments/doubts.py

One small network of every module of timm, at random weights, as it is and with each fault planted. Images above 512
pixels a side are not shown. About an hour on one thread.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator

import timm
import torch
from networks import CLASSES, small_member
from torch import nn
from torch.nn.functional import dropout, interpolate

from torchvice.assessment.behaviour import say_doubts
from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.sizes import input_size

SENTENCES = {
    "not steady": ("is not steady",),
    "crops": ("does not see",),
    "mirrors or turns": ("seems to mirror", "seems to turn"),
}


class Changed(nn.Module):
    """A network that changes its images itself."""

    def __init__(self, network: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the changed images."""
        logits: torch.Tensor = self.network(self.change(images))
        return logits


class LastingDropout(nn.Module):
    """Dropout that evaluation does not end."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Drop some features, always."""
        return dropout(features, self.share, training=True)


def mirrored(network: nn.Module) -> nn.Module:
    """The network, of images that are mirrored left to right."""
    return Changed(network, lambda images: images.flip(-1))


def cropped(network: nn.Module) -> nn.Module:
    """The network, of the middle of images without a sixteenth of their side at each edge."""

    def middle(images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        inner = images[..., height // 16 : height - height // 16, width // 16 : width - width // 16]
        return interpolate(inner, (height, width), mode="bilinear")

    return Changed(network, middle)


def dropping(network: nn.Module) -> nn.Module | None:
    """The network with its dropout left on; None if it has no module of dropout."""
    places = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout) and module.p > 0]
    for place in places:
        parent, _, name = place.rpartition(".")
        setattr(network.get_submodule(parent), name, LastingDropout(network.get_submodule(place).p))
    return network if places else None


def with_statistics_of_the_batch(network: nn.Module) -> nn.Module | None:
    """The network, whose batch norms use the batch; None if it has none."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean = norm.running_var = None
    return network if norms else None


FAULTS: dict[str, tuple[str, Callable[[nn.Module], nn.Module | None]]] = {
    "as it is": ("", lambda network: network),
    "mirrored": ("mirrors or turns", mirrored),
    "cropped": ("crops", cropped),
    "dropout left on": ("not steady", dropping),
    "statistics of the batch": ("not steady", with_statistics_of_the_batch),
}


def said(network: nn.Module, side: int) -> set[str]:
    """Which of the sentences an assessment says."""
    told: list[str] = []
    say_doubts(Explainer(network), side, told.append)
    return {name for name, parts in SENTENCES.items() if any(part in one for part in parts for one in told)}


def networks() -> Iterator[tuple[str, int]]:
    """The small networks, by name, with the side of their images."""
    for module in timm.list_modules():
        if name := small_member(module):
            side = max(input_size(timm.create_model(name, num_classes=CLASSES)))
            if side <= 512:
                yield name, side


def main() -> None:
    """Print what is said of every network, and the counts."""
    warnings.simplefilter("ignore")
    shown = dict.fromkeys(FAULTS, 0)
    noticed = dict.fromkeys(FAULTS, 0)
    wrong = dict.fromkeys(SENTENCES, 0)
    for name, side in networks():
        found = {}
        for fault, (expected, plant) in FAULTS.items():
            torch.manual_seed(0)
            network = plant(timm.create_model(name, num_classes=CLASSES, drop_rate=0.2).eval())
            gc.collect()
            if network is None:
                continue
            try:
                found[fault] = said(network.eval(), side)
            except ViceError:  # not supported: docs/networks.md
                break
            shown[fault] += 1
            noticed[fault] += expected in found[fault]
        for sentence in found.get("as it is", ()):
            wrong[sentence] += 1
        print(f"{name}: {', '.join(f'{fault}: {sorted(one) or 0}' for fault, one in found.items())}", flush=True)
    print(f"\n{shown['as it is']} networks as they are: {', '.join(f'{name} {n}' for name, n in wrong.items())}")
    for fault, (expected, _) in FAULTS.items():
        if expected:
            print(f"{fault}: said of {noticed[fault]} of {shown[fault]}")


if __name__ == "__main__":
    main()
