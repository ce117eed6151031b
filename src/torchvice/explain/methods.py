"""The registry of methods. A method registers beside its function; users register their own in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain.scene import OutputsAndMaps, Scene

__all__ = ["METHODS", "SHORT_BACKWARD", "Method", "Run", "method_named", "register"]

Run = Callable[[Scene], OutputsAndMaps]
SHORT_BACKWARD = "1 forward, L short backward"


@dataclass(frozen=True)
class Method:
    """A way to make maps.

    Args:
        name: what users type.
        run: from a Scene to the network's outputs (N, M) and the maps (P, h, w) of its pairs, signed where the method
            is.
        needs: what the network must have, in a few words.
        cost: passes through the network for L labels an image.
        paper: its source.
        sums_channels: whether its map is a sum of weighted channels, which `eigen_smooth` can smooth.
        any_layer: whether users may choose the layer of its map, so that maps of several layers can be averaged.
    """

    name: str
    run: Run
    needs: str
    cost: str
    paper: str
    sums_channels: bool = False
    any_layer: bool = False

    def check(self, eigen_smooth: bool = False, layers: int = 1) -> None:
        """Check that the method supports `eigen_smooth` and this number of layers.

        Raises:
            ViceError: `eigen_smooth` without a sum of channels, or several layers where users cannot choose one.
        """
        if eigen_smooth and not self.sums_channels:
            summing = ", ".join(name for name, method in METHODS.items() if method.sums_channels)
            raise ViceError(
                f"`eigen_smooth` must go with a method that sums weighted channels, but {self.name!r} does not.",
                f"Use one of {summing}; or leave eigen_smooth out.",
            )
        if layers > 1 and not self.any_layer:
            raise ViceError(
                f"`layers` must go with a method whose map is of one layer, but {self.name!r} is not.",
                "Use one of " + ", ".join(name for name, method in METHODS.items() if method.any_layer) + ".",
            )


METHODS: dict[str, Method] = {}


def register(
    name: str, *, needs: str, cost: str, paper: str, sums_channels: bool = False, any_layer: bool = False
) -> Callable[[Run], Run]:
    """Register the decorated function, which it returns unchanged, as a method; the arguments are those of `Method`.

    Raises:
        ViceError: the name is taken.
    """
    if name in METHODS:
        raise ViceError(f"A method must have a new name, but {name!r} is taken.")

    def decorate(run: Run) -> Run:
        METHODS[name] = Method(name, run, needs, cost, paper, sums_channels, any_layer)
        return run

    return decorate


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ViceError: an unknown name.
    """
    if name not in METHODS:
        raise ViceError(f"`method` must be a known one, but is {name!r}.", did_you_mean(name, METHODS))
    return METHODS[name]
