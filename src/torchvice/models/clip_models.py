"""Zero-shot classifiers by name: open_clip's with a file of weights, and folders of transformers' CLIP and SigLIP."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError, did_you_mean, reason_of
from torchvice.models.named import NO_PIXELS, NamedModel
from torchvice.models.prompts import ClassNames, Prompts

__all__ = ["is_zero_shot", "model_of_open_clip", "zero_shot_of_folder"]

# Arguments of open_clip.create_model that torchvice sets itself, or that would load weights past its checks.
_RESERVED = (
    *("pretrained", "pretrained_image", "pretrained_text", "pretrained_image_path", "pretrained_text_path"),
    *("pretrained_hf", "cache_dir", "jit", "device", "precision", "load_weights", "output_dict"),
)
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")


def is_zero_shot(config: Mapping[str, Any]) -> bool:
    """Whether config.json of transformers is that of a CLIPModel or SiglipModel: images and texts, no classifier."""
    usual = {"clip": "CLIPModel", "siglip": "SiglipModel"}.get(str(config.get("model_type")))
    return (config.get("architectures") or [usual])[0] in ("CLIPModel", "SiglipModel")


def model_of_open_clip(
    name: str, weights: str | os.PathLike[str], arguments: Mapping[str, Any], key: str | None, names: ClassNames
) -> NamedModel:
    """Build a zero-shot classifier of open_clip with the weights of a file; nothing is downloaded.

    Args:
        name: open_clip's name, such as ViT-B-32.
        weights: local file of the state_dict, of image and text tower.
        arguments: of open_clip.create_model.
        key: which of several sets of weights.
        names: the classes and their prompts.

    Raises:
        ViceError: open_clip is not installed, an unknown name, weights that do not fit, or a tokenizer that is not in
            the cache of Hugging Face.
    """
    from torchvice.models.build import load_weights, quiet_loggers

    try:
        import open_clip
    except ImportError:
        message = "open_clip:NAME needs the package open_clip_torch, which is not installed."
        raise ViceError(message, "Install it: pip install open_clip_torch.") from None
    known = open_clip.list_models()
    if name not in known:
        raise ViceError(f"open_clip has no model called {name!r}.", did_you_mean(name, known))
    if reserved := [argument for argument in _RESERVED if argument in arguments]:
        raise ViceError(f"--argument must not hold `{reserved[0]}`: torchvice sets it itself.", "Leave it out.")
    prompts = names.prompts()
    with quiet_loggers("root"):
        model = _built(open_clip, name, arguments)
    load_weights(model, weights, key)
    pixels = (max(_sides(model.visual.image_size)), *_normalisation(open_clip, name, model))
    notes = [f"{name} has {'Quick' * _is_quick(open_clip, name)}GELU. {other}" for other in _others(open_clip, name)]
    named = _named(model, _tokenizer(open_clip, name), names, prompts, pixels)
    made_by = {"network": f"open_clip:{name}", **named.made_by}
    lacking = "is a name of weights with different ones"
    return replace(
        named, label=name, made_by=made_by, needs_pixels=lacking, notes=(named.notes[0], *notes, *named.notes[1:])
    )


def _sides(size: int | Sequence[int]) -> Sequence[int]:
    return (size,) if isinstance(size, int) else size


def _built(open_clip: Any, name: str, arguments: Mapping[str, Any]) -> Any:  # has the attributes of open_clip's models
    from torchvice.models.hub import offline

    try:
        with offline():
            return open_clip.create_model(name, pretrained=None, pretrained_text=False, **arguments).eval()
    except Exception as error:  # constructors of networks may raise anything
        reason = reason_of(error)
        given = f" with {dict(arguments)}" if arguments else ""
        raise ViceError(
            f"open_clip's {name} cannot be built{given}: {reason}.",
            "Check --argument NAME=VALUE, and the name of the network.",
        ) from None


def _tokenizer(open_clip: Any, name: str) -> Any:
    """The tokenizer of a model; those that are not in the package must be in the cache."""
    from torchvice.models.hub import offline

    try:
        with offline():
            return open_clip.get_tokenizer(name)
    except Exception as error:  # its libraries and the hub raise different types
        source = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
        if isinstance(error, ImportError) or not source:
            reason = reason_of(error)
            raise ViceError(f"open_clip's {name} needs a tokenizer, but that raises: {reason}.") from None
        message = f"open_clip's {name} needs the tokenizer {source}, but the cache of Hugging Face does not have it."
        load = f"import open_clip; open_clip.get_tokenizer('{name}')"
        way_out = f'Download it once: python -c "{load}". It needs the package transformers.'
        raise ViceError(message, way_out) from None


def _tags(open_clip: Any, name: str) -> dict[str, Mapping[str, Any]]:
    """What open_clip knows of its own weights of a model, by their tag."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    return {tag: open_clip.get_pretrained_cfg(name, tag) for tag in tags}


def _normalisation(open_clip: Any, name: str, model: Any) -> tuple[Any, Any]:
    """Mean and std of all of open_clip's weights of a model; None if these differ."""
    own = model.visual.preprocess_cfg
    stated = {
        (tuple(tag.get("mean") or own["mean"]), tuple(tag.get("std") or own["std"]))
        for tag in _tags(open_clip, name).values()
    }
    if len(stated) > 1:
        return None, None
    return next(iter(stated), (own["mean"], own["std"]))


def _is_quick(open_clip: Any, name: str) -> bool:
    return bool(open_clip.get_model_config(name).get("quick_gelu"))


def _others(open_clip: Any, name: str) -> list[str]:
    """What to say of open_clip's own weights that need the other activation; the weights themselves do not tell."""
    quick = _is_quick(open_clip, name)
    tags = [tag for tag, own in _tags(open_clip, name).items() if bool(own.get("quick_gelu")) != quick]
    other = name.removesuffix("-quickgelu") if quick else f"{name}-quickgelu"
    if not tags or other not in open_clip.list_models():
        return []
    return [f"For the weights {', '.join(tags)} give --model open_clip:{other}."]


def zero_shot_of_folder(model: Any, path: Path, pixels: Sequence[Any], names: ClassNames) -> NamedModel:
    """Return the zero-shot classifier of a CLIPModel or SiglipModel of transformers and the tokenizer in its folder.

    Args:
        model: loaded. path: its folder. pixels: side, mean and std. names: the classes and their prompts.

    Raises:
        ViceError: no tokenizer in the folder, mean and std that are not stated, or prompts that do not fit.
    """
    import transformers

    prompts = names.prompts()
    try:
        # Without its files transformers makes an empty tokenizer, to which all texts are the same.
        if not any((path / name).is_file() for name in _TOKENIZERS):
            raise FileNotFoundError(f"none of {', '.join(_TOKENIZERS)} is there")
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raise different types
        reason = reason_of(error)
        message = f"{path} must hold the tokenizer of {type(model).__name__}, but raises: {reason}."
        raise ViceError(message, "Save it with processor.save_pretrained(FOLDER).") from None
    named = _named(model, tokenizer, names, prompts, pixels)
    label = path.resolve().name
    made_by = {"network": f"transformers:{label}", "architecture": type(model).__name__, **named.made_by}
    return replace(named, label=label, made_by=made_by)


def _named(model: Any, tokenizer: Any, names: ClassNames, prompts: Prompts, pixels: Sequence[Any]) -> NamedModel:
    """The classifier with what is said of its prompts; mean and std that are None are asked for where it is used."""
    from torchvice.models.zero_shot import zero_shot

    side, mean, std = pixels
    made = zero_shot(model, tokenizer, names.classes, prompts, mean=mean or (0.0,) * 3, std=std or (1.0,) * 3)
    notes = (f"Prompts: {prompts.origin}.",)
    made_by = {"prompts": prompts.origin, "prompts_sha256": prompts.sha256}
    return NamedModel(made, "", len(prompts.texts), made_by, side, mean, std, needs_pixels=NO_PIXELS, notes=notes)
