"""Files of encoders: tensors as safetensors, with their scheme and the normalisation that they were trained with."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.files import atomic, read_json, sha256
from torchvice.models.schemes import WRITTEN_HERE

if TYPE_CHECKING:
    import torch

__all__ = ["MANIFEST", "Normalisation", "TrainedHere", "normalisation_of", "save_encoder", "training_of"]

MANIFEST = "pretraining.json"  # beside the weights that `vice pretrain` writes


@dataclass(frozen=True)
class Normalisation:
    """Mean and std per channel, of images on [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class TrainedHere:
    """What a file says of the training by torchvice that its weights come from; None or () where it does not.

    Attributes:
        normalisation: of the images.
        crop, view_size: sides in pixels, and interpolation: how a RUN shows images to its network.
        classes: names of the outputs, in their order.
        network, arguments: timm's name of a RUN's network, and what it was built with.
    """

    normalisation: Normalisation | None = None
    crop: int | None = None
    view_size: int | None = None
    interpolation: str | None = None
    classes: tuple[str, ...] = ()
    network: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def save_encoder(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    scheme: str,
    normalisation: Normalisation | None = None,
) -> None:
    """Write tensors as safetensors, completely or not at all.

    Args:
        path: output file.
        tensors: the encoder, under timm's names.
        scheme: entry of the metadata, see `encoder_of`.
        normalisation: entries of the metadata, if torchvice trained the encoder.
    """
    from safetensors.torch import save

    # safetensors refuses tensors that share memory or are not contiguous.
    own = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    stated = {} if normalisation is None else {"mean": normalisation.mean, "std": normalisation.std}
    metadata = {"scheme": scheme, **{name: json.dumps(values) for name, values in stated.items()}}
    # Its own writing leaves a temporary file after a kill, which nothing clears, and raises what is no OSError.
    content = _sorted_metadata(save(own, metadata))
    with atomic(path) as part:
        part.write_bytes(content)


def _sorted_metadata(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file: written in random order, equal weights would differ in their bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def normalisation_of(path: str | os.PathLike[str], content: Any, metadata: Mapping[str, str]) -> Normalisation | None:
    """Return the normalisation with which torchvice trained the weights of a file; None: the file does not say.

    It is in the metadata of files of `vice pretrain` (of earlier versions in the pretraining.json beside them), and in
    the settings that a RUN's checkpoint holds.

    Args:
        path: the file.
        content, metadata: see `read_content`.
    """
    scheme = metadata.get("scheme")
    if scheme is not None:
        stated = _stated(lambda: {name: json.loads(metadata[name]) for name in ("mean", "std")})
        return stated or (_beside(Path(path)) if scheme.endswith(WRITTEN_HERE) else None)
    return _stated(lambda: _inside(_inside(_inside(content, "torchvice"), "settings"), "transform"))


def training_of(path: str | os.PathLike[str], content: Any, metadata: Mapping[str, str]) -> TrainedHere:
    """Return what a file says of the training by torchvice; the arguments are those of `normalisation_of`."""
    written = _inside(content, "torchvice")
    settings, classes = _inside(written, "settings"), written.get("classes")
    pixels, network = _inside(settings, "transform"), _inside(settings, "model").get("name")
    crop, view_size = pixels.get("crop"), _inside(settings, "assess").get("view_size")
    interpolation = pixels.get("interpolation")
    return TrainedHere(
        normalisation_of(path, content, metadata),
        crop if type(crop) is int else None,
        view_size if type(view_size) is int else None,
        interpolation if isinstance(interpolation, str) else None,
        tuple(map(str, classes)) if isinstance(classes, list | tuple) else (),
        network if isinstance(network, str) else None,
        _inside(_inside(settings, "model"), "arguments"),
    )


def _inside(content: Any, name: str) -> Mapping[Any, Any]:
    """Return the mapping of that name in a mapping; an empty one without it."""
    found = content.get(name) if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _beside(path: Path) -> Normalisation | None:
    """What the manifest of the pre-training says that wrote the file, if it lies beside it."""
    try:
        manifest = read_json(path.parent / MANIFEST)
        mine = manifest["weights"]["sha256"] == sha256(path)
    except (ViceError, KeyError, TypeError):
        return None
    return _stated(lambda: manifest["asked"]["transform"]) if mine else None


def _stated(read: Any) -> Normalisation | None:
    """Return the mean and std of the mapping that `read` returns; None unless both are three finite numbers."""
    try:
        values = read()
        mean, std = (tuple(float(number) for number in values[name]) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    if not len(mean) == len(std) == 3 or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        return None
    return Normalisation(mean, std)
