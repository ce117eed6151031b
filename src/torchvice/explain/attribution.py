"""Maps of input pixels by captum, behind the same interface: saliency, SmoothGrad, integrated gradients.

Their maps have the resolution of the image that the network saw, and are of its pixels, not of a layer: a table keeps
them as they are, which takes two bytes a pixel. captum is an extra: pip install torchvice[captum].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchvice.errors import ViceError
from torchvice.explain.scene import Scene

__all__ = ["captum_attr", "integrated_gradients", "saliency", "smoothgrad"]

Maps = tuple[torch.Tensor, torch.Tensor]
SMOOTHGRAD_SAMPLES = 25
# Of the image's own range, as the paper recommends (10 to 20 %).
SMOOTHGRAD_NOISE = 0.15
INTEGRATION_STEPS = 50


def captum_attr() -> Any:
    """captum.attr, or how to get it."""
    try:
        import captum.attr
    except ImportError:
        raise ViceError(
            "This method needs captum, which is not installed.", "pip install 'torchvice[captum]'"
        ) from None
    return captum.attr


def _attributed(scene: Scene, attribute: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor], size: int) -> Maps:
    """Maps of batches of pairs: the mean over colours of what `attribute(images, outputs, first row)` gives."""
    with torch.no_grad():
        outputs = scene.forward(scene.images)
    image, output = scene.targets_of(outputs)
    maps = []
    for start in range(0, len(image), size):
        rows = slice(start, start + size)
        with torch.enable_grad():
            images = scene.images[image[rows]].requires_grad_()
            maps.append(attribute(images, output[rows], start).detach().float().mean(1))
    return outputs, torch.cat(maps) if maps else scene.images.new_zeros((0, *scene.images.shape[2:]))


def saliency(scene: Scene) -> Maps:
    """The absolute gradient of the logit with respect to each pixel, averaged over colours.

    Returns:
        outputs (N, M) and maps (P, H, W), 0 or more.

    Raises:
        ViceError: captum is not installed.

    References:
        Simonyan et al., Deep inside convolutional networks, ICLR Workshops 2014 (which takes the largest colour).
    """
    method = captum_attr().Saliency(scene.model)
    return _attributed(scene, lambda images, outputs, _: method.attribute(images, outputs), scene.batch_size)


def smoothgrad(scene: Scene) -> Maps:
    """Saliency averaged over 25 noisy copies; the noise is 15 % of the image's range.

    One pair at a time, each with a random stream of its own, see `Scene.seed_of`; the global random state comes back.

    Returns:
        outputs (N, M) and maps (P, H, W), 0 or more.

    Raises:
        ViceError: captum is not installed.

    References:
        Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv 1706.03825.
    """
    attr = captum_attr()
    method = attr.NoiseTunnel(attr.Saliency(scene.model))

    def attribute(images: torch.Tensor, outputs: torch.Tensor, row: int) -> torch.Tensor:
        spread = float(images.detach().max() - images.detach().min())
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(scene.seed_of(row))
            found: torch.Tensor = method.attribute(
                images,
                target=outputs,
                nt_samples=SMOOTHGRAD_SAMPLES,
                nt_samples_batch_size=scene.batch_size,
                stdevs=SMOOTHGRAD_NOISE * spread,
            )
        return found

    return _attributed(scene, attribute, 1)


def integrated_gradients(scene: Scene) -> Maps:
    """Gradients along the straight way from a grey image (0 after normalisation), times the way; signed.

    The sum over pixels and colours is the difference of the logits at both ends, up to the error of 50 steps.

    Returns:
        outputs (N, M) and maps (P, H, W), the mean over colours.

    Raises:
        ViceError: captum is not installed.

    References:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017.
    """
    method = captum_attr().IntegratedGradients(scene.model)

    def attribute(images: torch.Tensor, outputs: torch.Tensor, _: int) -> torch.Tensor:
        found: torch.Tensor = method.attribute(
            images, target=outputs, n_steps=INTEGRATION_STEPS, internal_batch_size=max(len(images), scene.batch_size)
        )
        return found

    return _attributed(scene, attribute, scene.batch_size)
