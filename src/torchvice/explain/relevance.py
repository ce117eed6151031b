"""Transformer attribution: relevance propagated from a class back to every attention, weighted by its gradient.

The rules are those of Chefer et al., CVPR 2021, with alpha = 1 and beta = 0: only what adds to an output earns
relevance. Softmax, norms, activations, layer scale and dropout pass it through. Every rule is a pure function of what
the forward pass had of N images and of the relevance of P pairs of image and class, so that pairs are a batch.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.attention import Maps, attending, no_maps, patches, read_out, slopes, tokens_read, unfused
from torchvice.explain.scene import Scene

__all__ = ["Trace", "add_rule", "by_relevance", "copy_rule", "linear_rule", "product_rule", "safe_divide"]
__all__ += ["attention_relevances", "tracing", "transformer_attribution"]

_EPS = 1e-9
_BUDGET = 2**29  # bytes that a part of the batch may take; larger parts are no faster


def safe_divide(relevance: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """relevance / (total + 1e-9), and 0 where the total is 0."""
    shifted = total + _EPS
    shifted = torch.where(shifted == 0, _EPS, shifted)
    return torch.where(total == 0, 0, relevance / shifted)


def linear_rule(
    value: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    """The rule of y = x W^T + b: the positive products x_i W_ji share the relevance of y_j; the bias earns nothing.

    Args:
        value: (N, ..., in), what went in.
        weight: (out, in).
        relevance: (P, ..., out).
        image: (P,), the image of each pair.

    Returns:
        (P, ..., in). Its sum is that of the relevance given, but for outputs without any positive product.

    References:
        Montavon et al., Pattern Recognition 65 (2017): the alpha-beta rule with alpha = 1.
    """
    up, down = value.clamp(min=0), value.clamp(max=0)
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    share = safe_divide(relevance, (up @ positive.T + down @ negative.T)[image])
    return (share @ positive).mul_(up[image]) + (share @ negative).mul_(down[image])


def product_rule(
    left: torch.Tensor, right: torch.Tensor, product: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rule of a matrix product Z = X Y: the terms x_ik y_kj share the relevance of z_ij, half to either factor.

    Args:
        left: (P, ..., i, k). right: (P, ..., k, j). product: (P, ..., i, j), Z. relevance: (P, ..., i, j).

    Returns:
        (P, ..., i, k) and (P, ..., k, j), each of which sums to half the relevance given.
    """
    share = safe_divide(relevance, product).mul_(0.5)
    return left * (share @ right.transpose(-1, -2)), right * (left.transpose(-1, -2) @ share)


def add_rule(
    first: torch.Tensor, second: torch.Tensor, total: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rule of y = a + b: a and b take their parts of y, then each is scaled as a whole.

    After scaling a has |A| / (|A| + |B|) of all relevance, A and B the sums of the parts.

    Args:
        first: (P, L, D), a. second: (P, L, D), b. total: (P, L, D), y. relevance: (P, L, D).

    Returns:
        (P, L, D) twice; together they sum to the relevance given.

    References:
        Chefer et al., CVPR 2021, equations 9 and 10.
    """
    share = safe_divide(relevance, total)
    parts = first * share, second * share
    whole = relevance.sum((1, 2), keepdim=True)
    own = [part.sum((1, 2), keepdim=True) for part in parts]
    both = own[0].abs() + own[1].abs()
    for part, mine in zip(parts, own, strict=True):
        part.mul_(safe_divide(safe_divide(mine.abs(), both) * whole, mine))
    return parts


def copy_rule(value: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """The rule of a value that goes several ways or is picked out: what comes back adds up, and stays off zeros."""
    return value * safe_divide(relevance, value)


_INPUTS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_OUTPUTS = ("attn.qkv", "attn.q_norm", "attn.k_norm", "attn.attn_drop", "drop_path1", "drop_path2")
_EXACT = ("attn.q_norm", "attn.k_norm")  # their product is a divisor: rounding comes after it


@dataclass
class Trace:
    """What a pass left for the rules: the `inputs` and the `outputs` (N, L, ...) of modules, by name."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


@contextlib.contextmanager
def tracing(model: nn.Module, dtype: torch.dtype) -> Iterator[Trace]:
    """Keep what the rules need of a VisionTransformer's pass inside the block, rounded to `dtype` once computed."""
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
        with unfused(model):
            yield trace
    finally:
        for handle in handles:
            handle.remove()


def _of_head(model: nn.Module, trace: Trace, image: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Relevance (P, r, D) of the tokens that the classifier reads: one, or two where each has its own classifier."""
    heads = [name for name in ("head", "head_dist") if name in trace.inputs]
    value = torch.cat([trace.inputs[name] for name in heads], 1)
    # The mean of two classifiers is one linear layer on both their tokens.
    weight = torch.cat([_weight(model, name) for name in heads], 1) / len(heads)
    relevance = nn.functional.one_hot(output, len(weight)).to(value)
    relevance = copy_rule(value[image], linear_rule(value, weight, relevance, image))
    return relevance.unflatten(1, (len(heads), -1))


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """(..., r, D) with rows of zeros behind, (..., length, D)."""
    missing = length - tensor.shape[-2]
    return nn.functional.pad(tensor, (0, 0, 0, missing)) if missing else tensor


def attention_relevances(
    model: nn.Module, trace: Trace, image: torch.Tensor, output: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The relevance (P, heads, L, L) of every block's attention, from the last block to the first.

    Args:
        model: a VisionTransformer with a class-token head, its weights in the trace's precision.
        trace: what its pass left.
        image: (P,), the image of each pair. output: (P,), the output that is explained.
    """
    relevance, after = _of_head(model, trace, image, output), trace.inputs["norm"]
    for number in reversed(range(len(model.blocks))):  # type: ignore[arg-type]
        name, block = f"blocks.{number}", model.get_submodule(f"blocks.{number}")
        given = {part: trace.inputs[f"{name}.{part}"] for part in _INPUTS}
        made = {part: trace.outputs[f"{name}.{part}"] for part in _OUTPUTS}
        before, rows = given["norm1"], relevance.shape[1]
        skip, branch = _below_mlp(block, given, made, relevance, after, image)
        skip, branch = add_rule(before[:, :rows][image], made["drop_path1"][:, :rows][image], skip, branch)
        branch = linear_rule(given["attn.proj"][:, :rows], _weight(block, "attn.proj"), branch, image)
        heads, length = made["attn.attn_drop"].shape[1:3]
        of_attention, of_value = product_rule(
            made["attn.attn_drop"][:, :, :rows][image],
            _by_head(made["attn.qkv"].chunk(3, 2)[2], heads)[image],
            _by_head(given["attn.proj"][:, :rows], heads)[image],
            _by_head(branch, heads),
        )
        yield _padded(of_attention, length)
        if number:
            branch = _below_scores(made, of_attention, of_value, image)
            branch = linear_rule(given["attn.qkv"], _weight(block, "attn.qkv"), branch, image)
            relevance, after = copy_rule(before[image], _padded(skip, length) + branch), before


def _below_mlp(
    block: nn.Module,
    given: dict[str, torch.Tensor],
    made: dict[str, torch.Tensor],
    relevance: torch.Tensor,
    after: torch.Tensor,
    image: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens (P, r, D) between a block's halves, and their relevance.

    Rows behind the r-th have none: above the last block only the tokens that the classifier reads have any.
    """
    rows = relevance.shape[1]
    middle = given["norm2"][:, :rows][image]
    skip, branch = add_rule(middle, made["drop_path2"][:, :rows][image], after[:, :rows][image], relevance)
    for part in ("mlp.fc2", "mlp.fc1"):
        branch = linear_rule(given[part][:, :rows], _weight(block, part), branch, image)
    return middle, copy_rule(middle, skip + branch)


def _below_scores(
    made: dict[str, torch.Tensor], of_attention: torch.Tensor, of_value: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    """Relevance (P, L, 3 D) of queries, keys and values; the softmax passes what it gets to the products."""
    rows, length = of_attention.shape[-2:]
    query, key = made["attn.q_norm"][:, :, :rows], made["attn.k_norm"].transpose(2, 3)
    scores = (query @ key).to(of_value)
    of_query, of_key = product_rule(query.to(of_value)[image], key.to(of_value)[image], scores[image], of_attention)
    parts = torch.stack([_padded(of_query, length), of_key.transpose(2, 3), of_value], 1)
    return parts.permute(0, 3, 1, 2, 4).flatten(2)


def _weight(module: nn.Module, name: str) -> torch.Tensor:
    return module.get_submodule(name).weight  # type: ignore[return-value]


def _by_head(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(N, L, D) as (N, heads, L, D / heads)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def _twin(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A frozen copy of the network in that precision; weights that have it already are shared, not copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to(dtype) if buffer.is_floating_point() else buffer.detach()
    return copy.deepcopy(model, memo)


def _supported(model: nn.Module) -> None:
    """Every step must have a rule: timm's plain VisionTransformer with a class-token head.

    Raises:
        ViceError: another network, or one with a step that has no rule.
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
        plain = type(block) is Block and type(block.attn) is Attention and type(block.mlp) is Mlp
        if not plain or block.attn.gate is not None or not isinstance(block.attn.norm, nn.Identity):
            reason = f"has steps of its own in blocks.{number}"
    if reason:
        raise ViceError(
            "'transformer_attribution' must have timm's plain VisionTransformer with a linear head on the class token, "
            f"but the network {reason}, for which there is no relevance rule.",
            "Use method='generic_attention' for other transformers, 'gradcam' for any network.",
        )


def by_relevance(dtype: torch.dtype = torch.float32) -> Callable[[Scene], Maps]:
    """`transformer_attribution` with relevance and gradients in a precision of one's own: float32 or float64."""

    def run(scene: Scene) -> Maps:
        _supported(scene.model)
        if scene.images.device.type == "mps":
            raise ViceError(
                "'transformer_attribution' must compute in double precision, but Apple's GPUs cannot.",
                "Move the model and the images to the CPU.",
            )
        with torch.autocast(scene.images.device.type, enabled=False):
            if scene.ask is not None:
                scene.targets_of(scene.forward(scene.images))
            if not scene.asked:
                return scene.forward(scene.images), no_maps(scene)
            exact, working = _twin(scene.model, torch.float64), _twin(scene.model, dtype)
            outputs: list[torch.Tensor] = [torch.empty(0)] * len(scene.images)
            maps: list[torch.Tensor] = [torch.empty(0)] * len(scene.asked)
            for images, pairs in _parts(scene, dtype):
                asked = [(place, scene.asked[row][1]) for row, place in pairs]
                part = replace(scene, images=scene.images[images], asked=asked, ask=None)
                seen, found = _attributed(part, exact, working, dtype)
                for image, logits in zip(images, seen, strict=True):
                    outputs[image] = logits
                for (row, _), one in zip(pairs, found, strict=True):
                    maps[row] = one
            return torch.stack(outputs).to(scene.images.dtype), torch.stack(maps)

    return run


def _attributed(scene: Scene, exact: nn.Module, working: nn.Module, dtype: torch.dtype) -> Maps:
    """The maps of a part, from two copies of the network: one in double precision, one to have gradients of."""
    scene = replace(scene, model=exact, images=scene.images.double())
    with tracing(exact, dtype) as trace:
        outputs = scene.forward(scene.images)
    image, output = scene.targets_of(outputs)
    prefix, grid = patches(scene, trace.outputs["blocks.0.attn.attn_drop"])
    read = tokens_read(exact, trace.outputs["blocks.0.attn.attn_drop"].shape[-1], prefix)
    if not scene.asked:
        return outputs, outputs.new_zeros((0, *grid), dtype=dtype)
    with attending(working, 0) as kept:
        scores = replace(scene, model=working).forward(scene.images.to(dtype))[image, output]
    gradients = [weight.new_empty((len(image), *weight.shape[1:])) for weight in kept.weights]
    for rows, found in slopes(scores, scene.turns(), kept.weights):
        for place, gradient in zip(gradients, found, strict=True):
            place[rows] = gradient[image[rows]]
    del scores, kept, found
    relevances = attention_relevances(working, trace, image, output)
    weighted = ((relevance * gradients.pop()).clamp_(min=0).mean(1) for relevance in relevances)
    return outputs, read_out(weighted, read)[:, prefix:].unflatten(1, grid)


def _parts(scene: Scene, dtype: torch.dtype) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Parts that fit the memory: images, and (row, place of its image in the part) of every pair.

    An image of very many labels may come in several parts.
    """
    blocks, grid = list(scene.model.blocks), scene.grid  # type: ignore[arg-type]
    tokens = int(scene.model.num_prefix_tokens) + (grid[0] * grid[1] if grid else 0)  # type: ignore[arg-type]
    attention, channels = blocks[0].attn.num_heads * tokens, blocks[0].attn.qkv.in_features
    # Numbers that a token has: in every block, for the rules, for the graph and as gradients; in one, while it is done.
    unit = dtype.itemsize * tokens
    per_image = unit * len(blocks) * (32 * channels + 3 * attention)
    per_pair = unit * (len(blocks) * attention + 20 * channels + 4 * attention)
    of_image: list[list[int]] = [[] for _ in scene.images]
    for row, (image, _) in enumerate(scene.asked):
        of_image[image].append(row)
    most = max(1, (_BUDGET - per_image) // per_pair)
    images: list[int] = []
    pairs: list[tuple[int, int]] = []
    for image, rows in enumerate(of_image):
        for start in range(0, max(1, len(rows)), most):
            piece = rows[start : start + most]
            if images and (len(images) + 1) * per_image + (len(pairs) + len(piece)) * per_pair > _BUDGET:
                yield images, pairs
                images, pairs = [], []
            pairs.extend((row, len(images)) for row in piece)
            images.append(image)
    yield images, pairs


def transformer_attribution(scene: Scene) -> Maps:
    """Transformer attribution (Chefer): per block the mean over heads of max(0, gradient * relevance), rolled out.

    R <- R + A R over the blocks, rows not normalised; the map is the row of the tokens that the classifier reads.

    Precision: relevance is divided by sums that cancel (the residual additions, queries times keys). The forward pass
    therefore runs in double precision, on a copy of the weights, and its sums are rounded to single once they are made;
    relevance and gradients are single. Maps scaled to [0, 1] are then within 3e-6 of double precision throughout (the
    reference network, and vit_small_patch16_224 with random weights); were the forward pass single too, they would be
    off by up to 0.12. `by_relevance(torch.float64)` is double throughout, and takes about twice as long.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network with a step that has no rule.

    References:
        Chefer et al., Transformer interpretability beyond attention visualization, CVPR 2021.
    """
    return _FLOAT32(scene)


_FLOAT32 = by_relevance()
