"""Build networks, load their weights from files, freeze them, and hash them."""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from torchvice.errors import ViceError
from torchvice.models.build import (
    build_model,
    classifier_names,
    classifier_outputs,
    frozen_to_eval,
    linear_probe,
    load_weights,
    preprocessing,
    read_weights,
    weights_hash,
)
from torchvice.models.named import model_by_name


def small(classes: int = 3) -> nn.Module:
    return build_model("test_resnet", classes)


@pytest.fixture
def filled(tmp_path: Path) -> tuple[nn.Module, Path]:
    model = small()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    return model, tmp_path / "w.pth"


def test_the_arguments_reach_timm() -> None:
    model = build_model("resnet18", 4, arguments={"channels": [8, 8, 8, 16], "output_stride": 16})
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    assert model.forward_features(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 4, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("resnet5O", {}, "Did you mean `resnet50`"),
        ("resnet18.a9_in1k", {}, "timm's resnet18 has no weights called 'a9_in1k'"),
        ("hf-hub:somebody/network", {}, "must be a timm name"),
        ("resnet18", {"colour": 1}, "takes no argument `colour`"),
        ("resnet18", {"output_stride": 7}, "cannot be built with {'output_stride': 7}"),
        ("resnet18", {"checkpoint_path": "x"}, "must not hold `checkpoint_path`"),
    ],
)
def test_names_unknown_to_timm_raise(name: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ViceError) as caught:
        build_model(name, 3, arguments=arguments)
    assert said in str(caught.value)


def test_a_network_needs_a_class() -> None:
    with pytest.raises(ViceError, match="at least 1"):
        build_model("test_resnet", 0)


def test_pretrained_without_a_network_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)  # the hub's own switch
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ViceError, match="--weights FILE"):
        build_model("resnet18", 3, pretrained=True)
    assert hub.HF_HUB_OFFLINE is True


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "network"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model._orig_mod.", "module.model."])
def test_wrappings_and_prefixes_come_off(wrap: str, prefix: str, tmp_path: Path) -> None:
    model, other = small(), small()
    tensors = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save(tensors if wrap == "plain" else {wrap: tensors, "epoch": 3}, tmp_path / "w.ckpt")
    assert weights_hash(other) != weights_hash(model)
    loaded = load_weights(other, tmp_path / "w.ckpt")
    assert weights_hash(other) == weights_hash(model)
    assert len(loaded.tensors) == len(tensors)


def test_safetensors_and_old_files_without_counters(tmp_path: Path) -> None:
    model = small()
    tensors = {n: v.contiguous() for n, v in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file(tensors, tmp_path / "w.safetensors")
    other = small()
    load_weights(other, tmp_path / "w.safetensors")
    assert weights_hash(other) == weights_hash(model)


def test_another_number_of_classes_is_another_model(filled: tuple[nn.Module, Path]) -> None:
    other = small(5)
    before = weights_hash(other)
    with pytest.raises(ViceError, match=r"`fc.weight` must be \(5, \d+\), but is \(3, \d+\)"):
        load_weights(other, filled[1])
    assert weights_hash(other) == before


def test_half_a_classifier_is_none(filled: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, _ = filled
    tensors = {name: value for name, value in model.state_dict().items() if name != "fc.bias"}
    torch.save(tensors, tmp_path / "half.pth")
    other = small()
    before = weights_hash(other)
    with pytest.raises(ViceError, match=r"1 missing \(fc\.bias\)"):
        load_weights(other, tmp_path / "half.pth")
    assert weights_hash(other) == before


def test_another_network_is_refused_and_nothing_changed(filled: tuple[nn.Module, Path]) -> None:
    other = build_model("test_vit", 3)
    before = weights_hash(other)
    with pytest.raises(ViceError, match=r"\d+ missing \(.*, \.\.\.\) and \d+ unexpected \(.*, \.\.\.\)"):
        load_weights(other, filled[1])
    assert weights_hash(other) == before


def test_files_that_are_no_weights(tmp_path: Path, filled: tuple[nn.Module, Path]) -> None:
    model, good = filled
    cases: dict[str, object] = {"object": model, "args": {"model": {}, "args": argparse.Namespace(a=1)}}
    for name, content in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ViceError, match="must hold tensors only, but contain the Python object"):
            read_weights(tmp_path / name)
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "cut.safetensors").write_bytes(b"abc")
    for name in ("cut.pth", "cut.safetensors"):
        with pytest.raises(ViceError, match=r"cannot be read|a text that begins with 'abc'"):
            read_weights(tmp_path / name)
    for content in ({"epoch": 1}, [1], {}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ViceError, match="must be named tensors"):
            read_weights(tmp_path / "other.pth")
    with pytest.raises(ViceError, match="does not exist"):
        read_weights(tmp_path / "nowhere.pth")


def test_a_pickle_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "ran"),))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ViceError, match="contain the Python object"):
        read_weights(tmp_path / "evil.pth")


def test_linear_probe_moves_the_classifier_and_nothing_else() -> None:
    model = linear_probe(small())
    model.train()
    frozen_to_eval(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(free, 1.0)
    generator = torch.Generator().manual_seed(0)
    model(torch.rand(4, 3, 64, 64, generator=generator)).sum().backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_linear_probe_needs_a_classifier() -> None:
    with pytest.raises(ViceError, match="has none"):
        linear_probe(nn.Conv2d(3, 3, 1))


def test_a_distilled_transformer_has_two_classifiers() -> None:
    small_deit = {"embed_dim": 12, "depth": 1, "num_heads": 3}
    model = build_model("deit_tiny_distilled_patch16_224", 3, arguments=small_deit)
    assert classifier_names(model) == ("head", "head_dist")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_the_outputs_of_a_file_are_counted(name: str, tmp_path: Path) -> None:
    tensors = build_model(name, 7).state_dict()
    torch.save({"model": {f"module.{n}": value for n, value in tensors.items()}}, tmp_path / "w.pth")
    assert classifier_outputs(name, tmp_path / "w.pth") == 7


def test_a_backbone_has_no_outputs(filled: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, _ = filled
    tensors = {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}
    torch.save(tensors, tmp_path / "backbone.pth")
    with pytest.raises(ViceError, match="No classifier of test_resnet found"):
        classifier_outputs("test_resnet", tmp_path / "backbone.pth")


def test_hash_sees_values_names_shapes_and_nothing_else() -> None:
    model = nn.Linear(2, 3).to(torch.bfloat16)
    first = weights_hash(model)
    assert first == weights_hash(model.to(memory_format=torch.contiguous_format))
    assert len(first) == 64
    with torch.no_grad():
        model.weight[0, 0] += 1
    assert weights_hash(model) != first
    conv = small()
    assert weights_hash(conv) == weights_hash(conv.to(memory_format=torch.channels_last))
    # An all-zero 2 x 3 and an all-zero 3 x 2 hold the same bytes.
    wide, tall = nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False)
    nn.init.zeros_(wide.weight)
    nn.init.zeros_(tall.weight)
    assert weights_hash(wide) != weights_hash(tall)


def test_preprocessing_is_the_networks_own() -> None:
    vit = preprocessing(build_model("vit_tiny_patch16_224", 2, arguments={"img_size": 96, "depth": 1}))
    assert (vit.size, vit.mean) == ((96, 96), (0.5, 0.5, 0.5))
    assert preprocessing(small()).size == (160, 160)


@pytest.mark.parametrize(("size", "sides"), [(96, (96, 96)), ([96, 64], (96, 64)), (None, (160, 160))])
def test_a_network_without_patch_embedding_states_the_size_that_it_is_built_with(size, sides, tmp_path) -> None:
    arguments = {} if size is None else {"img_size": size}
    model = build_model("test_coatnet", 3, arguments=arguments)
    assert preprocessing(model).size == sides
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert preprocessing(model_by_name("test_coatnet", tmp_path / "w.pth", arguments).model).size == sides


def test_vice_assess_is_told_its_own_option(tmp_path):
    torch.save(build_model("test_resnet", 3).state_dict(), tmp_path / "w.pth")
    for argument, expected in (("depht", "Leave out --argument depht."), ("pretrained", "Weights: --weights FILE.")):
        with pytest.raises(ViceError) as refused:
            model_by_name("test_resnet", tmp_path / "w.pth", {argument: 3})
        assert expected in refused.value.way_out
        assert "model.arguments" not in str(refused.value)
    with pytest.raises(ViceError) as refused:
        build_model("test_resnet", 3, arguments={"depht": 3})
    assert "Leave out model.arguments.depht." in refused.value.way_out
