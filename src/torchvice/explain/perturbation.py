"""Maps from what the network says when a channel masks the image, or is taken away: many passes, in full batches."""

from __future__ import annotations

import torch
from torch.nn import functional

from torchvice.explain.capture import editing
from torchvice.explain.gradient import weighted_map
from torchvice.explain.scene import Pass, Scene

__all__ = ["ablationcam", "scorecam"]

_SCORECAM_EPS = 1e-8


def scorecam(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Score-CAM: W_d = softmax over channels of the class score of the image times channel d.

    The channel is brought to the image's size, scaled to [0, 1] and multiplied with the normalised image. D masked
    images serve all labels of an image. A channel without any spread masks everything: all such share one pass of an
    image of zeros. The score is the logit and the resize has its corners aligned, as in pytorch-grad-cam; the paper's
    text speaks of a score behind a softmax. The score of a baseline image, which the paper subtracts, leaves the
    softmax over channels as it is.

    Returns:
        outputs (N, M) and maps (P, h, w), signed where activations are.

    References:
        Wang et al., Score-CAM, CVPR Workshops 2020.
    """
    seen = scene.look(gradients=False)
    image, output = scene.targets_of(seen.outputs)
    wanted, column = output.unique(return_inverse=True)
    flat = seen.activations.flatten(2)
    spreads = flat.amax(2) > flat.amin(2)
    explained = _explained(image, len(spreads))
    rows = (spreads & explained).nonzero()
    dead = ~spreads & explained
    chunks = rows.split(scene.batch_size) if len(rows) else ()
    passes = len(chunks) + int(bool(dead.any()))
    scores = seen.activations.new_zeros((*spreads.shape, len(wanted)))
    for number, chunk in enumerate(chunks):
        i, d = chunk.unbind(1)
        masks = _masks(seen.activations[i, d], scene.images.shape[2:]).to(scene.images.dtype)
        scores[i, d] = scene.forward(scene.images[i] * masks[:, None])[:, wanted].to(scores.dtype)
        _tell(scene, number + 1, passes)
    if bool(dead.any()):
        zeros = scene.forward(torch.zeros_like(scene.images[:1]))[:, wanted]
        scores[dead] = zeros.to(scores.dtype)
        _tell(scene, passes, passes)
    weights = scores[image, :, column].softmax(1)
    return seen.outputs, _map(scene, seen, image, weights)


def ablationcam(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Ablation-CAM: W_d = (y - y_d) / y, with y the class score and y_d the same with channel d set to 0.

    D ablations serve all labels of an image. A channel that is 0 already changes nothing and is left out. Of tokens a
    channel is ablated in all, class token and registers included. Where the network lets one image become a batch at
    the site, which is tried, an image goes once through the layers below for a whole batch of ablations.

    pytorch-grad-cam 1.5.7 departs from the paper wherever an activation is negative, as in transformers: it does not
    set the channel to 0, but to 1e7 below the minimum. Both have the paper's divisor: a label whose logit is negative
    has its map turned, one whose logit is 0 has none (status "nan").

    Returns:
        outputs (N, M) and maps (P, h, w), signed.

    References:
        Desai and Ramaswamy, Ablation-CAM, WACV 2020.
    """
    seen = scene.look(gradients=False)
    image, output = scene.targets_of(seen.outputs)
    wanted, column = output.unique(return_inverse=True)
    whole = seen.outputs[:, None, wanted].float()
    entries = _entries(scene, seen.leaf)
    alive = seen.leaf.detach().flatten(1).ne(0)[:, entries].any(2)
    scores = whole.repeat(1, alive.shape[1], 1)
    explained = _explained(image, len(alive))
    rows = (alive & explained).nonzero()
    grows = bool(len(rows)) and _grows(scene, int(rows[0, 0]))
    # An image that grows at the site has its chunks to itself.
    counts = (alive & explained).sum(1).tolist() if grows else [len(rows)]
    chunks = [chunk for part in rows.split(counts) if len(part) for chunk in part.split(scene.batch_size)]
    for number, chunk in enumerate(chunks):
        i, d = chunk.unbind(1)

        def ablate(tensor: torch.Tensor, d: torch.Tensor = d) -> torch.Tensor:
            copies = tensor.expand(len(d), *tensor.shape[1:]).clone(memory_format=torch.contiguous_format)
            copies.view(len(d), -1).scatter_(1, entries[d], 0)
            return copies

        with editing(scene.model, scene.site, ablate):
            outputs = scene.forward(scene.images[i[:1]] if grows else scene.images[i])
        scores[i, d] = outputs[:, wanted].float()
        _tell(scene, number + 1, len(chunks))
    weights = ((whole - scores) / whole)[image, :, column]
    return seen.outputs, _map(scene, seen, image, weights)


def _entries(scene: Scene, leaf: torch.Tensor) -> torch.Tensor:
    """(D, E), the places in an image's flattened tensor at the site that hold each channel.

    Found by rearranging the numbers of the places as the site rearranges the tensor; a site's own function may keep
    some tokens from its maps, and these are in no channel.
    """
    numbers = torch.arange(leaf[0].numel(), device=leaf.device).view(1, *leaf.shape[1:])
    if scene.site.reshape is not None:
        return scene.site.to_maps(numbers, None)[0].flatten(1)
    return numbers[0].movedim(0 if scene.site.layout == "nchw" else -1, 0).flatten(1)


def _explained(image: torch.Tensor, n: int) -> torch.Tensor:
    """(N, 1), whether an image has any label."""
    explained = torch.zeros((n, 1), dtype=torch.bool, device=image.device)
    explained[image] = True
    return explained


def _masks(channels: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(B, h, w) channels as masks (B, H, W) on [0, 1]."""
    large = functional.interpolate(channels[:, None], tuple(size), mode="bilinear", align_corners=True)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low + _SCORECAM_EPS)


def _map(scene: Scene, seen: Pass, image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Maps (P, h, w) of the pairs' images from weights (P, D)."""
    with torch.autocast(scene.images.device.type, enabled=False):
        return weighted_map(weights[..., None, None], seen.activations[image], scene.eigen_smooth)


def _tell(scene: Scene, done: int, passes: int) -> None:
    if scene.progress is not None:
        scene.progress(done, passes)


def _grows(scene: Scene, image: int) -> bool:
    """Whether one image may become a batch at the site: what bypasses the site must broadcast to the batch's size.

    Found out by trying: two rows, one of them blank, must say what two images with the same done to them say.
    """

    def blank(tensor: torch.Tensor) -> torch.Tensor:
        copies = tensor.expand(2, *tensor.shape[1:]).clone()
        copies[1] = 0
        return copies

    one = scene.images[image : image + 1]
    try:
        with editing(scene.model, scene.site, blank):
            grown, two = scene.forward(one), scene.forward(one.expand(2, -1, -1, -1))
    except (RuntimeError, ValueError, IndexError):
        return False
    return grown.shape == two.shape and torch.allclose(grown, two, rtol=1e-3, atol=1e-3 * float(two.abs().max()))
