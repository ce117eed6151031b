"""Relevance against the published implementation of transformer attribution: one image and one class at a time.

The peer follows the paper and computes the same as its code: a forward pass with a graph, a
backward pass through all weights, and relevance in single precision, each rule by automatic differentiation, the
branches of alpha and of beta both, though beta is 0. Ours makes the maps of a batch of 8 images, two labels each.
The methods with changed backward rules (attnlrp and relatives) run beside it, and a forward pass under no_grad. Random
weights; medians of interleaved runs, in one process.

    python benchmarks/relevance.py [--network vit_small_patch16_224] [--repeats 7] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import timm
import torch
from machine import processor
from torch import nn
from torch.nn import functional

from torchvice import Explainer
from torchvice.files.process import keep_freed_memory

BATCH, SIDE, LABELS = 8, 224, (3, 11)
OTHERS = ("attnlrp", "cp_lrp", "attnlrp_gamma", "generic_attention")


def divide(relevance: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """The published division: 1e-9 is added to the divisor, and what is divided by 0 is 0."""
    safe = total + 1e-9
    safe = safe + safe.eq(0).to(safe.dtype) * 1e-9
    return relevance / safe * total.ne(0).to(safe.dtype)


def rule(function: Callable, inputs: Sequence[torch.Tensor], relevance: torch.Tensor) -> list[torch.Tensor]:
    """Every input times the gradient of the output that carries relevance over output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    total = function(*leaves)
    slopes = torch.autograd.grad(total, leaves, divide(relevance, total))
    return [(leaf * slope).detach() for leaf, slope in zip(leaves, slopes, strict=True)]


def linear(layer: nn.Linear, value: torch.Tensor, relevance: torch.Tensor, alpha: float = 1) -> torch.Tensor:
    """Alpha times the relevance of positive products, less beta = alpha - 1 times that of negative ones."""
    signs = [(part.clamp(min=0), part.clamp(max=0)) for part in (layer.weight.detach(), value.detach())]
    (positive, negative), (up, down) = signs

    def branch(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        ins = [up.clone().requires_grad_(), down.clone().requires_grad_()]
        outs = [functional.linear(ins[0], first), functional.linear(ins[1], second)]
        share = divide(relevance, outs[0] + outs[1])
        pairs = zip(ins, outs, strict=True)
        return sum(one * torch.autograd.grad(out, one, share)[0] for one, out in pairs).detach()  # type: ignore[union-attr,return-value]

    return alpha * branch(positive, negative) - (alpha - 1) * branch(negative, positive)


def add(first: torch.Tensor, second: torch.Tensor, relevance: torch.Tensor) -> list[torch.Tensor]:
    """The parts of a sum, each scaled so that together they have the relevance that was given."""
    parts = rule(torch.add, [first, second], relevance)
    sums = [part.sum() for part in parts]
    both = sums[0].abs() + sums[1].abs()
    shares = [divide(divide(own.abs(), both) * relevance.sum(), own) for own in sums]
    return [part * share for part, share in zip(parts, shares, strict=True)]


def copied(value: torch.Tensor, *relevances: torch.Tensor) -> torch.Tensor:
    """Relevance of a value that has two uses."""
    return sum(rule(torch.clone, [value], relevance)[0] for relevance in relevances)  # type: ignore[return-value]


def scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Queries times keys."""
    return query @ key.transpose(-2, -1)


def forward(model: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[tuple]]:
    """Logits, the normed tokens, and what the rules need of every block."""
    x, kept = model._pos_embed(model.patch_embed(image)), []
    for block in model.blocks:
        before, entered = x, block.norm1(x)
        q, k, v = block.attn.qkv(entered).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (scores(q, k) * block.attn.scale).softmax(-1)
        weights.retain_grad()
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        attended = block.attn.proj(mixed)
        middle = before + attended
        second = block.norm2(middle)
        hidden = block.mlp.act(block.mlp.fc1(second))
        mapped = block.mlp.fc2(hidden)
        x = middle + mapped
        kept.append((before, entered, q, k, v, weights, mixed, attended, middle, second, hidden, mapped))
    tokens = model.norm(x)
    return model.head(tokens[:, 0]), tokens, kept


def published(model: nn.Module, image: torch.Tensor, label: int) -> torch.Tensor:
    """The map (L - 1,) of one image (1, 3, H, W) and one class."""
    logits, tokens, kept = forward(model, image)
    model.zero_grad()
    logits[0, label].backward()
    relevance = linear(
        model.head,
        tokens[:, 0],
        functional.one_hot(torch.tensor([label], device=logits.device), logits.shape[1]).float(),
    )
    (relevance,) = rule(lambda all_tokens: all_tokens[:, 0], [tokens], relevance)
    cams = []
    for block, (before, entered, q, k, v, weights, mixed, attended, middle, second, hidden, mapped) in zip(
        reversed(model.blocks), reversed(kept), strict=True
    ):
        skip, branch = add(middle, mapped, relevance)
        relevance = copied(middle, skip, linear(block.mlp.fc1, second, linear(block.mlp.fc2, hidden, branch)))
        skip, branch = add(before, attended, relevance)
        branch = linear(block.attn.proj, mixed, branch).unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2)
        of_weights, of_v = (part / 2 for part in rule(torch.matmul, [weights, v], branch))
        cams.append((weights.grad * of_weights).clamp(min=0).mean(1)[0])
        of_q, of_k = (part / 2 for part in rule(scores, [q, k], of_weights))
        branch = torch.stack([of_q, of_k, of_v], 2).permute(0, 3, 2, 1, 4).flatten(2)
        relevance = copied(before, skip, linear(block.attn.qkv, entered, branch))
    joint = torch.eye(tokens.shape[1], device=tokens.device)
    for cam in reversed(cams):
        joint = (torch.eye(len(cam), device=cam.device) + cam) @ joint
    return joint[0, 1:]


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two maps, each scaled to [0, 1]."""
    maps = [(m - m.min()) / (m.max() - m.min()) for m in (found.flatten(), expected.flatten())]
    return float((maps[0] - maps[1]).abs().max())


def without_gradients(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The logits of the batch, which two maps an image share."""
    with torch.no_grad():
        return model(images)  # type: ignore[no-any-return]


def measure(name: str, repeats: int, threads: int) -> None:
    """Print the medians for one number of threads."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = timm.create_model(name, num_classes=20).eval()
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    explainer = Explainer(model, "transformer_attribution")
    maps = explainer(images, [LABELS] * BATCH).maps
    explainer(images[:1], [LABELS[:1]])
    away = distance(maps[0], published(model, images[:1], LABELS[0]).detach())
    print(f"{name}, {threads} threads, medians of {repeats}; the first map differs from the peer's by {away:.1e}")
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "published, one by one": (1, lambda: published(model, images[:1], LABELS[0])),
        "torchvice, one by one": (1, lambda: explainer(images[:1], [LABELS[:1]])),
        "torchvice, 8 x 2": (BATCH * len(LABELS), lambda: explainer(images, [LABELS] * BATCH)),
    }
    for method in OTHERS:
        runs[f"{method}, 8 x 2"] = (BATCH * len(LABELS), partial(Explainer(model, method), images, [LABELS] * BATCH))
    runs["a forward pass"] = (BATCH * len(LABELS), partial(without_gradients, model, images))
    times: dict[str, list[float]] = {tool: [] for tool in runs}
    for _ in range(repeats):
        for tool, (number, run) in runs.items():
            begin = time.perf_counter()
            run()
            times[tool].append((time.perf_counter() - begin) / number)
    medians = {tool: statistics.median(seconds) for tool, seconds in times.items()}
    for tool, seconds in medians.items():
        ratios = [first / own for first, own in zip(times["published, one by one"], times[tool], strict=True)]
        passes = [own / pass_ for own, pass_ in zip(times[tool], times["a forward pass"], strict=True)]
        print(
            f"  {tool:25s} {seconds * 1e3:8.1f} ms per map   {statistics.median(ratios):6.2f} times as fast"
            f"   {statistics.median(passes):6.2f} forward passes"
        )


def main() -> None:
    """Measure with every number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="vit_small_patch16_224")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    print(processor())
    for threads in options.threads:
        measure(options.network, options.repeats, threads)


if __name__ == "__main__":
    main()
