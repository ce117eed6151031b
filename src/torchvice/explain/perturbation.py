"""Maps from the outputs when a channel masks the image or is ablated: many passes, in full batches."""

from __future__ import annotations

import torch
from torch.nn import functional

from torchvice.explain.capture import edit_site
from torchvice.explain.gradient import weighted_map
from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Pass, Scene

__all__ = ["ablationcam", "scorecam"]

_SCORECAM_EPS = 1e-8


@register(
    "scorecam",
    needs="activations",
    cost="1 + D forward, D channels",
    paper="Wang et al., CVPR Workshops 2020",
    sums_channels=True,
    any_layer=True,
)
def scorecam(scene: Scene) -> OutputsAndMaps:
    """Score-CAM: W_d = softmax over channels of the class score of the image times channel d.

    The channel is resized to the image's size, scaled to [0, 1] and multiplied with the normalised image. D masked
    images serve all labels of an image. A constant channel masks everything: all constant channels share one pass of an
    image of zeros. As in pytorch-grad-cam, the score is the logit (in the paper's text a score after a softmax) and the
    resize aligns corners. The paper subtracts the score of a baseline image, which does not change the softmax over
    channels.

    Returns:
        outputs (N, M) and maps (P, h, w), signed where activations are.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020.
    """
    result = scene.run_network(gradients=False)
    image, output = scene.targets_of(result.outputs)
    classes, column = output.unique(return_inverse=True)
    flat = result.activations.flatten(2)
    spreads = flat.amax(2) > flat.amin(2)
    explained = _explained(image, len(spreads))
    rows = (spreads & explained).nonzero()
    dead = ~spreads & explained
    chunks = rows.split(scene.batch_size) if len(rows) else ()
    passes = len(chunks) + int(bool(dead.any()))
    scores = result.activations.new_zeros((*spreads.shape, len(classes)))
    for number, chunk in enumerate(chunks):
        i, d = chunk.unbind(1)
        masks = _masks(result.activations[i, d], scene.images.shape[2:]).to(scene.images.dtype)
        scores[i, d] = scene.forward(scene.images[i] * masks[:, None])[:, classes].to(scores.dtype)
        scene.report_progress(number + 1, passes)
    if bool(dead.any()):
        zeros = scene.forward(torch.zeros_like(scene.images[:1]))[:, classes]
        scores[dead] = zeros.to(scores.dtype)
        scene.report_progress(passes, passes)
    weights = scores[image, :, column].softmax(1)
    return result.outputs, _map(scene, result, image, weights)


@register(
    "ablationcam",
    needs="activations",
    cost="1 + D forward from the layer on",
    paper="Desai and Ramaswamy, WACV 2020",
    sums_channels=True,
    any_layer=True,
)
def ablationcam(scene: Scene) -> OutputsAndMaps:
    """Ablation-CAM: W_d = (y - y_d) / y, with y the class score and y_d the same with channel d set to 0.

    D ablations serve all labels of an image. A channel that is already 0 is skipped. In a transformer a channel is
    ablated in all tokens, class token and registers included. If the network allows one image to become a batch at the
    site, which is tested, an image passes the layers before the site once per batch of ablations.

    pytorch-grad-cam 1.5.7 departs from the paper where an activation is negative, as in transformers: it sets the
    channel to 1e7 below the minimum instead of 0. Both use the paper's divisor: a negative logit flips the sign of the
    map, and a logit of 0 makes it NaN (status "nan").

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    References:
        Desai and Ramaswamy, Ablation-CAM, WACV 2020.
    """
    result = scene.run_network(gradients=False)
    image, output = scene.targets_of(result.outputs)
    classes, column = output.unique(return_inverse=True)
    whole = result.outputs[:, None, classes].float()
    entries = _entries(scene, result.leaf)
    alive = result.leaf.detach().flatten(1).ne(0)[:, entries].any(2)
    scores = whole.repeat(1, alive.shape[1], 1)
    explained = _explained(image, len(alive))
    rows = (alive & explained).nonzero()
    expands = bool(len(rows)) and _expands_at_site(scene, int(rows[0, 0]))
    # With expansion a chunk holds a single image.
    counts = (alive & explained).sum(1).tolist() if expands else [len(rows)]
    chunks = [chunk for part in rows.split(counts) if len(part) for chunk in part.split(scene.batch_size)]
    for number, chunk in enumerate(chunks):
        i, d = chunk.unbind(1)

        def ablate(tensor: torch.Tensor, d: torch.Tensor = d) -> torch.Tensor:
            copies = tensor.expand(len(d), *tensor.shape[1:]).clone(memory_format=torch.contiguous_format)
            copies.view(len(d), -1).scatter_(1, entries[d], 0)
            return copies

        with edit_site(scene.model, scene.site, ablate):
            outputs = scene.forward(scene.images[i[:1]] if expands else scene.images[i])
        scores[i, d] = outputs[:, classes].float()
        scene.report_progress(number + 1, len(chunks))
    weights = ((whole - scores) / whole)[image, :, column]
    return result.outputs, _map(scene, result, image, weights)


def _entries(scene: Scene, leaf: torch.Tensor) -> torch.Tensor:
    """Indices (D, E) of each channel's entries in an image's flattened tensor at the site.

    The site's own rearrangement is applied to the indices; tokens that its `reshape` drops belong to no channel.
    """
    numbers = torch.arange(leaf[0].numel(), device=leaf.device).view(1, *leaf.shape[1:])
    if scene.site.reshape is not None:
        return scene.site.to_maps(numbers, None)[0].flatten(1)
    return numbers[0].movedim(0 if scene.site.layout == "nchw" else -1, 0).flatten(1)


def _explained(image: torch.Tensor, n: int) -> torch.Tensor:
    """Whether an image has any label, (N, 1)."""
    explained = torch.zeros((n, 1), dtype=torch.bool, device=image.device)
    explained[image] = True
    return explained


def _masks(channels: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Resize channels (B, h, w) to masks (B, H, W) on [0, 1]."""
    large = functional.interpolate(channels[:, None], tuple(size), mode="bilinear", align_corners=True)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low + _SCORECAM_EPS)


def _map(scene: Scene, result: Pass, image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute the maps (P, h, w) of the pairs from weights (P, D)."""
    with torch.autocast(scene.images.device.type, enabled=False):
        return weighted_map(weights[..., None, None], result.activations[image], scene.eigen_smooth)


def _expands_at_site(scene: Scene, image: int) -> bool:
    """Whether one image may become a batch at the site: tensors that bypass it must broadcast to the batch's size.

    Tested with an image that becomes two rows at the site, one of them blank: its outputs must equal those of two
    images.
    """

    def blank(tensor: torch.Tensor) -> torch.Tensor:
        copies = tensor.expand(2, *tensor.shape[1:]).clone()
        copies[1] = 0
        return copies

    one = scene.images[image : image + 1]
    try:
        with edit_site(scene.model, scene.site, blank):
            expanded, two = scene.forward(one), scene.forward(one.expand(2, -1, -1, -1))
    except (RuntimeError, ValueError, IndexError):
        return False
    return expanded.shape == two.shape and torch.allclose(expanded, two, rtol=1e-3, atol=1e-3 * float(two.abs().max()))
