"""Precision: the number format in which a network runs, and the memory layout of its images."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.models.bare import input_like

__all__ = ["Precision", "autocast", "check_precision", "laid_out"]

Precision = Literal["float32", "bfloat16", "float16"]


def check_precision(precision: str | None, model: nn.Module | None = None) -> None:
    """Check a precision, and that a network has the weights for it; None is the precision of the weights.

    Raises:
        ViceError: an unknown precision, or a network whose weights are not float32.
    """
    known = get_args(Precision)
    if precision is not None and precision not in known:
        raise ViceError(f"`precision` must be one of {', '.join(known)}, but is {precision!r}.")
    dtype = torch.float32 if model is None or precision is None else input_like(model).dtype
    if dtype != torch.float32:
        raise ViceError(
            f"`precision` must go with weights in float32, but those of {type(model).__name__} are "
            f"{str(dtype).removeprefix('torch.')}.",
            "Leave `precision` out, or convert the network: model.float().",
        )


def autocast(precision: str | None, device: str) -> contextlib.AbstractContextManager[object]:
    """Run the passes inside the block in bfloat16 or float16 where that is safe; else change nothing.

    torch.autocast decides for each operation: products and convolutions take the given precision, and sums, norms and
    softmax stay in float32. Weights are cast pass by pass; the network keeps its own.
    """
    if precision not in ("bfloat16", "float16"):
        return contextlib.nullcontext()
    return torch.autocast(device, getattr(torch, precision))


def laid_out(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Lay images (N, 3, H, W) out with the channels last in memory, if asked for; convolutions pass the layout on."""
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images
