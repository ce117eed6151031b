"""Families: where a network keeps the last map that still knows about places, and how that map is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from torchvice.errors import ViceError, nearest

__all__ = ["MapSite", "input_size", "linear_head", "locate", "module_at"]

Layout = Literal["nchw", "nhwc", "tokens"]


@dataclass(frozen=True)
class MapSite:
    """The tensor that explanations are made from.

    `layer` the module's name in the model; `where` its `input` or its `output`; `layout` how the tensor is laid out:
    `nchw` (N, D, h, w), `nhwc` (N, h, w, D) or `tokens` (N, prefix + h w, D); `prefix_tokens` the class, distillation
    and register tokens before the patches.
    """

    layer: str
    where: Literal["input", "output"] = "output"
    layout: Layout = "nchw"
    prefix_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return asdict(self)

    def to_maps(self, tensor: torch.Tensor, grid: tuple[int, int] | None) -> torch.Tensor:
        """The tensor as (N, D, h, w).

        Args:
            tensor: what the layer gave.
            grid: (h, w) of the patches; asked for tokens only.

        Raises:
            ViceError: the tensor does not have the layout.
        """
        if self.layout == "tokens":
            patches = tensor.shape[1] - self.prefix_tokens if tensor.ndim == 3 else -1
            if grid is None or patches != grid[0] * grid[1]:
                raise ViceError(
                    f"`{self.layer}` must give {self.prefix_tokens} + {grid} tokens, but gives {tuple(tensor.shape)}.",
                    "Name the layer and its layout: Explainer(model, site=MapSite(layer, layout=...)).",
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
            f"`layer` must name a module of the model, but is {name!r}.", nearest(name, [m for m in modules if m])
        )
    return modules[name]


def locate(model: nn.Module) -> MapSite:
    """Where a timm network keeps its last map.

    Transformers with tokens: the output of the last block's first norm, since behind it a class-token head gives patch
    tokens no gradient. Swin: the same, in (N, h, w, D). Convolutional networks: what goes into the global pool.

    Raises:
        ViceError: the network is of no known kind.

    References:
        The layers are those that pytorch-grad-cam's documentation uses for ViT, Swin and ResNet.
    """
    blocks = getattr(model, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and hasattr(model, "num_prefix_tokens"):
        name = f"blocks.{len(blocks) - 1}.norm1"
        if name in dict(model.named_modules()):
            return MapSite(name, "output", "tokens", int(model.num_prefix_tokens))  # type: ignore[arg-type]
    if type(model).__name__.startswith("SwinTransformer"):
        last = [name for name, _ in model.named_modules() if name.startswith("layers.") and name.endswith(".norm1")]
        return MapSite(last[-1], "output", "nhwc")
    for name in ("global_pool", "head.global_pool"):
        pool = dict(model.named_modules()).get(name)
        if pool is not None and not isinstance(pool, nn.Identity):
            channels_last = str(getattr(pool, "input_fmt", "NCHW")).upper().endswith("NHWC")
            return MapSite(name, "input", "nhwc" if channels_last else "nchw")
    raise ViceError(
        f"The place of the last map must be known, but {type(model).__name__} is of no family that torchvice knows.",
        "Name it: layer='...' (and site=MapSite(..., layout=...) where the layer's output is not (N, D, h, w)).",
    )


def input_size(model: nn.Module) -> tuple[int, int]:
    """(H, W) in pixels that the network was made for; 224 x 224 where it does not say.

    A patch embedding says it most reliably (it knows the size the model was built with), then timm's configuration.
    """
    embed = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if embed is not None:
        height, width = (embed, embed) if isinstance(embed, int) else embed
        return int(height), int(width)
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return (int(size[1]), int(size[2])) if size else (224, 224)


def token_grid(model: nn.Module, image: torch.Tensor) -> tuple[int, int] | None:
    """(h, w) of the patches of an image batch (N, 3, H, W); None for a network without patch embedding."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is None:
        return None
    high, wide = (patch, patch) if isinstance(patch, int) else patch
    # Rounded up: with dynamic_img_pad timm pads the image to whole patches.
    return -(-image.shape[-2] // high), -(-image.shape[-1] // wide)


def linear_head(model: nn.Module, site: MapSite) -> nn.Linear | None:
    """The classifier, if the network is a mean over places followed by that linear layer and nothing else, else None.

    Found out by trying: a random image goes through, and what enters the classifier must be the mean of the map. A max
    pool, a norm or a further layer in between fails the test. Then, and only then, class activation mapping is exact.

    References:
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    head = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or site.layout == "tokens":
        return None
    seen: dict[str, torch.Tensor] = {}
    layer = module_at(model, site.layer)

    def keep_map(_: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        seen["map"] = args[0] if site.where == "input" else output

    def keep_pooled(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen["pooled"] = args[0]

    hook = layer.register_forward_pre_hook if site.where == "input" else layer.register_forward_hook
    handles = [hook(keep_map), head.register_forward_pre_hook(keep_pooled)]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        parameter = next(model.parameters())
        noise = torch.rand((1, 3, *input_size(model)), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            model(noise.to(parameter.device, parameter.dtype))
        mean = site.to_maps(seen["map"], None).mean((2, 3))
        pooled = seen["pooled"]
        same = mean.shape == pooled.shape and torch.allclose(mean, pooled, rtol=1e-3, atol=1e-4)
    except (KeyError, ViceError):
        same = False
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return head if same else None
