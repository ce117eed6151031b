"""Where the attention of a network's blocks lies: in timm's networks, torchvision's, transformers' and open_clip's.

Each kind gives the number of its blocks and a context in which every softmaxed attention passes through a function.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.models.zero_shot import ZeroShot

__all__ = [
    "WAY_OUT",
    "Blocks",
    "Pooling",
    "attending_network",
    "attention_blocks",
    "attention_layers",
    "disable_fused_attention",
    "foreign_pooling",
]

WAY_OUT = "Use method='gradcam', which works with every network."

# Takes the number of a block and its attention (N, heads, L, L); returns what goes on through the network.
Keep = Callable[[int, torch.Tensor], torch.Tensor]

# The tokens that a classifier reads: the class token, class and distillation token, the mean of all tokens, the mean of
# the patches, or class token and mean of the patches side by side.
Pooling = Literal["class", "distilled", "all", "patches", "class+patches"]

_POOLED: dict[str, Pooling] = {
    "ViTForImageClassification": "class",
    "ViTMSNForImageClassification": "class",
    "DeiTForImageClassification": "class",
    "DeiTForImageClassificationWithTeacher": "distilled",
    "SiglipForImageClassification": "all",
    "IJepaForImageClassification": "all",
    "Dinov2ForImageClassification": "class+patches",
    "Dinov2WithRegistersForImageClassification": "class+patches",
    "CLIPVisionModel": "class",
    "CLIPVisionTransformer": "class",
}


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network: their `count`, and `passing`, the context in which attention passes a function."""

    count: int
    passing: Callable[[Keep], contextlib.AbstractContextManager[None]]


def attending_network(model: nn.Module) -> nn.Module:
    """Return the network whose blocks attend: the model, or that of a zero-shot classifier's image tower."""
    return model.network if isinstance(model, ZeroShot) else model


def attention_blocks(model: nn.Module) -> Blocks:
    """Find the blocks of a ViT-like network.

    Raises:
        ViceError: a network without global attention between tokens, or with several attentions a block.
    """
    model = attending_network(model)
    found = _layers_of_torch(model)
    if found is not None:
        explicit = found
        return Blocks(len(explicit), lambda keep: _explicit_attention(explicit, keep))
    if foreign_pooling(model) is not None:
        layers = [module for module in model.modules() if hasattr(module, "is_causal")]
        if not layers:  # versions of transformers before its attention functions
            message = (
                f"The attention of {type(model).__name__} must be readable, but is not in this version of transformers."
            )
            raise ViceError(message, f"Update transformers. {WAY_OUT}")
        return Blocks(len(layers), lambda keep: _attention_function(model, layers, keep))
    drops = attention_layers(model)
    return Blocks(len(drops), lambda keep: _hooks(model, drops, keep))


def _layers_of_torch(model: nn.Module) -> list[nn.MultiheadAttention] | None:
    """The attentions of torchvision's and open_clip's ViTs, which are torch's modules; None for other networks."""
    if _is_torchvisions(model):
        return [block.self_attention for block in model.encoder.layers]  # type: ignore[union-attr]
    if not _is_open_clips(model):
        return None
    blocks: Any = model.transformer
    layers: list[Any] = [getattr(block, "attn", None) for block in blocks.resblocks]
    return layers if all(type(layer) is nn.MultiheadAttention for layer in layers) else None


def _is_torchvisions(model: nn.Module) -> bool:
    from torchvision.models import VisionTransformer  # type: ignore[import-untyped]

    return isinstance(model, VisionTransformer)


def _is_open_clips(model: nn.Module) -> bool:
    return type(model).__module__ == "open_clip.transformer" and type(model).__name__ == "VisionTransformer"


def foreign_pooling(model: nn.Module) -> Pooling | None:
    """Return which tokens the classifier of a foreign network reads; None: a network of timm, or another pooling."""
    model = attending_network(model)
    if _is_torchvisions(model):
        return "class"
    if _is_open_clips(model):
        known: dict[Any, Pooling] = {"tok": "class", "avg": "patches"}
        return known.get(model.pool_type) if model.attn_pool is None else None
    if type(model).__name__ == "BeitForImageClassification":
        return "patches" if model.config.use_mean_pooling else "class"  # type: ignore[union-attr]
    return _POOLED.get(type(model).__name__)


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """The module of every block of a ViT-like network of timm that outputs its softmaxed attention.

    In timm's VisionTransformer (DeiT, registers, parallel blocks), BEiT, EVA and relatives it is the dropout of the
    attention, which does nothing in eval mode.

    Raises:
        ViceError: a network without global attention between tokens, or with several attentions a block.
    """
    name = type(model).__name__
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks) or not hasattr(model, "patch_embed"):
        raise ViceError(f"The network must attend globally, as a ViT does, but {name} {_other(model)}.", WAY_OUT)
    layers = []
    for number, block in enumerate(blocks):
        modules = dict(block.named_modules())
        drops = [modules[path] for path in ("attn.attn_drop", "attn_drop") if path in modules]
        if len(drops) != 1:
            raise ViceError(
                f"Every block must have one attention, but block {number} of {name} has {len(drops)}.", WAY_OUT
            )
        if any("Diff" in type(module).__name__ for module in (block, modules.get("attn"))):
            raise ViceError(f"A block must use its attention directly, but {name} subtracts two attentions.", WAY_OUT)
        layers.append(drops[0])
    return layers


def _other(model: nn.Module) -> str:
    """What a network has instead of global attention whose classifier reads known tokens."""
    names = {type(module).__name__.lower() for module in model.modules()}
    if any("window" in name or name.startswith("swin") for name in names):
        return "attends within windows only"
    if any(hasattr(module, "is_causal") for module in model.modules()):
        return "is a network of transformers whose pooling of tokens is not known"
    return "has no sequence of blocks in which all tokens attend"


@contextlib.contextmanager
def disable_fused_attention(model: nn.Module) -> Iterator[None]:
    """Disable fused attention, which hides its weights, and checkpointing, which runs blocks a second time."""
    before = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in ("fused_attn", "grad_checkpointing")
        if name in vars(module)
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, False)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextlib.contextmanager
def _hooks(model: nn.Module, layers: Sequence[nn.Module], keep: Keep) -> Iterator[None]:
    """Pass the output of each layer through the function."""

    def hook(number: int) -> Callable[..., torch.Tensor]:
        return lambda _, __, output: keep(number, output)

    with disable_fused_attention(model):
        handles = [layer.register_forward_hook(hook(number)) for number, layer in enumerate(layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextlib.contextmanager
def _explicit_attention(layers: Sequence[nn.MultiheadAttention], keep: Keep) -> Iterator[None]:
    """Compute the attention of torch's modules in steps: their own code never shows it."""

    def forward_of(number: int, layer: nn.MultiheadAttention) -> Callable[..., tuple[torch.Tensor, None]]:
        def forward(query: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
            query = query if layer.batch_first else query.transpose(0, 1)
            parts = nn.functional.linear(query, layer.in_proj_weight, layer.in_proj_bias)
            q, k, v = parts.unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
            weights = keep(number, (q * layer.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1))
            attended = layer.out_proj((weights @ v).transpose(1, 2).flatten(2))
            return attended if layer.batch_first else attended.transpose(0, 1), None

        return forward

    before = [vars(layer).get("forward") for layer in layers]
    try:
        for number, layer in enumerate(layers):
            object.__setattr__(layer, "forward", forward_of(number, layer))
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            vars(layer).pop("forward", None)
            if own is not None:
                object.__setattr__(layer, "forward", own)


@contextlib.contextmanager
def _attention_function(model: nn.Module, layers: Sequence[nn.Module], keep: Keep) -> Iterator[None]:
    """Let a network of transformers call our attention function, which passes its weights through `keep`."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    number_of = {id(layer): number for number, layer in enumerate(layers)}

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        scores = scores if attention_mask is None else scores + attention_mask
        weights = keep(number_of[id(module)], scores.softmax(-1, dtype=torch.float32).to(query.dtype))
        return (weights @ value).transpose(1, 2).contiguous(), weights

    name, field = f"torchvice_{id(model)}", "_attn_implementation_internal"
    configs = {id(config): config for module in model.modules() if field in vars(config := _config(module))}
    before = {key: getattr(config, field) for key, config in configs.items()}
    ALL_ATTENTION_FUNCTIONS[name] = attend
    try:
        for config in configs.values():
            setattr(config, field, name)
        yield
    finally:
        for key, config in configs.items():
            setattr(config, field, before[key])
        del ALL_ATTENTION_FUNCTIONS[name]


def _config(module: nn.Module) -> Any:
    """The configuration of a module of transformers; the module itself if it has none."""
    config = vars(module).get("config")
    return config if hasattr(config, "model_type") else module
