"""A classifier in a folder of transformers: config.json and safetensors. No code in it runs.

A CLIPModel or SiglipModel becomes a zero-shot classifier of the data's classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from torchvice.errors import ViceError, near_path, reason_of
from torchvice.files import read_json
from torchvice.models.named import NO_PIXELS, NamedModel
from torchvice.models.prompts import ClassNames, refuse_prompts

__all__ = ["model_of_folder", "pixels_of"]

_SAVE = "Save it with model.save_pretrained(FOLDER) and processor.save_pretrained(FOLDER)."


def model_of_folder(
    folder: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any],
    key: str | None,
    names: ClassNames | None = None,
) -> NamedModel:
    """Build the image classifier that a folder describes, from its files alone: nothing is downloaded.

    Args:
        folder: with config.json and the weights as safetensors; preprocessor_config.json says size, mean and std.
        weights: local file of a state_dict that replaces the folder's weights, or None.
        arguments: replace entries of config.json.
        key: which of several sets of weights.
        names: the data's classes and their prompts, for zero-shot classifiers.

    Raises:
        ViceError: transformers is not installed, files are missing, or the folder holds no complete image classifier.
    """
    from torchvice.models.build import load_weights
    from torchvice.models.clip_models import is_zero_shot, zero_shot_of_folder

    path, names = Path(folder), names or ClassNames()
    config = _checked_config(path)
    zero_shot = is_zero_shot(config)
    if names.file is not None and not zero_shot:
        raise refuse_prompts(f"transformers:{path}")
    model = _loaded(path, arguments, "AutoModel" if zero_shot else "AutoModelForImageClassification")
    if weights is not None:
        load_weights(model, weights, key)
    if zero_shot:
        return zero_shot_of_folder(model, path, _pixels(path, config), names)
    labels = [str(name) for _, name in sorted((int(i), name) for i, name in model.config.id2label.items())]
    plain = labels == [f"LABEL_{i}" for i in range(len(labels))]  # what transformers writes where none were given
    made_by = {"network": f"transformers:{path.resolve().name}", "architecture": type(model).__name__}
    size, mean, std = _pixels(path, config)
    outputs = int(model.config.num_labels)
    return NamedModel(
        model, path.resolve().name, outputs, made_by, size, mean, std, () if plain else tuple(labels), NO_PIXELS
    )


def _checked_config(path: Path) -> dict[str, Any]:
    """Read config.json, once the folder has what is needed."""
    if not path.is_dir():
        what = "is a file" if path.is_file() else "does not exist"
        raise ViceError(
            f"transformers:FOLDER must name a folder, but {path} {what}.", near_path(path, folder=True) or _SAVE
        )
    config = read_json(path / "config.json", "The description of the network")
    if not any(path.glob("*.safetensors")):
        others = sorted(file.name for file in path.glob("*.bin"))
        came = f" but {', '.join(others[:3])}" if others else ""
        raise ViceError(f"{path} must hold the weights as safetensors, and holds none{came}.", _SAVE)
    if "auto_map" in config:
        raise ViceError(
            f"{path} needs code of its own (`auto_map` in config.json), and no code in a folder runs.",
            "Write a function that builds it, and give --model FILE.py:FUNCTION.",
        )
    return config


def _loaded(path: Path, arguments: Mapping[str, Any], loader: str) -> Any:  # has the attributes of transformers' models
    """The classifier, with every tensor from the folder's files."""
    from torchvice.models.build import quiet_loggers

    try:
        import transformers
    except ImportError:
        message = "transformers:FOLDER needs the package transformers, which is not installed."
        raise ViceError(message, "Install it: pip install transformers.") from None
    try:
        with quiet_loggers("transformers"):
            model, report = getattr(transformers, loader).from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **arguments,
            )
    except Exception as error:  # configurations and loaders may raise anything
        reason = reason_of(error)
        raise ViceError(
            f"{path} must hold an image classifier of transformers, but raises: {reason}.",
            "Give the folder that save_pretrained of a classifier wrote.",
        ) from None
    lacking = [*sorted(report["missing_keys"]), *(str(one[0]) for one in report.get("mismatched_keys", ()))]
    if lacking:
        more = f" and {len(lacking) - 1} further tensors" if len(lacking) > 1 else ""
        raise ViceError(
            f"{path} must hold all weights of {type(model).__name__}, but lacks `{lacking[0]}`{more}.",
            "Give the folder of a classifier that was trained, not that of its backbone.",
        )
    return model.eval()


def _pixels(path: Path, config: Mapping[str, Any]) -> tuple[int | None, Any, Any]:
    """Side in pixels, mean and std for pixels in [0, 1], as the folder says; None: it does not.

    They are in preprocessor_config.json, or where a processor has several parts, in those of the image processor in
    processor_config.json, as transformers 5 writes them.
    """
    side = _side(config.get("image_size"))
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        if not (path / name).is_file():
            continue
        content = read_json(path / name, "The preprocessing of the network")
        said = content if part is None else content.get(part)
        if isinstance(said, Mapping):
            return pixels_of(said, side)
    return side, None, None


def pixels_of(said: Mapping[str, Any], side: int | None = None) -> tuple[int | None, Any, Any]:
    """Return side in pixels, mean and std for pixels in [0, 1], of an image processor's settings; None: not stated.

    Raises:
        ViceError: the network takes its channels in another order than red, green, blue.
    """
    if said.get("do_flip_channel_order"):
        raise ViceError(
            "The network must take red, green and blue in this order, but its preprocessing turns the order round "
            "(`do_flip_channel_order`).",
            "Write a function that builds it with a module in front that flips the channels: --model FILE.py:FUNCTION.",
        )
    cropped = said.get("crop_size") if said.get("do_center_crop") else None
    side = _side(cropped) or _side(said.get("size")) or side
    mean, std = (said.get(name) for name in ("image_mean", "image_std"))
    if said.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    if not (_numbers(mean) and _numbers(std)) or said.get("rescale_offset"):
        return side, None, None
    # The pixels are multiplied by `factor` before they are normalised; ours are divided by 255.
    factor = round(255 * (float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0), 9)
    return side, tuple(value / factor for value in mean), tuple(value / factor for value in std)


def _numbers(values: Any) -> TypeGuard[Sequence[float]]:
    return isinstance(values, Sequence) and len(values) > 0 and all(isinstance(v, int | float) for v in values)


def _side(size: Any) -> int | None:
    """The side in pixels of a size: a number, (height, width), or a dictionary of them."""
    if isinstance(size, Mapping):
        size = [size[name] for name in ("height", "width", "shortest_edge") if name in size]
    values = [size] if isinstance(size, int) else list(size or ())
    return max(values) if values and all(isinstance(value, int) for value in values) else None
