"""Layouts of checkpoints as their authors publish them: recognised by their keys, and the encoder taken out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["OWN", "SCHEMES", "SUPERVISED", "Encoder", "encoder_of"]

SUPERVISED = "supervised"
# Behind the scheme in the metadata of what `vice pretrain` writes. In one entry: safetensors writes several in an order
# of chance, and the same weights would be other bytes.
OWN = " by vice pretrain"
SCHEMES: Mapping[str, str] = {
    SUPERVISED: "a network with its classifier, or a state_dict of another kind",
    "moco_v1": "MoCo, the query encoder",
    "moco_v2": "MoCo v2, the query encoder",
    "moco_v3": "MoCo v3, the base encoder",
    "moco_v3_momentum": "MoCo v3, the momentum encoder",
    "byol": "BYOL, the online network",
    "dino": "DINO, the backbone, of a full checkpoint the teacher's",
    "dino_student": "DINO, the student's backbone",
    "densecl": "DenseCL, the query backbone",
    "mae": "MAE, the encoder",
    "beit": "BEiT",
}
# What a plain state_dict without a classifier may be as well: there it is the user's word that counts.
_BARE = frozenset((SUPERVISED, "moco_v2", "byol", "dino", "densecl", "mae"))
# What wrappers put before all names, and a detector or a self-supervised learner before those of its backbone.
_WRAPPERS = ("module.", "model.", "_orig_mod.", "network.")
_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"

Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Encoder:
    """The encoder of a file: its `scheme`, `tensors` with the names that timm uses, and what was `left` in the file.

    `own`: `vice pretrain` wrote it, so that it has timm's layers and not those of the scheme's authors.
    """

    scheme: str
    tensors: Tensors
    left: tuple[str, ...]
    own: bool = False


@dataclass(frozen=True)
class _Layout:
    """Where a scheme's encoder lies: `under` which name of the file ("": the file itself), behind which `prefix`.

    Names that match `head`, behind the prefix, are no part of the encoder. `mark` tells the layout by its tensors.
    """

    scheme: str
    under: tuple[str, ...]
    prefix: str
    head: str
    mark: Callable[[Tensors], bool]


def _any(pattern: str) -> Callable[[Tensors], bool]:
    return lambda tensors: any(re.match(pattern, name) for name in tensors)


def _first_moco(tensors: Tensors) -> bool:
    """The first MoCo projects by one layer, the second by two."""
    return _any(r"(module\.)?encoder_q\.fc\.weight")(tensors)


def _sine_positions(tensors: Tensors) -> bool:
    """MAE's encoder: its positions are sines and cosines, and the class token's is zero."""
    positions = tensors.get("pos_embed")
    return _headless(tensors) and positions is not None and positions.ndim == 3 and not bool(positions[:, 0].any())


def _headless(tensors: Tensors) -> bool:
    """The backbone of a ResNet or ViT and nothing else."""
    bare = {"conv1.weight", "layer1.0.conv1.weight"} <= tensors.keys() or "blocks.0.attn.qkv.weight" in tensors
    return bare and not _any(r"(fc|head)\.")(tensors)


_BEIT = r"rel_pos_bias\.relative_position_bias_table|blocks\.0\.attn\.relative_position_bias_table"
_LAYOUTS = (
    _Layout("dino", ("teacher",), r"(module\.)?backbone\.", r"(fc|head)\.", _any(r"(module\.)?backbone\.")),
    _Layout("dino_student", ("student",), r"(module\.)?backbone\.", r"(fc|head)\.", _any(r"(module\.)?backbone\.")),
    _Layout("densecl", ("state_dict", ""), r"(module\.)?encoder_q\.0\.", r"fc\.", _any(r"(module\.)?encoder_q\.0\.")),
    _Layout("moco_v1", ("state_dict", ""), r"(module\.)?encoder_q\.", r"fc\.", _first_moco),
    _Layout("moco_v2", ("state_dict", ""), r"(module\.)?encoder_q\.", r"fc\.", _any(r"(module\.)?encoder_q\.")),
    _Layout(
        "moco_v3", ("state_dict", ""), r"(module\.)?base_encoder\.", r"(fc|head)\.", _any(r"(module\.)?base_encoder\.")
    ),
    _Layout(
        "moco_v3_momentum",
        ("state_dict", ""),
        r"(module\.)?momentum_encoder\.",
        r"(fc|head)\.",
        _any(r"(module\.)?momentum_encoder\."),
    ),
    _Layout("mae", ("model", ""), "", r"decoder_|mask_token|(fc|head)\.", _any(r"decoder_(blocks|embed)\.")),
    _Layout("mae", ("model",), "", r"mask_token", _sine_positions),
    _Layout(
        "beit",
        ("model", "module", ""),
        "",
        r"lm_head\.|mask_token|cls_pt_layers\.|.*relative_position_index",
        _any(_BEIT),
    ),
    _Layout("densecl", ("state_dict",), "", r"(fc|head)\.", _headless),
    _Layout("dino", ("",), "", r"(fc|head)\.", _headless),
)


def encoder_of(content: Any, metadata: Mapping[str, str], scheme: str = "auto") -> Encoder:
    """The encoder in the content of a weights file.

    Args:
        content: what `read_content` gave.
        metadata: its metadata; a file that `vice weights convert` or `vice pretrain` wrote names its scheme there.
        scheme: one of SCHEMES, or `auto`: told by the keys. A backbone without anything around it is taken for DINO's,
            one under `state_dict` for DenseCL's, one under `model` whose class token has no position for MAE's: so
            they are published, but the keys do not prove it.

    Raises:
        ViceError: an unknown scheme, no tensors, or the keys of another scheme.

    Example:
        >>> import torch
        >>> weights = {"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(1), "module.queue": torch.zeros(1)}}
        >>> found = encoder_of(weights, {})
        >>> found.scheme, list(found.tensors), found.left
        ('moco_v2', ['conv1.weight'], ('module.queue',))
    """
    if scheme != "auto" and scheme not in SCHEMES:
        raise ViceError(f"`scheme` must be `auto` or a known one, but is {scheme!r}.", did_you_mean(scheme, SCHEMES))
    said = metadata.get("scheme", "")
    written = said.removesuffix(OWN)
    if written in SCHEMES:
        if scheme not in ("auto", written):
            raise ViceError(f"The weights must be of {scheme}, but say that they are of {written}.")
        return Encoder(written, dict(content), (), own=said.endswith(OWN))
    for layout in _LAYOUTS:
        if scheme in ("auto", layout.scheme):
            for under in layout.under:
                tensors = _tensors(content, under)
                if tensors and layout.mark(tensors):
                    return _taken(layout, tensors)
    return _plain(content, scheme)


def _tensors(content: Any, under: str) -> Tensors:
    import torch

    inside = content.get(under) if under and isinstance(content, Mapping) else content
    if not isinstance(inside, Mapping) or not inside:
        return {}
    if not all(isinstance(value, torch.Tensor) for value in inside.values()):
        return {}
    return {str(name): value for name, value in inside.items()}


def _taken(layout: _Layout, tensors: Tensors) -> Encoder:
    found, left = {}, []
    for name, value in tensors.items():
        match = re.match(layout.prefix, name)
        inner = name[match.end() :] if match else ""
        if not match or re.match(layout.head, inner):
            left.append(name)
        else:
            found[inner] = value
    return Encoder(layout.scheme, found, tuple(left))


def _plain(content: Any, scheme: str) -> Encoder:
    """A state_dict of no layout above, with its wrappers taken off."""
    tensors = next(filter(None, (_tensors(content, name) for name in ("state_dict", "model", "network", ""))), None)
    if tensors is None:
        keys = f"a dictionary of {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else "not"
        raise ViceError(f"The weights must be named tensors, but are {keys}.", "A state_dict is needed.")
    if scheme not in ("auto", *_BARE):
        raise ViceError(
            f"The weights must have the keys of {scheme} ({SCHEMES[scheme]}), but begin with {next(iter(tensors))}.",
            "Leave model.scheme at auto, and it is told by the keys.",
        )
    names = dict(zip(tensors, tensors, strict=True))
    prefix = next((p for p in _WRAPPERS if all(name.startswith(p) for name in names)), "")
    while prefix:
        names = {name.removeprefix(prefix): full for name, full in names.items()}
        prefix = next((p for p in _WRAPPERS if all(name.startswith(p) for name in names)), "")
    inside = {n.removeprefix("backbone."): full for n, full in names.items() if n.startswith("backbone.")}
    names = inside or names
    kept = _from_torchvision({name: tensors[full] for name, full in names.items()})
    return Encoder(
        SUPERVISED if scheme == "auto" else scheme, kept, tuple(n for n in tensors if n not in names.values())
    )


# torchvision's vision transformer, old names of its two layers included; its ResNets have timm's names.
_TORCHVISION = (
    (r"class_token$", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
)


def _from_torchvision(tensors: Tensors) -> Tensors:
    if not {"class_token", "conv_proj.weight"} <= tensors.keys():
        return tensors
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in _TORCHVISION:
            name, changed = re.subn(f"^{pattern}", replacement, name)
            if changed:
                break
        renamed[name] = value
    return renamed
