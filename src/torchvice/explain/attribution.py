"""Maps of input pixels by captum: saliency, SmoothGrad, integrated gradients.

Their maps are of the network's input pixels, not of a layer. A table stores them at this resolution, two bytes a
pixel. captum is an extra: pip install torchvice[captum].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torchvice.errors import ViceError
from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Scene

__all__ = ["captum_attr", "integrated_gradients", "saliency", "smoothgrad"]

SMOOTHGRAD_SAMPLES = 25
# Relative to the image's range; the paper recommends 10 to 20 %.
SMOOTHGRAD_NOISE = 0.15
INTEGRATION_STEPS = 50


def captum_attr() -> Any:
    """Import captum.attr.

    Raises:
        ViceError: captum is not installed.
    """
    try:
        import captum.attr
    except ImportError:
        raise ViceError(
            "This method needs captum, which is not installed.", "pip install 'torchvice[captum]'"
        ) from None
    return captum.attr


def _pixel_maps(
    scene: Scene, attribute: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor], size: int
) -> OutputsAndMaps:
    """Compute maps in batches of pairs: the mean over colours of `attribute(images, outputs, first row)`."""
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


@register(
    "saliency",
    needs="gradients, captum",
    cost="1 forward, L passes",
    paper="Simonyan et al., ICLR Workshops 2014",
    reads="pixels",
)
def saliency(scene: Scene) -> OutputsAndMaps:
    """The absolute gradient of the logit with respect to each pixel, averaged over colours.

    Returns:
        outputs (N, M) and maps (P, H, W), 0 or more.

    Raises:
        ViceError: captum is not installed.

    References:
        Simonyan et al., Deep inside convolutional networks, ICLR Workshops 2014 (which takes the maximum over colours).
    """
    method = captum_attr().Saliency(scene.forward)
    return _pixel_maps(scene, lambda images, outputs, _: method.attribute(images, outputs), scene.batch_size)


@register(
    "smoothgrad",
    needs="gradients, captum",
    cost="1 forward, 25 L passes",
    paper="Smilkov et al., arXiv 1706.03825",
    reads="pixels",
)
def smoothgrad(scene: Scene) -> OutputsAndMaps:
    """Saliency averaged over 25 noisy copies; the noise is 15 % of the image's range.

    Pairs are processed one by one, each with its own seed, see `Scene.seed_of`; the global RNG state is restored.

    Returns:
        outputs (N, M) and maps (P, H, W), 0 or more.

    Raises:
        ViceError: captum is not installed.

    References:
        Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv 1706.03825.
    """
    method = captum_attr().Saliency(scene.forward)

    def attribute(images: torch.Tensor, outputs: torch.Tensor, row: int) -> torch.Tensor:
        original = images.detach()
        spread = SMOOTHGRAD_NOISE * float(original.max() - original.min())
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            torch.manual_seed(scene.seed_of(row))
            # At once: what is drawn part by part depends on the size of the parts.
            size = (SMOOTHGRAD_SAMPLES, *images.shape[1:])
            noise = torch.normal(0, torch.full(size, spread, device=images.device))
        total = torch.zeros(images.shape, device=images.device)
        for copies in (original + noise).to(images.dtype).split(scene.batch_size):
            total += method.attribute(copies.requires_grad_(), outputs).float().sum(0)
        return total / SMOOTHGRAD_SAMPLES

    return _pixel_maps(scene, attribute, 1)


@register(
    "integrated_gradients",
    needs="gradients, captum",
    cost="1 forward, 50 L passes",
    paper="Sundararajan et al., ICML 2017",
    reads="pixels",
)
def integrated_gradients(scene: Scene) -> OutputsAndMaps:
    """Integrated gradients along the straight path from a grey image (0 after normalisation); signed.

    The sum over pixels and colours is the difference of the logits at both ends, up to the error of 50 steps.

    Returns:
        outputs (N, M) and maps (P, H, W), the mean over colours.

    Raises:
        ViceError: captum is not installed.

    References:
        Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017.
    """
    method = captum_attr().IntegratedGradients(scene.forward)

    def attribute(images: torch.Tensor, outputs: torch.Tensor, _: int) -> torch.Tensor:
        result: torch.Tensor = method.attribute(
            images, target=outputs, n_steps=INTEGRATION_STEPS, internal_batch_size=max(len(images), scene.batch_size)
        )
        return result

    return _pixel_maps(scene, attribute, scene.batch_size)
