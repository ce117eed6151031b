"""The registry of methods. A method is a function of a Scene and a line here; users register their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchvice.errors import ViceError, nearest
from torchvice.explain.gradient import by_gradient, cam, gradcam
from torchvice.explain.scene import Scene

__all__ = ["METHODS", "Method", "method_named", "register"]


@dataclass(frozen=True)
class Method:
    """A way to make maps.

    Args:
        name: what users type.
        run: from a Scene to the network's outputs (N, M) and the maps (P, h, w) of the asked pairs, signed where the
            method is.
        needs: what it takes, in a few words.
        cost: passes through the network, for L labels an image.
        paper: where it comes from.
    """

    name: str
    run: Callable[[Scene], tuple[torch.Tensor, torch.Tensor]]
    needs: str
    cost: str
    paper: str


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Make a method known under its name.

    Raises:
        ViceError: the name is taken.
    """
    if method.name in METHODS:
        raise ViceError(f"A method needs a name of its own, but {method.name!r} is taken.")
    METHODS[method.name] = method
    return method


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ViceError: there is none.
    """
    if name not in METHODS:
        raise ViceError(f"`method` must be a known one, but is {name!r}.", nearest(name, METHODS))
    return METHODS[name]


_BACKWARD = "1 forward, L short backward"

for _method in (
    Method("cam", cam, "mean pooling and a linear layer", "1 forward", "Zhou et al., CVPR 2016"),
    Method("gradcam", by_gradient(gradcam), "gradients", _BACKWARD, "Selvaraju et al., ICCV 2017"),
):
    register(_method)
