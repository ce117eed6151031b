"""Maps from activations and gradients: one forward pass, and one small backward pass for each label of an image.

A method is the weights W that it gives to the channels A, either one a channel, (P, D, 1, 1), or one a place,
(P, D, h, w). Its map is sum_d W_d A_d, before any ReLU or normalisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.scene import Scene
from torchvice.models.families import MapSite

__all__ = [
    "by_gradient",
    "cam",
    "eigen_smooth",
    "eigencam",
    "eigengradcam",
    "gradcam",
    "gradcampp",
    "hirescam",
    "layercam",
    "no_head",
    "weighted_map",
    "xgradcam",
]

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Run = Callable[[Scene], tuple[torch.Tensor, torch.Tensor]]

_PLUSPLUS_EPS = 1e-6
_XGRAD_EPS = 1e-7
# Sums of some hundred float32 numbers that ought to cancel stay below this share of the sum of their magnitudes.
_NOISE = 1e-5


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
        return seen.outputs, weighted_map(weights[..., None, None], seen.activations[image], scene.eigen_smooth)


def no_head(model: nn.Module, site: MapSite) -> ViceError:
    """The refusal of 'cam' for a network that it does not fit."""
    return ViceError(
        f"'cam' must have a network that ends in mean pooling and one linear layer, but "
        f"{type(model).__name__} does not at `{site.layer}`.",
        "Use method='gradcam', which fits every network.",
    )


def by_gradient(weigh: Weigh, sign_of: Weigh | None = None) -> Run:
    """A method from a function of activations (P, D, h, w) and gradients (P, D, h, w) that gives the channels' weights.

    The k-th label of every image is served by the k-th backward pass, which runs from the logits to the site and no
    further, over the whole batch. Under eval mode an image's gradient does not depend on its neighbours.

    Args:
        weigh: gives (P, D, 1, 1) or (P, D, h, w).
        sign_of: makes it an eigen method: the first principal component of the weighted channels, with the sign of the
            map that these other weights give.
    """

    def run(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
        seen = scene.look(gradients=scene.asks)
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
                activations = seen.activations[image[rows]]
                gradients = scene.site.to_maps(slope, scene.grid).float()[image[rows]]
                _refuse_nothing(scene, seen.activations, gradients)
                weights = weigh(activations, gradients)
                if sign_of is None:
                    maps[rows] = weighted_map(weights, activations, scene.eigen_smooth)
                else:
                    reference = weighted_map(sign_of(activations, gradients), activations)
                    maps[rows] = eigen_smooth(weights * activations, reference)
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


def gradcampp(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: W_d = sum over places of a max(G_d, 0), with a = G_d^2 / (2 G_d^2 + G_d^3 sum over places of A_d).

    The paper's class score passes through an exponential, whose derivatives are powers of G; the factor exp(score) that
    all weights share is left out. The paper adds nothing to the divisor; pytorch-grad-cam adds 1e-6, which damps
    gradients below 1e-3, so that its maps do not scale with the logits. The same is done here, for the sake of equal
    maps.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, 1, 1), none below 0 where no channel's sum is.

    References:
        Chattopadhay et al., Grad-CAM++, WACV 2018, equations 10 and 19.
    """
    total = activations.sum((2, 3), keepdim=True)
    square = gradients**2
    share = square / (2 * square + total * square * gradients + _PLUSPLUS_EPS)
    return torch.where(gradients > 0, gradients * share, 0).sum((2, 3), keepdim=True)


def xgradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """XGrad-CAM: W_d = sum over places of G_d A_d / (sum over places of A_d).

    The divisor has 1e-7 added, so that a dead channel weighs 0. It is made for activations behind a ReLU: where a
    channel's sum passes near 0, as a transformer's may, its weight is large.

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


def layercam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """LayerCAM: W = max(G, 0), place by place; it suits earlier layers, too.

    Args:
        activations: A, (P, D, h, w).
        gradients: G, (P, D, h, w), of one class score each.

    Returns:
        (P, D, h, w).

    References:
        Jiang et al., LayerCAM, IEEE Transactions on Image Processing 30, 2021.
    """
    return gradients.clamp(min=0)


def eigengradcam(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """EigenGrad-CAM: the first principal component of G A, of the sign that correlates with the pair's Grad-CAM.

    It has no paper: it comes from pytorch-grad-cam, which leaves the sign open.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, with mean 0 over places.
    """
    return by_gradient(hirescam, sign_of=gradcam)(scene)


def eigencam(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigen-CAM: the first principal component of the activations; it needs no gradient and no class.

    All labels of an image have the same map. Its sign is that of the mean activation over channels, with which it
    correlates; behind a layer norm without bias that mean is 0, and `eigen_smooth` decides. The channels are centred
    over places first, as in pytorch-grad-cam; the paper's are not.

    Returns:
        outputs (N, M) and maps (P, h, w), signed, with mean 0 over places.

    References:
        Muhammad and Yeasin, Eigen-CAM, IJCNN 2020.
    """
    seen = scene.look(gradients=False)
    image, _ = scene.targets_of(seen.outputs)
    explained, place = image.unique(return_inverse=True)
    with torch.autocast(scene.images.device.type, enabled=False):
        activations = seen.activations[explained]
        return seen.outputs, eigen_smooth(activations, activations.sum(1))[place]


def weighted_map(weights: torch.Tensor, activations: torch.Tensor, smooth: bool = False) -> torch.Tensor:
    """sum_d W_d A_d, or the first principal component of the W_d A_d.

    Args:
        weights: W, (P, D, 1, 1) or (P, D, h, w).
        activations: A, (P, D, h, w).
        smooth: take the component, with the sign of the sum.

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
    """The projection of every place's channels on their first right singular vector, with a fixed sign.

    The channels are centred over places, so that the map has mean 0. A singular vector has no sign of its own: the map
    gets the one with which it correlates with `reference`. Where that correlation is rounding error, the value of
    largest magnitude is positive.

    Args:
        weighted: (P, D, h, w).
        reference: (P, h, w), a map that is known to be positive on the object.

    Returns:
        (P, h, w) in the precision of `weighted`; NaN everywhere where a value of `weighted` is not finite.
    """
    # The products below square the condition number: in float64 that costs nothing. Apple's GPUs have none.
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
