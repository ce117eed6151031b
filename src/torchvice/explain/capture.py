"""Capture: one forward pass that keeps the map of one layer as the leaf of a gradient, and gives everything back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.models.families import MapSite, module_at

__all__ = ["Captured", "as_written", "capture", "editing", "evaluating", "exclusive"]

_BUSY = "_torchvice_capture"
_COMPILED = "_compiled_call_impl"  # where nn.Module.compile keeps what is called in place of the module


@dataclass
class Captured:
    """What a pass left: `leaf`, the tensor at the site, from which on a graph exists where gradients were asked for."""

    leaf: torch.Tensor | None = None


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, every module run as it is written, and all back as they were afterwards, error or not.

    A module that was compiled in place passes hooks by: it is run uncompiled.
    """
    modes = [(module, module.training, vars(module).get(_COMPILED)) for module in model.modules()]
    model.eval()
    try:
        for module, _, compiled in modes:
            if compiled is not None:
                setattr(module, _COMPILED, None)
        yield
    finally:
        for module, mode, compiled in modes:
            module.training = mode
            if compiled is not None:
                setattr(module, _COMPILED, compiled)


def as_written(model: nn.Module) -> nn.Module:
    """The module that `torch.compile` was given, which shares all with its compiled form; else the model itself.

    Raises:
        ViceError: a scripted model, whose modules take no hooks.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ViceError(
            "The model must be one that takes hooks, but a scripted one does not.", "Give the model itself."
        )
    original = getattr(model, "_orig_mod", None)
    return original if isinstance(original, nn.Module) else model


@contextlib.contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """One capture of a model at a time: hooks of two would see each other's passes.

    Raises:
        ViceError: a capture of this model is under way already.
    """
    if getattr(model, _BUSY, False):
        raise ViceError("A model can be captured once at a time, but a capture of this one is under way.")
    object.__setattr__(model, _BUSY, True)
    try:
        yield
    finally:
        object.__delattr__(model, _BUSY)


@contextlib.contextmanager
def editing(model: nn.Module, site: MapSite, edit: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """In the passes inside the block, what `edit` makes of the site's tensor goes on in its place.

    Raises:
        ViceError: a capture of this model is under way already; in the pass: the layer gives no single tensor.
    """
    layer = module_at(model, site.layer)

    def edited(tensor: Any) -> torch.Tensor:
        if not isinstance(tensor, torch.Tensor):
            raise ViceError(f"`{site.layer}` must give one tensor, but gives a {type(tensor).__name__}.")
        return edit(tensor)

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (edited(args[0]), *args[1:])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> torch.Tensor:
        return edited(output)

    with exclusive(model):
        if site.where == "input":
            handle = layer.register_forward_pre_hook(before)
        else:
            handle = layer.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


@contextlib.contextmanager
def capture(model: nn.Module, site: MapSite, gradients: bool) -> Iterator[Captured]:
    """Hook the site for the passes inside the block, which begins without gradients.

    Below the site nothing is recorded for a gradient, whatever `requires_grad` the parameters have; from the site on it
    is, if `gradients`. The grad mode comes back at the end.

    Raises:
        ViceError: as `editing`.
    """
    captured, before_grad = Captured(), torch.is_grad_enabled()

    def take(tensor: torch.Tensor) -> torch.Tensor:
        if gradients:
            torch.set_grad_enabled(True)
        captured.leaf = tensor.detach().requires_grad_(gradients)
        # A copy goes on: an in-place ReLU at or behind the site may not write to a leaf, nor to the map that is kept.
        return captured.leaf.clone()

    try:
        with editing(model, site, take):
            yield captured
    finally:
        torch.set_grad_enabled(before_grad)
