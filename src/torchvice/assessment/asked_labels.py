"""The labels of which an explainer is asked for maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torchvice.explain import Choices

__all__ = ["labels_of", "twice"]


def labels_of(choices: Choices, exclusive: bool, targets: np.ndarray, wanted: list[bool]) -> Any:
    """What the explainer is asked for: fixed labels, or a function of the logits.

    Args:
        choices: how the maps are made.
        exclusive: the predicted label is the likeliest one, rather than all labels with a logit above 0.
        targets: (N, C), 0 or 1, the true labels; 0 where no map is wanted.
        wanted: whether an image's maps are.
    """
    if choices.labels == "true":
        return [np.flatnonzero(row).tolist() for row in targets]
    if isinstance(choices.labels, tuple):
        return [list(choices.labels) if want else [] for want in wanted]
    true = torch.as_tensor(targets, dtype=torch.bool) & (choices.labels == "both")
    keep = torch.as_tensor(wanted)[:, None]
    predicted = _likeliest if exclusive else _above_zero
    return lambda logits: (predicted(logits).cpu() | true) & keep


def twice(labels: Any) -> Any:
    """The labels of a batch for the batch and its mirror images."""
    if callable(labels):
        # What is asked of a mirror image is asked of the image, and that is what its own logits say.
        return lambda logits: torch.cat([labels(logits[: len(logits) // 2])] * 2)
    return list(labels) * 2


def _above_zero(logits: torch.Tensor) -> torch.Tensor:
    return logits > 0


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).bool()
