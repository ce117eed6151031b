"""Relevance of the input: pixels times their gradient under changed backward rules, summed over each patch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.explain.capture import single_capture
from torchvice.explain.dense import full_precision
from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.explain.signed_rules import gamma_rule, with_signed, zplus_rule
from torchvice.explain.surrogate import Rules, surrogate
from torchvice.explain.surrogate_rules import ATTNLRP, CP_LRP

__all__ = ["NEEDS_RULES", "RULES", "attnlrp", "cp_lrp", "input_relevance", "patch_side"]

_ATTNLRP = "Achtibat et al., ICML 2024"
NEEDS_RULES = "gradients, a rule for every step"
_COST = "1 forward, L backward"

# The tables of the methods, by name.
RULES: dict[str, Rules] = {
    "attnlrp": ATTNLRP,
    "cp_lrp": CP_LRP,
    # Settings of the authors' example for a ViT, tried there among others; the best ones differ by network.
    "attnlrp_gamma": with_signed(ATTNLRP, linear=gamma_rule(0.05), convolution=gamma_rule(0.25)),
    "lrp_zplus": with_signed(CP_LRP, linear=None, convolution=zplus_rule),
    "libragrad": CP_LRP,
}


def patch_side(model: nn.Module) -> tuple[int, int]:
    """Height and width of the patches of the network's first convolution, pixels; (1, 1) if its windows overlap."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.padding not in (0, (0, 0), "valid"):
        return 1, 1
    return first.kernel_size  # type: ignore[return-value]


def input_relevance(scene: Scene, method: str) -> OutputsAndMaps:
    """Compute the relevance of every pixel, summed over colours and over the patches that the network reads.

    One forward pass serves all labels, one backward pass a label of every image. It runs in the model's own precision,
    outside of the caller's autocast.

    Args:
        scene: the batch.
        method: a key of `RULES`.

    Returns:
        outputs (N, M) and maps (P, h, w), signed: of the patches if the first convolution cuts the image into patches,
        else of the pixels, h = H and w = W.

    Raises:
        ViceError: a step without a rule, or outputs that do not depend on the image by gradients.
    """
    with torch.autocast(scene.images.device.type, enabled=False), full_precision():
        if not scene.needs_maps:
            return scene.forward(scene.images), scene.images.new_zeros((0, 1, 1))
        leaf = scene.images.clone().requires_grad_()
        with single_capture(scene.model), surrogate(scene.model, method, RULES[method]), torch.enable_grad():
            outputs = replace(scene, images=leaf).forward(leaf)
        if not outputs.requires_grad:
            raise ViceError(f"{method!r} needs gradients from the logits to the image, but the network cuts them.")
        image, output = scene.targets_of(outputs)
        side, groups = patch_side(scene.model), scene.backward_groups()
        height, width = (size // one for size, one in zip(leaf.shape[2:], side, strict=True))
        maps = leaf.new_zeros((len(image), height, width), dtype=torch.float32, requires_grad=False)
        for number, group in enumerate(groups):
            rows = torch.tensor(group, device=image.device)
            with torch.enable_grad():
                score = outputs[image[rows], output[rows]].sum()
                (gradient,) = torch.autograd.grad(score, leaf, retain_graph=number + 1 < len(groups))
            relevance = (leaf.detach() * gradient).sum(1).float()[image[rows]]
            maps[rows] = functional.avg_pool2d(relevance, side) * (side[0] * side[1])
        return outputs.detach(), maps


@register("attnlrp", needs=NEEDS_RULES, cost=_COST, paper=_ATTNLRP, reads="pixels")
def attnlrp(scene: Scene) -> OutputsAndMaps:
    """AttnLRP with the epsilon rule: relevance through attention, shared by values, queries and keys.

    Linear layers share relevance in proportion to their products (epsilon near 0); a bias takes its part. Of an
    attention, values get half and queries and keys a quarter each. The divisor of a norm and the ratio g(x) / x of an
    activation are constants.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, of the patches; see `input_relevance`.

    Raises:
        ViceError: a step without a rule.

    References:
        Achtibat et al., AttnLRP: attention-aware layer-wise relevance propagation for transformers, ICML 2024. Arras et
        al., arXiv 2502.15886, as one changed backward pass.
    """
    return input_relevance(scene, "attnlrp")


@register("cp_lrp", needs=NEEDS_RULES, cost=_COST, paper="Ali et al., ICML 2022", reads="pixels")
def cp_lrp(scene: Scene) -> OutputsAndMaps:
    """CP-LRP: as `attnlrp`, but attention is a constant, so that its values get all relevance.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, of the patches; see `input_relevance`.

    Raises:
        ViceError: a step without a rule.

    References:
        Ali et al., XAI for transformers: better explanations through conservative propagation, ICML 2022.
    """
    return input_relevance(scene, "cp_lrp")


@register("attnlrp_gamma", needs=NEEDS_RULES, cost="2 forward, 2 L backward", paper=_ATTNLRP, reads="pixels")
def attnlrp_gamma(scene: Scene) -> OutputsAndMaps:
    """AttnLRP with the gamma rule: products of an output's own sign weigh more, which damps noise.

    Gamma is 0.05 for linear layers and 0.25 for convolutions.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, of the patches; see `input_relevance`.

    Raises:
        ViceError: a step without a rule.

    References:
        Achtibat et al., AttnLRP, ICML 2024.
    """
    return input_relevance(scene, "attnlrp_gamma")


@register(
    "lrp_zplus", needs=NEEDS_RULES, cost="2 forward, 2 L backward", paper="Montavon et al., PR 2017", reads="pixels"
)
def lrp_zplus(scene: Scene) -> OutputsAndMaps:
    """LRP for convolutional networks: the z+ rule for convolutions, the epsilon rule for linear layers.

    A batch norm behind a convolution is part of it.

    Returns:
        outputs (N, M) and maps (P, h, w), of the pixels; see `input_relevance`.

    Raises:
        ViceError: a step without a rule.

    References:
        Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition, Pattern
        Recognition 65 (2017); Kohlbrenner et al., Towards best practice in explaining neural network decisions with
        LRP, IJCNN 2020: the composition.
    """
    return input_relevance(scene, "lrp_zplus")
