"""Rules of linear layers that treat positive and negative products x_i w_ji differently: gamma and z+.

Both are written for the gradient G, with s = G y / z. The positive part of W is half the sum of W and |W|, so that one
more product with |W| replaces products with the positive and the negative parts of weights and inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.explain.dense import dense
from torchvice.explain.surrogate import Rule, Rules, needs_gradient
from torchvice.explain.surrogate_rules import multihead

__all__ = ["Signed", "SignedRule", "gamma_rule", "with_signed", "zplus_rule"]

Args = tuple[Any, ...]
Keywords = dict[str, Any]
SignedRule = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None, float, float]]
_LINEAR_MAP = "_torchvice_linear_map"  # of an output, for a batch norm that follows


@dataclass
class Signed:
    """A linear map y = W x + b of one input and the parts of its signed rule.

    Args:
        value: x. output: y, with the bias. weight: W. bias: b or None.
        forward: from x, W and b to y.
        backward: from the gradient at y and W to that at x.
        rule: from y and a = |W| |x| + |b| to y / z; the sign of s before its product with |W|, None for 1; and the
            factors of the products with W and with |W|.
    """

    value: torch.Tensor
    output: torch.Tensor
    forward: Callable[..., torch.Tensor]
    backward: Callable[..., torch.Tensor]
    weight: torch.Tensor
    bias: torch.Tensor | None
    rule: SignedRule

    def __post_init__(self) -> None:
        self._parts: tuple[torch.Tensor, torch.Tensor | None, float, float] | None = None

    def gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient at x for that at y; what depends on the image alone is computed once for all labels."""
        if self._parts is None:
            size = self.forward(self.value.abs(), self.weight.abs(), None if self.bias is None else self.bias.abs())
            self._parts = self.rule(self.output, size)
            self._positive = bool((self.value >= 0).all())
        ratio, sign, plain, absolute = self._parts
        share = gradient * ratio
        if self._positive and sign is None:  # one product, with the positive weights
            return self.backward(share, plain * self.weight + absolute * self.weight.abs())
        of_absolute = self.backward(share if sign is None else share * sign, self.weight.abs())
        return self.backward(share, self.weight).mul_(plain).addcmul_(of_absolute, self.value.sign(), value=absolute)


def gamma_rule(gamma: float) -> SignedRule:
    """The gamma rule: products of the output's own sign weigh 1 + gamma, the others 1.

    R_i = sum_j (x_i w_ji + gamma (x_i w_ji)^s) R_j / (y_j + gamma sum_i (x_i w_ji)^s), with s the sign of y_j. The
    divisor is at least y_j in magnitude, so that single precision suffices.

    References:
        Montavon et al., Layer-wise relevance propagation: an overview, 2019; for inputs of both signs Andeol et al.,
        Learning domain invariant representations by joint Wasserstein distance minimization, 2021.
    """

    def rule(output: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float, float]:
        sign = output.sign()
        total = output * (1 + gamma / 2) + sign * size * (gamma / 2)
        return (output / total).nan_to_num_(0, 0, 0), sign, 1 + gamma / 2, gamma / 2

    return rule


def zplus_rule(output: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, None, float, float]:
    """The z+ rule: only positive products share relevance, R_i = sum_j (x_i w_ji)+ R_j / sum_i (x_i w_ji)+.

    An output whose positive products are rounding errors passes nothing on.

    References:
        Montavon et al., Explaining nonlinear classification decisions with deep Taylor decomposition, Pattern
        Recognition 65 (2017).
    """
    total = (output + size) / 2
    return torch.where(total > 64 * torch.finfo(size.dtype).eps * size, output / total, 0), None, 0.5, 0.5


class _Signed(torch.autograd.Function):
    """A known output whose gradient is that of the signed rule."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, parts: Signed) -> torch.Tensor:
        ctx.parts = parts
        ctx.save_for_backward(value)
        return parts.output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        _ = ctx.saved_tensors  # torch refuses an input that was changed in place since
        return ctx.parts.gradient(gradients[0]), None


def _apply(value: torch.Tensor, parts: Signed) -> torch.Tensor:
    output: torch.Tensor = _Signed.apply(value, parts)
    setattr(output, _LINEAR_MAP, (value, parts, _versions(value, output)))
    return output


def _versions(*tensors: torch.Tensor) -> list[int]:
    """Numbers that grow when the tensors are changed in place."""
    return [tensor._version for tensor in tensors]


def _linear(signed: SignedRule) -> Rule:
    """Rule of a linear layer."""

    def forward(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return dense(value, weight) if bias is None else dense(value, weight).add_(bias)

    def rule(function: Callable[..., Any], args: Args, keywords: Keywords) -> torch.Tensor:
        names = dict(zip(("input", "weight", "bias"), args, strict=False)) | keywords
        value, weight, bias = names["input"], names["weight"], names.get("bias")
        if needs_gradient([weight, bias]):
            raise ViceError("A signed rule needs weights that do not depend on the image, but these do.")
        with torch.no_grad():
            output = function(*args, **keywords)
        return _apply(value, Signed(value.detach(), output, forward, lambda g, w: dense(g, w.T), weight, bias, signed))

    return rule


def _conv(signed: SignedRule) -> Rule:
    """Rule of a convolution."""

    def rule(function: Callable[..., Any], args: Args, keywords: Keywords) -> torch.Tensor:
        order = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        names = dict(zip(order, args, strict=False)) | keywords
        value, weight, bias = names["input"], names["weight"], names.get("bias")
        if needs_gradient([weight, bias]):
            raise ViceError("A signed rule needs weights that do not depend on the image, but these do.")
        stride, dilation = (_two(names.get(name, 1)) for name in ("stride", "dilation"))
        padding, groups = _padding(names.get("padding", 0), weight, dilation), names.get("groups", 1)

        def forward(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            return functional.conv2d(value, weight, bias, stride, padding, dilation, groups)

        def backward(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            settings = (None, stride, padding, dilation, False, [0, 0], groups, [True, False, False])
            of_value: torch.Tensor = torch.ops.aten.convolution_backward(gradient, value.detach(), weight, *settings)[0]
            return of_value

        with torch.no_grad():
            output = function(*args, **keywords)
        return _apply(value, Signed(value.detach(), output, forward, backward, weight, bias, signed))

    return rule


def _two(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size) * (3 - len(size))


def _padding(padding: Any, weight: torch.Tensor, dilation: list[int]) -> list[int]:
    if padding == "valid":
        return [0, 0]
    if padding != "same":
        return _two(padding)
    both = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
    if any(one % 2 for one in both):
        raise ViceError("A signed rule needs the same padding on both sides, but a convolution has an even size.")
    return [one // 2 for one in both]


def _batch_norm(function: Callable[..., Any], args: Args, keywords: Keywords) -> torch.Tensor:
    """A norm in eval mode becomes part of the layer right before it: both together are one linear map."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | keywords
    made = getattr(given["input"], _LINEAR_MAP, None)
    if made is None or given.get("training"):
        return function(*args, **keywords)
    value, parts, versions = made
    if _versions(value, given["input"]) != versions:  # a step in place between them, such as `y += x`
        return function(*args, **keywords)
    with torch.no_grad():
        factor = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
        factor = factor if given.get("weight") is None else factor * given["weight"]
        bias = factor * ((0 if parts.bias is None else parts.bias) - given["running_mean"])
        bias = bias if given.get("bias") is None else bias + given["bias"]
        weight = parts.weight * factor.reshape(-1, *[1] * (parts.weight.ndim - 1))
        output = function(*args, **keywords)
    folded = Signed(parts.value, output, parts.forward, parts.backward, weight, bias, parts.rule)
    result: torch.Tensor = _Signed.apply(value, folded)
    return result


def with_signed(rules: Rules, linear: SignedRule | None, convolution: SignedRule | None) -> Rules:
    """The table with signed rules for linear layers and convolutions; None keeps the epsilon rule."""
    changed: dict[str, Rule | None] = {**rules, "batch_norm": _batch_norm}
    if linear is not None:
        attend = rules["scaled_dot_product_attention"]
        assert attend is not None
        changed |= {"linear": _linear(linear), "multi_head_attention_forward": multihead(attend, _linear(linear))}
    if convolution is not None:
        changed["conv2d"] = _conv(convolution)
    return changed
