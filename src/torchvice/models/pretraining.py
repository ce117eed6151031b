"""Load published checkpoints of pre-training into timm networks, and report what was loaded."""

from __future__ import annotations

import argparse
import functools
import math
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.models.bare import is_finite, refuse_non_finite, refuse_other_types
from torchvice.models.build import build_model, classifier_names
from torchvice.models.encoder_files import Normalisation, normalisation_of, save_encoder
from torchvice.models.schemes import SCHEMES, UNMARKED, WRITTEN_HERE, Encoder, encoder_of
from torchvice.models.weights import read_content

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Pretrained",
    "check_weights",
    "convert_weights",
    "inspect_weights",
    "load_pretrained",
    "note_of",
    "save_encoder",
]

_LEAST_SHARE = 0.9
_STEM = "patch_embed.proj.0.weight"  # only in MoCo v3's ViTs with a convolutional stem
# Networks that a file is compared with to find the closest; they are built on the meta device.
_CANDIDATES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d"),
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224"),
    *("vit_base_patch32_224", "vit_small_patch8_224", "vit_base_patch8_224", "vit_huge_patch14_224"),
    *("beit_base_patch16_224", "beit_large_patch16_224", "deit_small_distilled_patch16_224"),
)
_SAME_PADDING = (
    "BYOL was trained with TensorFlow's SAME padding, which timm's ResNet does not have: linear probing on "
    "ImageNet is reported at 70 % top-1 without it, at 74.6 with it."
)


@dataclass(frozen=True)
class Pretrained:
    """Report of the weights that a network takes from a file. Shares are in [0, 1] and leave out the classifier.

    Attributes:
        matched: share of the network's parameters that come from the file.
        used: share of the values of the file's encoder that go into the network.
        common: number of tensors in both, over the larger number of tensors. A BEiT has nearly all weights of a
            ViT, but not nearly all of its tensors.
        tensors: number of tensors loaded.
        left: names in the file that are not loaded.
        new: names in the network that stay as initialised.
        resized: position embeddings and tables that were resized.
        own: see `Encoder`.
        normalisation: see `normalisation_of`.
    """

    path: Path
    scheme: str
    network: str
    matched: float
    used: float
    common: float
    tensors: int
    left: tuple[str, ...]
    new: tuple[str, ...]
    resized: tuple[str, ...]
    note: str = ""
    own: bool = False
    normalisation: Normalisation | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.scheme} ({SCHEMES[self.scheme]})",
            f"  matched: {self.matched:.1%} of the parameters of {self.network}, {self.tensors} tensors",
            f"  left:    {_grouped(self.left)}",
            f"  new:     {_grouped(self.new)}",
        ]
        lines += [f"  resized: {_grouped(self.resized)}"] if self.resized else []
        lines += [f"  note:    {self.note}"] if self.note else []
        return "\n".join(lines)


def _grouped(names: Iterable[str]) -> str:
    """Count names by their first part, as in `module.encoder_k (320), module.queue`; `nothing` without names."""
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        first = ".".join(parts[:2] if parts[0] in ("module", "backbone", "model") else parts[:1])
        counts[first] = counts.get(first, 0) + 1
    return ", ".join(f"{name} ({n})" if n > 1 else name for name, n in counts.items()) or "nothing"


def load_pretrained(model: nn.Module, path: str | os.PathLike[str], scheme: str = "auto") -> Pretrained:
    """Load a checkpoint of pre-training into `model`, in place; the classifier stays new unless the file has it.

    Projection heads, decoders, queues and momentum encoders are not loaded. Position embeddings and tables of relative
    positions are resized by timm's functions; BEiT's shared table is copied to every block.

    Args:
        model: the network; unchanged if an error is raised.
        path: see `read_content`.
        scheme: see `encoder_of`.

    Raises:
        ViceError: see `read_content` and `encoder_of`; or less than 90 % of the network's parameters or of the file's
            encoder match, or the first layer does not; the message names the closest architecture; or a tensor holds
            NaN or infinity.
    """
    state, report = _accepted(model, path, scheme)
    model.load_state_dict(state, strict=False)
    return report


def check_weights(model: nn.Module, path: str | os.PathLike[str], scheme: str = "auto") -> Pretrained:
    """Return the report of `load_pretrained`, or raise its error, without changing the network.

    The arguments are those of `load_pretrained`; the network may be on the meta device.
    """
    return _accepted(model, path, scheme)[1]


def inspect_weights(
    path: str | os.PathLike[str],
    name: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    scheme: str = "auto",
) -> Pretrained:
    """Report how well a file matches a network.

    Args:
        path: see `read_content`.
        name: timm's name of the network; None: the closest of the usual ResNets and transformers.
        arguments: arguments of the network.
        scheme: see `encoder_of`.

    Raises:
        ViceError: see `load_pretrained`, but a poor match, NaN and infinity are reported, not refused.
    """
    import torch

    if name is None:
        name = _closest(encoder_of(*read_content(path), scheme).tensors)[0]
    with torch.device("meta"):
        model = build_model(name, 1, arguments=arguments)
    return _matched(model, path, scheme)[1]


def convert_weights(path: str | os.PathLike[str], out: str | os.PathLike[str], scheme: str = "auto") -> Encoder:
    """Write the encoder of a file as safetensors under timm's names. No code in the file runs.

    In addition to tensors a file may hold argparse's Namespace, as DINO's and MAE's full checkpoints do, or be BYOL's
    pickle of Haiku parameters, of which only arrays and containers are created.

    Args:
        path: the file.
        out: output file, with the suffix .safetensors.
        scheme: see `encoder_of`.

    Raises:
        ViceError: `out` has another suffix; the file is damaged, of an unknown layout, needs other objects, or holds
            NaN or infinity.
    """
    if Path(out).suffix != ".safetensors":
        way_out = f"For example {Path(out).stem or 'weights'}.safetensors."
        raise ViceError(f"The output must be a .safetensors file, but is {out}.", way_out)
    # What torch.save wrote under that name is read as any other file of torch.
    if Path(path).suffix in (".pkl", ".pickle") and not zipfile.is_zipfile(path):
        from torchvice.models.byol import read_byol

        encoder, normalisation = read_byol(path), None
    else:
        content, metadata = read_content(path, also=[argparse.Namespace])
        encoder, normalisation = encoder_of(content, metadata, scheme), normalisation_of(path, content, metadata)
    refuse_non_finite(_non_finite(encoder.tensors), str(path))
    save_encoder(out, encoder.tensors, encoder.scheme + WRITTEN_HERE * encoder.own, normalisation)
    return encoder


def _accepted(
    model: nn.Module, path: str | os.PathLike[str], scheme: str
) -> tuple[dict[str, torch.Tensor], Pretrained]:
    """Return the tensors for the network and the report; raise if they are too few."""
    state, report = _matched(model, path, scheme)
    if min(report.matched, report.used, report.common) < _LEAST_SHARE or _first_layer(model) in report.new:
        raise _refusal(model, report, scheme)
    refuse_other_types(model, state, str(path))
    refuse_non_finite(_non_finite(state), str(path))
    _check_heads(model, report)
    return state, report


def _matched(model: nn.Module, path: str | os.PathLike[str], scheme: str) -> tuple[dict[str, torch.Tensor], Pretrained]:
    """Return the tensors for the network and the report."""
    content, metadata = read_content(path)
    encoder = encoder_of(content, metadata, scheme)
    own = model.state_dict()
    tensors, resized = _fitted(model, encoder.tensors)
    heads = tuple(f"{name}." for name in classifier_names(model))
    state = {name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape}
    for head in heads:
        # A classifier is loaded completely or not at all, never a weight without its bias.
        if not {name for name in own if name.startswith(head)} <= state.keys():
            state = {name: value for name, value in state.items() if not name.startswith(head)}
    parameters = {n: p.numel() for n, p in model.named_parameters() if not n.startswith(heads)}
    matched = sum(n for name, n in parameters.items() if name in state) / max(1, sum(parameters.values()))
    sizes = {n: v.numel() for n, v in tensors.items() if not n.startswith(heads) and not _is_buffer(n)}
    used = sum(size for name, size in sizes.items() if name in state) / max(1, sum(sizes.values()))
    common = sum(name in state for name in parameters) / max(1, len(parameters), len(sizes))
    new = tuple(name for name in own if name not in state and not name.endswith("num_batches_tracked"))
    left = (*encoder.left, *(name for name in tensors if name not in state))
    network = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture", type(model).__name__))
    report = Pretrained(
        *(Path(path), encoder.scheme, network, matched, used, common, len(state)),
        *(left, new, resized, note_of(encoder), encoder.own, normalisation_of(path, content, metadata)),
    )
    return state, report


def note_of(encoder: Encoder) -> str:
    """What to know of the weights: values that are no numbers, a scheme that the file does not show, its padding."""
    notes = []
    if bad := _non_finite(encoder.tensors):
        hold = f"{len(bad)} tensors hold" if len(bad) > 1 else "1 tensor holds"
        notes.append(f"{hold} NaN or infinity, such as `{bad[0]}`: the file cannot be used.")
    trained = any(name.startswith(("fc.", "head.", "classifier.")) for name in encoder.tensors)
    if trained and encoder.scheme in UNMARKED and not encoder.own:
        notes.append(
            f"The file has a classifier, so it was trained with labels: nothing in it shows {encoder.scheme}, "
            "which is as given."
        )
    elif encoder.scheme == "byol" and not encoder.own:
        notes.append(_SAME_PADDING)
    return " ".join(notes)


def _non_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity; a mask of attention may hold -infinity."""
    return [name for name, value in tensors.items() if not is_finite(value, name if name.endswith("mask") else None)]


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _fitted(model: nn.Module, tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Copy BEiT's shared table to every block and resize positions; returns the tensors and the names resized."""
    own = model.state_dict()
    tensors = {name: value for name, value in tensors.items() if not name.endswith("relative_position_index")}
    shared = "rel_pos_bias.relative_position_bias_table"
    if shared in tensors and shared not in own:
        table = tensors.pop(shared)
        blocks = sorted({name.split(".")[1] for name in tensors if name.startswith("blocks.")}, key=int)
        tensors |= {f"blocks.{block}.attn.relative_position_bias_table": table for block in blocks}
    positions = [n for n in tensors if n == "pos_embed" or n.endswith("relative_position_bias_table")]
    wrong = {
        name: tensors[name]
        for name in positions
        if name in own and tensors[name].shape != own[name].shape and tensors[name].shape[-1] == own[name].shape[-1]
    }
    resize = _resize_function(model)
    if not wrong or resize is None:
        return tensors, ()
    return tensors | resize(wrong, model), tuple(wrong)


def _resize_function(model: nn.Module) -> Any:
    """Return timm's function that adapts a checkpoint to a network of this class, or None."""
    from timm.models import beit, vision_transformer

    if isinstance(model, beit.Beit):
        return beit.checkpoint_filter_fn
    return vision_transformer.checkpoint_filter_fn if isinstance(model, vision_transformer.VisionTransformer) else None


def _first_layer(model: nn.Module) -> str:
    return next((name for name, value in model.named_parameters() if value.ndim == 4), "")


def _refusal(model: nn.Module, report: Pretrained, scheme: str) -> ViceError:
    tensors = encoder_of(*read_content(report.path), scheme).tensors
    if _STEM in tensors and _STEM not in model.state_dict():
        return ViceError(
            f"The weights {report.path} ({report.scheme}) must match {report.network}, but have a convolutional stem "
            "instead of its patch embedding.",
            "Try -o model.arguments.embed_layer=conv_stem -o model.arguments.depth=11 -o model.arguments.num_heads=12.",
        )
    name, share = _closest(tensors)
    way_out = (
        "None of the usual ResNets and transformers matches either: give the network that the file is of, "
        "-o model.name=NAME -o model.arguments.NAME=VALUE."
    )
    if share >= _LEAST_SHARE and name != report.network:
        way_out = f"{name} matches by {share:.0%}: -o model.name={name}."
    elif share >= _LEAST_SHARE:
        way_out = "The name of the network is right: check model.arguments."
    if report.matched < _LEAST_SHARE:
        problem = f"{report.matched:.0%} of its parameters match"
    elif report.used < _LEAST_SHARE:
        problem = f"only {report.used:.0%} of the file's encoder fits into it"
    elif report.common < _LEAST_SHARE:
        problem = f"they have {report.common:.0%} of their tensors in common"
    else:
        problem = f"its first layer, {_first_layer(model)}, is not in the file"
    return ViceError(
        f"The weights {report.path} ({report.scheme}) must match {report.network} by 90 % or more, but {problem}.",
        way_out,
    )


def _check_heads(model: nn.Module, report: Pretrained) -> None:
    """Check the number of heads of MoCo v3's ViT-Small: timm's differs, and no shape of the weights shows it."""
    if report.own or not report.scheme.startswith("moco_v3"):
        return
    blocks = getattr(model, "blocks", None)
    width = getattr(model, "embed_dim", None)
    heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks is not None else None
    if width == 384 and heads not in (None, 12):
        raise ViceError(
            f"MoCo v3's ViT-Small must have 12 attention heads, but this {report.network} has {heads}.",
            "Set -o model.arguments.num_heads=12.",
        )


@functools.cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's parameters without its classifier, built on the meta device."""
    import torch

    with torch.device("meta"):
        model = build_model(name, 1)
    heads = tuple(f"{head}." for head in classifier_names(model))
    return {n: tuple(p.shape) for n, p in model.named_parameters() if not n.startswith(heads)}


def _closest(tensors: Mapping[str, torch.Tensor]) -> tuple[str, float]:
    """Return the candidate that the tensors match best, and the share matched (see `_share`)."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if value.is_floating_point()}
    shared = shapes.pop("rel_pos_bias.relative_position_bias_table", None)
    if shared:
        blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
        shapes |= {f"blocks.{block}.attn.relative_position_bias_table": shared for block in blocks}
    shares = {name: _share(_shapes(name), shapes) for name in _CANDIDATES}
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def _share(own: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return the share of parameters that match, of the network's or of the file's, whichever is smaller."""

    def fits(name: str) -> bool:
        if name == "pos_embed" or name.endswith("relative_position_bias_table"):  # these are resized
            return shapes[name][-1:] == own[name][-1:]
        return shapes[name] == own[name]

    common = [name for name in own if name in shapes and fits(name)]
    in_file = sum(math.prod(s) for n, s in shapes.items() if not n.startswith(("fc.", "head.")) and not _is_buffer(n))
    matched = sum(math.prod(own[n]) for n in common) / sum(map(math.prod, own.values()))
    return min(matched, sum(math.prod(shapes[n]) for n in common) / max(1, in_file))
