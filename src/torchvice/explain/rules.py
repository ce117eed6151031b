"""Rules of relevance: how what an output has is shared among what made it, step by step (alpha = 1, beta = 0).

Every rule is a pure function of what the forward pass had of N images, (N, 1, ...), and of the relevance of K labels of
each, (N, K, ...): what hangs on the image alone is computed once for all its labels.
"""

from __future__ import annotations

import torch

from torchvice.explain.dense import dense

__all__ = ["add_rule", "copy_rule", "linear_rule", "product_rule", "safe_divide"]

_EPS = 1e-9


def safe_divide(relevance: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """relevance / (total + 1e-9), and 0 where the total is 0."""
    return relevance * _inverse(total)


def _inverse(total: torch.Tensor) -> torch.Tensor:
    inverse = (total + _EPS).reciprocal_().masked_fill_(total == 0, 0)
    return inverse.nan_to_num_(posinf=1 / _EPS)  # where the total is -1e-9


def linear_rule(
    value: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor, product: torch.Tensor | None = None
) -> torch.Tensor:
    """The rule of y = x W^T + b: the positive products x_i W_ji share the relevance of y_j; the bias earns nothing.

    The positive products of an output sum to (x W^T + |x| |W|^T) / 2. Of outputs where that is rounding error, which
    have no positive product, nothing is passed on.

    Args:
        value: (N, 1, ..., in), what went in.
        weight: (out, in).
        relevance: (N, K, ..., out).
        product: (N, 1, ..., out), x W^T, where the forward pass has it.

    Returns:
        (N, K, ..., in). Its sum is that of the relevance given, but for outputs without any positive product.

    References:
        Montavon et al., Pattern Recognition 65 (2017): the alpha-beta rule with alpha = 1.
    """
    size = dense(value.abs(), weight.abs())
    total = (dense(value, weight) if product is None else product) + size
    noise = 2 * torch.finfo(size.dtype).eps * weight.shape[1] ** 0.5
    total = total.masked_fill_(total <= size.mul_(noise), 0).mul_(0.5)
    share = safe_divide(relevance, total)
    of_positive = dense(share, weight.clamp(min=0).T).mul_(value.clamp(min=0))
    return of_positive.addcmul_(dense(share, weight.clamp(max=0).T), value.clamp(max=0))


def product_rule(
    left: torch.Tensor, right: torch.Tensor, product: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rule of a matrix product Z = X Y: the terms x_ik y_kj share the relevance of z_ij, half to either factor.

    Args:
        left: (N, 1, ..., i, k). right: (N, 1, ..., k, j). product: (N, 1, ..., i, j), Z.
        relevance: (N, K, ..., i, j).

    Returns:
        (N, K, ..., i, k) and (N, K, ..., k, j), each of which sums to half the relevance given.
    """
    share = relevance * _inverse(product).mul_(0.5)
    # Label by label: a product of the image's factor and all labels' relevance would copy the factor for each.
    of_left = torch.stack([one @ right[:, 0].transpose(-1, -2) for one in share.unbind(1)], 1)
    of_right = torch.stack([left[:, 0].transpose(-1, -2) @ one for one in share.unbind(1)], 1)
    return of_left.mul_(left), of_right.mul_(right)


def add_rule(
    first: torch.Tensor, second: torch.Tensor, total: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rule of y = a + b: a and b take their parts of y, then each is scaled as a whole.

    After scaling a has |A| / (|A| + |B|) of all relevance, A and B the sums of the parts.

    Args:
        first: (N, 1, L, D), a. second: (N, 1, L, D), b. total: (N, 1, L, D), y. relevance: (N, K, L, D).

    Returns:
        (N, K, L, D) twice; together they sum to the relevance given.

    References:
        Chefer et al., CVPR 2021, equations 9 and 10.
    """
    share = safe_divide(relevance, total)
    whole = relevance.sum((2, 3), keepdim=True)
    parts = first * share, share.mul_(second)
    own = [part.sum((2, 3), keepdim=True) for part in parts]
    both = own[0].abs() + own[1].abs()
    for part, mine in zip(parts, own, strict=True):
        part.mul_(safe_divide(safe_divide(mine.abs(), both) * whole, mine))
    return parts


def copy_rule(value: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """The rule of a value that goes several ways or is picked out: what comes back adds up, and stays off zeros."""
    return relevance * _inverse(value).mul_(value)
