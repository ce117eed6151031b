"""Networks of the Hugging Face hub, from its local cache alone: timm's and transformers' classifiers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchvice.errors import ViceError
from torchvice.files import read_json
from torchvice.models.named import NamedModel
from torchvice.models.prompts import ClassNames, refuse_prompts

__all__ = ["model_of_hub", "offline", "snapshot_of"]

_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def model_of_hub(
    name: str,
    weights: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any],
    key: str | None,
    names: ClassNames,
) -> NamedModel:
    """Build the network of a repository of the hub from the files in the local cache; nothing is downloaded.

    Args:
        name: ORG/NAME, or ORG/NAME@REVISION.
        weights: local file of a state_dict that replaces the repository's weights, or None.
        arguments: of timm.create_model, or entries of config.json of transformers.
        key: which of several sets of weights.
        names: the classes and their prompts, for zero-shot classifiers.

    Raises:
        ViceError: another form of name, a repository that is not in the cache or of another library, or weights that do
            not fit.
    """
    folder, repository = snapshot_of(name), name.partition("@")[0]
    config = (
        read_json(folder / "config.json", "The description of the network")
        if (folder / "config.json").is_file()
        else {}
    )
    if "architecture" in config and "model_type" not in config:
        if names.file is not None:
            raise refuse_prompts(f"hf-hub:{name}")
        made = _of_timm(folder, config, weights, arguments, key)
    elif "model_type" in config:
        from torchvice.models.folders import model_of_folder

        made = model_of_folder(folder, weights, arguments, key, names)
    else:
        raise _other_library(repository, folder)
    made_by = {**made.made_by, "network": f"hf-hub:{repository}", "revision": folder.name}
    return replace(made, label=repository.replace("/", "_"), made_by=made_by)


def snapshot_of(name: str) -> Path:
    """The folder in the local cache of a repository, ORG/NAME or ORG/NAME@REVISION; it is called by its revision.

    Raises:
        ViceError: another form of name, or a repository that is not in the cache.
    """
    if not _NAME.fullmatch(name):
        raise ViceError(
            f"hf-hub: must be followed by ORG/NAME, but is followed by {name!r}.",
            "For example hf-hub:timm/resnet18.a1_in1k.",
        )
    repository, _, revision = name.partition("@")
    return _snapshot(repository, revision or None)


def _cache() -> Path:
    """The folder of the hub's cache, as huggingface_hub finds it, but read from the environment of now."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{general}/huggingface").expanduser() / "hub"


def _snapshot(repository: str, revision: str | None) -> Path:
    """The folder of a repository's files in the cache."""
    from huggingface_hub import snapshot_download

    cache = _cache()
    download = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    way_out = f"Download it once: {download}. Or give --model transformers:FOLDER, or timm's name and --weights FILE."
    try:
        with offline():
            return Path(snapshot_download(repository, revision=revision, cache_dir=cache, local_files_only=True))
    except Exception:  # the hub's errors depend on its version
        at = f" at revision {revision}" if revision else ""
        message = f"The network {repository}{at} must be in the cache {cache}, but is not; vice downloads nothing."
        raise ViceError(message, way_out) from None


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client from the network inside the block."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _of_timm(
    folder: Path,
    config: Mapping[str, Any],
    weights: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any],
    key: str | None,
) -> NamedModel:
    """Build a network of timm as config.json says, with the weights of the folder."""
    from torchvice.models.build import AS_OPTION, build_model, load_weights
    from torchvice.models.sizes import input_size

    # The first versions of timm wrote the entries of `pretrained_cfg` beside the architecture.
    name, stated = str(config["architecture"]), dict(config.get("pretrained_cfg", config) or {})
    given = {**(config.get("model_args") or {}), **arguments}
    size = stated.get("input_size")
    if stated.get("fixed_input_size") and size and "img_size" not in given:
        given["img_size"] = size[-1]
    classes = config.get("num_classes", stated.get("num_classes"))
    if not isinstance(classes, int) or classes < 1:
        raise ViceError(
            f"{folder / 'config.json'} must state a number of classes, but it is {classes!r}.", _NO_CLASSIFIER
        )
    model = build_model(name, classes, arguments=given, named=AS_OPTION)
    trained = load_weights(model, _weights_in(folder) if weights is None else weights, key).trained
    labels = config.get("label_names") or stated.get("label_names") or stated.get("labels") or ()
    known = tuple(map(str, labels)) if isinstance(labels, list | tuple) and len(labels) == classes else ()
    side = max(input_size(model) if given.get("img_size") is not None else size[1:]) if size else None
    mean, std = (stated.get(field) and tuple(stated[field]) for field in ("mean", "std"))
    return NamedModel(model.eval(), name, classes, {"architecture": name}, side, mean, std, known, trained=trained)


_AGAIN = "The download was not complete: run hf download again."
_NO_CLASSIFIER = "Give a repository with a classifier, not with a backbone."


def _weights_in(folder: Path) -> Path:
    """The file of timm's weights in a folder, safetensors first."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    message = f"{folder} must hold model.safetensors or pytorch_model.bin, but holds neither."
    raise ViceError(message, f"{_AGAIN} Or give --weights FILE.")


def _other_library(repository: str, folder: Path) -> ViceError:
    """The error for a repository that is neither timm's nor transformers'."""
    if (folder / "open_clip_config.json").is_file():
        message = f"{repository} is a model of open_clip, which must be given by its name and its file of weights."
        return ViceError(message, f"Give --model open_clip:NAME --weights FILE, with a file of {folder}.")
    if not (folder / "config.json").is_file():
        message = f"{folder} must hold config.json, which describes the network, but does not."
        return ViceError(message, f"{_AGAIN} If it has none: --model FILE.py:FUNCTION, a function that builds it.")
    message = f"{repository} must be a network of timm or transformers, but its config.json names neither."
    return ViceError(message, "Write a function that builds it: --model FILE.py:FUNCTION.")
