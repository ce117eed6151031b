"""Grad-CAM of another score, with second derivatives or over noisy copies, and LayerCAM of several layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchvice.errors import ViceError
from torchvice.explain.capture import capture, capture_all
from torchvice.explain.gradient import check_gradients, gradcam, layercam, method_from_weights, weighted_map
from torchvice.explain.maps import normalise, upsample
from torchvice.explain.methods import SHORT_BACKWARD, register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.models.stages import stages

__all__ = ["finercam", "refinecam", "shapleycam", "smoothgradcampp"]

FINER_STRENGTH, FINER_CLASSES = 0.6, 3
NOISY_COPIES = 25
# Relative to the image's range, as for `smoothgrad`.
NOISE = 0.15
_PLUSPLUS_EPS = 1e-8
REFINED = 3  # sizes of maps that RefineCAM multiplies


@register(
    "finercam",
    needs="gradients, two outputs",
    cost=SHORT_BACKWARD,
    paper="Zhang et al., CVPR 2025",
    sums_channels=True,
    any_layer=True,
)
def finercam(scene: Scene) -> OutputsAndMaps:
    """Finer-CAM: Grad-CAM of y_c - 0.6 mean of the three outputs of the network whose logits are closest to y_c.

    It shows what tells a class from those that the network holds for similar. Among them may be other true labels of
    the image. A network of fewer outputs has fewer similar ones.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    Raises:
        ViceError: a network of one output.

    References:
        Zhang et al., Finer-CAM: spotting the difference reveals finer details for visual explanation, CVPR 2025.
    """
    return method_from_weights(gradcam, score=_contrast)(scene)


def _contrast(outputs: torch.Tensor, image: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """y_c less its part of the mean of the closest other outputs, (R,)."""
    if outputs.shape[1] < 2:
        raise ViceError("'finercam' must compare two outputs, but the network has one.", "Use method='gradcam'.")
    logits, own = outputs[image], output[:, None]
    distance = (logits - logits.gather(1, own)).detach().abs().scatter(1, own, torch.inf)
    similar = distance.topk(min(FINER_CLASSES, outputs.shape[1] - 1), dim=1, largest=False).indices
    return logits.gather(1, own)[:, 0] - FINER_STRENGTH * logits.gather(1, similar).mean(1)


@register(
    "shapleycam",
    needs="gradients, second derivatives",
    cost="1 forward, 2 L short backward",
    paper="Cai, arXiv 2501.06261",
    sums_channels=True,
    any_layer=True,
)
def shapleycam(scene: Scene) -> OutputsAndMaps:
    """ShapleyCAM: W_d = mean over places of (G - H A / 2)_d, of the score y_c + log softmax(y)_c.

    H is the Hessian of the score at the layer; H A takes a second backward pass. The score is the paper's "residual
    softmax target": of the logit alone, H is 0 wherever one linear layer follows the map.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    References:
        Cai, CAMs as Shapley value-based explainers, arXiv 2501.06261.
    """
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        return method_from_weights(gradcam, score=_residual_softmax, differentiate=_shapley_gradient)(scene)


def _residual_softmax(outputs: torch.Tensor, image: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    own = (torch.arange(len(image), device=image.device), output)
    return outputs[image][own] + outputs[image].log_softmax(1)[own]


def _shapley_gradient(score: torch.Tensor, leaf: torch.Tensor, again: bool) -> torch.Tensor:
    """G - H A / 2; the Hessian of a sum over images couples no two images in eval mode."""
    (gradient,) = torch.autograd.grad(score, leaf, create_graph=True)
    (curved,) = torch.autograd.grad((gradient * leaf.detach()).sum(), leaf, retain_graph=again, allow_unused=True)
    return gradient.detach() if curved is None else gradient.detach() - 0.5 * curved


@register(
    "smoothgradcampp",
    needs="gradients",
    cost="26 forward, 25 L short backward",
    paper="Omeiza et al., IntelliSys 2019",
    sums_channels=True,
    any_layer=True,
)
def smoothgradcampp(scene: Scene) -> OutputsAndMaps:
    """Smooth Grad-CAM++: Grad-CAM++ with the powers of G averaged over 25 noisy copies of the image.

    W_d = sum over places of a max(D1, 0), a = D2 / (2 D2 + D3 sum over places of A_d), with Dk the mean of G^k over the
    copies and A of the image itself. The noise is 15 % of the image's range; its stream depends on the scene's seed and
    the image's bytes alone. The paper has D1 in the numerator of a, which would make a no share; D2 is Grad-CAM++'s.

    Returns:
        outputs (N, M) and maps (P, h, w), signed where activations are.

    References:
        Omeiza et al., Smooth Grad-CAM++, arXiv 1908.01224.
    """
    result = scene.run_network(gradients=False)
    image, output = scene.targets_of(result.outputs)
    moments = result.activations.new_zeros((3, len(image), *result.activations.shape[1:]))
    groups = [torch.tensor(group, device=image.device) for group in scene.backward_groups()]
    for chunk, images in _noisy_copies(scene):
        with capture(scene.model, scene.site, True) as captured:
            outputs = scene.forward(images)
        leaf = captured.reached(scene.site)
        for rows in groups:
            copy, row = (chunk[:, None] == image[rows]).nonzero().unbind(1)
            if len(copy):
                with torch.enable_grad():
                    score = outputs[copy, output[rows][row]].sum()
                    (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
                powers = scene.site.to_maps(gradient, scene.grid).float()[copy]
                for power in range(3):
                    moments[power].index_add_(0, rows[row], powers ** (power + 1) / NOISY_COPIES)
    with torch.autocast(scene.images.device.type, enabled=False):
        first, second, third = moments
        activations = result.activations[image]
        if len(image):
            check_gradients(scene, activations, moments[:2])
        total = activations.sum((2, 3), keepdim=True)
        share = second / (2 * second + third * total + _PLUSPLUS_EPS)
        weights = (share * first.clamp(min=0)).sum((2, 3), keepdim=True)
        return result.outputs, weighted_map(weights, activations, scene.eigen_smooth)


def _noisy_copies(scene: Scene) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield full batches of noisy copies: the image (B,) of each and the copies (B, 3, H, W)."""
    waiting: dict[str, list[torch.Tensor]] = defaultdict(list)
    explained = sorted({image for image, _ in scene.pairs})
    total, done = -(-len(explained) * NOISY_COPIES // scene.batch_size), 0
    for number, position in enumerate(explained):
        shown = scene.images[position]
        spread = NOISE * float(shown.max() - shown.min())
        stream = torch.Generator().manual_seed(scene.seed_of_image(position))
        for copy in range(NOISY_COPIES):
            noise = torch.randn(shown.shape, generator=stream).to(shown)
            waiting["image"].append(torch.tensor(position, device=shown.device))
            waiting["copy"].append(shown + spread * noise)
            last = number + 1 == len(explained) and copy + 1 == NOISY_COPIES
            if len(waiting["copy"]) == scene.batch_size or last:
                yield torch.stack(waiting.pop("image")), torch.stack(waiting.pop("copy"))
                done += 1
                scene.report_progress(done, total)


@register(
    "refinecam",
    needs="gradients, maps of three sizes",
    sizes=REFINED,
    cost="1 forward, L backward from the finest map",
    paper="arXiv 2605.14641",
)
def refinecam(scene: Scene) -> OutputsAndMaps:
    """RefineCAM: the product of LayerCAM's maps of the last three sizes, each without its negative part and divided by
    its maximum, and resized to the finest.

    A place counts only where all three maps show it. One backward pass serves the three. The layers are found by
    `torchvice.models.stages`, which leaves out those that run several times; a layer that the user names is the
    coarsest. pytorch-grad-cam's RefineCAM takes the layers from the user, Grad-CAM++ by default, scales each map to its
    range, and multiplies at the image's size.

    Returns:
        outputs (N, M) and maps (P, h, w) on the finest grid, 0 to 1.

    Raises:
        ViceError: the network has maps of fewer than three sizes, or tokens, as transformers.

    References:
        RefineCAM, arXiv 2605.14641.
    """
    sites = stages(scene.model, scene.site, REFINED)
    with capture_all(scene.model, sites, scene.needs_maps) as captured:
        outputs = scene.forward(scene.images)
    leaves = [one.reached(site) for one, site in zip(captured, sites, strict=True)]
    activations = [site.to_maps(leaf.detach(), None).float() for site, leaf in zip(sites, leaves, strict=True)]
    image, output = scene.targets_of(outputs)
    size = (activations[0].shape[2], activations[0].shape[3])
    maps = activations[0].new_ones((len(image), *size))
    groups = scene.backward_groups()
    for number, group in enumerate(groups):
        rows = torch.tensor(group, device=image.device)
        with torch.enable_grad():
            score = outputs[image[rows], output[rows]].sum()
            gradients = torch.autograd.grad(score, leaves, retain_graph=number + 1 < len(groups))
        with torch.autocast(scene.images.device.type, enabled=False):
            for site, kept, gradient in zip(sites, activations, gradients, strict=True):
                own, slope = kept[image[rows]], site.to_maps(gradient, None).float()[image[rows]]
                check_gradients(scene, own, slope)
                found = weighted_map(layercam(own, slope), own)
                maps[rows] *= upsample(normalise(found.clamp(min=0), "max"), size)
    return outputs, maps
