"""The registry of methods. A method registers beside its function; users register their own in the same way."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from torchvice.errors import ViceError, did_you_mean, reason_of
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.models.probe import WITHOUT_GRADIENTS

__all__ = [
    "METHODS",
    "SHORT_BACKWARD",
    "Method",
    "Reads",
    "Run",
    "method",
    "method_named",
    "plugin_named",
    "register",
]

Reads = Literal["layer", "patches", "pixels"]
Run = Callable[[Scene], OutputsAndMaps]
SHORT_BACKWARD = "1 forward, L short backward"
_OTHER = 0.2  # of the largest output: more than a batch or a precision changes


@contextlib.contextmanager
def _gradients_quoted(scene: Scene) -> Iterator[None]:
    """Turn an error of torch's autograd inside the block into a ViceError: the network allows no gradient."""
    try:
        yield
    except RuntimeError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, torch.OutOfMemoryError) or not any("/torch/autograd/" in f.filename for f in frames):
            raise
        raise ViceError(
            f"{type(scene.model).__name__} must let a gradient pass from its logits to `{scene.site.layer}`, but torch "
            f"raises: {reason_of(error)}.",
            WITHOUT_GRADIENTS,
        ) from error


def _few(outputs: torch.Tensor) -> str:
    """Shape and first values of outputs."""
    values = ", ".join(f"{value:.3g}" for value in outputs.flatten()[:3].tolist())
    return f"{tuple(outputs.shape)} of {values} ..."


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
        sizes: how many maps, each the network's last of its size, one map is made of (`torchvice.models.stages`).
        plugin: `file` and `sha256` of the user's file that registered it; None for the methods of torchvice.
    """

    name: str
    run: Run
    needs: str
    cost: str
    paper: str
    sums_channels: bool = False
    any_layer: bool = False
    reads: Reads = "layer"
    sizes: int = 1
    plugin: dict[str, str] | None = None

    def maps_of(self, scene: Scene) -> OutputsAndMaps:
        """Run the method: the network's outputs (N, M) and the maps (P, h, w) of the scene's pairs.

        Raises:
            ViceError: as the method; no gradient from the logits to the layer; an error in a user's method, or another
                answer than two tensors.
        """
        if self.plugin is None:
            with _gradients_quoted(scene):
                return self.run(scene)
        what = f"The method {self.name!r} of {self.plugin['file']}"
        try:
            outputs, maps = self.run(scene)
        except ViceError:
            raise
        except Exception as error:  # code of the user's may raise anything
            frames = [
                f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == self.plugin["file"]
            ]
            where = f", line {frames[-1].lineno}" if frames else ""
            reason = reason_of(error, "no message")
            raise ViceError(
                f"{what} must return outputs (N, M) and maps (P, h, w), but raises {type(error).__name__}: "
                f"{reason}{where}.",
                "Correct the file. An example: docs/explanations.md, Add a method.",
            ) from error
        kinds = [type(one).__name__ for one in (outputs, maps) if not isinstance(one, torch.Tensor)]
        if kinds:
            raise ViceError(
                f"{what} must return two tensors, outputs and maps, but returns one of type {kinds[0]}.",
                "torch.as_tensor makes one of an array." if "ndarray" in kinds else "",
            )
        self._check_outputs(scene, outputs, what)
        return outputs, maps

    def _check_outputs(self, scene: Scene, outputs: torch.Tensor, what: str) -> None:
        """Refuse outputs of a user's method that are not the network's: they would be taken for its logits."""
        if not len(scene.images):
            return
        with torch.no_grad():
            own = scene.forward(scene.images[:1]).float()
        found = outputs[:1].detach().float().to(own.device)
        far = found.shape != own.shape or bool(((found - own).abs() > _OTHER * own.abs().max()).any())
        if far and bool(torch.isfinite(own).all()):
            raise ViceError(
                f"{what} must return the outputs of the network, but those of the first image differ: "
                f"{_few(found)}, and the network's are {_few(own)}.",
                "Return what `scene.run_network` gives as `outputs`, as it is.",
            )

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
# Other values of --method and --also, and the explanation of maps on disk.
_RESERVED = ("auto", "mirror", "predicted", "maps", "shuffled", "random_weights")
_plugin: dict[str, str] | None = None  # the file that is being loaded


@contextlib.contextmanager
def plugin_named(file: str, sha256: str) -> Iterator[None]:
    """Methods that are registered inside the block are those of this file."""
    global _plugin
    before, _plugin = _plugin, {"file": file, "sha256": sha256}
    try:
        yield
    finally:
        _plugin = before


def register(
    name: str,
    *,
    needs: str,
    cost: str,
    paper: str,
    sums_channels: bool = False,
    any_layer: bool = False,
    reads: Reads = "layer",
    sizes: int = 1,
) -> Callable[[Run], Run]:
    """Register the decorated function, which it returns unchanged, as a method; the arguments are those of `Method`.

    Raises:
        ViceError: the name is taken.
    """
    if name in METHODS or name in _RESERVED or re.fullmatch(r"scale[\d.]+", name):
        raise ViceError(f"A method must have a new name, but {name!r} is taken.", "Choose another one.")

    def decorate(run: Run) -> Run:
        METHODS[name] = Method(name, run, needs, cost, paper, sums_channels, any_layer, reads, sizes, _plugin)
        return run

    return decorate


def method(
    name: str,
    *,
    needs: str = "not stated",
    cost: str = "not stated",
    paper: str = "not stated",
    sums_channels: bool = False,
    any_layer: bool = False,
    reads: Reads = "layer",
) -> Callable[[Run], Run]:
    """Register the decorated function as a method of your own, known to `Explainer`, `assess` and the commands.

    The function takes a `Scene` (the network, the images and the requested pairs) and returns the network's outputs
    (N, M) and the maps (P, h, w), one for each of `scene.pairs`. In a file that `--plugin` names, the manifest of a
    table holds the file's name and SHA-256.

    Args:
        name: letters, digits, `_` and `-`; new.
        needs, cost, paper: a few words each, for `vice explain --list-methods`.
        sums_channels, any_layer, reads: see `Method`.

    Raises:
        ViceError: the name is taken, or has other characters.

    Example:
        >>> import torch
        >>> @method("middle", needs="nothing", cost="1 forward")
        ... def middle(scene):
        ...     result = scene.run_network(gradients=False)
        ...     scene.targets_of(result.outputs)
        ...     maps = torch.zeros(len(scene.pairs), 7, 7)
        ...     maps[:, 3, 3] = 1
        ...     return result.outputs, maps
        >>> METHODS.pop("middle").cost
        '1 forward'
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ViceError(f"The name of a method must be letters, digits, _ and -, but is {name!r}.", "Rename it.")
    return register(
        name, needs=needs, cost=cost, paper=paper, sums_channels=sums_channels, any_layer=any_layer, reads=reads
    )


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ViceError: an unknown name.
    """
    if name not in METHODS:
        way_out = f"{did_you_mean(name, METHODS)} A method of your own: --plugin FILE."
        raise ViceError(f"`method` must be a known one, but is {name!r}.", way_out)
    return METHODS[name]
