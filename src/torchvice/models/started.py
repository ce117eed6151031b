"""Networks without a file of weights: timm's pretrained ones, and random weights that are said to be random."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.models.named import WITH_WEIGHTS, NamedModel, Start, source_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["started_model"]

_IMAGENET = 1000


def started_model(
    text: str, weights: str | os.PathLike[str] | None, arguments: dict[str, Any], start: Start
) -> NamedModel:
    """Build a network with pretrained or random weights.

    Args:
        text: see `torchvice.models.named.source_of`.
        weights: must be None.
        arguments: of timm.create_model or torchvision's function.
        start: which weights.

    Raises:
        ViceError: weights given twice, a network that loads its own or has none of the requested ones, or as
            `torchvice.models.build.build_model`.
    """
    source, name = source_of(text)
    option = "--pretrained" if start.pretrained else "--random-weights"
    if start.pretrained and start.seed is not None:
        raise ViceError("--pretrained and --random-weights exclude each other, but both are given.", "Remove one.")
    if weights is not None:
        raise ViceError(f"{option} takes the place of --weights, but both are given.", "Remove one.")
    if source in WITH_WEIGHTS:
        raise ViceError(f"{option} was given, but {text} comes with weights of its own.", f"Leave {option} out.")
    if source == "timm":
        return _of_timm(name, arguments, start)
    if source == "torchvision" and not start.pretrained:
        return _of_torchvision(name, arguments, start)
    sources = "timm's networks" if start.pretrained else "networks of timm and torchvision"
    raise ViceError(f"{option} is for {sources}, but the network is {text!r}.", "Give --weights FILE.")


def _of_timm(name: str, arguments: dict[str, Any], start: Start) -> NamedModel:
    from torchvice.models.build import AS_OPTION, build_model, check_name

    stated = _stated_outputs(name)
    if start.pretrained and not stated:
        check_name(name)
        what = "no pretrained weights" if stated is None else "pretrained weights without a classifier"
        raise ViceError(f"timm has {what} of {name}.", "Give --weights FILE.")
    outputs = stated if start.pretrained or start.outputs is None else start.outputs
    with seeded_weights(start.seed):
        model = build_model(
            name, outputs or _IMAGENET, pretrained=start.pretrained, arguments=arguments, named=AS_OPTION
        )
    return _said(NamedModel(model, name, outputs or _IMAGENET, {"network": name}), arguments, start, _tag_of(model))


def _of_torchvision(name: str, arguments: dict[str, Any], start: Start) -> NamedModel:
    from torchvice.models.named import torchvision_classifier

    outputs = _IMAGENET if start.outputs is None else start.outputs
    with seeded_weights(start.seed):
        made = torchvision_classifier(name, arguments, outputs)
    return _said(made, arguments, start, "")


def _said(made: NamedModel, arguments: dict[str, Any], start: Start, tag: str) -> NamedModel:
    """The network, whose weights are named in what made it."""
    made_by = dict(made.made_by)
    if start.pretrained:
        made_by["pretrained"] = tag
        notes: tuple[str, ...] = ()
    else:
        made_by["random_weights"] = start.seed
        notes = (f"The weights are random (seed {start.seed}): the numbers are those of an untrained network.",)
    return replace(made, made_by=made_by | ({"arguments": arguments} if arguments else {}), notes=notes)


def _stated_outputs(name: str) -> int | None:
    """The number of outputs that timm states for the pretrained weights of a network; None: it has no such weights."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag; building the network says so
        config = None
    return None if config is None or not config.has_weights else int(config.num_classes)


def _tag_of(model: nn.Module) -> str:
    """The full name of the pretrained weights that timm chose, such as `resnet18.a1_in1k`."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = (str(config.get("architecture") or ""), str(config.get("tag") or ""))
    return ".".join(name for name in names if name)


@contextlib.contextmanager
def seeded_weights(seed: int | None) -> Iterator[None]:
    """Draw weights from a seed inside the block; the random state returns as it was. None: as torch draws them."""
    import torch

    if seed is None:
        yield
        return
    state = torch.random.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.random.set_rng_state(state)
