"""Maps from the outputs when a channel masks the image or is ablated, or a place is kept: passes in full batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from torchvice.explain.capture import edit_site
from torchvice.explain.gradient import weighted_map
from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Pass, Scene

__all__ = ["ablationcam", "reciprocam", "scorecam"]

_SCORECAM_EPS = 1e-8
# Weights of a patch and its neighbours in ViT-ReciproCAM.
_NEIGHBOURS = ((1 / 16, 1 / 8, 1 / 16), (1 / 8, 1 / 4, 1 / 8), (1 / 16, 1 / 8, 1 / 16))


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

    def ablate(copies: torch.Tensor, i: torch.Tensor, d: torch.Tensor) -> None:
        copies.scatter_(1, entries[d], 0)

    for i, d, outputs in _edited_outputs(scene, rows, ablate):
        scores[i, d] = outputs[:, classes].float()
    weights = ((whole - scores) / whole)[image, :, column]
    return result.outputs, _map(scene, result, image, weights)


@register(
    "reciprocam",
    needs="activations",
    cost="1 + h w forward from the layer on",
    paper="Byun and Lee, CVPR Workshops 2024",
    any_layer=True,
)
def reciprocam(scene: Scene) -> OutputsAndMaps:
    """ReciproCAM: the logit with one place of the layer kept and all others set to 0, less the logit with none kept.

    No gradient, and no pass from the image: h w passes from the layer on serve all labels of an image, see
    `ablationcam`. In a transformer the class token and registers stay, and a patch is kept with its eight neighbours,
    by the Gaussian of ViT-ReciproCAM. The paper scales each map from its minimum to its maximum; the logit with no
    place kept is subtracted here instead, so that 0 means no evidence.

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    References:
        Byun and Lee, ReciproCAM, CVPR Workshops 2024 (arXiv 2209.14074); ViT-ReciproCAM, arXiv 2310.02588.
    """
    result = scene.run_network(gradients=False)
    image, output = scene.targets_of(result.outputs)
    classes, column = output.unique(return_inverse=True)
    height, width = result.activations.shape[2:]
    places = height * width
    entries = _entries(scene, result.leaf)[:, -places:]  # without the prefix tokens, which stay
    scores = result.activations.new_zeros((len(scene.images), places + 1, len(classes)))  # the last keeps no place
    rows = _explained(image, len(scene.images)).expand(-1, places + 1).nonzero()

    def keep(copies: torch.Tensor, i: torch.Tensor, place: torch.Tensor) -> None:
        kept = _kept(place, height, width, scene.site.layout == "tokens").to(copies.dtype)
        factors = torch.ones_like(copies)
        factors[:, entries] = kept[:, None].expand(-1, len(entries), -1)
        copies.mul_(factors)

    for i, place, outputs in _edited_outputs(scene, rows, keep):
        scores[i, place] = outputs[:, classes].float()
    evidence = (scores[:, :-1] - scores[:, -1:])[image, :, column]
    return result.outputs, evidence.unflatten(1, (height, width))


def _kept(place: torch.Tensor, height: int, width: int, neighbours: bool) -> torch.Tensor:
    """Weights (B, h w) that keep one place each, or a patch with its neighbours; none for a place beyond the last."""
    kept = functional.one_hot(place, height * width + 1)[:, :-1].float()
    if not neighbours:
        return kept
    kernel = torch.tensor(_NEIGHBOURS, device=place.device)[None, None]
    return functional.conv2d(kept.view(-1, 1, height, width), kernel, padding=1).flatten(1)


def _edited_outputs(
    scene: Scene, rows: torch.Tensor, edit: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield, for full batches of edits at the site, image (B,) and number (B,) of each edit and its outputs (B, M).

    Args:
        rows: (R, 2), image and number of every edit, image by image.
        edit: writes to the copies (B, entries of an image's tensor at the site).
    """
    expands = bool(len(rows)) and _expands_at_site(scene, int(rows[0, 0]))
    # With expansion a chunk holds a single image.
    parts = rows.split(rows[:, 0].unique_consecutive(return_counts=True)[1].tolist()) if expands else [rows]
    chunks = [chunk for part in parts if len(part) for chunk in part.split(scene.batch_size)]
    for number, chunk in enumerate(chunks):
        i, d = chunk.unbind(1)

        def edited(tensor: torch.Tensor, i: torch.Tensor = i, d: torch.Tensor = d) -> torch.Tensor:
            copies = tensor.expand(len(d), *tensor.shape[1:]).clone(memory_format=torch.contiguous_format)
            edit(copies.view(len(d), -1), i, d)
            return copies

        with edit_site(scene.model, scene.site, edited):
            outputs = scene.forward(scene.images[i[:1]] if expands else scene.images[i])
        yield i, d, outputs
        scene.report_progress(number + 1, len(chunks))


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
