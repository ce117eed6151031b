"""The engine of relevance: a pass whose backward rules are replaced, operation by operation; outputs stay as they are.

Relevance is R = x G for every tensor x, and G is the gradient of a changed network. A method is a table of rules, from
the name of a torch function to how its backward pass is changed. Only functions of the image have a rule: parameters
are constants.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from torchvice.errors import ViceError
from torchvice.explain.hidden_steps import hidden_step

__all__ = ["Rule", "Rules", "needs_gradient", "surrogate"]

# Takes the function, its arguments and its keyword arguments; returns its output, with the changed backward pass.
Rule = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
# From a function's name, as `gelu`, to its rule; None: its own gradient is the rule.
Rules = Mapping[str, Rule | None]


@contextlib.contextmanager
def surrogate(model: nn.Module, method: str, rules: Rules) -> Iterator[None]:
    """Apply the rules to every function of torch in the passes inside the block; restore the model after it.

    Parameters are frozen inside, so that exactly what depends on the image, or on the leaf of a capture, has a graph.

    Args:
        model: in eval mode.
        method: its name, for the error.
        rules: see `Rules`.

    Raises:
        ViceError: in a pass that reaches a function without a rule, or one that hides its steps; a scripted model.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ViceError(
            f"{method!r} needs the functions of the network, but a scripted model hides them.",
            "Give the original model.",
        )
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    checkpointing = [module for module in model.modules() if vars(module).get("grad_checkpointing")]

    def check(_: nn.Module, __: tuple[Any, ...], outputs: Any) -> None:
        if hidden := hidden_step(outputs):
            raise ViceError(
                f"{method!r} must have a rule for every step of the network, but {hidden} hides its steps.",
                "Write it with functions of torch; or use method='gradcam', which works with every network.",
            )

    handle = model.register_forward_hook(check)
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module in checkpointing:  # it would run the blocks again, outside of this block
            module.grad_checkpointing = False  # type: ignore[assignment]
        with _Rules(method, rules):
            yield
    finally:
        handle.remove()
        for module in checkpointing:
            module.grad_checkpointing = True  # type: ignore[assignment]
        for parameter in frozen:
            parameter.requires_grad_(True)


def needs_gradient(value: Any) -> bool:
    """Whether a value, or one of those in its lists, is a tensor with a graph."""
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    return isinstance(value, list | tuple) and any(map(needs_gradient, value))


class _Rules(TorchFunctionMode):
    """Calls the rule of every function that is given a tensor with a graph."""

    def __init__(self, method: str, rules: Rules) -> None:
        super().__init__()
        self.method, self.rules = method, rules

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:  # rules know the first argument by its place
            args = (kwargs.pop("input"),)
        if not torch.is_grad_enabled() or not (needs_gradient(args) or needs_gradient(list(kwargs.values()))):
            return func(*args, **kwargs)
        name = func.__name__.strip("_")
        rule = self.rules.get(name)
        if rule is not None:
            return rule(func, args, kwargs)
        result = func(*args, **kwargs)
        if name not in self.rules and any(needs_gradient(one) for one in tree_leaves(result)):
            raise ViceError(
                f"{self.method!r} must have a rule for every step of the network, but has none for torch's `{name}`.",
                "Use method='gradcam', which works with every network.",
            )
        return result
