"""What a network does that makes its numbers or its maps doubtful: found out by running it, and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from torchvice.explain import Explainer
from torchvice.explain.capture import eval_mode
from torchvice.models.bare import logits_in
from torchvice.models.families import input_size
from torchvice.models.probe import probe_image

__all__ = ["say_doubts"]

_FRAME = 0.03  # of a side: a frame that no output depends on, on opposite sides, is a crop and not a rest of patches


def say_doubts(explainer: Explainer, side: int | None, say: Callable[[str], None]) -> None:
    """Say where an image has other outputs when it is shown again, and where a network does not see the whole image.

    Args:
        explainer: of the network; not checked if a pass was not needed to find its layer.
        side: of the images in pixels; None: of those that the network states.
        say: called with a sentence for each doubt.
    """
    if explainer.probed is None:
        return
    size = input_size(explainer.model) if side is None else (side, side)
    try:
        for sentence in _doubts(explainer.model, probe_image(explainer.model, size).to(explainer.probed.device)):
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
