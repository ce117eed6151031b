"""Published checkpoints: files with exactly their keys, the report, and the errors."""

import argparse
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import timm
import torch
import torchvision  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from torch import nn

from torchvice.config.sections import ModelSettings
from torchvice.errors import ViceError
from torchvice.models.build import build_model, weights_hash
from torchvice.models.byol import read_byol
from torchvice.models.pretraining import check_weights, convert_weights, inspect_weights, load_pretrained
from torchvice.models.schemes import SCHEMES, encoder_of

VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
RESNET = {"channels": [8, 16, 32, 64]}
Tensors = dict[str, torch.Tensor]


def random_state(name: str, seed: int = 1, **arguments: Any) -> Tensors:
    """The tensors of a network without a classifier, all of them random."""
    model = build_model(name, 1, arguments=arguments)
    generator = torch.Generator().manual_seed(seed)
    heads = ("fc.", "head.")
    return {
        n: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v
        for n, v in model.state_dict().items()
        if not n.startswith(heads)
    }


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def mlp(prefix: str, *layers: int) -> Tensors:
    """Linear layers of a projection head, those with numbers 0, 2, ... of a Sequential."""
    return {
        f"{prefix}{n}.{what}": torch.rand(4, 4) if what == "weight" else torch.rand(4)
        for n in layers
        for what in ("weight", "bias")
    }


def dino_head(prefix: str) -> Tensors:
    last = {f"{prefix}last_layer.weight_g": torch.rand(4, 1), f"{prefix}last_layer.weight_v": torch.rand(4, 4)}
    return mlp(f"{prefix}mlp.", 0, 2, 4) | last


def published(scheme: str, encoder: Tensors, other: Tensors) -> Any:
    """A file as the authors write it; `other` is the twin that is not to be taken."""
    conv = "conv1.weight" in encoder
    head = "fc." if conv else "head."
    queue = {"module.queue": torch.rand(4, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    if scheme == "moco_v2":
        tensors = under("module.encoder_q.", encoder | mlp("fc.", 0, 2)) | under("module.encoder_k.", other) | queue
        return {"epoch": 800, "arch": "resnet50", "state_dict": tensors, "optimizer": {}}
    if scheme == "moco_v1":
        tensors = under("module.encoder_q.", encoder | {"fc.weight": torch.rand(4, 4), "fc.bias": torch.rand(4)})
        return {"epoch": 200, "arch": "resnet50", "state_dict": tensors | queue, "optimizer": {}}
    if scheme in ("moco_v3", "moco_v3_momentum"):
        base, slow = (encoder, other) if scheme == "moco_v3" else (other, encoder)
        tensors = under("module.base_encoder.", base | mlp(head, 0, 3)) | mlp("module.predictor.", 0, 3)
        tensors |= under("module.momentum_encoder.", slow | mlp(head, 0, 3))
        return {"epoch": 300, "arch": "vit_base", "state_dict": tensors, "optimizer": {}, "scaler": {}}
    if scheme in ("dino", "dino_student"):
        teacher, student = (encoder, other) if scheme == "dino" else (other, encoder)
        return {
            "student": under("module.backbone.", student) | dino_head("module.head."),
            "teacher": under("backbone.", teacher) | dino_head("head."),
            "optimizer": {},
            "epoch": 800,
            "dino_loss": {"center": torch.rand(1, 4)},
        }
    if scheme == "densecl":
        tensors = under("encoder_q.0.", encoder) | mlp("encoder_q.1.mlp.", 0, 2) | mlp("encoder_q.1.mlp2.", 0, 2)
        tensors |= under("encoder_k.0.", other) | under("backbone.", encoder)
        tensors |= {"queue": torch.rand(4, 8), "queue2": torch.rand(4, 8)}
        return {"meta": {"epoch": 200}, "state_dict": tensors, "optimizer": {}}
    assert scheme == "mae"
    decoder = {"decoder_pos_embed": torch.rand(1, 5, 4), "decoder_norm.weight": torch.rand(4)}
    decoder |= mlp("decoder_embed.x", 0) | mlp("decoder_blocks.0.mlp.fc", 1, 2) | mlp("decoder_pred.x", 0)
    return {"model": encoder | {"mask_token": torch.rand(1, 1, 4)} | decoder}


CASES = [
    *(("resnet50", RESNET, scheme) for scheme in ("moco_v1", "moco_v2", "moco_v3", "moco_v3_momentum", "densecl")),
    *(("vit_base_patch16_224", VIT, scheme) for scheme in ("moco_v3", "moco_v3_momentum", "mae")),
    *(
        (name, small, scheme)
        for name, small in (("resnet50", RESNET), ("vit_base_patch16_224", VIT))
        for scheme in ("dino", "dino_student")
    ),
]


@pytest.mark.parametrize(("name", "small", "scheme"), CASES)
def test_the_encoder_is_taken_and_nothing_else(name: str, small: dict[str, Any], scheme: str, tmp_path: Path) -> None:
    encoder, other = random_state(name, 1, **small), random_state(name, 2, **small)
    content = published(scheme, encoder, other)
    torch.save(content, tmp_path / "w.pth.tar")
    model = build_model(name, 5, arguments=small)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    # The twins lie in the same file: they are asked for by name.
    asked = scheme if scheme in ("dino_student", "moco_v3_momentum") else "auto"
    report = load_pretrained(model, tmp_path / "w.pth.tar", asked)
    head = "fc" if name == "resnet50" else "head"
    assert report.scheme == scheme
    assert (report.matched, report.used) == (1.0, 1.0)
    assert report.new == (f"{head}.weight", f"{head}.bias")
    assert report.left
    after = model.state_dict()
    assert all(torch.equal(after[n], value) for n, value in encoder.items())
    assert all(torch.equal(after[n], before[n]) for n in report.new)


@pytest.mark.parametrize(
    ("name", "small", "wrapping", "scheme"),
    [
        ("resnet50", RESNET, ("state_dict", {"author": "OpenSelfSup"}), "densecl"),
        ("resnet50", RESNET, None, "dino"),
        ("vit_base_patch16_224", VIT, None, "dino"),
        ("vit_base_patch16_224", VIT, ("model", {}), "mae"),
    ],
)
def test_bare_backbones_are_told_by_what_is_around_them(
    name: str, small: dict[str, Any], wrapping: Any, scheme: str, tmp_path: Path
) -> None:
    encoder = random_state(name, **small)
    if scheme == "mae":
        encoder["pos_embed"][:, 0] = 0  # sines and cosines for the patches, nothing for the class token
    torch.save({wrapping[0]: encoder, **wrapping[1]} if wrapping else encoder, tmp_path / "w.pth")
    model = build_model(name, 5, arguments=small)
    report = load_pretrained(model, tmp_path / "w.pth")
    assert (report.scheme, report.matched, report.left) == (scheme, 1.0, ())
    # The user's word goes before: a converted BYOL looks the same.
    if name == "resnet50":
        assert "SAME padding" in load_pretrained(model, tmp_path / "w.pth", "byol").note


def test_beits_shared_table_goes_to_every_block_and_is_resized(tmp_path: Path) -> None:
    encoder = random_state("beit_base_patch16_224", **VIT)
    shared = torch.rand(732, 2)
    pretraining = {n: v for n, v in encoder.items() if "relative_position" not in n and not n.startswith("fc_norm.")}
    pretraining |= {
        "mask_token": torch.rand(1, 1, 32),
        "norm.weight": torch.rand(32),
        "norm.bias": torch.rand(32),
        "rel_pos_bias.relative_position_bias_table": shared,
        "rel_pos_bias.relative_position_index": torch.zeros(197, 197, dtype=torch.long),
        "lm_head.weight": torch.rand(8, 32),
        "lm_head.bias": torch.rand(8),
    }
    torch.save({"model": pretraining}, tmp_path / "beit_base_patch16_224_pt22k.pth")
    model = build_model("beit_base_patch16_224", 5, arguments=VIT)
    report = load_pretrained(model, tmp_path / "beit_base_patch16_224_pt22k.pth")
    assert report.scheme == "beit"
    assert report.new == ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    assert {"mask_token", "lm_head.weight", "norm.weight"} <= set(report.left)
    for block in model.blocks:  # type: ignore[union-attr]
        assert torch.equal(block.attn.relative_position_bias_table, shared)
    larger = build_model("beit_base_patch16_224", 5, arguments={**VIT, "img_size": 256})
    report = load_pretrained(larger, tmp_path / "beit_base_patch16_224_pt22k.pth")
    assert report.resized == tuple(f"blocks.{i}.attn.relative_position_bias_table" for i in range(3))
    table = larger.blocks[0].attn.relative_position_bias_table  # type: ignore[index,union-attr]
    # 31 x 31 distances and three for the class token, which have no size.
    assert table.shape == (31 * 31 + 3, 2)
    assert torch.equal(table[-3:], shared[-3:])


def test_positions_are_resized_to_the_networks_grid(tmp_path: Path) -> None:
    encoder = random_state("vit_base_patch16_224", **VIT)
    # A slope from left to right stays one at any size.
    slope = torch.linspace(0, 1, 14).repeat(14, 1).reshape(1, 196, 1).expand(-1, -1, 32)
    encoder["pos_embed"] = torch.cat([torch.full((1, 1, 32), 7.0), slope], 1)
    torch.save(published("moco_v3", encoder, encoder), tmp_path / "w.pth")
    model = build_model("vit_base_patch16_224", 5, arguments={**VIT, "img_size": 112})
    report = load_pretrained(model, tmp_path / "w.pth")
    assert report.resized == ("pos_embed",)
    positions = model.pos_embed.detach()[0, :, 0]  # type: ignore[union-attr,operator]
    assert positions[0] == 7.0
    grid = positions[1:].reshape(7, 7)
    assert (grid.diff(dim=1) > 0).all()
    assert torch.allclose(grid, grid[:1].expand(7, 7), atol=1e-4)
    assert abs(float(grid.mean()) - 0.5) < 0.01


def test_torchvisions_transformer_answers_the_same_under_timms_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=5).eval()
    for parameter in theirs.parameters():  # its classifier begins with zeros
        nn.init.normal_(parameter, std=0.2)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    small = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    ours = build_model("vit_base_patch16_224", 5, arguments=small).eval()
    report = load_pretrained(ours, tmp_path / "vit.pth")
    assert (report.scheme, report.matched, report.left, report.new) == ("supervised", 1.0, (), ())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-4)


def test_torchvisions_resnet_keeps_or_loses_its_classifier(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "r.pth")
    same, other = build_model("resnet18", 5).eval(), build_model("resnet18", 3)
    assert load_pretrained(same, tmp_path / "r.pth").new == ()
    with torch.no_grad():
        images = torch.rand(2, 3, 64, 64)
        assert torch.allclose(same(images), theirs(images), atol=1e-5)
    report = load_pretrained(other, tmp_path / "r.pth")
    assert report.new == report.left == ("fc.weight", "fc.bias")
    assert "matched: 100.0% of the parameters of resnet18" in str(report)


def full_size(name: str, **arguments: Any) -> Tensors:
    """The real shapes with the memory of one number each."""
    with torch.device("meta"):
        shapes = {n: v.shape for n, v in timm.create_model(name, num_classes=0, **arguments).state_dict().items()}
    return {n: torch.zeros(1).expand(shape) if len(shape) else torch.zeros(()) for n, shape in shapes.items()}


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("resnet50", "resnet18"),
        pytest.param("resnet50", "resnet101", marks=pytest.mark.slow),
        ("vit_small_patch16_224", "vit_base_patch16_224"),
        pytest.param("vit_base_patch8_224", "vit_base_patch16_224", marks=pytest.mark.slow),
        pytest.param("beit_base_patch16_224", "vit_base_patch16_224", marks=pytest.mark.slow),
        pytest.param("vit_large_patch16_224", "resnet50", marks=pytest.mark.slow),
        pytest.param("resnet101", "resnet50", marks=pytest.mark.slow),
    ],
)
def test_another_network_is_refused_and_the_closest_named(file: str, network: str, tmp_path: Path) -> None:
    torch.save({"state_dict": under("module.base_encoder.", full_size(file))}, tmp_path / "w.pth")
    if file.startswith("beit"):
        torch.save({"model": full_size(file)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 1e6
    with torch.device("meta"):
        model = build_model(network, 2)
    with pytest.raises(ViceError, match=f"must match {network} by 90 % or more") as caught:
        load_pretrained(model, tmp_path / "w.pth")
    assert f"-o model.name={file}." in str(caught.value)
    report = inspect_weights(tmp_path / "w.pth")
    assert (report.network, report.matched) == (file, 1.0)


def test_a_refusal_changes_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": under("module.encoder_q.", random_state("resnet50", **RESNET))}, tmp_path / "w.pth")
    model = build_model("test_vit", 3)
    before = weights_hash(model)
    with pytest.raises(ViceError, match=r"\(moco_v2\) must match test_vit by 90 % or more, but 0% of its parameters"):
        load_pretrained(model, tmp_path / "w.pth")
    assert weights_hash(model) == before
    # All but the first layer is above 90 %, and is no start.
    model = build_model("test_resnet", 3)
    almost = {n: v for n, v in model.state_dict().items() if n != "conv1.0.weight"}
    torch.save(almost, tmp_path / "almost.pth")
    with pytest.raises(ViceError, match=r"its first layer, conv1\.0\.weight, is not in the file"):
        load_pretrained(model, tmp_path / "almost.pth")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_check_says_what_loading_would_and_fills_nothing(device: str, tmp_path: Path) -> None:
    size = {"img_size": 32, "patch_size": 8, **VIT}
    larger = random_state("vit_base_patch16_224", 1, **{**size, "img_size": 48})
    torch.save({"state_dict": under("module.base_encoder.", larger)}, tmp_path / "right.pth")
    torch.save({"state_dict": random_state("resnet18", 1, **RESNET)}, tmp_path / "wrong.pth")
    twin = build_model("vit_base_patch16_224", 5, arguments=size)
    with torch.device(device):
        model = build_model("vit_base_patch16_224", 1, arguments=size)
    before = {} if device == "meta" else weights_hash(model)
    said = check_weights(model, tmp_path / "right.pth")
    assert (said.scheme, said.matched, said.resized) == ("moco_v3", 1.0, ("pos_embed",))
    assert said == load_pretrained(twin, tmp_path / "right.pth")
    for file, scheme in (("wrong.pth", "auto"), ("missing.pth", "auto"), ("right.pth", "dino"), ("right.pth", "moko")):
        with pytest.raises(ViceError) as checked:
            check_weights(model, tmp_path / file, scheme)
        with pytest.raises(ViceError) as loaded:
            load_pretrained(twin, tmp_path / file, scheme)
        assert str(checked.value) == str(loaded.value)
    assert before == ({} if device == "meta" else weights_hash(model))


def test_moco_v3s_small_transformer_has_twelve_heads(tmp_path: Path) -> None:
    short = {"depth": 1}
    encoder = full_size("vit_small_patch16_224", **short)
    torch.save({"state_dict": under("module.base_encoder.", encoder)}, tmp_path / "w.pth")
    with pytest.raises(ViceError, match=r"12 attention heads.*has 6[\s\S]*num_heads=12"):
        load_pretrained(build_model("vit_small_patch16_224", 2, arguments=short), tmp_path / "w.pth")
    right = build_model("vit_small_patch16_224", 2, arguments={**short, "num_heads": 12})
    assert load_pretrained(right, tmp_path / "w.pth").matched == 1.0


def conv_vit() -> dict[str, Any]:
    return {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4, "embed_layer": "conv_stem"}


def test_moco_v3s_transformer_with_a_convolutional_stem(tmp_path: Path) -> None:
    encoder = random_state("vit_base_patch16_224", 1, **conv_vit())
    # The shapes by hand: four strides of two, each twice as wide as the one before, and a last layer of one pixel.
    shapes = {name: tuple(encoder[f"patch_embed.proj.{name}.weight"].shape) for name in (0, 3, 6, 9, 12)}
    assert shapes == {0: (4, 3, 3, 3), 3: (8, 4, 3, 3), 6: (16, 8, 3, 3), 9: (32, 16, 3, 3), 12: (32, 32, 1, 1)}
    assert encoder["pos_embed"].shape == (1, 1 + 4 * 4, 32)
    torch.save(published("moco_v3", encoder, random_state("vit_base_patch16_224", 2, **conv_vit())), tmp_path / "w.pth")
    model = build_model("vit_base_patch16_224", 5, arguments=conv_vit())
    report = load_pretrained(model, tmp_path / "w.pth")
    assert (report.scheme, report.matched, report.used) == ("moco_v3", 1.0, 1.0)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in encoder.items())
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    patches = {name: value for name, value in conv_vit().items() if name != "embed_layer"}
    with pytest.raises(ViceError, match="have a convolutional stem instead of its patch embedding") as refused:
        load_pretrained(build_model("vit_base_patch16_224", 5, arguments=patches), tmp_path / "w.pth")
    assert "model.arguments.embed_layer=conv_stem" in str(refused.value)
    with pytest.raises(ViceError, match="must be one of conv_stem"):
        build_model("vit_base_patch16_224", 5, arguments={"embed_layer": "convstem"})
    with pytest.raises(ViceError, match="patches of 16"):
        build_model("vit_base_patch32_224", 5, arguments={"embed_layer": "conv_stem"})


def test_a_file_of_ones_own_has_timms_layers(tmp_path: Path) -> None:
    small = {"img_size": 32, "depth": 1}
    encoder = random_state("vit_small_patch16_224", 1, **small)
    for scheme, note in (("byol", "SAME padding"), ("moco_v3", "")):
        save_file(encoder, tmp_path / "own.safetensors", metadata={"scheme": f"{scheme} by vice pretrain"})
        model = build_model("vit_small_patch16_224", 3, arguments=small)  # six heads of attention, as timm has it
        report = load_pretrained(model, tmp_path / "own.safetensors")
        assert (report.scheme, report.own, report.note, report.matched) == (scheme, True, "", 1.0)
        copied = convert_weights(tmp_path / "own.safetensors", tmp_path / "copy.safetensors")
        assert (copied.scheme, copied.own) == (scheme, True)
        assert load_pretrained(model, tmp_path / "copy.safetensors").own
        save_file(encoder, tmp_path / "theirs.safetensors", metadata={"scheme": scheme})
        if note:
            assert note in load_pretrained(model, tmp_path / "theirs.safetensors").note
        else:
            with pytest.raises(ViceError, match="12 attention heads"):
                load_pretrained(model, tmp_path / "theirs.safetensors")


def test_a_given_scheme_must_match_the_keys(tmp_path: Path) -> None:
    torch.save(random_state("resnet50", **RESNET), tmp_path / "w.pth")
    model = build_model("resnet50", 2, arguments=RESNET)
    with pytest.raises(ViceError, match=r"must have the keys of moco_v3 .* but begin with conv1\.weight"):
        load_pretrained(model, tmp_path / "w.pth", "moco_v3")
    with pytest.raises(ViceError, match=r"but is 'moko'"):
        load_pretrained(model, tmp_path / "w.pth", "moko")
    with pytest.raises(ViceError, match="must be named tensors"):
        encoder_of([1, 2], {})
    assert set(get_args(ModelSettings.model_fields["scheme"].annotation)) == {"auto", *SCHEMES}


def test_a_namespace_is_refused_and_comes_out_by_conversion(tmp_path: Path) -> None:
    encoder, other = random_state("vit_base_patch16_224", 1, **VIT), random_state("vit_base_patch16_224", 2, **VIT)
    torch.save({**published("dino", encoder, other), "args": argparse.Namespace(arch="vit_base")}, tmp_path / "d.pth")
    model = build_model("vit_base_patch16_224", 3, arguments=VIT)
    with pytest.raises(ViceError, match=r"object argparse\.Namespace\.[\s\S]*vice weights convert"):
        load_pretrained(model, tmp_path / "d.pth")
    convert_weights(tmp_path / "d.pth", tmp_path / "d.safetensors")
    written = load_file(tmp_path / "d.safetensors")
    assert written.keys() == encoder.keys()
    report = load_pretrained(model, tmp_path / "d.safetensors")
    assert (report.scheme, report.matched) == ("dino", 1.0)
    assert torch.equal(model.state_dict()["cls_token"], encoder["cls_token"])
    with pytest.raises(ViceError, match="their metadata says dino"):
        load_pretrained(model, tmp_path / "d.safetensors", "mae")
    with pytest.raises(ViceError, match=r"must be a \.safetensors file"):
        convert_weights(tmp_path / "d.pth", tmp_path / "d.pth")


class Evil:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def test_a_conversion_runs_nothing(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "args": argparse.Namespace(a=Evil(tmp_path / "ran"))}, tmp_path / "e.pth")
    with open(tmp_path / "e.pkl", "wb") as file:
        pickle.dump({"experiment_state": Evil(tmp_path / "ran")}, file, protocol=2)
    for name in ("e.pth", "e.pkl"):
        with pytest.raises(ViceError, match=r"\.open"):
            convert_weights(tmp_path / name, tmp_path / "out.safetensors")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.safetensors").exists()


class _ByolExperimentState(NamedTuple):
    online_params: Any
    target_params: Any
    online_state: Any
    target_state: Any
    opt_state: Any


class LarsState(NamedTuple):
    momentum: Any


class FlatMapping(Mapping[str, Any]):
    """As Haiku's: immutable, its content in a dictionary of its own."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._mapping = dict(content)

    def __getitem__(self, name: str) -> Any:
        return self._mapping[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)


class frozendict(FlatMapping):  # Haiku's own name for it
    """As in Haiku's first versions: pickled as a call."""

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return (type(self), (dict(self._mapping),))


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the classes above, under their true names while the file is written."""
    places = {
        "byol.byol_experiment": [_ByolExperimentState],
        "byol.utils.optimizers": [LarsState],
        "haiku._src.data_structures": [FlatMapping, frozendict],
    }
    for package in ("byol", "byol.utils", "haiku", "haiku._src"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    for place, kinds in places.items():
        module = types.ModuleType(place)
        monkeypatch.setitem(sys.modules, place, module)
        for kind in kinds:
            monkeypatch.setattr(kind, "__module__", place)
            setattr(module, kind.__name__, kind)


def haiku_names(encoder: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and state as Haiku lays out a ResNet: kernels (h, w, in, out), scales (1, 1, 1, D)."""
    layers = {
        "conv1": "conv_0",
        "conv2": "conv_1",
        "conv3": "conv_2",
        "bn1": "batchnorm_0",
        "bn2": "batchnorm_1",
        "bn3": "batchnorm_2",
        "downsample.0": "shortcut_conv",
        "downsample.1": "shortcut_batchnorm",
    }
    parameters: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for name, value in encoder.items():
        *words, last = name.split(".")
        path = f"res_net50/~/initial_{'conv' if words[0] == 'conv1' else 'batchnorm'}"
        if words[0].startswith("layer"):
            path = f"res_net50/~/block_group_{int(words[0][5:]) - 1}/~/block_{words[1]}/~/{layers['.'.join(words[2:])]}"
        array = value.numpy()
        if array.ndim == 4:
            parameters[path] = {"w": array.transpose(2, 3, 1, 0)}
        elif last in ("weight", "bias"):
            parameters.setdefault(path, {})["scale" if last == "weight" else "offset"] = array.reshape(1, 1, 1, -1)
        elif last != "num_batches_tracked":
            statistic = "mean_ema" if last == "running_mean" else "var_ema"
            average = array.reshape(1, 1, 1, -1)
            state[f"{path}/~/{statistic}"] = {"average": average, "hidden": average * 2, "counter": np.int32(3)}
    parameters["projector/linear"] = {"w": np.zeros((4, 4), np.float32), "b": np.zeros(4, np.float32)}
    return parameters, state


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("mapping", [dict, FlatMapping, frozendict])
def test_byols_pickle_is_read_without_haiku(mapping: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = random_state("resnet50", **RESNET)
    frozen = [mapping({n: mapping(v) for n, v in part.items()}) for part in haiku_names(encoder)]
    other = [mapping({n: mapping(v) for n, v in p.items()}) for p in haiku_names(random_state("resnet50", 2, **RESNET))]
    state = _ByolExperimentState(frozen[0], other[0], frozen[1], other[1], LarsState(frozen[0]))
    with open(tmp_path / "pretrain_res50x1.pkl", "wb") as file:
        pickle.dump({"experiment_state": state, "step": np.int64(7), "rng": np.zeros(2, np.uint32)}, file, protocol=2)
    for place in ("byol.byol_experiment", "byol.utils.optimizers", "haiku._src.data_structures"):
        monkeypatch.delitem(sys.modules, place)
    with pytest.raises(ViceError, match=r"vice weights convert"):
        inspect_weights(tmp_path / "pretrain_res50x1.pkl")
    read = read_byol(tmp_path / "pretrain_res50x1.pkl")
    assert read.left == ("projector/linear.w", "projector/linear.b")
    convert_weights(tmp_path / "pretrain_res50x1.pkl", tmp_path / "byol.safetensors")
    model = build_model("resnet50", 3, arguments=RESNET)
    report = load_pretrained(model, tmp_path / "byol.safetensors")
    assert (report.scheme, report.matched, report.new) == ("byol", 1.0, ("fc.weight", "fc.bias"))
    assert "70 % top-1 without it, at 74.6" in report.note
    after = model.state_dict()
    assert all(torch.equal(after[n], v) for n, v in encoder.items() if not n.endswith("num_batches_tracked"))


def test_a_pickle_that_is_not_byols(tmp_path: Path) -> None:
    for content in ({"experiment_state": 3}, [1], {"experiment_state": ({}, {}, {})}):
        with open(tmp_path / "x.pkl", "wb") as file:
            pickle.dump(content, file, protocol=2)
        with pytest.raises(ViceError, match="must hold"):
            read_byol(tmp_path / "x.pkl")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(ViceError, match="must be a pickle of arrays"):
        read_byol(tmp_path / "x.pkl")


def test_arrays_and_tuples_as_jax_and_dill_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of functions that are not there when the file is read; none of them is made."""

    def forbidden(*_: Any) -> None:
        raise AssertionError("it was called")

    made = {}
    for place, name in (
        ("jax._src.array", "_reconstruct_array"),
        ("dill._dill", "_create_array"),
        ("dill._dill", "_create_namedtuple"),
    ):
        function = types.FunctionType(forbidden.__code__, {}, name)
        function.__module__, function.__qualname__ = place, name
        for package in (place.split(".")[0], place.rpartition(".")[0], place):
            monkeypatch.setitem(sys.modules, package, sys.modules.get(package) or types.ModuleType(package))
        monkeypatch.setattr(sys.modules[place], name, function, raising=False)
        made[name] = function

    class Call:
        def __init__(self, function: Any, *arguments: Any) -> None:
            self.parts = (function, arguments)

        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return self.parts

    array = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    maker, arguments, state = array.__reduce__()
    jax = Call(made["_reconstruct_array"], maker, arguments, state, {"weak_type": False})
    dill = Call(made["_create_array"], maker, arguments, state, None)
    parameters = {"res_net50/~/initial_conv": {"w": jax}, "res_net50/~/block_group_0/~/block_0/~/conv_0": {"w": dill}}
    fields = ("online_params", "target_params", "online_state")
    kind = Call(made["_create_namedtuple"], "_ByolExperimentState", fields, "byol.byol_experiment")
    for name, first in (("good", maker), ("bad", made["_create_array"])):
        jax.parts = (jax.parts[0], (first, *jax.parts[1][1:]))
        with open(tmp_path / f"{name}.pkl", "wb") as file:
            pickle.dump({"experiment_state": (parameters, {}, {}), "kind": kind}, file, protocol=2)
    tensors = read_byol(tmp_path / "good.pkl").tensors
    assert torch.equal(tensors["conv1.weight"], torch.from_numpy(array).permute(3, 2, 0, 1))
    assert torch.equal(tensors["layer1.0.conv1.weight"], tensors["conv1.weight"])
    with pytest.raises(ViceError, match="an array in it is not a numpy array"):
        read_byol(tmp_path / "bad.pkl")
