"""Outputs of a model that are not logits: recognised by their values, or turned into logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from torchvice.errors import ViceError
from torchvice.explain import Explainer
from torchvice.models.adapt import hooked_copy, output_count
from torchvice.models.bare import logits_in
from torchvice.models.zero_shot import ZeroShot

if TYPE_CHECKING:
    from torchvice.assessment.map_settings import MapSettings

__all__ = [
    "Outputs",
    "before_softmax",
    "check_number",
    "chosen_outputs",
    "giving_logits",
    "log_of_softmax",
    "logits_of",
    "needed_outputs",
    "none_found",
    "refuse_probabilities",
    "wrong_number",
]

Outputs = Literal["logits", "probabilities", "softmax"]
FEWEST = 100  # outputs, none below 0, that are called per cent if
IMAGENET = 1000
LARGE = 20  # one of them is larger than this: a sigmoid of logits would then find every label of every image
_TOLERANCE = 1e-3  # of a sum of probabilities, in half precision too
_SOFTMAX = (
    "the classes of one image (a softmax), but images have several labels: the logit of a class is the log-odds of its "
    "softmax probability (--outputs softmax). The outputs as they are: --outputs logits (outputs='logits')."
)


def refuse_probabilities(
    outputs: np.ndarray,
    exclusive: bool,
    what: str = "The outputs of the model",
    where: str = "the model",
    fewest: int = FEWEST,
) -> None:
    """Check that outputs are no probabilities, and for several labels an image no logarithms of them.

    Args:
        outputs: (N, C), of many images: few logits may lie in [0, 1] by chance.
        exclusive: whether every image has one label; then logarithms of probabilities are logits of the softmax.
        what, where: name of the outputs in messages, and of their origin.
        fewest: how many outputs can be called per cent.

    Raises:
        ViceError: all outputs lie in [0, 1], look like per cent, or are logarithms of probabilities with the sum 1.
    """
    if outputs.ndim == 2 and outputs.shape[1] == 2 and bool((outputs[:, 0] == -outputs[:, 1]).all()):
        one = 2 * outputs  # the halves of one logit, see `with_complement`
        outputs = one[:, int(one[:, 1].sum() >= 0) :][:, :1]
    if not outputs.size or not outputs.any():  # an untrained classifier of zeros gives zeros
        return
    values = np.asarray(outputs, np.float64)
    if ((values >= 0) & (values <= 1)).all():
        sums = outputs.shape[1] > 1 and bool((abs(values.sum(1) - 1) < _TOLERANCE).all())
        looks = "and have the sum 1: they look like a softmax" if sums else "they look like probabilities"
        several = values.shape[1] > 1
        together = "; of a softmax whose outputs a class map puts together: --outputs softmax" if several else ""
        raise ViceError(
            f"{what} must be logits, but all outputs of {len(outputs)} rows lie in [0, 1]"
            f"{' ' if sums else ': '}{looks}.",
            f"Take the logits of probabilities: --outputs probabilities (outputs='probabilities'){together}. "
            "If they are logits: --outputs logits.",
        )
    per_cent = bool(((values >= 0) & (values <= 100)).all()) and values.max() > LARGE and values.size >= fewest
    if per_cent or (outputs.shape[1] > 1 and (values >= 0).all() and (abs(values.sum(1) / 100 - 1) < _TOLERANCE).all()):
        raise ViceError(
            f"{what} must be logits, but all outputs of {len(outputs)} rows lie in [0, 100]: they look like per cent.",
            f"Divide them by 100 in {where}, and give --outputs probabilities. If they are logits: --outputs logits.",
        )
    logarithms = not exclusive and outputs.shape[1] > 1 and bool((values <= 0).all())
    if logarithms and (abs(np.exp(values).sum(1) - 1) < _TOLERANCE).all():
        raise ViceError(
            f"{what} must be logits, but are logarithms of probabilities with the sum 1.",
            "Remove the log_softmax at the model's end. If they are logits: --outputs logits.",
        )


def none_found(outputs: np.ndarray, exclusive: bool) -> list[str]:
    """A sentence where no output is above 0, so that no label of any image counts as found; else none.

    Args:
        outputs: (N, C), of many images: few logits may lie below 0 by chance.
        exclusive: whether every image has one label; then the largest output counts, whatever its sign.
    """
    if exclusive or outputs.size < FEWEST or not outputs.any() or (outputs > 0).any():
        return []
    return [
        f"No output of the first {len(outputs)} images is above 0: as logits, they say that no image has any class. "
        "If they are logarithms of probabilities (a log-sigmoid), remove it from the end of the network."
    ]


def chosen_outputs(explainer: Explainer, settings: MapSettings, say: Callable[[str], None]) -> MapSettings:
    """Choose how the outputs of a network are taken for images of several labels, where nobody named it.

    The outputs of a zero-shot classifier without a bias, such as CLIP's, and ImageNet's 1000 under a class map are
    those of a softmax: their sigmoid means nothing. 1000 outputs that are the data's classes may be either.

    Args:
        explainer: of the network.
        settings: of the maps; those that name `outputs` are returned as they are.
        say: called with a sentence if the network is one of these.

    Returns:
        The settings with `outputs`.
    """
    if settings.outputs is not None:
        return settings
    if isinstance(explainer.model, ZeroShot):
        if explainer.model.biased:
            return settings
        say(f"A zero-shot classifier without a bias compares {_SOFTMAX}")
    elif number_of_outputs(explainer) != IMAGENET:
        return settings
    elif explainer.class_map is None:
        say(
            "The network has 1000 outputs, as those of ImageNet, which are taken one by one. If they are logits of a "
            "softmax: --outputs softmax (outputs='softmax'); if not: --outputs logits, which also ends this sentence."
        )
        return settings
    else:
        say(f"A network of ImageNet's 1000 outputs compares {_SOFTMAX}")
    return replace(settings, outputs="softmax")


def number_of_outputs(explainer: Explainer) -> int | None:
    """The number of the network's outputs, with a pass where finding its layer took none; None: it does not run."""
    return output_count(explainer.model) if explainer.probed is None else explainer.probed.shape[1]


def check_number(explainer: Explainer, classes: int, exclusive: bool) -> None:
    """Check that the network gives a logit for each class.

    Raises:
        ViceError: see `wrong_number`. A network that does not run is refused later, with the reason.
    """
    outputs = number_of_outputs(explainer) if explainer.class_map is None else len(explainer.class_map)
    if outputs not in (None, classes):
        raise wrong_number(classes, outputs, exclusive)


def wrong_number(classes: int, outputs: int, exclusive: bool) -> ViceError:
    """Return the error for a network without an output for each class."""
    way_out = "Give a class map from the data's classes to the model's outputs."
    if (classes, outputs) == (2, 1) and exclusive:
        way_out = "Say which class its logit means: --class-map FILE that names this class alone (class_map=[[], [0]])."
    return ViceError(f"The model must have {needed_outputs(classes)}, but has {outputs}.", way_out)


def needed_outputs(classes: int) -> str:
    """The outputs that a network of so many classes must have, in words."""
    return f"an output for each of {classes} classes" if classes > 1 else "one output, for the only class"


def giving_logits(model: nn.Module, exclusive: bool, groups: Sequence[Sequence[int]] | None = None) -> nn.Module:
    """Return the network with the logits of its probabilities as outputs; it shares parameters and modules.

    They are log(p / (1 - p)); where every image has one label and the probabilities of an image have the sum 1, log(p),
    whose softmax they are. Probabilities are clamped to the precision of their type, so that logits are finite.

    Args:
        model: gives probabilities (N, C).
        exclusive: whether every image has one label.
        groups: the class map. Where it gives a class several outputs, the probabilities of a softmax are refused when
            the network runs: the probability of the class is their sum, but the largest logit counts.
    """
    several = max(map(len, groups or ()), default=0) > 1

    def to_logits(p: torch.Tensor) -> torch.Tensor:
        if several and _of_softmax(p):
            raise ViceError(
                "The probabilities of an image have the sum 1, and the class map gives a class several outputs: they "
                "must be added up, but --outputs probabilities takes the largest.",
                "Give --outputs softmax (outputs='softmax').",
            )
        return logits_of(p, exclusive)

    return _with_outputs(model, to_logits)


def before_softmax(model: nn.Module) -> nn.Module:
    """Return the network with the logarithms of a softmax's probabilities as outputs; other outputs stay as they are.

    Their softmax are the probabilities again. It shares parameters and modules.
    """
    return _with_outputs(model, log_of_softmax)


def log_of_softmax(p: torch.Tensor) -> torch.Tensor:
    """The logarithms of probabilities (N, C) of a softmax, clamped to finite ones; other outputs as they are."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log() if _of_softmax(p) and bool((p >= 0).all()) else p


def _with_outputs(model: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    made = hooked_copy(model)

    def changed(_: nn.Module, __: Any, outputs: Any) -> Any:
        found = logits_in(outputs)
        return change(found) if isinstance(found, torch.Tensor) else outputs

    made.register_forward_hook(changed)
    return made


def _of_softmax(p: torch.Tensor) -> bool:
    """Whether the outputs of every image have the sum 1."""
    return p.ndim == 2 and p.shape[1] > 1 and bool(((p.sum(1) - 1).abs() < 10 * _TOLERANCE).all())


def logits_of(p: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """The logits of probabilities, see `giving_logits`; the same shape and type.

    Raises:
        ViceError: a number outside [0, 1].
    """
    if bool(((p < 0) | (p > 1)).any()):
        low, high = p.min().item(), p.max().item()
        raise ViceError(
            f"Probabilities must lie in [0, 1], but are {low:.4g} to {high:.4g}.",
            "If the outputs are logits: --outputs logits (outputs='logits').",
        )
    least = torch.finfo(p.dtype).eps
    if exclusive and _of_softmax(p):
        return log_of_softmax(p)
    # A number beyond the ends has the logit of the end, but a gradient: without one it would have no map.
    return torch.logit(p.detach().clamp(least, 1 - least) + (p - p.detach()))
