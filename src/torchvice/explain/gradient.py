"""Maps from activations and gradients: one forward pass, and one short backward pass for each label of an image.

A method is defined by its weights W of the channels A: one per channel, (P, D, 1, 1), or one per channel and place,
(P, D, h, w). Its map is sum_d W_d A_d, before any ReLU or normalisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.methods import SHORT_BACKWARD, Run, register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.models.families import MapSite
from torchvice.models.probe import zero_heads

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# From outputs (N, M), and image and output (R,) of each row, to the score (R,) whose gradient is taken.
Score = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# From the sum of the scores, the leaf at the site, and whether the graph is needed again, to a tensor like the leaf.
Differentiate = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]

_PLUSPLUS_EPS = 1e-6
_XGRAD_EPS = 1e-7
# Rounding error of a float32 sum of some hundred numbers that cancel, relative to the sum of their magnitudes.
_NOISE = 1e-5


@register(
    "cam",
    needs="mean pooling and a linear layer",
    cost="1 forward",
    paper="Zhou et al., CVPR 2016",
    sums_channels=True,
)
def cam(scene: Scene) -> OutputsAndMaps:
    """Class activation mapping: the classifier's weights of the class weigh the channels; no backward pass.

    The classifier's bias is not used.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    Raises:
        ViceError: the network does not end in mean pooling and one linear layer.

    References:
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    if scene.head is None:
        raise no_linear_head(scene.model, scene.site)
    result = scene.run_network(gradients=False)
    image, output = scene.targets_of(result.outputs)
    with torch.autocast(scene.images.device.type, enabled=False):
        weights = scene.head.weight.detach().float()[output]
        return result.outputs, weighted_map(weights[..., None, None], result.activations[image], scene.eigen_smooth)


def no_linear_head(model: nn.Module, site: MapSite) -> ViceError:
    """Error of 'cam' for a network without a pooled linear head."""
    return ViceError(
        f"'cam' needs a network that ends in mean pooling and one linear layer, but "
        f"{type(model).__name__} does not at `{site.layer}`.",
        "Use method='gradcam', which works with every network.",
    )


def logit(outputs: torch.Tensor, image: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The explained output itself, (R,)."""
    return outputs[image, output]


def gradient_at(score: torch.Tensor, leaf: torch.Tensor, again: bool) -> torch.Tensor:
    """The gradient of a scalar at the leaf; the graph is kept if it is needed `again`."""
    return torch.autograd.grad(score, leaf, retain_graph=again)[0]


def method_from_weights(
    weigh: Weigh,
    sign_from: Weigh | None = None,
    *,
    score: Score = logit,
    differentiate: Differentiate = gradient_at,
) -> Run:
    """Make a method of a function from activations (P, D, h, w) and gradients (P, D, h, w) to channel weights.

    The k-th backward pass serves the k-th label of every image. It runs over the whole batch, from the logits back to
    the site. In eval mode an image's gradient does not depend on the rest of the batch.

    Args:
        weigh: computes the weights, (P, D, 1, 1) or (P, D, h, w).
        sign_from: makes an eigen method: the first principal component of the weighted channels, with the sign of the
            map that these other weights give.
        score: the number whose gradient is taken.
        differentiate: takes it, and may correct it.
    """

    def run(scene: Scene) -> OutputsAndMaps:
        result = scene.run_network(gradients=scene.needs_maps)
        image, output = scene.targets_of(result.outputs)
        maps = result.activations.new_zeros((len(image), *result.activations.shape[2:]))
        groups = scene.backward_groups()
        for number, group in enumerate(groups):
            rows = torch.tensor(group, device=image.device)
            with torch.enable_grad():
                total = score(result.outputs, image[rows], output[rows]).sum()
                gradient = differentiate(total, result.leaf, number + 1 < len(groups))
            # The model runs in the caller's precision; maps are always computed in float32, also under autocast.
            with torch.autocast(scene.images.device.type, enabled=False):
                activations = result.activations[image[rows]]
                gradients = scene.site.to_maps(gradient, scene.grid).float()[image[rows]]
                check_gradients(scene, result.activations, gradients)
                weights = weigh(activations, gradients)
                if sign_from is None:
                    maps[rows] = weighted_map(weights, activations, scene.eigen_smooth)
                else:
                    reference = weighted_map(sign_from(activations, gradients), activations)
                    maps[rows] = eigen_smooth(weights * activations, reference)
        return result.outputs, maps

    return run


def register_weights(name: str, *, paper: str) -> Callable[[Weigh], Weigh]:
    """Register the method of the decorated weight function, see `method_from_weights`.

    Args:
        name: what users type.
        paper: its source.

    Raises:
        ViceError: the name is taken.
    """

    def decorate(weigh: Weigh) -> Weigh:
        add = register(name, needs="gradients", cost=SHORT_BACKWARD, paper=paper, sums_channels=True, any_layer=True)
        add(method_from_weights(weigh))
        return weigh

    return decorate


def check_gradients(scene: Scene, activations: torch.Tensor, gradients: torch.Tensor) -> None:
    """Refuse gradients that are zero everywhere: they explain nothing."""
    if not bool(gradients.any()) and bool(activations.any()):
        if zero_heads(scene.model):
            raise ViceError(
                f"The classifier of {type(scene.model).__name__} must be trained, but all its weights are 0.",
                "Load the weights of a trained classifier.",
            )
        raise ViceError(
            f"The gradient at `{scene.site.layer}` must not vanish, but is zero at every place.",
            "Name an earlier layer, if the classifier does not use the output of this one; if the outputs are 0 and 1 "
            "to the last digit, let the network return its logits.",
        )


@register_weights("gradcam", paper="Selvaraju et al., ICCV 2017")
def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM: W_d = mean over places of G_d.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, 1, 1).

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    return gradients.mean((2, 3), keepdim=True)


@register_weights("gradcampp", paper="Chattopadhay et al., WACV 2018")
def gradcampp(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: W_d = sum over places of a max(G_d, 0), with a = G_d^2 / (2 G_d^2 + G_d^3 sum over places of A_d).

    The paper's class score passes through an exponential, whose derivatives are powers of G; the factor exp(score),
    common to all weights, is left out. The paper adds nothing to the divisor; pytorch-grad-cam adds 1e-6, which damps
    gradients below 1e-3, so that maps do not scale with the logits. This function does the same, so that the maps are
    equal.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, 1, 1), not negative where no channel's sum is negative.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, equations 10 and 19.
    """
    total = activations.sum((2, 3), keepdim=True)
    square = gradients**2
    share = square / (2 * square + total * square * gradients + _PLUSPLUS_EPS)
    return torch.where(gradients > 0, gradients * share, 0).sum((2, 3), keepdim=True)


@register_weights("xgradcam", paper="Fu et al., BMVC 2020")
def xgradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """XGrad-CAM: W_d = sum over places of G_d A_d / (sum over places of A_d).

    1e-7 is added to the divisor, so that a dead channel weighs 0. The method is meant for activations behind a ReLU:
    where a channel's sum is near 0, as in transformers, its weight is large.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, 1, 1).

    References:
        Fu et al., Axiom-based Grad-CAM, BMVC 2020.
    """
    total = activations.sum((2, 3), keepdim=True)
    return (gradients * activations / (total + _XGRAD_EPS)).sum((2, 3), keepdim=True)


@register_weights("hirescam", paper="Draelos and Carin, arXiv 2011.08891")
def hirescam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """HiResCAM: W = G, place by place.

    Where one linear layer follows the map, the sum over places of the map is the logit less its bias.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, h, w).

    References:
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, arXiv 2011.08891.
    """
    return gradients


@register_weights("layercam", paper="Jiang et al., IEEE TIP 2021")
def layercam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """LayerCAM: W = max(G, 0), place by place; it also suits earlier layers.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, h, w).

    References:
        Jiang et al., LayerCAM, IEEE Transactions on Image Processing 30, 2021.
    """
    return gradients.clamp(min=0)


@register("eigencam", needs="activations", cost="1 forward", paper="Muhammad and Yeasin, IJCNN 2020", any_layer=True)
def eigencam(scene: Scene) -> OutputsAndMaps:
    """Eigen-CAM: the first principal component of the activations; it needs no gradient and no class.

    All labels of an image have the same map. Its sign makes it correlate with the mean activation over channels; behind
    a layer norm without bias that mean is 0, and `eigen_smooth` picks the sign. The channels are centred over places
    first, as in pytorch-grad-cam but not in the paper.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, with mean 0 over places.

    References:
        Muhammad and Yeasin, Eigen-CAM, IJCNN 2020.
    """
    result = scene.run_network(gradients=False)
    image, _ = scene.targets_of(result.outputs)
    explained, row = image.unique(return_inverse=True)
    with torch.autocast(scene.images.device.type, enabled=False):
        activations = result.activations[explained]
        return result.outputs, eigen_smooth(activations, activations.sum(1))[row]


@register("eigengradcam", needs="gradients", cost=SHORT_BACKWARD, paper="none; from pytorch-grad-cam", any_layer=True)
def eigengradcam(scene: Scene) -> OutputsAndMaps:
    """EigenGrad-CAM: the first principal component of G A, with the sign that correlates with the pair's Grad-CAM.

    It has no paper: it comes from pytorch-grad-cam, which does not fix the sign.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, with mean 0 over places.
    """
    return method_from_weights(hirescam, sign_from=gradcam)(scene)


def weighted_map(weights: torch.Tensor, activations: torch.Tensor, smooth: bool = False) -> torch.Tensor:
    """Compute sum_d W_d A_d, or the first principal component of the W_d A_d.

    Args:
        weights: W, (P, D, 1, 1) or (P, D, h, w).
        activations: A, (P, D, h, w).
        smooth: whether to take the component, with the sign of the sum.

    Returns:
        (P, h, w), signed.
    """
    if smooth:
        weighted = weights * activations
        return eigen_smooth(weighted, weighted.sum(1))
    if weights.shape[2:] == (1, 1):
        return torch.einsum("pd,pdhw->phw", weights[..., 0, 0], activations)
    return (weights * activations).sum(1)


def eigen_smooth(weighted: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Project the channels of every place on their first right singular vector, with a fixed sign.

    The channels are centred over places, so that the map has mean 0. The sign of a singular vector is arbitrary: here
    the map correlates positively with `reference`. Where that correlation is rounding error, the value of largest
    magnitude is positive.

    Args:
        weighted: (P, D, h, w).
        reference: (P, h, w), a map that is known to be positive on the object.

    Returns:
        (P, h, w) in the precision of `weighted`; a map is all NaN if one of its values of `weighted` is not finite.
    """
    # The products below square the condition number, hence float64. Apple's GPUs do not support it.
    work = weighted.cpu() if weighted.device.type == "mps" else weighted
    places = work.flatten(2).transpose(1, 2).double()
    finite = places.isfinite().all(2).all(1)
    places = torch.where(finite[:, None, None], places, 0)
    centred = places - places.mean(1, keepdim=True)
    if centred.shape[1] <= centred.shape[2]:
        values, vectors = torch.linalg.eigh(centred @ centred.mT)
        projection = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(centred.mT @ centred)
        projection = (centred @ vectors[..., -1:])[..., 0]
    agreement = (projection * reference.to(work.device).flatten(1)).sum(1)
    noise = _NOISE * projection.norm(dim=1) * places.abs().sum(2).norm(dim=1)
    peak = projection.gather(1, projection.abs().argmax(1, keepdim=True))[:, 0]
    sign = torch.where(agreement.abs() > noise, agreement, peak).sign()
    maps = torch.where(finite[:, None], projection * sign[:, None], torch.nan)
    return maps.unflatten(1, weighted.shape[2:]).to(weighted.device, weighted.dtype)
