"""Steps of a pass that torch does not show to the rules of relevance, found in the graph that they leave."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from torchvice.models.bare import logits_in

__all__ = ["hidden_step"]

# Nodes of torch's own functions that a pass under the rules never leaves: the rules compute them without a graph, or
# refuse them. Such a node comes from a scripted function, whose first runs leave those of its steps.
_NEVER_LEFT = """
    Relu Gelu Silu LeakyRelu PreluKernel Elu Hardswish Hardtanh Mish Softplus Tanh LogSigmoid Clamp ClampMin Abs Pow
    Sigmoid Hardsigmoid Var Std VarMean Norm LinalgVectorNorm Rsqrt Sqrt Reciprocal Exp Addcmul
    NativeLayerNorm NativeGroupNorm FusedRmsNorm Sin Cos Log Log1P Expm1 Erf
"""


def hidden_step(outputs: Any) -> str:
    """Name what hid its steps from the rules, in a few words; "" if nothing did.

    An autograd.Function runs without gradients, and a scripted or compiled function outside of Python.

    Args:
        outputs: what the network returns, of a pass in which every function of torch had its rule.
    """
    leaves = [leaf for leaf in tree_leaves(logits_in(outputs)) if isinstance(leaf, torch.Tensor)]
    waiting = [leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None]
    known: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node in known:
            continue
        if name := _foreign(node):
            return name
        known.add(node)
        waiting += [one for one, _ in node.next_functions if one is not None]
    return ""


def _foreign(node: Any) -> str:
    """Name the function of a node that no rule left; "" for other nodes."""
    forward = getattr(type(node), "_forward_cls", None)
    if forward is not None:
        own = forward.__module__.startswith("torchvice.")
        return "" if own else f"the autograd.Function `{forward.__name__}`"
    name = node.name()
    if "CppNode" in name:
        return "a function in C++"
    step = re.fullmatch(r"(\w+?)Backward\d*", name)
    if step and step[1] in _NEVER_LEFT.split():
        return f"a scripted function with `{step[1].lower()}`"
    return "a scripted function" if "torch::jit" in name else ""
