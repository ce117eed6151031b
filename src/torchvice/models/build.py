"""Networks: built by timm, filled from local files, frozen for linear probing; their fingerprint."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean
from torchvice.models.weights import read_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Preprocessing",
    "build_model",
    "classifier_names",
    "classifier_outputs",
    "keep_frozen_still",
    "linear_probe",
    "load_weights",
    "preprocessing",
    "read_weights",
    "weights_hash",
]

# What torchvice decides itself, or what would read files and networks past its checks.
RESERVED = frozenset(
    ("model_name", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
) | {"cache_dir", "in_chans", "features_only", "scriptable", "exportable"}


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects: `size` (H, W) in pixels, `mean` and `std` of channels in [0, 1]."""

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A timm network with `num_classes` outputs, in training mode, on the CPU.

    Args:
        name: a name of timm's, with or without the tag of its weights: `resnet50`, `resnet50.tv_in1k`.
        num_classes: the outputs, one logit a class, at least 1.
        pretrained: start from timm's weights, from its cache or the network; the classifier is new.
        weights: a local file that must fit the network in every tensor; `pretrained` is then not asked for. For
            a start from other classes, build without and use `torchvice.models.pretraining.load_pretrained`.
        arguments: passed on to timm.create_model, for example {"drop_path_rate": 0.1}; an `embed_layer` by its name in
            `models.stems`.

    Raises:
        ViceError: an unknown name, refused arguments, weights that cannot be had or do not fit.
    """
    import timm

    arguments = dict(arguments or {})
    if num_classes < 1:
        raise ViceError(f"`num_classes` must be at least 1, but is {num_classes}.")
    _check_name(name)
    taken = sorted(RESERVED & arguments.keys())
    if taken:
        way_out = "Leave it out; weights are given by model.weights and model.pretrained."
        raise ViceError(f"The model's arguments must not hold `{taken[0]}`: torchvice sets it itself.", way_out)
    pretrained = pretrained and weights is None
    stemmed = _with_stem(arguments)
    try:
        with _hub_in_reach(pretrained):
            model: nn.Module = timm.create_model(name, pretrained, num_classes=num_classes, **stemmed)
    except Exception as error:  # timm's networks refuse with whatever exception their constructor happens to raise
        raise _refusal(name, pretrained, arguments, error) from None
    if weights is not None:
        load_weights(model, weights)
    return model


def _with_stem(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the first layer's class in place of its name."""
    named = arguments.get("embed_layer")
    if not isinstance(named, str):
        return arguments
    from torchvice.models.stems import STEMS

    if named not in STEMS:
        raise ViceError(
            f"`embed_layer` must be one of {', '.join(STEMS)}, but is {named!r}.", did_you_mean(named, STEMS)
        )
    return {**arguments, "embed_layer": STEMS[named]}


def _check_name(name: str) -> None:
    import timm

    base, _, tag = name.partition(".")
    if ":" in name or "/" in name:
        way_out = "Give timm's name for the network and the downloaded file as --weights FILE."
        raise ViceError(f"The network must be a name of timm's, but is {name!r}.", way_out)
    if not timm.is_model(base):
        raise ViceError(f"The network must be a name of timm's, but is {name!r}.", _nearest_model(base))
    tags = [known.partition(".")[2] for known in timm.list_models(f"{base}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ViceError(f"timm's {base} has no weights called {tag!r}.", did_you_mean(tag, tags) if tags else "")


def _nearest_model(base: str) -> str:
    import difflib

    import timm

    close = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?"
    return "timm.list_models() lists them all."


@contextlib.contextmanager
def _hub_in_reach(wanted: bool) -> Iterator[None]:
    """Without a network the hub's client works from its cache; it would retry, noisily, for most of a minute."""
    if not wanted:
        yield
        return
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    offline = constants.HF_HUB_OFFLINE
    if not offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=10)
        except Exception:  # of whichever HTTP client the hub's version uses
            offline = True
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, offline
    try:
        with _quiet("huggingface_hub", "timm"):
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refusal(name: str, pretrained: bool, arguments: dict[str, Any], error: Exception) -> ViceError:
    reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    # The hub's and urllib's failures are OSErrors; a network built otherwise than its weights is not.
    if pretrained and (isinstance(error, OSError) or "http" in type(error).__module__):
        return ViceError(
            f"The pretrained weights of {name} cannot be had: neither the cache nor the network has them.",
            "Give a local file, model.weights=FILE (--weights FILE), or start afresh, model.pretrained=false.",
        )
    unknown = re.search(r"unexpected keyword argument '(\w+)'", reason)
    if unknown:
        argument = unknown.group(1)
        # These two come from settings of their own as well.
        alias = {"drop_rate": " or regularisation.dropout", "drop_path_rate": " or regularisation.drop_path"}
        way_out = f"Leave out model.arguments.{argument}{alias.get(argument, '')}."
        return ViceError(f"timm's {name} takes no argument `{argument}`.", way_out)
    if arguments:
        fit = " together with its pretrained weights" if pretrained else ""
        return ViceError(f"timm's {name} cannot be built with {arguments}{fit}: {reason}.")
    return ViceError(f"timm's {name} cannot be built: {reason}.")


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> int:
    """Fill `model` from a local file, in place; returns how many tensors were taken over.

    The prefixes that wrappers leave (`module.` of DataParallel, `model.` of Lightning, `_orig_mod.` of
    torch.compile) are taken off. Every tensor must be there and fit; counters of seen batches, which old files lack,
    may be missing.

    Args:
        model: the network; when an error is raised it is as it was.
        path: see `read_weights`.

    Raises:
        ViceError: see `read_weights`; missing, unexpected or ill-fitting tensors, their number and first names.
    """
    own = model.state_dict()
    tensors = _without_prefixes(read_weights(path), set(own))
    heads = tuple(f"{name}." for name in classifier_names(model))
    _check_fit(own, tensors, path, type(model).__name__, heads)
    model.load_state_dict(tensors, strict=False)
    return len(tensors)


def _check_fit(
    own: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    network: str,
    heads: tuple[str, ...],
) -> None:
    missing = [n for n in own if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    found = {"missing": missing, "unexpected": unexpected}
    said = [f"{len(names)} {what} ({_first(names)})" for what, names in found.items() if names]
    if said:
        raise ViceError(
            f"The weights {path} must be those of this {network}, but have tensors {' and '.join(said)}.",
            "Check the network's name and its arguments.",
        )
    wrong = [name for name, value in tensors.items() if value.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        classes = bool(heads) and name.startswith(heads)
        raise ViceError(
            f"The weights {path} must fit the network, but {len(wrong)} tensors do not: `{name}` must be "
            f"{tuple(own[name].shape)}, but is {tuple(tensors[name].shape)}.",
            "The file is for another number of classes." if classes else "Check the network's arguments.",
        )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _without_prefixes(tensors: dict[str, torch.Tensor], own: set[str]) -> dict[str, torch.Tensor]:
    while not own & tensors.keys():
        for prefix in ("module.", "model.", "_orig_mod.", "network."):
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
                break
        else:
            break
    return tensors


def classifier_outputs(name: str, path: str | os.PathLike[str], arguments: Mapping[str, Any] | None = None) -> int:
    """How many outputs the network of a weights file has, read from the first dimension of its classifier's weight.

    Raises:
        ViceError: see `build_model` and `read_weights`; or the file holds no classifier of this network.
    """
    model = build_model(name, 1, arguments=arguments)
    tensors = _without_prefixes(read_weights(path), set(model.state_dict()))
    for head in classifier_names(model):
        weight = tensors.get(f"{head}.weight")
        if weight is not None:
            return int(weight.shape[0])
    raise ViceError(
        f"The weights {path} must hold the classifier of {name}, but have none.",
        f"Expected: {', '.join(f'{head}.weight' for head in classifier_names(model)) or 'another network'}.",
    )


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the network's classifier modules; a distilled transformer has two, a bare one none."""
    classifiers = _classifiers(model)
    return tuple(name for name, module in model.named_modules() if any(module is head for head in classifiers))


def _classifiers(model: nn.Module) -> list[nn.Module]:
    found = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    heads = found if isinstance(found, tuple | list) else [found]
    return [head for head in heads if head is not None and any(True for _ in head.parameters())]


def linear_probe(model: nn.Module) -> nn.Module:
    """Freeze everything but the classifier, in place; returns the same model.

    In training, call `keep_frozen_still(model)` after each `model.train()`: in training mode a frozen BatchNorm would
    still move its running mean and variance.

    Raises:
        ViceError: the network has no classifier of its own.
    """
    heads = _classifiers(model)
    if not heads:
        raise ViceError(f"Linear probing needs a classifier, but {type(model).__name__} names none.")
    model.requires_grad_(False)
    for head in heads:
        head.requires_grad_(True)
    return model


def keep_frozen_still(model: nn.Module) -> None:
    """Put the modules of a linear probe that have nothing to train into eval mode; returns nothing."""
    for module in model.modules():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            module.eval()


def preprocessing(model: nn.Module) -> Preprocessing:
    """The input size and normalisation that timm names for the network.

    The size is that which the network was built with, the rest that of its pretrained weights.
    """
    from timm.data import resolve_model_data_config  # type: ignore[attr-defined]

    from torchvice.models.families import input_size

    config = resolve_model_data_config(model)
    return Preprocessing(input_size(model), tuple(config["mean"]), tuple(config["std"]), str(config["interpolation"]))


def weights_hash(model: nn.Module) -> str:
    """The hexadecimal SHA-256 over names, types, shapes and bytes of the state, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
