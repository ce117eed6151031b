"""Tables of backward rules, by the name of torch's function.

Norms are linear with a constant divisor, activations and gates are constant factors, and a product of two tensors of
the image gives half of its relevance to each. The methods differ in the attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.explain.surrogate import Rule, Rules, needs_gradient

__all__ = ["ATTNLRP", "CP_LRP", "multihead", "scaled"]

Function = Callable[..., Any]
Args = tuple[Any, ...]
Keywords = dict[str, Any]

# Their own gradient is the rule: linear in what depends on the image, or a selection of it.
_LINEAR = """
    add sub rsub radd iadd isub neg sum mean cat concat stack linear conv1d conv2d conv3d conv_transpose2d batch_norm
    avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d max_pool2d max_pool2d_with_indices
    adaptive_max_pool2d amax max interpolate upsample pad dropout
    reshape reshape_as view view_as flatten unflatten permute transpose t movedim moveaxis swapaxes squeeze unsqueeze
    expand expand_as repeat repeat_interleave tile chunk split split_with_sizes tensor_split unbind select narrow
    getitem gather index_select take_along_dim roll flip rot90 unfold fold pixel_shuffle pixel_unshuffle channel_shuffle
    masked_fill where contiguous clone to type type_as float double half bfloat16 cpu cuda get
    diagonal tril triu meshgrid broadcast_to broadcast_tensors
"""
_ACTIVATIONS = """
    relu relu6 gelu silu leaky_relu prelu elu selu celu hardswish hardtanh mish softplus tanh softsign logsigmoid
    clamp clamp_min clip abs pow square
"""
# Of these the value is a constant: gates, and what a norm divides by.
_CONSTANTS = "sigmoid hardsigmoid norm vector_norm linalg_vector_norm var std rsqrt sqrt reciprocal exp var_mean"
_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # torch's arguments, by their places


class _Scaled(torch.autograd.Function):
    """An output y of x, whose gradient at x is a constant factor times that at y."""

    @staticmethod
    def forward(
        ctx: Any, value: torch.Tensor, output: list[torch.Tensor], factor: torch.Tensor | float
    ) -> torch.Tensor:
        ctx.factor = factor
        return output[0]  # in a list: an argument that is returned could not be written to

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0] * ctx.factor, None, None


def scaled(value: torch.Tensor, factor: torch.Tensor | float, output: torch.Tensor | None = None) -> torch.Tensor:
    """Return `output`, default the value itself, with factor times its gradient as the gradient at the value."""
    result: torch.Tensor = _Scaled.apply(value, [(value if output is None else output).detach()], factor)
    return result


def _activation(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """y = g(x): x times the constant g(x) / x; 0 where x is 0. A function in place writes y, with its rule, to x."""
    value, *rest = args
    with torch.no_grad():
        copy = value.detach().clone()
        output = function(copy, *rest, **keywords)
        factor = (output / value).nan_to_num_(0, 0, 0)
    result = scaled(value, factor, output)
    return value.copy_(result) if output is copy else result


def _in_place(output: Any, args: Args) -> bool:
    """Whether a function wrote to its first argument: other names of that tensor must have the rule, too."""
    return any(output is one for one in args[:1])


def _constant(function: Function, args: Args, keywords: Keywords) -> Any:
    with torch.no_grad():
        output = function(*args, **keywords)
    return output.detach_() if _in_place(output, args) else output


def _product(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """Half of the relevance to each of two factors that depend on the image."""
    factors = [one for one in (*args, *keywords.values()) if needs_gradient(one)]
    if len(factors) == 1 and isinstance(factors[0], list | tuple):  # einsum takes a list, too
        factors = [one for one in factors[0] if needs_gradient(one)]
    output: torch.Tensor = function(*args, **keywords)
    if len(factors) < 2:
        return output
    result = scaled(output, 1 / len(factors))
    return output.copy_(result) if _in_place(output, args) else result


def _divide(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """A divisor is a constant."""
    names = dict(zip(("input", "other"), args, strict=False)) | keywords
    value, divisor = names.pop("input"), names.pop("other")
    divisor = divisor.detach() if isinstance(divisor, torch.Tensor) else divisor
    result: torch.Tensor = function(value, divisor, **names)
    return result


def _sum_and_product(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """a + value b c, torch's addcmul."""
    names = dict(zip(("input", "tensor1", "tensor2"), args, strict=False)) | keywords
    add = torch.Tensor.add_ if function.__name__ == "addcmul_" else torch.add
    product = _product(torch.mul, (names["tensor1"], names["tensor2"]), {})
    result: torch.Tensor = add(names["input"], product, alpha=names.get("value", 1))
    return result


class _CentredNorm(torch.autograd.Function):
    """A layer norm whose divisor is a constant: its gradient keeps the subtraction of the mean."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, shape: list[int], weight: Any, bias: Any, eps: float) -> torch.Tensor:
        output, _, inverse = torch.native_layer_norm(value, shape, weight, bias, eps)
        ctx.weight, ctx.inverse, ctx.dims = weight, inverse, tuple(range(-len(shape), 0))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weighted = gradients[0] if ctx.weight is None else gradients[0] * ctx.weight
        centred = weighted - weighted.mean(ctx.dims, keepdim=True)
        return centred.mul_(ctx.inverse), None, None, None, None


def _layer_norm(_: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    names = dict(zip(("input", "normalized_shape", "weight", "bias", "eps"), args, strict=False)) | keywords
    shape, weight, bias = list(names["normalized_shape"]), names.get("weight"), names.get("bias")
    result: torch.Tensor = _CentredNorm.apply(names["input"], shape, weight, bias, names.get("eps", 1e-5))
    return result


def _rms_norm(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    names = dict(zip(("input", "normalized_shape", "weight", "eps"), args, strict=False)) | keywords
    value, weight, eps = names["input"], names.get("weight"), names.get("eps")
    dims = tuple(range(-len(names["normalized_shape"]), 0))
    with torch.no_grad():
        square = value.square().mean(dims, keepdim=True)
        factor = (square + (torch.finfo(value.dtype).eps if eps is None else eps)).rsqrt()
        output = function(*args, **keywords)
    return scaled(value, factor if weight is None else factor * weight, output)


def _group_norm(_: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    names = dict(zip(("input", "num_groups", "weight", "bias", "eps"), args, strict=False)) | keywords
    value, weight, bias = names["input"], names.get("weight"), names.get("bias")
    grouped = value.unflatten(1, (names["num_groups"], -1)).flatten(2)
    centred = grouped - grouped.mean(2, keepdim=True)
    variance = grouped.detach().var(2, keepdim=True, unbiased=False)
    result: torch.Tensor = (centred * (variance + names.get("eps", 1e-5)).rsqrt()).reshape(value.shape)
    by_channel = (-1, *[1] * (value.ndim - 2))
    result = result if weight is None else result * weight.reshape(by_channel)
    return result if bias is None else result + bias.reshape(by_channel)


def _normalize(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """Vectors of length 1: the length is a constant."""
    names = dict(zip(("input", "p", "dim", "eps"), args, strict=False)) | keywords
    value, eps = names["input"], names.get("eps", 1e-12)
    with torch.no_grad():
        length = value.norm(names.get("p", 2.0), names.get("dim", 1), keepdim=True).clamp_min(eps)
        output = function(*args, **keywords)
    return scaled(value, length.reciprocal(), output)


def _shared_attention(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """Softmax(Q K^T) V: half of the relevance to V, a quarter each to Q and K; the softmax has its own gradient."""
    names = dict(zip(_ATTENTION, args, strict=False)) | keywords
    half = {name: scaled(names[name], 0.5) for name in ("query", "key") if names[name].requires_grad}
    return scaled(function(**names | half), 0.5)


def _constant_attention(function: Function, args: Args, keywords: Keywords) -> torch.Tensor:
    """Softmax(Q K^T) V: all relevance to V."""
    names = dict(zip(_ATTENTION, args, strict=False)) | keywords
    result: torch.Tensor = function(**names | {name: names[name].detach() for name in ("query", "key")})
    return result


def _plain(function: Function, args: Args, keywords: Keywords) -> Any:
    return function(*args, **keywords)


def multihead(attend: Rule, linear: Rule = _plain) -> Rule:
    """Rule of torch's own attention module: its steps, with the rules of the attention itself and of linear layers."""

    def rule(function: Function, args: Args, keywords: Keywords) -> tuple[torch.Tensor, None]:
        query, key, value, _, heads, weight, bias, bias_k, bias_v, zeros, _, out_weight, out_bias, *_ = args
        mask = keywords.get("attn_mask")
        if keywords.get("use_separate_proj_weight") or bias_k is not None or bias_v is not None or zeros:
            raise ViceError("Relevance needs an attention of queries, keys and values, but this one has further ones.")
        parts = zip((query, key, value), weight.chunk(3), (None,) * 3 if bias is None else bias.chunk(3), strict=True)
        entered = [linear(functional.linear, part, {}) for part in parts]
        by_head = [part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in entered]
        if mask is not None and mask.ndim == 3:
            mask = mask.unflatten(0, (-1, heads))
        mixed = attend(functional.scaled_dot_product_attention, tuple(by_head), {"attn_mask": mask})
        mixed = mixed.permute(2, 0, 1, 3).flatten(2)
        return linear(functional.linear, (mixed, out_weight, out_bias), {}), None

    return rule


_COMMON: dict[str, Rule | None] = {
    **dict.fromkeys(_LINEAR.split()),
    **dict.fromkeys(_ACTIVATIONS.split(), _activation),
    **dict.fromkeys(_CONSTANTS.split(), _constant),
    **dict.fromkeys(("mul", "multiply", "rmul", "imul"), _product),
    **dict.fromkeys(("div", "truediv", "true_divide", "divide", "itruediv"), _divide),
    "addcmul": _sum_and_product,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "normalize": _normalize,
}
_MATRIX_PRODUCTS = ("matmul", "bmm", "einsum")

ATTNLRP: Rules = {
    **_COMMON,
    **dict.fromkeys(_MATRIX_PRODUCTS, _product),
    "softmax": None,
    "scaled_dot_product_attention": _shared_attention,
    "multi_head_attention_forward": multihead(_shared_attention),
}
CP_LRP: Rules = {
    **_COMMON,
    **dict.fromkeys(_MATRIX_PRODUCTS),
    "softmax": _constant,
    "scaled_dot_product_attention": _constant_attention,
    "multi_head_attention_forward": multihead(_constant_attention),
}
