"""Logits of classes from the outputs of a softmax classifier: the log-odds, or the logarithm, of their probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from torchvice.errors import ViceError

__all__ = ["Given", "softmax_logits"]

_MANY = 50  # outputs, which do not all lie in [0, 1] by chance

Given = Literal["logits", "softmax", "log_softmax"]


def softmax_logits(
    outputs: torch.Tensor, groups: Sequence[Sequence[int]] | None = None, *, log: bool = False
) -> torch.Tensor:
    """Compute the log-odds log p - log(1 - p) of every class's probability under the softmax over all outputs.

    The probability of a class is the sum over its outputs. Both logarithms are logsumexps, so a probability close to 0
    or 1 keeps its precision.

    Args:
        outputs: (N, M) logits of the softmax, or logarithms of its probabilities; half precision is raised to float32.
        groups: for every class its outputs; None: the outputs are the classes.
        log: return log p instead, whose softmax are the probabilities of classes that exclude each other.

    Returns:
        (N, C).

    Raises:
        ViceError: outputs that are probabilities already, or a class without any other output beside its own.

    Example:
        >>> odds = softmax_logits(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), [[0], [1, 2, 3]])
        >>> [round(value, 3) for value in odds[0].exp().tolist()]  # 1 : 3 and 3 : 1
        [0.333, 3.0]
    """
    values = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    _refuse_probabilities(outputs)
    if log and groups is None:
        return values.log_softmax(1)
    found = []
    for group in [[c] for c in range(values.shape[1])] if groups is None else groups:
        own = values[:, list(group)].logsumexp(1)
        if log:
            found.append(own - values.logsumexp(1))
            continue
        rest = [output for output in range(values.shape[1]) if output not in set(group)]
        if not rest:
            raise ViceError(
                f"The softmax needs outputs beside those of a class, but all {values.shape[1]} outputs belong to one.",
                "Give --outputs logits (outputs='logits').",
            )
        found.append(own - values[:, rest].logsumexp(1))
    return torch.stack(found, 1)


def _refuse_probabilities(outputs: torch.Tensor) -> None:
    """Refuse outputs of a softmax or a sigmoid, also in per cent: a softmax of them would be close to uniform."""
    if outputs.shape[1] < 2 or not bool(outputs.any()) or bool((outputs < 0).any()):
        return
    exact = outputs.dtype in (torch.float32, torch.float64)
    sums = outputs.double().sum(1)  # of few classes of CLIP it is close to 100
    by_name = (
        "by its name: --outputs softmax (outputs='softmax') takes their logarithms. An Explainer: give it the network "
        "without its softmax."
    )
    for whole, way_out in ((1, f"Ask for it {by_name}"), (100, f"Divide them by 100, and ask for it {by_name}")):
        if (exact or whole == 1) and bool(((sums / whole - 1).abs() < (1e-5 if exact else 1e-2)).all()):
            raise ViceError(
                f"The softmax is taken of logits, but the outputs of each image have the sum {whole} already.", way_out
            )
    if bool((outputs <= 1).all()) and outputs.numel() >= _MANY:
        raise ViceError(
            "The softmax is taken of logits, but all outputs lie in [0, 1]: they look like probabilities.",
            "Give --outputs probabilities (outputs='probabilities'). An Explainer: give it the network without its "
            "sigmoid.",
        )
