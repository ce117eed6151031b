"""Build timm networks, load their weights from local files, freeze them for linear probing, and hash them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean, reason_of
from torchvice.models.bare import non_finite_of, refuse_non_finite, refuse_other_types
from torchvice.models.sizes import input_size, state_size
from torchvice.models.weights import StateDict, read_state_dict, read_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "AS_OPTION",
    "IN_SETTINGS",
    "Preprocessing",
    "build_model",
    "check_name",
    "classifier_names",
    "classifier_outputs",
    "frozen_to_eval",
    "linear_probe",
    "load_weights",
    "preprocessing",
    "quiet_loggers",
    "read_weights",
    "stated_preprocessing",
    "weights_hash",
]

# Arguments of timm.create_model that torchvice sets itself, or that would load weights past its checks.
RESERVED = frozenset(
    ("model_name", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
) | {"cache_dir", "in_chans", "features_only", "scriptable", "exportable"}


# How a command names an argument of the network: `vice train` in its settings, `vice assess` as an option.
IN_SETTINGS, AS_OPTION = "model.arguments.", "--argument "
_WITHOUT = f"-o '{IN_SETTINGS.strip('.')}={{}}'"
_ARGUMENTS = (
    "Check the network's arguments: --argument NAME=VALUE in vice assess, -o model.arguments.NAME=VALUE in vice train."
)


@dataclass(frozen=True)
class Preprocessing:
    """Input of a network: `size` (H, W) in pixels, `mean` and `std` per channel for pixels in [0, 1].

    `interpolation` resizes the images; `crop_share` is the share of the resized side that the central crop keeps when
    the weights are evaluated on ImageNet.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_share: float = 1.0


def build_model(
    name: str,
    num_classes: int,
    *,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    named: str = IN_SETTINGS,
) -> nn.Module:
    """Build a timm network with `num_classes` outputs, in training mode, on the CPU.

    Args:
        name: timm's name, with or without the tag of its weights: `resnet50`, `resnet50.tv_in1k`.
        num_classes: number of logits, at least 1.
        pretrained: load timm's weights, from its cache or by download; the classifier is new.
        weights: a local file that must match every tensor of the network; takes precedence over `pretrained`. For
            weights with other classes use `torchvice.models.pretraining.load_pretrained`.
        arguments: passed to timm.create_model, for example {"drop_path_rate": 0.1}; `embed_layer` may be a name in
            `models.stems`.
        named: how messages name an argument, `IN_SETTINGS` or `AS_OPTION`.

    Raises:
        ViceError: an unknown name, refused arguments, weights that are unavailable or do not match.
    """
    import timm

    arguments = dict(arguments or {})
    if num_classes < 1:
        raise ViceError(f"`num_classes` must be at least 1, but is {num_classes}.")
    check_name(name)
    reserved = sorted(RESERVED & arguments.keys())
    if reserved:
        settings = named == IN_SETTINGS
        weights_by = "-o model.weights=FILE or -o model.pretrained=true" if settings else "--weights FILE"
        raise ViceError(
            f"`{named.strip(' .')}` must not hold `{reserved[0]}`: torchvice sets it itself.",
            f"Leave it out. Weights: {weights_by}.",
        )
    pretrained = pretrained and weights is None
    resolved = _with_stem(arguments)
    try:
        with _offline_if_unreachable(pretrained):
            model: nn.Module = timm.create_model(name, pretrained, num_classes=num_classes, **resolved)
    except Exception as error:  # constructors of networks may raise anything
        raise _refusal(name, pretrained, arguments, error, named) from None
    state_size(model, arguments.get("img_size"))
    if weights is not None:
        load_weights(model, weights)
    return model


def _with_stem(arguments: dict[str, Any]) -> dict[str, Any]:
    """Replace the name of an `embed_layer` by its class."""
    stem = arguments.get("embed_layer")
    if not isinstance(stem, str):
        return arguments
    from torchvice.models.stems import STEMS

    if stem not in STEMS:
        raise ViceError(f"`embed_layer` must be one of {', '.join(STEMS)}, but is {stem!r}.", did_you_mean(stem, STEMS))
    return {**arguments, "embed_layer": STEMS[stem]}


def check_name(name: str) -> None:
    """Check that timm has the network, and the weights if the name has a tag."""
    import timm

    base, _, tag = name.partition(".")
    if ":" in name or "/" in name:
        way_out = "Give timm's name of the network, and download the file: -o model.weights=FILE, or --weights FILE."
        raise ViceError(f"The network must be a timm name, but is {name!r}.", way_out)
    if not timm.is_model(base):
        raise ViceError(f"The network must be a timm name, but is {name!r}.", _similar_models(base))
    tags = [known.partition(".")[2] for known in timm.list_models(f"{base}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ViceError(f"timm's {base} has no weights called {tag!r}.", did_you_mean(tag, tags) if tags else "")


def _similar_models(base: str) -> str:
    import difflib

    import timm

    close = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(f'`{name}`' for name in close)}?"
    return "timm.list_models() lists all names."


@contextlib.contextmanager
def _offline_if_unreachable(pretrained: bool) -> Iterator[None]:
    """Use only the hub's cache if the hub is unreachable; its client would retry for most of a minute."""
    if not pretrained:
        yield
        return
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    offline = constants.HF_HUB_OFFLINE
    if not offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=10)
        except Exception:  # the HTTP client, and so its errors, depend on the version of the hub
            offline = True
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, offline
    try:
        with quiet_loggers("huggingface_hub", "timm"):
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Silence warnings of these loggers inside the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refusal(name: str, pretrained: bool, arguments: dict[str, Any], error: Exception, named: str) -> ViceError:
    reason = reason_of(error)
    # Errors of the hub and of urllib are OSErrors; a mismatch between network and weights is not.
    if pretrained and (isinstance(error, OSError) or "http" in type(error).__module__):
        return ViceError(
            f"The pretrained weights of {name} are not in the cache and cannot be downloaded.",
            "Give a file (-o model.weights=FILE or --weights FILE), or start untrained (-o model.pretrained=false).",
        )
    unknown = re.search(r"unexpected keyword argument '(\w+)'", reason)
    if unknown:
        argument = unknown.group(1)
        # These two have their own settings as well.
        alias = {"drop_rate": " or regularisation.dropout", "drop_path_rate": " or regularisation.drop_path"}
        way_out = f"Leave out {named}{argument}."
        if named == IN_SETTINGS:
            way_out = f"Leave out {named}{argument}{alias.get(argument, '')}. If the preset gives it: {_WITHOUT}."
        return ViceError(f"timm's {name} takes no argument `{argument}`.", way_out)
    if arguments:
        fit = " together with its pretrained weights" if pretrained else ""
        return ViceError(
            f"timm's {name} cannot be built with {arguments}{fit}: {reason}.",
            f"Check -o model.arguments.NAME=VALUE. Without any, also those of the preset: {_WITHOUT}."
            if named == IN_SETTINGS
            else f"Check {named}NAME=VALUE.",
        )
    return ViceError(f"timm's {name} cannot be built: {reason}.")


def load_weights(model: nn.Module, path: str | os.PathLike[str], key: str | None = None) -> StateDict:
    """Load a local file into `model`, in place; returns what was loaded.

    The weights may lie under any keys, with any prefix before their names. Every tensor must be present and match; only
    `num_batches_tracked`, which old files lack, may be missing. A warning names tensors without that prefix.

    Args:
        model: the network; unchanged if an error is raised.
        path: see `read_content`.
        key: which of several sets of weights, see `read_state_dict`.

    Raises:
        ViceError: see `read_state_dict`; tensors are missing, unexpected, of another shape or not finite.
    """
    found = read_state_dict(path, {name: value.shape for name, value in model.state_dict().items()}, key)
    _check_match(model, found.tensors, path)
    if found.left_out:
        message = f"Of {path} the weights under `{found.key}` are loaded, without {_first(list(found.left_out))}."
        warnings.warn(message, stacklevel=2)
    model.load_state_dict(found.tensors, strict=False)
    return found


def _check_match(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> None:
    """Check that the tensors have the names and shapes of the network's."""
    own = model.state_dict()
    missing = [n for n in own if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    problems = {"missing": missing, "unexpected": unexpected}
    parts = [f"{len(names)} {what} ({_first(names)})" for what, names in problems.items() if names]
    if parts:
        raise ViceError(
            f"The weights {path} must fit this {type(model).__name__}, but their names differ: {' and '.join(parts)}.",
            f"Check the network's name. {_ARGUMENTS}",
        )
    wrong = [name for name, value in tensors.items() if value.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        in_classifier = name.startswith(tuple(f"{head}." for head in classifier_names(model)))
        raise ViceError(
            f"The weights {path} must match the network, but {len(wrong)} tensors do not: `{name}` must be "
            f"{tuple(own[name].shape)}, but is {tuple(tensors[name].shape)}.",
            f"The file has another number of classes: build the network with {len(tensors[name])}."
            if in_classifier and tensors[name].ndim
            else _ARGUMENTS,
        )
    refuse_other_types(model, tensors, str(path))
    refuse_non_finite(non_finite_of(tensors, dict(model.named_buffers())), str(path))


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def classifier_outputs(
    name: str, path: str | os.PathLike[str], arguments: Mapping[str, Any] | None = None, key: str | None = None
) -> int:
    """Return the number of outputs of a weights file: the first dimension of its classifier's weight.

    Raises:
        ViceError: see `build_model` and `read_state_dict`; or the file has no classifier of this network.
    """
    model = build_model(name, 1, arguments=arguments, named=AS_OPTION)
    shapes = {own: value.shape for own, value in model.state_dict().items()}
    heads = classifier_names(model)
    of_heads = {own for own in shapes if own.startswith(tuple(f"{head}." for head in heads))}
    tensors = read_state_dict(path, shapes, key, of_heads).tensors
    for head in heads:
        weight = tensors.get(f"{head}.weight")
        if weight is not None and weight.ndim:
            return int(weight.shape[0])
    raise ViceError(
        f"No classifier of {name} found in the weights {path}.",
        f"Expected: {', '.join(f'{head}.weight' for head in heads) or 'another network'}.",
    )


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the classifier modules: two for a distilled transformer, none without a classifier."""
    classifiers = _classifiers(model)
    return tuple(name for name, module in model.named_modules() if any(module is head for head in classifiers))


def _classifiers(model: nn.Module) -> list[nn.Module]:
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple | list) else [classifier]
    return [head for head in heads if head is not None and any(True for _ in head.parameters())]


def linear_probe(model: nn.Module) -> nn.Module:
    """Freeze everything but the classifier, in place; returns the same model.

    Call `frozen_to_eval(model)` after each `model.train()`: in training mode a frozen BatchNorm would still update its
    running mean and variance.

    Raises:
        ViceError: the network has no classifier.
    """
    heads = _classifiers(model)
    if not heads:
        raise ViceError(f"Linear probing needs a classifier, but {type(model).__name__} has none.")
    model.requires_grad_(False)
    for head in heads:
        head.requires_grad_(True)
    return model


def frozen_to_eval(model: nn.Module) -> None:
    """Set the modules without trainable parameters to eval mode, but for the dropout before a trained classifier.

    That is the dropout that stands behind the last frozen parameter, in the order in which the network names its parts.
    """
    from torch.nn.modules.dropout import _DropoutNd

    modules = list(model.modules())
    frozen = [any(not own.requires_grad for own in module.parameters(recurse=False)) for module in modules]
    last = max((place for place, holds in enumerate(frozen) if holds), default=-1)
    for place, module in enumerate(modules):
        if isinstance(module, _DropoutNd) and module.p > 0 and place > last:
            continue
        if not any(parameter.requires_grad for parameter in module.parameters()):
            module.eval()


def preprocessing(model: nn.Module) -> Preprocessing:
    """Return the input size that the network was built with, and the normalisation of its pretrained weights."""
    from timm.data import resolve_model_data_config  # type: ignore[attr-defined]

    from torchvice.models.adapt import converted_channels, same_for_all
    from torchvice.models.bare import described

    config = resolve_model_data_config(described(model))
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if converted_channels(model) is not None:
        mean, std = same_for_all(mean), same_for_all(std)
    return Preprocessing(input_size(model), mean, std, str(config["interpolation"]), float(config["crop_pct"]))


def stated_preprocessing(name: str) -> Preprocessing | None:
    """Return what timm states for the weights of a name, without building the network; None: timm states nothing."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag; building the network says so
        config = None
    if config is None:
        return None
    stated: Any = config  # its tuples have no lengths for mypy
    return Preprocessing(stated.input_size[-2:], stated.mean, stated.std, stated.interpolation, stated.crop_pct)


def weights_hash(model: nn.Module) -> str:
    """Hash names, dtypes, shapes and bytes of the state, sorted by name: SHA-256, hexadecimal.

    Quantised layers also hold tuples of tensors, and values of other types, whose text is taken.
    """
    import torch

    digest = hashlib.sha256()
    left: list[tuple[str, Any]] = sorted(model.state_dict().items(), reverse=True)
    while left:
        name, tensor = left.pop()
        if isinstance(tensor, tuple | list):
            left += [(f"{name}.{number}", one) for number, one in enumerate(tensor)][::-1]
            continue
        if not isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor!r}\n".encode())
            continue
        if tensor.is_quantized:
            digest.update(f"{name} {tensor.qscheme()}\n".encode())
            tensor = tensor.dequantize()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
