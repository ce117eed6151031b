"""Maps from attention: capture every block's softmaxed weights in one forward pass, and combine them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.attention_blocks import (
    WAY_OUT,
    Pooling,
    attending_network,
    attention_blocks,
    foreign_pooling,
)
from torchvice.explain.capture import single_capture
from torchvice.explain.methods import SHORT_BACKWARD, register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.models.families import token_grid


@dataclass
class Attentions:
    """Captured attention: `weights`, one (N, heads, L, L) per captured block, first block first; rows sum to 1."""

    weights: list[torch.Tensor] = field(default_factory=list)

    @property
    def last(self) -> torch.Tensor:
        """The last block's attention.

        Raises:
            ViceError: the pass reached no attention module, for example in a compiled model.
        """
        if not self.weights:
            raise ViceError(
                "The pass must go through the blocks' attention, but reaches no attention module.",
                "Give the original model, not its compiled or scripted form.",
            )
        return self.weights[-1]


@contextlib.contextmanager
def capture_attention(model: nn.Module, first_block: int | None = None) -> Iterator[Attentions]:
    """Capture the softmaxed attention of the network's blocks in the pass inside the block; restore the model after it.

    Args:
        model: in eval mode.
        first_block: the first captured block; negative counts from the last. Its attention is the leaf of the autograd
            graph, so that it and later attentions have gradients. None: all blocks, without gradients.

    Raises:
        ViceError: a network without global attention, or another capture of it is active.
    """
    blocks, captured = attention_blocks(model), Attentions()
    first = 0 if first_block is None else first_block % blocks.count
    grad = torch.is_grad_enabled()

    def keep(number: int, weights: torch.Tensor) -> torch.Tensor:
        if number < first:
            return weights
        if first_block is not None:
            torch.set_grad_enabled(True)
            # Under LibraGrad every attention is a constant, and so each of them a leaf.
            if number == first or not weights.requires_grad:
                weights = weights.detach().requires_grad_(True)
        captured.weights.append(weights)
        return weights

    with single_capture(model), blocks.passing(keep):
        try:
            yield captured
        finally:
            torch.set_grad_enabled(grad)


def pooling_weights(model: nn.Module, tokens: int, prefix: int) -> torch.Tensor:
    """Weight of each token in the classifier's pooling, (L,) summing to 1.

    Token pooling reads the class token (or half the class and half the distillation token, if each has a classifier),
    average pooling the mean of the patches. A classifier that reads the class token and the mean of the patches side by
    side, as DINOv2's, has half of each.

    Raises:
        ViceError: another pooling, such as attention pooling.
    """
    model = attending_network(model)
    share = torch.zeros(tokens)
    pool = foreign_pooling(model) or _timm_pooling(model, prefix)
    if pool == "class":
        share[0] = 1
    elif pool == "distilled":
        share[:2] = 0.5
    elif pool in ("all", "patches"):
        start = 0 if pool == "all" else prefix
        share[start:] = 1 / (tokens - start)
    elif pool == "class+patches":
        share[prefix:] = 0.5 / (tokens - prefix)
        share[0] = 0.5
    else:
        raise ViceError(
            f"The classifier must read the class token or the mean of the patches, but {type(model).__name__} pools by "
            f"{getattr(model, 'global_pool', None)!r}.",
            WAY_OUT,
        )
    return share


def _timm_pooling(model: nn.Module, prefix: int) -> Pooling | None:
    """Which tokens the classifier of a network of timm reads; None: another pooling."""
    pool = getattr(model, "global_pool", None)
    if getattr(model, "head_dist", None) is not None:
        return "distilled"
    if getattr(model, "attn_pool", None) is not None or pool not in ("token", "avg"):
        return None
    if pool == "token":
        return "class" if prefix else None
    return "all" if getattr(model, "pool_include_prefix", False) else "patches"


def rollout_row(matrices: Iterable[torch.Tensor], pooling: torch.Tensor) -> torch.Tensor:
    """Compute pooling (I + A_b) ... (I + A_1): the share of each input token in the pooled tokens.

    One row is multiplied by the matrices, last block first: L^2 steps per block instead of L^3 for their product.

    Args:
        matrices: (P, L, L) of every block, last block first.
        pooling: (L,), the weight of each token in the pooling.

    Returns:
        (P, L).

    Raises:
        ViceError: no matrix, or matrices of several sizes.
    """
    moved = moved_row(matrices, pooling)
    return pooling.to(moved) + moved


def moved_row(matrices: Iterable[torch.Tensor], pooling: torch.Tensor) -> torch.Tensor:
    """As `rollout_row`, less the identity: what the pooled tokens have from others, or from themselves by attention.

    What each token keeps of itself is `pooling`: nothing at the patches where the classifier reads the class token, and
    the same at each of them where it reads their mean. It would outweigh what small matrices move.
    """
    moved: torch.Tensor | None = None
    for matrix in matrices:
        if moved is None:
            pooling = pooling.to(matrix)
            moved = pooling.new_zeros((len(matrix), len(pooling)))
        if matrix.shape[-1] != moved.shape[-1]:
            tokens = f"{matrix.shape[-1]} and a later one between {moved.shape[-1]}"
            raise ViceError(
                f"All blocks must attend between the same tokens, but one attends between {tokens}.", WAY_OUT
            )
        moved = moved + torch.einsum("pl,plm->pm", moved + pooling, matrix)
    if moved is None:
        raise ViceError("No attention block found.")
    return moved


def token_layout(scene: Scene, attention: torch.Tensor) -> tuple[int, tuple[int, int]]:
    """Number of prefix tokens before the patches, and the patches' grid (h, w).

    Raises:
        ViceError: the attention (N, heads, L, L) is not between all tokens, or its rows do not sum to 1.
    """
    name, shape = type(scene.model).__name__, tuple(attention.shape)
    foreign = foreign_pooling(scene.model) is not None and scene.site.layout == "tokens"
    network = attending_network(scene.model)
    prefix = scene.site.prefix_tokens if foreign else int(getattr(network, "num_prefix_tokens", 0))
    # The site gives the grid of hybrids, whose patches are not pixels; a site without tokens gives no grid.
    grids = [grid for grid in (scene.grid, token_grid(scene.model, scene.images)) if grid]
    fitting = [(h, w) for h, w in grids if shape[1:] == (shape[1], prefix + h * w, prefix + h * w)]
    if not fitting:
        expected = f"{prefix} + {grids[0]}" if grids else "patch"
        raise ViceError(f"{name} must attend between {expected} tokens, but attends in shape {shape}.", WAY_OUT)
    sums = attention[:1].detach().float().sum(-1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=0.05):  # in half precision sums differ from 1 by some 1e-2
        raise ViceError(f"The attention of a token must sum to 1, but that of {name} does not.", WAY_OUT)
    return prefix, fitting[0]


def _maps(row: torch.Tensor, prefix: int, grid: tuple[int, int]) -> torch.Tensor:
    """Reshape (P, L) to maps (P, h, w), without the prefix tokens."""
    return row[:, prefix:].unflatten(1, grid)


def empty_maps(scene: Scene) -> torch.Tensor:
    """Maps (0, h, w), for a batch without pairs."""
    return scene.images.new_zeros((0, *(scene.grid or (1, 1))), dtype=torch.float32)


def attention_gradients(
    scores: torch.Tensor, groups: Sequence[Sequence[int]], weights: Sequence[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, Sequence[torch.Tensor]]]:
    """Yield for every group its rows, and the gradients (N, heads, L, L) of their scores at every attention.

    One backward pass serves all blocks, and one label of every image.

    Args:
        scores: (P,), the explained outputs, with their graph.
        groups: rows of pairs, see `Scene.backward_groups`.
        weights: the attentions.
    """
    for number, group in enumerate(groups):
        rows = torch.tensor(group, device=scores.device)
        more = number + 1 < len(groups)
        with torch.enable_grad():
            yield rows, torch.autograd.grad(scores[rows].sum(), list(weights), retain_graph=more)


@register("rollout", needs="global attention", cost="1 forward", paper="Abnar and Zuidema, ACL 2020", reads="patches")
def rollout(scene: Scene) -> OutputsAndMaps:
    """Attention rollout: the heads' mean attention, identity added and rows normalised, multiplied over the blocks.

    The map is the class token's row of the product, or the mean of the patches' rows if the classifier pools their
    mean. It does not depend on the class: all labels of an image have the same map.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or with another pooling.

    References:
        Abnar and Zuidema, Quantifying attention flow in transformers, ACL 2020.
    """
    with capture_attention(scene.model) as attention:
        outputs = scene.forward(scene.images)
    image, _ = scene.targets_of(outputs)
    prefix, grid = token_layout(scene, attention.last)
    pooling = pooling_weights(scene.model, attention.last.shape[-1], prefix)
    with torch.autocast(scene.images.device.type, enabled=False):
        # (A + I) / 2 has rows that sum to 1: halving the row after each block is the normalisation.
        means = (weights.float().mean(1) for weights in reversed(attention.weights))
        row = rollout_row(means, pooling) * 0.5 ** len(attention.weights)
        return outputs, _maps(row, prefix, grid)[image]


def gradient_weighted(
    scene: Scene, first_block: int, combine: Callable[[Iterable[torch.Tensor], torch.Tensor], torch.Tensor]
) -> OutputsAndMaps:
    """Combine attention times its gradient, positive part, averaged over heads, of the blocks from the first on."""
    if not scene.needs_maps:
        return scene.forward(scene.images), empty_maps(scene)
    with capture_attention(scene.model, first_block) as attention:
        outputs = scene.forward(scene.images)
    weights = attention.weights
    prefix, grid = token_layout(scene, attention.last)
    pooling = pooling_weights(scene.model, attention.last.shape[-1], prefix)
    image, output = scene.targets_of(outputs)
    maps = torch.empty((len(image), *grid), device=outputs.device)
    with torch.enable_grad():
        scores = outputs[image, output]
    for rows, gradients in attention_gradients(scores, scene.backward_groups(), weights):
        with torch.no_grad(), torch.autocast(scene.images.device.type, enabled=False):
            weighted = (
                (weight.detach().float() * gradient.float()).clamp_(min=0).mean(1)[image[rows]]
                for weight, gradient in zip(reversed(weights), reversed(gradients), strict=True)
            )
            maps[rows] = _maps(combine(weighted, pooling), prefix, grid)
    return outputs.detach(), maps


@register(
    "attention_gradient",
    needs="global attention",
    cost=SHORT_BACKWARD,
    paper="baseline in Chefer et al., CVPR 2021",
    reads="patches",
)
def attention_gradient(scene: Scene) -> OutputsAndMaps:
    """The last block's attention times its gradient, positive part, averaged over heads.

    The class token's row, or the mean of the patches' rows if the classifier pools their mean.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or with another pooling.

    References:
        The "raw attention" and "Grad-CAM" baselines of Chefer et al., CVPR 2021, combined: the gradient is multiplied
        before the mean over heads.
    """

    def pooled(matrices: Iterable[torch.Tensor], pooling: torch.Tensor) -> torch.Tensor:
        (last,) = matrices
        return torch.einsum("l,plm->pm", pooling.to(last), last)

    return gradient_weighted(scene, -1, pooled)


@register(
    "generic_attention",
    needs="global attention",
    cost="1 forward, L backward",
    paper="Chefer et al., ICCV 2021",
    reads="patches",
)
def generic_attention(scene: Scene) -> OutputsAndMaps:
    """Generic attention explanation: R <- R + A R over the blocks, A each block's attention times its gradient.

    A = mean over heads of max(0, dy/dA * A), R = I at first. The map is the class token's row of R without the prefix
    tokens, or the mean of the patches' rows of R - I if the classifier pools their mean: the paper does not say, and
    I alone gives every patch the same.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or with another pooling.

    References:
        Chefer et al., Generic attention-model explainability, ICCV 2021 (equations 5 and 6).
    """
    return gradient_weighted(scene, 0, moved_row)
