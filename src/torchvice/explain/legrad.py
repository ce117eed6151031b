"""LeGrad: how attention moves the logit that the classifier gives to each block's own tokens."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from torchvice.errors import ViceError, errors_quoted
from torchvice.explain.attention import capture_attention, empty_maps, token_layout
from torchvice.explain.attention_blocks import WAY_OUT, attending_network, attention_blocks, foreign_pooling
from torchvice.explain.capture import single_capture
from torchvice.explain.methods import register
from torchvice.explain.scene import OutputsAndMaps, Scene
from torchvice.models.families import token_grid
from torchvice.models.zero_shot import ZeroShot

__all__ = ["legrad"]

# A block's logits (N, M) with their graph, and what gives the gradient (N, heads, Q, L) of a scalar at its attention.
Block = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]


@register(
    "legrad",
    needs="global attention or attention pooling",
    cost="1 forward, L backward within blocks",
    paper="Bousselham et al., ICCV 2025",
    reads="patches",
)
def legrad(scene: Scene) -> OutputsAndMaps:
    """LeGrad: the positive gradient of every block's own logit at its attention, mean over heads, queries and blocks.

    A block's logit is what the last norm and the classifier make of the mean of its tokens, class token included. Its
    gradient goes back within the block only. In a network that pools by attention, as SigLIP, the logit is what the
    pooling makes of the block's tokens, and the attention is that of the pooling. The authors' correction of SigLIP's
    maps by an empty text is left out: a classifier has none.

    Returns:
        outputs (N, M) and maps (P, h, w), not negative.

    Raises:
        ViceError: a network whose blocks or whose way from tokens to logits is not known.

    References:
        Bousselham et al., LeGrad: an explainability method for vision transformers via feature formation sensitivity,
        ICCV 2025 (arXiv 2404.03214).
    """
    blocks = _blocks(scene.model)
    if not scene.needs_maps:
        return scene.forward(scene.images), empty_maps(scene)
    pooled = getattr(attending_network(scene.model), "attn_pool", None) is not None
    (outputs, image, output), grid, logits = (_by_pooling if pooled else _by_attention)(scene, blocks)
    maps = torch.zeros((len(image), *grid), device=outputs.device)
    groups = [torch.tensor(group, device=outputs.device) for group in scene.backward_groups()]
    for scores, gradient_of in logits:
        for rows in groups:
            with torch.enable_grad():
                gradient = gradient_of(scores[image[rows], output[rows]].sum())
            keys = gradient.detach().float().clamp(min=0).mean((1, 2))[image[rows]]
            maps[rows] += keys[:, -grid[0] * grid[1] :].unflatten(1, grid) / len(blocks)
    return outputs.detach(), maps


Found = tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], tuple[int, int], Iterator[Block]]


def _by_attention(scene: Scene, blocks: Sequence[nn.Module]) -> Found:
    """Outputs, image and output of the pairs, the grid, and every block's logits of the mean of its tokens."""
    with capture_attention(scene.model, 0) as attention, _outputs_of(blocks) as tokens:
        outputs = scene.forward(scene.images)
    _, grid = token_layout(scene, attention.last)

    def logits() -> Iterator[Block]:
        for own, weights in zip(tokens, attention.weights, strict=True):
            with torch.enable_grad():
                scores = _classified(scene.model, own.mean(1))
            yield scores, functools.partial(_gradient, at=weights)

    return (outputs, *scene.targets_of(outputs)), grid, logits()


def _gradient(score: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(score, at, retain_graph=True)[0]


def _by_pooling(scene: Scene, blocks: Sequence[nn.Module]) -> Found:
    """The same for a network of timm whose tokens are pooled by attention."""
    with single_capture(scene.model), _outputs_of(blocks) as tokens:
        outputs = scene.forward(scene.images)
    network: Any = attending_network(scene.model)
    grid = scene.grid or token_grid(scene.model, scene.images)
    if grid is None or tokens[-1].shape[1] < grid[0] * grid[1]:
        raise ViceError(f"{type(network).__name__} must have a grid of patches, but has none.", WAY_OUT)

    def logits() -> Iterator[Block]:
        for own in tokens:
            with torch.enable_grad(), _pooling(network.attn_pool) as pooling:
                scores = _finished(scene.model, network.forward_head(network.norm(own)))
            yield scores, pooling.gradient_of

    return (outputs, *scene.targets_of(outputs)), grid, logits()


class _Pooling:
    """What passes through a pooling by attention: its `values` (N, heads, L, d) and `attended` (N, Q, heads d)."""

    values: torch.Tensor
    attended: torch.Tensor

    def gradient_of(self, score: torch.Tensor) -> torch.Tensor:
        """The gradient (N, heads, Q, L) at the attention A: attended = A values, so it is G values^T."""
        (gradient,) = torch.autograd.grad(score, self.attended, retain_graph=True)
        heads = gradient.unflatten(2, (self.values.shape[1], -1)).transpose(1, 2)
        return heads @ self.values.transpose(2, 3)


@contextlib.contextmanager
def _pooling(pool: Any) -> Iterator[_Pooling]:
    """Keep what passes through timm's AttentionPoolLatent inside the block; its attention itself may be fused."""
    kept = _Pooling()

    def values(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        kept.values = output.detach().unflatten(2, (2, pool.num_heads, -1))[:, :, 1].transpose(1, 2)

    def attended(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        kept.attended = args[0].detach().requires_grad_(True)
        return (kept.attended.clone(), *args[1:])

    handles = [pool.kv.register_forward_hook(values), pool.proj.register_forward_pre_hook(attended)]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _outputs_of(blocks: Sequence[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Keep the tokens (N, L, D) that each block gives in the pass inside the block."""
    tokens: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda _, __, output: tokens.append(output)) for block in blocks]
    try:
        yield tokens
    finally:
        for handle in handles:
            handle.remove()


def _blocks(model: nn.Module) -> Sequence[nn.Module]:
    """The blocks of a network of timm, torchvision or open_clip.

    Raises:
        ViceError: another network.
    """
    network: Any = attending_network(model)
    if hasattr(network, "encoder") and hasattr(network, "heads"):
        return list(network.encoder.layers)
    if hasattr(network, "transformer") and hasattr(network, "ln_post") and network.transformer.batch_first:
        return list(network.transformer.resblocks)
    pool = getattr(network, "attn_pool", None)
    known = pool is None or (hasattr(pool, "kv") and hasattr(pool, "proj") and hasattr(network, "forward_head"))
    if foreign_pooling(model) is not None or not known:
        raise _unknown(network)
    if pool is None:
        attention_blocks(model)  # refuses what attends otherwise
    if not hasattr(network, "norm") or not hasattr(network, "head") or not hasattr(network, "blocks"):
        raise _unknown(network)
    return list(network.blocks)


def _unknown(network: nn.Module) -> ViceError:
    return ViceError(
        f"'legrad' must know how {type(network).__name__} makes logits of its tokens, but does not.", WAY_OUT
    )


def _classified(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (N, M) of pooled tokens (N, D)."""
    shape = tuple(tokens.shape)
    with errors_quoted(f"The classifier of {type(model).__name__} must take pooled tokens {shape}"):
        return _logits_of(model, tokens)


def _logits_of(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    network: Any = attending_network(model)
    if hasattr(network, "encoder") and hasattr(network, "heads"):
        return torch.as_tensor(network.heads(network.encoder.ln(tokens)))
    if hasattr(network, "ln_post"):
        normed = network.ln_post(tokens)
        return _finished(model, normed if network.proj is None else normed @ network.proj)
    normed = getattr(network, "fc_norm", nn.Identity())(network.norm(tokens))
    logits = network.head(normed)
    other = getattr(network, "head_dist", None)
    return _finished(model, logits if other is None else (logits + other(normed)) / 2)


def _finished(model: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    """Logits of a network's outputs: a zero-shot classifier compares them with its texts."""
    if not isinstance(model, ZeroShot):
        return outputs
    tower: Any = model.tower
    features = tower.head(outputs) if hasattr(tower, "trunk") else outputs
    logits: torch.Tensor = model.classifier(functional.normalize(features, dim=-1))
    return logits
