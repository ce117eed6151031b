"""Rules of relevance propagation: share the relevance of an output among its inputs (alpha = 1, beta = 0).

Relevance is R = x G. The rules are written for G, or for the share R / y of an output: what depends on the image
alone is one factor for all its labels. Tensors of the forward pass of N images are (N, 1, ...), shares of K labels per
image (N, K, ...).
"""

from __future__ import annotations

import torch

from torchvice.explain.dense import dense

__all__ = [
    "add_scales",
    "copy_rule",
    "inverse",
    "inverse_total",
    "linear_rule",
    "product_gradients",
    "safe_divide",
    "signed_products",
]

_EPS = 1e-9


def safe_divide(relevance: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Compute relevance / (total + 1e-9), and 0 where the total is 0."""
    return relevance * inverse(total)


def inverse(total: torch.Tensor) -> torch.Tensor:
    """Compute 1 / (total + 1e-9), and 0 where the total is 0."""
    result = (total + _EPS).reciprocal_().masked_fill_(total == 0, 0)
    return result.nan_to_num_(posinf=1 / _EPS)  # where the total is -1e-9


def inverse_total(value: torch.Tensor, weight: torch.Tensor, product: torch.Tensor | None = None) -> torch.Tensor:
    """One over the sum of the positive products x_i W_ji (+ 1e-9) of every output j of y = x W^T.

    The sum is (x W^T + |x| |W|^T) / 2. Where that is rounding error, the output has no positive product, and the
    inverse is 0: it passes no relevance on.

    Args:
        value: (N, 1, ..., in), x.
        weight: (out, in).
        product: (N, 1, ..., out), x W^T, if the forward pass has computed it; overwritten.

    Returns:
        (N, 1, ..., out), not negative.
    """
    size = dense(value.abs(), weight.abs())
    total = (dense(value, weight) if product is None else product).add_(size)
    noise = 2 * torch.finfo(size.dtype).eps * weight.shape[1] ** 0.5
    return total.masked_fill_(total <= size.mul_(noise), torch.inf).mul_(0.5).add_(_EPS).reciprocal_()


def signed_products(share: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients (N, K, ..., in) of the shares (N, K, ..., out) at positive and at negative inputs."""
    return dense(share, weight.clamp(min=0).T), dense(share, weight.clamp(max=0).T)


def linear_rule(value: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Rule of y = x W^T + b: the positive products x_i W_ji share the relevance of y_j; the bias gets none.

    Args:
        value: (N, 1, ..., in), x.
        weight: (out, in).
        relevance: (N, K, ..., out).

    Returns:
        (N, K, ..., in). It sums to the given relevance, except for outputs without any positive product.

    References:
        Montavon et al., Pattern Recognition 65 (2017): the alpha-beta rule with alpha = 1.
    """
    positive, negative = signed_products(relevance * inverse_total(value, weight), weight)
    return positive.mul_(value.clamp(min=0)).addcmul_(negative, value.clamp(max=0))


def product_gradients(
    left: torch.Tensor, right: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rule of a matrix product Z = X Y: the terms x_ik y_kj share the relevance of z_ij, half to each factor.

    Args:
        left: (N, 1, ..., i, k), X. right: (N, 1, ..., k, j), Y.
        share: (N, K, ..., i, j), R / (2 Z).

    Returns:
        G (N, K, ..., i, k) of X and (N, K, ..., k, j) of Y: X G and Y G each sum to half of the relevance.
    """
    # Label by label: a product with all labels at once would copy the image's factor for each label.
    of_left = torch.stack([one @ right[:, 0].transpose(-1, -2) for one in share.unbind(1)], 1)
    of_right = torch.stack([left[:, 0].transpose(-1, -2) @ one for one in share.unbind(1)], 1)
    return of_left, of_right


def add_scales(
    first: torch.Tensor, second: torch.Tensor, total: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rule of y = a + b: a and b get their parts of y, a R / y and b R / y, then each is scaled as a whole.

    After scaling a has |A| / (|A| + |B|) of all relevance, A and B the sums of the parts.

    Args:
        first: (N, 1, L, D), a. second: (N, 1, L, D), b. total: (N, 1, L, D), y.
        share: (N, K, L, D), R / y.

    Returns:
        The scales of both parts, (N, K, 1, 1) each.

    References:
        Chefer et al., CVPR 2021, equations 9 and 10.
    """
    sums = [(share * term).sum((2, 3), keepdim=True) for term in (first, second, total)]
    whole = sums[2] + _EPS * share.sum((2, 3), keepdim=True)  # as R = share * (total + 1e-9)
    both = sums[0].abs() + sums[1].abs()
    first_scale, second_scale = (safe_divide(safe_divide(own.abs(), both) * whole, own) for own in sums[:2])
    return first_scale, second_scale


def copy_rule(value: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Rule of a value with several consumers, or of a selection: relevances add up, and are 0 where the value is 0."""
    return relevance * inverse(value).mul_(value)
