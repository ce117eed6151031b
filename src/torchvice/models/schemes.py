"""Published checkpoints of pre-training schemes: recognise the scheme by its keys, and extract the encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchvice.errors import ViceError, did_you_mean
from torchvice.models.weight_files import no_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["PUBLISHED_WITH_IMAGENET", "SCHEMES", "SUPERVISED", "UNMARKED", "WRITTEN_HERE", "Encoder", "encoder_of"]

SUPERVISED = "supervised"
# Follows the scheme in the metadata of files that `vice pretrain` writes.
WRITTEN_HERE = " by vice pretrain"
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
# Schemes whose authors normalise images with ImageNet's mean and std; BEiT's, like timm's, with 0.5.
PUBLISHED_WITH_IMAGENET = frozenset(SCHEMES) - {SUPERVISED, "beit"}
# Schemes whose files may be a bare state_dict, which has no sign of its scheme: the user's `scheme` is trusted.
_BARE = frozenset((SUPERVISED, "moco_v2", "byol", "dino", "densecl", "mae"))
UNMARKED = _BARE - {SUPERVISED}
_AUTO = "Leave out --scheme (model.scheme=auto): the keys then decide."
_BLOCK = re.compile(r"\bblocks\.\d")
# Prefixes that DataParallel, Lightning, torch.compile and others put before all names.
_WRAPPERS = ("module.", "model.", "_orig_mod.", "network.")
_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"

Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Encoder:
    """Encoder of a file: its `scheme`, its `tensors` under timm's names, and the names `left` in the file.

    `own`: written by `vice pretrain`, with timm's layers rather than those of the scheme's authors.
    """

    scheme: str
    tensors: Tensors
    left: tuple[str, ...]
    own: bool = False


@dataclass(frozen=True)
class _Layout:
    """Where a scheme stores its encoder: `under` which keys of the file ("": the file itself), with which `prefix`.

    Names that match `head` after the prefix do not belong to the encoder. `mark` recognises the layout by its tensors;
    None: by the prefix.
    """

    scheme: str
    under: tuple[str, ...]
    prefix: str
    head: str = r"(fc|head)\."
    mark: Callable[[Tensors], bool] | None = None


def _any(pattern: str) -> Callable[[Tensors], bool]:
    return lambda tensors: any(re.match(pattern, name) for name in tensors)


def _first_moco(tensors: Tensors) -> bool:
    """Whether the projection is one layer, as in MoCo v1; v2 has two."""
    return _any(r"(module\.)?encoder_q\.fc\.weight")(tensors)


def _sine_positions(tensors: Tensors) -> bool:
    """Whether it is MAE's encoder, whose sine-cosine positions are zero at the class token."""
    positions = tensors.get("pos_embed")
    return _headless(tensors) and positions is not None and positions.ndim == 3 and not bool(positions[:, 0].any())


def _headless(tensors: Tensors) -> bool:
    """Whether it is the backbone of a ResNet or ViT and nothing else."""
    bare = {"conv1.weight", "layer1.0.conv1.weight"} <= tensors.keys() or "blocks.0.attn.qkv.weight" in tensors
    return bare and not _any(r"(fc|head)\.")(tensors)


_BEIT = r"rel_pos_bias\.relative_position_bias_table|blocks\.0\.attn\.relative_position_bias_table"
_NO_ENCODER_IN_BEIT = r"lm_head\.|mask_token|cls_pt_layers\.|.*relative_position_index"
_LAYOUTS = (
    _Layout("dino", ("teacher",), r"(module\.)?backbone\."),
    _Layout("dino_student", ("student",), r"(module\.)?backbone\."),
    _Layout("densecl", ("state_dict", ""), r"(module\.)?encoder_q\.0\.", head=r"fc\."),
    _Layout("moco_v1", ("state_dict", ""), r"(module\.)?encoder_q\.", head=r"fc\.", mark=_first_moco),
    _Layout("moco_v2", ("state_dict", ""), r"(module\.)?encoder_q\.", head=r"fc\."),
    _Layout("moco_v3", ("state_dict", ""), r"(module\.)?base_encoder\."),
    _Layout("moco_v3_momentum", ("state_dict", ""), r"(module\.)?momentum_encoder\."),
    _Layout("mae", ("model", ""), "", r"decoder_|mask_token|(fc|head)\.", _any(r"decoder_(blocks|embed)\.")),
    _Layout("mae", ("model",), "", r"mask_token", _sine_positions),
    _Layout("beit", ("model", "module", ""), "", _NO_ENCODER_IN_BEIT, _any(_BEIT)),
    _Layout("densecl", ("state_dict",), "", mark=_headless),
    _Layout("dino", ("",), "", mark=_headless),
)


def encoder_of(content: Any, metadata: Mapping[str, str], scheme: str = "auto") -> Encoder:
    """Extract the encoder from the content of a weights file.

    Args:
        content: content of the file, see `read_content`.
        metadata: its metadata; files of `vice weights convert` and `vice pretrain` name their scheme there.
        scheme: one of SCHEMES, or `auto`: recognised by the keys. A bare backbone counts as DINO's, one under
            `state_dict` as DenseCL's, one under `model` with a zero position of the class token as MAE's: they are
            published that way, but the keys do not prove it.

    Raises:
        ViceError: an unknown scheme, no tensors, or keys of another scheme.

    Example:
        >>> import torch
        >>> weights = {"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(1), "module.queue": torch.zeros(1)}}
        >>> encoder = encoder_of(weights, {})
        >>> encoder.scheme, list(encoder.tensors), encoder.left
        ('moco_v2', ['conv1.weight'], ('module.queue',))
    """
    if scheme != "auto" and scheme not in SCHEMES:
        raise ViceError(
            f"`scheme` must be `auto` or one of {', '.join(SCHEMES)}, but is {scheme!r}.", did_you_mean(scheme, SCHEMES)
        )
    entry = metadata.get("scheme", "")
    written = entry.removesuffix(WRITTEN_HERE)
    if written in SCHEMES:
        if scheme not in ("auto", written):
            raise ViceError(f"The scheme of the weights must be {scheme}, but their metadata says {written}.")
        return Encoder(written, dict(content), (), own=entry.endswith(WRITTEN_HERE))
    for layout in _LAYOUTS:
        if scheme in ("auto", layout.scheme):
            for under in layout.under:
                tensors = _tensors(content, under)
                if tensors and (layout.mark or _any(layout.prefix))(tensors):
                    return _extract(layout, tensors)
    return _from_state_dict(content, scheme)


def _tensors(content: Any, under: str) -> Tensors:
    """Return the named tensors under a key of the file; empty if there is anything else."""
    import torch

    inside = content.get(under) if under and isinstance(content, Mapping) else content
    if not isinstance(inside, Mapping) or not inside:
        return {}
    if not all(isinstance(value, torch.Tensor) for value in inside.values()):
        return {}
    return {str(name): value for name, value in inside.items()}


def _extract(layout: _Layout, tensors: Tensors) -> Encoder:
    encoder, left = {}, []
    for name, value in tensors.items():
        match = re.match(layout.prefix, name)
        inner = name[match.end() :] if match else ""
        if not match or re.match(layout.head, inner):
            left.append(name)
        else:
            encoder[inner] = value
    return Encoder(layout.scheme, encoder, tuple(left))


def _from_state_dict(content: Any, scheme: str) -> Encoder:
    """Read a state_dict of none of the layouts, without the prefixes of wrappers."""
    tensors = next(filter(None, (_tensors(content, name) for name in ("state_dict", "model", "network", ""))), None)
    if tensors is None:
        raise no_tensors("The weights", content)
    if scheme not in ("auto", *_BARE):
        raise ViceError(
            f"The weights must have the keys of {scheme} ({SCHEMES[scheme]}), but begin with {next(iter(tensors))}.",
            _AUTO,
        )
    if scheme == "mae" and not any(_BLOCK.search(name) for name in tensors):
        raise ViceError(
            f"The weights must have MAE's blocks of a transformer (`blocks.0`), but begin with {next(iter(tensors))}.",
            _AUTO,
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


# torchvision's vision transformer, with old and new names of its MLP layers; its ResNets have timm's names.
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
    """Rename the tensors of torchvision's vision transformer to timm's names; others stay as they are."""
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
