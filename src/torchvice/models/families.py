"""Families: where a network keeps the last map that still knows about places, and how that map is laid out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from torchvice.errors import ViceError, did_you_mean
from torchvice.models.probe import Layout, Made, Probe, Reading, probe, read

__all__ = ["MapSite", "input_size", "linear_head", "locate", "module_at", "token_grid"]

# A gradient at fewer places is one of single tokens, or of the places that a maximum picked; at fewer channels, one of
# the keys and values of an attention without its queries. Neither is the network's last map.
_LEAST_PLACES, _LEAST_CHANNELS = 0.25, 0.9
_MOST_TRIES = 200


@dataclass(frozen=True)
class MapSite:
    """The tensor that explanations are made from.

    `layer` the module's name in the model; `where` its `input` (the first argument) or its `output`; `layout` how the
    tensor is laid out: `nchw` (N, D, h, w), `nhwc` (N, h, w, D) or `tokens` (N, prefix + h w, D); `prefix_tokens` the
    class, distillation and register tokens before the patches; `stride` the pixels (down, across) between two patches,
    if they are not those of the model's patch embedding; `reshape`, in place of a layout, a function that only
    rearranges: from the tensor to (N, D, h, w).
    """

    layer: str
    where: Literal["input", "output"] = "output"
    layout: Layout = "nchw"
    prefix_tokens: int = 0
    stride: tuple[float, float] | None = None
    reshape: Callable[[torch.Tensor], torch.Tensor] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest; a function by its name."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["stride"] = None if self.stride is None else list(self.stride)
        if self.reshape is not None:
            module = getattr(self.reshape, "__module__", "?")
            plain["reshape"] = f"{module}.{getattr(self.reshape, '__qualname__', type(self.reshape).__qualname__)}"
        return plain

    def grid(self, image: torch.Tensor) -> tuple[int, int] | None:
        """(h, w) of the patches of images (N, 3, H, W), by the stride; None: no stride is known."""
        if self.stride is None:
            return None
        # Rounded up: strided convolutions and padded patch embeddings both do.
        down, across = (math.ceil(image.shape[i - 2] / self.stride[i] - 1e-6) for i in (0, 1))
        return down, across

    def to_maps(self, tensor: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
        """The tensor as (N, D, h, w).

        Args:
            tensor: what the layer gave.
            grid: (h, w) of the patches; asked for tokens only.

        Raises:
            ViceError: the tensor does not have the layout.
        """
        if self.reshape is not None:
            maps = self.reshape(tensor)
            if not isinstance(maps, torch.Tensor) or maps.ndim != 4 or maps.shape[0] != tensor.shape[0]:
                came = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
                raise ViceError(
                    f"`reshape` must turn the {tuple(tensor.shape)} of `{self.layer}` into (N, D, h, w), "
                    f"but gives {came}."
                )
            return maps
        if self.layout == "tokens":
            patches = tensor.shape[1] - self.prefix_tokens if tensor.ndim == 3 else -1
            if grid is None or patches != grid[0] * grid[1]:
                raise ViceError(
                    f"`{self.layer}` must give {self.prefix_tokens} + {grid} tokens, but gives {tuple(tensor.shape)}.",
                    "Say how they are laid out: Explainer(model, site=MapSite(layer, layout=..., stride=...)).",
                )
            return tensor[:, self.prefix_tokens :].transpose(1, 2).unflatten(2, grid)
        if tensor.ndim != 4:
            raise ViceError(
                f"`{self.layer}` must give a map of four dimensions, but gives shape {tuple(tensor.shape)}.",
                "Name an earlier layer, or layout='tokens' for a transformer.",
            )
        return tensor.permute(0, 3, 1, 2) if self.layout == "nhwc" else tensor


def module_at(model: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises:
        ViceError: there is none; the nearest name is in the message.
    """
    modules = dict(model.named_modules())
    if name not in modules or not name:
        raise ViceError(
            f"`layer` must name a module of the model, but is {name!r}.", did_you_mean(name, [m for m in modules if m])
        )
    return modules[name]


def locate(model: nn.Module, layer: str | None = None) -> MapSite:
    """Where a network keeps its last map, found on a random image: one forward pass and short backward ones.

    Transformers with tokens, and Swin: the output of the last block's first norm. Elsewhere what goes into the global
    pool, or the last tensor that has places. Whatever is taken is checked: the gradient of a logit must reach the
    places and channels of it. Behind the last attention of a network with a class token it does not, so that the search
    goes on backward from there.

    Args:
        model: the network; it comes back as it was.
        layer: read the output of this module rather than search; its gradient is not checked.

    Raises:
        ViceError: no tensor of the network has more than one place and a gradient; the reason is said.

    References:
        The first rule's layers are those that pytorch-grad-cam's documentation uses for ViT and Swin.
    """
    seen = probe(model, input_size(model), gradients=layer is None)
    if layer is not None:
        outputs = [made for made in seen.made if made.layer == layer and made.where == "output"]
        reading = _reading(model, outputs[-1].tensor, seen.size) if outputs else None
        return MapSite(layer) if reading is None else _site(outputs[-1], reading, seen.size)
    with torch.inference_mode(False), torch.enable_grad():
        return _first_seen_by_the_logits(model, seen)


def _first_seen_by_the_logits(model: nn.Module, seen: Probe) -> MapSite:
    score = _largest_logit(model, seen.outputs)
    single, refused = "", ""
    for made in [*_of_the_family(model, seen), *_from_the_last(model, seen)]:
        reading = _reading(model, made.tensor, seen.size)
        if reading is None:
            continue
        if reading.grid == (1, 1):
            single = single or made.layer
            continue
        site = _site(made, reading, seen.size)
        reason = _unseen(score, made.tensor, site, reading.grid)
        if not reason:
            return site
        refused = refused or f"at `{made.layer}` {reason}"
    if not refused and single:
        refused = f"from `{single}` on its maps have a single place, and before it none has the image's aspect"
    reason = refused or "none of its modules gives one"
    raise ViceError(
        f"{type(model).__name__} must have a map that its logits look at, but {reason}.",
        "Name the place: layer='...', or site=MapSite(layer, layout=..., ...) where its output is not (N, D, h, w).",
    )


def _largest_logit(model: nn.Module, outputs: Any) -> torch.Tensor:
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        came = f"shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ViceError(f"{type(model).__name__} must give logits (N, C), but gives {came}.", "Explain a classifier.")
    return outputs.amax()


def _of_the_family(model: nn.Module, seen: Probe) -> list[Made]:
    """Swin's last block's first norm, which the literature takes, although its map is pooled."""
    if type(model).__name__ != "SwinTransformer":
        return []
    names = [name for name, _ in model.named_modules() if name.startswith("layers.") and name.endswith(".norm1")]
    return [made for made in seen.made if made.layer == names[-1] and made.where == "output"]


def _from_the_last(model: nn.Module, seen: Probe) -> Iterator[Made]:
    """What goes into the global pool, then the outputs of modules, the last one first.

    Outputs, since whoever uses one is behind the hook; an input may be one of several uses. Only behind the last output
    there is nobody else. Modules that run twice have no one tensor, and inside of an attention queries, keys and values
    look like maps and are none.
    """
    outputs = [
        (place, made)
        for place, made in enumerate(seen.made)
        if made.where == "output"
        and seen.calls[made.layer] == 1
        and "att" not in made.layer
        and made.tensor.requires_grad
        and _reading(model, made.tensor, seen.size) is not None
    ]
    spatial = [place for place, made in outputs if _places(_reading(model, made.tensor, seen.size)) > 1]
    pool = _pool(model, seen, spatial[-1] if spatial else -1)
    if pool is not None:
        yield pool
    for _, made in outputs[::-1][:_MOST_TRIES]:
        yield made


def _places(reading: Reading | None) -> int:
    return 0 if reading is None else reading.grid[0] * reading.grid[1]


def _pool(model: nn.Module, seen: Probe, after: int) -> Made | None:
    """The input of the module behind event `after` that takes a map and gives one place: the pool, or what holds it."""
    holders = []
    for place in range(after + 1, len(seen.made)):
        made = seen.made[place]
        reading = _reading(model, made.tensor, seen.size)
        if made.where != "input" or reading is None or _places(reading) < 2 or seen.calls[made.layer] > 1:
            continue
        given = [m.tensor for m in seen.made[place:] if m.layer == made.layer and m.where == "output"]
        channels = made.tensor.shape[1 if reading.layout == "nchw" else -1]
        if given and given[0].numel() == channels:
            return made
        if given and (given[0].ndim == 2 or _places(_reading(model, given[0], seen.size)) == 1):
            holders.append(made)
    return holders[0] if holders else None


def _reading(model: nn.Module, tensor: torch.Tensor, size: tuple[int, int]) -> Reading | None:
    numbers = (getattr(model, name, None) for name in ("num_features", "num_prefix_tokens"))
    channels, prefix = (number if isinstance(number, int) else None for number in numbers)
    channels_last = str(getattr(model, "output_fmt", "")).upper().endswith("NHWC")
    return read(tensor, size, channels, prefix, _patches(model, size), channels_last)


def _site(made: Made, reading: Reading, size: tuple[int, int]) -> MapSite:
    stride = (size[0] / reading.grid[0], size[1] / reading.grid[1]) if reading.layout == "tokens" else None
    return MapSite(made.layer, made.where, reading.layout, reading.prefix_tokens, stride)


def _unseen(score: torch.Tensor, tensor: torch.Tensor, site: MapSite, grid: tuple[int, int]) -> str:
    """Why the tensor is not one that the logit looks at all over; empty: it is."""
    if not tensor.requires_grad:
        return "there is no gradient"
    (slope,) = torch.autograd.grad(score, tensor, retain_graph=True, allow_unused=True)
    if slope is None:
        return "there is no gradient"
    slope = site.to_maps(slope, grid).float()
    if not bool(torch.isfinite(slope).all()):
        return "the gradient is not finite"
    alive = slope[0] != 0
    places, channels = alive.any(0).float().mean().item(), alive.flatten(1).any(1).float().mean().item()
    if places < _LEAST_PLACES:
        return f"the gradient of a logit is zero at {1 - places:.0%} of the places"
    if channels < _LEAST_CHANNELS:
        return f"the gradient of a logit is zero in {1 - channels:.0%} of the channels"
    activation = site.to_maps(tensor.detach(), grid).flatten(2)
    # All zero is how fresh weights can be; any other constant is a vector that was spread over the places.
    spread = bool(activation.any()) and bool((activation == activation[..., :1]).all())
    return "the activations are the same at every place" if spread else ""


def input_size(model: nn.Module) -> tuple[int, int]:
    """(H, W) in pixels that the network was made for; 224 x 224 where it does not say.

    A patch embedding says it most reliably (it knows the size the model was built with), then timm's configuration.
    """
    first: nn.Module | None = getattr(model, "patch_embed", None) or next(model.children(), None)
    while isinstance(first, nn.Sequential | nn.ModuleList) and len(first):
        first = first[0]
    # Of a later embedding the size would be that of a map, not of the image.
    embed = getattr(first, "img_size", None)
    if embed is not None:
        height, width = (embed, embed) if isinstance(embed, int) else embed
        return int(height), int(width)
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return (int(size[1]), int(size[2])) if size else (224, 224)


def token_grid(model: nn.Module, image: torch.Tensor) -> tuple[int, int] | None:
    """(h, w) of the patches of an image batch (N, 3, H, W); None for a network without patch embedding."""
    return _patches(model, (image.shape[-2], image.shape[-1]))


def _patches(model: nn.Module, size: tuple[int, int]) -> tuple[int, int] | None:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, int | tuple | list):
        return None
    high, wide = (patch, patch) if isinstance(patch, int) else patch
    # Rounded up: with dynamic_img_pad timm pads the image to whole patches.
    return -(-size[0] // high), -(-size[1] // wide)


def linear_head(model: nn.Module, site: MapSite) -> nn.Linear | None:
    """The classifier, if the network is a mean over places followed by that linear layer and nothing else, else None.

    Found out by trying: a random image goes through; the linear layer that gives the model's outputs must take the mean
    of the map. A max pool, a norm or a further layer in between fails the test. Then, and only then, class activation
    mapping is exact.

    References:
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    if site.layout == "tokens":
        return None
    try:
        seen = probe(model, input_size(model), gradients=False)
    except ViceError:
        return None
    maps = [m for m in seen.made if m.layer == site.layer and m.where == site.where and m.intact]
    heads = [m.layer for m in seen.made if m.where == "output" and m.tensor is seen.outputs]
    linear = [name for name in heads if isinstance(module_at(model, name), nn.Linear)]
    if not maps or not linear:
        return None
    (pooled, *_) = [m.tensor for m in seen.made if m.layer == linear[0] and m.where == "input"]
    try:
        mean = site.to_maps(maps[-1].tensor, None).mean((2, 3))
    except ViceError:
        return None
    same = mean.shape == pooled.shape and torch.allclose(mean, pooled, rtol=1e-3, atol=1e-4)
    head = module_at(model, linear[0])
    return head if same and isinstance(head, nn.Linear) else None
