"""LibraGrad: known methods on a balanced backward pass: attention, divisors of norms and gates are constants."""

from __future__ import annotations

import torch

from torchvice.explain.attention import gradient_weighted, moved_row
from torchvice.explain.gradient import gradcam, method_from_weights
from torchvice.explain.input_relevance import NEEDS_RULES, RULES, input_relevance
from torchvice.explain.methods import SHORT_BACKWARD, register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.explain.surrogate import surrogate

__all__ = ["LIBRAGRAD", "libragrad", "libragrad_attention", "libragrad_gradcam"]

LIBRAGRAD = RULES["libragrad"]
_PAPER = "Mehri et al., CVPR 2025"


@register("libragrad", needs=NEEDS_RULES, cost="1 forward, L backward", paper=_PAPER, reads="pixels")
def libragrad(scene: Scene) -> OutputsAndMaps:
    """LibraGrad's input times gradient, which is the map of `cp_lrp`.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, of the patches; see `input_relevance`.

    Raises:
        ViceError: a step without a rule.

    References:
        Mehri et al., LibraGrad: balancing gradient flow for universally better vision transformer attributions, CVPR
        2025.
    """
    return input_relevance(scene, "libragrad")


@register("libragrad_gradcam", needs=NEEDS_RULES, cost=SHORT_BACKWARD, paper=_PAPER, sums_channels=True, any_layer=True)
def libragrad_gradcam(scene: Scene) -> OutputsAndMaps:
    """Grad-CAM with the balanced gradient.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    Raises:
        ViceError: a step without a rule.

    References:
        Mehri et al., LibraGrad, CVPR 2025; Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    device = scene.images.device.type
    with torch.autocast(device, enabled=False), surrogate(scene.model, "libragrad_gradcam", LIBRAGRAD):
        return method_from_weights(gradcam)(scene)


@register("libragrad_attention", needs="global attention", cost="1 forward, L backward", paper=_PAPER, reads="patches")
def libragrad_attention(scene: Scene) -> OutputsAndMaps:
    """Generic attention explanation with the balanced gradient at every attention, see `generic_attention`.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, with another pooling, or a step without a rule.

    References:
        Mehri et al., LibraGrad, CVPR 2025; Chefer et al., Generic attention-model explainability, ICCV 2021.
    """
    device = scene.images.device.type
    with torch.autocast(device, enabled=False), surrogate(scene.model, "libragrad_attention", LIBRAGRAD):
        return gradient_weighted(scene, 0, moved_row)
