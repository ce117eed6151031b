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
from torchvice.explain.rules import (
    add_scales,
    copy_rule,
    inverse,
    inverse_total,
    linear_rule,
    product_gradients,
    signed_products,
)
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

    What goes from step to step is the share R / y of a sum of the residual stream.

    Args:
        model: a VisionTransformer with a class-token head, its weights in the trace's precision.
        trace: of its forward pass of N images.
        output: (N, K), the explained outputs of each image.
    """
    relevance, after = _head_relevance(model, trace, output), trace.inputs["norm"][:, None]
    share = relevance.mul_(inverse(after[:, :, : relevance.shape[2]]))
    for number in reversed(range(len(model.blocks))):  # type: ignore[arg-type]
        name, block = f"blocks.{number}", model.get_submodule(f"blocks.{number}")
        inputs = {part: trace.inputs[f"{name}.{part}"][:, None] for part in _INPUTS}
        outputs = {part: trace.outputs[f"{name}.{part}"][:, None] for part in _OUTPUTS}
        step = _Step(block, inputs, outputs, share.shape[2])
        share = _below_mlp(step, share, after)
        before, middle, attended = inputs["norm1"], step.input("norm2"), step.output("drop_path1")
        skip, branch = add_scales(before[:, :, : step.rows], attended, middle, share)
        products = step.products("attn.proj", (share * (attended * step.inverse_total("attn.proj"))).mul_(branch))
        mixed = step.input("attn.proj")
        of_mixed = _joined(products, mixed, inverse(mixed).mul_(0.5))
        attention, value = outputs["attn.attn_drop"], _by_head(outputs["attn.qkv"].chunk(3, 3)[2], step.heads)
        of_attention, of_value = product_gradients(
            attention[:, :, :, : step.rows], value, _by_head(of_mixed, step.heads)
        )
        of_attention.mul_(attention[:, :, :, : step.rows])
        length = attention.shape[3]
        yield _padded(of_attention, length)
        if number:
            of_entered = step.products("attn.qkv", _below_scores(step, of_attention, of_value))
            twice = inverse(before).square_().mul_(before)
            skipped = (share * (before * twice)[:, :, : step.rows]).mul_(skip)
            share, after = _joined(of_entered, inputs["attn.qkv"], twice), before
            share[:, :, : step.rows] += skipped


@dataclass(frozen=True)
class _Step:
    """A block on the way back: its traced tensors (N, 1, L, ...) and the number of rows that have relevance.

    In the last block these are only the tokens that the classifier reads.
    """

    block: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    rows: int

    @property
    def heads(self) -> int:
        return self.outputs["attn.attn_drop"].shape[2]

    def input(self, part: str) -> torch.Tensor:
        return self.inputs[part][:, :, : self.rows]

    def output(self, part: str) -> torch.Tensor:
        return self.outputs[part][:, :, : self.rows]

    def inverse_total(self, part: str, every_row: bool = False) -> torch.Tensor:
        """One over the positive products of a linear layer; its product is the traced output minus the bias."""
        rows, bias = None if every_row else self.rows, self.block.get_submodule(part).bias
        product = self.outputs[part][:, :, :rows]
        product = product - bias if isinstance(bias, torch.Tensor) else product.clone()
        return inverse_total(self.inputs[part][:, :, :rows], _weight(self.block, part), product)

    def products(self, part: str, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of a linear layer at its positive and at its negative inputs."""
        return signed_products(share, _weight(self.block, part))


def _joined(products: tuple[torch.Tensor, torch.Tensor], value: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Relevance x G times a factor (N, 1, L, D) of the image, of the products at positive and at negative inputs x."""
    positive, negative = products  # addcmul is several times as fast as where
    return positive.mul_(value.clamp(min=0).mul_(factor)).addcmul_(negative, value.clamp(max=0).mul_(factor))


def _below_mlp(step: _Step, share: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Share (N, K, r, D) of the tokens between attention and MLP, from that of the block's output."""
    middle, mapped, rows = step.input("norm2"), step.output("drop_path2"), step.rows
    skip, branch = add_scales(middle, mapped, after[:, :, :rows], share)
    of_hidden = step.products("mlp.fc2", (share * (mapped * step.inverse_total("mlp.fc2"))).mul_(branch))
    of_hidden_share = _joined(of_hidden, step.input("mlp.fc2"), step.inverse_total("mlp.fc1"))
    of_normed = step.products("mlp.fc1", of_hidden_share)
    # Once for the copy of the tokens, once for the sum that they are.
    twice = inverse(middle).square_().mul_(middle)
    skipped = (share * (middle * twice)).mul_(skip)
    return _joined(of_normed, step.input("mlp.fc1"), twice).add_(skipped)


def _below_scores(step: _Step, of_attention: torch.Tensor, of_value: torch.Tensor) -> torch.Tensor:
    """Share (N, K, L, 3 D) of queries, keys and values; the softmax passes its relevance to the scores."""
    length = of_value.shape[-2]
    queries, keys = step.outputs["attn.q_norm"], step.outputs["attn.k_norm"]
    query, key = queries[:, :, :, : step.rows], keys.transpose(3, 4)
    scores = (query @ key).to(of_value)
    share = of_attention * inverse(scores).mul_(0.5)
    of_query, of_key = product_gradients(query.to(of_value), key.to(of_value), share)
    gradients = (_padded(of_query, length), of_key.transpose(3, 4), of_value)
    values = (queries.to(of_value), keys.to(of_value), _by_head(step.outputs["attn.qkv"].chunk(3, 3)[2], step.heads))
    factor = _side_by_side(values).mul_(step.inverse_total("attn.qkv", every_row=True))
    return _side_by_side(gradients).mul_(factor)


def _side_by_side(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Reshape three (N, K, heads, L, D / heads) to (N, K, L, 3 D)."""
    return torch.cat([part.transpose(2, 3).flatten(3) for part in parts], 3)


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
        gate = getattr(block.attn, "gate", None)  # timm's attention before 1.0.23 has none
        if not standard or gate is not None or not isinstance(block.attn.norm, nn.Identity):
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
