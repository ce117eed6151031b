"""What a network does that makes its numbers or its maps doubtful: found out by running it, and said."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from torchvice.explain import Explainer
from torchvice.explain.capture import edit_site, eval_mode
from torchvice.explain.methods import method_named
from torchvice.models.bare import logits_in
from torchvice.models.families import MapSite, token_grid
from torchvice.models.probe import probe_image
from torchvice.models.sizes import input_size

__all__ = ["say_doubts", "shifts", "turned"]

_FRAME = 0.03  # of a side: a frame that no output depends on, on opposite sides, is a crop and not a rest of patches
_TURNED = 0.05  # of a side, by which what a half of the map depends on lies on the wrong side
_SURE = 3.0  # standard errors over images of noise
_FURTHER = 17  # seeds 1 to 16: the images of noise that have to confirm what that of seed 0 says
_LARGEST = 512  # pixels a side: larger images take minutes and gigabytes of gradients in some networks


def say_doubts(explainer: Explainer, side: int | None, say: Callable[[str], None]) -> None:
    """Say where an image has other outputs when it is shown again, where a network moves it, and what a map leaves out.

    Args:
        explainer: of the network; of one whose layer is known without a pass only runs and grid of the map are checked.
        side: of the images in pixels; None: of those that the network states.
        say: called with a sentence for each doubt.
    """
    size = input_size(explainer.model) if side is None else (side, side)
    try:
        image = probe_image(explainer.model, size)
        if explainer.probed is not None:
            image = image.to(explainer.probed.device)
            for sentence in (*_doubts(explainer.model, image), *_doubts_of_place(explainer, image)):
                say(sentence)
        for sentence in _doubts_of_grid(explainer, image.to(next(explainer.model.parameters()).device)):
            say(sentence)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a network of single images, or of no gradients: it is refused where it runs
        return


def _doubts(model: nn.Module, image: torch.Tensor) -> Iterator[str]:
    with eval_mode(model):
        with torch.no_grad():
            alone = logits_in(model(image.clone()), 1)
            beside = logits_in(model(torch.cat([image, torch.zeros_like(image)])), 2)
        if not isinstance(alone, torch.Tensor) or not isinstance(beside, torch.Tensor) or not bool(beside.any()):
            return  # an untrained classifier of zeros
        change = (beside[0].float() - alone[0].float()).abs().max().item() / max(alone.abs().max().item(), 1e-12)
        if change > (0.05 if alone.dtype in (torch.float16, torch.bfloat16) else 0.01):
            yield (
                "The network is not steady: an image that is shown again, beside another one, has other outputs (by "
                f"{change:.0%} of the largest). Dropout or noise may be on in eval mode, or a norm may use the "
                "statistics of the batch. The numbers depend on chance or on the batch size."
            )
        frame = _unseen_frame(model, image)
    if frame is not None:
        yield (
            f"The network does not see the {frame} of its images: it seems to crop them itself. Maps are put over the "
            "whole image, so that they lie in the wrong place. Remove the crop from the network, and give it as the "
            "transform: --transform FILE.py:FUNCTION (transform=FUNCTION)."
        )


def _doubts_of_place(explainer: Explainer, image: torch.Tensor) -> Iterator[str]:
    if max(image.shape[-2:]) > _LARGEST:
        return
    how = turned([shifts(explainer.model, explainer.site, image)])
    if how:  # one image of noise may say so by chance, where a network depends little on places
        size = int(image.shape[-2]), int(image.shape[-1])
        noise = (probe_image(explainer.model, size, seed).to(image.device) for seed in range(1, _FURTHER))
        how = turned([shifts(explainer.model, explainer.site, one) for one in noise])
    if how:
        yield (
            f"The network seems to {how}: what one side of its last map depends on lies on another side of the image. "
            "Maps lie in the wrong place. Remove this step from the network's forward, and give the images as it needs "
            "them."
        )


def _doubts_of_grid(explainer: Explainer, image: torch.Tensor) -> Iterator[str]:
    """A sentence where the layer runs several times, and one where its map has one position."""
    several = explainer.average is not None and len(explainer.average.sites) > 1
    if several or method_named(explainer.method).reads != "layer":
        return
    kept: list[tuple[int, ...]] = []
    grid = token_grid(explainer.model, image, explainer.site)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(explainer.site.to_maps(tensor, grid).shape[-2:]))
        return tensor

    with eval_mode(explainer.model), torch.no_grad(), edit_site(explainer.model, explainer.site, keep):
        explainer.model(image.clone())
    if len(kept) > 1:
        yield (
            f"`{explainer.site.layer}` runs {len(kept)} times for an image: the map is of the last run alone. If the "
            "network shows the image in several ways (mirrored, cropped, in several sizes), that is one of them. "
            "Assess the network that it runs."
        )
    if kept and kept[-1] == (1, 1):
        height, width = image.shape[-2:]
        yield (
            f"The map of `{explainer.site.layer}` has one position for an image of {height} x {width} pixels: it is "
            "the same everywhere and locates nothing, so that VICE does not tell where the model looks. Show larger "
            "images (--view-size), or name an earlier layer (--layer)."
        )


Shift = tuple[float, float]


def shifts(model: nn.Module, site: MapSite, image: torch.Tensor) -> tuple[Shift | None, Shift | None]:
    """How far (down, across), in sides of the image, what a half of the map depends on lies from that of the other.

    Args:
        model: the network.
        site: where its map is.
        image: (1, C, H, W).

    Returns:
        From the upper to the lower half of the map, and from the left to the right one; the centres are those of the
        gradient's absolute values. None where the map has one row or column, or no gradient.
    """
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    asked = image.clone().requires_grad_(True)
    with eval_mode(model), torch.enable_grad(), edit_site(model, site, keep):
        model(asked.clone())
        maps = site.to_maps(kept[-1], token_grid(model, image, site)).float()  # of the run that a map is of
        return _shift(maps, 2, asked), _shift(maps, 3, asked)


def turned(found: Sequence[tuple[Shift | None, Shift | None]]) -> str:
    """What a network does to its images, by the `shifts` of some, in words; "" where they lie as they are shown.

    Of several images it must hold for their mean, by three standard errors.
    """
    values = np.array([[(0.0, 0.0) if one is None else one for one in pair] for pair in found])  # halves, direction
    mean, unsure = values.mean(0), np.zeros((2, 2))
    if len(values) > 1:
        unsure = _SURE * values.std(0, ddof=1) / math.sqrt(len(values))
    upside_down, mirrored = (mean[axis, axis] + unsure[axis, axis] < -_TURNED for axis in (0, 1))
    least, most = np.abs(mean) - unsure, np.abs(mean)
    swapped = any(least[axis, 1 - axis] > max(_TURNED, most[axis, axis]) for axis in (0, 1))
    if swapped or (upside_down and mirrored):
        return "turn its images itself"
    if not (upside_down or mirrored):
        return ""
    other = 1 if upside_down else 0  # the axis that is not said to be mirrored
    if mean[other, other] - unsure[other, other] < 0:
        return "turn or mirror its images itself"
    return "mirror its images itself, " + ("upside down" if upside_down else "left to right")


def _shift(maps: torch.Tensor, axis: int, asked: torch.Tensor) -> Shift | None:
    half = maps.shape[axis] // 2
    if not half:
        return None
    centres = []
    for start in (0, maps.shape[axis] - half):
        energy = maps.narrow(axis, start, half).square().sum()
        (gradient,) = torch.autograd.grad(energy, asked, retain_graph=True, allow_unused=True)
        if gradient is None or not bool(gradient.any()):
            return None
        strength = gradient[0].abs().sum(0).double()
        sides = [torch.linspace(0, 1, size, device=strength.device, dtype=strength.dtype) for size in strength.shape]
        total = strength.sum()
        centres.append(((strength.sum(1) @ sides[0] / total).item(), (strength.sum(0) @ sides[1] / total).item()))
    return centres[1][0] - centres[0][0], centres[1][1] - centres[0][1]


def _unseen_frame(model: nn.Module, image: torch.Tensor) -> str | None:
    """The pixels on opposite sides that no output depends on, in words; None without such a frame."""
    asked = image.clone().requires_grad_(True)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of networks without gradients, which have no frame either
        outputs = logits_in(model(asked.clone()), 1)
        (gradient,) = torch.autograd.grad(outputs.float().square().sum(), asked, allow_unused=True)
    if gradient is None or not bool(gradient.any()):
        return None
    seen = gradient[0].abs().sum(0) > 0
    for axis, names in ((1, ("top", "bottom")), (0, ("left", "right"))):
        lines = seen.any(axis).nonzero().flatten()
        before, after = int(lines[0]), len(seen.any(axis)) - 1 - int(lines[-1])
        if min(before, after) > _FRAME * len(seen.any(axis)):
            return f"{before} pixels at the {names[0]} and {after} at the {names[1]}"
    return None
