"""Methods: how a map is made from activations and gradients. A method is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from torchvice.errors import ViceError, nearest

__all__ = ["METHODS", "Method", "gradcam", "method_named"]


def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM before its ReLU: the channels' mean gradients weigh the activations.

    Args:
        activations: (N, D, h, w).
        gradients: (N, D, h, w) of one class score each.

    Returns:
        (N, h, w).

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    return torch.einsum("nd,ndhw->nhw", gradients.mean((2, 3)), activations)


@dataclass(frozen=True)
class Method:
    """A method of the engine: what it `needs` ("weights" of a pooled linear head, or "gradients") and its `paper`."""

    name: str
    needs: Literal["weights", "gradients"]
    paper: str
    combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("cam", "weights", "Zhou et al., CVPR 2016"),
        Method("gradcam", "gradients", "Selvaraju et al., ICCV 2017", gradcam),
    )
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ViceError: there is none.
    """
    if name not in METHODS:
        raise ViceError(f"`method` must be a known one, but is {name!r}.", nearest(name, METHODS))
    return METHODS[name]
