"""Rules of relevance propagation: share the relevance of an output among its inputs (alpha = 1, beta = 0).

Every rule is a pure function of tensors of the forward pass of N images, (N, 1, ...), and of the relevance of K labels
per image, (N, K, ...). Terms that depend only on the image are computed once for all its labels.
"""

from __future__ import annotations

import torch

from torchvice.explain.dense import dense

__all__ = ["add_rule", "copy_rule", "linear_rule", "product_rule", "safe_divide"]

_EPS = 1e-9


def safe_divide(relevance: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Compute relevance / (total + 1e-9), and 0 where the total is 0."""
    return relevance * _inverse(total)


def _inverse(total: torch.Tensor) -> torch.Tensor:
    inverse = (total + _EPS).reciprocal_().masked_fill_(total == 0, 0)
    return inverse.nan_to_num_(posinf=1 / _EPS)  # where the total is -1e-9


def linear_rule(
    value: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor, product: torch.Tensor | None = None
) -> torch.Tensor:
    """Rule of y = x W^T + b: the positive products x_i W_ji share the relevance of y_j; the bias gets none.

    The positive products of an output sum to (x W^T + |x| |W|^T) / 2. Where that is rounding error, the output has no
    positive product and passes no relevance on.

    Args:
        value: (N, 1, ..., in), x.
        weight: (out, in).
        relevance: (N, K, ..., out).
        product: (N, 1, ..., out), x W^T, if the forward pass has computed it.

    Returns:
        (N, K, ..., in). It sums to the given relevance, except for outputs without any positive product.

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
    """Rule of a matrix product Z = X Y: the terms x_ik y_kj share the relevance of z_ij, half to each factor.

    Args:
        left: (N, 1, ..., i, k). right: (N, 1, ..., k, j). product: (N, 1, ..., i, j), Z.
        relevance: (N, K, ..., i, j).

    Returns:
        (N, K, ..., i, k) and (N, K, ..., k, j), each of which sums to half the given relevance.
    """
    share = relevance * _inverse(product).mul_(0.5)
    # Label by label: a product with all labels at once would copy the image's factor for each label.
    of_left = torch.stack([one @ right[:, 0].transpose(-1, -2) for one in share.unbind(1)], 1)
    of_right = torch.stack([left[:, 0].transpose(-1, -2) @ one for one in share.unbind(1)], 1)
    return of_left.mul_(left), of_right.mul_(right)


def add_rule(
    first: torch.Tensor, second: torch.Tensor, total: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rule of y = a + b: a and b get their parts of y, then each is scaled as a whole.

    After scaling a has |A| / (|A| + |B|) of all relevance, A and B the sums of the parts.

    Args:
        first: (N, 1, L, D), a. second: (N, 1, L, D), b. total: (N, 1, L, D), y. relevance: (N, K, L, D).

    Returns:
        (N, K, L, D) twice; together they sum to the given relevance.

    References:
        Chefer et al., CVPR 2021, equations 9 and 10.
    """
    share = safe_divide(relevance, total)
    whole = relevance.sum((2, 3), keepdim=True)
    parts = first * share, share.mul_(second)
    sums = [part.sum((2, 3), keepdim=True) for part in parts]
    both = sums[0].abs() + sums[1].abs()
    for part, own in zip(parts, sums, strict=True):
        part.mul_(safe_divide(safe_divide(own.abs(), both) * whole, own))
    return parts


def copy_rule(value: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Rule of a value with several consumers, or of a selection: relevances add up, and are 0 where the value is 0."""
    return relevance * _inverse(value).mul_(value)
