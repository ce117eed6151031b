"""Probe: one forward pass of a random image, which says what tensors a network makes and which its logits look at."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError

__all__ = ["Made", "Probe", "Reading", "probe", "read"]

Layout = Literal["nchw", "nhwc", "tokens"]
_MOST_PREFIX_TOKENS = 16
# Of a network that does not say: none, a class token, a class and a distillation token.
_USUAL_PREFIX_TOKENS = (0, 1, 2)


@dataclass(frozen=True)
class Made:
    """A tensor (1, ...) that went into a module or came out of it; `version` tells whether it was written to since."""

    layer: str
    where: Literal["input", "output"]
    tensor: torch.Tensor
    version: int

    @property
    def intact(self) -> bool:
        """Whether the tensor still holds what the module saw: an in-place ReLU behind it may have changed it."""
        return self.tensor._version == self.version


@dataclass(frozen=True)
class Reading:
    """How a tensor shows places: its `layout`, the tokens before the patches, and the `grid` (h, w)."""

    layout: Layout
    prefix_tokens: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class Probe:
    """What a pass left: `made` in the order of time, `calls` of each module, the outputs, the image's (H, W)."""

    made: tuple[Made, ...]
    calls: Counter[str]
    outputs: Any
    size: tuple[int, int]


@contextlib.contextmanager
def _borrowed(model: nn.Module, gradients: bool) -> Iterator[list[torch.utils.hooks.RemovableHandle]]:
    """The model in eval mode, its parameters frozen; hooks that are put on the list go when the block ends."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        model.eval()
        for parameter in wanted:
            # The graph needs the way of the image only; and tensors that networks cache in eval mode stay without one.
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            yield handles
    finally:
        for handle in handles:
            handle.remove()
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


def probe(model: nn.Module, size: tuple[int, int], gradients: bool = True) -> Probe:
    """Show the model a random image and note every tensor but the image itself; the model comes back as it was.

    A classifier whose weights are all zero, as some networks start, answers with noise: else nothing could be said of
    what it would look at.

    Args:
        model: the network; takes (1, 3, H, W).
        size: (H, W) in pixels.
        gradients: keep the graph from the image to the outputs.

    Raises:
        ViceError: the model cannot be shown such an image.
    """
    made: list[Made] = []
    calls: Counter[str] = Counter()
    first = next(model.parameters(), torch.zeros(()))
    with _borrowed(model, gradients) as handles:
        noise = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0))
        image = noise.to(first.device, first.dtype if first.is_floating_point() else None).requires_grad_(gradients)
        handles += [head.register_forward_hook(_answer_with_noise) for head in _dead_heads(model)]
        for name, module in model.named_modules():
            if name:
                handles += _noting(name, module, made, calls, image)
        try:
            outputs = model(image)
        except Exception as error:  # networks refuse with whatever their layers happen to raise
            reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise ViceError(
                f"{type(model).__name__} must accept a (1, 3, {size[0]}, {size[1]}) image, but says: {reason}.",
                "Name the place of the map: Explainer(model, site=MapSite(layer, layout=...)).",
            ) from None
    return Probe(tuple(made), calls, outputs, size)


def _noting(
    name: str, module: nn.Module, made: list[Made], calls: Counter[str], image: torch.Tensor
) -> tuple[torch.utils.hooks.RemovableHandle, ...]:
    def note(where: Literal["input", "output"], value: Any) -> None:
        if isinstance(value, torch.Tensor) and value is not image:
            made.append(Made(name, where, value, value._version))

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        calls[name] += 1
        note("input", args[0] if args else None)

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        note("output", output)

    return module.register_forward_pre_hook(before), module.register_forward_hook(after)


def _dead_heads(model: nn.Module) -> list[nn.Linear]:
    if not hasattr(model, "get_classifier"):
        return []
    found = model.get_classifier()  # type: ignore[operator]
    heads = found if isinstance(found, tuple | list | nn.ModuleList) else [found]
    layers = [layer for head in heads if isinstance(head, nn.Module) for layer in head.modules()]
    return [layer for layer in layers if isinstance(layer, nn.Linear) and not bool(layer.weight.any())]


def _answer_with_noise(head: nn.Linear, args: tuple[torch.Tensor, ...], _: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0))
    return functional.linear(args[0], noise.to(head.weight.device, head.weight.dtype))


def read(
    tensor: torch.Tensor,
    size: tuple[int, int],
    channels: int | None = None,
    prefix_tokens: int | None = None,
    patches: tuple[int, int] | None = None,
    channels_last: bool = False,
) -> Reading | None:
    """How a tensor (1, ...) shows the places of an image (H, W), told by its shape; None: it shows none.

    A map has the image's aspect, so that two of its dimensions are a grid and the third the channels. Where that leaves
    a choice, as with a cube, what the network says of itself decides.

    Args:
        tensor: as the network made it.
        size: (H, W) in pixels.
        channels: that the network says its map has.
        prefix_tokens: that the network says it has before the patches.
        patches: (h, w) of its patch embedding.
        channels_last: whether the network says that its maps are (N, h, w, D).

    Returns:
        Reading; its grid may be one of a single place.
    """
    if tensor.ndim not in (3, 4) or tensor.shape[0] != 1:
        return None
    if tensor.ndim == 4:
        _, a, b, c = tensor.shape
        first, last = _has_aspect((b, c), size), _has_aspect((a, b), size)
        if first and last:
            first = channels == a if channels in (a, c) and a != c else not channels_last
            last = not first
        if first:
            return Reading("nchw", 0, (b, c))
        return Reading("nhwc", 0, (a, b)) if last else None
    length = tensor.shape[1]
    if patches is not None and 0 <= length - patches[0] * patches[1] <= _MOST_PREFIX_TOKENS:
        return Reading("tokens", length - patches[0] * patches[1], patches)
    told = [] if prefix_tokens is None else [prefix_tokens]
    for prefix in (*told, *_USUAL_PREFIX_TOKENS):
        grid = _grid_of(length - prefix, size)
        if grid is not None:
            return Reading("tokens", prefix, grid)
    return None


def _has_aspect(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    (h, w), (high, wide) = grid, size
    if h > high or w > wide:
        return False
    # Rounding to whole places moves a side by less than one; a square image has a square map.
    return h == w if high == wide else abs(h * wide - w * high) < max(high, wide)


def _grid_of(places: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of so many places with the image's aspect, the closest one; None: there is none."""
    if places < 1:
        return None
    grids = [(h, places // h) for h in range(1, places + 1) if places % h == 0]
    fitting = [grid for grid in grids if _has_aspect(grid, size)]
    return min(fitting, key=lambda g: abs(g[0] * size[1] - g[1] * size[0]), default=None)
