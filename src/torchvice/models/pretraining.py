"""A start from the checkpoint of a pre-training, as its authors publish it, and the report of what was taken over."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError
from torchvice.files import atomic
from torchvice.models.build import build_model, classifier_names
from torchvice.models.schemes import OWN, SCHEMES, Encoder, encoder_of
from torchvice.models.weights import read_content

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Pretrained", "check_weights", "convert_weights", "inspect_weights", "load_pretrained"]

_LEAST_SHARE = 0.9
_STEM = "patch_embed.proj.0.weight"  # of a transformer that begins as MoCo v3's conv ViTs do
# Among them the closest is looked for; each is built without memory.
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
    """What a file gave a network.

    `matched` is the share of the network's parameters, those of its classifier aside, that came from the file, and
    `used` the share of the file's encoder that went into the network, both in [0, 1]; `common` is the share of tensors
    that both have, of whichever has more: a BEiT has almost all of a ViT's weights and is none. `tensors` counts what
    was taken over; `left` names what the file has besides, `new` what stays as initialised, `resized` the positions
    that were made for another size. `own`: see `Encoder`.
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
    """The first words of names with their number, `module.encoder_k (320), module.queue`; `nothing`."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        first = ".".join(words[:2] if words[0] in ("module", "backbone", "model") else words[:1])
        counts[first] = counts.get(first, 0) + 1
    return ", ".join(f"{name} ({n})" if n > 1 else name for name, n in counts.items()) or "nothing"


def load_pretrained(model: nn.Module, path: str | os.PathLike[str], scheme: str = "auto") -> Pretrained:
    """Fill `model` from the checkpoint of a pre-training, in place; its classifier stays new unless the file has it.

    Projection heads, decoders, queues and the slow twins of encoders are left. Position embeddings and tables of
    relative positions are resized by timm's functions, BEiT's shared table is given to every block.

    Args:
        model: the network; when an error is raised it is as it was.
        path: see `read_content`.
        scheme: see `encoder_of`.

    Raises:
        ViceError: see `read_content` and `encoder_of`; less than 90 % of the network's parameters or of the file's
            encoder match, or the first layer does not: the closest architecture is named.
    """
    taken, report = _accepted(model, path, scheme)
    model.load_state_dict(taken, strict=False)
    return report


def check_weights(model: nn.Module, path: str | os.PathLike[str], scheme: str = "auto") -> Pretrained:
    """What `load_pretrained` would say of a file, or the error that it would raise; the network is not filled.

    Args:
        model: the network; it may lie on torch's meta device, where it takes no memory.
        path: see `read_content`.
        scheme: see `encoder_of`.

    Raises:
        ViceError: see `load_pretrained`.
    """
    return _accepted(model, path, scheme)[1]


def inspect_weights(
    path: str | os.PathLike[str],
    name: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    scheme: str = "auto",
) -> Pretrained:
    """The report of a file on a network, which is not filled.

    Args:
        path: see `read_content`.
        name: timm's name of the network; None: the closest of the usual ResNets and transformers.
        arguments: of the network.
        scheme: see `encoder_of`.

    Raises:
        ViceError: see `load_pretrained`, but a poor match is reported and not refused.
    """
    import torch

    if name is None:
        name = _closest(encoder_of(*read_content(path), scheme).tensors)[0]
    with torch.device("meta"):
        model = build_model(name, 1, arguments=arguments)
    return _matched(model, path, scheme)[1]


def convert_weights(path: str | os.PathLike[str], out: str | os.PathLike[str], scheme: str = "auto") -> Encoder:
    """Write the encoder of a file as safetensors with timm's names. Nothing in the file runs.

    Beside tensors a file may hold argparse's Namespace, as DINO's and MAE's full checkpoints do, or be BYOL's pickle of
    Haiku's parameters: of its objects only arrays and containers are made.

    Args:
        path: the file.
        out: where to write; ends in .safetensors.
        scheme: see `encoder_of`.

    Raises:
        ViceError: `out` has another ending; the file is damaged, of an unknown layout or asks for other objects.
    """
    from safetensors.torch import save_file

    if Path(out).suffix != ".safetensors":
        raise ViceError(f"The converted weights must be a .safetensors file, but are to be {out}.")
    if Path(path).suffix in (".pkl", ".pickle"):
        from torchvice.models.byol import read_byol

        encoder = read_byol(path)
    else:
        encoder = encoder_of(*read_content(path, also=[argparse.Namespace]), scheme)
    # Tensors that share memory, or lie in it out of order, are refused by safetensors.
    plain = {name: value.detach().clone().contiguous() for name, value in encoder.tensors.items()}
    with atomic(out) as part:
        save_file(plain, part, metadata={"scheme": encoder.scheme + OWN * encoder.own})
    return encoder


def _accepted(
    model: nn.Module, path: str | os.PathLike[str], scheme: str
) -> tuple[dict[str, torch.Tensor], Pretrained]:
    """What of the file goes into the network, and the report; raises where that is too little."""
    taken, report = _matched(model, path, scheme)
    if min(report.matched, report.used, report.common) < _LEAST_SHARE or _first_layer(model) in report.new:
        raise _refusal(model, report, scheme)
    _check_heads(model, report)
    return taken, report


def _matched(model: nn.Module, path: str | os.PathLike[str], scheme: str) -> tuple[dict[str, torch.Tensor], Pretrained]:
    """What of the file goes into the network, and the report."""
    encoder = encoder_of(*read_content(path), scheme)
    own = model.state_dict()
    tensors, resized = _fitted(model, encoder.tensors)
    heads = tuple(f"{name}." for name in classifier_names(model))
    taken = {name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape}
    for head in heads:
        # All of a classifier or nothing: a weight without its bias would be neither old nor new.
        if not {name for name in own if name.startswith(head)} <= taken.keys():
            taken = {name: value for name, value in taken.items() if not name.startswith(head)}
    parameters = {n: p.numel() for n, p in model.named_parameters() if not (heads and n.startswith(heads))}
    total, there = sum(parameters.values()), sum(n for name, n in parameters.items() if name in taken)
    inside = {n: v.numel() for n, v in tensors.items() if not (heads and n.startswith(heads)) and not _is_buffer(n)}
    used = sum(size for name, size in inside.items() if name in taken) / max(1, sum(inside.values()))
    common = sum(name in taken for name in parameters) / max(1, len(parameters), len(inside))
    new = tuple(name for name in own if name not in taken and not name.endswith("num_batches_tracked"))
    left = (*encoder.left, *(name for name in tensors if name not in taken))
    note = _SAME_PADDING if encoder.scheme == "byol" and not encoder.own else ""
    network = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture", type(model).__name__))
    report = Pretrained(
        *(Path(path), encoder.scheme, network, there / max(1, total), used, common, len(taken)),
        *(left, new, resized, note, encoder.own),
    )
    return taken, report


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _fitted(model: nn.Module, tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The tensors with BEiT's shared table in every block and positions of the network's size, and whose these are."""
    own = model.state_dict()
    tensors = {name: value for name, value in tensors.items() if not name.endswith("relative_position_index")}
    shared = "rel_pos_bias.relative_position_bias_table"
    if shared in tensors and shared not in own:
        table = tensors.pop(shared)
        blocks = sorted({name.split(".")[1] for name in tensors if name.startswith("blocks.")}, key=int)
        tensors |= {f"blocks.{block}.attn.relative_position_bias_table": table for block in blocks}
    sized = [n for n in tensors if n == "pos_embed" or n.endswith("relative_position_bias_table")]
    wrong = {
        name: tensors[name]
        for name in sized
        if name in own and tensors[name].shape != own[name].shape and tensors[name].shape[-1] == own[name].shape[-1]
    }
    resize = _timms_filter(model)
    if not wrong or resize is None:
        return tensors, ()
    return tensors | resize(wrong, model), tuple(wrong)


def _timms_filter(model: nn.Module) -> Any:
    """timm's own function that fits a checkpoint to a network of this class."""
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
            f"The weights {report.path} ({report.scheme}) must match {report.network}, but begin with convolutions in "
            "place of its patches.",
            "Say so: -o model.arguments.embed_layer=conv_stem, with model.arguments.depth=11 and .num_heads=12.",
        )
    name, share = _closest(tensors)
    way_out = "None of the usual ResNets and transformers is close either."
    if share >= _LEAST_SHARE and name != report.network:
        way_out = f"Closest is {name}, which fits in {share:.0%}: -o model.name={name}."
    elif share >= _LEAST_SHARE:
        way_out = "Its name is right: check the network's arguments."
    if report.matched < _LEAST_SHARE:
        said = f"{report.matched:.0%} of its parameters match"
    elif report.used < _LEAST_SHARE:
        said = f"{report.used:.0%} of the file's encoder go into it"
    elif report.common < _LEAST_SHARE:
        said = f"they have {report.common:.0%} of their tensors in common"
    else:
        said = f"its first layer, {_first_layer(model)}, is not in the file"
    return ViceError(
        f"The weights {report.path} ({report.scheme}) must match {report.network} by 90 % or more, but {said}.",
        way_out,
    )


def _check_heads(model: nn.Module, report: Pretrained) -> None:
    """The number of heads leaves no trace in the weights; MoCo v3's ViT-Small has another one than timm's."""
    if report.own or not report.scheme.startswith("moco_v3"):
        return
    blocks = getattr(model, "blocks", None)
    width = getattr(model, "embed_dim", None)
    heads = getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks is not None else None
    if width == 384 and heads not in (None, 12):
        raise ViceError(
            f"MoCo v3's ViT-Small must have 12 heads of attention, but this {report.network} has {heads}.",
            "Say so: -o model.arguments.num_heads=12.",
        )


@functools.cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters without its classifier; no memory is taken for them."""
    import torch

    with torch.device("meta"):
        model = build_model(name, 1)
    heads = tuple(f"{head}." for head in classifier_names(model))
    return {n: tuple(p.shape) for n, p in model.named_parameters() if not n.startswith(heads)}


def _closest(tensors: Mapping[str, torch.Tensor]) -> tuple[str, float]:
    """The candidate that the tensors match best, and by which share of it and of them, the smaller one."""
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if value.is_floating_point()}
    shared = shapes.pop("rel_pos_bias.relative_position_bias_table", None)
    if shared:
        blocks = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
        shapes |= {f"blocks.{block}.attn.relative_position_bias_table": shared for block in blocks}
    shares = {name: _share(_shapes(name), shapes) for name in _CANDIDATES}
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def _share(own: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> float:
    def size(shape: tuple[int, ...]) -> int:
        product = 1
        for length in shape:
            product *= length
        return product

    def fits(name: str) -> bool:
        if name == "pos_embed" or name.endswith("relative_position_bias_table"):  # these are resized
            return shapes[name][-1:] == own[name][-1:]
        return shapes[name] == own[name]

    common = [name for name in own if name in shapes and fits(name)]
    theirs = sum(size(s) for n, s in shapes.items() if not n.startswith(("fc.", "head.")) and not _is_buffer(n))
    mine = sum(size(own[n]) for n in common)
    return min(mine / sum(map(size, own.values())), sum(size(shapes[n]) for n in common) / max(1, theirs))
