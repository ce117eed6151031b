"""Fast dense products of linear layers, and passes that reuse known outputs of linear layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["cached_outputs", "dense", "full_precision"]


def dense(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Compute left @ right^T, (..., i) and (o, i) to (..., o), without gradients.

    In single precision on a CPU it uses oneDNN where torch has it: on AMD's processors oneDNN is more than twice as
    fast as the library behind `@`, which does not use their widest vectors.
    """
    if left.dtype == torch.float32 and left.device.type == "cpu" and _onednn():
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return left @ right.T


def _onednn() -> bool:
    # An operator of torch's compiler; a torch without it is only slower.
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in full precision; restore the caller's setting (such as TF32) afterwards."""
    backends: list[Any] = [getattr(backend, "matmul", None) for backend in (torch.backends.mkldnn, torch.backends.cuda)]
    owners = [owner for owner in backends if hasattr(owner, "fp32_precision")]
    if not owners:  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    settings = [(owner, owner.fp32_precision) for owner in owners]
    try:
        for owner, _ in settings:
            owner.fp32_precision = "ieee"
        yield
    finally:
        for owner, setting in settings:
            owner.fp32_precision = setting


class _CachedLinear(torch.autograd.Function):
    """A linear layer with a known output: only the gradient with respect to its input is computed."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, weight: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return dense(gradient, weight.T), None, None


@contextlib.contextmanager
def cached_outputs(model: nn.Module, outputs: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Reuse the outputs of linear layers, by name, in the passes inside the block; gradients are unchanged.

    The passes must be of the images that the outputs come from. The model's layers are restored at the end.
    """
    layers = {name: model.get_submodule(name) for name in outputs}
    try:
        for name, layer in layers.items():
            _replace(model, name, _CachedLinearLayer(layer.weight, outputs[name]))  # type: ignore[arg-type]
        yield
    finally:
        for name, layer in layers.items():
            _replace(model, name, layer)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)


class _CachedLinearLayer(nn.Module):
    def __init__(self, weight: torch.Tensor, output: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.output = weight, output

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return _CachedLinear.apply(value, self.weight, self.output)
