"""Networks that take RGB images and give logits (N, C): hooks on a shallow copy convert channels and outputs.

The copy shares parameters and inner modules with the network, so that layers keep their names and hashes their value.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError, did_you_mean
from torchvice.models.bare import bare, input_channels, input_like, logits_in
from torchvice.models.probe import eval_and_frozen
from torchvice.models.sizes import input_size, stated_size

__all__ = [
    "GREY",
    "converted_channels",
    "hooked_copy",
    "of_side",
    "output_count",
    "same_for_all",
    "taking_rgb",
    "with_complement",
    "with_output",
]

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as in Pillow's and torchvision's conversion to grey
_CHANNELS = "_torchvice_channels"


def hooked_copy(model: nn.Module) -> nn.Module:
    """Return a shallow copy of the network without wrappers; hooks that it is given are not the caller's model's."""
    made = copy.copy(bare(model))
    made._forward_hooks = OrderedDict(made._forward_hooks)
    made._forward_pre_hooks = OrderedDict(made._forward_pre_hooks)
    return made


def of_side(model: nn.Module, side: int | None) -> nn.Module:
    """Return the network, or a copy that states the side of its images, as timm's networks do.

    That is a network that does not say its size, and runs on images of this side, but not on those of 224 pixels.

    Args:
        model: without wrappers.
        side: pixels of the images that it will be shown; None: not known.
    """
    if side is None or stated_size(model) is not None or side == max(input_size(model)):
        return model
    channels = (3, 1) if input_channels(model) == 1 else (3,)
    if any(_outputs_of(model, count) is not None for count in channels):
        return model
    made = hooked_copy(model)
    made.pretrained_cfg = {"input_size": (3, side, side)}  # type: ignore[assignment]
    return made if any(_outputs_of(made, count) is not None for count in channels) else model


def taking_rgb(model: nn.Module) -> nn.Module:
    """Return the network, or for a network of one channel a copy that takes RGB images and shows their grey to it.

    A network that takes RGB images is returned as it is, also one that converts them itself before a convolution of one
    channel. Networks of other channels are returned as they are, too, and refused where they are run.

    Args:
        model: without wrappers.
    """
    if input_channels(model) != 1 or _outputs_of(model, 3) is not None or _outputs_of(model, 1) is None:
        return model
    made = hooked_copy(model)
    made.register_forward_pre_hook(_to_grey)
    object.__setattr__(made, _CHANNELS, 1)
    return made


def converted_channels(model: nn.Module) -> int | None:
    """Return the number of channels that `taking_rgb` converts images to; None: the network takes RGB images."""
    channels: int | None = getattr(model, _CHANNELS, None)
    return channels


def same_for_all(values: Sequence[float]) -> tuple[float, float, float]:
    """Return one value for all channels: what a grey image has, of those of red, green and blue."""
    one = values[0] if len(set(values)) == 1 else sum(w * v for w, v in zip(GREY, values, strict=True))
    return float(one), float(one), float(one)


def _outputs_of(model: nn.Module, channels: int) -> Any:
    """What the network gives for a black image; None: it does not run."""
    with eval_and_frozen(model, gradients=False):
        try:
            return model(input_like(model).new_zeros(1, channels, *input_size(model)))
        except Exception:  # layers may raise anything; the probe of the explainer says what
            return None


def _to_grey(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Replace RGB images by their grey: exact for a normalisation that is the same for all channels."""
    images = args[0]
    weights = torch.tensor(GREY, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    return ((images * weights).sum(1, keepdim=True), *args[1:])


def with_output(model: nn.Module, name: str | int) -> nn.Module:
    """Return a copy that gives one of several outputs: the entry of a dict, the field of an object, or item 0, 1, ...

    Raises:
        ViceError: when it runs: no such output.
    """
    made, name = hooked_copy(model), str(name)

    def choose(_: nn.Module, __: Any, outputs: Any) -> Any:
        if isinstance(outputs, tuple | list) and name.isdigit() and int(name) < len(outputs):
            return outputs[int(name)]
        found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(outputs, torch.Tensor) or not isinstance(found, torch.Tensor):
            raise _no_output(model, outputs, name)
        return found

    made.register_forward_hook(choose)
    return made


def _no_output(model: nn.Module, outputs: Any, name: str) -> ViceError:
    kind = type(model).__name__
    if isinstance(outputs, torch.Tensor):
        return ViceError(f"{kind} must have an output {name!r}, but returns a single tensor.", "Leave --output out.")
    if isinstance(outputs, Mapping):
        known = [str(key) for key, value in outputs.items() if isinstance(value, torch.Tensor)]
    elif hasattr(outputs, "__dict__") or hasattr(outputs, "_fields"):
        fields = getattr(outputs, "_fields", None) or vars(outputs)
        known = [str(key) for key in fields if isinstance(getattr(outputs, key, None), torch.Tensor)]
    else:
        known = [str(number) for number in range(len(outputs))] if isinstance(outputs, tuple | list) else []
    way_out = did_you_mean(name, known) if known else "Wrap it in a module whose forward returns the tensor of logits."
    return ViceError(f"{kind} must have an output {name!r} that is a tensor, but has none.", way_out)


def with_complement(model: nn.Module, positive: int) -> nn.Module:
    """Return a copy whose one logit z becomes (-z/2, z/2), z/2 at the class `positive` of two.

    The softmax of the two is the sigmoid of z, so both classes have the probability that the network means.

    Raises:
        ViceError: when it runs: other outputs than one logit an image.
    """
    made = hooked_copy(model)

    def complete(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> torch.Tensor:
        z = logits_in(outputs, len(args[0]))
        if not isinstance(z, torch.Tensor) or z.ndim != 2 or z.shape[1] != 1:
            came = f"shape {tuple(z.shape)}" if isinstance(z, torch.Tensor) else f"a {type(z).__name__}"
            raise ViceError(
                f"A class map without outputs for one class needs a network with one logit, but it returns {came}.",
                "Name outputs for both classes in the class map.",
            )
        halves = [-z / 2, z / 2]
        return torch.cat(halves if positive == 1 else halves[::-1], 1)

    made.register_forward_hook(complete)
    return made


def output_count(model: nn.Module) -> int | None:
    """Return the number of logits that the network gives for an image; None: it does not run, or gives no logits.

    Args:
        model: takes RGB images, see `taking_rgb`.
    """
    outputs = logits_in(_outputs_of(model, 3), 1)
    scores = isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and outputs.is_floating_point()
    return int(outputs.shape[1]) if scores else None
