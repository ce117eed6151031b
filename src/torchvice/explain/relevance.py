"""Transformer attribution: relevance propagated from a class back to every attention, weighted by its gradient.

The rules are those of Chefer et al., CVPR 2021, with alpha = 1 and beta = 0: only positive contributions to an output
get relevance. Softmax, norms, activations, layer scale and dropout pass it through.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.attention import (
    attention_gradients,
    capture_attention,
    empty_maps,
    pooling_weights,
    rollout_row,
    token_layout,
)
from torchvice.explain.attention_blocks import disable_fused_attention
from torchvice.explain.dense import cached_outputs, full_precision
from torchvice.explain.methods import Run, register
from torchvice.explain.rules import add_rule, copy_rule, linear_rule, product_rule
from torchvice.explain.scene import OutputsAndMaps, Scene

__all__ = ["Trace", "attention_relevances", "record_trace", "relevance_method", "transformer_attribution"]

_BUDGET = 2**29  # bytes per part of the batch; on a CPU larger parts are no faster
_DENSE = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_INPUTS = ("norm1", "norm2", *_DENSE)
_OUTPUTS = ("attn.q_norm", "attn.k_norm", "attn.attn_drop", "drop_path1", "drop_path2", *_DENSE)
_EXACT = ("attn.q_norm", "attn.k_norm")  # their product is a divisor, so it is computed before rounding


@dataclass
class Trace:
    """Tensors of a forward pass that the rules need: `inputs` and `outputs` (N, L, ...) of modules, by name."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


@contextlib.contextmanager
def record_trace(model: nn.Module, dtype: torch.dtype) -> Iterator[Trace]:
    """Record the tensors that the rules need of a VisionTransformer's pass inside the block, rounded to `dtype`."""
    trace, handles, modules = Trace(), [], dict(model.named_modules())

    def keep_input(name: str) -> Callable[..., None]:
        return lambda _, args: trace.inputs.__setitem__(name, args[0].to(dtype))

    def keep_output(name: str) -> Callable[..., None]:
        exact = name.endswith(_EXACT)
        return lambda _, __, output: trace.outputs.__setitem__(name, output if exact else output.to(dtype))

    blocks = [f"blocks.{number}" for number in range(len(model.blocks))]  # type: ignore[arg-type]
    names = [f"{block}.{part}" for block in blocks for part in _INPUTS] + ["norm", "head", "head_dist"]
    try:
        for name in (name for name in names if name in modules):
            handles.append(modules[name].register_forward_pre_hook(keep_input(name)))
        for name in (f"{block}.{part}" for block in blocks for part in _OUTPUTS):
            handles.append(modules[name].register_forward_hook(keep_output(name)))
        with disable_fused_attention(model):
            yield trace
    finally:
        for handle in handles:
            handle.remove()


def _head_relevance(model: nn.Module, trace: Trace, output: torch.Tensor) -> torch.Tensor:
    """Relevance (N, K, r, D) of the r tokens that the classifier reads: one, or two if each has a classifier."""
    heads = [name for name in ("head", "head_dist") if name in trace.inputs]
    value = torch.cat([trace.inputs[name] for name in heads], 1)[:, None]
    # The mean of two classifiers is one linear layer on the concatenation of their tokens.
    weight = torch.cat([_weight(model, name) for name in heads], 1) / len(heads)
    relevance = nn.functional.one_hot(output, len(weight)).to(value)
    relevance = copy_rule(value, linear_rule(value, weight, relevance))
    return relevance.unflatten(2, (len(heads), -1))


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Append rows of zeros to (..., r, D), to shape (..., length, D)."""
    missing = length - tensor.shape[-2]
    return nn.functional.pad(tensor, (0, 0, 0, missing)) if missing else tensor


def attention_relevances(model: nn.Module, trace: Trace, output: torch.Tensor) -> Iterator[torch.Tensor]:
    """Relevance (N, K, heads, L, L) of every block's attention, last block first.

    Args:
        model: a VisionTransformer with a class-token head, its weights in the trace's precision.
        trace: of its forward pass of N images.
        output: (N, K), the explained outputs of each image.
    """
    relevance, after = _head_relevance(model, trace, output), trace.inputs["norm"][:, None]
    for number in reversed(range(len(model.blocks))):  # type: ignore[arg-type]
        name, block = f"blocks.{number}", model.get_submodule(f"blocks.{number}")
        inputs = {part: trace.inputs[f"{name}.{part}"][:, None] for part in _INPUTS}
        outputs = {part: trace.outputs[f"{name}.{part}"][:, None] for part in _OUTPUTS}
        before, rows = inputs["norm1"], relevance.shape[2]
        skip, branch = _below_mlp(block, inputs, outputs, relevance, after)
        skip, branch = add_rule(before[:, :, :rows], outputs["drop_path1"][:, :, :rows], skip, branch)
        branch = _below_dense(block, "attn.proj", inputs, outputs, branch)
        heads, length = outputs["attn.attn_drop"].shape[2:4]
        of_attention, of_value = product_rule(
            outputs["attn.attn_drop"][:, :, :, :rows],
            _by_head(outputs["attn.qkv"].chunk(3, 3)[2], heads),
            _by_head(inputs["attn.proj"][:, :, :rows], heads),
            _by_head(branch, heads),
        )
        yield _padded(of_attention, length)
        if number:
            branch = _below_scores(outputs, of_attention, of_value)
            branch = _below_dense(block, "attn.qkv", inputs, outputs, branch)
            relevance, after = copy_rule(before, branch.add_(_padded(skip, length))), before


def _below_dense(
    block: nn.Module,
    part: str,
    inputs: dict[str, torch.Tensor],
    outputs: dict[str, torch.Tensor],
    relevance: torch.Tensor,
) -> torch.Tensor:
    """Relevance (N, K, r, in) of a linear layer's input; its product is the traced output minus the bias."""
    rows, bias = relevance.shape[2], block.get_submodule(part).bias
    product = outputs[part][:, :, :rows]
    if isinstance(bias, torch.Tensor):
        product = product - bias
    return linear_rule(inputs[part][:, :, :rows], _weight(block, part), relevance, product)


def _below_mlp(
    block: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: dict[str, torch.Tensor],
    relevance: torch.Tensor,
    after: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (N, 1, r, D) between attention and MLP of a block, and their relevance (N, K, r, D).

    Only the first r rows have relevance: in the last block only the tokens that the classifier reads.
    """
    rows = relevance.shape[2]
    middle = inputs["norm2"][:, :, :rows]
    skip, branch = add_rule(middle, outputs["drop_path2"][:, :, :rows], after[:, :, :rows], relevance)
    for part in ("mlp.fc2", "mlp.fc1"):
        branch = _below_dense(block, part, inputs, outputs, branch)
    return middle, copy_rule(middle, skip.add_(branch))


def _below_scores(outputs: dict[str, torch.Tensor], of_attention: torch.Tensor, of_value: torch.Tensor) -> torch.Tensor:
    """Relevance (N, K, L, 3 D) of queries, keys and values; the softmax passes its relevance to the scores."""
    rows, length = of_attention.shape[-2:]
    query, key = outputs["attn.q_norm"][:, :, :, :rows], outputs["attn.k_norm"].transpose(3, 4)
    scores = (query @ key).to(of_value)
    of_query, of_key = product_rule(query.to(of_value), key.to(of_value), scores, of_attention)
    parts = torch.stack([_padded(of_query, length), of_key.transpose(3, 4), of_value], 2)
    return parts.permute(0, 1, 4, 2, 3, 5).flatten(3)


def _weight(module: nn.Module, name: str) -> torch.Tensor:
    return module.get_submodule(name).weight  # type: ignore[return-value]


def _by_head(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Reshape (N, K, L, D) to (N, K, heads, L, D / heads)."""
    return tokens.unflatten(3, (heads, -1)).transpose(2, 3)


def _copy_in_precision(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy the network, frozen, in a precision; weights that have this precision already are shared, not copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to(dtype) if buffer.is_floating_point() else buffer.detach()
    return copy.deepcopy(model, memo)


def _check_supported(model: nn.Module) -> None:
    """Check that every step has a rule: timm's VisionTransformer with a linear head on the class token.

    Raises:
        ViceError: another network, or a step without a rule.
    """
    from timm.layers.attention import Attention
    from timm.layers.mlp import Mlp
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import Block, VisionTransformer

    reason = ""
    if type(model) not in (VisionTransformer, VisionTransformerDistilled):
        reason = f"is a {type(model).__name__}"
    elif model.global_pool != "token" or model.attn_pool is not None:
        reason = f"pools by {model.global_pool!r}"
    elif not isinstance(model.head, nn.Linear):
        reason = f"ends in {type(model.head).__name__}"
    for number, block in enumerate(() if reason else model.blocks):  # type: ignore[arg-type]
        standard = type(block) is Block and type(block.attn) is Attention and type(block.mlp) is Mlp
        if not standard or block.attn.gate is not None or not isinstance(block.attn.norm, nn.Identity):
            reason = f"has other steps in blocks.{number}"
    if reason:
        raise ViceError(
            "'transformer_attribution' needs timm's VisionTransformer class with a linear head on the class token, "
            f"but the network {reason}, for which there is no relevance rule.",
            "Use method='generic_attention' for other transformers, 'gradcam' for any network.",
        )


def relevance_method(dtype: torch.dtype = torch.float32) -> Run:
    """Make `transformer_attribution` with relevance and gradients in a given precision: float32 or float64."""

    def run(scene: Scene) -> OutputsAndMaps:
        _check_supported(scene.model)
        if scene.images.device.type == "mps":
            raise ViceError(
                "'transformer_attribution' needs double precision, but Apple's GPUs do not support it.",
                "Move the model and the images to the CPU.",
            )
        with torch.autocast(scene.images.device.type, enabled=False), full_precision():
            if scene.pairs_from is not None:
                scene.targets_of(scene.forward(scene.images))
            if not scene.pairs:
                return scene.forward(scene.images), empty_maps(scene)
            exact, working = _copy_in_precision(scene.model, torch.float64), _copy_in_precision(scene.model, dtype)
            outputs: list[torch.Tensor] = [torch.empty(0)] * len(scene.images)
            maps: list[torch.Tensor] = [torch.empty(0)] * len(scene.pairs)
            for images, rows in _split_by_memory(scene, dtype):
                pairs = [(position, scene.pairs[row][1]) for position, of_image in enumerate(rows) for row in of_image]
                part = replace(scene, images=scene.images[images], pairs=pairs, pairs_from=None)
                part_outputs, part_maps = _maps_of_part(part, exact, working, dtype)
                for image, logits in zip(images, part_outputs, strict=True):
                    outputs[image] = logits
                for row, one in zip((row for of_image in rows for row in of_image), part_maps, strict=True):
                    maps[row] = one
            return torch.stack(outputs).to(scene.images.dtype), torch.stack(maps)

    return run


def _maps_of_part(scene: Scene, exact: nn.Module, working: nn.Module, dtype: torch.dtype) -> OutputsAndMaps:
    """Compute the maps of a part with two copies of the network: one in double precision, one for the gradients."""
    scene = replace(scene, model=exact, images=scene.images.double())
    if not scene.pairs:
        return scene.forward(scene.images), torch.empty(0)
    with record_trace(exact, dtype) as trace:
        outputs = scene.forward(scene.images)
    output = scene.targets_of(outputs)[1].view(len(outputs), -1)
    attention = trace.outputs["blocks.0.attn.attn_drop"]
    prefix, grid = token_layout(scene, attention)
    pooling = pooling_weights(exact, attention.shape[-1], prefix)
    with cached_outputs(working, {name: trace.outputs[name] for name in trace.outputs if name.endswith(_DENSE)}):
        gradients = _gradients(replace(scene, model=working, images=scene.images.to(dtype)), output)
    relevances = attention_relevances(working, trace, output)
    weighted = (_weighted(relevance, gradients.pop()) for relevance in relevances)
    return outputs, rollout_row(weighted, pooling)[:, prefix:].unflatten(1, grid)


def _weighted(relevance: torch.Tensor, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute (N K, L, L): mean over heads of max(0, relevance (N, K, heads, L, L) times the K labels' gradients)."""
    of_label = zip(relevance.unbind(1), gradients, strict=True)
    return torch.stack([(one * gradient).clamp_(min=0).mean(1) for one, gradient in of_label], 1).flatten(0, 1)


def _gradients(scene: Scene, output: torch.Tensor) -> list[Sequence[torch.Tensor]]:
    """Gradients of the outputs (N, K) at the attention of every block: K tensors (N, heads, L, L) each."""
    with capture_attention(scene.model, 0) as attention:
        scores = scene.forward(scene.images).gather(1, output).flatten()
    of_labels = attention_gradients(scores, scene.backward_groups(), attention.weights)
    return list(zip(*(gradients for _, gradients in of_labels), strict=True))


def _budget(device: torch.device) -> int:
    """Bytes per part of the batch: on a GPU, where a part must be large to be fast, a third of what is free."""
    if device.type != "cuda":
        return _BUDGET
    free = torch.cuda.mem_get_info(device)[0]
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # reused by the allocator
    return max(_BUDGET, (free + held) // 3)


def _split_by_memory(scene: Scene, dtype: torch.dtype) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Split the batch into parts that fit in memory: images, and the same number of rows of pairs for each of them.

    An image with very many labels may be split over several parts.
    """
    blocks, grid = list(scene.model.blocks), scene.grid  # type: ignore[arg-type]
    tokens = int(scene.model.num_prefix_tokens) + (grid[0] * grid[1] if grid else 0)  # type: ignore[arg-type]
    attention, channels = blocks[0].attn.num_heads * tokens, blocks[0].attn.qkv.in_features
    # Numbers stored per token: in all blocks for the rules, the graph and the gradients; in one block while it runs.
    unit = dtype.itemsize * tokens
    per_image = unit * len(blocks) * (38 * channels + 3 * attention)
    per_pair = unit * (len(blocks) * attention + 20 * channels + 4 * attention)
    budget = _budget(scene.images.device)
    most = max(1, (budget - per_image) // per_pair)
    of_image: list[list[int]] = [[] for _ in scene.images]
    for row, (image, _) in enumerate(scene.pairs):
        of_image[image].append(row)
    pieces: dict[int, list[tuple[int, list[int]]]] = {}
    for image, rows in enumerate(of_image):
        for start in range(0, max(1, len(rows)), most):
            piece = rows[start : start + most]
            pieces.setdefault(len(piece), []).append((image, piece))
    for labels, same in pieces.items():
        size = max(1, budget // (per_image + labels * per_pair))
        for start in range(0, len(same), size):
            part = same[start : start + size]
            yield [image for image, _ in part], [piece for _, piece in part]


@register(
    "transformer_attribution",
    needs="timm's VisionTransformer with a class token",
    cost="1 forward in double precision, L backward, L relevance",
    paper="Chefer et al., CVPR 2021",
    reads="patches",
)
def transformer_attribution(scene: Scene) -> OutputsAndMaps:
    """Transformer attribution (Chefer): rollout of the blocks' mean over heads of max(0, gradient * relevance).

    R <- R + A R over the blocks, rows not normalised; the map is the row of the tokens that the classifier pools.

    Precision: relevance is divided by sums that cancel (the residual additions, queries times keys). The forward pass
    therefore runs in double precision, on a copy of the weights, and its results are then rounded to single; relevance
    and gradients are single. Maps scaled to [0, 1] are then within 3e-6 of those in double precision throughout on
    the reference network. `relevance_method(torch.float64)` is double throughout.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network with a step that has no rule.

    References:
        Chefer et al., Transformer interpretability beyond attention visualization, CVPR 2021.
    """
    return relevance_method()(scene)
