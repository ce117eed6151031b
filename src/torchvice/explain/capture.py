"""Capture: keep or edit the tensor of one layer during a forward pass; the model is restored afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from torchvice.errors import ViceError
from torchvice.models.families import MapSite, module_at
from torchvice.models.probe import evaluating

__all__ = ["Captured", "capture", "capture_all", "edit_site", "eval_mode", "single_capture"]

_BUSY = "_torchvice_capture"
_COMPILED = "_compiled_call_impl"  # where nn.Module.compile stores the compiled call


@dataclass
class Captured:
    """The tensor at the site, filled by the pass. With gradients it is the leaf of the autograd graph."""

    leaf: torch.Tensor | None = None

    def reached(self, site: MapSite) -> torch.Tensor:
        """The tensor of this site.

        Raises:
            ViceError: the pass did not reach it.
        """
        if self.leaf is None:
            raise ViceError(f"`{site.layer}` must take part in the forward pass, but the pass does not reach it.")
        return self.leaf


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, see `evaluating`; restore the mode of every module afterwards, also after an error.

    Modules that were compiled in place run uncompiled inside the block, since compiled code skips hooks.
    """
    modules = list(model.modules())
    compiled = [(module, call) for module in modules if (call := vars(module).get(_COMPILED)) is not None]
    with evaluating(model):
        try:
            for module, _ in compiled:
                setattr(module, _COMPILED, None)
            yield
        finally:
            for module, call in compiled:
                setattr(module, _COMPILED, call)


@contextlib.contextmanager
def single_capture(model: nn.Module) -> Iterator[None]:
    """Allow one capture of a model at a time: the hooks of two captures would mix up their passes.

    Raises:
        ViceError: another capture of this model is active.
    """
    if getattr(model, _BUSY, False):
        raise ViceError("A model can be captured once at a time, but another capture of this model is active.")
    object.__setattr__(model, _BUSY, True)
    try:
        yield
    finally:
        object.__delattr__(model, _BUSY)


@contextlib.contextmanager
def edit_site(model: nn.Module, site: MapSite, edit: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Replace the site's tensor by `edit(tensor)` in the passes inside the block.

    Raises:
        ViceError: another capture of this model is active; in the pass: the layer does not give a single tensor.
    """
    with single_capture(model):
        handle = _edited(model, site, edit)
        try:
            yield
        finally:
            handle.remove()


def _edited(model: nn.Module, site: MapSite, edit: Callable[[torch.Tensor], torch.Tensor]) -> RemovableHandle:
    """A hook that replaces the site's tensor by `edit(tensor)`, until it is removed."""
    layer = module_at(model, site.layer)

    def edited(tensor: Any) -> torch.Tensor:
        if not isinstance(tensor, torch.Tensor):
            raise ViceError(f"`{site.layer}` must give one tensor, but gives a {type(tensor).__name__}.")
        return edit(tensor)

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (edited(args[0]), *args[1:])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> torch.Tensor:
        return edited(output)

    if site.where == "input":
        return layer.register_forward_pre_hook(before)
    return layer.register_forward_hook(after)


@contextlib.contextmanager
def capture(model: nn.Module, site: MapSite, gradients: bool) -> Iterator[Captured]:
    """Keep the site's tensor in the passes inside the block, which must begin without gradients.

    The autograd graph begins at the site, if `gradients`; nothing before the site is recorded, even if its parameters
    require gradients. The grad mode is restored at the end.

    Raises:
        ViceError: as `edit_site`.
    """
    with capture_all(model, [site], gradients) as captured:
        yield captured[0]


@contextlib.contextmanager
def capture_all(model: nn.Module, sites: Sequence[MapSite], gradients: bool) -> Iterator[list[Captured]]:
    """As `capture`, for several sites in the order of the pass: the graph begins at the first and leads through all.

    Raises:
        ViceError: as `edit_site`.
    """
    captured, before_grad = [Captured() for _ in sites], torch.is_grad_enabled()

    def take(own: Captured) -> Callable[[torch.Tensor], torch.Tensor]:
        def kept(tensor: torch.Tensor) -> torch.Tensor:
            if own is captured[0]:
                if gradients:
                    torch.set_grad_enabled(True)
                tensor = tensor.detach().requires_grad_(gradients)
            own.leaf = tensor
            # Pass on a copy: an in-place ReLU at or behind the site must not write to a leaf, nor to the kept map.
            return tensor.clone()

        return kept

    handles: list[RemovableHandle] = []
    try:
        with single_capture(model):
            handles += [_edited(model, site, take(own)) for site, own in zip(sites, captured, strict=True)]
            yield captured
    finally:
        for handle in handles:
            handle.remove()
        torch.set_grad_enabled(before_grad)
