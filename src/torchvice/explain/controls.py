"""Controls: maps that do not use the network; their score is the baseline of every map."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchvice.explain.methods import Run, register
from torchvice.explain.scene import Scene

__all__ = ["center", "foreground", "random"]

# Two standard deviations reach the border, where the map is exp(-2) = 0.135 of its peak: a threshold above that cuts
# out an ellipse that lies within the image.
CENTER_SIGMA = 0.25


def _without_network(paint: Callable[[Scene, tuple[int, int]], torch.Tensor]) -> Run:
    """A method from a function of the scene and (h, w) that gives the maps (P, h, w); one pass is for the logits."""

    def run(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
        result = scene.run_network(gradients=False)
        scene.targets_of(result.outputs)
        height, width = result.activations.shape[2:]
        return result.outputs, paint(scene, (height, width)).to(result.activations.device)

    run.__doc__ = paint.__doc__
    return run


@register("random", needs="nothing", cost="1 forward", paper="control: uniform noise")
@_without_network
def random(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """Uniform on [0, 1), drawn for every place from the stream of the pair, see `Scene.seed_of`."""
    maps = torch.empty((len(scene.pairs), *size))
    for row in range(len(maps)):
        maps[row] = torch.rand(size, generator=torch.Generator().manual_seed(scene.seed_of(row)))
    return maps


@register("center", needs="nothing", cost="1 forward", paper="control: a Gaussian in the middle")
@_without_network
def center(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """A Gaussian in the middle of the image, its standard deviation CENTER_SIGMA of the height and of the width."""
    down, right = (((torch.arange(side) + 0.5) / side - 0.5) / CENTER_SIGMA for side in size)
    gaussian = torch.exp(-(down[:, None] ** 2 + right**2) / 2)
    return gaussian.expand(len(scene.pairs), *size).clone()


@register("foreground", needs="nothing", cost="1 forward", paper="control: everything is object")
@_without_network
def foreground(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """1 everywhere: all is foreground.

    Its status is "constant". Under "max" or no normalisation it stays 1; "minmax" and "paper", which ask for spread,
    make nothing of it.
    """
    return torch.ones((len(scene.pairs), *size))
