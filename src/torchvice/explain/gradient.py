"""Maps from activations and gradients: one forward pass, and one small backward pass for each label of an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.scene import Scene
from torchvice.models.families import MapSite

__all__ = ["by_gradient", "cam", "gradcam", "no_head"]

Combine = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Run = Callable[[Scene], tuple[torch.Tensor, torch.Tensor]]


def cam(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Class activation mapping: the weights of the class in a pooled linear head weigh the channels; no backward pass.

    The classifier's bias is not used.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    Raises:
        ViceError: the network does not end in mean pooling and one linear layer.

    References:
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    if scene.head is None:
        raise no_head(scene.model, scene.site)
    seen = scene.look(gradients=False)
    image, output = scene.targets_of(seen.outputs)
    with torch.autocast(scene.images.device.type, enabled=False):
        weights = scene.head.weight.detach().float()[output]
        return seen.outputs, torch.einsum("pd,pdhw->phw", weights, seen.activations[image])


def no_head(model: nn.Module, site: MapSite) -> ViceError:
    """The refusal of 'cam' for a network that it does not fit."""
    return ViceError(
        f"'cam' must have a network that ends in mean pooling and one linear layer, but "
        f"{type(model).__name__} does not at `{site.layer}`.",
        "Use method='gradcam', which fits every network.",
    )


def by_gradient(combine: Combine) -> Run:
    """A method from a function of activations (P, D, h, w) and gradients (P, D, h, w) that gives maps (P, h, w).

    The k-th label of every image is served by the k-th backward pass, which runs from the logits to the site and no
    further, over the whole batch. Under eval mode an image's gradient does not depend on its neighbours.
    """

    def run(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
        seen = scene.look(gradients=bool(scene.asked))
        image, output = scene.targets_of(seen.outputs)
        maps = seen.activations.new_zeros((len(image), *seen.activations.shape[2:]))
        groups = scene.turns()
        for number, group in enumerate(groups):
            rows = torch.tensor(group, device=image.device)
            with torch.enable_grad():
                score = seen.outputs[image[rows], output[rows]].sum()
                (slope,) = torch.autograd.grad(score, seen.leaf, retain_graph=number + 1 < len(groups))
            # The model runs in the caller's precision, maps are made in float32, whatever autocast says.
            with torch.autocast(scene.images.device.type, enabled=False):
                gradients = scene.site.to_maps(slope, scene.grid).float()[image[rows]]
                _refuse_nothing(scene, seen.activations, gradients)
                maps[rows] = combine(seen.activations[image[rows]], gradients)
        return seen.outputs, maps

    return run


def _refuse_nothing(scene: Scene, activations: torch.Tensor, gradients: torch.Tensor) -> None:
    """A gradient that vanishes everywhere explains nothing, whatever the map of it looks like."""
    if not bool(gradients.any()) and bool(activations.any()):
        raise ViceError(
            f"The gradient at `{scene.site.layer}` must not vanish, but is zero for every place.",
            "Name an earlier layer: behind this one the head does not look at the map.",
        )


def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM before its ReLU: the channels' mean gradients weigh the activations.

    Args:
        activations: (P, D, h, w).
        gradients: (P, D, h, w) of one class score each.

    Returns:
        (P, h, w), signed.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    return torch.einsum("pd,pdhw->phw", gradients.mean((2, 3)), activations)
