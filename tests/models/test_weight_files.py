"""Weights files: found by what fits the network; several sets are not chosen from silently; other files are named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from torchvice.errors import ViceError
from torchvice.models.build import classifier_outputs, load_weights, weights_hash
from torchvice.models.pretraining import load_pretrained
from torchvice.models.weight_files import weights_kind


def network(seed=0, **arguments):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", **{"num_classes": 3, **arguments})


STATE, OTHER = network().state_dict(), network(seed=1).state_dict()


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 5, "model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        {"state_dict": prefixed("net.")},
        {"net": STATE, "acc": 93.1},
        {"a": {"b": prefixed("backbone.encoder.")}},
        {"model": STATE, "model_ema": {name: value.clone() for name, value in STATE.items()}},  # the same values
        {"state_dict": STATE, "current_model_state": OTHER},  # Lightning's averaged weights
        {**STATE, "epoch": 3},
    ],
)
def test_the_only_set_that_fits_is_loaded(content, tmp_path, recwarn):
    torch.save(content, tmp_path / "w.pth")
    assert classifier_outputs("test_resnet", tmp_path / "w.pth") == 3
    model = network(seed=2)
    assert len(load_weights(model, tmp_path / "w.pth").tensors) == len(STATE)
    assert weights_hash(model) == weights_hash(network())
    assert not recwarn.list


@pytest.mark.parametrize(
    ("changed", "came"),
    [
        (lambda value: value.to(torch.int8), "int8"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to_sparse(), "sparse_coo"),
    ],
)
@pytest.mark.parametrize("load", [load_weights, load_pretrained])
def test_parameters_that_copying_would_change_are_refused(changed, came, load, tmp_path):
    torch.save({**STATE, "fc.weight": changed(STATE["fc.weight"])}, tmp_path / "w.pth")
    model = network(seed=2)
    before = weights_hash(model)
    with pytest.raises(
        ViceError, match=rf"must be dense floating-point numbers, but `fc.weight` is {came}\."
    ) as refused:
        load(model, tmp_path / "w.pth")
    assert weights_hash(model) == before
    assert refused.value.way_out == "Give the file from before it was quantised or made sparse."
    torch.save({name: v.half() if v.is_floating_point() else v for name, v in STATE.items()}, tmp_path / "h.pth")
    load(model, tmp_path / "h.pth")
    assert torch.equal(model.fc.weight, STATE["fc.weight"].half().float())


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ({"state_dict": prefixed("model.") | {"criterion.pos_weight": torch.ones(3)}}, "criterion.pos_weight"),
        (prefixed("module.") | {"n_averaged": torch.tensor(3)}, "n_averaged"),
    ],
)
def test_what_is_left_out_is_named(content, left, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    model = network(seed=2)
    with pytest.warns(UserWarning, match=rf"are loaded, without {left}\."):
        load_weights(model, tmp_path / "w.pth")
    assert weights_hash(model) == weights_hash(network())


def test_tensors_that_are_too_many_under_the_prefix_are_refused(tmp_path):
    for prefix in ("", "model."):
        torch.save(prefixed(prefix) | {f"{prefix}head2.weight": torch.ones(2)}, tmp_path / "w.pth")
        with pytest.raises(ViceError, match=r"their names differ: 1 unexpected \(head2\.weight\)"):
            load_weights(network(), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "names", "key"),
    [
        ({"model": STATE, "model_ema": OTHER}, "`model`, `model_ema`", "model_ema"),
        (prefixed("student.") | prefixed("teacher.", OTHER), "`student`, `teacher`", "teacher"),
        (
            {"state_dict": prefixed("model.") | prefixed("ema.module.", OTHER)},
            "`state_dict.model`, .*",
            "state_dict.ema.module",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Of .* are loaded")
def test_of_several_sets_none_is_taken_silently(content, names, key, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    model = network(seed=2)
    with pytest.raises(
        ViceError, match=rf"2 different sets that fit the network: {names}\.\s+Choose one: --weights-key {key}"
    ):
        load_weights(model, tmp_path / "w.pth")
    with pytest.raises(ViceError, match="--weights-key"):
        classifier_outputs("test_resnet", tmp_path / "w.pth")
    load_weights(model, tmp_path / "w.pth", key)
    assert weights_hash(model) == weights_hash(network(seed=1))
    with pytest.raises(ViceError, match="no set called 'emma'"):
        load_weights(model, tmp_path / "w.pth", "emma")


def test_weights_that_are_not_finite_are_named(tmp_path):
    for value in (float("nan"), float("inf")):
        torch.save(STATE | {"fc.weight": STATE["fc.weight"] * value}, tmp_path / "w.pth")
        with pytest.raises(ViceError, match=r"must be finite, but `fc\.weight` holds NaN or infinity"):
            load_weights(network(), tmp_path / "w.pth")


def test_the_content_says_the_format_and_not_the_name(tmp_path):
    save_file({name: value.contiguous() for name, value in STATE.items()}, tmp_path / "renamed.pth")
    torch.save(STATE, tmp_path / "renamed.safetensors")
    torch.save(STATE, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for name in ("renamed.pth", "renamed.safetensors", "old.safetensors"):
        model = network(seed=2)
        load_weights(model, tmp_path / name)
        assert weights_hash(model) == weights_hash(network())


def archive(kind):
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez(buffer, a=np.ones(3))
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    else:
        with zipfile.ZipFile(buffer, "w") as zipped:
            zipped.writestr("readme.txt", "a")
    return buffer.getvalue()


INDEX = {
    "metadata": {},
    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer.*\\s.*git lfs pull"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "a web page"),
        (json.dumps(INDEX).encode(), r"the index of 2 files that hold them \(model-00001-of-00002\.safetensors"),
        (b'{"message": "Not Found"}', "a JSON text"),
        (b"Entry not found in this repository", "a text that begins with 'Entry not found"),
        (
            b"epoch: 3\n",
            r"a text that begins with 'epoch: 3'.\s.*Give a file that torch.save or safetensors wrote",
        ),
        (b"hello", "a text that begins with 'hello'"),
        (gzip.compress(b"a" * 99, mtime=0), "a gzip archive"),
        (archive("tar"), "a tar archive"),
        (archive("npz"), "NumPy or Keras"),
        (archive("zip"), "a zip archive of other files"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        (b"", "an empty file"),
    ],
)
def test_files_that_are_no_weights_are_named(content, message, tmp_path):
    for name in ("w.pth", "w.safetensors", "w.json"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ViceError, match=message):
            load_weights(network(), tmp_path / name)


def test_a_program_is_no_weights_file(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "w.pt")
    with pytest.raises(ViceError, match="a TorchScript program"):
        weights_kind(tmp_path / "w.pt")


def test_bytes_of_another_kind_are_said_to_be_so(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"e\x00\x01\x02" + bytes(99))
    with pytest.raises(ViceError, match="cannot be read: the bytes are not those of a saved model"):
        load_weights(network(), tmp_path / "w.pth")
