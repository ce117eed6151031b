"""Networks by name: of timm, torchvision, open_clip, a folder of transformers, the hub's cache, or a function."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean, reason_of
from torchvice.models.encoder_files import TrainedHere
from torchvice.models.prompts import ClassNames, refuse_prompts

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "NO_PIXELS",
    "WITH_WEIGHTS",
    "NamedModel",
    "Start",
    "model_by_name",
    "near_source",
    "source_of",
    "torchvision_classifier",
]

SOURCES = ("timm", "torchvision", "transformers", "open_clip", "hf-hub")
WITH_WEIGHTS = ("transformers", "hf-hub", "function")  # they load their own
NO_PIXELS = "has neither preprocessor_config.json nor processor_config.json with them"
_MAY_BE_ZERO_SHOT = ("transformers", "open_clip", "hf-hub")
_FORMS = (
    "timm:NAME, torchvision:NAME, transformers:FOLDER, open_clip:NAME, hf-hub:ORG/NAME, FILE.py:FUNCTION or "
    "PACKAGE.MODULE:FUNCTION"
)
# Arguments that torchvice sets itself, or that would load weights past its checks.
_RESERVED = ("weights", "weights_backbone", "num_classes", "progress", "pretrained", "init_weights")
_SHIFTING = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Start:
    """What a network begins with where no file of weights is given.

    Attributes:
        pretrained: timm's weights, from its cache or by download.
        seed: of random weights; None: no random weights.
        outputs: number of outputs of a network of random weights; None: that of its pretrained weights.
    """

    pretrained: bool = False
    seed: int | None = None
    outputs: int | None = None

    @property
    def given(self) -> bool:
        """Whether it names weights."""
        return self.pretrained or self.seed is not None


@dataclass(frozen=True)
class NamedModel:
    """A network that a name stands for, with its weights, on the CPU.

    Attributes:
        model: the network. label: a short name that can be part of a path.
        outputs: number of its outputs; None: not known without a pass.
        made_by: entries of a manifest: what the network was.
        size, mean, std: side in pixels and normalisation that its source states; None: not stated.
        names: names of its outputs, in their order, if its source states them.
        needs_pixels: why mean and std may be unknown and have no usual value; "" if they have one.
        notes: sentences on how the network is used.
        trained: what the file of weights says of a training by torchvice; None: no file.
    """

    model: nn.Module
    label: str
    outputs: int | None
    made_by: dict[str, Any]
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    needs_pixels: str = ""
    notes: tuple[str, ...] = ()
    trained: TrainedHere | None = None


def source_of(text: str) -> tuple[str, str]:
    """Part the name of a network into its source and the name there.

    Returns:
        ("timm", NAME), ("torchvision", NAME), ("transformers", FOLDER), ("open_clip", NAME), ("hf-hub", ORG/NAME) or
        ("function", PLACE:FUNCTION).

    Raises:
        ViceError: another form.

    Example:
        >>> source_of("resnet50"), source_of("torchvision:resnet50"), source_of("nets/mine.py:build")
        (('timm', 'resnet50'), ('torchvision', 'resnet50'), ('function', 'nets/mine.py:build'))
    """
    prefix, colon, rest = text.partition(":")
    if not colon and not text.endswith(".py"):
        return "timm", text
    prefix = {"hf_hub": "hf-hub", "huggingface": "hf-hub"}.get(prefix, prefix)
    if prefix in SOURCES and rest:
        return prefix, rest
    if prefix in SOURCES:
        message = f"The network must be named after `{prefix}:`, but nothing follows."
        raise ViceError(message, f"Give one of {_FORMS}.")
    place, _, name = text.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if place and name.isidentifier() and (place.endswith(".py") or is_module):
        return "function", text
    if text.endswith(".py"):
        raise ViceError(f"The network must name a function in {text}, but names none.", f"For example {text}:build.")
    near = near_source(prefix)
    way_out = f"Did you mean `{near}:`?" if near else "A name without a prefix is timm's."
    raise ViceError(f"The network must be {_FORMS}, but is {text!r}.", way_out)


def near_source(prefix: str) -> str | None:
    """Return the source that is written most like this one; None: none is near."""
    import difflib

    return next(iter(difflib.get_close_matches(prefix, SOURCES, n=1, cutoff=0.6)), None)


def model_by_name(
    text: str,
    weights: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    key: str | None = None,
    names: ClassNames | None = None,
    start: Start | None = None,
) -> NamedModel:
    """Build the network that a name stands for, and load its weights.

    Args:
        text: see `source_of`. Code of FILE.py and PACKAGE.MODULE runs; nothing else does.
        weights: local file of a state_dict; may be None for functions and folders, which load their own.
        arguments: passed to timm.create_model, torchvision's function or the user's function.
        key: which of several sets of weights, see `torchvice.models.weights.read_state_dict`.
        names: the data's classes and their prompts, for zero-shot classifiers.
        start: what takes the place of a file; see `Start`.

    Raises:
        ViceError: an unknown name or form, arguments that do not fit, weights that are missing or do not match, or
            prompts for a network that has a classifier.
    """
    source, name = source_of(text)
    if start is not None and start.given:
        from torchvice.models.started import started_model

        return started_model(text, weights, dict(arguments or {}), start)
    if key is not None and weights is None:
        raise ViceError("--weights-key chooses a set of weights in a file, but no file is given.", "Give --weights.")
    names = names or ClassNames()
    if names.file is not None and source not in _MAY_BE_ZERO_SHOT:
        raise refuse_prompts(text)
    if weights is None and source not in WITH_WEIGHTS:
        message = f"{source}'s {name} needs a local file of weights, but none is given. Did you forget --weights?"
        raise ViceError(message, "Give --weights FILE.")
    of_classes = (names,) if source in _MAY_BE_ZERO_SHOT else ()
    made = _builder(source)(name, weights, dict(arguments or {}), key, *of_classes)
    chosen = {"arguments": dict(arguments or {}), "weights_key": key}
    made_by = dict(made.made_by) if weights is None else {**made.made_by, "weights": Path(weights).name}
    return replace(made, made_by=made_by | {name: value for name, value in chosen.items() if value})


def _builder(source: str) -> Callable[..., NamedModel]:
    """The function that builds the networks of a source, of (name, weights, arguments, key) and perhaps the classes."""
    if source == "open_clip":
        from torchvice.models.clip_models import model_of_open_clip

        return model_of_open_clip
    if source == "hf-hub":
        from torchvice.models.hub import model_of_hub

        return model_of_hub
    if source == "transformers":
        from torchvice.models.folders import model_of_folder

        return model_of_folder
    if source == "function":
        from torchvice.models.functions import model_of_function

        return model_of_function
    return _of_timm if source == "timm" else _of_torchvision


def _of_timm(name: str, weights: str | os.PathLike[str], arguments: dict[str, Any], key: str | None) -> NamedModel:
    from torchvice.models.build import AS_OPTION, build_model, classifier_outputs, load_weights

    try:
        outputs = classifier_outputs(name, weights, arguments, key)
    except ViceError as error:
        if "must be a timm name" in error.message and name in _torchvision_names():
            raise ViceError(error.message, f"Did you mean `torchvision:{name}`?") from None
        raise
    model = build_model(name, outputs, arguments=arguments, named=AS_OPTION)
    trained = load_weights(model, weights, key).trained
    _check_trained(trained, name, arguments, Path(weights).name)
    return NamedModel(model, name, outputs, {"network": name}, trained=trained)


def _check_trained(trained: TrainedHere, name: str, arguments: Mapping[str, Any], file: str) -> None:
    """Refuse another network of timm than that of a RUN's weights, whose tensors have the same names and shapes."""
    if trained.network is not None and trained.network.partition(".")[0] != name.partition(".")[0]:
        message = f"The weights {file} are of a RUN of {trained.network}, but the network is {name}."
        raise ViceError(message, f"Give --model {trained.network}.")
    # Dropout does nothing when the network is assessed.
    open_ = {own: value for own, value in trained.arguments.items() if own not in arguments and "drop" not in own}
    if open_:
        message = f"The weights {file} are of a RUN of {name} with arguments that are not given: {', '.join(open_)}."
        values = {own: value if isinstance(value, str) else json.dumps(value) for own, value in open_.items()}
        options = (f"--argument {shlex.quote(f'{own}={value}')}" for own, value in values.items())
        raise ViceError(message, f"Give {' '.join(options)}.")


def _torchvision_names() -> list[str]:
    from torchvision import models  # type: ignore[import-untyped]

    return list(models.list_models(module=models))


def _of_torchvision(
    name: str, weights: str | os.PathLike[str], arguments: dict[str, Any], key: str | None
) -> NamedModel:
    """Build one of torchvision's classifiers with the weights of a file.

    Tensors whose shape depends on the number of classes are the classifier's: they say how many outputs the file has.
    """
    from torchvice.models.build import load_weights
    from torchvice.models.weights import read_state_dict

    _check_torchvision(name, arguments)
    one, two = (_shapes(name, arguments, classes) for classes in (1, 2))
    heads = {own for own, shape in one.items() if shape != two[own]}
    tensors = read_state_dict(weights, one, key, heads).tensors
    sizes = [len(tensors[own]) for own in sorted(heads) if own in tensors and tensors[own].ndim]
    if not sizes:
        expected = ", ".join(sorted(heads)) or "another network"
        raise ViceError(f"No classifier of {name} found in the weights {weights}.", f"Expected: {expected}.")
    made = torchvision_classifier(name, arguments, max(sizes))
    return replace(made, trained=load_weights(made.model, weights, key).trained)


def torchvision_classifier(name: str, arguments: Mapping[str, Any], outputs: int) -> NamedModel:
    """One of torchvision's classifiers as it is built, with the size, mean and std of torchvision's own weights.

    Raises:
        ViceError: an unknown name, or arguments that do not fit.
    """
    from torchvision import models

    from torchvice.models.sizes import input_size

    _check_torchvision(name, arguments)
    model = _built(name, arguments, outputs)
    pixels = models.get_model_weights(name).DEFAULT.transforms()
    side = max(input_size(model)) if isinstance(getattr(model, "image_size", None), int) else pixels.crop_size[0]
    made_by = {"network": f"torchvision:{name}"}
    return NamedModel(model, name, outputs, made_by, side, tuple(pixels.mean), tuple(pixels.std))


def _check_torchvision(name: str, arguments: Mapping[str, Any]) -> None:
    """Check the name and the arguments of one of torchvision's classifiers."""
    known = _torchvision_names()
    if name not in known:
        import timm

        way_out = f"Did you mean timm's: `{name}`?" if timm.is_model(name) else did_you_mean(name, known)
        raise ViceError(f"torchvision has no classifier called {name!r}.", way_out)
    reserved = [argument for argument in _RESERVED if argument in arguments]
    if reserved:
        raise ViceError(f"--argument must not hold `{reserved[0]}`: torchvice sets it itself.", "Leave it out.")
    if name in _SHIFTING and "transform_input" not in arguments:
        # With it the network shifts its input to the normalisation of its first training: the weights do not tell.
        raise ViceError(
            f"torchvision's {name} must be told whether it transforms its input, but `transform_input` is not given.",
            "Give --argument transform_input=true for torchvision's own weights and what was fine-tuned from them, "
            "--argument transform_input=false for weights that were trained from scratch.",
        )


def _shapes(name: str, arguments: Mapping[str, Any], classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of one of torchvision's classifiers, without their memory where it can be built so."""
    import torch

    try:
        with torch.device("meta"):
            model = _built(name, arguments, classes)
    except ViceError:
        model = _built(name, arguments, classes)  # RegNet computes its widths with tensors that need their numbers
    return {own: tuple(value.shape) for own, value in model.state_dict().items()}


def _built(name: str, arguments: Mapping[str, Any], classes: int) -> nn.Module:
    from torchvision import models

    quick = {"init_weights": False} if name in _SHIFTING else {}
    try:
        built: nn.Module = models.get_model(name, weights=None, num_classes=classes, **quick, **arguments)
    except Exception as error:  # constructors of networks may raise anything
        reason = reason_of(error)
        raise ViceError(
            f"torchvision's {name} cannot be built with {dict(arguments)}: {reason}.", "Check --argument NAME=VALUE."
        ) from None
    return built
