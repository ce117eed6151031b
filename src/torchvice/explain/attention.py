"""Maps from attention: every block's softmaxed weights, borrowed from one forward pass, and what is made of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain.capture import exclusive
from torchvice.explain.scene import Scene
from torchvice.models.families import token_grid

__all__ = [
    "Attentions",
    "attending",
    "attention_gradient",
    "attention_layers",
    "generic_attention",
    "no_maps",
    "patches",
    "read_out",
    "rollout",
    "slopes",
    "tokens_read",
    "unfused",
]

Maps = tuple[torch.Tensor, torch.Tensor]
_WAY_OUT = "Use method='gradcam', which fits every network."


@dataclass
class Attentions:
    """What a pass left: `weights`, one (N, heads, L, L) for each block that is kept, in their order; rows sum to 1."""

    weights: list[torch.Tensor] = field(default_factory=list)

    @property
    def last(self) -> torch.Tensor:
        """The last block's.

        Raises:
            ViceError: the pass reached no attention, as that of a compiled model may.
        """
        if not self.weights:
            raise ViceError(
                "The pass must go through the blocks' attention, but no module of it was reached.",
                "Give the model itself, not its compiled or scripted form.",
            )
        return self.weights[-1]


def attention_layers(model: nn.Module) -> list[nn.Module]:
    """For every block of a ViT-like network the module that its softmaxed attention goes through.

    timm's VisionTransformer (DeiT, registers, parallel blocks), BEiT, EVA and their relatives have one in each block:
    the dropout of the attention, which does nothing under eval mode.

    Raises:
        ViceError: a network without global attention between tokens, or with several attentions a block.
    """
    name = type(model).__name__
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks) or not hasattr(model, "patch_embed"):
        windows = any("window" in type(module).__name__.lower() for module in model.modules())
        reason = "attends within windows only" if windows else "has no sequence of blocks in which all tokens attend"
        raise ViceError(f"The network must attend globally, as a ViT does, but {name} {reason}.", _WAY_OUT)
    layers = []
    for number, block in enumerate(blocks):
        modules = dict(block.named_modules())
        found = [modules[path] for path in ("attn.attn_drop", "attn_drop") if path in modules]
        if len(found) != 1:
            raise ViceError(f"Every block must have one attention, but block {number} of {name} has not.", _WAY_OUT)
        if any("Diff" in type(module).__name__ for module in (block, modules.get("attn"))):
            raise ViceError(f"A block must use the attention it has, but {name} subtracts two of them.", _WAY_OUT)
        layers.append(found[0])
    return layers


@contextlib.contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Without fused attention, which never shows its weights, nor checkpointing, which runs blocks a second time."""
    borrowed = [
        (module, name)
        for module in model.modules()
        for name in ("fused_attn", "grad_checkpointing")
        if name in vars(module)
    ]
    before = [(module, name, getattr(module, name)) for module, name in borrowed]
    try:
        for module, name in borrowed:
            setattr(module, name, False)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@contextlib.contextmanager
def attending(model: nn.Module, since: int | None = None) -> Iterator[Attentions]:
    """Keep the softmaxed attention of the network's blocks in the pass that follows; all comes back as it was.

    Args:
        model: in eval mode.
        since: the first block that is kept, and whose attention is the leaf of a graph, so that gradients with respect
            to it and the ones behind it exist; negative counts from the last. None: all blocks, without gradients.

    Raises:
        ViceError: a network without global attention, or one whose capture is under way already.
    """
    layers, kept = attention_layers(model), Attentions()
    first = layers[0 if since is None else since % len(layers)]
    grad = torch.is_grad_enabled()

    def keep(layer: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        if layer is first and since is not None:
            torch.set_grad_enabled(True)
            output = output.detach().requires_grad_(True)
        kept.weights.append(output)
        return output

    with exclusive(model), unfused(model):
        handles = [layer.register_forward_hook(keep) for layer in layers[layers.index(first) :]]
        try:
            yield kept
        finally:
            torch.set_grad_enabled(grad)
            for handle in handles:
                handle.remove()


def tokens_read(model: nn.Module, tokens: int, prefix: int) -> torch.Tensor:
    """How much of each token the classifier reads, (L,) summing to 1.

    The class token where there is token pooling (the class and the distillation token, half each, where each has its
    classifier), the mean of the patches where the pool is their mean.

    Raises:
        ViceError: another pool, whose own weights this says nothing of.
    """
    share = torch.zeros(tokens)
    pool = getattr(model, "global_pool", None)
    if getattr(model, "head_dist", None) is not None:
        share[:2] = 0.5
    elif getattr(model, "attn_pool", None) is None and pool == "token" and prefix:
        share[0] = 1
    elif getattr(model, "attn_pool", None) is None and pool == "avg":
        start = 0 if getattr(model, "pool_include_prefix", False) else prefix
        share[start:] = 1 / (tokens - start)
    else:
        raise ViceError(
            f"The classifier must read the class token or the mean of the patches, but {type(model).__name__} pools by "
            f"{pool!r}.",
            _WAY_OUT,
        )
    return share


def read_out(matrices: Iterable[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
    """read (I + A_b) ... (I + A_1): what the tokens that are read owe to each input token.

    One row goes through the matrices, from the last to the first: L^2 steps a block, where their product takes L^3.

    Args:
        matrices: (P, L, L) of every block, the last block's first.
        read: (L,), how much of each token is read.

    Returns:
        (P, L).
    """
    row: torch.Tensor | None = None
    for matrix in matrices:
        if row is None:
            row = read.to(matrix).expand(len(matrix), -1)
        row = row + torch.einsum("pl,plm->pm", row, matrix)
    if row is None:
        raise ViceError("There must be a block to read out, but there is none.")
    return row


def patches(scene: Scene, attention: torch.Tensor) -> tuple[int, tuple[int, int]]:
    """The number of prefix tokens before the patches, and their grid (h, w).

    Raises:
        ViceError: the attention (N, heads, L, L) is not between all tokens, or its rows do not sum to 1.
    """
    name, shape = type(scene.model).__name__, tuple(attention.shape)
    prefix = int(getattr(scene.model, "num_prefix_tokens", 0))
    # The site knows the grid of hybrids, whose patches are not pixels; where it is no site of tokens, the patches do.
    grids = [grid for grid in (scene.grid, token_grid(scene.model, scene.images)) if grid]
    fitting = [(h, w) for h, w in grids if shape[1:] == (shape[1], prefix + h * w, prefix + h * w)]
    if not fitting:
        said = f"{prefix} + {grids[0]}" if grids else "patch"
        raise ViceError(f"{name} must attend between {said} tokens, but attends in shape {shape}.", _WAY_OUT)
    sums = attention[:1].detach().float().sum(-1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=0.05):  # half precisions keep to 1 within some 1e-2
        raise ViceError(f"The attention of a token must sum to 1, but that of {name} does not.", _WAY_OUT)
    return prefix, fitting[0]


def _maps(row: torch.Tensor, prefix: int, grid: tuple[int, int]) -> torch.Tensor:
    """(P, L) as maps (P, h, w), without the prefix tokens."""
    return row[:, prefix:].unflatten(1, grid)


def no_maps(scene: Scene) -> torch.Tensor:
    """Maps (0, h, w), for a batch of which none is asked for."""
    return scene.images.new_zeros((0, *(scene.grid or (1, 1))), dtype=torch.float32)


def slopes(
    scores: torch.Tensor, turns: Sequence[Sequence[int]], weights: Sequence[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, Sequence[torch.Tensor]]]:
    """For every turn the rows of its pairs, and the gradients (N, heads, L, L) of their scores at every attention.

    One backward pass serves all blocks, and one label of every image.

    Args:
        scores: (P,), the outputs that are explained, with their graph.
        turns: rows of pairs, each turn of one label an image.
        weights: the attentions.
    """
    for number, turn in enumerate(turns):
        rows = torch.tensor(turn, device=scores.device)
        more = number + 1 < len(turns)
        with torch.enable_grad():
            yield rows, torch.autograd.grad(scores[rows].sum(), list(weights), retain_graph=more)


def rollout(scene: Scene) -> Maps:
    """Attention rollout: the heads' mean attention, identity added and rows normalised, multiplied over the blocks.

    What the tokens that the classifier reads owe to each patch; the class token's row, or the mean of the patches' rows
    where the classifier reads their mean. It knows no class: every label of an image gets the same map.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or one that pools by something else.

    References:
        Abnar and Zuidema, Quantifying attention flow in transformers, ACL 2020.
    """
    with attending(scene.model) as kept:
        outputs = scene.forward(scene.images)
    image, _ = scene.targets_of(outputs)
    prefix, grid = patches(scene, kept.last)
    read = tokens_read(scene.model, kept.last.shape[-1], prefix)
    with torch.autocast(scene.images.device.type, enabled=False):
        # (A + I) / 2 has rows that sum to 1: halving the row after each block is the normalisation.
        means = (weights.float().mean(1) for weights in reversed(kept.weights))
        row = read_out(means, read) * 0.5 ** len(kept.weights)
        return outputs, _maps(row, prefix, grid)[image]


def _by_gradient(
    scene: Scene, since: int, combine: Callable[[Iterable[torch.Tensor], torch.Tensor], torch.Tensor]
) -> Maps:
    """Maps from attention times its gradient, positive part, averaged over heads, of the blocks from `since` on."""
    if not scene.asks:
        return scene.forward(scene.images), no_maps(scene)
    with attending(scene.model, since) as kept:
        outputs = scene.forward(scene.images)
    weights = kept.weights
    prefix, grid = patches(scene, kept.last)
    read = tokens_read(scene.model, kept.last.shape[-1], prefix)
    image, output = scene.targets_of(outputs)
    maps = torch.empty((len(image), *grid), device=outputs.device)
    with torch.enable_grad():
        scores = outputs[image, output]
    for rows, gradients in slopes(scores, scene.turns(), weights):
        with torch.no_grad(), torch.autocast(scene.images.device.type, enabled=False):
            weighted = (
                (weight.detach().float() * gradient.float()).clamp_(min=0).mean(1)[image[rows]]
                for weight, gradient in zip(reversed(weights), reversed(gradients), strict=True)
            )
            maps[rows] = _maps(combine(weighted, read), prefix, grid)
    return outputs.detach(), maps


def attention_gradient(scene: Scene) -> Maps:
    """The last block's attention times its gradient, positive part, averaged over heads.

    The class token's row, or the mean of the patches' rows where the classifier reads their mean.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or one that pools by something else.

    References:
        The "raw attention" and "Grad-CAM" baselines of Chefer et al., CVPR 2021, in one: the gradient enters before the
        mean over heads.
    """

    def read_once(matrices: Iterable[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
        (last,) = matrices
        return torch.einsum("l,plm->pm", read.to(last), last)

    return _by_gradient(scene, -1, read_once)


def generic_attention(scene: Scene) -> Maps:
    """Generic attention explanation: R <- R + A R over the blocks, A each block's attention times its gradient.

    A = mean over heads of max(0, dy/dA * A), R = I at first. The map is the class token's row of R without the prefix
    tokens, or the mean of the patches' rows where the classifier reads their mean.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network without global attention, or one that pools by something else.

    References:
        Chefer et al., Generic attention-model explainability, ICCV 2021 (equations 5 and 6).
    """
    return _by_gradient(scene, 0, read_out)
