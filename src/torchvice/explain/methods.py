"""The registry of methods. A method registers beside its function; users register their own in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torchvice.errors import ViceError, did_you_mean
from torchvice.explain.scene import OutputsAndMaps, Scene

__all__ = ["METHODS", "SHORT_BACKWARD", "Method", "Reads", "Run", "method_named", "register"]

Reads = Literal["layer", "patches", "pixels"]
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
        reads: what of the layer its map depends on: the "layer" itself; the grid of its "patches" alone, as attention
            does; or nothing, as a map of "pixels".
    """

    name: str
    run: Run
    needs: str
    cost: str
    paper: str
    sums_channels: bool = False
    any_layer: bool = False
    reads: Reads = "layer"

    def check(self, eigen_smooth: bool = False, layers: int = 0) -> None:
        """Check that the method supports `eigen_smooth` and this number of named layers.

        Raises:
            ViceError: `eigen_smooth` without a sum of channels, several layers where users cannot choose one, or one
                where the map is not of a layer.
        """
        if eigen_smooth and not self.sums_channels:
            summing = ", ".join(name for name, method in METHODS.items() if method.sums_channels)
            raise ViceError(
                f"`eigen_smooth` must go with a method that sums weighted channels, but {self.name!r} does not.",
                f"Use one of {summing}; or leave eigen_smooth out.",
            )
        if layers > (self.reads == "layer") and not self.any_layer:
            raise self.without_layer("layers")

    def without_layer(self, given: str) -> ViceError:
        """The error for `given`, the name of an argument that names layers, where the map is not of those layers."""
        leave = "" if self.reads == "layer" else "; or name no layer"
        return ViceError(
            f"`{given}` must go with a method whose map is of one layer, but {self.name!r} is not.",
            "Use one of " + ", ".join(name for name, method in METHODS.items() if method.any_layer) + f"{leave}.",
        )


METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    needs: str,
    cost: str,
    paper: str,
    sums_channels: bool = False,
    any_layer: bool = False,
    reads: Reads = "layer",
) -> Callable[[Run], Run]:
    """Register the decorated function, which it returns unchanged, as a method; the arguments are those of `Method`.

    Raises:
        ViceError: the name is taken.
    """
    if name in METHODS:
        raise ViceError(f"A method must have a new name, but {name!r} is taken.")

    def decorate(run: Run) -> Run:
        METHODS[name] = Method(name, run, needs, cost, paper, sums_channels, any_layer, reads)
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
