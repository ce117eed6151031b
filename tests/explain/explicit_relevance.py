"""Relevance of a ViT of timm layer by layer, as the formulas of AttnLRP and CP-LRP state it: divisions, no gradients.

It is written for float64: it divides by every tensor of the pass.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def of_linear(value, weight, output, relevance):
    """R_i = x_i sum_j w_ji R_j / y_j; the bias keeps its part."""
    return value * ((relevance / output) @ weight)


def of_norm(value, norm, output, relevance):
    """Divided by a constant; the subtraction of the mean is linear."""
    centred = value - value.mean(-1, keepdim=True)
    scaled = centred * norm.weight / (value.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    share = scaled * relevance / output / centred
    return value * (share - share.mean(-1, keepdim=True))


def of_product(left, right, product, relevance):
    """Half of the relevance to each factor."""
    share = relevance / product / 2
    return left * (share @ right.mT), right * (left.mT @ share)


def of_softmax(scores, weights, relevance):
    """R_i = x_i (R_i - s_i sum_j R_j)."""
    return scores * (relevance - weights * relevance.sum(-1, keepdim=True))


def of_attention(query, key, value, scale, relevance, constant):
    """Relevance of queries, keys and values; all to the values if the attention is a constant."""
    scores = query @ key.mT * scale
    weights = scores.softmax(-1)
    if constant:
        return 0 * query, 0 * key, value * (weights.mT @ (relevance / (weights @ value)))
    of_weights, of_value = of_product(weights, value, weights @ value, relevance)
    of_query, of_key = of_product(query, key.mT, query @ key.mT, of_softmax(scores, weights, of_weights))
    return of_query, of_key.mT, of_value


def of_sum(first, total, relevance):
    """A summand's part of a sum."""
    return first * relevance / total


def explicit_relevance(model, image, output, constant_attention):
    """Relevance (H, W) of the pixels of one image (1, 3, H, W) for one output, summed over colours."""
    patches = model.patch_embed(image)
    x, kept = model._pos_embed(patches), []
    for block in model.blocks:
        entered = block.norm1(x)
        qkv = block.attn.qkv(entered)
        q, k, v = qkv.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT * block.attn.scale).softmax(-1) @ v).transpose(1, 2).flatten(2)
        attended = block.attn.proj(mixed)
        middle = x + attended
        second = block.norm2(middle)
        hidden = block.mlp.fc1(second)
        mapped = block.mlp.fc2(functional.gelu(hidden))
        kept.append((x, entered, qkv, q, k, v, mixed, attended, middle, second, hidden, mapped))
        x = middle + mapped
    normed = model.norm(x)
    logits = model.head(normed[:, 0])
    relevance = torch.zeros_like(logits)
    relevance[0, output] = logits[0, output]
    of_class = of_linear(normed[:, 0], model.head.weight, logits, relevance)
    relevance = torch.zeros_like(normed)
    relevance[:, 0] = of_class
    relevance, total = of_norm(x, model.norm, normed, relevance), x
    for block, (x, entered, qkv, q, k, v, mixed, attended, middle, second, hidden, mapped) in zip(
        reversed(model.blocks), reversed(kept), strict=True
    ):
        branch = of_linear(
            functional.gelu(hidden), block.mlp.fc2.weight, mapped, of_sum(mapped, total, relevance)
        )  # passes the GELU as it is
        branch = of_norm(middle, block.norm2, second, of_linear(second, block.mlp.fc1.weight, hidden, branch))
        relevance = of_sum(middle, total, relevance) + branch
        branch = of_linear(mixed, block.attn.proj.weight, attended, of_sum(attended, middle, relevance))
        branch = branch.unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2)
        parts = of_attention(q, k, v, block.attn.scale, branch, constant_attention)
        branch = torch.stack(parts, 2).permute(0, 3, 2, 1, 4).flatten(2)
        branch = of_norm(x, block.norm1, entered, of_linear(entered, block.attn.qkv.weight, qkv, branch))
        relevance, total = of_sum(x, middle, relevance) + branch, x
    of_patches = of_sum(patches, total[:, 1:], relevance[:, 1:])
    weight, side = model.patch_embed.proj.weight.flatten(1), model.patch_embed.patch_size[0]
    columns = functional.unfold(image, side, stride=side).mT
    of_columns = of_linear(columns, weight, patches, of_patches)
    return functional.fold(of_columns.mT, image.shape[2:], side, stride=side)[0].sum(0)
