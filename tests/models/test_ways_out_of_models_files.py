"""Every way out of the refusals of weights files is done: of formats, sets of weights, schemes and building."""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from torchvice.errors import ViceError
from torchvice.models import pretraining
from torchvice.models.build import build_model, classifier_outputs, load_weights, weights_hash
from torchvice.models.byol import read_byol
from torchvice.models.named import model_by_name
from torchvice.models.pretraining import check_weights, convert_weights, inspect_weights, load_pretrained
from torchvice.models.schemes import encoder_of
from torchvice.models.weight_files import weights_kind
from torchvice.models.weights import read_weights
from ways_out import tried

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
RESNET = {"channels": [8, 16, 32, 64]}
CONVERT = "vice weights convert FILE OUT.safetensors"


def small(seed=0, classes=3):
    torch.manual_seed(seed)
    return build_model("test_resnet", classes)


STATE, OTHER = small().state_dict(), small(1).state_dict()


def saved(path, content=STATE):
    torch.save(content, path)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


def loaded(path, key=None, classes=3):
    """The digest of a network with the weights of a file."""
    model = small(2, classes)
    load_weights(model, path, key)
    return weights_hash(model)


def suggested(wrong, pattern=r"`(.+?)`"):
    """What the way out of a refusal names."""
    with pytest.raises(ViceError) as caught:
        wrong()
    found = re.search(pattern, caught.value.way_out)
    assert found is not None, caught.value.way_out
    return found[1]


def bytes_of(content=STATE):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def tar_of(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("w.pth")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w.pth", content)
    return buffer.getvalue()


def from_tar(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.extractfile("w.pth").read()


def from_zip(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("w.pth")


def test_a_weights_file_that_cannot_be_read_is_read_once_it_is_there(tmp_path):
    path = tmp_path / "w.pth"
    kind = tried(lambda: weights_kind(path), "Check that it is there", lambda: weights_kind(saved(path)))
    assert kind == "torch"


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda content: gzip.compress(content, 1), gzip.decompress),
        (bz2.compress, bz2.decompress),
        (lzma.compress, lzma.decompress),
        (tar_of, from_tar),
        (zip_of, from_zip),
    ],
)
def test_an_archive_is_unpacked(pack, unpack, tmp_path):
    packed = written(tmp_path / "packed.pth", pack(bytes_of()))
    found = tried(
        lambda: loaded(packed),
        "Unpack it.",
        lambda: loaded(written(tmp_path / "w.pth", unpack(packed.read_bytes()))),
    )
    assert found == weights_hash(small())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Download the file itself."),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Fetch it: git lfs pull."),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "Unpack it."),
        (b"Rar!\x1a\x07" + bytes(99), "Unpack it."),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "Unpack it."),
        (b"%PDF-1.7 " + bytes(99), "Download the file itself."),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "Download the file itself."),
        (b"\xff\xd8\xff\xe0" + bytes(99), "Download the file itself."),
        (b"<!DOCTYPE html><title>Sign in</title>", "Download the file itself, not the page that links to it."),
        (b'{"message": "Not Found"}', "Download the file itself."),
        (b"Entry not found", "Give a file that torch.save or safetensors wrote"),
        (b"\n \n", "if it should be one, download it again."),
    ],
)
def test_what_was_downloaded_in_place_of_the_file_is_replaced_by_it(content, says, tmp_path):
    path = written(tmp_path / "w.pth", content)
    assert tried(lambda: loaded(path), says, lambda: loaded(saved(path))) == weights_hash(small())


def test_weights_of_other_libraries_are_converted(tmp_path):
    arrays = {name: value.numpy() for name, value in STATE.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    hdf5 = written(tmp_path / "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(99))
    for path in (tmp_path / "w.npz", hdf5):
        found = tried(
            lambda path=path: loaded(path),
            "Convert the weights to those of the network in PyTorch.",
            lambda: loaded(
                saved(tmp_path / "w.pth", {name: torch.from_numpy(value) for name, value in arrays.items()})
            ),
        )
        assert found == weights_hash(small())


def test_an_array_and_a_gguf_file_are_saved_as_what_they_should_be(tmp_path):
    np.save(tmp_path / "w.npy", STATE["fc.weight"].numpy())
    model = small()

    def save_again():
        torch.save(model.state_dict(), tmp_path / "w.pth")
        return loaded(tmp_path / "w.pth")

    words = "Save a state_dict: torch.save(model.state_dict(), FILE)."
    assert tried(lambda: loaded(tmp_path / "w.npy"), words, save_again) == weights_hash(model)
    gguf = written(tmp_path / "w.gguf", b"GGUF" + bytes(99))
    save_file(STATE, tmp_path / "w.safetensors")
    found = tried(lambda: loaded(gguf), "Give the weights as safetensors.", lambda: loaded(tmp_path / "w.safetensors"))
    assert found == weights_hash(model)


def test_shards_are_joined(tmp_path):
    names = list(STATE)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: STATE[name] for name in own}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (tmp_path / "index.json").write_text(json.dumps(index))

    def join():
        save_file({k: v for file in parts for k, v in load_file(tmp_path / file).items()}, tmp_path / "w.safetensors")
        return loaded(tmp_path / "w.safetensors")

    says = "load each with safetensors.torch.load_file, and save all of their tensors"
    assert tried(lambda: loaded(tmp_path / "index.json"), says, join) == weights_hash(small())


def test_of_a_program_the_state_dict_is_saved(tmp_path):
    layer = nn.Linear(2, 3)
    torch.jit.save(torch.jit.script(layer), tmp_path / "script.pt")
    torch.export.save(torch.export.export(layer, (torch.zeros(1, 2),)), tmp_path / "exported.pt2")

    def of_script():
        torch.save(torch.jit.load(tmp_path / "script.pt").state_dict(), tmp_path / "out.pth")
        return read_weights(tmp_path / "out.pth")

    def of_module():
        torch.save(layer.state_dict(), tmp_path / "out.pth")
        return read_weights(tmp_path / "out.pth")

    says = "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
    assert torch.equal(tried(lambda: read_weights(tmp_path / "script.pt"), says, of_script)["weight"], layer.weight)
    says = "Save the state_dict of the module that was exported."
    assert torch.equal(tried(lambda: read_weights(tmp_path / "exported.pt2"), says, of_module)["weight"], layer.weight)


def test_a_damaged_file_is_saved_again(tmp_path):
    cut = written(tmp_path / "cut.pth", bytes_of()[:5000])
    found = tried(
        lambda: loaded(cut), "If it is one, it is damaged: copy or save it again.", lambda: loaded(saved(cut))
    )
    assert found == weights_hash(small())


def test_of_a_python_object_the_state_dict_is_saved(tmp_path):
    path = saved(tmp_path / "w.pth", small())

    def save_again():
        model = torch.load(path, weights_only=False)
        torch.save(model.state_dict(), path)
        return loaded(path)

    says = "If you trust the file, load it and save its state_dict: torch.save(model.state_dict(), FILE)."
    assert tried(lambda: loaded(path), says, save_again) == weights_hash(small())


def test_a_namespace_comes_out_by_conversion(tmp_path):
    state = {"state_dict": {f"module.encoder_q.{name}": value for name, value in STATE.items()}}
    path = saved(tmp_path / "w.pth", {**state, "args": argparse.Namespace(arch="test_resnet")})
    out = tmp_path / "out.safetensors"

    def convert():
        convert_weights(path, out)
        return load_pretrained(small(), out)

    report = tried(lambda: load_pretrained(small(), path), f"without running code: {CONVERT}", convert)
    assert (report.scheme, report.matched) == ("moco_v1", 1.0)


def byol_file(path, content=None):
    resnet = {n: v for n, v in build_model("resnet50", 1, arguments=RESNET).state_dict().items() if n == "conv1.weight"}
    kernel = resnet["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    content = (
        {"experiment_state": ({"res_net50/~/initial_conv": {"w": kernel}}, {}, {})} if content is None else content
    )
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=2)
    return path


def test_byols_pickle_comes_out_by_conversion(tmp_path):
    path, out = byol_file(tmp_path / "pretrain.pkl"), tmp_path / "byol.safetensors"

    found = tried(lambda: read_weights(path), CONVERT, lambda: converted(path, out))
    assert list(found) == ["conv1.weight"]


def converted(path, out):
    convert_weights(path, out)
    return read_weights(out)


def test_a_namespace_in_a_pkl_of_torch_comes_out_by_conversion(tmp_path):
    path = saved(tmp_path / "w.pkl", {"state_dict": STATE, "args": argparse.Namespace(arch="test_resnet")})
    out = tmp_path / "out.safetensors"
    found = tried(lambda: read_weights(path), CONVERT, lambda: converted(path, out))
    assert found.keys() == STATE.keys()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_arrays_is_saved_as_a_state_dict(protocol, tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({name: value.numpy() for name, value in STATE.items()}, protocol=protocol))

    def save_again():
        arrays = pickle.loads(path.read_bytes())
        return loaded(saved(tmp_path / "w.pth", {name: torch.from_numpy(value) for name, value in arrays.items()}))

    says = "if you trust the file, load it and save its state_dict: torch.save(model.state_dict(), FILE)."
    assert tried(lambda: loaded(path), says, save_again) == weights_hash(small())


def test_a_damaged_pkl_of_torch_is_saved_again(tmp_path):
    path = written(tmp_path / "w.pkl", bytes_of()[:3000])
    says = "it is damaged: copy or save it again."
    assert tried(lambda: loaded(path), says, lambda: loaded(saved(path))) == weights_hash(small())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_byols_pickle_of_a_later_protocol_comes_out_by_conversion(tmp_path):
    path, out = tmp_path / "pretrain.pkl", tmp_path / "byol.safetensors"
    path.write_bytes(pickle.dumps(pickle.loads(byol_file(path).read_bytes()), protocol=4))
    found = tried(lambda: read_weights(path), CONVERT, lambda: converted(path, out))
    assert list(found) == ["conv1.weight"]


def test_an_experiment_without_parameters_is_replaced_by_byols_file(tmp_path):
    wrong = byol_file(tmp_path / "wrong.pkl", {"experiment_state": 3})
    encoder = tried(
        lambda: read_byol(wrong),
        "Expected: a file of deepmind-research/byol, such as pretrain_res50x1.pkl.",
        lambda: read_byol(byol_file(tmp_path / "pretrain_res50x1.pkl")),
    )
    assert encoder.scheme == "byol"


def test_what_holds_no_tensors_is_saved_again(tmp_path):
    path = saved(tmp_path / "w.pth", {"epoch": 3})
    says = "Save a state_dict: torch.save(model.state_dict(), FILE)."
    assert tried(lambda: loaded(path), says, lambda: loaded(saved(path, small().state_dict()))) == weights_hash(small())
    path = saved(tmp_path / "w.pth", {"epoch": 3})
    assert len(tried(lambda: read_weights(path), says, lambda: read_weights(saved(path)))) == len(STATE)


def test_one_of_several_sets_is_chosen_by_the_key_that_is_named(tmp_path):
    path = saved(tmp_path / "w.pth", {"model": STATE, "model_ema": OTHER})
    key = suggested(lambda: loaded(path), r"--weights-key (\S+) in vice assess")
    assert tried(lambda: loaded(path), "`key` in load_weights", lambda: loaded(path, key)) == weights_hash(small(1))
    named = tried(
        lambda: model_by_name("test_resnet", path),
        f"--weights-key {key} in vice assess",
        lambda: model_by_name("test_resnet", path, key=key),
    )
    assert weights_hash(named.model) == weights_hash(small(1))
    single = tmp_path / "single.pth"
    found = tried(lambda: loaded(path), "or save it by itself", lambda: loaded(saved(single, OTHER)))
    assert found == weights_hash(small(1))


def test_a_key_that_is_not_there(tmp_path):
    path = saved(tmp_path / "w.pth", {"model": STATE, "model_ema": OTHER})
    near = suggested(lambda: loaded(path, "model_emma"))
    found = tried(lambda: loaded(path, "model_emma"), "Did you mean `model_ema`?", lambda: loaded(path, near))
    assert found == weights_hash(small(1))
    far = suggested(lambda: loaded(path, "zzz"), r"Known: (\w+),")
    assert tried(lambda: loaded(path, "zzz"), "Known: model, model_ema.", lambda: loaded(path, far)) == weights_hash(
        small()
    )
    single = saved(tmp_path / "single.pth")
    found = tried(lambda: loaded(single, "ema"), "Leave --weights-key out", lambda: loaded(single))
    assert found == weights_hash(small())


def test_schemes():
    bare = {n: v for n, v in build_model("resnet50", 1, arguments=RESNET).state_dict().items() if "fc." not in n}
    near = suggested(lambda: encoder_of(bare, {}, "densecll"))
    assert (
        tried(lambda: encoder_of(bare, {}, "densecll"), "Did you mean", lambda: encoder_of(bare, {}, near)).scheme
        == "densecl"
    )
    found = tried(lambda: encoder_of([1, 2], {}), "Save a state_dict: torch", lambda: encoder_of(bare, {}))
    assert len(found.tensors) == len(bare)
    found = tried(
        lambda: encoder_of(bare, {}, "moco_v3"),
        "Leave out --scheme (model.scheme=auto)",
        lambda: encoder_of(bare, {}, "auto"),
    )
    assert found.scheme == "dino"


@pytest.mark.parametrize("wrapping", [None, "state_dict", "model"])
def test_a_resnet_is_not_maes(tmp_path, wrapping):
    path, out = saved(tmp_path / "w.pth", {wrapping: STATE} if wrapping else STATE), tmp_path / "w.safetensors"
    with pytest.raises(ViceError, match=r"MAE's blocks of a transformer .* but begin with"):
        convert_weights(path, out, "mae")
    assert not out.exists()
    says = "Leave out --scheme (model.scheme=auto)"
    assert tried(lambda: convert_weights(path, out, "mae"), says, lambda: convert_weights(path, out)).tensors


def test_a_classifier_is_told_where_a_scheme_is_only_given(tmp_path):
    path = saved(tmp_path / "w.pth", build_model("resnet50", 3, arguments=RESNET).state_dict())
    note = inspect_weights(path, "resnet50", RESNET, "byol").note
    assert "nothing in it shows byol" in note
    assert "SAME padding" not in note
    assert inspect_weights(path, "resnet50", RESNET).note == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_diverged_are_told_and_refused(tmp_path, value):
    spoilt = {name: tensor.clone() for name, tensor in STATE.items()}
    next(iter(spoilt.values())).view(-1)[0] = value
    path, out, whole = saved(tmp_path / "nan.pth", spoilt), tmp_path / "o.safetensors", saved(tmp_path / "w.pth")
    assert "1 tensor holds NaN or infinity" in inspect_weights(path, "test_resnet").note
    says = "Use an earlier checkpoint"
    tried(lambda: convert_weights(path, out), says, lambda: convert_weights(whole, out))
    for use in (load_pretrained, check_weights):
        report = tried(lambda use=use: use(small(), path), says, lambda use=use: use(small(), whole))
        assert report.note == ""


def test_an_empty_dictionary_is_called_so():
    with pytest.raises(ViceError, match="but are an empty dictionary"):
        encoder_of({}, {})


def test_names_of_networks():
    wrong = suggested(lambda: build_model("resnet5O", 3), r"Did you mean `(.+?)`")
    right = tried(lambda: build_model("resnet5O", 3), "Did you mean", lambda: build_model(wrong, 3, arguments=RESNET))
    assert right.num_classes == 3
    known = tried(lambda: build_model("%%%", 3), "timm.list_models() lists all names.", timm.list_models)
    assert "test_resnet" in known
    tag = suggested(lambda: build_model("test_resnet.r161_in1k", 3))
    assert (
        tried(
            lambda: build_model("test_resnet.r161_in1k", 3),
            "Did you mean",
            lambda: build_model(f"test_resnet.{tag}", 3),
        ).num_classes
        == 3
    )


def test_the_address_of_a_network_is_replaced_by_timms_name_and_a_file(tmp_path):
    path = saved(tmp_path / "w.pth")
    model = tried(
        lambda: build_model("hf-hub:timm/test_resnet", 3),
        "Give timm's name of the network, and download the file: -o model.weights=FILE, or --weights FILE.",
        lambda: build_model("test_resnet", 3, weights=path),
    )
    assert weights_hash(model) == weights_hash(small())


def test_arguments_of_networks(tmp_path):
    path = saved(tmp_path / "w.pth")
    model = tried(
        lambda: build_model("test_resnet", 3, arguments={"checkpoint_path": str(path)}),
        "Leave it out. Weights: -o model.weights=FILE or -o model.pretrained=true.",
        lambda: build_model("test_resnet", 3, weights=path),
    )
    assert weights_hash(model) == weights_hash(small())
    named = tried(
        lambda: model_by_name("test_resnet", path, {"checkpoint_path": str(path)}),
        "Leave it out. Weights: --weights FILE.",
        lambda: model_by_name("test_resnet", path),
    )
    assert named.outputs == 3
    tried(
        lambda: build_model("test_resnet", 3, arguments={"depht": 3}),
        "Leave out model.arguments.depht.",
        lambda: build_model("test_resnet", 3, arguments={}),
    )
    tried(
        lambda: model_by_name("test_resnet", path, {"depht": 3}),
        "Leave out --argument depht.",
        lambda: model_by_name("test_resnet", path, {}),
    )
    tried(
        lambda: build_model("test_resnet", 3, arguments={"output_stride": 7}),
        "Check -o model.arguments.NAME=VALUE. Without any, also those of the preset: -o 'model.arguments={}'.",
        lambda: build_model("test_resnet", 3, arguments={"output_stride": 8}),
    )
    tried(
        lambda: model_by_name("test_resnet", path, {"output_stride": 7}),
        "Check --argument NAME=VALUE.",
        lambda: model_by_name("test_resnet", path, {"output_stride": 8}),
    )


def test_an_argument_that_has_a_setting_of_its_own():
    def vgg(**arguments):
        with torch.device("meta"):
            return build_model("vgg11", 3, arguments=arguments)

    says = "Leave out model.arguments.drop_path_rate or regularisation.drop_path."
    assert tried(lambda: vgg(drop_path_rate=0.1), says, vgg).num_classes == 3


def test_the_stem_that_is_meant():
    def wrong():
        return build_model("vit_base_patch16_224", 3, arguments={"embed_layer": "convstem"})

    stem = suggested(wrong)
    model = tried(
        wrong,
        "Did you mean `conv_stem`?",
        lambda: build_model("vit_base_patch16_224", 3, arguments={**VIT, "patch_size": 16, "embed_layer": stem}),
    )
    assert len(model.patch_embed.proj) == 13


def test_pretrained_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    path = saved(tmp_path / "w.pth")

    def wrong():
        return build_model("test_resnet", 3, pretrained=True)

    model = tried(wrong, "Give a file (-o model.weights=FILE", lambda: build_model("test_resnet", 3, weights=path))
    assert weights_hash(model) == weights_hash(small())
    untrained = tried(
        wrong, "start untrained (-o model.pretrained=false)", lambda: build_model("test_resnet", 3, pretrained=False)
    )
    assert untrained.num_classes == 3


def test_weights_of_another_network(tmp_path):
    path = saved(tmp_path / "w.pth")
    vit = build_model("test_vit", 3)
    found = tried(lambda: load_weights(vit, path), "Check the network's name.", lambda: load_weights(small(), path))
    assert len(found.tensors) == len(STATE)
    shallow = saved(tmp_path / "vit.pth", build_model("vit_tiny_patch16_224", 3, arguments=VIT).state_dict())
    for given in ({"depth": 3}, {"embed_dim": 12}):
        wrong, right = (build_model("vit_tiny_patch16_224", 3, arguments=VIT | more) for more in (given, {}))
        tried(
            lambda wrong=wrong: load_weights(wrong, shallow),
            "Check the network's arguments: --argument NAME=VALUE in vice assess, -o model.arguments.NAME=VALUE",
            lambda right=right: load_weights(right, shallow),
        )


def test_weights_of_another_number_of_classes(tmp_path):
    path = saved(tmp_path / "w.pth")
    assert tried(
        lambda: loaded(path, classes=5),
        "The file has another number of classes",
        lambda: loaded(path, classes=classifier_outputs("test_resnet", path)),
    ) == weights_hash(small())


def test_weights_that_are_not_finite(tmp_path):
    path = saved(tmp_path / "last.pth", STATE | {"fc.weight": STATE["fc.weight"] * float("nan")})
    earlier = saved(tmp_path / "earlier.pth")
    found = tried(lambda: loaded(path), "Use an earlier checkpoint", lambda: loaded(earlier))
    assert found == weights_hash(small())


def test_a_file_without_a_classifier(tmp_path):
    backbone = saved(tmp_path / "backbone.pth", {n: v for n, v in STATE.items() if not n.startswith("fc.")})

    def wrong():
        return classifier_outputs("test_resnet", backbone)

    name = suggested(wrong, r"Expected: (\S+)\.$")
    assert tried(wrong, "Expected: fc.weight.", lambda: classifier_outputs("test_resnet", saved(backbone))) == 3
    assert name in STATE


def pretrained_file(path, name, **arguments):
    torch.manual_seed(1)
    state = build_model(name, 1, arguments=arguments).state_dict()
    tensors = {f"module.base_encoder.{n}": v for n, v in state.items() if not n.startswith(("fc.", "head."))}
    return saved(path, {"state_dict": tensors})


def zeros_of(name, **arguments):
    with torch.device("meta"):
        shapes = {n: v.shape for n, v in timm.create_model(name, num_classes=0, **arguments).state_dict().items()}
    return {n: torch.zeros(1).expand(shape) if len(shape) else torch.zeros(()) for n, shape in shapes.items()}


def on_meta(name, **arguments):
    with torch.device("meta"):
        return build_model(name, 2, arguments=arguments)


def published(path, name, **arguments):
    tensors = zeros_of(name, **arguments)
    return saved(path, {"state_dict": {f"module.base_encoder.{n}": v for n, v in tensors.items()}})


def test_pretrained_weights_of_another_network(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "_CANDIDATES", ("resnet18", "resnet34"))
    path = published(tmp_path / "w.pth", "resnet18")

    def wrong():
        return load_pretrained(on_meta("resnet34"), path)

    name = suggested(wrong, r"-o model\.name=(\w+)\.")
    assert tried(wrong, "resnet18 matches by 100%", lambda: check_weights(on_meta(name), path)).matched == 1.0
    report = tried(
        lambda: check_weights(on_meta("resnet18", channels=[8, 16, 32, 64]), path),
        "The name of the network is right: check model.arguments.",
        lambda: check_weights(on_meta("resnet18"), path),
    )
    assert report.matched == 1.0
    unusual = pretrained_file(tmp_path / "unusual.pth", "resnet50", **RESNET)
    report = tried(
        lambda: check_weights(on_meta("resnet50"), unusual),
        "None of the usual ResNets and transformers matches either",
        lambda: check_weights(on_meta("resnet50", **RESNET), unusual),
    )
    assert report.matched == 1.0


def test_moco_v3s_convolutional_stem(tmp_path):
    size = {"img_size": 32, "embed_dim": 48}
    given = {"embed_layer": "conv_stem", "depth": 11, "num_heads": 12}
    path = pretrained_file(tmp_path / "w.pth", "vit_base_patch16_224", **size, **given)

    def wrong():
        return load_pretrained(build_model("vit_base_patch16_224", 2, arguments=size), path)

    with pytest.raises(ViceError) as caught:
        wrong()
    said = dict(re.findall(r"-o model\.arguments\.(\w+)=(\w+)", caught.value.way_out))
    arguments = {name: int(value) if value.isdigit() else value for name, value in said.items()}
    assert arguments == given
    report = tried(
        wrong,
        "Try -o model.arguments.embed_layer=conv_stem",
        lambda: load_pretrained(build_model("vit_base_patch16_224", 2, arguments=size | arguments), path),
    )
    assert report.matched == 1.0


def test_moco_v3s_heads(tmp_path):
    path = published(tmp_path / "w.pth", "vit_small_patch16_224", depth=1)

    def load(**arguments):
        return load_pretrained(build_model("vit_small_patch16_224", 2, arguments={"depth": 1, **arguments}), path)

    heads = int(suggested(load, r"num_heads=(\d+)\."))
    assert tried(load, "Set -o model.arguments.num_heads=12.", lambda: load(num_heads=heads)).matched == 1.0
